package console_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/rpc"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	auditv1 "github.com/tenurehq/tenure/proto/gen/tenure/audit/v1"
	authv1 "github.com/tenurehq/tenure/proto/gen/tenure/auth/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	provisionv1 "github.com/tenurehq/tenure/proto/gen/tenure/provision/v1"
	"github.com/tenurehq/tenure/services/console"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peers is all four services in one, as far as a front door can tell them apart.
type peers struct {
	peoplev1.UnimplementedPeopleServiceServer
	accessv1.UnimplementedAccessServiceServer
	provisionv1.UnimplementedProvisionServiceServer
	auditv1.UnimplementedAuditServiceServer

	name    string
	callers chan<- string
	ended   chan<- error
}

func (p *peers) saw(ctx context.Context) {
	caller := rpc.CallerFrom(ctx)
	p.callers <- fmt.Sprintf("%s: %s %s", p.name, caller.Actor(), rpc.RoleName(caller.Role))
}

func (p *peers) FindPerson(ctx context.Context, req *peoplev1.FindPersonRequest) (*peoplev1.FindPersonResponse, error) {
	p.saw(ctx)
	if req.GetRef() == "nobody" {
		return nil, fault.New(fault.NotFound, "no person %q", req.GetRef())
	}
	return &peoplev1.FindPersonResponse{Person: &peoplev1.Person{Id: req.GetRef()}}, nil
}

func (p *peers) ApplyModel(ctx context.Context, _ *accessv1.ApplyModelRequest) (*accessv1.ApplyModelResponse, error) {
	p.saw(ctx)
	return &accessv1.ApplyModelResponse{}, nil
}

func (p *peers) Plan(_ *provisionv1.PlanRequest, stream grpc.ServerStreamingServer[provisionv1.PlanResponse]) error {
	p.saw(stream.Context())
	for i := range 1000 {
		if err := stream.Send(&provisionv1.PlanResponse{PersonId: fmt.Sprint(i)}); err != nil {
			return err
		}
	}
	return nil
}

// Entries is followed for ever.
func (p *peers) Entries(_ *auditv1.EntriesRequest, stream grpc.ServerStreamingServer[auditv1.EntriesResponse]) error {
	p.saw(stream.Context())
	if err := stream.Send(&auditv1.EntriesResponse{}); err != nil {
		return err
	}
	<-stream.Context().Done()
	p.ended <- stream.Context().Err()
	return stream.Context().Err()
}

const adaToken, bobToken = "ada-token", "bob-token"

// start runs the four peers in memory and a console on TCP.
func start(t *testing.T) (address string, callers <-chan string, ended <-chan error) {
	t.Helper()
	seen, ends := make(chan string, 100), make(chan error, 10)
	conns := make(map[string]grpc.ClientConnInterface)
	for name, register := range map[string]func(*peers, grpc.ServiceRegistrar){
		"ingest":    func(p *peers, r grpc.ServiceRegistrar) { peoplev1.RegisterPeopleServiceServer(r, p) },
		"policy":    func(p *peers, r grpc.ServiceRegistrar) { accessv1.RegisterAccessServiceServer(r, p) },
		"provision": func(p *peers, r grpc.ServiceRegistrar) { provisionv1.RegisterProvisionServiceServer(r, p) },
		"audit":     func(p *peers, r grpc.ServiceRegistrar) { auditv1.RegisterAuditServiceServer(r, p) },
	} {
		local := rpc.NewLocal(zap.NewNop(), func(r grpc.ServiceRegistrar) { register(&peers{name: name, callers: seen, ended: ends}, r) })
		background(t, local.Serve)
		conn, err := local.Dial("console")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		conns[name] = conn
	}
	service, err := console.New(console.Config{Listen: "127.0.0.1:0", Operators: []rpc.Operator{
		{Name: "ada", Role: authv1.Role_ROLE_ADMIN, TokenSHA256: sha256.Sum256([]byte(adaToken))},
		{Name: "bob", Role: authv1.Role_ROLE_APPROVER, TokenSHA256: sha256.Sum256([]byte(bobToken))},
	}}, console.Deps{Peers: conns, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	background(t, service.Run)
	return service.Addr().String(), seen, ends
}

func background(t *testing.T, task func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := task(ctx); err != nil {
			t.Errorf("a service ended with %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wait.Wait() })
}

func dial(t *testing.T, address, token string) *grpc.ClientConn {
	t.Helper()
	conn, err := rpc.Dial(rpc.PeerConfig{Address: address, Token: config.NewSecret([]byte(token))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestOperatorsReachEveryServiceInTheirOwnName(t *testing.T) {
	t.Parallel()
	address, callers, _ := start(t)
	ada := dial(t, address, adaToken)

	found, err := peoplev1.NewPeopleServiceClient(ada).FindPerson(t.Context(), &peoplev1.FindPersonRequest{Ref: "ann"})
	if err != nil || found.GetPerson().GetId() != "ann" {
		t.Errorf("people: %v, %v", found, err)
	}
	if got := <-callers; got != "ingest: operator:ada admin" {
		t.Errorf("the call came as %q", got)
	}
	if _, err := accessv1.NewAccessServiceClient(ada).ApplyModel(t.Context(), &accessv1.ApplyModelRequest{}); err != nil {
		t.Errorf("access: %v", err)
	}
	if got := <-callers; got != "policy: operator:ada admin" {
		t.Errorf("the call came as %q", got)
	}
	stream, err := provisionv1.NewProvisionServiceClient(ada).Plan(t.Context(), &provisionv1.PlanRequest{})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; ; n++ {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || msg.GetPersonId() != fmt.Sprint(n) {
			t.Fatalf("message %d is %v, %v", n, msg, err)
		}
	}
	if n != 1000 {
		t.Errorf("%d of 1000 messages came through", n)
	}
	if got := <-callers; got != "provision: operator:ada admin" {
		t.Errorf("the call came as %q", got)
	}
}

func TestNobodyElseGetsIn(t *testing.T) {
	t.Parallel()
	address, callers, _ := start(t)
	var texts []string
	for _, token := range []string{"", "wrong", adaToken + "x", strings.ToUpper(adaToken)} {
		_, err := peoplev1.NewPeopleServiceClient(dial(t, address, token)).FindPerson(t.Context(), &peoplev1.FindPersonRequest{Ref: "ann"})
		if fault.KindOf(err) != fault.Unauthenticated {
			t.Errorf("token %q: %v, want unauthenticated", token, err)
			continue
		}
		texts = append(texts, err.Error())
	}
	for _, text := range texts {
		if text != texts[0] {
			t.Errorf("refusals differ: %q and %q", text, texts[0])
		}
	}
	_, err := accessv1.NewAccessServiceClient(dial(t, address, bobToken)).ApplyModel(t.Context(), &accessv1.ApplyModelRequest{})
	if fault.KindOf(err) != fault.Denied || !strings.Contains(err.Error(), "needs the role admin; bob is approver") {
		t.Errorf("too low a role: %v", err)
	}
	if len(callers) > 0 {
		t.Errorf("a peer was asked: %s", <-callers)
	}
}

func TestErrorsComeThroughAsTheyAre(t *testing.T) {
	t.Parallel()
	address, _, _ := start(t)
	_, err := peoplev1.NewPeopleServiceClient(dial(t, address, bobToken)).FindPerson(t.Context(), &peoplev1.FindPersonRequest{Ref: "nobody"})
	if fault.KindOf(err) != fault.NotFound || err.Error() != `no person "nobody"` {
		t.Errorf("got %s (%v), want not-found in ingest's words", fault.KindOf(err), err)
	}
	if fault.ExitCode(err) != 3 {
		t.Errorf("exit code %d, want 3", fault.ExitCode(err))
	}
}

func TestAnOperatorWhoGoesAwayEndsTheCallAtThePeer(t *testing.T) {
	t.Parallel()
	address, _, ended := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := auditv1.NewAuditServiceClient(dial(t, address, bobToken)).Entries(ctx, &auditv1.EntriesRequest{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the peer's stream ended with %v", err)
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	ada := rpc.Operator{Name: "ada", Role: authv1.Role_ROLE_ADMIN}
	for name, c := range map[string]struct {
		cfg  console.Config
		want string
	}{
		"a peer is missing":        {console.Config{Listen: "127.0.0.1:0"}, "no way to ingest"},
		"a name is missing":        {console.Config{Operators: []rpc.Operator{{Role: ada.Role}}}, "operators[0].name"},
		"a name is there twice":    {console.Config{Operators: []rpc.Operator{ada, ada}}, "operators[1].name"},
		"an operator without role": {console.Config{Operators: []rpc.Operator{{Name: "ada"}}}, "operators[0].role"},
	} {
		if _, err := console.New(c.cfg, console.Deps{Log: zap.NewNop()}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
