package bus_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/bus/bustest"
)

// parkingLot keeps what is parked.
type parkingLot struct {
	mu     sync.Mutex
	refuse int // times
	parked chan string
}

func (p *parkingLot) Park(_ context.Context, consumer string, e bus.Event, cause error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse > 0 {
		p.refuse--
		return errors.New("database is away")
	}
	p.parked <- fmt.Sprintf("%s %d %v", consumer, e.Seq, cause)
	return nil
}

func TestABadEventDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	publish(t, b, intents(50)...)
	lot := &parkingLot{refuse: 1, parked: make(chan string, 100)}
	done := make(chan uint64, 1000)
	tries := 0
	consume(t, b, bus.ConsumerConfig{Name: "isolating", Park: lot}, func(_ context.Context, batch []bus.Event) error {
		for _, e := range batch {
			switch {
			case e.Seq == 7:
				return fmt.Errorf("decode: %w", bus.Permanent(errors.New("not a fact")))
			case e.Seq == 9 && len(batch) == 1:
				if tries++; tries < 3 {
					return errors.New("not now")
				}
			case e.Seq == 9:
				return errors.New("not now")
			}
		}
		for _, e := range batch { // as a transaction: all or nothing
			done <- e.Seq
		}
		return nil
	})
	handled := map[uint64]int{}
	for len(handled) < 49 {
		handled[receive(t, done, "a good event")]++
	}
	for seq, times := range handled {
		if times != 1 || seq == 7 {
			t.Errorf("event %d was handled %d times", seq, times)
		}
	}
	if got := receive(t, lot.parked, "the parked event"); got != "isolating 7 decode: not a fact" {
		t.Errorf("parked %q", got)
	}
	if tries != 3 {
		t.Errorf("the event that failed twice was tried %d times", tries)
	}
}

func TestWithoutAParkerNothingIsGivenUp(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	publish(t, b, intent(1))
	done := make(chan int, 1)
	tries := 0
	consume(t, b, bus.ConsumerConfig{Name: "stubborn"}, func(context.Context, []bus.Event) error {
		if tries++; tries < 4 {
			return bus.Permanent(errors.New("cannot"))
		}
		done <- tries
		return nil
	})
	if got := receive(t, done, "the fourth try"); got != 4 {
		t.Errorf("handled at try %d", got)
	}
}

func TestInAnOutageNotEveryEventIsTriedAndAllAreHandledAfterIt(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	publish(t, b, intents(200)...)
	var mu sync.Mutex
	calls, down := 0, true
	tried := make(chan struct{}, 10_000)
	done := make(chan uint64, 1000)
	consume(t, b, bus.ConsumerConfig{Name: "outage"}, func(_ context.Context, batch []bus.Event) error {
		mu.Lock()
		defer mu.Unlock()
		if down {
			calls++
			tried <- struct{}{}
			return errors.New("database is away")
		}
		for _, e := range batch {
			done <- e.Seq
		}
		return nil
	})
	for range 6 {
		receive(t, tried, "a try")
	}
	mu.Lock()
	down = false
	got := calls
	mu.Unlock()
	if got > 20 {
		t.Errorf("%d calls in an outage, want a few", got)
	}
	handled := map[uint64]bool{}
	for len(handled) < 200 {
		handled[receive(t, done, "an event after the outage")] = true
	}
}

func TestAConsumerFinishesWhatItTookAndHandsBackTheRest(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	publish(t, b, intents(30)...)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	first := make(chan int, 10)
	go func() {
		ended <- b.Consumer(bus.ConsumerConfig{Name: "draining", Subjects: []string{bus.Everything}, Batch: 10}, func(ctx context.Context, batch []bus.Event) error {
			cancel()
			if ctx.Err() != nil {
				t.Error("the handler's context ended with the consumer's: what was taken cannot be finished")
			}
			first <- len(batch)
			return nil
		})(ctx)
	}()
	if err := receive(t, ended, "the end of the consumer"); err != nil {
		t.Errorf("the consumer ended with %v", err)
	}
	if len(first) != 1 {
		t.Fatalf("%d batches were handled after the end", len(first)-1)
	}
	handled := <-first
	handle, got := collect()
	began := time.Now()
	consume(t, b, bus.ConsumerConfig{Name: "draining"}, handle)
	seen := map[uint64]bool{}
	for len(seen) < 30-handled {
		seen[receive(t, got, "an event that was handed back").Seq] = true
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("what was handed back came after %s: it waited for the server's clock", took)
	}
}

func TestAConsumerStopsAlsoWhenTheServerIsAway(t *testing.T) {
	t.Parallel()
	server := bustest.NewServer(t)
	b := bustest.Connect(t, server)
	publish(t, b, intents(1)...)
	ctx, cancel := context.WithCancel(t.Context())
	handled, ended := make(chan int, 1), make(chan error, 1)
	go func() {
		ended <- b.Consumer(bus.ConsumerConfig{Name: "left-alone", Subjects: []string{bus.Everything}}, func(_ context.Context, batch []bus.Event) error {
			handled <- len(batch)
			return nil
		})(ctx)
	}()
	receive(t, handled, "an event")
	server.Close()
	for b.Ready(t.Context()) == nil {
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	cancel()
	if err := receive(t, ended, "the end of the consumer"); err != nil || time.Since(began) > 5*time.Second {
		t.Errorf("the consumer ended after %s with %v", time.Since(began), err)
	}
}

func TestReplicasShareADurable(t *testing.T) {
	t.Parallel()
	server := bustest.NewServer(t)
	a, b := bustest.Connect(t, server), bustest.Connect(t, server)
	handle, got := collect()
	consume(t, a, bus.ConsumerConfig{Name: "shared", Batch: 8}, handle)
	consume(t, b, bus.ConsumerConfig{Name: "shared", Batch: 8}, handle)
	publish(t, a, intents(200)...)
	seen := map[uint64]bool{}
	for range 200 {
		e := receive(t, got, "an event")
		if seen[e.Seq] {
			t.Errorf("event %d went to both replicas", e.Seq)
		}
		seen[e.Seq] = true
	}
}

func TestWhatIsNoEventIsDeliveredWithWhatThereIs(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	if _, err := bus.JetStream(b).PublishMsg(t.Context(), &nats.Msg{
		Subject: "tenure.odd.thing",
		Header:  nats.Header{"ce-id": {"x\x00\xff1"}, "seq": {"many"}, "ce-time": {"yesterday"}},
		Data:    []byte{0xff},
	}); err != nil {
		t.Fatal(err)
	}
	handle, got := collect()
	consume(t, b, bus.ConsumerConfig{Name: "odd"}, handle)
	want := bus.Event{ID: "x\uFFFD\uFFFD1", Subject: "tenure.odd.thing", Data: []byte{0xff}}
	if diff := cmp.Diff(want, receive(t, got, "the odd event")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAConsumerThatCannotWorkIsRefused(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	for _, cfg := range []bus.ConsumerConfig{
		{Name: "", Subjects: []string{bus.Everything}},
		{Name: "a.b", Subjects: []string{bus.Everything}},
		{Name: "none"},
		{Name: "negative", Subjects: []string{bus.Everything}, Batch: -1},
	} {
		if err := b.Consumer(cfg, nil)(t.Context()); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}
