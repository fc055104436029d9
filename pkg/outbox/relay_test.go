package outbox_test

import (
	"testing"

	"github.com/tenurehq/tenure/pkg/outbox"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	"github.com/tenurehq/tenure/pkg/urgency"
)

func TestWhatWasMovedAndNotPublishedIsPublishedByTheNextRelay(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			db := sqltest.New(t, engine, sets...)
			w, _ := newWire(t)
			w.cut.Store(true)
			first := newOutbox(t, db, w, &audit{})
			stop := start(t, first)
			add(t, db, first, normal, events(10)...)
			eventually(t, "the relay tries", func() bool { return w.tries.Load() > 0 })
			stop()
			if len(read(t, first, 1, 10)) != 10 {
				t.Fatal("the chunk was not moved before it was published")
			}
			w.cut.Store(false)
			got := listen(t, w.Bus)
			start(t, newOutbox(t, db, w, &audit{}))
			for i := range 10 {
				if e := receive(t, got, "an event"); e.Seq != uint64(i)+1 {
					t.Errorf("got number %d, want %d", e.Seq, i+1)
				}
			}
		})
	}
}

func TestAStreamThatRefusesLosesNothing(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			db := sqltest.New(t, engine, sets...)
			w, _ := newWire(t)
			w.cut.Store(true)
			o := newOutbox(t, db, w, &audit{})
			start(t, o)
			got := listen(t, w.Bus)
			add(t, db, o, normal, events(700)...)
			eventually(t, "the relay tries three times", func() bool { return w.tries.Load() >= 3 })
			add(t, db, o, urgent, events(3)...)
			w.cut.Store(false)
			for range 703 {
				receive(t, got, "an event")
			}
		})
	}
}

func TestUrgentEventsOvertakeTenThousand(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			db := sqltest.New(t, engine, sets...)
			w, _ := newWire(t)
			o := newOutbox(t, db, w, &audit{})
			backlog := events(10_000)
			for i := 0; i < len(backlog); i += 1000 {
				add(t, db, o, normal, backlog[i:i+1000]...)
			}
			leavers := events(5)
			add(t, db, o, urgent, leavers...)
			start(t, o)
			eventually(t, "something is sent", func() bool { return len(w.order()) > 0 })
			late := event("late")
			add(t, db, o, urgent, late)
			eventually(t, "all is sent", func() bool { return len(w.order()) == 10_006 })
			order := w.order()
			for i, leaver := range leavers {
				if order[i].ID != leaver.ID {
					t.Errorf("leaver %d came after the backlog", i)
				}
			}
			for i, e := range order {
				if e.ID == late.ID && i > 9_000 {
					t.Errorf("a leaver added while the backlog was sent came as number %d", i)
				}
			}
		})
	}
}

func TestAnEventThatIsOlderThanWhatHasLeftLeaves(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			db := sqltest.New(t, engine, sets...)
			w, _ := newWire(t)
			o := newOutbox(t, db, w, &audit{})
			start(t, o)
			add(t, db, o, normal, event("first"))
			eventually(t, "the relay sends", func() bool { return len(w.order()) == 1 })
			late := event("late")
			late.ID = "0189" + late.ID[4:] // of 2023
			add(t, db, o, normal, event("second"))
			add(t, db, o, normal, late)
			eventually(t, "both leave", func() bool { return len(w.order()) == 3 })
		})
	}
}

func TestNormalEventsGiveWayAndLeaveAllTheSame(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			db := sqltest.New(t, engine, sets...)
			w, _ := newWire(t)
			o := newOutbox(t, db, w, &audit{})
			first := event("first")
			add(t, db, o, normal, first)
			start(t, o)
			eventually(t, "the relay sends", func() bool { return len(w.order()) == 1 })
			urgency.Hurry()
			joiner, leaver := event("joiner"), event("leaver")
			add(t, db, o, normal, joiner)
			add(t, db, o, urgent, leaver)
			eventually(t, "the joiner leaves although there is always something urgent", func() bool {
				urgency.Hurry()
				return len(w.order()) == 3
			})
			if order := w.order(); order[1].ID != leaver.ID || order[2].ID != joiner.ID {
				t.Errorf("the joiner, who came first and was not urgent, left before the leaver")
			}
		})
	}
}

func TestEventsAreForgottenWhenAuditHasThemAndNotBefore(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			db := sqltest.New(t, engine, sets...)
			w, _ := newWire(t)
			a := &audit{}
			o := newOutbox(t, db, w, a)
			start(t, o)
			add(t, db, o, normal, events(4)...)
			eventually(t, "the first chunk is sent", func() bool { return len(w.order()) == 4 })
			add(t, db, o, normal, events(4)...)
			eventually(t, "the second chunk is sent", func() bool { return len(w.order()) == 8 })
			outbox.Ask(t, o)
			if got := len(read(t, o, 1, 8)); got != 8 {
				t.Fatalf("%d events are kept before audit has any, want 8", got)
			}
			a.recorded.Store(6) // the second chunk in part
			eventually(t, "the first chunk is forgotten", func() bool { outbox.Ask(t, o); return len(read(t, o, 1, 4)) == 0 })
			if got := len(read(t, o, 1, 8)); got != 4 {
				t.Errorf("%d events are kept, want the 4 of the chunk that audit has not wholly", got)
			}
			a.recorded.Store(8)
			eventually(t, "all is forgotten", func() bool { outbox.Ask(t, o); return len(read(t, o, 1, 8)) == 0 })
			add(t, db, o, normal, event("next"))
			eventually(t, "the next is sent", func() bool { return len(w.order()) == 9 })
			if got := w.order()[8].Seq; got != 9 {
				t.Errorf("after everything was forgotten the next number is %d, want 9", got)
			}
		})
	}
}

func TestWhatIsNotPublishedIsNotForgotten(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			db := sqltest.New(t, engine, sets...)
			w, _ := newWire(t)
			w.cut.Store(true)
			a := &audit{}
			o := newOutbox(t, db, w, a)
			start(t, o)
			add(t, db, o, normal, events(4)...)
			eventually(t, "the relay tries", func() bool { return w.tries.Load() > 0 })
			a.recorded.Store(4) // it pulled them
			outbox.Ask(t, o)
			if got := len(read(t, o, 1, 4)); got != 4 {
				t.Errorf("%d events are kept, want the 4 that nobody else has seen", got)
			}
		})
	}
}

func TestANewStreamGetsAllThatIsKept(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			db := sqltest.New(t, engine, sets...)
			w, dir := newWire(t)
			a := &audit{}
			o := newOutbox(t, db, w, a)
			start(t, o)
			got := listen(t, w.Bus)
			add(t, db, o, urgent, events(3)...)
			add(t, db, o, normal, events(1200)...)
			for range 1203 {
				receive(t, got, "an event")
			}
			wipe(t, dir)
			add(t, db, o, normal, event("during"))
			seen := map[uint64]bool{}
			for len(seen) < 1204 {
				seen[receive(t, got, "an event of the new stream").Seq] = true
			}
		})
	}
}

func TestANewStreamFoundAtStartGetsAllThatIsKept(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			db := sqltest.New(t, engine, sets...)
			w, _ := newWire(t)
			stop := start(t, newOutbox(t, db, w, &audit{}))
			o := newOutbox(t, db, w, &audit{})
			add(t, db, o, normal, events(40)...)
			eventually(t, "all is sent", func() bool { return len(w.order()) == 40 })
			stop()
			other, _ := newWire(t)
			got := listen(t, other.Bus)
			start(t, newOutbox(t, db, other, &audit{}))
			for range 40 {
				receive(t, got, "an event on the new stream")
			}
		})
	}
}

func TestARestartOnTheSameStreamDoublesNothing(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			db := sqltest.New(t, engine, sets...)
			w, _ := newWire(t)
			got := listen(t, w.Bus)
			for run := range 3 {
				o := newOutbox(t, db, w, &audit{})
				stop := start(t, o)
				add(t, db, o, normal, event("p"))
				if e := receive(t, got, "the run's event"); e.Seq != uint64(run)+1 {
					t.Errorf("run %d brought number %d", run+1, e.Seq)
				}
				stop()
			}
		})
	}
}

func TestAnotherProcessesEventsAreFoundWithoutBeingWoken(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			db := sqltest.New(t, engine, sets...)
			w, _ := newWire(t)
			start(t, newOutbox(t, db, w, &audit{}))
			elsewhere := newOutbox(t, db, w, &audit{}) // its relay never runs
			for i := range 3 {
				add(t, db, elsewhere, normal, event("p"))
				eventually(t, "it is sent", func() bool { return len(w.order()) == i+1 })
			}
		})
	}
}

// age makes the chunks kept so far an hour old.
func age(t *testing.T, db *sqldb.DB) {
	t.Helper()
	if err := db.InTx(t.Context(), func(tx *sqldb.Tx) error {
		_, err := tx.Exec(t.Context(), "UPDATE outbox_sent SET created_at = created_at - 3600000000")
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestOldChunksGoToANewStreamAndNotAgainToTheSame(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			db := sqltest.New(t, engine, sets...)
			w, _ := newWire(t)
			run := func(w *wire) (o *outbox.Outbox, stop func()) {
				o = newOutbox(t, db, w, &audit{})
				return o, start(t, o)
			}
			o, stop := run(w)
			add(t, db, o, normal, events(5)...)
			eventually(t, "the first chunk is sent", func() bool { return len(w.order()) == 5 })
			age(t, db)
			add(t, db, o, normal, events(2)...)
			eventually(t, "the second chunk is sent", func() bool { return len(w.order()) == 7 })
			stop()

			o, stop = run(w)
			add(t, db, o, normal, event("marker"))
			eventually(t, "the marker and the young chunk are sent", func() bool { return len(w.order()) >= 10 })
			stop()
			if got := len(w.order()); got != 10 {
				t.Errorf("a restart on the same stream sent %d events, want the 2 of the young chunk and the new one", got-7)
			}

			other, _ := newWire(t)
			got := listen(t, other.Bus)
			run(other)
			for range 8 {
				receive(t, got, "an event on the new stream")
			}
		})
	}
}

// reconnecting is a wire that says when it was told to have been away.
type reconnecting struct {
	*wire
	again []func()
}

func (r *reconnecting) OnReconnect(f func()) { r.again = append(r.again, f) }

// TestAReconnectBetweenTwoLeasesIsNotForgotten: the host of database and stream went down, so that the relay lost its
// lease, and the stream its last second.
func TestAReconnectBetweenTwoLeasesIsNotForgotten(t *testing.T) {
	t.Parallel()
	db := sqltest.New(t, "sqlite", sets...)
	w, _ := newWire(t)
	r := &reconnecting{wire: w}
	o, err := outbox.New(outbox.Config{Origin: "ingest"}, outbox.Deps{DB: db, Bus: r, Recorded: (&audit{}).Recorded, Log: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, o)
	add(t, db, o, normal, event("ann"))
	eventually(t, "published", func() bool { return len(w.order()) == 1 })
	stop()
	for _, f := range r.again {
		f()
	}
	start(t, o)
	eventually(t, "published again", func() bool { return len(w.order()) == 2 })
}
