package store

import (
	"context"
	"fmt"
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

// intend inserts only while the claim is still the holder's and no newer generation, cut or lift was heard of.
const intend = `
INSERT INTO journal (` + entryColumns + `)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20
FROM   targets
WHERE  person = $2 AND epoch = $7 AND holder = $21 AND generation <= $3 AND ` + noNewerCut + `$22`

// Intend writes an intent before its first call, in the light of a cut. false: the lease was lost or something newer was
// heard of, and no call may be made.
func (t Tx) Intend(ctx context.Context, holder string, e Entry, cut Cut) (bool, error) {
	rows, err := t.Exec(ctx, intend, append(e.args(), holder, cut.Version)...)
	if err != nil {
		return false, fmt.Errorf("write an intent: %w", err)
	}
	return rows == 1, nil
}

const record = `
INSERT INTO journal (` + entryColumns + `)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)`

// Record writes an outcome that needed no call.
func (t Tx) Record(ctx context.Context, e Entry) error {
	if _, err := t.Exec(ctx, record, e.args()...); err != nil {
		return fmt.Errorf("write an outcome: %w", err)
	}
	return nil
}

func (e Entry) args() []any {
	return []any{
		e.Operation, e.Person, e.Generation, e.Decision, e.PersonVersion, e.ModelSeq, e.Epoch, e.Wanted, micros(e.NotAfter),
		bytes(e.Intent), bytes(e.IntentNonce), e.IntentEvent, e.Correlation, micros(e.IntentAt),
		bytes(e.Results), e.State, bytes(e.Observed), bytes(e.OutcomeNonce), e.OutcomeEvent, micros(e.OutcomeAt),
	}
}

const conclude = `
UPDATE journal
SET    results = $2, state = $3, observed = $4, outcome_nonce = $5, outcome_event = $6, outcome_at = $7
WHERE  operation = $1 AND outcome_at = 0`

// Conclude writes what became of an intent. false: it has its one outcome already.
func (t Tx) Conclude(ctx context.Context, e Entry) (bool, error) {
	rows, err := t.Exec(ctx, conclude, e.Operation, bytes(e.Results), e.State, bytes(e.Observed), bytes(e.OutcomeNonce),
		e.OutcomeEvent, micros(e.OutcomeAt))
	if err != nil {
		return false, fmt.Errorf("write an outcome: %w", err)
	}
	return rows == 1, nil
}

const poll = `UPDATE journal SET results = $2 WHERE operation = $1 AND outcome_at = 0`

// KeepResults notes what a connector said so far of an operation that has no outcome yet.
func (t Tx) KeepResults(ctx context.Context, operation string, results []byte) error {
	if _, err := t.Exec(ctx, poll, operation, bytes(results)); err != nil {
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
