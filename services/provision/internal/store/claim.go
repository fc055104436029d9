package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tenurehq/tenure/pkg/sqldb"
)

// Claim says which targets to take, and for whom.
type Claim struct {
	Lane   Lane
	Cut    bool // of people who are cut, in whichever lane; else of the others
	Limit  int
	Holder string // one process
	Now    time.Time
	Until  time.Time // the lease's end: after the last instant at which a call made under it may have effect
	// Settings that the holder plans by. When others were applied since it claims nothing.
	Settings string
}

// Claimed is a target under a lease.
type Claimed struct {
	Target
	Abandoned bool // an earlier holder did not give it back: its intent may be without an outcome
	Cut       Cut  // of the person
}

// notOverruled, with settings and a closing parenthesis after it, keeps a process of older settings from working: what
// it settled would not be looked at again by the newer ones.
const notOverruled = `NOT EXISTS (SELECT 1 FROM applied WHERE key = 'settings' AND value <> `

// Candidates returns up to limit due targets of a lane that nobody holds, the earliest first, and whether somebody had
// held them. Another worker may be faster: only Claim decides.
func (r reader) candidates(ctx context.Context, c Claim) (people []string, abandoned map[string]bool, err error) {
	where := `lane = $2 AND person NOT IN (` + whoIsCut + `)`
	if c.Cut {
		where = `$2 > 0 AND person IN (` + whoIsCut + `)`
	}
	rows, err := r.q.Query(ctx, `
SELECT person, holder FROM targets
WHERE  due_at > 0 AND due_at <= $1 AND `+where+` AND lease_until <= $1 AND `+notOverruled+`$4)
ORDER  BY due_at LIMIT $3`, micros(c.Now), int64(c.Lane), c.Limit, c.Settings)
	type candidate struct{ person, holder string }
	found, err := sqldb.Collect(rows, err, func(scan func(...any) error) (f candidate, err error) {
		return f, scan(&f.person, &f.holder)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("look for due targets: %w", err)
	}
	abandoned = map[string]bool{}
	for _, f := range found {
		people = append(people, f.person)
		if f.holder != "" {
			abandoned[f.person] = true
		}
	}
	return people, abandoned, nil
}

var take = statements(func(targets int) string {
	return sqldb.Given("who, at, planned_by", targets, text, number, text) + fmt.Sprintf(`
UPDATE targets
SET    version = version + 1, holder = $%d, epoch = epoch + 1, lease_until = $%d
FROM   given
WHERE  person = given.who AND lease_until <= given.at AND due_at > 0 AND due_at <= given.at AND `+notOverruled+`given.planned_by)
RETURNING `+targetColumns, 3*targets+1, 3*targets+2)
})

// Claim takes due targets by compare-and-set on their rows and raises their epochs. Of two workers that see the same
// target due one gets it.
func (s *Store) Claim(ctx context.Context, c Claim) ([]Claimed, error) {
	people, abandoned, err := s.candidates(ctx, c)
	if err != nil || len(people) == 0 {
		return nil, err
	}
	slices.Sort(people) // in one order everywhere: no two transactions wait for each other
	size := sized(len(people))
	args := make([]any, 0, 3*size+2)
	for _, p := range append(slices.Clone(people), make([]string, size-len(people))...) {
		args = append(args, p, micros(c.Now), c.Settings)
	}
	args = append(args, c.Holder, micros(c.Until))
	var claimed []Claimed
	err = s.InTx(ctx, func(tx Tx) error {
		rows, err := tx.Query(ctx, take(size), args...)
		claimed, err = sqldb.Collect(rows, err, func(scan func(...any) error) (Claimed, error) {
			t, err := scanTarget(scan)
			return Claimed{Target: t, Abandoned: abandoned[t.Person]}, err
		})
		if err != nil {
			return err
		}
		cuts, err := tx.Cuts(ctx, people)
		for i := range claimed {
			claimed[i].Cut = cuts[claimed[i].Person]
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("claim targets: %w", err)
	}
	return claimed, nil
}

// What was abandoned stays so: its lease is over, and the name of who held it says that an intent may be open.
func giveBack(targets int) string {
	return sqldb.Given("who, claim, heard, abandoned, ruled, was_due", targets, text, number, number, number, number, number) + fmt.Sprintf(`
UPDATE targets
SET    version = version + 1,
       holder = CASE WHEN given.abandoned = 1 THEN holder ELSE '' END,
       lease_until = given.abandoned,
       due_at = CASE WHEN generation > given.heard OR due_at <> given.was_due OR NOT `+noNewerCut+`given.ruled THEN due_at ELSE $%d END
FROM   given
WHERE  person = given.who AND epoch = given.claim AND holder = $%d`,
		6*targets+1, 6*targets+2)
}

// GiveBack ends leases under which nothing was done. A target becomes due again at the given time, or when a newer
// generation, a cut, or somebody made it due.
func (s *Store) GiveBack(ctx context.Context, holder string, targets []Claimed, due time.Time) error {
	if len(targets) == 0 {
		return nil
	}
	targets = slices.SortedFunc(slices.Values(targets), func(a, b Claimed) int { return strings.Compare(a.Person, b.Person) })
	err := s.InTx(ctx, func(tx Tx) error {
		for chunk := range slices.Chunk(targets, marksPerStatement) {
			var args []any
			for _, t := range chunk {
				args = append(args, t.Person, t.Epoch, t.Generation, flag(t.Abandoned), t.Cut.Version, micros(t.wasDue))
			}
			if err := tx.Queue(ctx, giveBack(len(chunk)), append(args, micros(due), holder)...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("give targets back: %w", err)
	}
	return nil
}

// Stuck returns how a target that is still held is stuck now. false: it is not held any more.
func (t Tx) Stuck(ctx context.Context, holder string, x Target) (was Stuckness, held bool, err error) {
	var since, removal int64
	err = t.QueryRow(ctx, `SELECT stuck_since, problem, removal FROM targets WHERE person = $1 AND epoch = $2 AND holder = $3`,
		x.Person, x.Epoch, holder).Scan(&since, &was.Problem, &removal)
	switch {
	case errors.Is(err, sqldb.ErrNoRows):
		return Stuckness{}, false, nil
	case err != nil:
		return Stuckness{}, false, fmt.Errorf("look how a target is stuck: %w", err)
	case since == 0:
		return Stuckness{}, true, nil
	}
	was.Since, was.Removal = sqldb.Time(since), removal == 1
	return was, true, nil
}

const renew = `
UPDATE targets SET version = version + 1, lease_until = CASE WHEN lease_until > $4 THEN lease_until ELSE $4 END
WHERE  person = $1 AND epoch = $2 AND holder = $3 AND lease_until > $5 AND generation <= $6 AND ` + noNewerCut + `$7`

// noNewerCut, with a parameter after it, holds while no newer cut or lift of the person of a target was heard of.
const noNewerCut = `COALESCE((SELECT c.person_version FROM cuts c WHERE c.person = targets.person), 0) <= `

// Renew makes a lease longer, never shorter. false: it was lost, or a newer generation, cut or lift was heard of.
func (s *Store) Renew(ctx context.Context, holder string, c Claimed, now, until time.Time) (bool, error) {
	var rows int64
	err := s.InTx(ctx, func(tx Tx) (err error) {
		rows, err = tx.Exec(ctx, renew, c.Person, c.Epoch, holder, micros(until), micros(now), c.Generation, c.Cut.Version)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("renew a lease: %w", err)
	}
	return rows == 1, nil
}

// late are targets that something is to be done for: a newer generation is not settled, or a cut.
const late = `(settled_generation < generation OR state IN (2, 3) AND person IN (` + whoIsCut + `))`

// Late returns up to 500 targets of a lane that were marked before a time and are neither settled nor stuck.
func (r reader) Late(ctx context.Context, lane Lane, before time.Time) ([]Target, error) {
	rows, err := r.q.Query(ctx, `SELECT `+targetColumns+` FROM targets
WHERE  lane = $1 AND due_at > 0 AND stuck_since = 0 AND `+late+` AND marked_at <= $2
ORDER  BY marked_at LIMIT 500`, int64(lane), micros(before))
	found, err := sqldb.Collect(rows, err, scanTarget)
	if err != nil {
		return nil, fmt.Errorf("look for late targets: %w", err)
	}
	return found, nil
}

func escalate(targets int) string {
	return sqldb.Given("who, heard, why", targets, text, number, text) + fmt.Sprintf(`
UPDATE targets
SET    version = version + 1, state = 4, stuck_since = $%d, removal = 1, problem = given.why
FROM   given
WHERE  person = given.who AND generation = given.heard AND stuck_since = 0 AND due_at > 0 AND `+late+`
RETURNING person`, 3*targets+1)
}

// Escalate puts targets on the stuck list, with their problems, although nobody could work on them. They are tried as
// before. It returns the people it did this for: the others were settled, superseded or escalated meanwhile.
func (t Tx) Escalate(ctx context.Context, overdue []Target, now time.Time) (map[string]bool, error) {
	escalated := map[string]bool{}
	for chunk := range slices.Chunk(overdue, marksPerStatement) {
		var args []any
		for _, x := range chunk {
			args = append(args, x.Person, x.Generation, x.Problem)
		}
		rows, err := t.Query(ctx, escalate(len(chunk)), append(args, micros(now))...)
		people, err := sqldb.Collect(rows, err, func(scan func(...any) error) (person string, err error) {
			return person, scan(&person)
		})
		if err != nil {
			return nil, fmt.Errorf("escalate targets: %w", err)
		}
		for _, p := range people {
			escalated[p] = true
		}
	}
	return escalated, nil
}

const wake = `
UPDATE targets SET version = version + 1, due_at = $2
WHERE  due_at > $2 AND problem = $1`

// Wake makes the targets due that wait because of a problem that is over.
func (t Tx) Wake(ctx context.Context, problem string, now time.Time) error {
	if err := t.Queue(ctx, wake, problem, micros(now)); err != nil {
		return fmt.Errorf("wake targets: %w", err)
	}
	return nil
}

// restful targets are settled, nobody works on them, and they are not due yet.
const restful = `state IN (1, 5) AND holder = '' AND (due_at = 0 OR due_at > $1)`

const unread = `
SELECT person FROM targets
WHERE  ` + restful + ` AND observed_at <= $2 AND NOT EXISTS (SELECT 1 FROM targets WHERE due_at > 0 AND due_at <= $1 AND holder = '')
ORDER  BY observed_at LIMIT $3`

// Unread returns up to limit people whose targets are settled and were read last before a time, the longest ago first; nobody
// while anything that is due waits.
func (r reader) Unread(ctx context.Context, before, now time.Time, limit int) ([]string, error) {
	rows, err := r.q.Query(ctx, unread, micros(now), micros(before), limit)
	people, err := sqldb.Collect(rows, err, func(scan func(...any) error) (person string, err error) { return person, scan(&person) })
	if err != nil {
		return nil, fmt.Errorf("look for targets that were not read lately: %w", err)
	}
	return people, nil
}

// LookAgain makes those of these people's targets due that are settled.
func (t Tx) LookAgain(ctx context.Context, people []string, now time.Time) error {
	args := []any{micros(now)}
	for _, p := range people {
		args = append(args, p)
	}
	again := `UPDATE targets SET version = version + 1, due_at = $1 WHERE ` + restful + ` AND person IN (` + placeholders(2, len(people)) + `)`
	if err := t.Queue(ctx, again, args...); err != nil {
		return fmt.Errorf("make settled targets due: %w", err)
	}
	return nil
}

const free = `
UPDATE targets
SET    version = version + 1,
       lease_until = COALESCE((SELECT MAX(CASE WHEN j.not_after + $2 < lease_until THEN j.not_after + $2 ELSE lease_until END)
                               FROM journal j WHERE j.person = targets.person AND j.outcome_at = 0), 1)
WHERE  holder <> '' AND lease_until > $1`

// Free ends the leases of holders that are known to be dead, and returns how many. One under which a call may still be
// on its way lasts until that call can have no more effect, but never longer than before: the call may have been made before the clock
// was set back. What they held counts as abandoned.
func (t Tx) Free(ctx context.Context, now time.Time, skew time.Duration) (int64, error) {
	freed, err := t.Exec(ctx, free, micros(now), skew.Microseconds())
	if err != nil {
		return 0, fmt.Errorf("free leases: %w", err)
	}
	return freed, nil
}

const applied = `
INSERT INTO applied (key, value) VALUES ('settings', $1)
ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE applied.value <> excluded.value`

// All of them, also those that are due or worked on: somebody may be about to settle them by other settings.
const makeDue = `
UPDATE targets SET version = version + 1, due_at = $1`

// Apply notes the settings that the targets are planned by, and makes every target due when they are others than before:
// what was only shown may now have to be done.
func (t Tx) Apply(ctx context.Context, settings string, now time.Time) error {
	rows, err := t.Exec(ctx, applied, settings)
	if err != nil {
		return fmt.Errorf("note settings: %w", err)
	}
	if rows == 0 {
		return nil
	}
	if err := t.Queue(ctx, makeDue, micros(now)); err != nil {
		return fmt.Errorf("make all targets due: %w", err)
	}
	return nil
}
