package store

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tenurehq/tenure/pkg/sqldb"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
)

// Status is what became of something that was held.
type Status int64

// The states; NotHeld is never stored.
const (
	NotHeld Status = iota
	Open
	Released // by two people; done with the next decision, or when the worker asks again
	Rejected // by two people; the person keeps what they have until a newer decision
)

// Held is what is kept back about a person: a decision, or what a worker asked for in one application.
type Held struct {
	Person      string
	Application string // empty: a decision
	Hold        string
	Status      Status
	Digest      []byte
	Effects     *accessv1.HeldPerson
	Release     string
	OpenedAt    time.Time
	Kept        Decided // the decision that holds meanwhile; of a decision only
}

const heldColumns = `h.person, h.application, h.hold, h.status, h.digest, h.effects, h.release_id, h.opened_at`

func scanHeld(scan func(...any) error) (Held, error) {
	var h Held
	var status, at int64
	var effects []byte
	if err := scan(&h.Person, &h.Application, &h.Hold, &status, &h.Digest, &effects, &h.Release, &at); err != nil {
		return h, err
	}
	h.Status, h.OpenedAt, h.Effects = Status(status), sqldb.Time(at), &accessv1.HeldPerson{}
	return h, proto.Unmarshal(effects, h.Effects)
}

// Held returns what is held of these people's decisions, whatever its status.
func (s *Store) Held(ctx context.Context, people []string) (map[string]Held, error) {
	found := map[string]Held{}
	for chunk := range chunks(people, 1) {
		rows, err := s.db.Query(ctx, `SELECT `+heldColumns+` FROM holds h WHERE h.application = '' AND h.person IN `+
			sqldb.Values(1, len(chunk)), anyOf(chunk)...)
		all, err := sqldb.Collect(rows, err, scanHeld)
		if err != nil {
			return nil, fmt.Errorf("read holds: %w", err)
		}
		for _, h := range all {
			found[h.Person] = h
		}
	}
	return found, nil
}

// AllHeld returns everything with this status, in order of person and application.
func (s *Store) AllHeld(ctx context.Context, status Status) ([]Held, error) {
	rows, err := s.db.Query(ctx, `SELECT `+heldColumns+` FROM holds h WHERE h.status = $1 ORDER BY h.person, h.application`, int64(status))
	all, err := sqldb.Collect(rows, err, scanHeld)
	if err != nil {
		return nil, fmt.Errorf("read holds: %w", err)
	}
	return all, nil
}

// CountHeld returns how many holds are open, and of how many people.
func (s *Store) CountHeld(ctx context.Context) (holds, people int64, err error) {
	const query = `SELECT COUNT(DISTINCT hold), COUNT(DISTINCT person) FROM holds WHERE status = $1`
	if err := s.db.QueryRow(ctx, query, int64(Open)).Scan(&holds, &people); err != nil {
		return 0, 0, fmt.Errorf("count holds: %w", err)
	}
	return holds, people, nil
}

// ReleasedPeople returns people after this one, in order, whose held decision was released and is not done yet.
func (s *Store) ReleasedPeople(ctx context.Context, after string, limit int) ([]string, error) {
	const query = `
SELECT person FROM holds WHERE person > $1 AND application = '' AND status = $2 ORDER BY person LIMIT $3`
	rows, err := s.db.Query(ctx, query, after, int64(Released), limit)
	people, err := sqldb.Collect(rows, err, scanText)
	if err != nil {
		return nil, fmt.Errorf("read released holds: %w", err)
	}
	return people, nil
}

// HeldOf returns what is held of a person by place: an application, or empty for a decision. The brake must be
// locked.
func (t Tx) HeldOf(ctx context.Context, person string) (map[string]Held, error) {
	rows, err := t.Query(ctx, `SELECT `+heldColumns+` FROM holds h WHERE h.person = $1`, person)
	all, err := sqldb.Collect(rows, err, scanHeld)
	if err != nil {
		return nil, fmt.Errorf("read holds: %w", err)
	}
	found := map[string]Held{}
	for _, h := range all {
		found[h.Application] = h
	}
	return found, nil
}

// OfHold returns what is open of a hold, in order of person and application. The brake must be locked.
func (t Tx) OfHold(ctx context.Context, hold string) ([]Held, error) {
	rows, err := t.Query(ctx, `SELECT `+heldColumns+` FROM holds h WHERE h.hold = $1 AND h.status = $2 ORDER BY h.person, h.application`,
		hold, int64(Open))
	all, err := sqldb.Collect(rows, err, scanHeld)
	if err != nil {
		return nil, fmt.Errorf("read a hold: %w", err)
	}
	return all, nil
}

// PutHeld keeps something back. What was kept back of the same person in the same place is replaced; the decision that
// holds meanwhile stays the one of before. The brake must be locked.
func (t Tx) PutHeld(ctx context.Context, held []Held) error {
	const columns = 14
	for chunk := range chunks(held, columns) {
		args := make([]any, 0, columns*len(chunk))
		for i := range chunk {
			h := &chunk[i]
			effects, err := proto.Marshal(h.Effects)
			if err != nil {
				return fmt.Errorf("encode a hold: %w", err)
			}
			args = append(args, h.Person, h.Application, h.Hold, int64(h.Status), h.Digest, effects, h.Release, sqldb.Micros(h.OpenedAt),
				h.Kept.N, h.Kept.PersonVersion, h.Kept.ModelSeq, h.Kept.Run, sqldb.Micros(h.Kept.EndedAt), sqldb.Micros(h.Kept.KnownAt))
		}
		put := `
INSERT INTO holds (person, application, hold, status, digest, effects, release_id, opened_at,
                   kept_n, kept_version, kept_model_seq, kept_employment, kept_ended_at, kept_end_known_at)
VALUES ` + sqldb.Values(len(chunk), columns) + `
ON CONFLICT (person, application) DO UPDATE
SET hold = excluded.hold, status = excluded.status, digest = excluded.digest, effects = excluded.effects,
    release_id = excluded.release_id, opened_at = excluded.opened_at`
		if err := t.Queue(ctx, put, args...); err != nil {
			return fmt.Errorf("write holds: %w", err)
		}
	}
	return nil
}

// DropHeld ends what is kept back of people in one place. The brake must be locked.
func (t Tx) DropHeld(ctx context.Context, application string, people []string) error {
	for chunk := range chunks(people, 1) {
		drop := `DELETE FROM holds WHERE person IN ` + sqldb.Values(1, len(chunk)) + fmt.Sprintf(` AND application = $%d`, len(chunk)+1)
		if err := t.Queue(ctx, drop, append(anyOf(chunk), application)...); err != nil {
			return fmt.Errorf("delete holds: %w", err)
		}
	}
	return nil
}

// Conclude makes what is open of a hold released or rejected. The brake must be locked.
func (t Tx) Conclude(ctx context.Context, hold string, status Status, release string) error {
	const conclude = `UPDATE holds SET status = $1, release_id = $2 WHERE hold = $3 AND status = $4`
	if err := t.Queue(ctx, conclude, int64(status), release, hold, int64(Open)); err != nil {
		return fmt.Errorf("conclude a hold: %w", err)
	}
	return nil
}

// Request is what one operator asked for and another one has to agree to.
type Request struct {
	Hold    string
	Verdict Status // Released or Rejected
	Hash    []byte // of what was shown
	Actor   string
	At      time.Time
}

// Requests returns all of them, by hold.
func (s *Store) Requests(ctx context.Context) (map[string]Request, error) {
	rows, err := s.db.Query(ctx, `SELECT hold, verdict, hash, actor, requested_at FROM hold_requests`)
	all, err := sqldb.Collect(rows, err, scanRequest)
	if err != nil {
		return nil, fmt.Errorf("read requests: %w", err)
	}
	found := make(map[string]Request, len(all))
	for _, r := range all {
		found[r.Hold] = r
	}
	return found, nil
}

// Request returns what was asked for about a hold; its Actor is empty when nothing was. The brake must be locked.
func (t Tx) Request(ctx context.Context, hold string) (Request, error) {
	rows, err := t.Query(ctx, `SELECT hold, verdict, hash, actor, requested_at FROM hold_requests WHERE hold = $1`, hold)
	all, err := sqldb.Collect(rows, err, scanRequest)
	if err != nil {
		return Request{}, fmt.Errorf("read a request: %w", err)
	}
	if len(all) == 0 {
		return Request{}, nil
	}
	return all[0], nil
}

func scanRequest(scan func(...any) error) (Request, error) {
	var r Request
	var verdict, at int64
	err := scan(&r.Hold, &verdict, &r.Hash, &r.Actor, &at)
	r.Verdict, r.At = Status(verdict), sqldb.Time(at)
	return r, err
}

// PutRequest replaces what was asked for about a hold. The brake must be locked.
func (t Tx) PutRequest(ctx context.Context, r Request) error {
	const put = `
INSERT INTO hold_requests (hold, verdict, hash, actor, requested_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (hold) DO UPDATE
SET verdict = excluded.verdict, hash = excluded.hash, actor = excluded.actor, requested_at = excluded.requested_at`
	if err := t.Queue(ctx, put, r.Hold, int64(r.Verdict), r.Hash, r.Actor, sqldb.Micros(r.At)); err != nil {
		return fmt.Errorf("write a request: %w", err)
	}
	return nil
}

// DropRequest ends what was asked for about a hold. The brake must be locked.
func (t Tx) DropRequest(ctx context.Context, hold string) error {
	if err := t.Queue(ctx, `DELETE FROM hold_requests WHERE hold = $1`, hold); err != nil {
		return fmt.Errorf("delete a request: %w", err)
	}
	return nil
}
