package provision_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/connector"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/provision"
	"github.com/tenurehq/tenure/services/provision/internal/store"
)

const (
	notDone = eventv1.OutcomeState_OUTCOME_STATE_NOT_DONE
	stuck   = eventv1.FindingKind_FINDING_KIND_STUCK
	unstuck = eventv1.FindingKind_FINDING_KIND_UNSTUCK
)

func engines(t *testing.T, test func(t *testing.T, engine string)) {
	t.Helper()
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			test(t, engine)
		})
	}
}

func one(name string, impl connector.Connector) app {
	return app{provision.Application{Name: name, Owner: "team-" + name}, impl}
}

// lossy is the connection to the application "code".
func (w *world) lossy() *lossy { return w.connectors["code"].(*lossy) }

func journalIs(t *testing.T, m *memory, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, m.journal()); diff != "" {
		t.Errorf("the application did other things (-want +got):\n%s", diff)
	}
}

func TestAJoinerMovesAndLeaves(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a", "b")
		w := newWorld(t, engine, one("code", m))
		w.start()

		w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
		w.done("code", "ann")
		journalIs(t, m, "CREATE ann", "GRANT ann a", "ENABLE ann")

		w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"b"}})
		w.done("code", "ann")
		journalIs(t, m, "CREATE ann", "GRANT ann a", "ENABLE ann", "GRANT ann b", "REVOKE ann a")

		w.publish(want{app: "code", person: "ann", state: disabled, entitlements: []string{"b"}})
		w.done("code", "ann")
		w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"b"}})
		w.done("code", "ann")

		w.publish(want{app: "code", person: "ann", state: none})
		o := w.done("code", "ann")
		journalIs(t, m, "CREATE ann", "GRANT ann a", "ENABLE ann", "GRANT ann b", "REVOKE ann a", "DISABLE ann", "ENABLE ann",
			"DISABLE ann", "REVOKE_CREDENTIAL ann password", "REVOKE ann b")
		if o.GetObserved() != disabled || o.GetReadBackAt() == nil {
			t.Errorf("the leaver's outcome shows %s, read back at %v", o.GetObserved(), o.GetReadBackAt())
		}
	})
}

// TestNoCallWithoutACommittedIntent looks into the database from inside every call that changes something.
func TestNoCallWithoutACommittedIntent(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a")
		w := newWorld(t, engine, one("code", m))
		calls := 0
		w.lossy().onApply(func(ctx context.Context, req *connectorv1.ApplyRequest, next func() (*connectorv1.ApplyResponse, error)) (*connectorv1.ApplyResponse, error) {
			open, err := store.New(w.dbs["code"]).OpenIntents(ctx, []string{"ann"})
			if err != nil || !slices.ContainsFunc(open, func(e store.Entry) bool { return e.Operation == req.GetOperationId() }) {
				t.Errorf("operation %s is called and no intent of it is committed: %v", req.GetOperationId(), err)
			}
			calls++
			return next()
		})
		w.start()
		w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
		w.done("code", "ann")
		w.publish(want{app: "code", person: "ann", state: none})
		w.done("code", "ann")
		if calls == 0 {
			t.Fatal("no call was made")
		}
		everyIntentHasOneOutcome(t, w)
	})
}

// everyIntentHasOneOutcome checks what was said on the bus: an intent first, then its one outcome.
func everyIntentHasOneOutcome(t *testing.T, w *world) {
	t.Helper()
	outcomes := map[string]int{}
	w.until("every intent has an outcome", func(events []bus.Event) bool {
		clear(outcomes)
		for _, o := range facts(events, func(*eventv1.Outcome) bool { return true }) {
			outcomes[o.GetOperationId()]++
		}
		return !slices.ContainsFunc(facts(events, func(*eventv1.Intent) bool { return true }), func(i *eventv1.Intent) bool {
			return outcomes[i.GetOperationId()] == 0
		})
	})
	for operation, n := range outcomes {
		if n != 1 {
			t.Errorf("operation %s has %d outcomes, want one", operation, n)
		}
	}
}

func TestALostReplyMakesNoSecondAccount(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a")
		w := newWorld(t, engine, one("code", m))
		lost := 0
		w.lossy().onApply(func(_ context.Context, _ *connectorv1.ApplyRequest, next func() (*connectorv1.ApplyResponse, error)) (*connectorv1.ApplyResponse, error) {
			response, err := next()
			if lost++; lost == 1 {
				return nil, status.Error(codes.Unavailable, "connection reset")
			}
			return response, err
		})
		w.start()
		w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
		w.done("code", "ann")
		journalIs(t, m, "CREATE ann", "GRANT ann a", "ENABLE ann")
		everyIntentHasOneOutcome(t, w)
	})
}

func TestACallThatNeverArrivedIsMadeAgainAfterTheGrace(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	a := one("code", m)
	a.Limits.Timeout = 200 * time.Millisecond
	w := newWorld(t, "sqlite", a)
	lost := 0
	w.lossy().onApply(func(_ context.Context, _ *connectorv1.ApplyRequest, next func() (*connectorv1.ApplyResponse, error)) (*connectorv1.ApplyResponse, error) {
		if lost++; lost == 1 {
			return nil, status.Error(codes.Unavailable, "connection refused")
		}
		return next()
	})
	w.start()
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
	w.done("code", "ann")
	journalIs(t, m, "CREATE ann", "GRANT ann a", "ENABLE ann")
}

func TestTwoWorkersMakeOneAccount(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a")
		w := newWorld(t, engine, one("code", m))
		w.start()
		w.start()
		var wants []want
		for i := range 200 {
			wants = append(wants, want{app: "code", person: fmt.Sprintf("p%03d", i), state: enabled, entitlements: []string{"a"}})
		}
		w.publish(wants...)
		for _, x := range wants {
			w.done("code", x.person)
		}
		creates := map[string]int{}
		w.mu.Lock()
		for _, i := range facts(w.heard, func(i *eventv1.Intent) bool { return slices.Contains(i.GetOps(), eventv1.Op_OP_CREATE) }) {
			if creates[i.GetPersonId()]++; creates[i.GetPersonId()] > 1 {
				t.Errorf("CREATE for %s was intended twice", i.GetPersonId())
			}
		}
		w.mu.Unlock()
		if len(creates) != len(wants) || len(m.journal()) != 3*len(wants) {
			t.Errorf("%d accounts for %d people, %d effects", len(creates), len(wants), len(m.journal()))
		}
		everyIntentHasOneOutcome(t, w)
	})
}

func TestASlowApplicationDelaysOnlyItself(t *testing.T) {
	t.Parallel()
	slow, fast := newMemory("a"), newMemory("a")
	w := newWorld(t, "sqlite", one("slow", slow), one("fast", fast))
	release := make(chan struct{})
	slow.misbehave(func(ctx context.Context, op string) error {
		if op == "CHECK" {
			return nil
		}
		select {
		case <-release:
		case <-ctx.Done():
		}
		return nil
	})
	w.start()
	var wants []want
	for i := range 50 {
		for _, name := range []string{"slow", "fast"} {
			wants = append(wants, want{app: name, person: fmt.Sprintf("p%d", i), state: enabled, entitlements: []string{"a"}})
		}
	}
	w.publish(wants...)
	for i := range 50 {
		w.done("fast", fmt.Sprintf("p%d", i))
	}
	if n := len(slow.journal()); n != 0 {
		t.Errorf("the slow application did %d things and was to hang", n)
	}
	close(release)
	for i := range 50 {
		w.done("slow", fmt.Sprintf("p%d", i))
	}
}

// TestUrgentOvertakes: with thousands of joiners queued, and every slot that they may have taken by joiners that hang, a
// leaver is gone nevertheless.
func TestUrgentOvertakes(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a")
		w := newWorld(t, engine, one("code", m))
		w.start()
		w.publish(want{app: "code", person: "lee", state: enabled, entitlements: []string{"a"}})
		w.done("code", "lee")

		hang, release := make(chan struct{}, 100), make(chan struct{})
		goOn := sync.OnceFunc(func() { close(release) })
		t.Cleanup(goOn)
		w.lossy().onApply(func(_ context.Context, req *connectorv1.ApplyRequest, next func() (*connectorv1.ApplyResponse, error)) (*connectorv1.ApplyResponse, error) {
			if req.GetAccountId() == "" { // a joiner
				hang <- struct{}{}
				<-release
			}
			return next()
		})
		var joiners []want
		for i := range 5000 {
			joiners = append(joiners, want{app: "code", person: fmt.Sprintf("p%04d", i), state: enabled})
		}
		w.publish(joiners...)
		for range 12 { // 16 slots, a quarter of them not for joiners
			<-hang
		}
		w.publish(want{app: "code", person: "lee", state: none})
		w.done("code", "lee")
		if len(hang) > 0 {
			t.Error("joiners took slots that are kept for leavers")
		}
		goOn()
	})
}

func TestAFailingDisableDoesNotStopTheRevokes(t *testing.T) {
	t.Parallel()
	m := newMemory("a", "b")
	w := newWorld(t, "sqlite", one("code", m))
	w.start()
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a", "b"}})
	w.done("code", "ann")
	m.misbehave(func(_ context.Context, op string) error {
		if op == "DISABLE" {
			return connector.Precondition("memory.last_owner", "the last owner cannot be disabled")
		}
		return nil
	})
	w.publish(want{app: "code", person: "ann", state: none})
	o := w.outcome("code", "ann", notDone)
	journalIs(t, m, "CREATE ann", "GRANT ann a", "GRANT ann b", "ENABLE ann", "REVOKE_CREDENTIAL ann password", "REVOKE ann a", "REVOKE ann b")
	if s := o.GetSteps()[0]; s.GetOp() != eventv1.Op_OP_DISABLE || s.GetState() != notDone || s.GetProblem() != "PRECONDITION" {
		t.Errorf("the outcome says of DISABLE: %v", s)
	}
	if f := w.finding(stuck); !f.GetRemoval() || f.GetProblem() != "PRECONDITION" {
		t.Errorf("a leaver who can still log in pages nobody: %v", f)
	}
}

func TestAJoinerStopsAtTheFirstErrorAndIsFreedByAnOperator(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("z")
		w := newWorld(t, engine, one("code", m))
		svc, _ := w.start()
		w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"missing", "z"}})
		if f := w.finding(stuck); f.GetRemoval() || f.GetProblem() != "NOT_FOUND" {
			t.Errorf("finding %v", f)
		}
		journalIs(t, m, "CREATE ann")
		items := stuckItems(t, svc)
		if len(items) != 1 || items[0].GetOwner() != "team-code" || !strings.Contains(items[0].GetAdvice(), "does not exist") || items[0].GetNextTry() == nil {
			t.Fatalf("stuck list %v", items)
		}
		m.mu.Lock()
		m.entitlements = append(m.entitlements, "missing")
		m.mu.Unlock()
		retry(t, svc, "code", "ann")
		w.finding(unstuck)
		w.done("code", "ann")
		journalIs(t, m, "CREATE ann", "GRANT ann missing", "GRANT ann z", "ENABLE ann")
		if items := stuckItems(t, svc); len(items) != 0 {
			t.Errorf("still stuck: %v", items)
		}
	})
}

func TestWithoutAReleaseNothingIsTaken(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	w := newWorld(t, "sqlite", one("code", m))
	w.start()
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
	w.done("code", "ann")
	before := m.journal()
	w.publish(want{app: "code", person: "ann", state: none, noRelease: true})
	if f := w.finding(stuck); !f.GetRemoval() || f.GetProblem() != "PRECONDITION" {
		t.Errorf("finding %v", f)
	}
	journalIs(t, m, before...)
}

func TestAnApplicationThatLiesIsNotBelieved(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	w := newWorld(t, "sqlite", one("code", m))
	w.start()
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
	w.done("code", "ann")
	m.mu.Lock()
	m.pretend = []string{"DISABLE"}
	m.mu.Unlock()
	w.publish(want{app: "code", person: "ann", state: none})
	o := w.outcome("code", "ann", notDone)
	if s := o.GetSteps()[0]; s.GetState() != notDone || s.GetProblem() != "INCONSISTENT" || s.GetChanged() {
		t.Errorf("DISABLE without effect is said to be %v", s)
	}
	if f := w.finding(stuck); !f.GetRemoval() || f.GetProblem() != "INCONSISTENT" {
		t.Errorf("finding %v", f)
	}
	if got := m.only(t).Status; got != connector.Enabled {
		t.Fatal("the test's application did disable the account")
	}
}

func TestAnApplicationThatIsDownIsLeftAloneUntilItIsBack(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a")
		w := newWorld(t, engine, one("code", m))
		calls, probes := make(chan struct{}, 10000), make(chan struct{}, 10000)
		m.misbehave(func(_ context.Context, op string) error {
			if op == "CHECK" {
				probes <- struct{}{}
			} else {
				calls <- struct{}{}
			}
			return connector.Unavailable("memory.down", "refused")
		})
		svc, _ := w.start()
		var wants []want
		for i := range 100 {
			wants = append(wants, want{app: "code", person: fmt.Sprintf("p%d", i), state: enabled, entitlements: []string{"a"}})
		}
		w.publish(wants...)
		for range 3 {
			<-probes
		}
		if n := len(calls); n > 32 {
			t.Errorf("%d calls to an application that is down", n)
		}
		apps, err := svc.ListApplications(t.Context(), nil)
		if err != nil || apps.GetApplications()[0].GetHealth() != "unreachable" || apps.GetApplications()[0].GetStuck() != 0 {
			t.Errorf("shown as %v, %v", apps, err)
		}
		m.misbehave(nil)
		for _, x := range wants {
			w.done("code", x.person)
		}
	})
}

func TestThrottlingIsHonoured(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	w := newWorld(t, "sqlite", one("code", m))
	type window struct{ until time.Time }
	throttled := make(chan window, 1)
	var early []string
	m.misbehave(func(_ context.Context, op string) error {
		select {
		case x := <-throttled:
			throttled <- x
			if time.Now().Before(x.until) && op != "CHECK" {
				early = append(early, op)
			}
			return nil
		default:
		}
		if op != "CREATE" {
			return nil
		}
		throttled <- window{time.Now().Add(time.Second)}
		return connector.RateLimited(time.Second, "memory.429", "slow down")
	})
	w.start()
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
	w.done("code", "ann")
	// The read-back of what was refused is held back, too.
	if len(early) > 0 {
		t.Errorf("called during the pause that it asked for: %v", early)
	}
	journalIs(t, m, "CREATE ann", "GRANT ann a", "ENABLE ann")
}

func TestStoppingFinishesWhatWasTaken(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	w := newWorld(t, "sqlite", one("code", m))
	entered, release := make(chan struct{}), make(chan struct{})
	w.lossy().onApply(func(_ context.Context, _ *connectorv1.ApplyRequest, next func() (*connectorv1.ApplyResponse, error)) (*connectorv1.ApplyResponse, error) {
		entered <- struct{}{}
		<-release
		return next()
	})
	_, stop := w.start()
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
	<-entered
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	select {
	case <-stopped:
		t.Fatal("stopped with a call under way")
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	<-stopped
	target, _, err := store.New(w.dbs["code"]).Target(t.Context(), "ann")
	if err != nil || target.State != store.Settled || target.SettledGeneration != 1 {
		t.Errorf("left behind in state %d of generation %d: %v", target.State, target.SettledGeneration, err)
	}
	open, err := store.New(w.dbs["code"]).OpenIntents(t.Context(), []string{"ann"})
	if err != nil || len(open) != 0 {
		t.Errorf("intents without an outcome: %v, %v", open, err)
	}
}

func TestAMessageThatWasLostIsFoundByComparing(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	w := newWorld(t, "sqlite", one("code", m))
	w.policy.decide(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}}) // and nobody hears
	w.start()
	w.done("code", "ann")
}
