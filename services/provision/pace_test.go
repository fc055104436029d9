package provision_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
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
	a.Limits.Timeout, a.Limits.PerMinute = 100*time.Millisecond, 600 // ten a second, of which sixty at once
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
