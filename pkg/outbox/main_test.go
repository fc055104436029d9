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
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	patience = 60 * time.Second // for what should take milliseconds
	urgent   = eventv1.Lane_LANE_URGENT
	normal   = eventv1.Lane_LANE_NORMAL
)

var sets = []sqldb.Migrations{outbox.Migrations}

// each runs a test on both engines.
func each(t *testing.T, test func(t *testing.T, db *sqldb.DB)) {
	t.Helper()
	t.Parallel()
	sqltest.Run(t, sets, test)
}

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
	asked    atomic.Int64
}

func (a *audit) Recorded(context.Context, string) (uint64, time.Duration, error) {
	defer a.asked.Add(1)
	if a.away.Load() {
		return 0, 0, errors.New("audit is away")
	}
	return a.recorded.Load(), 42 * time.Second, nil
}

func logger(t testing.TB) *zap.Logger {
	t.Helper()
	return zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel))
}

func newOutbox(t testing.TB, db *sqldb.DB, w *wire, a *audit) *outbox.Outbox {
	t.Helper()
	o, err := outbox.New(outbox.Config{Origin: "ingest"}, outbox.Deps{DB: db, Bus: w, Recorded: a.Recorded, Log: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// start runs the relay until the test or stop ends it.
func start(t testing.TB, o *outbox.Outbox) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- o.Relay(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the relay ended with %v", err)
		}
	})
	t.Cleanup(stop)
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

func add(t testing.TB, db *sqldb.DB, o *outbox.Outbox, lane eventv1.Lane, events ...bus.Event) {
	t.Helper()
	if err := db.InTx(t.Context(), func(tx *sqldb.Tx) error { return o.Add(t.Context(), tx, lane, events...) }); err != nil {
		t.Fatalf("add: %v", err)
	}
}

// listen returns everything that the stream delivers, from its beginning.
func listen(t testing.TB, b *bus.Bus) <-chan bus.Event {
	t.Helper()
	got := make(chan bus.Event, 100_000)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() {
		ended <- b.Consumer(bus.ConsumerConfig{Name: "listener", Subjects: []string{bus.Everything}}, func(_ context.Context, batch []bus.Event) error {
			for _, e := range batch {
				got <- e
			}
			return nil
		})(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the consumer ended with %v", err)
		}
	})
	return got
}

func receive[T any](t testing.TB, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("%s did not come", what)
		panic("unreachable")
	}
}

// eventually waits until what holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
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
func read(t testing.TB, o *outbox.Outbox, from, to uint64) []bus.Event {
	t.Helper()
	answer := &reading[eventv1.ReadResponse]{ctx: t.Context()}
	if err := outbox.NewEventLog(o).Read(&eventv1.ReadRequest{Origin: "ingest", From: from, To: to}, answer); err != nil {
		t.Fatalf("read %d to %d: %v", from, to, err)
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
func newWire(t testing.TB) (w *wire, dir string) {
	t.Helper()
	dir = t.TempDir()
	server := bustest.Start(t, bus.ServerConfig{StoreDir: dir})
	return &wire{Bus: bustest.Connect(t, server)}, dir
}

// wipe removes a live server's files.
func wipe(t testing.TB, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir + "/jetstream"); err != nil {
		t.Fatal(err)
	}
}
