package bus_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

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

func TestAnEventPublishedTwiceIsStoredOnce(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	events := intents(20)
	publish(t, b, events...)
	publish(t, b, events...)
	marker := intent(21)
	publish(t, b, marker)
	handle, got := collect()
	consume(t, b, bus.ConsumerConfig{Name: "once"}, handle)
	for range events {
		receive(t, got, "an event")
	}
	if e := receive(t, got, "the marker"); e.ID != marker.ID {
		t.Errorf("seq %d was stored twice", e.Seq)
	}
}

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

func TestAFullStreamStopsPublishersAndLosesNothing(t *testing.T) {
	t.Parallel()
	server := bustest.NewServer(t)
	b := bustest.ConnectWith(t, bus.Config{Server: server, MaxBytes: 64 << 10})
	events := intents(400)
	var stored int
	for stored < len(events) {
		err := b.PublishChunk(t.Context(), events[stored:stored+20])
		if err != nil {
			if fault.KindOf(err) != fault.Unavailable {
				t.Fatalf("a full stream answers %v, want unavailable", err)
			}
			break
		}
		stored += 20
	}
	if stored == len(events) {
		t.Fatal("the stream took more than its limit")
	}
	bustest.ConnectWith(t, bus.Config{Server: server, MaxBytes: 1 << 20}) // an operator gives it more room
	publish(t, b, events[stored:]...)
	handle, got := collect()
	consume(t, b, bus.ConsumerConfig{Name: "full"}, handle)
	seen := map[uint64]bool{}
	for len(seen) < len(events) {
		seen[receive(t, got, "an event").Seq] = true
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

func TestAStreamDeletedUnderALiveServerIsMadeAnew(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t, bus.ServerConfig{StoreDir: t.TempDir()})
	b := bustest.Connect(t, server)
	renewed := make(chan string, 10)
	b.OnNewStream(func() { renewed <- b.Epoch() })
	handle, got := collect()
	consume(t, b, bus.ConsumerConfig{Name: "survivor"}, handle)
	publish(t, b, intent(1))
	receive(t, got, "the event before")
	former := b.Epoch()

	deleteStream(t, b)
	if epoch := receive(t, renewed, "the news of a new stream"); epoch == former {
		t.Error("the new stream has the old one's epoch")
	}
	publish(t, b, intent(1), intent(2))
	for range 2 {
		receive(t, got, "an event of the new stream")
	}
}

func TestFilesRemovedUnderALiveServerMakeANewStream(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := bustest.Start(t, bus.ServerConfig{StoreDir: dir})
	a, b := bustest.Connect(t, server), bustest.Connect(t, server)
	renewed := make(chan string, 10)
	a.OnNewStream(func() { renewed <- "a" })
	b.OnNewStream(func() { renewed <- "b" })
	handle, got := collect()
	consume(t, a, bus.ConsumerConfig{Name: "survivor"}, handle)
	publish(t, a, intent(1))
	receive(t, got, "the event before")
	if err := os.RemoveAll(filepath.Join(dir, "jetstream")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		receive(t, renewed, "the news of a new stream")
	}
	publish(t, b, intent(1), intent(2))
	for range 2 {
		receive(t, got, "an event of the new stream")
	}
	if a.Epoch() != b.Epoch() {
		t.Error("two buses on one stream disagree about which it is")
	}
}

func TestADurableDeletedUnderALiveServerIsMadeAnew(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	handle, got := collect()
	consume(t, b, bus.ConsumerConfig{Name: "durable"}, handle)
	publish(t, b, intent(1))
	receive(t, got, "the event before")
	if err := bus.JetStream(b).DeleteConsumer(t.Context(), "TENURE", "durable"); err != nil {
		t.Fatal(err)
	}
	receive(t, got, "the same event again, from the new durable")
	publish(t, b, intent(2))
	for receive(t, got, "the event after").Seq != 2 {
	}
}

func TestAStoreDeletedBetweenTwoRunsIsANewStream(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run := func(wipe bool) (epoch string) {
		server, err := bus.StartServer(bus.ServerConfig{StoreDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		b, err := bus.Connect(t.Context(), bus.Config{Server: server}, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		publish(t, b, intent(1))
		if wipe { // under the live server, which goes on acknowledging
			if err := os.RemoveAll(filepath.Join(dir, "jetstream")); err != nil {
				t.Fatal(err)
			}
		}
		return b.Epoch()
	}
	first, second, third := run(false), run(true), run(false)
	if first != second {
		t.Errorf("a restart changed the epoch from %s to %s", first, second)
	}
	if second == third {
		t.Error("a wiped store kept its epoch: nobody would publish again")
	}
}

func TestABusFollowsAServerThatRestartsWithoutItsStore(t *testing.T) {
	t.Parallel()
	dir, address := t.TempDir(), freeAddress(t)
	cfg := bus.ServerConfig{StoreDir: dir, Listen: address, Users: []bus.User{user("provision")}}
	server, err := bus.StartServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b := bustest.ConnectWith(t, remote("provision", address))
	renewed := make(chan struct{}, 10)
	b.OnNewStream(func() { renewed <- struct{}{} })
	handle, got := collect()
	consume(t, b, bus.ConsumerConfig{Name: "follower"}, handle)
	publish(t, b, intent(1))
	receive(t, got, "the event before")

	server.Close()
	if err := b.PublishChunk(t.Context(), []bus.Event{intent(2)}); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("publishing without a server says %v, want unavailable", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	bustest.Start(t, cfg)
	receive(t, renewed, "the news of a new stream")
	publish(t, b, intent(1), intent(2))
	for range 2 {
		receive(t, got, "an event of the new stream")
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

func TestTheStreamKeepsWhatItHolds(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	publish(t, b, intent(1))
	stream, err := bus.JetStream(b).Stream(t.Context(), "TENURE")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(t.Context(), 1); err == nil {
		t.Error("a message was deleted")
	}
	if err := stream.Purge(t.Context()); err == nil {
		t.Error("the stream was purged")
	}
	got := stream.CachedInfo().Config
	if got.Retention != jetstream.LimitsPolicy || got.Discard != jetstream.DiscardNew || got.MaxAge != 72*time.Hour || got.Storage != jetstream.FileStorage || got.MaxBytes != 1<<30 {
		t.Errorf("the stream is %+v", got)
	}
}

func deleteStream(t *testing.T, b *bus.Bus) {
	t.Helper()
	if err := bus.JetStream(b).DeleteStream(t.Context(), "TENURE"); err != nil {
		t.Fatal(err)
	}
}
