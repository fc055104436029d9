package store

import (
	"context"
	"fmt"
	"time"

	"github.com/tenurehq/tenure/pkg/sqldb"
)

// Cut is an order that a person has nothing, and its end.
type Cut struct {
	Person  string
	Version int64 // that it raised the person to
	At      time.Time
	Actor   string
	Second  string // who confirmed it; empty: nobody had to
	Reason  string

	LiftedVersion int64 // that its end raised the person to; 0: it stands
	LiftedAt      time.Time
	LiftedBy      string
	LiftedReason  string
}

// Stands tells whether the cut was not lifted.
func (c Cut) Stands() bool { return c.LiftedVersion == 0 }

const cutColumns = `person, version, at, actor, confirmed_by, reason, lifted_version, lifted_at, lifted_by, lifted_reason`

func scanCut(scan func(...any) error) (Cut, error) {
	var c Cut
	var at, liftedAt int64
	err := scan(&c.Person, &c.Version, &at, &c.Actor, &c.Second, &c.Reason, &c.LiftedVersion, &liftedAt, &c.LiftedBy, &c.LiftedReason)
	c.At, c.LiftedAt = sqldb.Time(at), sqldb.Time(liftedAt)
	return c, err
}

// TakeCutTurn is the first statement of whatever orders or ends a cut: until the transaction ends nobody else does.
func (t Tx) TakeCutTurn(ctx context.Context) error {
	const take = `INSERT INTO cut_turns (id, n) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET n = cut_turns.n + 1`
	if _, err := t.Exec(ctx, take); err != nil {
		return fmt.Errorf("take the turn to cut: %w", err)
	}
	return nil
}

// AddCut stores a cut.
func (t Tx) AddCut(ctx context.Context, c Cut) error {
	insert := `INSERT INTO cuts (` + cutColumns + `) VALUES ` + sqldb.Values(1, 10)
	err := t.Queue(ctx, insert, c.Person, c.Version, sqldb.Micros(c.At), c.Actor, c.Second, c.Reason,
		c.LiftedVersion, sqldb.Micros(c.LiftedAt), c.LiftedBy, c.LiftedReason)
	if err != nil {
		return fmt.Errorf("insert cut: %w", err)
	}
	return nil
}

// LiftCut stores the end of a cut.
func (t Tx) LiftCut(ctx context.Context, c Cut) error {
	const update = `
UPDATE cuts SET lifted_version = $3, lifted_at = $4, lifted_by = $5, lifted_reason = $6 WHERE person = $1 AND version = $2`
	err := t.Queue(ctx, update, c.Person, c.Version, c.LiftedVersion, sqldb.Micros(c.LiftedAt), c.LiftedBy, c.LiftedReason)
	if err != nil {
		return fmt.Errorf("lift cut: %w", err)
	}
	return nil
}

// Standing returns the cuts that stand of these people, by person.
func (r reader) Standing(ctx context.Context, people []string) (map[string]Cut, error) {
	return r.cutsOf(ctx, people, `lifted_version = 0`)
}

// NewestCuts returns the newest cut of each of these people who was ever cut, by person.
func (r reader) NewestCuts(ctx context.Context, people []string) (map[string]Cut, error) {
	return r.cutsOf(ctx, people, `version = (SELECT MAX(n.version) FROM cuts n WHERE n.person = cuts.person)`)
}

func (r reader) cutsOf(ctx context.Context, people []string, where string) (map[string]Cut, error) {
	cuts := map[string]Cut{}
	for chunk := range chunks(people) {
		query := `SELECT ` + cutColumns + ` FROM cuts WHERE ` + where + ` AND person IN ` + sqldb.Values(1, len(chunk))
		rows, err := r.q.Query(ctx, query, anyOf(chunk)...)
		found, err := sqldb.Collect(rows, err, scanCut)
		if err != nil {
			return nil, fmt.Errorf("read cuts: %w", err)
		}
		for _, c := range found {
			cuts[c.Person] = c
		}
	}
	return cuts, nil
}

// CutsPage returns the newest cut of each of the next people who were ever cut, in order of id, from the one after.
func (r reader) CutsPage(ctx context.Context, after string, limit int) ([]Cut, error) {
	const query = `
SELECT ` + cutColumns + ` FROM cuts
WHERE person > $1 AND version = (SELECT MAX(n.version) FROM cuts n WHERE n.person = cuts.person)
ORDER BY person LIMIT $2`
	rows, err := r.q.Query(ctx, query, after, limit)
	cuts, err := sqldb.Collect(rows, err, scanCut)
	if err != nil {
		return nil, fmt.Errorf("list cuts: %w", err)
	}
	return cuts, nil
}

// CutAlone counts the people, but for one, whom one operator's order cut after since.
func (r reader) CutAlone(ctx context.Context, since time.Time, but string) (int, error) {
	const query = `SELECT COUNT(DISTINCT person) FROM cuts WHERE at > $1 AND confirmed_by = '' AND person <> $2`
	var n int
	if err := r.q.QueryRow(ctx, query, sqldb.Micros(since), but).Scan(&n); err != nil {
		return 0, fmt.Errorf("count cuts: %w", err)
	}
	return n, nil
}

// CutRequest is an order that waits for a second operator.
type CutRequest struct {
	Person string
	At     time.Time
	Actor  string
	Reason string
}

// CutRequest returns the order to cut a person that waits since then or later.
func (r reader) CutRequest(ctx context.Context, person string, since time.Time) (c CutRequest, found bool, err error) {
	const query = `SELECT person, at, actor, reason FROM cut_requests WHERE person = $1 AND at > $2`
	var at int64
	found, err = one(r.q.QueryRow(ctx, query, person, sqldb.Micros(since)).Scan(&c.Person, &at, &c.Actor, &c.Reason), "read request to cut")
	c.At = sqldb.Time(at)
	return c, found, err
}

// AddCutRequest keeps an order until a second operator gives it too.
func (t Tx) AddCutRequest(ctx context.Context, c CutRequest) error {
	const insert = `INSERT INTO cut_requests (person, at, actor, reason) VALUES ($1, $2, $3, $4)`
	if err := t.Queue(ctx, insert, c.Person, sqldb.Micros(c.At), c.Actor, c.Reason); err != nil {
		return fmt.Errorf("insert request to cut: %w", err)
	}
	return nil
}

// DropCutRequests forgets the order about a person, and all that are as old as before.
func (t Tx) DropCutRequests(ctx context.Context, person string, before time.Time) error {
	const drop = `DELETE FROM cut_requests WHERE person = $1 OR at <= $2`
	if err := t.Queue(ctx, drop, person, sqldb.Micros(before)); err != nil {
		return fmt.Errorf("drop requests to cut: %w", err)
	}
	return nil
}
