package rpc

import (
	"context"
	"fmt"
	"net"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

// localBuffer is how much is on the way in one direction of an in-memory connection.
const localBuffer = 256 << 10

// Local answers calls from within this process, over memory. All of gRPC is exercised; only the network is not.
type Local struct {
	server   *Server
	listener *bufconn.Listener
}

// NewLocal makes an in-memory listener. Calls wait for Serve.
func NewLocal(log *zap.Logger, register ...func(grpc.ServiceRegistrar)) *Local {
	listener := bufconn.Listen(localBuffer)
	return &Local{server: newServer(listener, authenticator{local: true}, log, nil, register), listener: listener}
}

// Serve answers calls until ctx ends, then finishes those under way. It is a task for run.All, to be run once.
func (l *Local) Serve(ctx context.Context) error { return l.server.Serve(ctx) }

// Dial connects as the service named as. That name is believed: only this process can dial.
func (l *Local) Dial(as string) (*grpc.ClientConn, error) {
	if !isService(as) {
		return nil, fmt.Errorf("dial as %q: no such service", as)
	}
	dialer := func(ctx context.Context, _ string) (net.Conn, error) { return l.listener.DialContext(ctx) }
	conn, err := newClient("passthrough:local", 0, grpc.WithContextDialer(dialer),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithPerRPCCredentials(header{headerService, as, false}))
	return conn, err
}

// header is metadata sent with every call.
type header struct {
	name, value string
	secret      bool // only over TLS
}

var _ credentials.PerRPCCredentials = header{}

func (h header) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{h.name: h.value}, nil
}

func (h header) RequireTransportSecurity() bool { return h.secret }
