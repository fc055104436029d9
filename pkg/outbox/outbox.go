package outbox

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/telemetry"
	"github.com/tenurehq/tenure/pkg/urgency"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrations makes the tables. A service opens its database with them beside its own.
var Migrations = sqldb.Migrations{Name: "outbox", FS: migrations}

// Config is what distinguishes one outbox from another.
type Config struct {
	Origin string // ce-source of its events: ingest, policy, audit, provision/<application>
	// Gather is how long the relay lets events gather before it moves them, so that they leave in fewer and larger
	// chunks: for a record that nobody waits for. Zero: they leave at once.
	Gather time.Duration
}

// Deps is what an outbox works with.
type Deps struct {
	DB  *sqldb.DB
	Bus stream
	// Recorded asks audit for the highest gap-free number of origin that it has recorded, and for how long the oldest
	// event that it knows to be missing has waited.
	Recorded func(ctx context.Context, origin string) (seq uint64, behind time.Duration, err error)
	Log      *zap.Logger
	// Now is the clock of all who share DB; nil: the machine's.
	Now func() time.Time
}

// stream is what the relay needs of *bus.Bus. PublishChunk returns nil only when the stream holds every event, and
// takes an event again without harm.
type stream interface {
	PublishChunk(ctx context.Context, events []bus.Event) error
	Epoch() string
	OnNewStream(f func())
	OnReconnect(f func())
}

// Outbox is the outbox of one database. Its methods may be called concurrently.
type Outbox struct {
	origin   string
	gather   time.Duration
	store    store
	bus      stream
	recorded func(ctx context.Context, origin string) (seq uint64, behind time.Duration, err error)
	log      *zap.Logger
	now      func() time.Time

	added chan struct{} // one token when something may be waiting
	again chan struct{} // one token when what is kept may have to be published again

	fresh bool // the relay has not sent since New; only its goroutine looks

	mu     sync.Mutex // guards what follows
	behind time.Duration
	heard  time.Time // when audit last answered, by the machine's clock; before its first answer, when the outbox was made
}

// New returns the outbox of deps.DB.
func New(cfg Config, deps Deps) (*Outbox, error) {
	if cfg.Origin == "" {
		return nil, errors.New("outbox without an origin")
	}
	if deps.DB == nil || deps.Bus == nil || deps.Recorded == nil || deps.Log == nil {
		return nil, fmt.Errorf("outbox of %s lacks a dependency", cfg.Origin)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	o := &Outbox{
		now:      deps.Now,
		origin:   cfg.Origin,
		gather:   cfg.Gather,
		store:    store{db: deps.DB, origin: cfg.Origin},
		bus:      deps.Bus,
		recorded: deps.Recorded,
		log:      deps.Log.Named("outbox").With(zap.String(telemetry.FieldOrigin, cfg.Origin)),
		added:    make(chan struct{}, 1),
		again:    make(chan struct{}, 1),
		fresh:    true,
		heard:    time.Now(),
	}
	deps.Bus.OnNewStream(func() { token(o.again) })
	deps.Bus.OnReconnect(func() { token(o.again) })
	return o, nil
}

// Add makes events leave when tx commits, and never otherwise. It sets their origin and time, and their traceparent
// from ctx when they have none; the relay numbers them. Urgent ones overtake all that is waiting. It costs one row for
// up to 64 events, and wakes the relay of this process after the commit.
func (o *Outbox) Add(ctx context.Context, tx *sqldb.Tx, lane eventv1.Lane, events ...bus.Event) error {
	if len(events) == 0 {
		return nil
	}
	if lane != eventv1.Lane_LANE_URGENT {
		lane = eventv1.Lane_LANE_NORMAL
	}
	// Rows leave in the order of their greatest ids, and so do their events.
	events = slices.Clone(events)
	slices.SortStableFunc(events, func(a, b bus.Event) int { return strings.Compare(a.ID, b.ID) })
	now, trace := o.now().UTC().Truncate(time.Microsecond), telemetry.TraceParent(ctx)
	rows := make([]waiting, 0, 1)
	for i, e := range events {
		if e.ID == "" || e.Type == "" || e.Subject == "" || e.Seq != 0 {
			return fmt.Errorf("outbox %s: event %q on %q was not made by bus.NewEvent", o.origin, e.ID, e.Subject)
		}
		if len(e.Data) > bus.MaxData {
			return fault.New(fault.TooLarge, "event on %s has a body of %d bytes, more than %d", e.Subject, len(e.Data), bus.MaxData)
		}
		e.Origin, e.Time = o.origin, now
		if e.TraceParent == "" {
			e.TraceParent = trace
		}
		encoded, err := proto.Marshal(e.Proto())
		if err != nil {
			return fmt.Errorf("outbox %s: encode event %s: %w", o.origin, e.ID, err)
		}
		if i == 0 || rows[len(rows)-1].full() {
			rows = append(rows, waiting{})
		}
		rows[len(rows)-1].add(e.ID, encoded)
	}
	if err := o.store.add(ctx, tx, lane, rows); err != nil {
		return fmt.Errorf("outbox %s: %w", o.origin, err)
	}
	tx.AfterCommit(func() {
		if lane == eventv1.Lane_LANE_URGENT {
			urgency.Hurry()
		}
		token(o.added)
	})
	return nil
}

// Behind is how far audit is behind this origin, as far as is known: what audit said last, or how long the oldest event
// that it had not recorded then had waited; and longer while it does not answer.
func (o *Outbox) Behind() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	silent := time.Since(o.heard)
	if silent < 2*askEvery {
		silent = 0
	}
	return o.behind + silent
}

// Park keeps an event that a consumer cannot handle; it implements bus.Parker. Parking the same event again changes
// nothing. cause's text is shown to operators.
func (o *Outbox) Park(ctx context.Context, consumer string, e bus.Event, cause error) error {
	encoded, err := proto.Marshal(e.Proto())
	if err != nil {
		return fmt.Errorf("park: encode event %s: %w", e.ID, err)
	}
	id := e.ID
	if id == "" { // not one of ours; its content tells it from others
		sum := sha256.Sum256(encoded)
		id = "sha256:" + hex.EncodeToString(sum[:])
	}
	return o.store.park(ctx, parked{consumer: consumer, id: id, event: encoded, cause: shorten(cause.Error()), at: o.now()})
}

// shorten makes of an error's text one that fits a table of them.
func shorten(s string) string {
	const most = 1000
	s = strings.ReplaceAll(s, "\x00", "")
	if len(s) > most {
		s = s[:most]
	}
	return strings.ToValidUTF8(s, "")
}

// token leaves one token in a channel that holds one.
func token(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
