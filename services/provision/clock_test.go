package provision_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/sqldb"
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
			// Nobody works on her until then: a worker that did would write the times that it had read.
			return x.State == store.Retrying && x.QuietUntil.After(time.Now().Add(30*time.Minute)) && !x.DueAt.Before(x.QuietUntil)
		})
		until(t, "time to be noted", func() bool {
			var latest int64
			return w.dbs["code"].QueryRow(t.Context(), `SELECT latest FROM clock`).Scan(&latest) == nil
		})
		c.set(0)
		m.misbehave(nil)
		w.done("code", "ann")
		w.done("code", "bob")
	})
}
