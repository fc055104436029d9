package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"google.golang.org/grpc"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/bus/bustest"
	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/outbox"
	"github.com/tenurehq/tenure/pkg/sqldb"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	patience = 60 * time.Second // for what should take milliseconds
	urgent   = eventv1.Lane_LANE_URGENT
	normal   = eventv1.Lane_LANE_NORMAL
)

var sets = []sqldb.Migrations{outbox.Migrations}

// wire is a bus that can be cut, and remembers what went over it.
type wire struct {
	*bus.Bus
	cut   atomic.Bool
	tries atomic.Int64

	mu   sync.Mutex
	sent []bus.Event
}

func (w *wire) PublishChunk(ctx context.Context, events []bus.Event) error {
	w.tries.Add(1)
	if w.cut.Load() {
		return fault.New(fault.Unavailable, "the wire is cut")
	}
	if err := w.Bus.PublishChunk(ctx, events); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = append(w.sent, events...)
	return nil
}

func (w *wire) order() []bus.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]bus.Event(nil), w.sent...)
}

// audit is an audit service that has recorded what the test says.
type audit struct {
	recorded atomic.Uint64
	away     atomic.Bool
}

func (a *audit) Recorded(context.Context, string) (uint64, time.Duration, error) {
	if a.away.Load() {
		return 0, 0, errors.New("audit is away")
	}
	return a.recorded.Load(), 42 * time.Second, nil
}

func logger(tb testing.TB) *zap.Logger {
	tb.Helper()
	return zaptest.NewLogger(tb, zaptest.Level(zap.ErrorLevel))
}

func newOutbox(tb testing.TB, db *sqldb.DB, w *wire, a *audit) *outbox.Outbox {
	tb.Helper()
	o, err := outbox.New(outbox.Config{Origin: "ingest"}, outbox.Deps{DB: db, Bus: w, Recorded: a.Recorded, Log: logger(tb)})
	if err != nil {
		tb.Fatal(err)
	}
	return o
}

// start runs the relay until the test or stop ends it.
func start(tb testing.TB, o *outbox.Outbox) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	ended := make(chan error, 1)
	go func() { ended <- o.Relay(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Errorf("the relay ended with %v", err)
		}
	})
	tb.Cleanup(stop)
	return stop
}

func event(person string) bus.Event {
	return bus.NewEvent(bus.LifecycleSubject(normal, eventv1.LifecycleKind_LIFECYCLE_KIND_MOVER, person),
		&eventv1.Lifecycle{PersonId: person, Kind: eventv1.LifecycleKind_LIFECYCLE_KIND_MOVER}, bus.Cause{CorrelationID: "delivery"})
}

func events(n int) []bus.Event {
	all := make([]bus.Event, n)
	for i := range all {
		all[i] = event(fmt.Sprintf("p%d", i))
	}
	return all
}

func add(tb testing.TB, db *sqldb.DB, o *outbox.Outbox, lane eventv1.Lane, events ...bus.Event) {
	tb.Helper()
	if err := db.InTx(tb.Context(), func(tx *sqldb.Tx) error { return o.Add(tb.Context(), tx, lane, events...) }); err != nil {
		tb.Fatalf("add: %v", err)
	}
}

// listen returns everything that the stream delivers, from its beginning.
func listen(tb testing.TB, b *bus.Bus) <-chan bus.Event {
	tb.Helper()
	got := make(chan bus.Event, 100_000)
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	ended := make(chan error, 1)
	go func() {
		ended <- b.Consumer(bus.ConsumerConfig{Name: "listener", Subjects: []string{bus.Everything}}, func(_ context.Context, batch []bus.Event) error {
			for _, e := range batch {
				got <- e
			}
			return nil
		})(ctx)
	}()
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Errorf("the consumer ended with %v", err)
		}
	})
	return got
}

func receive[T any](tb testing.TB, from <-chan T, what string) T {
	tb.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		tb.Fatalf("%s did not come", what)
		panic("unreachable")
	}
}

// eventually waits until what holds.
func eventually(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("never: %s", what)
		}
	}
}

// reading collects a streamed answer.
type reading[T any] struct {
	grpc.ServerStream
	ctx      context.Context
	messages []*T
}

func (r *reading[T]) Context() context.Context { return r.ctx }
func (r *reading[T]) Send(m *T) error {
	r.messages = append(r.messages, m)
	return nil
}

// read asks the event log for a range.
func read(tb testing.TB, o *outbox.Outbox, from, to uint64) []bus.Event {
	tb.Helper()
	answer := &reading[eventv1.ReadResponse]{ctx: tb.Context()}
	if err := outbox.NewEventLog(o).Read(&eventv1.ReadRequest{Origin: "ingest", From: from, To: to}, answer); err != nil {
		tb.Fatalf("read %d to %d: %v", from, to, err)
	}
	var all []bus.Event
	for _, m := range answer.messages {
		for _, e := range m.GetEvents() {
			all = append(all, bus.FromProto(e))
		}
	}
	return all
}

// newWire returns a bus on a server whose files are in dir.
func newWire(tb testing.TB) (w *wire, dir string) {
	tb.Helper()
	dir = tb.TempDir()
	server := bustest.Start(tb, bus.ServerConfig{StoreDir: dir})
	return &wire{Bus: bustest.Connect(tb, server)}, dir
}

// wipe removes a live server's files.
func wipe(tb testing.TB, dir string) {
	tb.Helper()
	if err := os.RemoveAll(dir + "/jetstream"); err != nil {
		tb.Fatal(err)
	}
}
