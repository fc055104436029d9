package provision_test

import (
	"context"
	"sync/atomic"
	"fmt"
	"testing"
	"time"
)

// TestASlowRateDelaysAndStopsNothing: at the application's rate everybody waits longer for the next call than a lease
// lasts.
func TestASlowRateDelaysAndStopsNothing(t *testing.T) {
	t.Parallel()
	m := newMemory("a")
	a := one("code", m)
	a.Limits.Timeout, a.Limits.PerMinute = 100*time.Millisecond, 1500 // 25 a second, of which 150 at once
	w := newWorld(t, "sqlite", a)
	var wants []want
	for i := range 60 {
		wants = append(wants, want{app: "code", person: fmt.Sprintf("p%02d", i), state: enabled, entitlements: []string{"a"}})
	}
	var reads atomic.Int64
	m.misbehave(func(_ context.Context, op string) error {
		if op == "READ" {
			reads.Add(1)
		}
		return nil
	})
	w.start()
	begin := time.Now()
	w.publish(wants...)
	for _, x := range wants {
		w.done("code", x.person)
	}
	t.Logf("%d reads in %s", reads.Load(), time.Since(begin))
}
