package provision_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tenurehq/tenure/pkg/connector"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	"github.com/tenurehq/tenure/services/provision/internal/store"
)

func (m *memory) pretends(ops ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pretend = ops
}

// unseen is the figure of what was called done and not seen; -1: there is none.
func (w *world) unseen() float64 {
	w.t.Helper()
	families, err := w.figure.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "tenure_connector_unseen_steps_total" {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return -1
}

// TestWhatAnApplicationOnlySaidIsTriedWithinMinutes: an application that answers well and does nothing looks well all the time,
// so nothing tells when it is mended.
func TestWhatAnApplicationOnlySaidIsTriedWithinMinutes(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a")
		w := newWorld(t, engine, one("code", m))
		var c clock
		w.now = c.now
		w.start()
		hire(t, w, "ann")
		if got := w.unseen(); got != 0 {
			t.Fatalf("%v steps not seen before there was one", got)
		}
		m.pretends("DISABLE")
		w.publish(want{app: "code", person: "ann", state: none})
		w.outcome("code", "ann", notDone)
		until(t, "figure of what was not seen", func() bool { return w.unseen() > 0 })
		w.finding(stuck)
		w.untilTarget("code", "ann", "due within five minutes", func(x store.Target) bool {
			return x.State == store.Stuck && x.Reason == "tenure.no_effect" && x.DueAt.Before(time.Now().Add(5*time.Minute))
		})
		m.pretends()
		c.set(5 * time.Minute)
		w.done("code", "ann")
		w.finding(unstuck)
		if got := m.only(t).Status; got != connector.Disabled {
			t.Errorf("the account is %v", got)
		}
	})
}

// TestAnAccountThatIsOnlySaidToBeIsCounted, and one that shows itself late is not.
func TestAnAccountThatIsOnlySaidToBeIsCounted(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	m.pretends("CREATE", "GRANT", "ENABLE")
	w := newWorld(t, "sqlite", one("code", m))
	w.cfg.Timing.CreateGrace = time.Minute
	var c clock
	w.now = c.now
	w.start()
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
	w.outcome("code", "ann", notDone)
	w.untilTarget("code", "ann", "looked at again", func(x store.Target) bool { return x.Epoch > 2 && x.State == store.Retrying })
	if got := w.unseen(); got != 0 {
		t.Errorf("%v steps count as not seen although the account may still show itself", got)
	}
	c.set(time.Minute)
	until(t, "figure of what was not seen", func() bool { return w.unseen() > 0 })
	m.pretends()
	c.set(3 * time.Minute)
	w.done("code", "ann")
	if got := m.journal(); !slices.Equal(got, []string{"CREATE ann", "GRANT ann a", "ENABLE ann"}) {
		t.Errorf("the application did %v", got)
	}
}

// madeUnseen is a world in which ann's account was made, the reply to that was lost, and no search shows it: who asks for it again is told
// that the name is taken.
func madeUnseen(t *testing.T, engine string, c *clock) (*world, *memory) {
	t.Helper()
	m := newMemory("a")
	m.stale = true
	var made atomic.Bool
	m.misbehave(func(_ context.Context, op string) error {
		if op == "CREATE" && made.Load() {
			return connector.AlreadyExists("", "memory.409", "taken")
		}
		return nil
	})
	w := newWorld(t, engine, one("code", m))
	w.cfg.Timing.CreateGrace = time.Minute
	w.now = c.now
	w.lossy().onApply(func(_ context.Context, _ *connectorv1.ApplyRequest, next func() (*connectorv1.ApplyResponse, error)) (*connectorv1.ApplyResponse, error) {
		said, err := next()
		if !made.Swap(true) {
			return nil, status.Error(codes.Unavailable, "connection reset")
		}
		return said, err
	})
	w.start()
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
	w.untilTarget("code", "ann", "waiting for what may come", func(x store.Target) bool { return x.Problem == "OUTCOME_UNKNOWN" })
	return w, m
}

// show has searches show what is there.
func (m *memory) show() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stale = false
}

func TestAnAccountThatIsInTheWayAndMayBeOursIsAskedForAgainSoon(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		var c clock
		w, m := madeUnseen(t, engine, &c)
		c.set(2 * time.Minute)
		w.untilTarget("code", "ann", "tried again soon", func(x store.Target) bool {
			return x.Problem == "ALREADY_EXISTS" && x.State == store.Retrying && x.DueAt.Before(c.now().Add(5*time.Minute))
		})
		m.show()
		c.set(7 * time.Minute)
		w.done("code", "ann")
		journalIs(t, m, "CREATE ann", "GRANT ann a", "ENABLE ann")
	})
}

func TestALeaverWhoseAccountShowsItselfLateIsGone(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		var c clock
		w, m := madeUnseen(t, engine, &c)
		w.publish(want{app: "code", person: "ann", state: none})
		w.untilMarked("code", "ann", 2)
		c.set(2 * time.Minute)
		w.untilTarget("code", "ann", "not seen, and to be looked for again", func(x store.Target) bool {
			return x.State == store.Settled && x.DueAt.After(c.now()) && x.DueAt.Before(c.now().Add(5*time.Minute))
		})
		m.show()
		c.set(7 * time.Minute)
		until(t, "the account to be disabled", func() bool { return m.only(t).Status == connector.Disabled })
		w.untilState("code", "ann", store.Settled)
	})
}
