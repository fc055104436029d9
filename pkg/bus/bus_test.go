package bus_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/bus/bustest"
	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/telemetry"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

const patience = 30 * time.Second // for what should take milliseconds

// intent makes an event as the outbox would send it.
func intent(seq uint64) bus.Event {
	e := bus.NewEvent(bus.IntentSubject("code", "p1"), &eventv1.Intent{PersonId: "p1", Application: "code"}, bus.Cause{})
	e.Origin, e.Seq, e.Time = "provision/code", seq, time.Date(2026, 11, 22, 10, 0, 0, int(seq)*1000, time.UTC)
	return e
}

func intents(n int) []bus.Event {
	events := make([]bus.Event, n)
	for i := range events {
		events[i] = intent(uint64(i) + 1)
	}
	return events
}

func publish(t *testing.T, b *bus.Bus, events ...bus.Event) {
	t.Helper()
	if err := b.PublishChunk(t.Context(), events); err != nil {
		t.Fatalf("publish: %v", err)
	}
}

// consume runs a consumer until the test or stop ends it.
func consume(t *testing.T, b *bus.Bus, cfg bus.ConsumerConfig, handle bus.Handler) (stop func()) {
	t.Helper()
	if cfg.Subjects == nil {
		cfg.Subjects = []string{bus.Everything}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Consumer(cfg, handle)(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the consumer ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// receive returns the next value, or fails the test.
func receive[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("%s did not come", what)
		panic("unreachable")
	}
}

// collect hands every event to the returned channel.
func collect() (bus.Handler, <-chan bus.Event) {
	got := make(chan bus.Event, 10_000)
	return func(_ context.Context, batch []bus.Event) error {
		for _, e := range batch {
			got <- e
		}
		return nil
	}, got
}

func TestAnEventArrivesWhole(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	sent := intent(41)
	sent.CorrelationID, sent.CausationID = "c1", "e0"
	sent.TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	publish(t, b, sent)
	trace := make(chan string, 1)
	handle, got := collect()
	consume(t, b, bus.ConsumerConfig{Name: "whole"}, func(ctx context.Context, batch []bus.Event) error {
		trace <- telemetry.TraceParent(ctx)
		return handle(ctx, batch)
	})
	if diff := cmp.Diff(sent, receive(t, got, "the event")); diff != "" {
		t.Errorf("the event changed on its way (-sent +got):\n%s", diff)
	}
	if got := receive(t, trace, "the context"); got != sent.TraceParent {
		t.Errorf("the handler's trace is %q, want %q", got, sent.TraceParent)
	}
}

func TestFiltersAndBatches(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	events := intents(600)
	other := bus.NewEvent(bus.FindingSubject("code", "p1"), &eventv1.Finding{}, bus.Cause{})
	publish(t, b, append(slices.Clone(events), other)...)
	handle, got := collect()
	most := 0
	stop := consume(t, b, bus.ConsumerConfig{Name: "filtered", Subjects: []string{"tenure.intent.>", "tenure.outcome.>"}, Batch: 100}, func(ctx context.Context, batch []bus.Event) error {
		most = max(most, len(batch))
		return handle(ctx, batch)
	})
	for _, want := range events {
		if e := receive(t, got, "an event"); e.ID != want.ID {
			t.Fatalf("got seq %d, want %d: out of order without need", e.Seq, want.Seq)
		}
	}
	stop()
	if most > 100 || most < 2 {
		t.Errorf("the largest batch had %d events, want up to 100 and not one by one", most)
	}
	// Everything was acknowledged: the durable has nothing left for its next run.
	after, again := collect()
	consume(t, b, bus.ConsumerConfig{Name: "filtered", Subjects: []string{"tenure.intent.>", "tenure.outcome.>"}}, after)
	marker := intent(601)
	publish(t, b, marker)
	if e := receive(t, again, "the event after"); e.ID != marker.ID {
		t.Errorf("an acknowledged event came again: seq %d", e.Seq)
	}
}

func TestAFullStreamTakesWhatIsNewAndLetsTheOldestGo(t *testing.T) {
	t.Parallel()
	server := bustest.NewServer(t)
	b := bustest.ConnectWith(t, bus.Config{Server: server, MaxBytes: 64 << 10})
	stream, err := bus.JetStream(b).Stream(t.Context(), "TENURE")
	if err != nil {
		t.Fatal(err)
	}
	former := stream.CachedInfo().Config
	former.Discard = jetstream.DiscardNew // as streams were made once
	if _, err := bus.JetStream(b).UpdateStream(t.Context(), former); err != nil {
		t.Fatal(err)
	}
	b = bustest.ConnectWith(t, bus.Config{Server: server, MaxBytes: 64 << 10})
	events := intents(1_000)
	publish(t, b, events...)
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.State.Bytes > 64<<10 || info.State.FirstSeq == 1 || info.State.LastSeq != uint64(len(events)) {
		t.Errorf("the stream holds %d bytes, %d to %d", info.State.Bytes, info.State.FirstSeq, info.State.LastSeq)
	}
	handle, got := collect()
	consume(t, b, bus.ConsumerConfig{Name: "late"}, handle)
	for want := info.State.FirstSeq; want <= info.State.LastSeq; want++ {
		if e := receive(t, got, "an event that is still there"); e.ID != events[want-1].ID {
			t.Fatalf("event %s came, want %s", e.ID, events[want-1].ID)
		}
	}
}

func TestTooLargeAnEventIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	e := intent(1)
	e.Data = make([]byte, bus.MaxData+1)
	if err := b.PublishChunk(t.Context(), []bus.Event{e}); fault.KindOf(err) != fault.TooLarge {
		t.Errorf("error is %v, want too large", err)
	}
	e.Data = e.Data[1:]
	publish(t, b, e)
}
