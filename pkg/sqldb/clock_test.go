package sqldb_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
)

// machine is a machine whose clock can be set.
type machine struct{ off atomic.Int64 }

func (m *machine) now() time.Time       { return time.Now().Add(time.Duration(m.off.Load())) }
func (m *machine) set(by time.Duration) { m.off.Store(int64(by)) }

// close reports whether two durations differ by what reading the clock of a busy machine's database may cost.
func closeTo(got, want time.Duration) bool { return (got - want).Abs() < time.Second }

func never(t *testing.T) func(time.Duration) {
	t.Helper()
	return func(by time.Duration) { t.Errorf("the clock is said to have been set by %s", by) }
}

// TestAMachineWhoseClockIsOffGoesByTheDatabase: this machine's clock is right, and PostgreSQL's is the same; what the Clock is
// told of the machine is off.
func TestAMachineWhoseClockIsOffGoesByTheDatabase(t *testing.T) {
	t.Parallel()
	db := sqltest.New(t, sqldb.Postgres)
	for _, off := range []time.Duration{0, time.Hour, -time.Hour} {
		var m machine
		m.set(off)
		c, err := sqldb.NewClock(t.Context(), db, m.now)
		must(t, err)
		if got := time.Until(c.Now()); !closeTo(got, 0) {
			t.Errorf("on a machine that is off by %s the time is off by %s", off, got)
		}
		if got := c.Off(); !closeTo(got, off) {
			t.Errorf("a machine that is off by %s is said to be off by %s", off, got)
		}
		must(t, c.Look(t.Context(), never(t)))
		m.set(off + 2*time.Hour) // while it runs
		if got := time.Until(c.Now()); !closeTo(got, 0) {
			t.Errorf("when the machine's clock was set, the time went off by %s", got)
		}
		must(t, c.Look(t.Context(), never(t)))
		if got := c.Off(); !closeTo(got, off+2*time.Hour) {
			t.Errorf("a machine that is off by %s is said to be off by %s", off+2*time.Hour, got)
		}
	}
}

func TestADatabaseWhoseClockIsSetIsFollowed(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, nil, func(t *testing.T, db *sqldb.DB) {
		var m machine // of SQLite, whose clock is the machine's
		c, err := sqldb.NewClock(t.Context(), db, m.now)
		must(t, err)
		for _, by := range []time.Duration{time.Hour, -time.Hour} {
			before := c.Now()
			sqldb.Shift(db, max(by, 0))
			m.set(max(by, 0))
			var told time.Duration
			must(t, c.Look(t.Context(), func(by time.Duration) { told = by }))
			if !closeTo(told, by) {
				t.Errorf("set by %s, told %s", by, told)
			}
			if got := c.Now().Sub(before); !closeTo(got, by) {
				t.Errorf("set by %s, the time went on by %s", by, got)
			}
			must(t, c.Look(t.Context(), never(t)))
		}
	})
}

// TestTheTimeNeverGoesBackByItself: answers take their time, so two of them differ.
func TestTheTimeNeverGoesBackByItself(t *testing.T) {
	t.Parallel()
	db := sqltest.New(t, sqldb.Postgres)
	c, err := sqldb.NewClock(t.Context(), db, time.Now)
	must(t, err)
	sqldb.Shift(db, -time.Second)
	last := c.Now()
	must(t, c.Look(t.Context(), never(t)))
	if now := c.Now(); now.Before(last) {
		t.Errorf("the time went back by %s", last.Sub(now))
	}
}

// TestWhileTheDatabaseIsAwayTimeGoesOn by what passes here.
func TestWhileTheDatabaseIsAwayTimeGoesOn(t *testing.T) {
	t.Parallel()
	db := sqltest.New(t, sqldb.Postgres)
	var m machine
	m.set(time.Hour)
	c, err := sqldb.NewClock(t.Context(), db, m.now)
	must(t, err)
	away, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Look(away, never(t)); err == nil {
		t.Fatal("the database answered")
	}
	first := c.Now()
	for deadline := time.Now().Add(5 * time.Second); !c.Now().After(first); {
		if time.Now().After(deadline) {
			t.Fatal("time stands still")
		}
	}
	if got := time.Until(c.Now()); !closeTo(got, 0) {
		t.Errorf("off by %s", got)
	}
}

func TestThatTheClockWasSetBackIsNoticedOnceByWhoeverComesNext(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, nil, func(t *testing.T, db *sqldb.DB) {
		noon := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
		for _, step := range []struct {
			what string
			at   time.Time
			back bool
		}{
			{"the first time", noon.Add(time.Hour), false},
			{"later", noon.Add(2 * time.Hour), false},
			{"another machine, a moment behind", noon.Add(2*time.Hour - time.Second), false},
			{"set back", noon.Add(time.Hour), true},
			{"the next one", noon.Add(time.Hour + time.Second), false},
			{"set back again, by little", noon.Add(time.Hour - 2*time.Second), true},
		} {
			must(t, db.InTx(t.Context(), func(tx *sqldb.Tx) error {
				back, err := tx.SetBack(t.Context(), step.at)
				if back != step.back {
					t.Errorf("%s: set back is %v", step.what, back)
				}
				return err
			}))
		}
	})
}
