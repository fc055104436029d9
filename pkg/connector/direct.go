package connector

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
)

// direct makes the calls that every target costs, three or four of them, without a connection: HTTP/2 in memory cost more
// than the calls. Requests and responses are encoded and decoded, errors become statuses, and a caller whose time is over
// does not wait for the call, as over a connection; everything else goes over one.
type direct struct {
	connectorv1.ConnectorClient
	server connectorv1.ConnectorServer

	mu     sync.Mutex // guards what follows
	closed bool
	calls  sync.WaitGroup
}

// Read implements connectorv1.ConnectorClient.
func (d *direct) Read(ctx context.Context, req *connectorv1.ReadRequest, _ ...grpc.CallOption) (*connectorv1.ReadResponse, error) {
	return call(ctx, d, req, &connectorv1.ReadRequest{}, &connectorv1.ReadResponse{}, d.server.Read)
}

// Apply implements connectorv1.ConnectorClient.
func (d *direct) Apply(ctx context.Context, req *connectorv1.ApplyRequest, _ ...grpc.CallOption) (*connectorv1.ApplyResponse, error) {
	return call(ctx, d, req, &connectorv1.ApplyRequest{}, &connectorv1.ApplyResponse{}, d.server.Apply)
}

// close lets no more calls begin and waits for those under way.
func (d *direct) close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.calls.Wait()
}

// begin reports whether a call may begin.
func (d *direct) begin() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.calls.Add(1)
	}
	return !d.closed
}

// call calls handle with a copy of req, which is received, and returns a copy of what it answers, which is response.
func call[Q, R proto.Message](
	ctx context.Context, d *direct, req, received Q, response R, handle func(context.Context, Q) (R, error),
) (R, error) {
	var none R
	if err := ctx.Err(); err != nil {
		return none, status.FromContextError(err).Err()
	}
	if err := transfer(req, received); err != nil {
		return none, err
	}
	if !d.begin() {
		return none, status.Error(codes.Canceled, "the connector is closed")
	}
	answered := make(chan error, 1)
	go func() {
		defer d.calls.Done()
		answer, err := handle(ctx, received)
		if err == nil {
			answered <- transfer(answer, response)
			return
		}
		if _, is := status.FromError(err); !is {
			err = status.FromContextError(err).Err()
		}
		answered <- err
	}()
	select {
	case err := <-answered:
		if err != nil {
			return none, err
		}
		return response, nil
	case <-ctx.Done():
		return none, status.FromContextError(ctx.Err()).Err()
	}
}

// transfer copies a message by way of its encoding.
func transfer(from, to proto.Message) error {
	encoded, err := proto.Marshal(from)
	if err != nil {
		return status.Errorf(codes.Internal, "encode: %v", err)
	}
	if len(encoded) > maxMessageSize {
		return status.Errorf(codes.ResourceExhausted, "a message of %d bytes, more than %d", len(encoded), maxMessageSize)
	}
	if err := proto.Unmarshal(encoded, to); err != nil {
		return status.Errorf(codes.Internal, "decode: %v", err)
	}
	return nil
}
