package ingest_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/ingest"
)

func TestWhatWasSaidToComeComesByItself(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		w.deliver("msg-1", changed(ann().with(
			"start_date", "2026-12-01", "effective_date", "2026-12-01", "end_date", "2026-12-31", "time_zone", "Europe/Berlin")))
		person := w.find("10001")
		if person.GetStatus() != peoplev1.PersonStatus_PERSON_STATUS_PENDING || person.GetUserName() == "" {
			t.Errorf("before the first day the person is %v with user name %q", person.GetStatus(), person.GetUserName())
		}
		start := time.Date(2026, 11, 30, 23, 0, 0, 0, time.UTC) // midnight in Berlin
		end := time.Date(2026, 12, 31, 23, 0, 0, 0, time.UTC)   // the last day is a day with access
		at := func(when time.Time, want peoplev1.PersonStatus, version uint64) {
			t.Helper()
			w.pass(when.Sub(w.clock()))
			if err := w.svc.Fire(t.Context()); err != nil {
				t.Fatal(err)
			}
			if p := w.find("10001"); p.GetStatus() != want || p.GetVersion() != version {
				t.Errorf("at %v the person is %v, version %d; want %v, version %d", when, p.GetStatus(), p.GetVersion(), want, version)
			}
		}
		at(start.Add(-time.Microsecond), peoplev1.PersonStatus_PERSON_STATUS_PENDING, 1)
		at(start, peoplev1.PersonStatus_PERSON_STATUS_ACTIVE, 2)
		at(start, peoplev1.PersonStatus_PERSON_STATUS_ACTIVE, 2)
		at(end.Add(-time.Microsecond), peoplev1.PersonStatus_PERSON_STATUS_ACTIVE, 2)
		at(end, peoplev1.PersonStatus_PERSON_STATUS_TERMINATED, 3)

		timeline := w.timeline("10001")
		happenings := timeline.GetHappenings()
		if diff := cmp.Diff([]string{"joiner", "leaver"}, kinds(timeline)); diff != "" {
			t.Fatalf("events (-want +got):\n%s", diff)
		}
		for i, instant := range []time.Time{start, end} {
			l := happenings[i].GetLifecycle()
			if !l.GetEffectiveAt().AsTime().Equal(instant) || l.GetActor() != "service:ingest" || l.GetDeliveryId() != "" || l.GetBackdated() {
				t.Errorf("what time brought is told as %v, want effective at %v by service:ingest", l, instant)
			}
		}
		if !timeline.GetPerson().GetEndedAt().AsTime().Equal(end) || timeline.GetPerson().GetNextDue() != nil {
			t.Errorf("afterwards the person is %v", timeline.GetPerson())
		}
	})
}

func TestTheRunningServiceWakesInTime(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		events := w.run()
		first := w.deliver("msg-1", changed(ann().with("end_date", "2026-11-22")))
		if e := next(t, events); e.Subject != "tenure.lifecycle.normal.joiner."+w.find("10001").GetId() {
			t.Fatalf("the first event is on %s", e.Subject)
		}
		w.pass(24 * time.Hour)
		e := next(t, events)
		if want := "tenure.lifecycle.urgent.leaver." + w.find("10001").GetId(); e.Subject != want {
			t.Errorf("when the last day is over there is an event on %s, want %s", e.Subject, want)
		}
		if e.CorrelationID != first.Delivery {
			t.Errorf("the leaver is traced to %q, want the delivery that said the last day, %q", e.CorrelationID, first.Delivery)
		}
		fact, err := e.Decode()
		if err != nil {
			t.Fatal(err)
		}
		if l, ok := fact.(*eventv1.Lifecycle); !ok || l.GetPersonVersion() != 2 {
			t.Errorf("the event says %v, want version 2", fact)
		}
	})
}

func TestHowLongSomethingIsOverdueShows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.New(t, "sqlite", ingest.Migrations()...))
	w.deliver("msg-1", changed(ann().with("end_date", "2026-11-22")))
	if err := w.svc.Fire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if late := w.figure("tenure_ingest_oldest_due_seconds"); late != 0 {
		t.Errorf("before anything is due it is %v s late", late)
	}
	w.pass(12*time.Hour + 7*time.Second)
	if late := w.figure("tenure_ingest_oldest_due_seconds"); late != 7 {
		t.Errorf("7 s after midnight it is %v s late", late)
	}
}

func TestRawBodiesGoAndDeliveriesStay(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		understood := w.deliver("msg-1", changed(ann()))
		held := w.post("msg-2", changed(ann().with("start_date", "soon")))
		w.pass(719 * time.Hour)
		w.deliver("msg-3", changed(ann().with("external_id", "10003")))
		body := func(id string) string {
			t.Helper()
			shown, err := w.svc.ShowDelivery(w.operator(), &peoplev1.ShowDeliveryRequest{Id: id})
			if err != nil {
				t.Fatal(err)
			}
			return string(shown.GetBody())
		}
		drop := func() {
			t.Helper()
			if err := w.svc.DropRaw(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		drop()
		if body(understood.Delivery) == "" {
			t.Error("a body is gone before raw_retention has passed")
		}
		w.pass(2 * time.Hour)
		drop()
		if body(understood.Delivery) != "" {
			t.Error("a body is still there after raw_retention has passed")
		}
		if body(held.Delivery) == "" {
			t.Error("the body of a held delivery is gone, and nothing else knows what it said")
		}
		if rows := headerRows(t, w.db); rows != 2 {
			t.Errorf("%d deliveries have headers, want those of the two whose bodies are kept", rows)
		}
		if n := len(w.deliveries(&peoplev1.ListDeliveriesRequest{})); n != 3 {
			t.Errorf("%d deliveries are listed, want 3", n)
		}
	})
}

func headerRows(t *testing.T, db *sqldb.DB) (n int64) {
	t.Helper()
	if err := db.QueryRow(t.Context(), `SELECT COUNT(*) FROM deliveries WHERE headers IS NOT NULL`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
