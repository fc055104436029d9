package store

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tenurehq/tenure/pkg/sqldb"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/ingest/internal/wire"
	"github.com/tenurehq/tenure/services/ingest/timeline"
)

// Fact is one word about an employment of a person.
type Fact struct {
	Person string
	timeline.Fact
}

// AddFacts stores facts that are new.
func (t Tx) AddFacts(ctx context.Context, facts []Fact) error {
	const columns = 14
	for chunk := range chunks(facts) {
		args := make([]any, 0, columns*len(chunk))
		for _, f := range chunk {
			record, err := proto.Marshal(wire.Record(f.Record))
			if err != nil {
				return fmt.Errorf("encode record: %w", err)
			}
			args = append(args, f.Person, f.DeliveryID, int64(f.Item), f.Source, f.Key, f.Employment.Source,
				f.Employment.ExternalID, sqldb.Micros(f.Effective), sqldb.Micros(f.SourceTime), sqldb.Micros(f.Start),
				sqldb.Micros(f.End), sqldb.Micros(f.Known), f.Actor, record)
		}
		insert := `INSERT INTO facts (person, delivery, item, source, key, employment_source, external_id, effective_at,
source_time, start_at, end_at, known_at, actor, record) VALUES ` + sqldb.Values(len(chunk), columns)
		if err := t.Queue(ctx, insert, args...); err != nil {
			return fmt.Errorf("insert facts: %w", err)
		}
	}
	return nil
}

// Facts returns all that was ever said about these people, in no order.
func (r reader) Facts(ctx context.Context, people []string) ([]Fact, error) {
	var facts []Fact
	for chunk := range chunks(people) {
		query := `
SELECT person, delivery, item, source, key, employment_source, external_id, effective_at, source_time, start_at, end_at,
       known_at, actor, record
FROM facts WHERE person IN ` + sqldb.Values(1, len(chunk))
		rows, err := r.q.Query(ctx, query, anyOf(chunk)...)
		found, err := sqldb.Collect(rows, err, scanFact)
		if err != nil {
			return nil, fmt.Errorf("read facts: %w", err)
		}
		facts = append(facts, found...)
	}
	return facts, nil
}

func scanFact(scan func(...any) error) (Fact, error) {
	var f Fact
	var effective, sourceTime, start, end, known int64
	var record []byte
	err := scan(&f.Person, &f.DeliveryID, &f.Item, &f.Source, &f.Key, &f.Employment.Source, &f.Employment.ExternalID,
		&effective, &sourceTime, &start, &end, &known, &f.Actor, &record)
	if err != nil {
		return Fact{}, err
	}
	var stored peoplev1.Record
	if err := proto.Unmarshal(record, &stored); err != nil {
		return Fact{}, fmt.Errorf("decode record: %w", err)
	}
	f.Record = wire.ToRecord(&stored)
	f.Effective, f.SourceTime, f.Known = sqldb.Time(effective), sqldb.Time(sourceTime), sqldb.Time(known)
	f.Start, f.End = sqldb.Time(start), sqldb.Time(end)
	return f, nil
}

// Happening is one lifecycle event with what its commitment is over.
type Happening struct {
	Person  string
	EventID string
	At      time.Time
	Nonce   []byte
	Facts   []byte
}

// AddHappenings stores happenings.
func (t Tx) AddHappenings(ctx context.Context, happenings []Happening) error {
	const columns = 5
	for chunk := range chunks(happenings) {
		args := make([]any, 0, columns*len(chunk))
		for _, h := range chunk {
			args = append(args, h.Person, h.EventID, sqldb.Micros(h.At), h.Nonce, h.Facts)
		}
		insert := `INSERT INTO happenings (person, event_id, at, nonce, facts) VALUES ` + sqldb.Values(len(chunk), columns)
		if err := t.Queue(ctx, insert, args...); err != nil {
			return fmt.Errorf("insert happenings: %w", err)
		}
	}
	return nil
}

// Happenings returns what happened to people, in order.
func (r reader) Happenings(ctx context.Context, people ...string) ([]Happening, error) {
	query := `SELECT person, event_id, at, nonce, facts FROM happenings WHERE person IN ` + sqldb.Values(1, len(people)) +
		` ORDER BY at, event_id`
	rows, err := r.q.Query(ctx, query, anyOf(people)...)
	happenings, err := sqldb.Collect(rows, err, func(scan func(...any) error) (Happening, error) {
		var h Happening
		var at int64
		err := scan(&h.Person, &h.EventID, &at, &h.Nonce, &h.Facts)
		h.At = sqldb.Time(at)
		return h, err
	})
	if err != nil {
		return nil, fmt.Errorf("read happenings: %w", err)
	}
	return happenings, nil
}
