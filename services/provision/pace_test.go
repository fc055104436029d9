package provision_test

import (
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
	w.start()
	w.publish(wants...)
	for _, x := range wants {
		w.done("code", x.person)
	}
}
