package store

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tenurehq/tenure/pkg/sqldb"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	"github.com/tenurehq/tenure/services/policy/model"
)

// Basis is what a decision was made from. A person's decision is due again when any of it has changed.
type Basis struct {
	PersonVersion int64
	ModelSeq      int64
	Accounts      int64 // identifies applications and account attributes
}

// Employment is where a person stands between employed and not.
type Employment struct {
	Run     int64     // runs of employment, counted from 1; 0: not counted yet
	EndedAt time.Time // when access had to end; zero: employed, or never was
	KnownAt time.Time // when the word that ended it was committed; may be before EndedAt
}

// Decided is the last decision about a person, without what it gives.
type Decided struct {
	N int64 // 0: never decided
	Basis
	Employment
	Withheld bool // grants are kept back
	Held     bool // by the brake: something is kept back, or was and is rejected
}

// Decision is a decision to be saved.
type Decision struct {
	Person     string
	N          int64 // of this decision: one more than the one it was begun from
	Basis      Basis
	Employment Employment
	At         time.Time
	Errors     []model.RuleError
	Withheld   bool
	Trigger    string // id of the event that led to it; empty: repair
	Nonce      []byte
	Changes    []Desired // applications whose row changes
}

// Changed says whether a generation grows.
func (d *Decision) Changed() bool {
	for i := range d.Changes {
		if d.Changes[i].Announced {
			return true
		}
	}
	return false
}

// Claim is the first statement of a transaction that saves decisions: it takes the row of each person whom nobody
// decided about since, and never goes back to an older version of the person or an older model. It returns whom it
// took. The decisions must be in order of person, so that two transactions cannot wait for each other.
func (t Tx) Claim(ctx context.Context, decisions []Decision) (map[string]bool, error) {
	const columns = 11
	taken := make(map[string]bool, len(decisions))
	for chunk := range chunks(decisions, columns) {
		claim := `
INSERT INTO decisions (person, n, person_version, model_seq, accounts, withheld_at, decided_at, errors,
                       employment, ended_at, end_known_at)
VALUES ` + sqldb.Values(len(chunk), columns) + `
ON CONFLICT (person) DO UPDATE
SET n = excluded.n, person_version = excluded.person_version, model_seq = excluded.model_seq,
    accounts = excluded.accounts, withheld_at = excluded.withheld_at, decided_at = excluded.decided_at,
    errors = excluded.errors, employment = excluded.employment, ended_at = excluded.ended_at,
    end_known_at = excluded.end_known_at
WHERE decisions.n = excluded.n - 1
  AND decisions.person_version <= excluded.person_version
  AND decisions.model_seq <= excluded.model_seq
RETURNING person`
		args := make([]any, 0, columns*len(chunk))
		for i := range chunk {
			d := &chunk[i]
			errors, err := encodeErrors(d.Errors)
			if err != nil {
				return nil, err
			}
			var withheldAt int64
			if d.Withheld {
				withheldAt = sqldb.Micros(d.At)
			}
			args = append(args, d.Person, d.N, d.Basis.PersonVersion, d.Basis.ModelSeq, d.Basis.Accounts,
				withheldAt, sqldb.Micros(d.At), errors,
				d.Employment.Run, sqldb.Micros(d.Employment.EndedAt), sqldb.Micros(d.Employment.KnownAt))
		}
		rows, err := t.Query(ctx, claim, args...)
		people, err := sqldb.Collect(rows, err, scanText)
		if err != nil {
			return nil, fmt.Errorf("claim decisions: %w", err)
		}
		for _, person := range people {
			taken[person] = true
		}
	}
	return taken, nil
}

const decidedColumns = `c.n, c.person_version, c.model_seq, c.accounts, c.withheld_at, c.employment, c.ended_at, c.end_known_at`

// scanDecided scans decidedColumns after other columns.
func scanDecided(scan func(...any) error, others ...any) (d Decided, err error) {
	var withheldAt, endedAt, knownAt int64
	err = scan(append(others, &d.N, &d.PersonVersion, &d.ModelSeq, &d.Accounts, &withheldAt, &d.Run, &endedAt, &knownAt)...)
	d.Withheld, d.EndedAt, d.KnownAt = withheldAt > 0, sqldb.Time(endedAt), sqldb.Time(knownAt)
	return d, err
}

// Decided returns the last decisions about these people; those never decided about are left out.
func (s *Store) Decided(ctx context.Context, people []string) (map[string]Decided, error) {
	found := make(map[string]Decided, len(people))
	for chunk := range chunks(people, 1) {
		query := sqldb.Asked(len(chunk)) + ` SELECT c.person, COALESCE(h.status, 0), ` + decidedColumns + `
FROM asked JOIN decisions c ON c.person = asked.value LEFT JOIN holds h ON h.person = c.person AND h.application = ''`
		rows, err := s.db.Query(ctx, query, anyOf(chunk)...)
		_, err = sqldb.Collect(rows, err, func(scan func(...any) error) (struct{}, error) {
			var person string
			var status int64
			d, err := scanDecided(scan, &person, &status)
			d.Held = Status(status) != NotHeld
			found[person] = d
			return struct{}{}, err
		})
		if err != nil {
			return nil, fmt.Errorf("read decisions: %w", err)
		}
	}
	return found, nil
}

// Latest returns the last decision about a person with what could not be decided; N is 0 when there is none.
func (s *Store) Latest(ctx context.Context, person string) (Decided, []model.RuleError, error) {
	const query = `SELECT c.errors, COALESCE(h.status, 0), ` + decidedColumns + `
FROM decisions c LEFT JOIN holds h ON h.person = c.person AND h.application = '' WHERE c.person = $1`
	var errors []model.RuleError
	rows, err := s.db.Query(ctx, query, person)
	found, err := sqldb.Collect(rows, err, func(scan func(...any) error) (d Decided, err error) {
		var encoded []byte
		var status int64
		if d, err = scanDecided(scan, &encoded, &status); err != nil {
			return d, err
		}
		d.Held = Status(status) != NotHeld
		errors, err = decodeErrors(encoded)
		return d, err
	})
	if err != nil {
		return Decided{}, nil, fmt.Errorf("read decision: %w", err)
	}
	if len(found) == 0 {
		return Decided{}, nil, nil
	}
	return found[0], errors, nil
}

// CountOutdated returns how many people were last decided about by an older model or other applications.
func (s *Store) CountOutdated(ctx context.Context, basis Basis) (int64, error) {
	const query = `SELECT COUNT(*) FROM decisions WHERE model_seq < $1 OR accounts <> $2`
	var count int64
	if err := s.db.QueryRow(ctx, query, basis.ModelSeq, basis.Accounts).Scan(&count); err != nil {
		return 0, fmt.Errorf("count outdated decisions: %w", err)
	}
	return count, nil
}

// Withheld returns people after this one, in order, for whom grants are kept back.
func (s *Store) Withheld(ctx context.Context, after string, limit int) ([]string, error) {
	const query = `SELECT person FROM decisions WHERE person > $1 AND withheld_at > 0 ORDER BY person LIMIT $2`
	rows, err := s.db.Query(ctx, query, after, limit)
	people, err := sqldb.Collect(rows, err, scanText)
	if err != nil {
		return nil, fmt.Errorf("read withheld decisions: %w", err)
	}
	return people, nil
}

func scanText(scan func(...any) error) (text string, err error) {
	err = scan(&text)
	return text, err
}

// encodeErrors returns an empty, not nil, slice for none: the column is NOT NULL.
func encodeErrors(errs []model.RuleError) ([]byte, error) {
	if len(errs) == 0 {
		return []byte{}, nil
	}
	stored := &accessv1.ShowAccessResponse{}
	for _, e := range errs {
		stored.Errors = append(stored.Errors, &accessv1.RuleError{Role: e.Role, Code: e.Code, Message: e.Message})
	}
	encoded, err := proto.Marshal(stored)
	if err != nil {
		return nil, fmt.Errorf("encode errors of a decision: %w", err)
	}
	return encoded, nil
}

func decodeErrors(encoded []byte) ([]model.RuleError, error) {
	var stored accessv1.ShowAccessResponse
	if err := proto.Unmarshal(encoded, &stored); err != nil {
		return nil, fmt.Errorf("decode errors of a decision: %w", err)
	}
	var errs []model.RuleError
	for _, e := range stored.GetErrors() {
		errs = append(errs, model.RuleError{Role: e.GetRole(), Code: e.GetCode(), Message: e.GetMessage()})
	}
	return errs, nil
}
