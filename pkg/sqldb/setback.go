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
	// setBackEcho is within which every process that uses a database has noticed that its clock was set back.
	setBackEcho = 4 * clockEvery
)

// Setback is a clock that was set back from a time to now.
type Setback struct {
	Now, From time.Time
	beyond    time.Time // what lies ahead, but not beyond it, waits for a time by the clock as it is since
}

// By is how far it was set back.
func (s Setback) By() time.Duration { return s.From.Sub(s.Now) }

// WhenSetBack watches now until ctx ends, and calls mend when it is earlier than somebody who uses the database has gone by: what
// was to happen a moment after some time of before would otherwise not happen until that time comes again. Tx.SetBack mends
// most. What failed is done again.
func (db *DB) WhenSetBack(ctx context.Context, now func() time.Time, mend func(*Tx, Setback) error) error {
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
	seeClock = `SELECT latest, mended_at, mended_from FROM clock WHERE id = 1`
	putClock = `INSERT INTO clock (id, latest, mended_at, mended_from) VALUES (1, $1, $2, $3)
		ON CONFLICT (id) DO UPDATE SET latest = excluded.latest, mended_at = excluded.mended_at, mended_from = excluded.mended_from`
)

// setBack notes that it is now, and has mended what a later time left. last is a time that this process has gone by.
func (db *DB) setBack(ctx context.Context, now, last time.Time, mend func(*Tx, Setback) error) error {
	return db.InTx(ctx, func(tx *Tx) error {
		var latest, at, from int64
		if err := tx.QueryRow(ctx, seeClock).Scan(&latest, &at, &from); err != nil && !errors.Is(err, ErrNoRows) {
			return fmt.Errorf("see the latest time: %w", err)
		}
		back := Setback{Now: now, From: Time(latest), beyond: now}
		if last.After(back.From) {
			back.From = last
		}
		noticed := back.By() >= ClockStep // those who note the time a moment apart may differ by less
		switch {
		case noticed && back.echoes(Time(at), Time(from)):
			if before := Time(from).Add(-ClockStep); before.After(now) {
				back.beyond = before
			}
		case noticed:
			at, from = Micros(now), Micros(back.From)
		}
		if err := tx.Queue(ctx, putClock, Micros(now), at, from); err != nil {
			return fmt.Errorf("note the latest time: %w", err)
		}
		if !noticed {
			return nil
		}
		return mend(tx, back)
	})
}

// echoes says that another process has mended this one at an instant, since when some went on by the time before. What lies ahead and not
// beyond that time is of the time since.
func (s Setback) echoes(at, from time.Time) bool {
	since := s.Now.Sub(at)
	further := s.From.Sub(from)
	return since >= 0 && since <= setBackEcho && further >= -ClockStep && further <= since+ClockStep
}

// SetBack makes what waits for the times in these columns of a table wait for as long as it would have, had the clock not been
// set back: what had come by then has come. It returns how many rows that changed.
func (tx *Tx) SetBack(ctx context.Context, back Setback, table string, columns ...string) (int64, error) {
	set, where := make([]string, len(columns)), make([]string, len(columns))
	for i, column := range columns {
		set[i] = fmt.Sprintf("%[1]s = CASE WHEN %[1]s <= $4 THEN %[1]s WHEN %[1]s > $2 THEN %[1]s - $3 ELSE $1 END", column)
		where[i] = column + " > $4"
	}
	rows, err := tx.Exec(ctx, "UPDATE "+table+" SET "+strings.Join(set, ", ")+" WHERE "+strings.Join(where, " OR "),
		Micros(back.Now), Micros(back.From), back.By().Microseconds(), Micros(back.beyond))
	if err != nil {
		return 0, fmt.Errorf("set %s back: %w", table, err)
	}
	return rows, nil
}
