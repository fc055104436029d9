package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tenurehq/tenure/pkg/sqldb"
)

// Entry is one operation: what was intended, and what became of it.
type Entry struct {
	Operation     string
	Person        string
	Generation    int64
	Decision      int64
	PersonVersion int64
	ModelSeq      int64
	Epoch         int64
	Wanted        int64 // tenure.event.v1.AccessState
	NotAfter      time.Time

	Intent      []byte
	IntentNonce []byte
	IntentEvent string // empty: no call was made
	Correlation string
	IntentAt    time.Time

	Results      []byte
	State        int64 // tenure.event.v1.OutcomeState; 0: no outcome yet
	Observed     []byte
	OutcomeNonce []byte
	OutcomeEvent string
	OutcomeAt    time.Time // zero: no outcome yet
}

const entryColumns = `operation, person, generation, decision, person_version, model_seq, epoch, wanted, not_after,
	intent, intent_nonce, intent_event, correlation, intent_at,
	results, state, observed, outcome_nonce, outcome_event, outcome_at`

func scanEntry(scan func(...any) error) (Entry, error) {
	var e Entry
	var notAfter, intentAt, outcomeAt int64
	err := scan(&e.Operation, &e.Person, &e.Generation, &e.Decision, &e.PersonVersion, &e.ModelSeq, &e.Epoch, &e.Wanted, &notAfter,
		&e.Intent, &e.IntentNonce, &e.IntentEvent, &e.Correlation, &intentAt,
		&e.Results, &e.State, &e.Observed, &e.OutcomeNonce, &e.OutcomeEvent, &outcomeAt)
	e.NotAfter, e.IntentAt, e.OutcomeAt = sqldb.Time(notAfter), sqldb.Time(intentAt), sqldb.Time(outcomeAt)
	return e, err
}

// entryTypes are those of entryColumns.
var entryTypes = []string{
	text, text, number, number, number, number, number, number, number,
	blob, blob, text, text, number,
	blob, number, blob, blob, text, number,
}

// Intent is an entry before its first call, in the light of a cut.
type Intent struct {
	Entry
	Cut Cut
}

// intend inserts only while the claims are still the holder's and no newer generation, cut or lift was heard of.
var intend = statements(func(intents int) string {
	return sqldb.Given(entryColumns+", ruled, holder", intents, append(slices.Clone(entryTypes), number, text)...) + `
INSERT INTO journal (` + entryColumns + `)
SELECT ` + givenEntry + `
FROM   given g JOIN targets ON targets.person = g.person
WHERE  targets.epoch = g.epoch AND targets.holder = g.holder AND targets.generation <= g.generation AND ` + noNewerCut + `g.ruled
RETURNING operation`
})

// givenEntry are the entryColumns of the rows that are given.
var givenEntry = "g." + strings.Join(strings.Fields(entryColumns), " g.")

// Intend writes intents before their first calls, and returns which of them it wrote, by operation. Of the others the lease was lost
// or something newer was heard of, and no call may be made.
func (t Tx) Intend(ctx context.Context, holder string, intents []Intent) (map[string]bool, error) {
	size := sized(len(intents))
	args := make([]any, 0, size*(len(entryTypes)+2))
	for i := range intents {
		args = append(intents[i].args(args), intents[i].Cut.Version, holder)
	}
	for range size - len(intents) {
		args = append(new(Entry).args(args), int64(0), holder)
	}
	written, err := t.operations(ctx, intend(size), args...)
	if err != nil {
		return nil, fmt.Errorf("write intents: %w", err)
	}
	return written, nil
}

// operations runs a statement that returns operations.
func (t Tx) operations(ctx context.Context, statement string, args ...any) (map[string]bool, error) {
	rows, err := t.Query(ctx, statement, args...)
	list, err := sqldb.Collect(rows, err, func(scan func(...any) error) (operation string, err error) { return operation, scan(&operation) })
	found := make(map[string]bool, len(list))
	for _, operation := range list {
		found[operation] = true
	}
	return found, err
}

var record = statements(func(entries int) string {
	return `
INSERT INTO journal (` + entryColumns + `) VALUES ` + sqldb.Values(entries, len(entryTypes))
})

// Record writes outcomes that needed no call.
func (t Tx) Record(ctx context.Context, entries []Entry) error {
	args := make([]any, 0, len(entries)*len(entryTypes))
	for i := range entries {
		args = entries[i].args(args)
	}
	if err := t.Queue(ctx, record(len(entries)), args...); err != nil {
		return fmt.Errorf("write outcomes: %w", err)
	}
	return nil
}

// args appends an entry's columns.
func (e *Entry) args(args []any) []any {
	return append(args,
		e.Operation, e.Person, e.Generation, e.Decision, e.PersonVersion, e.ModelSeq, e.Epoch, e.Wanted, micros(e.NotAfter),
		bytes(e.Intent), bytes(e.IntentNonce), e.IntentEvent, e.Correlation, micros(e.IntentAt),
		bytes(e.Results), e.State, bytes(e.Observed), bytes(e.OutcomeNonce), e.OutcomeEvent, micros(e.OutcomeAt),
	)
}

var conclude = statements(func(entries int) string {
	return sqldb.Given("op, said, became, seen, nonce, event, at", entries, text, blob, number, blob, blob, text, number) + `
UPDATE journal
SET    results = given.said, state = given.became, observed = given.seen, outcome_nonce = given.nonce, outcome_event = given.event,
       outcome_at = given.at
FROM   given
WHERE  operation = given.op AND outcome_at = 0
RETURNING operation`
})

// Conclude writes what became of intents, and returns of which, by operation: the others have their one outcome already. entries
// hold each operation at most once.
func (t Tx) Conclude(ctx context.Context, entries []Entry) (map[string]bool, error) {
	size := sized(len(entries))
	var args []any
	for _, e := range append(slices.Clone(entries), make([]Entry, size-len(entries))...) {
		args = append(args, e.Operation, bytes(e.Results), e.State, bytes(e.Observed), bytes(e.OutcomeNonce), e.OutcomeEvent, micros(e.OutcomeAt))
	}
	concluded, err := t.operations(ctx, conclude(size), args...)
	if err != nil {
		return nil, fmt.Errorf("write outcomes: %w", err)
	}
	return concluded, nil
}

const poll = `UPDATE journal SET results = $2 WHERE operation = $1 AND outcome_at = 0`

// KeepResults notes what a connector said so far of an operation that has no outcome yet.
func (t Tx) KeepResults(ctx context.Context, operation string, results []byte) error {
	if err := t.Queue(ctx, poll, operation, bytes(results)); err != nil {
		return fmt.Errorf("note results: %w", err)
	}
	return nil
}

// OpenIntents returns the intents of these people that have no outcome, the oldest first.
func (r reader) OpenIntents(ctx context.Context, people []string) ([]Entry, error) {
	if len(people) == 0 {
		return nil, nil
	}
	args := make([]any, len(people))
	for i, p := range people {
		args[i] = p
	}
	rows, err := r.q.Query(ctx, `SELECT `+entryColumns+` FROM journal
WHERE outcome_at = 0 AND person IN (`+placeholders(1, len(people))+`) ORDER BY intent_at, operation`, args...)
	entries, err := sqldb.Collect(rows, err, scanEntry)
	if err != nil {
		return nil, fmt.Errorf("load open intents: %w", err)
	}
	return entries, nil
}

// Journal returns a person's last operations, the newest first.
func (r reader) Journal(ctx context.Context, person string, limit int) ([]Entry, error) {
	rows, err := r.q.Query(ctx, `SELECT `+entryColumns+` FROM journal WHERE person = $1 ORDER BY operation DESC LIMIT $2`, person, limit)
	entries, err := sqldb.Collect(rows, err, scanEntry)
	if err != nil {
		return nil, fmt.Errorf("load the journal: %w", err)
	}
	return entries, nil
}
