package provision_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/tenurehq/tenure/pkg/connector"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/provision"
	"github.com/tenurehq/tenure/services/provision/internal/store"
)

// simple is an application that can do less: it neither kills sessions nor revokes credentials.
type simple struct {
	connector.Connector
	connector.Creator
	connector.Updater
	connector.Enabler
	connector.Granter
}

func TestWhatAnApplicationCannotDoIsSaid(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	w := newWorld(t, "sqlite", one("code", simple{m, m, m, m, m}))
	w.start()
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
	w.done("code", "ann")
	w.publish(want{app: "code", person: "ann", state: none})
	o := w.done("code", "ann")
	said := slices.ContainsFunc(o.GetSteps(), func(s *eventv1.StepOutcome) bool {
		return s.GetOp() == eventv1.Op_OP_REVOKE_CREDENTIAL && s.GetState() == notDone && s.GetProblem() == "UNSUPPORTED"
	})
	if !said {
		t.Errorf("that credentials cannot be revoked is not in the outcome: %v", o.GetSteps())
	}
}

// patient accepts a CREATE at once and makes the account when it was asked twice how far it is.
type patient struct {
	*memory
	mu    sync.Mutex
	asked int
	todo  connector.NewAccount
}

func (p *patient) Create(_ context.Context, n connector.NewAccount) (connector.AccountID, connector.Change, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.todo = n
	return "", 0, connector.Pending("ticket")
}

func (p *patient) Poll(ctx context.Context, _ connector.Ref, token string) (connector.AccountID, connector.Change, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if token != "ticket" {
		return "", 0, errors.New("no such ticket")
	}
	if p.asked++; p.asked < 3 {
		return "", 0, connector.Pending("ticket")
	}
	return p.memory.Create(ctx, p.todo)
}

func TestWhatIsPendingIsAskedAfter(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a")
		w := newWorld(t, engine, one("code", &patient{memory: m}))
		w.start()
		w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
		w.done("code", "ann")
		journalIs(t, m, "CREATE ann", "GRANT ann a", "ENABLE ann")
		everyIntentHasOneOutcome(t, w)
	})
}

func TestAConnectorThatStopsAtAnErrorIsAskedForTheRest(t *testing.T) {
	t.Parallel()
	m := newMemory("a", "b")
	w := newWorld(t, "sqlite", one("code", m))
	w.start()
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a", "b"}})
	w.done("code", "ann")
	w.lossy().onApply(func(_ context.Context, req *connectorv1.ApplyRequest, next func() (*connectorv1.ApplyResponse, error)) (*connectorv1.ApplyResponse, error) {
		if req.GetSteps()[0].GetOp() != eventv1.Op_OP_DISABLE {
			return next()
		}
		response := &connectorv1.ApplyResponse{}
		for i, s := range req.GetSteps() {
			r := &connectorv1.StepResult{Index: s.GetIndex(), Outcome: connectorv1.Outcome_OUTCOME_NOT_ATTEMPTED}
			if i == 0 {
				r.Outcome, r.Problem = connectorv1.Outcome_OUTCOME_FAILED, &connectorv1.Problem{Code: connectorv1.Code_CODE_DENIED}
			}
			response.Results = append(response.Results, r)
		}
		return response, nil
	})
	w.publish(want{app: "code", person: "ann", state: none})
	w.outcome("code", "ann", notDone)
	if got := m.only(t); len(got.Grants) != 0 || len(got.Credentials) != 0 {
		t.Errorf("the leaver keeps %v and %v because DISABLE failed", got.Grants, got.Credentials)
	}
}

func TestAPlanLongerThanTheConnectorsLimitIsSplit(t *testing.T) {
	t.Parallel()
	m := newMemory("a", "b", "c", "d")
	m.limits.MaxSteps = 2
	w := newWorld(t, "sqlite", one("code", m))
	w.start()
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a", "b", "c", "d"}})
	o := w.done("code", "ann")
	if len(o.GetSteps()) != 6 {
		t.Errorf("%d steps in the outcome, want all six", len(o.GetSteps()))
	}
	journalIs(t, m, "CREATE ann", "GRANT ann a", "GRANT ann b", "GRANT ann c", "GRANT ann d", "ENABLE ann")
}

func TestAPolicyReplicaThatIsBehindIsNotActedOn(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	w := newWorld(t, "sqlite", one("code", m))
	w.start()
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
	w.done("code", "ann")
	before := m.journal()

	w.policy.mu.Lock()
	old := proto.CloneOf(w.policy.desired["code/ann"])
	w.policy.mu.Unlock()
	events := w.policy.decide(want{app: "code", person: "ann", state: none})
	w.policy.mu.Lock()
	newest := w.policy.desired["code/ann"]
	old.Entitlements = nil // what an answer from the past would have us do
	w.policy.desired["code/ann"] = old
	asked := w.policy.asked
	w.policy.mu.Unlock()
	if err := w.bus.PublishChunk(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	w.policy.until(t, asked+2)
	journalIs(t, m, before...)

	w.policy.mu.Lock()
	w.policy.desired["code/ann"] = newest
	w.policy.mu.Unlock()
	w.done("code", "ann")
}

// late answers the first Apply that holds an operation with an error, and carries it out when let.
func late(l *lossy, op eventv1.Op, let <-chan struct{}) (landed <-chan struct{}) {
	var once sync.Once
	done := make(chan struct{})
	l.onApply(func(ctx context.Context, req *connectorv1.ApplyRequest, next func() (*connectorv1.ApplyResponse, error)) (response *connectorv1.ApplyResponse, err error) {
		if !slices.ContainsFunc(req.GetSteps(), func(s *connectorv1.Step) bool { return s.GetOp() == op }) {
			return next()
		}
		now := true
		once.Do(func() {
			now = false
			request := proto.CloneOf(req)
			go func() {
				defer close(done)
				<-let
				_, _ = l.ConnectorClient.Apply(context.WithoutCancel(ctx), request) // whoever asked has given up
			}()
			err = status.Error(codes.Unavailable, "connection reset")
		})
		if now {
			return next()
		}
		return nil, err
	})
	return done
}

func TestACallThatMayStillArriveIsNotRepeated(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	a := one("code", m)
	a.Limits.Timeout = time.Second
	w := newWorld(t, "sqlite", a)
	w.cfg.Timing.CreateGrace = time.Millisecond
	let := make(chan struct{})
	landed := late(w.lossy(), eventv1.Op_OP_CREATE, let)
	w.start()
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
	w.untilState("code", "ann", store.Retrying)
	<-time.After(200 * time.Millisecond) // long enough for a worker that does not wait
	close(let)
	<-landed
	w.done("code", "ann")
	w.mu.Lock()
	defer w.mu.Unlock()
	creates := facts(w.heard, func(i *eventv1.Intent) bool { return slices.Contains(i.GetOps(), eventv1.Op_OP_CREATE) })
	if len(creates) != 1 {
		t.Errorf("CREATE was intended %d times while the first might still arrive", len(creates))
	}
}

// TestALeaverIsGoneOnlyWhenNothingCanComeLate: an ENABLE whose reply was lost lands after the leaver was seen disabled.
func TestALeaverIsGoneOnlyWhenNothingCanComeLate(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a")
		a := one("code", m)
		a.Limits.Timeout = 2 * time.Second
		w := newWorld(t, engine, a)
		w.start()
		for _, state := range []eventv1.AccessState{enabled, none} {
			w.publish(want{app: "code", person: "ann", state: state})
			w.done("code", "ann")
		}
		let := make(chan struct{})
		landed := late(w.lossy(), eventv1.Op_OP_ENABLE, let)
		w.publish(want{app: "code", person: "ann", state: enabled})
		w.untilState("code", "ann", store.Retrying)
		w.publish(want{app: "code", person: "ann", state: none})
		w.untilMarked("code", "ann", 4)
		w.untilState("code", "ann", store.Retrying, store.Settled) // it was looked at
		close(let)
		<-landed
		w.done("code", "ann")
		if got := m.only(t).Status; got != connector.Disabled {
			t.Error("a leaver was called gone and came back")
		}
	})
}

// TestARemovalThatComesLateIsMadeUndone: its reply was lost, and it takes effect after a newer decision gave the access again.
func TestARemovalThatComesLateIsMadeUndone(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a", "b")
		a := one("code", m)
		a.Limits.Timeout = 2 * time.Second
		w := newWorld(t, engine, a)
		w.start()
		w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a", "b"}})
		w.done("code", "ann")
		let := make(chan struct{})
		landed := late(w.lossy(), eventv1.Op_OP_REVOKE, let)
		w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
		w.done("code", "ann") // by another call
		w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a", "b"}})
		w.done("code", "ann")
		close(let)
		<-landed
		w.untilState("code", "ann", store.Settled)
		accountsAre(t, m, "id-1 ann tenure:ann enabled a b")
	})
}

// TestAnOvertakenJoinerMakesWayAtOnce: the newer decision does not wait for the older one's lease.
func TestAnOvertakenJoinerMakesWayAtOnce(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	a := one("code", m)
	a.Limits.Timeout = time.Minute // and so the lease outlives the test's patience
	w := newWorld(t, "sqlite", a)
	reading, goOn := make(chan struct{}, 100), make(chan struct{})
	m.misbehave(func(_ context.Context, op string) error {
		if op == "READ" {
			reading <- struct{}{}
			<-goOn
		}
		return nil
	})
	w.start()
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
	<-reading
	w.publish(want{app: "code", person: "ann", state: none})
	w.untilMarked("code", "ann", 2)
	close(goOn)
	w.done("code", "ann")
	journalIs(t, m)
}

func TestWhatWasOnlyShownIsDoneWhenEnforceSaysSo(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a")
		a := one("code", m)
		a.Enforce = "observe"
		w := newWorld(t, engine, a)
		_, stop := w.start()
		w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
		w.outcome("code", "ann", notDone)
		stop()
		w.cfg.Applications[0].Enforce = "add"
		w.start()
		w.done("code", "ann")
		journalIs(t, m, "CREATE ann", "GRANT ann a", "ENABLE ann")
	})
}

func TestALeaverInAnApplicationThatIsDownPagesSomebody(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	w := newWorld(t, "sqlite", one("code", m))
	w.cfg.Timing.Escalate = 100 * time.Millisecond
	_, stop := w.start()
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
	w.done("code", "ann")
	m.misbehave(func(context.Context, string) error { return connector.Unavailable("memory.down", "refused") })
	w.publish(want{app: "code", person: "ann", state: none})
	if f := w.finding(stuck); !f.GetRemoval() || f.GetProblem() != "TARGET_UNAVAILABLE" {
		t.Errorf("finding %v", f)
	}
	m.misbehave(nil)
	w.done("code", "ann")
	w.finding(unstuck)
	stop()
}

// TestNoPersonalValueLeavesTheDatabase plants words in everything that an application and policy say, and looks for them
// on the bus and in the log.
func TestNoPersonalValueLeavesTheDatabase(t *testing.T) {
	t.Parallel()
	const canary = "canary7391"
	m := newMemory("a")
	w := newWorld(t, "sqlite", one("code", m))
	var log bytes.Buffer
	w.log = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.Lock(zapcore.AddSync(&log)), zap.DebugLevel))
	w.policy.suffix = canary // of login and mail
	svc, stop := w.start()
	m.misbehave(func(_ context.Context, op string) error {
		if op == "GRANT" {
			return connector.Denied(canary, "%s may not", canary)
		}
		return nil
	})
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
	w.finding(stuck)
	items := stuckItems(t, svc)
	if len(items) != 1 || !bytes.Contains([]byte(items[0].GetDetail()), []byte(canary)) {
		t.Errorf("operators are not told what the application said: %v", items)
	}
	stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.heard {
		m, err := e.Decode()
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(e.Data, []byte(canary)) {
			t.Errorf("on the bus: %v", m)
		}
	}
	if !bytes.Contains(log.Bytes(), []byte("target is stuck")) || bytes.Contains(log.Bytes(), []byte(canary)) {
		t.Errorf("the log says: %s", log.Bytes())
	}
}

func TestABadConfigurationIsRefusedByItsKey(t *testing.T) {
	t.Parallel()
	for key, a := range map[string]provision.Application{
		"applications[0].name":                       {Name: "Code"},
		"applications[0].enforce":                    {Name: "code", Enforce: "some"},
		"applications[0].adopt":                      {Name: "code", Adopt: "correlated"},
		"applications[0].when_unwanted.disable":      {Name: "code", WhenUnwanted: provision.WhenUnwanted{Disable: "later"}},
		"applications[0].when_unwanted.delete_after": {Name: "code", WhenUnwanted: provision.WhenUnwanted{DeleteAfter: -1}},
		"applications[0].limits":                     {Name: "code", Limits: provision.Limits{PerMinute: -1}},
	} {
		err := provision.Config{Applications: []provision.Application{a}}.Validate()
		if err == nil || len(err.Error()) < len(key) || err.Error()[:len(key)] != key {
			t.Errorf("%s: refused as %v", key, err)
		}
	}
	twice := provision.Config{Applications: []provision.Application{{Name: "code"}, {Name: "code"}}}
	if twice.Validate() == nil {
		t.Error("two applications of one name are accepted")
	}
}

func TestAnIntentLeftByADeadWorkerIsResolvedByReading(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a")
		w := newWorld(t, engine, one("code", m))
		var once sync.Once
		w.lossy().onApply(func(ctx context.Context, _ *connectorv1.ApplyRequest, next func() (*connectorv1.ApplyResponse, error)) (*connectorv1.ApplyResponse, error) {
			response, err := next()
			once.Do(func() { // as if this process stood still until long after its lease
				killLease(ctx, t, w, "code", "ann")
				<-t.Context().Done()
				response, err = nil, status.Error(codes.Unavailable, "nobody is there to hear")
			})
			return response, err
		})
		w.start()
		w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
		w.done("code", "ann")
		journalIs(t, m, "CREATE ann", "GRANT ann a", "ENABLE ann")
		everyIntentHasOneOutcome(t, w)
	})
}

// killLease ends a target's lease as if its time were over, with the holder's name still on it.
func killLease(ctx context.Context, t *testing.T, w *world, app, person string) {
	t.Helper()
	err := store.New(w.dbs[app]).InTx(ctx, func(tx store.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE targets SET lease_until = 1 WHERE person = $1`, person)
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
