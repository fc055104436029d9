package main

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/packed"
	"github.com/tenurehq/tenure/pkg/sqldb"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

const normal = eventv1.Lane_LANE_NORMAL

// writer makes the row writes of one transaction and counts them.
type writer struct {
	ctx  context.Context //nolint:containedctx // of one transaction
	tx   *sqldb.Tx
	rows int64
}

func (w *writer) exec(text string, args ...any) error {
	n, err := w.tx.Exec(w.ctx, text, args...)
	w.rows += n
	return err
}

// inTx is one transaction; it returns how long it took until it was durable.
func (f *floor) inTx(ctx context.Context, db *sqldb.DB, write func(*writer) error) (time.Duration, error) {
	var rows int64
	began := time.Now()
	err := db.InTx(ctx, func(tx *sqldb.Tx) error {
		w := &writer{ctx: ctx, tx: tx}
		err := write(w)
		rows = w.rows
		return err
	})
	f.rows.Add(rows)
	return time.Since(began), err
}

func fresh() string { return uuid.Must(uuid.NewV7()).String() }

// receive is what a webhook writes.
func (f *floor) receive(ctx context.Context, r replayed) error {
	event, encoded, err := f.samples.message("Lifecycle", "tenure.lifecycle.normal.joiner."+r.person)
	if err != nil {
		return err
	}
	waiting := f.relays["ingest"].announce(message{event, encoded})
	delivery, s := fresh(), f.samples
	took, err := f.inTx(ctx, f.dbs["ingest"], func(w *writer) error {
		if err := s.insert(w, "ingest.deliveries", " ON CONFLICT (source, key, variant) DO NOTHING", row{"id": delivery, "key": delivery}); err != nil {
			return err
		}
		if r.joiner {
			if err := s.insert(w, "ingest.employments", " ON CONFLICT (source, external_id) DO NOTHING", row{"external_id": r.person, "person": r.person}); err != nil {
				return err
			}
			if err := s.insert(w, "ingest.user_names", " ON CONFLICT (name) DO NOTHING", row{"name": r.person, "person": r.person}); err != nil {
				return err
			}
		} else if err := w.exec("UPDATE people SET version = version + 1 WHERE id = $1", r.person); err != nil {
			return err
		}
		if err := s.insert(w, "ingest.facts", "", row{"person": r.person, "delivery": delivery}); err != nil {
			return err
		}
		if err := s.insert(w, "ingest.people", s.upsert("ingest.people", "id"), row{"id": r.person}); err != nil {
			return err
		}
		if err := s.insert(w, "ingest.happenings", "", row{"person": r.person, "event_id": event.ID}); err != nil {
			return err
		}
		return outboxAdd(w, waiting)
	})
	if err != nil {
		return err
	}
	f.spent(r.person, -1, took)
	f.relays["ingest"].wake()
	return nil
}

// message is an event, and as it is stored.
type message struct {
	event   bus.Event
	encoded []byte
}

// outboxRow is a row of the outbox: events of one transaction.
type outboxRow struct {
	id      string
	events  []bus.Event
	encoded [][]byte
}

// outboxAdd is what Outbox.Add writes.
func outboxAdd(w *writer, rows []outboxRow) error {
	var args []any
	for _, r := range rows {
		lengths, events := packed.Pack(r.encoded)
		args = append(args, int64(normal), r.id, lengths, events)
	}
	w.rows += int64(len(rows))
	return w.tx.Queue(w.ctx, "INSERT INTO outbox (lane, id, lengths, events) VALUES "+sqldb.Values(len(rows), 4), args...)
}

// relay is what the outbox's relay writes and publishes.
type relay struct {
	floor   *floor
	db      *sqldb.DB
	service string
	added   chan struct{}
	gather  time.Duration

	mu   sync.Mutex
	rows map[string]outboxRow // not moved yet
	seq  uint64
	from sync.Map // when the chunk of an event began to be published
}

// announce tells of events that are about to be committed, and returns their rows: once they are, whoever moves rows
// finds them.
func (r *relay) announce(all ...message) []outboxRow {
	const full = 64 // events in a row
	var rows []outboxRow
	for some := range slices.Chunk(all, full) {
		var row outboxRow
		for _, m := range some {
			row.id = max(row.id, m.event.ID)
			row.events, row.encoded = append(row.events, m.event), append(row.encoded, m.encoded)
		}
		rows = append(rows, row)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rows == nil {
		r.rows = map[string]outboxRow{}
	}
	for _, row := range rows {
		r.rows[row.id] = row
	}
	return rows
}

// wake says that they are.
func (r *relay) wake() {
	select {
	case r.added <- struct{}{}:
	default:
	}
}

func (r *relay) run(ctx context.Context) error {
	forget := time.NewTicker(time.Second)
	defer forget.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-forget.C:
			if _, err := r.floor.inTx(ctx, r.db, func(w *writer) error {
				return w.exec("DELETE FROM outbox_sent WHERE last_seq <= $1", int64(r.seq)) //nolint:gosec // G115: a count
			}); err != nil && ctx.Err() == nil {
				return err
			}
		case <-r.added:
			if r.gather > 0 {
				time.Sleep(r.gather)
			}
			if err := r.move(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// move makes a chunk of what is waiting and publishes it.
func (r *relay) move(ctx context.Context) error {
	r.mu.Lock()
	last := ""
	for id := range r.rows {
		last = max(last, id)
	}
	r.mu.Unlock()
	if last == "" {
		return nil
	}
	var ids []string
	var events []bus.Event
	took, err := r.floor.inTx(ctx, r.db, func(w *writer) error {
		ids, events = nil, nil
		chunk := make([]byte, 0, 1<<16)
		rows, err := w.tx.Query(ctx, "DELETE FROM outbox WHERE lane = $1 AND id <= $2 RETURNING id, lengths, events", int64(normal), last)
		ids, err = sqldb.Collect(rows, err, func(scan func(...any) error) (string, error) {
			var id, lengths string
			var encoded []byte
			err := scan(&id, &lengths, &encoded)
			chunk = append(chunk, encoded...)
			return id, err
		})
		if err != nil || len(ids) == 0 {
			return err
		}
		w.rows += int64(len(ids))
		events = r.announced(ids)
		if err := w.exec("UPDATE outbox_origin SET next_seq = next_seq + $2, epoch = $3, published = $4, published_at = $5 WHERE origin = $1",
			r.service, len(events), "epoch", int64(r.seq), time.Now().UnixMicro()); err != nil { //nolint:gosec // G115: a count
			return err
		}
		return w.exec("INSERT INTO outbox_sent (first_seq, last_seq, lane, created_at, events) VALUES ($1, $2, $3, $4, $5)",
			int64(r.seq)+1, int64(r.seq)+int64(len(events)), int64(normal), time.Now().UnixMicro(), chunk) //nolint:gosec // G115: a count
	})
	if err != nil || len(events) == 0 {
		return err
	}
	r.mu.Lock()
	for _, id := range ids {
		delete(r.rows, id)
	}
	r.mu.Unlock()
	seen := map[string]bool{}
	for i := range events {
		r.seq++
		events[i].Seq, events[i].Origin, events[i].Time = r.seq, r.service, time.Now()
		if person := personOf(events[i].Subject); !seen[person] {
			seen[person] = true
			r.floor.spent(person, -1, took)
		}
	}
	began := time.Now()
	for _, e := range events {
		r.from.Store(e.ID, began)
	}
	r.floor.sent.Add(int64(len(events)))
	return r.floor.bus.PublishChunk(ctx, events)
}

// announced returns the events of rows.
func (r *relay) announced(ids []string) []bus.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var events []bus.Event
	for _, id := range ids {
		events = append(events, r.rows[id].events...)
	}
	return events
}

// hop adds the time that an event took from its publishing to now.
func (r *relay) hop(e bus.Event, app int) {
	if began, ok := r.from.LoadAndDelete(e.ID); ok {
		r.floor.spent(personOf(e.Subject), app, time.Since(began.(time.Time)))
	}
}

func personOf(subject string) string { return subject[strings.LastIndexByte(subject, '.')+1:] }

// decide is what policy writes for a batch of lifecycle events.
func (f *floor) decide(ctx context.Context, batch []bus.Event) error {
	s := f.samples
	var decisions, desired, history []row
	var events []message
	for _, e := range batch {
		person := personOf(e.Subject)
		f.relays["ingest"].hop(e, -1)
		decisions = append(decisions, row{"person": person})
		history = append(history, row{"person": person, "n": int64(e.Seq)}) //nolint:gosec // G115: a count
		for n := range applications {
			event, encoded, err := s.message("Access", bus.AccessSubject(normal, appName(n), person))
			if err != nil {
				return err
			}
			events = append(events, message{event, encoded})
			desired = append(desired, row{"person": person, "application": appName(n)})
		}
	}
	waiting := f.relays["policy"].announce(events...)
	took, err := f.inTx(ctx, f.dbs["policy"], func(w *writer) error {
		if err := s.insert(w, "policy.decisions", s.upsert("policy.decisions", "person"), decisions...); err != nil {
			return err
		}
		if err := s.insert(w, "policy.desired", s.upsert("policy.desired", "person", "application"), desired...); err != nil {
			return err
		}
		if err := s.insert(w, "policy.history", "", history...); err != nil {
			return err
		}
		return outboxAdd(w, waiting)
	})
	if err != nil {
		return err
	}
	for _, e := range batch {
		f.spent(personOf(e.Subject), -1, took)
	}
	f.relays["policy"].wake()
	return nil
}

// record is what audit writes for a batch of all events.
func (f *floor) record(ctx context.Context, batch []bus.Event) error {
	at := f.leaves.Load()
	var leaves [][]byte
	origins := map[string]int64{}
	for _, e := range batch {
		_, encoded, err := f.samples.message(e.Type[strings.LastIndexByte(e.Type, '.')+1:], e.Subject)
		if err != nil {
			return err
		}
		leaves = append(leaves, encoded)
		origins[e.Origin] = int64(e.Seq) //nolint:gosec // G115: a count
	}
	lengths, data := packed.Pack(leaves)
	_, err := f.inTx(ctx, f.dbs["audit"], func(w *writer) error {
		if err := w.exec("UPDATE head SET size = $1, root = $2", at+int64(len(batch)), make([]byte, 32)); err != nil {
			return err
		}
		if err := w.exec("INSERT INTO batches (first, recorded_at, lengths, data) VALUES ($1, $2, $3, $4)", at, time.Now().UnixMicro(), lengths, data); err != nil {
			return err
		}
		if err := w.exec("INSERT INTO hashes (first, data) VALUES ($1, $2)", at, make([]byte, 64*len(batch))); err != nil {
			return err
		}
		for origin, seq := range origins {
			if err := w.exec("INSERT INTO origins (origin, seq) VALUES ($1, $2) ON CONFLICT (origin) DO UPDATE SET seq = excluded.seq", origin, seq); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	f.leaves.Add(int64(len(batch)))
	return nil
}
