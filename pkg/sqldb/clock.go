package sqldb

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// clockEvery is how often the database is asked what time it is.
	clockEvery = 5 * time.Second
	// clockTries is how often one look asks: the quickest answer says it best.
	clockTries = 3
	// clockPatience is how long one of them may take. The time that it tells is wrong by half of that at most.
	clockPatience = time.Second
	// ClockStep is by how much a clock must have been set for that to be noticed: less is drift, and told apart from slow
	// answers by nobody.
	ClockStep = 2 * time.Second
)

// Clock tells the time by which everybody who uses one database goes: on PostgreSQL the database's, whatever the clocks
// of their machines say, and on SQLite, where all are on one machine, the machine's. Between two looks it goes on by what
// has passed here. Safe for concurrent use.
type Clock struct {
	db      *DB
	machine func() time.Time

	mu   sync.Mutex
	seen reading
	told time.Time // the latest instant that Now returned
}

// reading is an instant, and what had passed here when it was.
type reading struct {
	instant time.Time
	passed  time.Duration
}

// at is the instant after so much has passed here.
func (r reading) at(passed time.Duration) time.Time { return r.instant.Add(passed - r.passed) }

// NewClock asks db what time it is. machine is this machine's clock, time.Now but in tests.
func NewClock(ctx context.Context, db *DB, machine func() time.Time) (*Clock, error) {
	c := &Clock{db: db, machine: machine}
	if err := c.look(ctx, func(time.Duration) {}); err != nil {
		return nil, fmt.Errorf("ask the database for the time: %w", err)
	}
	return c, nil
}

// Now is what time it is. It goes back only when the clock was set back.
func (c *Clock) Now() time.Time {
	if c.local() {
		return c.machine()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.seen.at(passed())
	if now.Before(c.told) {
		return c.told // two answers, one of them slow
	}
	c.told = now
	return now
}

// Off is by how much the machine's clock is ahead.
func (c *Clock) Off() time.Duration {
	if c.local() {
		return 0
	}
	return c.machine().Sub(c.Now())
}

// Keep asks again every few seconds, until ctx ends. It calls set with by how much the clock was set, when it was. While the
// database does not answer, time goes on by what passes here.
func (c *Clock) Keep(ctx context.Context, set func(by time.Duration)) error {
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			_ = c.look(ctx, set)
		}
	}
}

func (c *Clock) local() bool { return c.db.Engine() == SQLite }

// look takes the best of a few readings.
func (c *Clock) look(ctx context.Context, set func(by time.Duration)) error {
	best, within := reading{}, time.Duration(0)
	var failed error
	for range clockTries {
		r, took, err := c.read(ctx)
		switch {
		case err != nil:
			failed = err
		case best.instant.IsZero() || took < within:
			best, within = r, took
		}
	}
	if best.instant.IsZero() {
		return failed
	}
	c.mu.Lock()
	before := c.seen
	c.seen = best
	by := time.Duration(0)
	if !before.instant.IsZero() {
		by = best.instant.Sub(before.at(best.passed)).Round(time.Millisecond)
	}
	if by.Abs() >= ClockStep {
		c.told = time.Time{}
	}
	c.mu.Unlock()
	if by.Abs() >= ClockStep {
		set(by)
	}
	return nil
}

// read asks once, and says how long that took: the instant was in the middle of it.
func (c *Clock) read(ctx context.Context) (reading, time.Duration, error) {
	before := passed()
	if c.local() {
		return reading{c.machine().Round(0), before}, 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, clockPatience)
	defer cancel()
	var micros int64
	if err := c.db.QueryRow(ctx, "SELECT "+c.db.engine.now()).Scan(&micros); err != nil {
		return reading{}, 0, err
	}
	took := passed() - before
	return reading{Time(micros), before + took/2}, took, nil
}

var start = time.Now()

// sinceStart is how much time has passed for this process. It stands still while the machine does.
func sinceStart() time.Duration { return time.Since(start) }
