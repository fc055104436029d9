package main

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/packed"
	"github.com/tenurehq/tenure/pkg/sqldb"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

// samples are rows and messages as a Tenure made them: of each table the row of median size.
type samples struct {
	tables map[string]sampled // by "service.table", where the first application stands for all
	events map[string]bus.Event
}

type sampled struct {
	columns []string
	row     row
}

// takeSamples reads them from what is stored.
func takeSamples(ctx context.Context, o *observer) (*samples, error) {
	s := &samples{tables: map[string]sampled{}, events: map[string]bus.Event{}}
	for name, size := range map[string]string{
		"ingest.deliveries": "LENGTH(body)", "ingest.employments": "person", "ingest.user_names": "name", "ingest.people": "LENGTH(state)",
		"ingest.facts": "LENGTH(record)", "ingest.happenings": "LENGTH(facts)",
		"policy.decisions": "person", "policy.desired": "LENGTH(access)", "policy.history": "LENGTH(changes)",
		worker(0) + ".targets": "LENGTH(observed)", worker(0) + ".journal": "LENGTH(intent) + LENGTH(observed)",
	} {
		service, table, _ := strings.Cut(name, ".")
		n, err := o.number(ctx, service, "SELECT COUNT(*) FROM "+table)
		if err != nil {
			return nil, err
		}
		columns, row, err := o.sample(ctx, service, fmt.Sprintf("SELECT * FROM %s ORDER BY %s LIMIT 1 OFFSET %d", table, size, n/2))
		if err != nil {
			return nil, err
		}
		s.tables[name] = sampled{columns, row}
	}
	origins := map[string]string{"Lifecycle": "ingest", "Access": "policy", "Intent": "provision/" + appName(0), "Outcome": "provision/" + appName(0)}
	for first := int64(math.MaxInt64); len(s.events) < len(origins); {
		var events []bus.Event
		var err error
		if first, events, err = o.batchBefore(ctx, first); err != nil {
			return nil, fmt.Errorf("look in the log for an event of each kind: %w", err)
		}
		for _, e := range events {
			if kind := e.Type[strings.LastIndexByte(e.Type, '.')+1:]; origins[kind] == e.Origin {
				s.events[kind] = e
			}
		}
	}
	return s, nil
}

// batchBefore is the batch that audit appended before that of entry n, and its own first entry.
func (o *observer) batchBefore(ctx context.Context, n int64) (first int64, events []bus.Event, err error) {
	var lengths string
	var data []byte
	err = o.dbs["audit"].QueryRowContext(ctx, "SELECT first, lengths, data FROM batches WHERE first < $1 ORDER BY first DESC LIMIT 1", n).Scan(&first, &lengths, &data)
	if err != nil {
		return 0, nil, err
	}
	leaves, err := packed.Unpack(lengths, data)
	if err != nil {
		return 0, nil, err
	}
	for _, leaf := range leaves {
		var e eventv1.Event
		if err := proto.Unmarshal(leaf, &e); err != nil {
			return 0, nil, err
		}
		events = append(events, bus.FromProto(&e))
	}
	return first, events, nil
}

// message is a sampled event with a fresh id, as the outbox keeps it and as the stream takes it.
func (s *samples) message(kind, subject string) (bus.Event, []byte, error) {
	e := s.events[kind]
	e.ID, e.Subject = uuid.Must(uuid.NewV7()).String(), subject
	encoded, err := proto.Marshal(e.Proto())
	return e, encoded, err
}

// insert is an INSERT of rows like the sample, each with what it has of its own; suffix may be an ON CONFLICT clause.
func (s *samples) insert(w *writer, name, suffix string, own ...row) error {
	t := s.tables[name]
	_, table, _ := strings.Cut(name, ".")
	most := 1000 / len(t.columns) // as the services do it: about 1,000 parameters in a statement
	for len(own) > 0 {
		n := min(len(own), most)
		args := make([]any, 0, n*len(t.columns))
		for _, o := range own[:n] {
			for _, c := range t.columns {
				args = append(args, value(t.row, o, c))
			}
		}
		if err := w.exec("INSERT INTO "+table+" ("+strings.Join(t.columns, ", ")+") VALUES "+sqldb.Values(n, len(t.columns))+suffix, args...); err != nil {
			return fmt.Errorf("insert %s: %w", name, err)
		}
		own = own[n:]
	}
	return nil
}

// upsert is the suffix that makes an INSERT an update of the columns other than the key's.
func (s *samples) upsert(name string, key ...string) string {
	set := map[string]bool{}
	for _, c := range s.tables[name].columns {
		set[c] = true
	}
	for _, c := range key {
		delete(set, c)
	}
	var parts []string
	for _, c := range s.tables[name].columns {
		if set[c] {
			parts = append(parts, c+" = excluded."+c)
		}
	}
	return " ON CONFLICT (" + strings.Join(key, ", ") + ") DO UPDATE SET " + strings.Join(parts, ", ")
}

func value(sample, own row, column string) any {
	v, ok := own[column]
	if !ok {
		v = sample[column]
	}
	if b, ok := v.([]byte); v == nil || ok && len(b) == 0 {
		return []byte{} // SQLite's driver reads an empty one as nil
	}
	return v
}
