package bus_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/bus/bustest"
)

// BenchmarkLoneEvent is the latency of one event, from its publishing to its handler.
func BenchmarkLoneEvent(b *testing.B) {
	events := bustest.New(b)
	arrived := make(chan time.Time, 1)
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- events.Consumer(bus.ConsumerConfig{Name: "bench", Subjects: []string{bus.Everything}}, func(context.Context, []bus.Event) error {
			arrived <- time.Now()
			return nil
		})(ctx)
	}()
	var took []time.Duration
	for b.Loop() {
		e := intent(1)
		began := time.Now()
		if err := events.PublishChunk(ctx, []bus.Event{e}); err != nil {
			b.Fatal(err)
		}
		took = append(took, (<-arrived).Sub(began))
	}
	stop()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkChunks is the rate of events published in chunks of 500 and consumed in batches.
func BenchmarkChunks(b *testing.B) {
	events := bustest.New(b)
	arrived := make(chan int, 10_000)
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- events.Consumer(bus.ConsumerConfig{Name: "bench", Subjects: []string{bus.Everything}}, func(_ context.Context, batch []bus.Event) error {
			arrived <- len(batch)
			return nil
		})(ctx)
	}()
	sent, got := 0, 0
	for b.Loop() {
		b.StopTimer()
		chunk := intents(500)
		b.StartTimer()
		if err := events.PublishChunk(ctx, chunk); err != nil {
			b.Fatal(err)
		}
		sent += len(chunk)
	}
	for got < sent {
		got += <-arrived
	}
	b.ReportMetric(float64(got)/b.Elapsed().Seconds(), "events/s")
	stop()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}
