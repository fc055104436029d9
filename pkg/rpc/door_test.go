package rpc_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/rpc"
	"github.com/tenurehq/tenure/pkg/telemetry"
	authv1 "github.com/tenurehq/tenure/proto/gen/tenure/auth/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
)

// events is an EventLog that answers with its service's name.
type events struct {
	eventv1.UnimplementedEventLogServer

	name string
}

func (e events) Parked(_ *eventv1.ParkedRequest, stream grpc.ServerStreamingServer[eventv1.ParkedResponse]) error {
	return stream.Send(&eventv1.ParkedResponse{Consumer: e.name})
}

// frontDoor runs ingest and policy in memory behind a door on TCP and returns the door's address.
func frontDoor(t *testing.T, ingest *people, more map[string]grpc.ClientConnInterface) string {
	t.Helper()
	log, _ := logs()
	peers := make(map[string]grpc.ClientConnInterface)
	for name, register := range map[string]func(grpc.ServiceRegistrar){
		"ingest": func(r grpc.ServiceRegistrar) {
			ingest.register(r)
			eventv1.RegisterEventLogServer(r, events{name: "ingest"})
		},
		"policy": func(r grpc.ServiceRegistrar) { eventv1.RegisterEventLogServer(r, events{name: "policy"}) },
	} {
		local := rpc.NewLocal(log, register)
		serve(t, local.Serve)
		conn, err := local.Dial("console")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		peers[name] = conn
	}
	for name, conn := range more {
		peers[name] = conn
	}
	server, _ := listen(t, rpc.Config{Operators: operators(), Door: rpc.Door(peers)}, log)
	return server.Addr().String()
}

func TestDoorPassesCallsWithTheOperatorsIdentity(t *testing.T) {
	t.Parallel()
	ingest := newPeople()
	address := frontDoor(t, ingest, nil)
	bob := dial(t, rpc.PeerConfig{Address: address, Token: secret(bobToken)})

	ctx := telemetry.Span(t.Context())
	var trailer metadata.MD
	answer, err := bob.FindPerson(ctx, &peoplev1.FindPersonRequest{Ref: "ann"}, grpc.Trailer(&trailer))
	if err != nil || answer.GetPerson().GetId() != "ann" {
		t.Fatalf("answer %v, %v", answer, err)
	}
	caller, trace := ingest.last()
	if caller != (rpc.Caller{Operator: "bob", Role: authv1.Role_ROLE_VIEWER}) {
		t.Errorf("ingest saw %+v, want bob the viewer", caller)
	}
	if trace != telemetry.TraceID(ctx) {
		t.Errorf("ingest is in trace %q, the operator's call in %q", trace, telemetry.TraceID(ctx))
	}
	if got := trailer.Get("x-trailer"); len(got) != 1 || got[0] != "t" {
		t.Errorf("trailers: %v", trailer)
	}
	if n, err := list(t.Context(), bob, ""); err != nil || n != 3 {
		t.Errorf("stream: %d answers, %v; want 3", n, err)
	}
	if caller, _ := ingest.last(); caller.Operator != "bob" {
		t.Errorf("ingest saw %+v in a stream, want bob", caller)
	}
}

func TestDoorRefusesBeforeThePeerIsAsked(t *testing.T) {
	t.Parallel()
	ingest := newPeople()
	address := frontDoor(t, ingest, nil)
	bob := dial(t, rpc.PeerConfig{Address: address, Token: secret(bobToken)})

	wantKind(t, "a wrong token", find(t.Context(), dial(t, rpc.PeerConfig{Address: address, Token: secret(eveToken)}), "ann"), fault.Unauthenticated, unauthenticated)
	wantKind(t, "too low a role", setPerson(t.Context(), bob), fault.Denied, "needs the role operator")
	wantKind(t, "a method for services", versions(t.Context(), bob), fault.Denied, "not for operators")
	wantKind(t, "another identity", find(metadata.AppendToOutgoingContext(t.Context(), "tenure-operator", "ada", "tenure-role", "admin"), bob, "ann"), fault.Denied, "only the front door")
	if caller, _ := ingest.last(); caller != (rpc.Caller{}) {
		t.Errorf("the peer was asked, by %+v", caller)
	}
}

func TestDoorPassesErrorsAsTheyAre(t *testing.T) {
	t.Parallel()
	address := frontDoor(t, newPeople(), nil)
	ada := dial(t, rpc.PeerConfig{Address: address, Token: secret(adaToken)})

	wantKind(t, "not found", find(t.Context(), ada, "nobody"), fault.NotFound, `no person "nobody"`)
	wantKind(t, "internal", find(t.Context(), ada, "broken"), fault.Internal, "internal error")
	n, err := list(t.Context(), ada, "nobody")
	wantKind(t, "a stream that fails late", err, fault.NotFound, "no more")
	if n != 3 {
		t.Errorf("%d answers came before the error, want 3", n)
	}
	wantKind(t, "too large an answer", find(t.Context(), ada, "large"), fault.TooLarge, "")
	_, err = ada.GetPeople(t.Context(), &peoplev1.GetPeopleRequest{})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("a method that the peer does not have: %v", err)
	}
}

func TestDoorKeepsTheDetailsOfErrors(t *testing.T) {
	t.Parallel()
	// A peer that is not ours in all: a bare server whose status has a detail of its own.
	bare := grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
		s, err := status.New(codes.ResourceExhausted, "slow down").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(7 * time.Second)})
		if err != nil {
			return err
		}
		return s.Err()
	}))
	address := frontDoor(t, newPeople(), map[string]grpc.ClientConnInterface{"ingest": bareConn(t, bare)})
	err := find(t.Context(), dial(t, rpc.PeerConfig{Address: address, Token: secret(adaToken)}), "ann")
	details := status.Convert(err).Details()
	if len(details) != 1 || details[0].(*errdetails.RetryInfo).GetRetryDelay().GetSeconds() != 7 {
		t.Errorf("details %v of %v, want the peer's", details, err)
	}
}

func TestDoorDoesNotTellOperatorsAboutTheInside(t *testing.T) {
	t.Parallel()
	untrusting := grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return status.Error(codes.Unauthenticated, "who are you") }))
	gone, err := rpc.Dial(rpc.PeerConfig{Address: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	address := frontDoor(t, newPeople(), map[string]grpc.ClientConnInterface{"ingest": bareConn(t, untrusting), "policy": gone})
	conn, err := rpc.Dial(rpc.PeerConfig{Address: address, Token: secret(adaToken)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	wantKind(t, "a peer that does not know the door", find(t.Context(), peoplev1.NewPeopleServiceClient(conn), "ann"), fault.Internal, "internal error")
	_, err = parked(t.Context(), conn, "policy")
	wantKind(t, "a peer that is down", err, fault.Unavailable, "policy cannot be reached")
	_, err = parked(t.Context(), conn, "audit")
	wantKind(t, "a peer that is not configured", err, fault.Unavailable, "audit is not configured as a peer")
}

func TestDoorFindsTheEventLogByMetadata(t *testing.T) {
	t.Parallel()
	address := frontDoor(t, newPeople(), nil)
	conn, err := rpc.Dial(rpc.PeerConfig{Address: address, Token: secret(bobToken)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, peer := range []string{"ingest", "policy"} {
		if got, err := parked(t.Context(), conn, peer); err != nil || got != peer {
			t.Errorf("asked %s, got an answer of %q, %v", peer, got, err)
		}
	}
	for _, peers := range [][]string{nil, {"ingest", "policy"}, {"console"}, {"elsewhere"}} {
		_, err := parked(t.Context(), conn, peers...)
		wantKind(t, "no such peer", err, fault.Usage, "audit, ingest, policy or provision")
	}
}

func TestDoorCancelsBothWays(t *testing.T) {
	t.Parallel()
	ingest := newPeople()
	ada := dial(t, rpc.PeerConfig{Address: frontDoor(t, ingest, nil), Token: secret(adaToken)})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := ada.ListPeople(ctx, &peoplev1.ListPeopleRequest{Query: "wait"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ingest.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the operator went away and the peer saw %v", err)
	}

	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := find(short, ada, "slow"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline through the door: %v", err)
	}
}

func parked(ctx context.Context, conn grpc.ClientConnInterface, peers ...string) (string, error) {
	for _, peer := range peers {
		ctx = metadata.AppendToOutgoingContext(ctx, rpc.HeaderPeer, peer)
	}
	stream, err := eventv1.NewEventLogClient(conn).Parked(ctx, &eventv1.ParkedRequest{})
	if err != nil {
		return "", err
	}
	answer, err := stream.Recv()
	return answer.GetConsumer(), err
}

// bareConn runs a server without any of this package's interceptors and connects to it.
func bareConn(t *testing.T, server *grpc.Server) *grpc.ClientConn {
	t.Helper()
	listener := listenTCP(t)
	serve(t, func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, server.Stop)
		defer stop()
		return server.Serve(listener)
	})
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
