package rpc_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/rpc"
	"github.com/tenurehq/tenure/pkg/telemetry"
	authv1 "github.com/tenurehq/tenure/proto/gen/tenure/auth/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// people is a PeopleService that does what the person asked for is called.
type people struct {
	peoplev1.UnimplementedPeopleServiceServer

	mu     sync.Mutex
	caller rpc.Caller
	trace  string
	ended  chan error // how streams ended, seen from the service
}

func newPeople() *people { return &people{ended: make(chan error, 10)} }

func (p *people) register(r grpc.ServiceRegistrar) { peoplev1.RegisterPeopleServiceServer(r, p) }

func (p *people) last() (rpc.Caller, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.caller, p.trace
}

func (p *people) FindPerson(ctx context.Context, req *peoplev1.FindPersonRequest) (*peoplev1.FindPersonResponse, error) {
	p.mu.Lock()
	p.caller, p.trace = rpc.CallerFrom(ctx), telemetry.TraceID(ctx)
	p.mu.Unlock()
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "t"))
	switch req.GetRef() {
	case "nobody":
		return nil, fmt.Errorf("look in table people: %w", fault.New(fault.NotFound, "no person %q", "nobody"))
	case "broken":
		return nil, errors.New("pq: password=hunter2")
	case "panic":
		panic("hunter2")
	case "slow":
		<-ctx.Done()
		return nil, ctx.Err()
	case "deadline":
		_, ok := ctx.Deadline()
		return &peoplev1.FindPersonResponse{Person: &peoplev1.Person{Id: fmt.Sprint(ok)}}, nil
	case "large":
		return &peoplev1.FindPersonResponse{Person: &peoplev1.Person{Id: strings.Repeat("x", 9<<20)}}, nil
	}
	return &peoplev1.FindPersonResponse{Person: &peoplev1.Person{Id: req.GetRef()}}, nil
}

func (p *people) SetPerson(context.Context, *peoplev1.SetPersonRequest) (*peoplev1.SetPersonResponse, error) {
	return &peoplev1.SetPersonResponse{}, nil
}

func (p *people) Versions(_ *peoplev1.VersionsRequest, stream grpc.ServerStreamingServer[peoplev1.VersionsResponse]) error {
	return stream.Send(&peoplev1.VersionsResponse{})
}

// ListPeople sends what the query asks for: a number of answers, then an error or waiting.
func (p *people) ListPeople(req *peoplev1.ListPeopleRequest, stream grpc.ServerStreamingServer[peoplev1.ListPeopleResponse]) (err error) {
	defer func() { p.ended <- err }()
	p.mu.Lock()
	p.caller, p.trace = rpc.CallerFrom(stream.Context()), telemetry.TraceID(stream.Context())
	p.mu.Unlock()
	stream.SetTrailer(metadata.Pairs("x-trailer", "t"))
	for range 3 {
		if err := stream.Send(&peoplev1.ListPeopleResponse{People: []*peoplev1.Person{{Id: "1"}}}); err != nil {
			return err
		}
	}
	switch req.GetQuery() {
	case "nobody":
		return fault.New(fault.NotFound, "no more")
	case "panic":
		panic("hunter2")
	case "wait":
		<-stream.Context().Done()
		return stream.Context().Err()
	}
	return nil
}

const adaToken, bobToken, eveToken = "ada-token", "bob-token", "eve-token"

func operators() []rpc.Operator {
	return []rpc.Operator{
		{Name: "ada", Role: authv1.Role_ROLE_ADMIN, TokenSHA256: sha256.Sum256([]byte(adaToken))},
		{Name: "bob", Role: authv1.Role_ROLE_VIEWER, TokenSHA256: sha256.Sum256([]byte(bobToken))},
		{Name: "cyd", Role: authv1.Role_ROLE_OPERATOR, Cert: "CN=cyd,O=ACME"},
	}
}

// logs keeps everything that was logged.
func logs() (*zap.Logger, *observer.ObservedLogs) {
	core, seen := observer.New(zapcore.DebugLevel)
	return zap.New(core), seen
}

// serve runs a task until the test ends, or the returned function is called.
func serve(t *testing.T, task func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- task(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func listen(t *testing.T, cfg rpc.Config, log *zap.Logger, register ...func(grpc.ServiceRegistrar)) (*rpc.Server, func()) {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	server, err := rpc.Listen(cfg, log, register...)
	if err != nil {
		t.Fatal(err)
	}
	return server, serve(t, server.Serve)
}

func dial(t *testing.T, cfg rpc.PeerConfig) peoplev1.PeopleServiceClient {
	t.Helper()
	conn, err := rpc.Dial(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return peoplev1.NewPeopleServiceClient(conn)
}

func dialLocal(t *testing.T, local *rpc.Local, as string) peoplev1.PeopleServiceClient {
	t.Helper()
	conn, err := local.Dial(as)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return peoplev1.NewPeopleServiceClient(conn)
}

func secret(token string) config.Secret { return config.NewSecret([]byte(token)) }

func find(ctx context.Context, client peoplev1.PeopleServiceClient, ref string) error {
	_, err := client.FindPerson(ctx, &peoplev1.FindPersonRequest{Ref: ref})
	return err
}

// list reads a stream to its end and returns how many answers came.
func list(ctx context.Context, client peoplev1.PeopleServiceClient, query string) (int, error) {
	stream, err := client.ListPeople(ctx, &peoplev1.ListPeopleRequest{Query: query})
	if err != nil {
		return 0, err
	}
	for n := 0; ; n++ {
		_, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

func wantKind(t *testing.T, what string, err error, kind fault.Kind, text string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error, want %s", what, kind)
		return
	}
	if fault.KindOf(err) != kind || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: got %s (%v), want %s with %q", what, fault.KindOf(err), err, kind, text)
	}
}

const unauthenticated = "not authenticated: show an operator's token or a known client certificate"

func TestErrorsCrossAsKindAndText(t *testing.T) {
	t.Parallel()
	log, seen := logs()
	service := newPeople()
	server, _ := listen(t, rpc.Config{Operators: operators()}, log, service.register)
	client := dial(t, rpc.PeerConfig{Address: server.Addr().String(), Token: secret(adaToken)})

	wantKind(t, "not found", find(t.Context(), client, "nobody"), fault.NotFound, `no person "nobody"`)
	if err := find(t.Context(), client, "nobody"); strings.Contains(err.Error(), "table people") {
		t.Errorf("internal steps crossed the wire: %v", err)
	}
	for _, ref := range []string{"broken", "panic"} {
		err := find(t.Context(), client, ref)
		wantKind(t, ref, err, fault.Internal, "internal error")
		if strings.Contains(fmt.Sprint(err, status.Convert(err).Proto()), "hunter2") {
			t.Errorf("%s: internal detail crossed the wire: %v", ref, err)
		}
	}
	wantKind(t, "stream", func() error { _, err := list(t.Context(), client, "nobody"); return err }(), fault.NotFound, "no more")
	wantKind(t, "panic in a stream", func() error { _, err := list(t.Context(), client, "panic"); return err }(), fault.Internal, "internal error")
	wantKind(t, "too large an answer", find(t.Context(), client, "large"), fault.TooLarge, "")
	wantKind(t, "too large a request", find(t.Context(), client, strings.Repeat("x", 9<<20)), fault.TooLarge, "")
	if err := find(t.Context(), client, "ann"); err != nil {
		t.Errorf("the server did not survive: %v", err)
	}

	if got := seen.FilterMessage("call failed").Len(); got != 1 {
		t.Errorf("our own failure was logged %d times, want once", got)
	}
	if got := seen.FilterMessage("call panicked").Len(); got != 2 {
		t.Errorf("%d panics were logged, want 2", got)
	}
	for _, entry := range seen.All() {
		fields := entry.ContextMap()
		if fields[telemetry.FieldCaller] != "operator:ada" || fields[telemetry.FieldMethod] == "" || fields[telemetry.FieldTrace] == "" {
			t.Errorf("%q does not say who, what and in which trace: %v", entry.Message, fields)
		}
		if fields[telemetry.FieldKind] == "not-found" && strings.Contains(fmt.Sprint(fields), "nobody") {
			t.Errorf("a caller's mistake was logged with its text, which may name people: %v", fields)
		}
	}
}

func TestDeadlinesAndCancellationReachTheService(t *testing.T) {
	t.Parallel()
	log, _ := logs()
	service := newPeople()
	local := rpc.NewLocal(log, service.register)
	serve(t, local.Serve)
	client := dialLocal(t, local, "console")
	ctx := metadata.AppendToOutgoingContext(t.Context(), "tenure-operator", "ada", "tenure-role", "admin")

	answer, err := client.FindPerson(ctx, &peoplev1.FindPersonRequest{Ref: "deadline"})
	if err != nil || answer.GetPerson().GetId() != "true" {
		t.Errorf("a call without a deadline reached the service without one: %v %v", answer, err)
	}
	short, cancel := context.WithTimeout(ctx, 1)
	defer cancel()
	if err := find(short, client, "slow"); !errors.Is(err, context.DeadlineExceeded) || fault.KindOf(err) != fault.Unavailable {
		t.Errorf("deadline: %v", err)
	}
	waiting, cancel := context.WithCancel(ctx)
	stream, err := client.ListPeople(waiting, &peoplev1.ListPeopleRequest{Query: "wait"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-service.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the service saw its stream end with %v, want cancellation", err)
	}
}

func TestTraceContextTravelsWithCalls(t *testing.T) {
	t.Parallel()
	log, _ := logs()
	service := newPeople()
	server, _ := listen(t, rpc.Config{Operators: operators()}, log, service.register)
	client := dial(t, rpc.PeerConfig{Address: server.Addr().String(), Token: secret(adaToken)})
	ctx := telemetry.Span(t.Context())
	if err := find(ctx, client, "ann"); err != nil {
		t.Fatal(err)
	}
	if _, trace := service.last(); trace != telemetry.TraceID(ctx) {
		t.Errorf("the service is in trace %q, its caller in %q", trace, telemetry.TraceID(ctx))
	}
	if _, err := list(ctx, client, ""); err != nil {
		t.Fatal(err)
	}
	if _, trace := service.last(); trace != telemetry.TraceID(ctx) {
		t.Errorf("the streaming service is in trace %q, its caller in %q", trace, telemetry.TraceID(ctx))
	}
	if err := find(t.Context(), client, "ann"); err != nil {
		t.Fatal(err)
	}
	if _, trace := service.last(); trace == "" || trace == telemetry.TraceID(ctx) {
		t.Errorf("a call without a trace got %q, want one of its own", trace)
	}
}

func TestStoppingFinishesCallsAndEndsStreams(t *testing.T) {
	t.Parallel()
	log, _ := logs()
	service := newPeople()
	server, stop := listen(t, rpc.Config{Operators: operators()}, log, service.register)
	client := dial(t, rpc.PeerConfig{Address: server.Addr().String(), Token: secret(adaToken)})
	stream, err := client.ListPeople(t.Context(), &peoplev1.ListPeopleRequest{Query: "wait"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	stop() // waits for the server's end
	for err == nil {
		_, err = stream.Recv()
	}
	wantKind(t, "a stream that would last for ever", err, fault.Unavailable, "the service is stopping")
	wantKind(t, "a call to a server that is gone", find(t.Context(), client, "ann"), fault.Unavailable, "")
}

func TestCallsWaitForAPeerToComeBack(t *testing.T) {
	t.Parallel()
	log, _ := logs()
	service := newPeople()
	server, stop := listen(t, rpc.Config{Operators: operators()}, log, service.register)
	address := server.Addr().String()
	client := dial(t, rpc.PeerConfig{Address: address, Token: secret(adaToken), Patience: 20e9})
	if err := find(t.Context(), client, "ann"); err != nil {
		t.Fatal(err)
	}
	stop()
	answered := make(chan error, 1)
	go func() { answered <- find(t.Context(), client, "ann") }()
	serve(t, listenAgain(t, rpc.Config{Listen: address, Operators: operators()}, log, service.register).Serve)
	if err := <-answered; err != nil {
		t.Errorf("a patient call failed while the peer restarted: %v", err)
	}
}

// listenAgain takes an address that was ours; somebody's outgoing connection may have it for a moment.
func listenAgain(t *testing.T, cfg rpc.Config, log *zap.Logger, register func(grpc.ServiceRegistrar)) *rpc.Server {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); ; <-tick.C {
		server, err := rpc.Listen(cfg, log, register)
		if err == nil {
			return server
		}
		if time.Now().After(deadline) {
			t.Fatalf("the address does not come back: %v", err)
		}
	}
}

func listenTCP(t *testing.T) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}
