package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/outbox"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	"github.com/tenurehq/tenure/pkg/telemetry"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

func TestWhatCommitsIsPublishedAndWhatRollsBackIsNot(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB) {
		w, _ := newWire(t)
		o := newOutbox(t, db, w, &audit{})
		start(t, o)
		got := listen(t, w.Bus)
		const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		ctx := telemetry.WithTraceParent(t.Context(), trace)
		undone, done := event("undone"), event("done")
		refused := errors.New("no")
		if err := db.InTx(ctx, func(tx *sqldb.Tx) error {
			if err := o.Add(ctx, tx, normal, undone); err != nil {
				return err
			}
			return refused
		}); !errors.Is(err, refused) {
			t.Fatal(err)
		}
		before := time.Now().UTC().Truncate(time.Microsecond)
		if err := db.InTx(ctx, func(tx *sqldb.Tx) error { return o.Add(ctx, tx, normal, done) }); err != nil {
			t.Fatal(err)
		}
		e := receive(t, got, "the committed event")
		if e.Time.Before(before) || e.Time.After(time.Now()) {
			t.Errorf("it became true at %s, not when it was committed", e.Time)
		}
		want := done
		want.Origin, want.Seq, want.Time, want.TraceParent = "ingest", 1, e.Time, trace
		if diff := cmp.Diff(want, e); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestAnEventThatCouldNeverLeaveIsRefused(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB) {
		w, _ := newWire(t)
		o := newOutbox(t, db, w, &audit{})
		huge, numbered := event("p"), event("p")
		huge.Data = make([]byte, bus.MaxData+1)
		numbered.Seq = 3
		for name, e := range map[string]bus.Event{"huge": huge, "numbered": numbered, "empty": {}} {
			if err := db.InTx(t.Context(), func(tx *sqldb.Tx) error { return o.Add(t.Context(), tx, normal, e) }); err == nil {
				t.Errorf("an event that is %s was taken", name)
			}
		}
	})
}

func TestNumbersHaveNoGapWithManyWritersAndTwoRelays(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB) {
		const writers, transactions = 8, 60
		w, _ := newWire(t)
		a, b := newOutbox(t, db, w, &audit{}), newOutbox(t, db, w, &audit{})
		stopA := start(t, a)
		start(t, b)
		got := listen(t, w.Bus)
		var mu sync.Mutex
		committed := map[string]bool{}
		var writing sync.WaitGroup
		for n := range writers {
			writing.Go(func() {
				for i := range transactions {
					o, lane := a, normal
					if i%2 == 0 {
						o = b
					}
					if i%10 == 0 {
						lane = urgent
					}
					mine := events(1 + (n+i)%4)
					rollback := errors.New("rolled back")
					err := db.InTx(t.Context(), func(tx *sqldb.Tx) error {
						if err := o.Add(t.Context(), tx, lane, mine...); err != nil {
							return err
						}
						if i%5 == 4 {
							return rollback
						}
						return nil
					})
					if err != nil && !errors.Is(err, rollback) {
						t.Error(err)
					}
					if err == nil {
						mu.Lock()
						for _, e := range mine {
							committed[e.ID] = true
						}
						mu.Unlock()
					}
					if n == 0 && i == transactions/2 {
						stopA() // the other takes over
					}
				}
			})
		}
		writing.Wait()
		bySeq := map[uint64]string{}
		for len(bySeq) < len(committed) {
			e := receive(t, got, fmt.Sprintf("event %d of %d", len(bySeq)+1, len(committed)))
			if other, twice := bySeq[e.Seq]; twice && other != e.ID {
				t.Fatalf("two events have the number %d", e.Seq)
			}
			if !committed[e.ID] {
				t.Fatalf("event %d was rolled back and left all the same", e.Seq)
			}
			bySeq[e.Seq] = e.ID
		}
		for seq := range uint64(len(committed)) {
			if bySeq[seq+1] == "" {
				t.Errorf("number %d is missing", seq+1)
			}
		}
	})
}

func TestMoversAtTheSameTimeShareNothing(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB) {
		w, _ := newWire(t)
		w.cut.Store(true)
		o := newOutbox(t, db, w, &audit{})
		outbox.Begin(t, o)
		const n = 3000
		all := events(n)
		for i := 0; i < n; i += 100 {
			lane := normal
			if i%300 == 0 {
				lane = urgent
			}
			add(t, db, o, lane, all[i:i+100]...)
		}
		var moving sync.WaitGroup
		for range 4 { // as if the lease had failed
			moving.Go(func() {
				for outbox.Move(t, o) > 0 {
				}
			})
		}
		moving.Wait()
		for outbox.Move(t, o) > 0 { // what a mover left to one that was faster
		}
		seen := map[string]bool{}
		for i, e := range read(t, o, 1, n+100) {
			if e.Seq != uint64(i)+1 {
				t.Fatalf("number %d in place %d", e.Seq, i+1)
			}
			seen[e.ID] = true
		}
		if len(seen) != n {
			t.Errorf("%d different events were moved, want %d", len(seen), n)
		}
	})
}

func TestWhatWasMovedAndNotPublishedIsPublishedByTheNextRelay(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB) {
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

func TestAStreamThatRefusesLosesNothing(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB) {
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

func TestUrgentEventsOvertakeTenThousand(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB) {
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

func TestEventsAreForgottenWhenAuditHasThemAndNotBefore(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB) {
		w, _ := newWire(t)
		a := &audit{}
		o := newOutbox(t, db, w, a)
		start(t, o)
		add(t, db, o, normal, events(4)...)
		eventually(t, "the first chunk is sent", func() bool { return len(w.order()) == 4 })
		add(t, db, o, normal, events(4)...)
		eventually(t, "the second chunk is sent", func() bool { return len(w.order()) == 8 })
		asked := a.asked.Load()
		eventually(t, "audit is asked again", func() bool { return a.asked.Load() > asked+1 })
		if got := len(read(t, o, 1, 8)); got != 8 {
			t.Fatalf("%d events are kept before audit has any, want 8", got)
		}
		a.recorded.Store(6) // the second chunk in part
		eventually(t, "the first chunk is forgotten", func() bool { return len(read(t, o, 1, 4)) == 0 })
		if got := len(read(t, o, 1, 8)); got != 4 {
			t.Errorf("%d events are kept, want the 4 of the chunk that audit has not wholly", got)
		}
		a.recorded.Store(8)
		eventually(t, "all is forgotten", func() bool { return len(read(t, o, 1, 8)) == 0 })
		add(t, db, o, normal, event("next"))
		eventually(t, "the next is sent", func() bool { return len(w.order()) == 9 })
		if got := w.order()[8].Seq; got != 9 {
			t.Errorf("after everything was forgotten the next number is %d, want 9", got)
		}
	})
}

func TestWhatIsNotPublishedIsNotForgotten(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB) {
		w, _ := newWire(t)
		w.cut.Store(true)
		a := &audit{}
		o := newOutbox(t, db, w, a)
		start(t, o)
		add(t, db, o, normal, events(4)...)
		eventually(t, "the relay tries", func() bool { return w.tries.Load() > 0 })
		a.recorded.Store(4) // it pulled them
		asked := a.asked.Load()
		eventually(t, "audit is asked again", func() bool { return a.asked.Load() > asked+1 })
		if got := len(read(t, o, 1, 4)); got != 4 {
			t.Errorf("%d events are kept, want the 4 that nobody else has seen", got)
		}
	})
}

func TestANewStreamGetsAllThatIsKept(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB) {
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

func TestANewStreamFoundAtStartGetsAllThatIsKept(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB) {
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

func TestARestartOnTheSameStreamDoublesNothing(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB) {
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

func TestTheEventLogReadsAnyRange(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB) {
		w, _ := newWire(t)
		w.cut.Store(true) // nothing is published
		o := newOutbox(t, db, w, &audit{})
		outbox.Begin(t, o)
		for _, n := range []int{3, 1, 5, 2} {
			add(t, db, o, normal, events(n)...)
			outbox.Move(t, o)
		}
		add(t, db, o, normal, event("not numbered"))
		all := read(t, o, 1, 11)
		if len(all) != 11 {
			t.Fatalf("%d events, want 11", len(all))
		}
		for from := uint64(1); from <= 12; from++ {
			for to := from; to <= 13; to++ {
				want := all[min(from-1, 11):min(to, 11)]
				if diff := cmp.Diff(want, read(t, o, from, to), cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("range %d to %d (-want +got):\n%s", from, to, diff)
				}
			}
		}
		log := outbox.NewEventLog(o)
		answer := &reading[eventv1.ReadResponse]{ctx: t.Context()}
		if err := log.Read(&eventv1.ReadRequest{Origin: "policy", From: 1, To: 1}, answer); fault.KindOf(err) != fault.NotFound {
			t.Errorf("another origin's events: %v, want not found", err)
		}
		for _, bad := range []*eventv1.ReadRequest{{Origin: "ingest"}, {Origin: "ingest", From: 5, To: 4}} {
			if err := log.Read(bad, answer); fault.KindOf(err) != fault.Invalid {
				t.Errorf("range %d to %d: %v, want invalid", bad.GetFrom(), bad.GetTo(), err)
			}
		}
		if got := len(read(t, o, 1, 1<<64-1)); got != 11 {
			t.Errorf("the widest range has %d events, want 11", got)
		}
	})
}

func TestALargeChunkIsReadInSmallResponses(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB) {
		w, _ := newWire(t)
		o := newOutbox(t, db, w, &audit{})
		outbox.Begin(t, o)
		for range 40 {
			e := event("p")
			e.Data = make([]byte, bus.MaxData)
			add(t, db, o, normal, e)
		}
		outbox.Move(t, o)
		answer := &reading[eventv1.ReadResponse]{ctx: t.Context()}
		if err := outbox.NewEventLog(o).Read(&eventv1.ReadRequest{Origin: "ingest", From: 1, To: 40}, answer); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, m := range answer.messages {
			if n += len(m.GetEvents()); len(m.GetEvents()) > 8 {
				t.Errorf("a response of %d large events", len(m.GetEvents()))
			}
		}
		if n != 40 {
			t.Errorf("%d events, want 40", n)
		}
	})
}

func TestParkedEventsAreKeptOnceAndShown(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB) {
		w, _ := newWire(t)
		o := newOutbox(t, db, w, &audit{})
		odd := bus.Event{Subject: "tenure.odd", Data: []byte{0xff}}
		many := events(450)
		for range 2 {
			for _, e := range append(many[:450:450], odd) {
				if err := o.Park(t.Context(), "worker", e, errors.New("not a\x00 fact "+strings.Repeat("é", 2000))); err != nil {
					t.Fatal(err)
				}
			}
		}
		answer := &reading[eventv1.ParkedResponse]{ctx: t.Context()}
		if err := outbox.NewEventLog(o).Parked(&eventv1.ParkedRequest{}, answer); err != nil {
			t.Fatal(err)
		}
		if len(answer.messages) != 451 {
			t.Fatalf("%d events are parked, want 451", len(answer.messages))
		}
		shown := map[string]bus.Event{}
		for _, m := range answer.messages {
			shown[m.GetEvent().GetId()] = bus.FromProto(m.GetEvent())
			if m.GetConsumer() != "worker" || !strings.HasPrefix(m.GetError(), "not a fact é") || len(m.GetError()) > 1000 || time.Since(m.GetParkedAt().AsTime()) > time.Hour {
				t.Fatalf("shown as %v", m)
			}
		}
		for _, e := range append(many[:450:450], odd) {
			if diff := cmp.Diff(e, shown[e.ID]); diff != "" {
				t.Fatalf("(-parked +shown):\n%s", diff)
			}
		}
	})
}

func TestADatabaseRestoredFromABackupUsesNoNumberTwice(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB) {
		w, _ := newWire(t)
		a := &audit{}
		a.recorded.Store(40)
		o := newOutbox(t, db, w, a)
		add(t, db, o, normal, event("p"))
		start(t, o)
		eventually(t, "it is sent", func() bool { return len(w.order()) == 1 })
		if got := w.order()[0].Seq; got != 41 {
			t.Errorf("the number is %d although audit has 40", got)
		}
	})
}

func TestADatabaseHoldsOneOriginsOutbox(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB) {
		w, _ := newWire(t)
		outbox.Begin(t, newOutbox(t, db, w, &audit{}))
		other, err := outbox.New(outbox.Config{Origin: "policy"}, outbox.Deps{DB: db, Bus: w, Recorded: (&audit{}).Recorded, Log: logger(t)})
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Relay(t.Context()); err == nil {
			t.Error("two origins share a database, and their numbers")
		}
	})
}

func TestBehindIsWhatAuditSaysAndGrowsWhileItIsSilent(t *testing.T) {
	t.Parallel()
	db := sqltest.New(t, "sqlite", sets...)
	w, _ := newWire(t)
	a := &audit{}
	o := newOutbox(t, db, w, a)
	start(t, o)
	eventually(t, "audit has answered", func() bool { return o.Behind() == 42*time.Second })
	a.away.Store(true)
	eventually(t, "silence counts", func() bool { return o.Behind() > 48*time.Second })
}

func TestTheAgeOfTheOldestEventIsAFigure(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB) {
		w, _ := newWire(t)
		w.cut.Store(true)
		o := newOutbox(t, db, w, &audit{})
		registry := prometheus.NewRegistry()
		registry.MustRegister(o)
		age := func() float64 { return testutil.ToFloat64(o) }
		if got := age(); got != 0 {
			t.Errorf("the age of nothing is %v", got)
		}
		add(t, db, o, normal, event("p"))
		eventually(t, "what waits has an age", func() bool { return age() > 0.01 })
		start(t, o)
		eventually(t, "the relay tries", func() bool { return w.tries.Load() > 0 })
		if got := age(); got == 0 {
			t.Errorf("what was moved and not published has the age %v", got)
		}
		w.cut.Store(false)
		eventually(t, "what was published has no age", func() bool { return age() == 0 })
	})
}

func TestAnotherProcessesEventsAreFoundWithoutBeingWoken(t *testing.T) {
	each(t, func(t *testing.T, db *sqldb.DB) {
		w, _ := newWire(t)
		start(t, newOutbox(t, db, w, &audit{}))
		elsewhere := newOutbox(t, db, w, &audit{}) // its relay never runs
		for i := range 3 {
			add(t, db, elsewhere, normal, event("p"))
			eventually(t, "it is sent", func() bool { return len(w.order()) == i+1 })
		}
	})
}

// BenchmarkEvents is the rate of events from their transaction to a consumer, with 32 writers of 5 events each.
func BenchmarkEvents(b *testing.B) {
	for _, engine := range sqltest.Engines {
		b.Run(engine, func(b *testing.B) {
			db := sqltest.New(b, engine, sets...)
			w, _ := newWire(b)
			o := newOutbox(b, db, w, &audit{})
			start(b, o)
			got := listen(b, w.Bus)
			b.SetParallelism(16)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := db.InTx(context.Background(), func(tx *sqldb.Tx) error {
						return o.Add(context.Background(), tx, normal, events(5)...)
					}); err != nil {
						b.Error(err)
					}
				}
			})
			added := b.Elapsed()
			for range 5 * b.N {
				receive(b, got, "an event")
			}
			b.ReportMetric(float64(5*b.N)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(5*b.N)/added.Seconds(), "added/s")
		})
	}
}

// BenchmarkLoneEvent is the time of one event from the beginning of its transaction to its consumer.
func BenchmarkLoneEvent(b *testing.B) {
	for _, engine := range sqltest.Engines {
		b.Run(engine, func(b *testing.B) {
			db := sqltest.New(b, engine, sets...)
			w, _ := newWire(b)
			o := newOutbox(b, db, w, &audit{})
			start(b, o)
			got := listen(b, w.Bus)
			for b.Loop() {
				add(b, db, o, urgent, event("p"))
				receive(b, got, "the event")
				time.Sleep(rand.N(time.Millisecond))
			}
		})
	}
}
