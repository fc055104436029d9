package outbox_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/outbox"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

func TestTheEventLogReadsAnyRange(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			db := sqltest.New(t, engine, sets...)
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
}

func TestALargeChunkIsReadInSmallResponses(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			db := sqltest.New(t, engine, sets...)
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
}

func TestParkedEventsAreKeptOnceAndShown(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			db := sqltest.New(t, engine, sets...)
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
}

func TestADatabaseHoldsOneOriginsOutbox(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			db := sqltest.New(t, engine, sets...)
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

// TestBehindCountsWhatAuditDoesNotRecord: its disk is full, say. It answers, and knows of no hole.
func TestBehindCountsWhatAuditDoesNotRecord(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			db := sqltest.New(t, engine, sets...)
			w, _ := newWire(t)
			var recorded atomic.Uint64
			o, err := outbox.New(outbox.Config{Origin: "ingest"}, outbox.Deps{
				DB: db, Bus: w, Log: logger(t),
				Recorded: func(context.Context, string) (uint64, time.Duration, error) { return recorded.Load(), 0, nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			start(t, o)
			add(t, db, o, normal, event("ann"), event("bob"))
			eventually(t, "published", func() bool { return len(w.order()) == 2 })
			recorded.Store(1)
			eventually(t, "bob's event waits", func() bool { return o.Behind() > 0 })
			recorded.Store(2)
			eventually(t, "nothing waits", func() bool { return o.Behind() == 0 })
		})
	}
}

func TestTheAgeOfTheOldestEventIsAFigure(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			db := sqltest.New(t, engine, sets...)
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
}
