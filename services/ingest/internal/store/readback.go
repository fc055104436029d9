package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tenurehq/tenure/pkg/sqldb"
)

// Readback is an employee who is to be read, claimed by who asked.
type Readback struct {
	ExternalID string
	Wanted     int64     // what a read that begins now will have seen
	Done       int64     // less than Wanted: something was said that nobody has read after
	Attempts   int       // reads in a row that brought nothing new
	Notice     string    // the delivery that said last that the record changed
	Noticed    time.Time // when it was said first of what is not read yet; zero: all is
	ReadAt     time.Time // the source time of the last answer; zero: none
	Seen       []byte    // SHA-256 of the last answer that was understood; nil: none
	HeldBy     string    // the delivery that counts it as held; empty: none
}

// reading is what is shown of an item until its employee was read.
const reading = "reading back"

// AddNotice says that a delivery names these employees, each once: they are to be read from due on.
func (t Tx) AddNotice(ctx context.Context, delivery, source string, employees []string, noticed, due time.Time) error {
	wanted, err := t.want(ctx, delivery, source, employees, noticed, due)
	if err != nil {
		return err
	}
	n := 0
	for chunk := range slices.Chunk(employees, sqldb.MaxParams/5) {
		args := make([]any, 0, 5*len(chunk))
		for _, id := range chunk {
			args = append(args, delivery, n, source, id, wanted[id])
			n++
		}
		insert := `INSERT INTO readback_items (delivery, n, source, external_id, wanted) VALUES ` +
			sqldb.Values(len(chunk), 5) + ` ON CONFLICT (delivery, n) DO UPDATE SET wanted = EXCLUDED.wanted`
		if err := t.Queue(ctx, insert, args...); err != nil {
			return fmt.Errorf("insert employees of a notice: %w", err)
		}
	}
	return nil
}

// RepeatNotice says that a delivery that named employees came again: they are to be read once more, but nothing that was
// due becomes due earlier, so that whoever repeats it a thousand times does not have it read a thousand times.
func (t Tx) RepeatNotice(ctx context.Context, delivery string, due time.Time) error {
	const update = `
UPDATE readbacks
SET wanted = wanted + 1, due_at = CASE WHEN due_at > 0 AND claimed_until = 0 THEN due_at ELSE $2 END
WHERE EXISTS (SELECT 1 FROM readback_items i
              WHERE i.delivery = $1 AND i.source = readbacks.source AND i.external_id = readbacks.external_id)`
	if err := t.Queue(ctx, update, delivery, sqldb.Micros(due)); err != nil {
		return fmt.Errorf("repeat notice: %w", err)
	}
	return nil
}

// want makes employees due and returns what is wanted of each now.
func (t Tx) want(ctx context.Context, delivery, source string, employees []string, noticed, due time.Time) (map[string]int64, error) {
	const columns = 13
	wanted := make(map[string]int64, len(employees))
	for chunk := range slices.Chunk(slices.Sorted(slices.Values(employees)), sqldb.MaxParams/columns) {
		args := make([]any, 0, columns*len(chunk))
		for _, id := range chunk {
			args = append(args, source, id, 1, 0, delivery, sqldb.Micros(noticed), sqldb.Micros(due), 0, "", 0, 0, "", "")
		}
		upsert := `
INSERT INTO readbacks (source, external_id, wanted, done, notice, noticed_at, due_at, attempts, claim, claimed_until,
                       read_at, problem, held_by)
VALUES ` + sqldb.Values(len(chunk), columns) + `
ON CONFLICT (source, external_id) DO UPDATE
SET wanted = readbacks.wanted + 1, notice = EXCLUDED.notice, due_at = EXCLUDED.due_at, attempts = 0,
    noticed_at = CASE WHEN readbacks.noticed_at > 0 THEN readbacks.noticed_at ELSE EXCLUDED.noticed_at END
RETURNING external_id, wanted`
		rows, err := t.Query(ctx, upsert, args...)
		_, err = sqldb.Collect(rows, err, func(scan func(...any) error) (struct{}, error) {
			var id string
			var n int64
			err := scan(&id, &n)
			wanted[id] = n
			return struct{}{}, err
		})
		if err != nil {
			return nil, fmt.Errorf("make employees due: %w", err)
		}
	}
	return wanted, nil
}

// ClaimReadbacks takes up to limit employees of a source who are due, the longest waiting first. Nobody else is given them
// before until, unless they are finished or put off under the same claim.
func (t Tx) ClaimReadbacks(ctx context.Context, source, claim string, now, until time.Time, limit int) ([]Readback, error) {
	const due = `
SELECT external_id FROM readbacks
WHERE source = $1 AND due_at > 0 AND due_at <= $2 AND claimed_until <= $2
ORDER BY due_at, external_id LIMIT $3`
	rows, err := t.Query(ctx, due, source, sqldb.Micros(now), limit)
	ids, err := sqldb.Collect(rows, err, func(scan func(...any) error) (string, error) {
		var id string
		err := scan(&id)
		return id, err
	})
	if err != nil || len(ids) == 0 {
		return nil, wrapped(err, "find employees to read")
	}
	// The condition stands here again: another process may have taken them in between.
	n := len(ids)
	args := append(anyOf(ids), claim, sqldb.Micros(until), source, sqldb.Micros(now))
	update := fmt.Sprintf(`
UPDATE readbacks SET claim = $%d, claimed_until = $%d
WHERE source = $%d AND due_at > 0 AND due_at <= $%d AND claimed_until <= $%d AND external_id IN `+sqldb.Values(1, n)+`
RETURNING external_id, wanted, done, attempts, notice, noticed_at, read_at, seen, held_by`, n+1, n+2, n+3, n+4, n+4)
	rows, err = t.Query(ctx, update, args...)
	claimed, err := sqldb.Collect(rows, err, func(scan func(...any) error) (Readback, error) {
		var b Readback
		var noticed, readAt int64
		err := scan(&b.ExternalID, &b.Wanted, &b.Done, &b.Attempts, &b.Notice, &noticed, &readAt, &b.Seen, &b.HeldBy)
		b.Noticed, b.ReadAt = sqldb.Time(noticed), sqldb.Time(readAt)
		return b, err
	})
	return claimed, wrapped(err, "claim employees to read")
}

// FinishReadback says that the employee was read under a claim: what was said until then is done. again is when to look
// once more although nothing new was said; zero: not. held, if any, is nothing any more. False: the claim is lost, and
// whoever has it now finishes.
func (t Tx) FinishReadback(ctx context.Context, source, claim string, b Readback, now, again time.Time) (bool, error) {
	const update = `
UPDATE readbacks
SET done = $4, claim = '', claimed_until = 0, attempts = CASE WHEN wanted > $4 THEN 0 ELSE CAST($5 AS BIGINT) END, read_at = $6, seen = $7,
    problem = '', held_by = '',
    due_at = CASE WHEN wanted > $4 THEN due_at ELSE $8 END,
    noticed_at = CASE WHEN wanted > $4 THEN CAST($9 AS BIGINT) ELSE 0 END
WHERE source = $1 AND external_id = $2 AND claim = $3`
	rows, err := t.Exec(ctx, update, source, b.ExternalID, claim, b.Wanted, b.Attempts, sqldb.Micros(b.ReadAt), b.Seen,
		sqldb.Micros(again), sqldb.Micros(now))
	if err != nil || rows != 1 {
		return false, wrapped(err, "finish reading an employee")
	}
	return true, t.countHeld(ctx, b.HeldBy, -1)
}

// PutOffReadback says that the employee could not be read under a claim, and when to try again; a zero due is not before
// it is said again, and counts the item as held by the delivery that said it last. False: the claim is lost.
func (t Tx) PutOffReadback(ctx context.Context, source, claim string, b Readback, due time.Time, problem string) (bool, error) {
	heldBy := b.HeldBy
	if due.IsZero() {
		heldBy = b.Notice
	}
	const update = `
UPDATE readbacks
SET claim = '', claimed_until = 0, attempts = $5, problem = $6, held_by = $8,
    due_at = CASE WHEN wanted > $4 THEN due_at ELSE $7 END
WHERE source = $1 AND external_id = $2 AND claim = $3`
	rows, err := t.Exec(ctx, update, source, b.ExternalID, claim, b.Wanted, b.Attempts, problem, sqldb.Micros(due), heldBy)
	if err != nil || rows != 1 {
		return false, wrapped(err, "put off reading an employee")
	}
	if heldBy == b.HeldBy {
		return true, nil
	}
	if err := t.countHeld(ctx, b.HeldBy, -1); err != nil {
		return false, err
	}
	return true, t.countHeld(ctx, heldBy, 1)
}

// ReleaseReadbacks gives up a claim: whom it took and nobody finished can be taken again.
func (t Tx) ReleaseReadbacks(ctx context.Context, claim string) error {
	err := t.Queue(ctx, `UPDATE readbacks SET claim = '', claimed_until = 0 WHERE claim = $1`, claim)
	return wrapped(err, "release employees")
}

// countHeld counts an item of a delivery as held, or not any more.
func (t Tx) countHeld(ctx context.Context, delivery string, by int) error {
	if delivery == "" {
		return nil
	}
	const update = `UPDATE deliveries SET items_held = items_held + $2 WHERE id = $1 AND items_held + $2 BETWEEN 0 AND items`
	err := t.Queue(ctx, update, delivery, by)
	return wrapped(err, "count held items")
}

// Noticed are the employees whom a delivery named, in order; none: it named none.
func (r reader) Noticed(ctx context.Context, delivery string) ([]Item, error) {
	query := `
SELECT i.n, i.external_id, COALESCE(e.person, ''),
       CASE WHEN b.done >= i.wanted THEN '' WHEN b.problem <> '' THEN b.problem ELSE '` + reading + `' END
FROM readback_items i
JOIN readbacks b ON b.source = i.source AND b.external_id = i.external_id
LEFT JOIN employments e ON e.source = i.source AND e.external_id = i.external_id
WHERE i.delivery = $1 ORDER BY i.n`
	rows, err := r.q.Query(ctx, query, delivery)
	items, err := sqldb.Collect(rows, err, func(scan func(...any) error) (Item, error) {
		var item Item
		err := scan(&item.N, &item.ExternalID, &item.Person, &item.Held)
		return item, err
	})
	return items, wrapped(err, "read employees of a notice")
}

// OpenReadbacks is how many employees of a source are to be read after something was said, and since when the oldest waits;
// zero: nobody does.
func (r reader) OpenReadbacks(ctx context.Context, source string) (count int, oldest time.Time, err error) {
	const query = `SELECT count(*), COALESCE(min(noticed_at), 0) FROM readbacks WHERE source = $1 AND noticed_at > 0`
	var since int64
	err = r.q.QueryRow(ctx, query, source).Scan(&count, &since)
	return count, sqldb.Time(since), wrapped(err, "count employees to read")
}

// NextReadback is when the next employee of a source who is not claimed is due; zero: none is.
func (r reader) NextReadback(ctx context.Context, source string) (time.Time, error) {
	const query = `
SELECT COALESCE(min(CASE WHEN due_at > claimed_until THEN due_at ELSE claimed_until END), 0)
FROM readbacks WHERE source = $1 AND due_at > 0`
	var at int64
	err := r.q.QueryRow(ctx, query, source).Scan(&at)
	return sqldb.Time(at), wrapped(err, "find the next employee to read")
}

// wrapped is err with what was being done; nil for none.
func wrapped(err error, action string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", action, err)
}

// WhenSetBack keeps employees from waiting longer to be read when the clock now is set back, until ctx ends. mended is called
// with by how much it was.
func (s *Store) WhenSetBack(ctx context.Context, now func() time.Time, mended func(by time.Duration)) error {
	return s.db.WhenSetBack(ctx, now, func(tx *sqldb.Tx, back sqldb.Setback) error {
		_, err := tx.SetBack(ctx, back, "readbacks", "due_at", "claimed_until", "noticed_at")
		if err == nil {
			tx.AfterCommit(func() { mended(back.By()) })
		}
		return err
	})
}
