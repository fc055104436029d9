package sqldb_test

import (
	"context"
	"errors"
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
			what     string
			at, last time.Time
			from     time.Time
		}{
			{what: "the first time", at: noon.Add(time.Hour)},
			{what: "later", at: noon.Add(2 * time.Hour), last: noon},
			{what: "another machine, a moment behind", at: noon.Add(2*time.Hour - time.Second)},
			{what: "set back", at: noon.Add(time.Hour), from: noon.Add(2*time.Hour - time.Second)},
			{what: "the next one", at: noon.Add(time.Hour + time.Second)},
			{what: "set back, and seen by who was there", at: noon, last: noon.Add(90 * time.Minute), from: noon.Add(90 * time.Minute)},
		} {
			var from time.Time
			must(t, db.SetBack(t.Context(), step.at, step.last, func(_ *sqldb.Tx, back sqldb.Setback) error {
				from = back.From
				return nil
			}))
			if !from.Equal(step.from) {
				t.Errorf("%s: set back from %v, want %v", step.what, from, step.from)
			}
		}
	})
}

// TestAClockThatIsSetBackIsMendedUntilThatSucceeds: the first attempt fails.
func TestAClockThatIsSetBackIsMendedUntilThatSucceeds(t *testing.T) {
	t.Parallel()
	db := sqltest.New(t, sqldb.SQLite)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var m machine
	asked, mended := 0, make(chan time.Duration, 10)
	done := make(chan error, 1)
	go func() {
		done <- db.WhenSetBack(ctx, m.now, func(_ *sqldb.Tx, back sqldb.Setback) error {
			if asked++; asked == 1 {
				return errors.New("not now")
			}
			mended <- back.By()
			return nil
		})
	}()
	until(t, "the time to be noted", func() bool {
		var latest int64
		return db.QueryRow(ctx, `SELECT latest FROM clock`).Scan(&latest) == nil
	})
	m.set(-time.Hour)
	if got := <-mended; got < 59*time.Minute || got > time.Hour {
		t.Errorf("set back by %s", got)
	}
	cancel()
	must(t, <-done)
	if len(mended) > 0 {
		t.Error("mended twice")
	}
}

// until asks again and again whether it is so.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !so(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestWhatWaitedWaitsForAsLongWhenTheClockIsSetBack(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, nil, func(t *testing.T, db *sqldb.DB) {
		now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
		putLeases(t, db, map[string]time.Time{
			"past": now.Add(-time.Minute), "come by then": now.Add(30 * time.Minute), "waits": now.Add(time.Hour + time.Minute), "never": {},
		})
		if changed := leasesSetBack(t, db, now, now.Add(time.Hour)); changed != 2 {
			t.Errorf("%d rows changed, want two", changed)
		}
		leasesAre(t, db, map[string]time.Time{"past": now.Add(-time.Minute), "come by then": now, "waits": now.Add(time.Minute), "never": {}})
	})
}

// TestASetbackThatSomebodyHasMendedIsMendedOnceMoreForWhatCameLate: a process went on by the time of before for three seconds, and another for five.
// What waits by the clock as it is since goes on waiting; also where the clock is set back a second time.
func TestASetbackThatSomebodyHasMendedIsMendedOnceMoreForWhatCameLate(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, nil, func(t *testing.T, db *sqldb.DB) {
		now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
		before := now.Add(time.Hour)
		putLeases(t, db, map[string]time.Time{"of before": before.Add(time.Minute)})
		leasesSetBack(t, db, now, before)
		putLeases(t, db, map[string]time.Time{"since": now.Add(time.Minute), "came late": before.Add(2*time.Second + time.Minute), "now, late": before.Add(time.Second)})
		leasesSetBack(t, db, now.Add(3*time.Second), before.Add(2*time.Second))
		leasesAre(t, db, map[string]time.Time{
			"of before": now.Add(time.Minute), "since": now.Add(time.Minute), "came late": now.Add(time.Minute + 3*time.Second), "now, late": now.Add(3 * time.Second),
		})
		putLeases(t, db, map[string]time.Time{"later still": before.Add(4*time.Second + time.Minute)})
		leasesSetBack(t, db, now.Add(5*time.Second), before.Add(4*time.Second))
		again := now.Add(-10 * time.Minute) // not by as much
		leasesSetBack(t, db, again, now.Add(6*time.Second))
		leasesAre(t, db, map[string]time.Time{
			"of before": again.Add(54 * time.Second), "since": again.Add(54 * time.Second), "came late": again.Add(57 * time.Second), "now, late": again,
			"later still": again.Add(59 * time.Second),
		})
	})
}

// putLeases puts leases until a time each.
func putLeases(t *testing.T, db *sqldb.DB, until map[string]time.Time) {
	t.Helper()
	must(t, db.InTx(t.Context(), func(tx *sqldb.Tx) error {
		for name, at := range until {
			if _, err := tx.Exec(t.Context(), `INSERT INTO leases (name, holder, epoch, until) VALUES ($1, '', 0, $2)`, name, sqldb.Micros(at)); err != nil {
				return err
			}
		}
		return nil
	}))
}

// leasesSetBack is how many leases a process changes that had gone by a time of before.
func leasesSetBack(t *testing.T, db *sqldb.DB, now, before time.Time) (changed int64) {
	t.Helper()
	must(t, db.SetBack(t.Context(), now, before, func(tx *sqldb.Tx, back sqldb.Setback) (err error) {
		changed, err = tx.SetBack(t.Context(), back, "leases", "until", "epoch")
		return err
	}))
	return changed
}

func leasesAre(t *testing.T, db *sqldb.DB, want map[string]time.Time) {
	t.Helper()
	for name, expected := range want {
		var until int64
		must(t, db.QueryRow(t.Context(), `SELECT until FROM leases WHERE name = $1`, name).Scan(&until))
		if got := sqldb.Time(until); !got.Equal(expected) {
			t.Errorf("what %s is at %v, want %v", name, got, expected)
		}
	}
}
