package provision_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/connector"
	"github.com/tenurehq/tenure/services/provision/internal/store"
)

// TestASlowRateDelaysAndWastesNothing: at the application's rate everybody waits longer for the next call than a lease
// lasts, and keeps what was read all the same.
func TestASlowRateDelaysAndWastesNothing(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	var reads atomic.Int64
	m.misbehave(func(_ context.Context, op string) error {
		if op == "READ" {
			reads.Add(1)
		}
		return nil
	})
	a := one("code", m)
	a.Limits.Timeout, a.Limits.PerMinute = time.Second, 600 // ten a second, of which sixty at once; no call of a loaded machine is lost
	w := newWorld(t, "sqlite", a)
	var wants []want
	for i := range 24 {
		wants = append(wants, want{app: "code", person: fmt.Sprintf("p%02d", i), state: enabled, entitlements: []string{"a"}})
	}
	w.start()
	w.publish(wants...)
	for _, x := range wants {
		w.done("code", x.person)
	}
	// Some of them, on a loaded machine, may have had to begin again.
	if most := int64(5 * len(wants)); reads.Load() > most {
		t.Errorf("%d reads for %d people, want at most %d", reads.Load(), len(wants), most)
	}
}

// TestALeaverDoesNotWaitBehindTheirOwnJoiner: the joiner's next call is due in a minute, and holds nothing until then.
func TestALeaverDoesNotWaitBehindTheirOwnJoiner(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	read := make(chan struct{}, 1)
	m.misbehave(func(_ context.Context, op string) error {
		if op == "READ" {
			read <- struct{}{}
		}
		return nil
	})
	a := one("code", m)
	a.Limits.Timeout, a.Limits.PerMinute = 100*time.Millisecond, 1
	w := newWorld(t, "sqlite", a)
	w.start()
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
	<-read
	w.publish(want{app: "code", person: "ann", state: none})
	w.untilTarget("code", "ann", "claimed for the leaver", func(t store.Target) bool { return t.Generation == 2 && t.Epoch > 1 })
}

// TestStoppingDoesNotWaitForAnApplicationsPause: it asks for an hour, and the worker has something to read back.
func TestStoppingDoesNotWaitForAnApplicationsPause(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	refused := make(chan struct{}, 1)
	m.misbehave(func(_ context.Context, op string) error {
		if op == "CREATE" {
			refused <- struct{}{}
			return connector.RateLimited(time.Hour, "memory.429", "slow down")
		}
		return nil
	})
	a := one("code", m)
	a.Limits.Timeout = time.Second
	w := newWorld(t, "sqlite", a)
	_, stop := w.start()
	w.publish(want{app: "code", person: "ann", state: enabled, entitlements: []string{"a"}})
	<-refused
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	select {
	case <-stopped:
	case <-time.After(patience):
		t.Fatal("it waits for the application's pause")
	}
	open, err := store.New(w.dbs["code"]).OpenIntents(t.Context(), []string{"ann"})
	if err != nil || len(open) != 0 {
		t.Errorf("intents without an outcome: %v, %v", open, err)
	}
}
