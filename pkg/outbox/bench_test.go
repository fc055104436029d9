package outbox_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
)

// BenchmarkEvents is the rate of events from their transaction to a consumer, with 32 writers of 5 events each.
func BenchmarkEvents(b *testing.B) {
	for _, engine := range sqltest.Engines {
		b.Run(engine, func(b *testing.B) {
			db := sqltest.New(b, engine, sets...)
			w, _ := newWire(b)
			o := newOutbox(b, db, w, &audit{})
			start(b, o)
			got := listen(b, w.Bus)
			b.SetParallelism(16)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := db.InTx(context.Background(), func(tx *sqldb.Tx) error {
						return o.Add(context.Background(), tx, normal, events(5)...)
					}); err != nil {
						b.Error(err)
					}
				}
			})
			added := b.Elapsed()
			for range 5 * b.N {
				receive(b, got, "an event")
			}
			b.ReportMetric(float64(5*b.N)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(5*b.N)/added.Seconds(), "added/s")
		})
	}
}

// BenchmarkLoneEvent is the time of one event from the beginning of its transaction to its consumer.
func BenchmarkLoneEvent(b *testing.B) {
	for _, engine := range sqltest.Engines {
		b.Run(engine, func(b *testing.B) {
			db := sqltest.New(b, engine, sets...)
			w, _ := newWire(b)
			o := newOutbox(b, db, w, &audit{})
			start(b, o)
			got := listen(b, w.Bus)
			for b.Loop() {
				add(b, db, o, urgent, event("p"))
				receive(b, got, "the event")
				time.Sleep(rand.N(time.Millisecond))
			}
		})
	}
}
