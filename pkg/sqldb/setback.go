package sqldb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	// setBackLook is how often a process sees for itself whether the clock was set back.
	setBackLook = time.Second
	// setBackNote is how often it notes the time for those who come later.
	setBackNote = time.Minute
)

// WhenSetBack watches now until ctx ends, and calls mend when it is earlier than somebody who uses the database has gone by: what
// was to happen a moment after some time of before would otherwise not happen until that time comes again. from is the
// latest time known from before; Tx.SetBack mends most. What failed is done again.
func (db *DB) WhenSetBack(ctx context.Context, now func() time.Time, mend func(tx *Tx, now, from time.Time) error) error {
	tick := time.NewTicker(setBackLook)
	defer tick.Stop()
	var last, noted time.Time
	for {
		at := now().Round(0) // as everybody else sees it
		back := last.Sub(at) >= ClockStep
		if back || at.Sub(noted) >= setBackNote {
			if err := db.setBack(ctx, at, last, mend); err == nil {
				noted, back = at, false
			}
		}
		if !back {
			last = at
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

const (
	seeLatest = `SELECT latest FROM clock WHERE id = 1`
	putLatest = `INSERT INTO clock (id, latest) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET latest = excluded.latest`
)

// setBack notes that it is now, and has mended what a later time left. last is a time that this process has gone by.
func (db *DB) setBack(ctx context.Context, now, last time.Time, mend func(tx *Tx, now, from time.Time) error) error {
	return db.InTx(ctx, func(tx *Tx) error {
		var latest int64
		if err := tx.QueryRow(ctx, seeLatest).Scan(&latest); err != nil && !errors.Is(err, ErrNoRows) {
			return fmt.Errorf("see the latest time: %w", err)
		}
		if err := tx.Queue(ctx, putLatest, Micros(now)); err != nil {
			return fmt.Errorf("note the latest time: %w", err)
		}
		from := Time(latest)
		if last.After(from) {
			from = last
		}
		if from.Sub(now) < ClockStep { // those who note the time a moment apart may differ by less
			return nil
		}
		return mend(tx, now, from)
	})
}

// SetBack makes what waits for the times in these columns of a table wait for as long as it would have, had the clock not been
// set back from a time to now: what had come by then has come. It returns how many rows that changed.
func (tx *Tx) SetBack(ctx context.Context, now, from time.Time, table string, columns ...string) (int64, error) {
	set, where := make([]string, len(columns)), make([]string, len(columns))
	for i, column := range columns {
		set[i] = fmt.Sprintf("%[1]s = CASE WHEN %[1]s > $2 THEN %[1]s - $3 WHEN %[1]s > $1 THEN $1 ELSE %[1]s END", column)
		where[i] = column + " > $1"
	}
	rows, err := tx.Exec(ctx, "UPDATE "+table+" SET "+strings.Join(set, ", ")+" WHERE "+strings.Join(where, " OR "),
		Micros(now), Micros(from), from.Sub(now).Microseconds())
	if err != nil {
		return 0, fmt.Errorf("set %s back: %w", table, err)
	}
	return rows, nil
}
