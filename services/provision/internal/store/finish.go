package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/tenurehq/tenure/pkg/sqldb"
)

// Finished is what became of a claimed target, in the light of a cut.
type Finished struct {
	Target
	Cut Cut
}

// finished are the columns of a Finished: what the target is found by and compared with, what a newer word overrules, and what is
// written as it is.
var finished = strings.Fields(`
	person epoch holder was_stuck was_due ruled
	generation state due_at attempts lane
	settled_generation decision person_version model_seq
	problem reason detail removal stuck_since notes
	quiet_until pending
	account_id made gave left_as_leaver disabled_version
	cut_generation unwanted_since deleted deleted_version
	create_tried creating observed observed_at
	run ended_at end_known_at cut_off_at taking_until`)

var finishedTypes = []string{
	text, number, text, number, number, number,
	number, number, number, number, number,
	number, number, number, number,
	text, text, text, number, number, blob,
	number, text,
	text, number, blob, number, number,
	number, number, number, number,
	number, number, blob, number,
	number, number, number, number, number,
}

const firstAsItIs = 11 // of finished

func (f *Finished) args(args []any, holder string) []any {
	x, r := &f.Target, &f.Record
	return append(args,
		x.Person, x.Epoch, holder, micros(x.Was.Since), micros(x.wasDue), f.Cut.Version,
		x.Generation, int64(x.State), micros(x.DueAt), x.Attempts, int64(x.Lane),
		x.SettledGeneration, int64(r.Decision), x.PersonVersion, x.ModelSeq, //nolint:gosec // a counter
		x.Problem, x.Reason, x.Detail, flag(x.Removal), micros(x.StuckSince), packList(x.Notes),
		micros(x.QuietUntil), x.Pending,
		r.AccountID, int64(r.Made), packList(r.Gave), flag(r.DisabledForLeaver), int64(r.DisabledVersion), //nolint:gosec // a counter
		int64(r.CutGeneration), micros(r.UnwantedSince), flag(r.Deleted), int64(r.DeletedVersion), //nolint:gosec // counters
		micros(r.CreateTried), flag(r.Creating), bytes(x.Observed), micros(x.ObservedAt),
		int64(r.Run), micros(x.EndedAt), micros(x.EndKnownAt), micros(x.CutOffAt), micros(x.TakingUntil), //nolint:gosec // a counter
	)
}

var finish = statements(func(targets int) string {
	var asItIs strings.Builder
	for _, column := range finished[firstAsItIs:] {
		asItIs.WriteString(",\n       " + column + " = x_" + column)
	}
	// A newer generation, cut or lift was heard of since the target was claimed, or somebody made it due.
	const newer = `(generation > x_generation OR due_at <> x_was_due OR x_overruled = 1)`
	return sqldb.Given("x_"+strings.Join(finished, ", x_"), targets, finishedTypes...) + `,
judged AS (SELECT given.*, CASE WHEN COALESCE(cuts.person_version, 0) > x_ruled THEN 1 ELSE 0 END AS x_overruled
           FROM given LEFT JOIN cuts ON cuts.person = x_person)
UPDATE targets
SET    version = version + 1, holder = '', lease_until = 0,
       state = CASE WHEN ` + newer + ` THEN 2 ELSE x_state END,
       due_at = CASE WHEN ` + newer + ` THEN due_at ELSE x_due_at END,
       attempts = CASE WHEN ` + newer + ` THEN 0 ELSE x_attempts END,
       lane = CASE WHEN ` + newer + ` THEN lane ELSE x_lane END,
       generation = CASE WHEN generation > x_generation THEN generation ELSE x_generation END` + asItIs.String() + `
FROM   judged
WHERE  person = x_person AND epoch = x_epoch AND holder = x_holder AND stuck_since = x_was_stuck
RETURNING person, epoch`
})

// claim is one claim of a target.
type claim struct {
	person string
	epoch  int64
}

// Finish writes what became of claimed targets and ends their leases. A newer generation, cut or lift that was heard of
// meanwhile stays due, and so does what somebody made due meanwhile. It returns for which it did, in their order. Of the others the
// lease was lost, and another holder's word counts; or the target was put on the stuck list since, and what was concluded
// from its not being there has to be thought over: see Stuck.
func (t Tx) Finish(ctx context.Context, holder string, targets []Finished) ([]bool, error) {
	size := sized(len(targets))
	args := make([]any, 0, size*len(finished))
	for i := range targets {
		args = targets[i].args(args, holder)
	}
	for range size - len(targets) {
		args = new(Finished).args(args, holder)
	}
	rows, err := t.Query(ctx, finish(size), args...)
	list, err := sqldb.Collect(rows, err, func(scan func(...any) error) (c claim, err error) { return c, scan(&c.person, &c.epoch) })
	if err != nil {
		return nil, fmt.Errorf("finish targets: %w", err)
	}
	written := make(map[claim]bool, len(list))
	for _, c := range list {
		written[c] = true
	}
	held := make([]bool, len(targets))
	for i, x := range targets {
		held[i] = written[claim{x.Person, x.Epoch}]
	}
	return held, nil
}
