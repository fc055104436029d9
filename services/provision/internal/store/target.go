package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/services/provision/plan"
)

// Lane numbers are those of tenure.event.v1.Lane.
type Lane int64

// State numbers are those of tenure.provision.v1.TargetState.
type State int64

// The states of a target.
const (
	Settled State = iota + 1
	Due
	Retrying
	Stuck
	Observing
)

// Stuckness is since when and for what a target is on the stuck list; zero: it is not.
type Stuckness struct {
	Since   time.Time
	Problem string
	Removal bool
}

// Target is one person in this application.
type Target struct {
	Person string

	Generation int64
	Lane       Lane
	State      State
	DueAt      time.Time // zero: not before a new generation
	MarkedAt   time.Time
	Attempts   int64

	Epoch int64 // of the claim that returned this target

	SettledGeneration int64
	PersonVersion     int64
	ModelSeq          int64

	Problem    string
	Reason     string
	Detail     string
	Removal    bool
	StuckSince time.Time
	Notes      []string
	// Until then a call whose reply was lost may still have effect:
	QuietUntil  time.Time // one that gives
	TakingUntil time.Time // one that takes away
	Pending     string    // operation to be polled

	Record     plan.Record
	Observed   []byte
	ObservedAt time.Time

	// Of somebody who has left; zero: they have not, or the application was not seen without them yet.
	EndedAt    time.Time // when access had to end
	EndKnownAt time.Time // when that was known; may be before EndedAt
	CutOffAt   time.Time // when the application was first seen to let them in no more

	// Was is how it was stuck when it was read. Finish refuses what was concluded from another word.
	Was Stuckness

	wasDue time.Time // DueAt as it was read
}

const targetColumns = `person, generation, lane, state, due_at, marked_at, attempts, epoch,
	settled_generation, decision, person_version, model_seq,
	problem, reason, detail, removal, stuck_since, notes, quiet_until, pending,
	account_id, made, gave, left_as_leaver, disabled_version, cut_generation, unwanted_since,
	deleted, deleted_version, create_tried, creating, observed, observed_at,
	run, ended_at, end_known_at, cut_off_at, taking_until`

func scanTarget(scan func(...any) error) (Target, error) {
	var (
		t                                                            Target
		due, marked, stuck, quiet, taking, unwanted, tried, observed int64
		removal, left, deleted, creating, made                       int64
		decision, disabledVersion, cutGeneration, deletedVersion     int64
		run, ended, known, cutOff                                    int64
		notes, gave                                                  []byte
	)
	err := scan(&t.Person, &t.Generation, &t.Lane, &t.State, &due, &marked, &t.Attempts, &t.Epoch,
		&t.SettledGeneration, &decision, &t.PersonVersion, &t.ModelSeq,
		&t.Problem, &t.Reason, &t.Detail, &removal, &stuck, &notes, &quiet, &t.Pending,
		&t.Record.AccountID, &made, &gave, &left, &disabledVersion, &cutGeneration, &unwanted,
		&deleted, &deletedVersion, &tried, &creating, &t.Observed, &observed,
		&run, &ended, &known, &cutOff, &taking)
	if err != nil {
		return t, err
	}
	t.DueAt, t.MarkedAt, t.StuckSince = sqldb.Time(due), sqldb.Time(marked), sqldb.Time(stuck)
	t.wasDue = t.DueAt
	t.QuietUntil, t.TakingUntil, t.ObservedAt = sqldb.Time(quiet), sqldb.Time(taking), sqldb.Time(observed)
	t.EndedAt, t.EndKnownAt, t.CutOffAt = sqldb.Time(ended), sqldb.Time(known), sqldb.Time(cutOff)
	t.Removal = removal == 1
	if stuck > 0 {
		t.Was = Stuckness{Since: t.StuckSince, Problem: t.Problem, Removal: t.Removal}
	}
	r := &t.Record
	r.Made, r.Decision = plan.Made(made), uint64(decision)                                                              //nolint:gosec // counters start at 0
	r.DisabledForLeaver, r.DisabledVersion, r.CutGeneration = left == 1, uint64(disabledVersion), uint64(cutGeneration) //nolint:gosec // as above
	r.UnwantedSince, r.CreateTried, r.Creating = sqldb.Time(unwanted), sqldb.Time(tried), creating == 1
	r.Deleted, r.DeletedVersion, r.Run = deleted == 1, uint64(deletedVersion), uint64(run) //nolint:gosec // as above
	if t.Notes, err = unpackList(notes); err != nil {
		return t, fmt.Errorf("notes of a target: %w", err)
	}
	if r.Gave, err = unpackList(gave); err != nil {
		return t, fmt.Errorf("entitlements of a target: %w", err)
	}
	return t, nil
}

const retry = `
UPDATE targets
SET    version = version + 1, due_at = $2, attempts = 0
WHERE  person = $1`

// Retry makes a target due at once, whatever keeps it. It reports whether there is such a target.
func (t Tx) Retry(ctx context.Context, person string, at time.Time) (bool, error) {
	rows, err := t.Exec(ctx, retry, person, micros(at))
	if err != nil {
		return false, fmt.Errorf("make a target due: %w", err)
	}
	return rows == 1, nil
}

// Target returns one target.
func (r reader) Target(ctx context.Context, person string) (t Target, found bool, err error) {
	t, err = scanTarget(r.q.QueryRow(ctx, `SELECT `+targetColumns+` FROM targets WHERE person = $1`, person).Scan)
	switch {
	case err == nil:
		return t, true, nil
	case errors.Is(err, sqldb.ErrNoRows):
		return t, false, nil
	}
	return t, false, fmt.Errorf("load a target: %w", err)
}

// Targets returns up to limit targets after a person's id, in order of id.
func (r reader) Targets(ctx context.Context, after string, limit int) ([]Target, error) {
	rows, err := r.q.Query(ctx, `SELECT `+targetColumns+` FROM targets WHERE person > $1 ORDER BY person LIMIT $2`, after, limit)
	targets, err := sqldb.Collect(rows, err, scanTarget)
	if err != nil {
		return nil, fmt.Errorf("list targets: %w", err)
	}
	return targets, nil
}

// StuckTargets returns the targets that wait for a person's help, the longest first.
func (r reader) StuckTargets(ctx context.Context) ([]Target, error) {
	rows, err := r.q.Query(ctx, `SELECT `+targetColumns+` FROM targets WHERE due_at > 0 AND stuck_since > 0 ORDER BY stuck_since, person`)
	targets, err := sqldb.Collect(rows, err, scanTarget)
	if err != nil {
		return nil, fmt.Errorf("list stuck targets: %w", err)
	}
	return targets, nil
}

// Generations returns the newest generation heard of, by person, of up to limit targets after a person's id.
func (r reader) Generations(ctx context.Context, people []string) (map[string]int64, error) {
	known := make(map[string]int64, len(people))
	for len(people) > 0 {
		n := min(len(people), marksPerStatement)
		args := make([]any, n)
		for i, p := range people[:n] {
			args[i] = p
		}
		rows, err := r.q.Query(ctx, `SELECT person, generation FROM targets WHERE person IN (`+placeholders(1, n)+`)`, args...)
		marks, err := sqldb.Collect(rows, err, func(scan func(...any) error) (m Mark, err error) {
			return m, scan(&m.Person, &m.Generation)
		})
		if err != nil {
			return nil, fmt.Errorf("compare generations: %w", err)
		}
		for _, m := range marks {
			known[m.Person] = m.Generation
		}
		people = people[n:]
	}
	return known, nil
}

// LaneCount is how much of a lane is open.
type LaneCount struct {
	Lane   Lane
	State  State
	Count  int64
	Oldest time.Time // the earliest mark among them
}

// Open counts the targets that something is to be done for at some time, by lane and state.
func (r reader) Open(ctx context.Context) ([]LaneCount, error) {
	rows, err := r.q.Query(ctx, `SELECT lane, state, COUNT(*), MIN(marked_at) FROM targets WHERE due_at > 0 GROUP BY lane, state`)
	counts, err := sqldb.Collect(rows, err, func(scan func(...any) error) (c LaneCount, err error) {
		var oldest int64
		err = scan(&c.Lane, &c.State, &c.Count, &oldest)
		c.Oldest = sqldb.Time(oldest)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("count open targets: %w", err)
	}
	return counts, nil
}

// Count returns how many targets there are, and how many of them are settled.
func (r reader) Count(ctx context.Context) (people, settled int64, err error) {
	err = r.q.QueryRow(ctx, `SELECT COUNT(*), COALESCE(SUM(CASE WHEN state = 1 THEN 1 ELSE 0 END), 0) FROM targets`).Scan(&people, &settled)
	if err != nil {
		return 0, 0, fmt.Errorf("count targets: %w", err)
	}
	return people, settled, nil
}
