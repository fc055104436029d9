package sqldb

import (
	"context"
	"errors"
	"fmt"
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
// latest time known from before; what the transaction writes is the mending. One that failed is done again.
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
		if _, err := tx.Exec(ctx, putLatest, Micros(now)); err != nil {
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
