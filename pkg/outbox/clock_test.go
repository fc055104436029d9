package outbox_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/outbox"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

// TestEventsBearTheTimeOfTheDatabase and are as old as that says, on a machine whose clock is an hour ahead of it.
func TestEventsBearTheTimeOfTheDatabase(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, []sqldb.Migrations{outbox.Migrations}, func(t *testing.T, db *sqldb.DB) {
		w, _ := newWire(t)
		var asked atomic.Int64
		o, err := outbox.New(outbox.Config{Origin: "ingest"}, outbox.Deps{
			DB: db, Bus: w, Log: logger(t),
			Recorded: func(context.Context, string) (uint64, time.Duration, error) { // nothing
				asked.Add(1)
				return 0, 0, nil
			},
			Now: func() time.Time { return time.Now().Add(-time.Hour) },
		})
		if err != nil {
			t.Fatal(err)
		}
		add(t, db, o, eventv1.Lane_LANE_NORMAL, event("ann"))
		if age, err := o.Oldest(t.Context()); err != nil || age > time.Minute {
			t.Errorf("an event of now is %s old, %v", age, err)
		}
		start(t, o)
		eventually(t, "the event has left", func() bool { return len(w.order()) == 1 })
		if off := time.Until(w.order()[0].Time) + time.Hour; off.Abs() > time.Minute {
			t.Errorf("the event's time is off by %s", off)
		}
		var made int64
		err = db.QueryRow(t.Context(), `SELECT created_at FROM outbox_sent`).Scan(&made)
		if off := time.Until(sqldb.Time(made)) + time.Hour; err != nil || off.Abs() > time.Minute {
			t.Errorf("what is kept of it is off by %s, %v", off, err)
		}
		before := asked.Load()
		eventually(t, "audit is asked what it has of it", func() bool { return asked.Load() > before+1 })
		if behind := o.Behind(); behind > time.Minute {
			t.Errorf("audit is behind by %s", behind)
		}
	})
}
