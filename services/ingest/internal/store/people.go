package store

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tenurehq/tenure/pkg/sqldb"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/ingest/internal/wire"
	"github.com/tenurehq/tenure/services/ingest/timeline"
)

// Person is one human being as known at State.At.
type Person struct {
	ID         string
	Version    int64
	UserName   string // empty until one is allocated
	MergedInto string // who they turned out to be; empty: nobody else
	State      timeline.State
}

// Main is the employment that counts most; none for somebody who turned out to be somebody else.
func (p *Person) Main() timeline.Employment {
	if len(p.State.Employments) == 0 {
		return timeline.Employment{}
	}
	return p.State.Employments[0].Employment
}

// Has tells whether the employment is one of the person's.
func (p *Person) Has(e timeline.Employment) bool {
	return slices.ContainsFunc(p.State.Employments, func(s timeline.Standing) bool { return s.Employment == e })
}

// Employed finds the people of the employments of one source, by external id.
func (r reader) Employed(ctx context.Context, source string, externalIDs []string) (map[string]string, error) {
	const person = `SELECT e.person FROM employments e WHERE e.external_id = asked.id AND e.source = `
	people, err := r.lookUp(ctx, person, source, externalIDs)
	return people, wrapped(err, "find people by employment")
}

// lookUp asks for a person by each of the ids that a source gave, with a query that lacks the source; those it does not
// find are left out. It is asked for each id, not with a list of them: PostgreSQL takes tables that grew since it counted
// them for small, and compares every row of the source with the whole list.
func (r reader) lookUp(ctx context.Context, person, source string, ids []string) (map[string]string, error) {
	people := make(map[string]string, len(ids))
	for chunk := range chunks(ids) {
		query := `WITH asked (id) AS (VALUES ` + sqldb.Values(len(chunk), 1) + `) SELECT id, COALESCE((` + person +
			fmt.Sprintf(`$%d), '') FROM asked`, len(chunk)+1)
		rows, err := r.q.Query(ctx, query, append(anyOf(chunk), source)...)
		found, err := sqldb.Collect(rows, err, scanPair)
		if err != nil {
			return nil, err
		}
		for _, pair := range found {
			if pair[1] != "" {
				people[pair[0]] = pair[1]
			}
		}
	}
	return people, nil
}

// Hire opens employments for people whose ids the caller made, by external id, and returns those that were not there
// before: until this transaction ends nobody else can know of them, so their people need no lock.
func (t Tx) Hire(ctx context.Context, source string, people map[string]string) (map[string]bool, error) {
	ids := make([]string, 0, len(people))
	for id := range people {
		ids = append(ids, id)
	}
	slices.Sort(ids) // two batches that meet wait for one another in the same order
	hired := make(map[string]bool, len(ids))
	for chunk := range chunks(ids) {
		args := make([]any, 0, 3*len(chunk))
		for _, id := range chunk {
			args = append(args, source, id, people[id])
		}
		insert := `INSERT INTO employments (source, external_id, person) VALUES ` + sqldb.Values(len(chunk), 3) +
			` ON CONFLICT (source, external_id) DO NOTHING RETURNING external_id`
		rows, err := t.Query(ctx, insert, args...)
		opened, err := sqldb.Collect(rows, err, scanString)
		if err != nil {
			return nil, fmt.Errorf("insert employments: %w", err)
		}
		for _, id := range opened {
			hired[id] = true
		}
	}
	return hired, nil
}

// Lock raises the version of these people and with it takes their rows until the transaction ends: it is the first
// statement of whatever decides about them. Ids that are not known are left out.
func (t Tx) Lock(ctx context.Context, ids []string) ([]Person, error) {
	ids = slices.Sorted(slices.Values(ids))
	var people []Person
	for chunk := range chunks(ids) {
		update := sqldb.Given("who", len(chunk), "TEXT") + `
UPDATE people SET version = version + 1 FROM given WHERE id = given.who RETURNING ` + personColumns
		rows, err := t.Query(ctx, update, anyOf(chunk)...)
		locked, err := sqldb.Collect(rows, err, scanPerson)
		if err != nil {
			return nil, fmt.Errorf("lock people: %w", err)
		}
		people = append(people, locked...)
	}
	return people, nil
}

// LockDue is Lock of up to limit people for whom time alone changes something by now, longest due first.
func (t Tx) LockDue(ctx context.Context, now time.Time, limit int) ([]Person, error) {
	const query = `SELECT id FROM people WHERE next_due > 0 AND next_due <= $1 ORDER BY next_due, id LIMIT $2`
	rows, err := t.Query(ctx, query, sqldb.Micros(now), limit)
	ids, err := sqldb.Collect(rows, err, scanString)
	if err != nil {
		return nil, fmt.Errorf("find due people: %w", err)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	slices.Sort(ids)
	// Due is asked again, because somebody may have decided between the two statements.
	update := sqldb.Given("who, now", len(ids), "TEXT", "BIGINT") + `
UPDATE people SET version = version + 1 FROM given WHERE id = given.who AND next_due > 0 AND next_due <= given.now RETURNING ` + personColumns
	args := make([]any, 0, 2*len(ids))
	for _, id := range ids {
		args = append(args, id, sqldb.Micros(now))
	}
	rows, err = t.Query(ctx, update, args...)
	people, err := sqldb.Collect(rows, err, scanPerson)
	if err != nil {
		return nil, fmt.Errorf("lock due people: %w", err)
	}
	return people, nil
}

// SavePeople stores people who are locked or new.
func (t Tx) SavePeople(ctx context.Context, people []Person) error {
	const columns = 9
	for chunk := range chunks(people) {
		args := make([]any, 0, columns*len(chunk))
		for _, p := range chunk {
			state, err := encodeState(p)
			if err != nil {
				return err
			}
			args = append(args, p.ID, p.Version, p.UserName, int64(p.State.Status), strings.ToLower(p.State.Record.Email),
				p.State.Record.Department, sqldb.Micros(p.State.At), sqldb.Micros(p.State.Next), state)
		}
		insert := `INSERT INTO people (id, version, user_name, status, email, department, decided_at, next_due, state) VALUES ` +
			sqldb.Values(len(chunk), columns) + `
ON CONFLICT (id) DO UPDATE SET version = excluded.version, user_name = excluded.user_name, status = excluded.status,
    email = excluded.email, department = excluded.department, decided_at = excluded.decided_at,
    next_due = excluded.next_due, state = excluded.state`
		if err := t.Queue(ctx, insert, args...); err != nil {
			return fmt.Errorf("save people: %w", err)
		}
	}
	return nil
}

const personColumns = `id, version, user_name, merged_into, status, decided_at, next_due, state`

func scanPerson(scan func(...any) error) (Person, error) {
	var p Person
	var status uint8
	var decidedAt, nextDue int64
	var state []byte
	if err := scan(&p.ID, &p.Version, &p.UserName, &p.MergedInto, &status, &decidedAt, &nextDue, &state); err != nil {
		return Person{}, err
	}
	p.State.At, p.State.Next, p.State.Status = sqldb.Time(decidedAt), sqldb.Time(nextDue), timeline.Status(status)
	if err := decodeState(state, &p); err != nil {
		return Person{}, err
	}
	return p, nil
}

// encodeState leaves out the record of somebody with employments, which is the first one's.
func encodeState(p Person) ([]byte, error) {
	stored := &peoplev1.Person{
		Employments: make([]*peoplev1.Employment, len(p.State.Employments)),
		StartedAt:   wire.Time(p.State.StartedAt),
		EndedAt:     wire.Time(p.State.EndedAt),
	}
	for i, e := range p.State.Employments {
		stored.Employments[i] = wire.Employment(e)
	}
	if len(stored.Employments) == 0 {
		stored.Record = wire.Record(p.State.Record)
	}
	state, err := proto.Marshal(stored)
	if err != nil {
		return nil, fmt.Errorf("encode state of %s: %w", p.ID, err)
	}
	return state, nil
}

func decodeState(state []byte, into *Person) error {
	var stored peoplev1.Person
	if err := proto.Unmarshal(state, &stored); err != nil {
		return fmt.Errorf("decode state of %s: %w", into.ID, err)
	}
	s := &into.State
	s.StartedAt, s.EndedAt = wire.ToTime(stored.GetStartedAt()), wire.ToTime(stored.GetEndedAt())
	for _, e := range stored.GetEmployments() {
		s.Employments = append(s.Employments, wire.ToStanding(e))
	}
	if len(s.Employments) == 0 {
		s.Record = wire.ToRecord(stored.GetRecord())
		return nil
	}
	first := &s.Employments[0]
	s.Record = first.Record
	if first.Status == timeline.StatusUnknown { // stored when a person had one employment, which stood as the person did
		first.Status, first.StartedAt, first.EndedAt = s.Status, s.StartedAt, s.EndedAt
	}
	return nil
}

// chunks cuts a list into parts of one statement each: a batch of 1,000 is two of each sort, and no row so wide that it
// has too many parameters.
func chunks[T any](all []T) iter.Seq[[]T] {
	const most = 500
	return slices.Chunk(all, most)
}
