package connector

import (
	"context"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
)

// maxMessageSize bounds what one call may carry: the members of one entitlement, at most.
const maxMessageSize = 64 << 20

// InProcess returns a client of impl in this process. It speaks the same gRPC as a remote one, or what amounts to it, so
// that nothing works here that would not work there. closeAll ends the connection and waits for calls under way.
func InProcess(impl Connector, options ...Option) (client connectorv1.ConnectorClient, closeAll func() error, err error) {
	service, err := NewServer(impl, options...)
	if err != nil {
		return nil, nil, err
	}
	listener := bufconn.Listen(256 << 10)
	server := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessageSize), grpc.MaxSendMsgSize(maxMessageSize))
	connectorv1.RegisterConnectorServer(server, service)
	served := make(chan error, 1)
	go func() {
		err := server.Serve(listener)
		if errors.Is(err, grpc.ErrServerStopped) {
			err = nil // closed before it had begun
		}
		served <- err
	}()
	conn, err := grpc.NewClient("passthrough:in-process",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageSize)))
	if err != nil {
		server.Stop()
		return nil, nil, errors.Join(fmt.Errorf("reach the connector in this process: %w", err), <-served)
	}
	direct := &direct{ConnectorClient: connectorv1.NewConnectorClient(conn), server: service}
	return direct, func() error {
		direct.close()
		err := conn.Close()
		server.GracefulStop()
		return errors.Join(err, <-served)
	}, nil
}
