package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tenurehq/tenure/pkg/sqldb"
)

// Mark is a generation that was heard of.
type Mark struct {
	Person     string
	Generation int64
	Lane       Lane
}

// columns of a new target that neither a mark nor a claim knows: nothing was done yet.
const (
	blankColumns = `version, state, due_at, marked_at, attempts, settled_generation, decision, person_version, model_seq,
	problem, reason, detail, removal, stuck_since, notes, quiet_until, pending,
	account_id, made, gave, left_as_leaver, disabled_version, cut_generation, unwanted_since,
	deleted, deleted_version, create_tried, creating, observed, observed_at,
	run, ended_at, end_known_at, cut_off_at, taking_until`
	blanks = `0, 2, %[1]s, %[1]s, 0, 0, 0, 0, 0, '', '', '', 0, 0, %[2]s, 0, '',
	'', 0, %[2]s, 0, 0, 0, 0, 0, 0, 0, 0, %[2]s, 0, 0, 0, 0, 0, 0`
)

const orMark = `ON CONFLICT (person) DO UPDATE
SET    version = targets.version + 1, generation = excluded.generation, lane = excluded.lane, state = 2,
       due_at = excluded.due_at, marked_at = excluded.marked_at, attempts = 0`

// marksPerStatement keeps the parameters of one statement well below every engine's limit.
const marksPerStatement = 500

// MarkDue makes targets due whose newest generation is higher than the one on record; a lower or equal one changes
// nothing. It returns how many targets became due. marks hold each person at most once.
func (t Tx) MarkDue(ctx context.Context, marks []Mark, at time.Time) (int64, error) {
	var marked int64
	for len(marks) > 0 {
		n := min(len(marks), marksPerStatement)
		args := []any{micros(at), []byte{}}
		values := make([]byte, 0, n*200)
		for i, m := range marks[:n] {
			if i > 0 {
				values = append(values, ", "...)
			}
			values = fmt.Appendf(values, "($%d, $%d, $%d, ", len(args)+1, len(args)+2, len(args)+3)
			values = fmt.Appendf(values, blanks, "$1", "$2")
			values = append(values, ", '', 0, 0)"...)
			args = append(args, m.Person, m.Generation, int64(m.Lane))
		}
		rows, err := t.Exec(ctx, `
INSERT INTO targets (person, generation, lane, `+blankColumns+`, holder, epoch, lease_until)
VALUES `+string(values)+`
`+orMark+`
WHERE  targets.generation < excluded.generation`, args...)
		if err != nil {
			return marked, fmt.Errorf("mark targets due: %w", err)
		}
		marked += rows
		marks = marks[n:]
	}
	return marked, nil
}

var markAndClaim = statements(func(targets int) string {
	n := 4 * targets
	at, none, holder, until := placeholders(n+1, 1), placeholders(n+2, 1), placeholders(n+3, 1), placeholders(n+4, 1)
	return sqldb.Given("who, heard, runs, planned_by", targets, text, number, number, text) + `
INSERT INTO targets (person, generation, lane, ` + blankColumns + `, holder, epoch, lease_until)
SELECT who, heard, runs, ` + fmt.Sprintf(blanks, at, none) + `, ` + holder + `, 1, ` + until + `
FROM   given
WHERE  who <> '' AND NOT EXISTS (SELECT 1 FROM cuts c WHERE c.person = given.who) AND ` + notOverruled + `given.planned_by)
` + orMark + `, holder = excluded.holder, epoch = targets.epoch + 1, lease_until = excluded.lease_until
WHERE  targets.generation < excluded.generation AND targets.holder = '' AND targets.lease_until <= excluded.due_at
RETURNING ` + targetColumns
})

// MarkAndClaim is MarkDue and Claim in one writing of a row, of the first of these marks, as many as the claim is for: of those whose
// targets nobody holds and who were never cut. It returns what it claimed, and the marks of the others, with which it did nothing.
func (t Tx) MarkAndClaim(ctx context.Context, marks []Mark, c Claim) ([]Claimed, []Mark, error) {
	first := marks[:min(len(marks), c.Limit)]
	size := sized(len(first))
	args := make([]any, 0, 4*size+4)
	for _, m := range append(slices.Clone(first), make([]Mark, size-len(first))...) {
		args = append(args, m.Person, m.Generation, int64(m.Lane), c.Settings)
	}
	rows, err := t.Query(ctx, markAndClaim(size), append(args, micros(c.Now), []byte{}, c.Holder, micros(c.Until))...)
	claimed, err := sqldb.Collect(rows, err, func(scan func(...any) error) (Claimed, error) {
		target, err := scanTarget(scan)
		return Claimed{Target: target}, err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("mark targets due and claim them: %w", err)
	}
	rest := slices.DeleteFunc(slices.Clone(marks), func(m Mark) bool {
		return slices.ContainsFunc(claimed, func(c Claimed) bool { return c.Person == m.Person })
	})
	return claimed, rest, nil
}
