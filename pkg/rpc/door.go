package rpc

import (
	"context"
	"errors"
	"io"
	"strings"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/telemetry"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	auditv1 "github.com/tenurehq/tenure/proto/gen/tenure/audit/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	provisionv1 "github.com/tenurehq/tenure/proto/gen/tenure/provision/v1"
)

// HeaderPeer is the metadata that names the peer of a call to EventLog, which every service has.
const HeaderPeer = "tenure-peer"

// Door returns the front door, to be set as Config.Door: it forwards an operator's call to the peer that serves it, in
// that operator's name. Keys of peers are service names; the connections must be authenticated as "console". Who may
// call what has been decided by the listener, and is decided again by the peer. Messages pass unread; errors and
// trailers pass as they are; either side's end ends the other.
func Door(peers map[string]grpc.ClientConnInterface) grpc.StreamHandler {
	return func(_ any, stream grpc.ServerStream) error {
		caller := CallerFrom(stream.Context())
		if caller.Operator == "" {
			return fault.New(fault.Denied, "the front door is for operators; services call each other")
		}
		method, _ := grpc.MethodFromServerStream(stream)
		peer, err := route(stream.Context(), method)
		if err != nil {
			return err
		}
		conn, ok := peers[peer]
		if !ok {
			return fault.New(fault.Unavailable, "%s is not configured as a peer", peer)
		}
		return forward(stream, conn, method, peer, caller)
	}
}

// route names the peer that serves a method.
func route(ctx context.Context, method string) (string, error) {
	service, _, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	switch service {
	case peoplev1.PeopleService_ServiceDesc.ServiceName:
		return "ingest", nil
	case accessv1.AccessService_ServiceDesc.ServiceName:
		return "policy", nil
	case provisionv1.ProvisionService_ServiceDesc.ServiceName:
		return "provision", nil
	case auditv1.AuditService_ServiceDesc.ServiceName:
		return "audit", nil
	case eventv1.EventLog_ServiceDesc.ServiceName:
		md, _ := metadata.FromIncomingContext(ctx)
		names := md.Get(HeaderPeer)
		if len(names) != 1 || !isService(names[0]) || names[0] == doorService {
			return "", fault.New(fault.Usage, "say whose events with the metadata %s: audit, ingest, policy or provision", HeaderPeer)
		}
		return names[0], nil
	}
	return "", verbatim{status.Errorf(codes.Unimplemented, "unknown service %s", service)}
}

func forward(down grpc.ServerStream, conn grpc.ClientConnInterface, method, peer string, caller Caller) error {
	ctx, cancel := context.WithCancel(down.Context())
	defer cancel() // whatever ended here ends there
	ctx = metadata.NewOutgoingContext(ctx, metadata.Pairs(headerOperator, caller.Operator, headerRole, RoleName(caller.Role)))
	up, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method, grpc.ForceCodecV2(newCodec()))
	if err != nil {
		return answer(ctx, err, peer)
	}
	// This goroutine ends with the call: when it returns, gRPC ends down's receiving and cancel ends up's sending.
	go func() {
		if pump(up.SendMsg, down.RecvMsg) == nil {
			_ = up.CloseSend() // its error comes out of RecvMsg below
			return
		}
		cancel() // the caller is gone, or the peer is: RecvMsg below says
	}()
	headed := false
	err = pump(func(msg any) error {
		if !headed {
			headed = true
			if err := sendHeader(down, up); err != nil {
				return err
			}
		}
		return down.SendMsg(msg)
	}, up.RecvMsg)
	down.SetTrailer(up.Trailer())
	if err != nil {
		return answer(ctx, err, peer)
	}
	return nil
}

// pump moves messages until there are no more (nil) or one side fails.
func pump(send, receive func(any) error) error {
	for {
		msg := new(frame)
		if err := receive(msg); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := send(msg); err != nil {
			return err
		}
	}
}

func sendHeader(down grpc.ServerStream, up grpc.ClientStream) error {
	md, err := up.Header()
	if err != nil {
		return err
	}
	return down.SetHeader(md)
}

// answer is what the caller gets of a peer's error: the error as it is, unless it is about us and the peer.
func answer(ctx context.Context, err error, peer string) error {
	var carrier interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &carrier) {
		return err
	}
	from := carrier.GRPCStatus()
	switch {
	case from.Code() == codes.Unauthenticated:
		// The operator was authenticated here; it is our own identity that the peer does not accept.
		return fault.New(fault.Internal, "%s does not accept the front door's identity: %w", peer, err)
	case from.Code() == codes.Unavailable && len(from.Details()) == 0:
		// Our services send details: this one comes from the connection, with addresses in its text.
		telemetry.Log(ctx).Warn("peer cannot be reached", zap.String(telemetry.FieldPeer, peer), zap.Error(err))
		return verbatim{fault.ToStatus(fault.New(fault.Unavailable, "%s cannot be reached", peer))}
	}
	return verbatim{from.Err()}
}

// frame is a message as it is on the wire.
type frame struct{ data []byte }

// codec passes frames as they are and leaves everything else to protobuf.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(*frame); ok {
		return mem.BufferSlice{mem.SliceBuffer(f.data)}, nil
	}
	return c.CodecV2.Marshal(v)
}

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if f, ok := v.(*frame); ok {
		f.data = data.Materialize()
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}
