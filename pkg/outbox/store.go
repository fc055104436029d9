package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tenurehq/tenure/pkg/packed"
	"github.com/tenurehq/tenure/pkg/sqldb"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

// store is the SQL of an outbox and nothing else.
type store struct {
	db     *sqldb.DB
	origin string
}

// waiting are events of one transaction that are not numbered yet.
type waiting struct {
	id     string   // the greatest of their ids: what another transaction adds about one of them later has a greater one
	events [][]byte // each an encoded eventv1.Event without its number
	size   int
}

const (
	fullAt      = 64        // events
	fullAtBytes = 256 << 10 // and so much, whichever comes first
)

func (w *waiting) full() bool { return len(w.events) >= fullAt || w.size >= fullAtBytes }

// add takes an event whose id is greater than those of the others.
func (w *waiting) add(id string, event []byte) {
	w.id, w.events, w.size = id, append(w.events, event), w.size+len(event)
}

// chunk is a run of numbered events.
type chunk struct {
	first, last uint64
	lane        eventv1.Lane
	at          time.Time // when it was made
	events      []byte    // encoded eventv1.ReadResponse; empty where only the run matters
}

// progress is how far the relay is known to have come.
type progress struct {
	epoch string    // the stream it published into
	seq   uint64    // all up to here is published
	at    time.Time // when the last chunk of that was made
}

// parked is an event set aside.
type parked struct {
	consumer, id string
	event        []byte // encoded eventv1.Event
	cause        string
	at           time.Time
}

// add writes rows with as few statements as parameters allow.
func (s store) add(ctx context.Context, tx *sqldb.Tx, lane eventv1.Lane, rows []waiting) error {
	const columns = 4
	for some := range slices.Chunk(rows, sqldb.MaxParams/columns) {
		args := make([]any, 0, len(some)*columns)
		for _, row := range some {
			lengths, events := packed.Pack(row.events)
			args = append(args, int64(lane), row.id, lengths, events)
		}
		if err := tx.Queue(ctx, "INSERT INTO outbox (lane, id, lengths, events) VALUES "+sqldb.Values(len(some), columns), args...); err != nil {
			return fmt.Errorf("add events: %w", err)
		}
	}
	return nil
}

// lanes are those of the outbox, the most urgent first.
var lanes = [...]eventv1.Lane{eventv1.Lane_LANE_URGENT, eventv1.Lane_LANE_NORMAL}

// mostEvents is how many events a chunk holds; more only when others commit in between: an urgent one waits for the end of
// a chunk that is on its way. A row holds one at least, so no more rows are looked at.
func mostEvents(lane eventv1.Lane) int {
	if lane == eventv1.Lane_LANE_URGENT {
		return 500
	}
	return 64
}

const selectHeads = `
SELECT 1, id, lengths FROM (SELECT id, lengths FROM outbox WHERE lane = 1 AND id >= $1 ORDER BY id LIMIT 500) AS urgent
UNION ALL
SELECT 2, id, lengths FROM (SELECT id, lengths FROM outbox WHERE lane = 2 AND id >= $2 ORDER BY id LIMIT 64) AS normal`

// head is the next chunk to be: of one lane, everything from an id up to another.
type head struct {
	lane        eventv1.Lane
	first, last string
}

// heads returns what may be moved, urgent first. from are the ids, by lane, before which nothing is looked for: there
// PostgreSQL keeps, for a while, all that has left.
func (s store) heads(ctx context.Context, from map[eventv1.Lane]string) ([]head, error) {
	type row struct {
		lane   eventv1.Lane
		id     string
		events int
	}
	found, err := s.db.Query(ctx, selectHeads, from[eventv1.Lane_LANE_URGENT], from[eventv1.Lane_LANE_NORMAL])
	rows, err := sqldb.Collect(found, err, func(scan func(...any) error) (row, error) {
		var lane int64
		var lengths string
		var r row
		err := scan(&lane, &r.id, &lengths)
		if err != nil {
			return r, err
		}
		r.lane = eventv1.Lane(lane) //nolint:gosec // G115: 1 or 2, from the statement above
		if r.events, err = packed.Count(lengths); err != nil || r.events == 0 {
			r.events = 1 // see unpack
		}
		return r, nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for events: %w", err)
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Or(cmp.Compare(a.lane, b.lane), strings.Compare(a.id, b.id)) })
	var heads []head
	events := map[eventv1.Lane]int{}
	for _, r := range rows {
		if events[r.lane] == 0 {
			heads = append(heads, head{lane: r.lane, first: from[r.lane]})
		}
		if events[r.lane] += r.events; events[r.lane] == r.events || events[r.lane] <= mostEvents(r.lane) {
			heads[len(heads)-1].last = r.id
		}
	}
	return heads, nil
}

const (
	takeRows = `
DELETE FROM outbox WHERE lane = $1 AND id >= $2 AND id <= $3 RETURNING id, lengths, events`
	takeNumbers = `
UPDATE outbox_origin
SET    next_seq = next_seq + $2, epoch = $3, published = $4, published_at = $5
WHERE  origin = $1
RETURNING next_seq`
	insertSent = `
INSERT INTO outbox_sent (first_seq, last_seq, lane, created_at, events) VALUES ($1, $2, $3, $4, $5)`
)

// move makes one chunk of the events of h, gives them the next numbers, and notes how far the relay has come. The
// rows that leave and the numbers they get are one transaction, so any number of relays may try at once. A chunk of
// nothing means that another relay was faster.
//
// The rows are locked before the origin's row, by every relay, and no one else locks either.
func (s store) move(ctx context.Context, h head, done progress, now time.Time) (chunk, error) {
	var made chunk
	err := s.db.InTx(ctx, func(tx *sqldb.Tx) error {
		made = chunk{}
		rows, err := tx.Query(ctx, takeRows, int64(h.lane), h.first, h.last)
		taken, err := sqldb.Collect(rows, err, func(scan func(...any) error) (waiting, error) {
			var w waiting
			var lengths string
			var events []byte
			if err := scan(&w.id, &lengths, &events); err != nil {
				return w, err
			}
			w.events = unpack(lengths, events)
			return w, nil
		})
		if err != nil || len(taken) == 0 {
			return err
		}
		slices.SortFunc(taken, func(a, b waiting) int { return strings.Compare(a.id, b.id) })
		var events [][]byte
		for _, w := range taken {
			events = append(events, w.events...)
		}
		var next int64
		if err := tx.QueryRow(ctx, takeNumbers, s.origin, len(events), done.epoch, int64(done.seq), sqldb.Micros(done.at)).Scan(&next); err != nil { //nolint:gosec // G115: a number from this table
			return err
		}
		last := uint64(next) - 1 //nolint:gosec // G115: numbers start at 1
		c := chunk{first: last + 1 - uint64(len(events)), last: last, lane: h.lane, at: now}
		c.events = number(events, c.first)
		if err := tx.Queue(ctx, insertSent, int64(c.first), int64(c.last), int64(c.lane), sqldb.Micros(c.at), c.events); err != nil { //nolint:gosec // G115: as above
			return err
		}
		made = c
		return nil
	})
	if err != nil {
		return chunk{}, fmt.Errorf("move events: %w", err)
	}
	return made, nil
}

// unpack returns the events of a row. A row that was damaged leaves all the same, as one event that cannot be read: whoever
// publishes it says so, audit misses it, and what comes after it is not kept.
func unpack(lengths string, data []byte) [][]byte {
	events, err := packed.Unpack(lengths, data)
	if err != nil || len(events) == 0 {
		return [][]byte{data}
	}
	return events
}

// number encodes a ReadResponse of the events with their numbers from first on. A field may come anywhere in a
// message, so the number is appended to each event as it is.
func number(events [][]byte, first uint64) []byte {
	const eventsField, seqField = 1, 4 // of ReadResponse and of Event
	size := 0
	for _, event := range events {
		size += len(event) + 24
	}
	encoded := make([]byte, 0, size)
	for i, event := range events {
		seq := first + uint64(i)
		encoded = protowire.AppendTag(encoded, eventsField, protowire.BytesType)
		encoded = protowire.AppendVarint(encoded, uint64(len(event)+protowire.SizeTag(seqField)+protowire.SizeVarint(seq))) //nolint:gosec // G115: a size
		encoded = append(encoded, event...)
		encoded = protowire.AppendTag(encoded, seqField, protowire.VarintType)
		encoded = protowire.AppendVarint(encoded, seq)
	}
	return encoded
}

const (
	insertOrigin = `
INSERT INTO outbox_origin (origin, next_seq, epoch, published, published_at) VALUES ($1, 1, '', 0, 0) ON CONFLICT (origin) DO NOTHING`
	countOrigins = `
SELECT COUNT(*) FROM outbox_origin`
	selectOrigin = `
SELECT epoch, published, published_at FROM outbox_origin WHERE origin = $1`
)

// errOrigins is a mistake of configuration: an outbox numbers the events of one origin.
var errOrigins = errors.New("the database holds another origin's outbox")

// begin makes the origin's row if there is none and returns the progress written in it.
func (s store) begin(ctx context.Context) (progress, error) {
	if err := s.db.InTx(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Queue(ctx, insertOrigin, s.origin); err != nil {
			return err
		}
		var origins int64
		if err := tx.QueryRow(ctx, countOrigins).Scan(&origins); err != nil {
			return err
		}
		if origins != 1 {
			return errOrigins
		}
		return nil
	}); err != nil {
		return progress{}, fmt.Errorf("begin: %w", err)
	}
	var p progress
	var seq, at int64
	if err := s.db.QueryRow(ctx, selectOrigin, s.origin).Scan(&p.epoch, &seq, &at); err != nil {
		return progress{}, fmt.Errorf("load progress: %w", err)
	}
	p.seq, p.at = uint64(seq), sqldb.Time(at) //nolint:gosec // G115: written by us
	return p, nil
}

const saveProgress = `
UPDATE outbox_origin SET epoch = $2, published = $3, published_at = $4 WHERE origin = $1`

func (s store) save(ctx context.Context, p progress) error {
	err := s.db.InTx(ctx, func(tx *sqldb.Tx) error {
		return tx.Queue(ctx, saveProgress, s.origin, p.epoch, int64(p.seq), sqldb.Micros(p.at)) //nolint:gosec // G115: a number from this database
	})
	if err != nil {
		return fmt.Errorf("save progress: %w", err)
	}
	return nil
}

const (
	selectNumber = `
SELECT next_seq FROM outbox_origin WHERE origin = $1`
	raiseNumber = `
UPDATE outbox_origin SET next_seq = $2 WHERE origin = $1 AND next_seq < $2`
)

// raise makes the next number at least next. It reports whether it was less, and writes only then.
func (s store) raise(ctx context.Context, next uint64) (bool, error) {
	var is int64
	if err := s.db.QueryRow(ctx, selectNumber, s.origin).Scan(&is); err != nil {
		return false, fmt.Errorf("load number: %w", err)
	}
	if uint64(is) >= next { //nolint:gosec // G115: numbers start at 1
		return false, nil
	}
	var raised int64
	err := s.db.InTx(ctx, func(tx *sqldb.Tx) (err error) {
		raised, err = tx.Exec(ctx, raiseNumber, s.origin, int64(next)) //nolint:gosec // G115: a count of events
		return err
	})
	if err != nil {
		return false, fmt.Errorf("raise number: %w", err)
	}
	return raised > 0, nil
}

const (
	selectKept = `
SELECT first_seq, last_seq, lane, created_at FROM outbox_sent WHERE last_seq > $1 OR created_at >= $2 ORDER BY lane, first_seq`
	selectChunk = `
SELECT events FROM outbox_sent WHERE first_seq = $1`
)

// kept returns the runs, without their events, that hold a number above seq or were made at or after since; urgent
// ones first.
func (s store) kept(ctx context.Context, seq uint64, since time.Time) ([]chunk, error) {
	rows, err := s.db.Query(ctx, selectKept, int64(seq), sqldb.Micros(since)) //nolint:gosec // G115: a number from this database
	all, err := sqldb.Collect(rows, err, func(scan func(...any) error) (chunk, error) {
		var first, last, lane, at int64
		err := scan(&first, &last, &lane, &at)
		return chunk{first: uint64(first), last: uint64(last), lane: eventv1.Lane(lane), at: sqldb.Time(at)}, err //nolint:gosec // G115: written by us
	})
	if err != nil {
		return nil, fmt.Errorf("list what is kept: %w", err)
	}
	return all, nil
}

// load fills in a chunk's events; false: it has been forgotten meanwhile.
func (s store) load(ctx context.Context, c chunk) (chunk, bool, error) {
	err := s.db.QueryRow(ctx, selectChunk, int64(c.first)).Scan(&c.events) //nolint:gosec // G115: a number from this database
	if errors.Is(err, sqldb.ErrNoRows) {
		return c, false, nil
	}
	if err != nil {
		return c, false, fmt.Errorf("load chunk %d: %w", c.first, err)
	}
	return c, true, nil
}

const selectUnrecorded = `
SELECT created_at FROM outbox_sent WHERE last_seq > $1 ORDER BY first_seq LIMIT 1`

// unrecorded returns when the first chunk was made that holds a number above seq; zero: there is none.
func (s store) unrecorded(ctx context.Context, seq uint64) (time.Time, error) {
	var at int64
	err := s.db.QueryRow(ctx, selectUnrecorded, int64(seq)).Scan(&at) //nolint:gosec // G115: a count of events
	if err != nil && !errors.Is(err, sqldb.ErrNoRows) {
		return time.Time{}, fmt.Errorf("look for what is not recorded: %w", err)
	}
	return sqldb.Time(at), nil
}

const forgetSent = `
DELETE FROM outbox_sent
WHERE  first_seq <= $1 AND last_seq <= $1 AND last_seq <= (SELECT published FROM outbox_origin WHERE origin = $2)`

// forget deletes the chunks that end at or before seq, except those that are yet to be published: audit may have
// pulled them, others have not.
func (s store) forget(ctx context.Context, seq uint64) error {
	err := s.db.InTx(ctx, func(tx *sqldb.Tx) error {
		return tx.Queue(ctx, forgetSent, int64(seq), s.origin) //nolint:gosec // G115: a count of events
	})
	if err != nil {
		return fmt.Errorf("forget what is recorded: %w", err)
	}
	return nil
}

const (
	selectStart = `
SELECT COALESCE(MAX(first_seq), 0) FROM outbox_sent WHERE first_seq <= $1`
	selectNext = `
SELECT first_seq, last_seq, events FROM outbox_sent WHERE first_seq >= $1 AND first_seq <= $2 ORDER BY first_seq LIMIT 1`
)

// chunks calls f with every chunk that may hold a number from from to to, in order.
func (s store) chunks(ctx context.Context, from, to uint64, f func(chunk) error) error {
	var next int64
	if err := s.db.QueryRow(ctx, selectStart, int64(from)).Scan(&next); err != nil { //nolint:gosec // G115: checked by the caller
		return fmt.Errorf("find chunk of %d: %w", from, err)
	}
	for {
		var first, last int64
		var c chunk
		err := s.db.QueryRow(ctx, selectNext, next, int64(to)).Scan(&first, &last, &c.events) //nolint:gosec // G115: checked by the caller
		if errors.Is(err, sqldb.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read chunk: %w", err)
		}
		c.first, c.last = uint64(first), uint64(last) //nolint:gosec // G115: written by us
		if err := f(c); err != nil {
			return err
		}
		next = last + 1
	}
}

const insertParked = `
INSERT INTO outbox_parked (consumer, event_id, event, error, parked_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (consumer, event_id) DO NOTHING`

func (s store) park(ctx context.Context, p parked) error {
	err := s.db.InTx(ctx, func(tx *sqldb.Tx) error {
		return tx.Queue(ctx, insertParked, p.consumer, p.id, p.event, p.cause, sqldb.Micros(p.at))
	})
	if err != nil {
		return fmt.Errorf("park event %s: %w", p.id, err)
	}
	return nil
}

const selectParked = `
SELECT consumer, event_id, event, error, parked_at FROM outbox_parked
WHERE  consumer > $1 OR (consumer = $1 AND event_id > $2)
ORDER BY consumer, event_id LIMIT 200`

// parkedAfter returns up to 200 parked events after one, by consumer and id.
func (s store) parkedAfter(ctx context.Context, consumer, id string) ([]parked, error) {
	rows, err := s.db.Query(ctx, selectParked, consumer, id)
	page, err := sqldb.Collect(rows, err, func(scan func(...any) error) (parked, error) {
		var p parked
		var at int64
		err := scan(&p.consumer, &p.id, &p.event, &p.cause, &at)
		p.at = sqldb.Time(at)
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("list parked events: %w", err)
	}
	return page, nil
}

const (
	selectFirst = `
SELECT lengths, events FROM outbox WHERE lane = $1 ORDER BY id LIMIT 1`
	selectMade = `
SELECT COALESCE(MIN(created_at), 0) FROM outbox_sent WHERE first_seq > (SELECT MAX(published) FROM outbox_origin)`
)

// oldest returns an event of the first row of each lane, encoded, and when the oldest chunk not known to be published
// was made; nothing and zero where there is none.
func (s store) oldest(ctx context.Context) (first [][]byte, made time.Time, err error) {
	for _, lane := range lanes {
		var lengths string
		var data []byte
		err := s.db.QueryRow(ctx, selectFirst, int64(lane)).Scan(&lengths, &data)
		if errors.Is(err, sqldb.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, time.Time{}, fmt.Errorf("look for the oldest event: %w", err)
		}
		first = append(first, unpack(lengths, data)[0])
	}
	var at int64
	if err := s.db.QueryRow(ctx, selectMade).Scan(&at); err != nil {
		return nil, time.Time{}, fmt.Errorf("look for the oldest chunk: %w", err)
	}
	return first, sqldb.Time(at), nil
}
