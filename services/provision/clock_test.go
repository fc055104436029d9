package provision_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tenurehq/tenure/pkg/sqldb"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	"github.com/tenurehq/tenure/services/provision/internal/store"
)

// clock is a machine's clock that a test sets.
type clock struct{ off atomic.Int64 }

func (c *clock) now() time.Time       { return time.Now().Add(time.Duration(c.off.Load())) }
func (c *clock) set(by time.Duration) { c.off.Store(int64(by)) }

// hold makes a target due and claims it for a worker that never comes back to it.
func (w *world) hold(person string, now, until time.Time) {
	w.t.Helper()
	s := store.New(w.dbs["code"])
	err := s.InTx(w.t.Context(), func(tx store.Tx) error {
		_, err := tx.MarkDue(w.t.Context(), []store.Mark{{Person: person, Generation: 1, Lane: store.Lane(normal)}}, now)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	held, err := s.Claim(w.t.Context(), store.Claim{Lane: store.Lane(normal), Limit: 1, Holder: "other", Now: now, Until: until})
	if err != nil || len(held) != 1 {
		w.t.Fatalf("held %v, %v", held, err)
	}
}

// TestAMachineWhoseClockIsAheadTakesNoLivingLease: the other worker's lease lasts for ten minutes, and its machine is an hour ahead.
func TestAMachineWhoseClockIsAheadTakesNoLivingLease(t *testing.T) {
	t.Parallel()
	for what, off := range map[string]time.Duration{"ahead": time.Hour, "behind": -time.Hour} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "postgres", one("code", newMemory("a")))
			w.policy.decide(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
			w.hold("ann", time.Now(), time.Now().Add(10*time.Minute))
			var machine clock
			machine.set(off)
			c, err := sqldb.NewClock(t.Context(), w.dbs["code"], machine.now)
			if err != nil {
				t.Fatal(err)
			}
			w.now = c.Now
			w.start()
			w.publish(want{app: "code", person: "bob", state: enabled, entitlements: []string{"a"}})
			w.done("code", "bob")
			ann, _, err := store.New(w.dbs["code"]).Target(t.Context(), "ann")
			if err != nil || ann.Epoch != 1 {
				t.Errorf("claimed %d times, want by its holder alone: %v", ann.Epoch, err)
			}
		})
	}
}

// untilNoted waits until it is noted what time it is, and what that changes is mended.
func (w *world) untilNoted() {
	w.t.Helper()
	until(w.t, "time to be noted", func() bool {
		var latest int64
		err := w.dbs["code"].QueryRow(w.t.Context(), `SELECT latest FROM clock`).Scan(&latest)
		return err == nil && w.now().Sub(sqldb.Time(latest)).Abs() < 30*time.Minute
	})
}

// TestWhatWaitsGoesOnWhenTheClockIsSetBack: ann waits until a call can have no more effect, seconds from now, and who holds bob is
// dead.
func TestWhatWaitsGoesOnWhenTheClockIsSetBack(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, engine string) {
		m := newMemory("a")
		m.misbehave(func(_ context.Context, op string) error {
			if op != "CREATE" {
				return nil
			}
			return errors.New("nobody knows what became of it")
		})
		w := newWorld(t, engine, one("code", m))
		w.cfg.Timing.Attempts = 1000
		var c clock
		c.set(time.Hour)
		w.now = c.now
		w.policy.decide(want{app: "code", person: "bob", state: enabled, entitlements: []string{"a"}})
		w.hold("bob", c.now(), c.now().Add(5*time.Second))
		w.start()
		w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
		w.untilTarget("code", "ann", "waiting for a time to come", func(x store.Target) bool {
			// Nobody works on her until then: this is about what waits.
			return x.State == store.Retrying && x.QuietUntil.After(time.Now().Add(30*time.Minute)) && !x.DueAt.Before(x.QuietUntil)
		})
		w.untilNoted()
		c.set(0)
		m.misbehave(nil)
		w.done("code", "ann")
		w.done("code", "bob")
	})
}

// TestWhatIsWorkedOnWhenTheClockIsSetBackGoesOn: a call is under way then, whose reply is lost. Who made it goes on, or never comes back.
func TestWhatIsWorkedOnWhenTheClockIsSetBackGoesOn(t *testing.T) {
	t.Parallel()
	for what, dies := range map[string]bool{"the worker lives": false, "the worker dies": true} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			engines(t, func(t *testing.T, engine string) {
				m := newMemory("a")
				code := one("code", m)
				code.Limits.Timeout = time.Second // a lease lasts for three
				w := newWorld(t, engine, code)
				w.cfg.Timing.Attempts = 1000
				var c clock
				c.set(time.Hour)
				w.now = c.now
				var called atomic.Bool
				underWay, over := make(chan struct{}), make(chan struct{})
				w.lossy().onApply(func(_ context.Context, _ *connectorv1.ApplyRequest, next func() (*connectorv1.ApplyResponse, error)) (*connectorv1.ApplyResponse, error) {
					if called.Swap(true) {
						return next()
					}
					close(underWay)
					select {
					case <-over:
					case <-t.Context().Done():
					}
					return nil, status.Error(codes.Unavailable, "nobody hears what became of it")
				})
				w.start()
				w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
				<-underWay
				w.untilNoted()
				c.set(0)
				w.untilNoted()
				if dies {
					killLease(t.Context(), t, w, "code", "ann")
				} else {
					close(over)
				}
				w.done("code", "ann")
				journalIs(t, m, "CREATE ann", "GRANT ann a", "ENABLE ann")
				everyIntentHasOneOutcome(t, w)
			})
		})
	}
}

// TestCallsMadeAfterTheClockWasSetBackTakeNoLonger: they belong to an intent of before, and end together.
func TestCallsMadeAfterTheClockWasSetBackTakeNoLonger(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	m.limits.MaxSteps = 1
	w := newWorld(t, "sqlite", one("code", m))
	var c clock
	c.set(time.Hour)
	w.now = c.now
	deadlines := make(chan time.Time, 3)
	w.lossy().onApply(func(ctx context.Context, _ *connectorv1.ApplyRequest, next func() (*connectorv1.ApplyResponse, error)) (*connectorv1.ApplyResponse, error) {
		deadline, _ := ctx.Deadline()
		deadlines <- deadline
		c.set(0)
		return next()
	})
	w.start()
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
	w.done("code", "ann")
	first, second, third := <-deadlines, <-deadlines, <-deadlines
	if first.IsZero() || !second.Equal(third) || third.Sub(first).Abs() > time.Minute {
		t.Errorf("the calls end at %s, %s and %s", first, second, third)
	}
}
