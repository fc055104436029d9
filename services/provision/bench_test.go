package provision_test

import (
	"fmt"
	"testing"

	"github.com/tenurehq/tenure/pkg/bus"
)

// BenchmarkMovers counts people whose access in one plain application changes: read, intent, two steps, read-back, outcome.
func BenchmarkMovers(b *testing.B) {
	for _, engine := range []string{"sqlite", "postgres"} {
		b.Run(engine, func(b *testing.B) {
			const people = 500
			m := newMemory("a", "b")
			w := newWorld(b, engine, one("code", m))
			w.start()
			round := func(n int) {
				var wants []want
				for i := range people {
					wants = append(wants, want{app: "code", person: fmt.Sprintf("p%04d", i), state: enabled, entitlements: []string{"ab"[n%2 : n%2+1]}})
				}
				w.publish(wants...)
				w.until("all have an outcome", func(events []bus.Event) bool {
					outcomes := 0
					for _, e := range events {
						if e.Type == "tenure.event.v1.Outcome" {
							outcomes++
						}
					}
					return outcomes == people
				})
				w.mu.Lock()
				w.heard = nil
				w.mu.Unlock()
			}
			round(0)
			n := 1
			for b.Loop() {
				round(n)
				n++
			}
			b.ReportMetric(float64(people*b.N)/b.Elapsed().Seconds(), "people/s")
		})
	}
}
