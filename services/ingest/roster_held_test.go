package ingest_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/ingest"
	"github.com/tenurehq/tenure/services/ingest/roster"
)

func TestARosterThatBreaksItsContractIsHeldWhole(t *testing.T) {
	t.Parallel()
	contract := roster.Contract{
		MinRows: roster.Bound{Share: 80 * roster.Percent}, MaxRows: roster.Bound{Share: 120 * roster.Percent}, KeyStability: 90 * roster.Percent,
		NullRate: map[string]roster.Share{"department": roster.Percent}, Freshness: 26 * time.Hour,
	}
	sqltest.Run(t, ingest.Migrations(), func(t *testing.T, db *sqldb.DB) {
		w := agreed(t, db, contract)
		people := working(asOf(history(t), 1771))
		if r := w.give(list{id: "good", made: noon, people: people, size: 200}); r.GetTakenAt() == nil {
			t.Fatalf("a good roster is shown as %v", r)
		}
		w.pass(24 * time.Hour)
		was, told, facts := w.everybody(), w.told(), w.count(`SELECT count(*) FROM facts`)
		each := func(change func(n int, d data) data) []data {
			all := make([]data, len(people))
			for i, d := range people {
				all[i] = change(i, d.with("title", "Somebody Else")) // it would show if anything were taken in
			}
			return all
		}
		same := each(func(_ int, d data) data { return d })
		for i, c := range []struct {
			what, clause string
			l            list
		}{
			{"an empty roster", "min_rows: 0 records", list{}},
			{"half of it", "min_rows: ", list{people: same[:len(same)/2]}},
			{"twice as many", "max_rows: ", list{people: append(slices.Clone(same), each(func(n int, d data) data { return d.with("external_id", fmt.Sprint("n", n)) })...)}},
			{"other keys", "key_stability: 0 of ", list{people: each(func(n int, d data) data { return d.with("external_id", fmt.Sprint("n", n)) })}},
			{"a column that is empty", "null_rate.department: ", list{people: each(func(_ int, d data) data { return d.with("department", nil) })}},
			{"a renamed column", "min_rows: 0 records", list{people: each(func(_ int, d data) data { return d.with("dept", d["department"], "department", nil) })}},
			{"an old one", "freshness: made 27h0m0s ago", list{people: same, made: w.clock().Add(-27 * time.Hour)}},
			{"somebody twice", "keys: 1 records", list{people: append(slices.Clone(same), same[0])}},
		} {
			c.l.id, c.l.size = fmt.Sprint("bad-", i), 200
			if c.l.made.IsZero() {
				c.l.made = w.clock()
			}
			if c.what == "an old one" { // the one before is older still
				if err := db.InTx(t.Context(), func(tx *sqldb.Tx) error {
					_, err := tx.Exec(t.Context(), `UPDATE rosters SET made_at = 1 WHERE id = 'good'`)
					return err
				}); err != nil {
					t.Fatal(err)
				}
			}
			r := w.give(c.l)
			if !strings.Contains(r.GetHeld(), c.clause) || r.GetJudgedAt() == nil || r.GetTakenAt() != nil {
				t.Errorf("%s is shown as %v, want it held by %q", c.what, r, c.clause)
			}
			held := w.deliveries(&peoplev1.ListDeliveriesRequest{HeldOnly: true, Limit: uint32(len(c.l.bodies()))})
			if len(held) != len(r.GetDeliveries()) || held[0].GetHeld() != "roster: "+r.GetHeld() {
				t.Errorf("%s: %d deliveries of %d are held, for %q", c.what, len(held), len(r.GetDeliveries()), held[0].GetHeld())
			}
		}
		if diff := cmp.Diff(was, w.everybody()); diff != "" {
			t.Errorf("people (-before +after):\n%s", diff)
		}
		if w.told() != told || w.count(`SELECT count(*) FROM facts`) != facts || len(w.absent()) != 0 {
			t.Error("something of a roster that is held was taken in")
		}
		if got := w.figure("tenure_ingest_rosters_held", "source", "acme-hr"); got != 8 {
			t.Errorf("the figure of held rosters is %v, want 8", got)
		}
		w.pass(time.Hour)
		if r := w.give(list{id: "next", made: w.clock(), people: people, size: 200}); r.GetTakenAt() == nil {
			t.Fatalf("the next good roster is shown as %v", r)
		}
		if !w.roster("bad-1").GetSuperseded() || len(w.deliveries(&peoplev1.ListDeliveriesRequest{HeldOnly: true})) == 0 {
			t.Error("a held roster is not superseded by a later one, or what could not be understood is forgotten")
		}
	})
}

func TestAnOperatorMayTakeInWhatIsHeld(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		people := some(20000, 20)
		w.give(list{id: "r1", made: w.clock(), people: people})
		w.pass(time.Hour)
		half := slices.Clone(people[:10])
		half[0] = half[0].with("title", "Manager")
		if r := w.give(list{id: "r2", made: w.clock(), people: half, size: 5}); !strings.HasPrefix(r.GetHeld(), "min_rows: 10 records, at least 16 (80% of 20 in the last roster)") {
			t.Fatalf("half a roster is shown as %v", r)
		}
		events := w.run()
		accept := func(id string) (*peoplev1.AcceptRosterResponse, error) {
			return w.svc.AcceptRoster(w.operator(), &peoplev1.AcceptRosterRequest{Source: "acme-hr", Id: id})
		}
		for id, kind := range map[string]fault.Kind{"r1": fault.Refused, "r9": fault.NotFound} {
			if _, err := accept(id); fault.KindOf(err) != kind {
				t.Errorf("the roster %s can be accepted: %v", id, err)
			}
		}
		// Judging again changes nothing while the contract is what it is.
		if _, err := w.svc.ReplayDelivery(w.operator(), &peoplev1.ReplayDeliveryRequest{Id: w.roster("r2").GetDeliveries()[0]}); err != nil {
			t.Fatal(err)
		}
		w.judge()
		if r := w.roster("r2"); r.GetHeld() == "" {
			t.Fatalf("judged again the roster is shown as %v", r)
		}
		if _, err := accept("r2"); err != nil {
			t.Fatal(err)
		}
		w.judge()
		r := w.roster("r2")
		for deadline := time.Now().Add(20 * time.Second); r.GetTakenAt() == nil && time.Now().Before(deadline); r = w.roster("r2") {
			w.judge() // the running service may be taking in a part of it
		}
		if r.GetTakenAt() == nil || r.GetAcceptedBy() != "operator:ada" || r.GetChanged() != 1 || r.GetAbsent() != 10 || len(w.absent()) != 10 {
			t.Errorf("an accepted roster is shown as %v", r)
		}
		if held := w.deliveries(&peoplev1.ListDeliveriesRequest{HeldOnly: true}); len(held) != 0 {
			t.Errorf("%d deliveries are held still", len(held))
		}
		subjects := map[string]int{}
		for subjects["tenure.operator.accept-roster"] == 0 {
			subjects[next(t, events).Subject]++
		}
		if subjects["tenure.delivery.held"] == 0 || subjects["tenure.operator.replay"] != 1 {
			t.Errorf("what was published is %v", slices.Sorted(maps.Keys(subjects)))
		}
	})
}

func TestARosterIsJudgedByTheContractOfNowWhenReplayed(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, ingest.Migrations(), func(t *testing.T, db *sqldb.DB) {
		w := agreed(t, db, roster.Contract{MinRows: roster.Bound{Rows: 100}})
		r := w.give(list{id: "r1", made: noon, people: some(20000, 20), size: 10})
		if r.GetHeld() != "min_rows: 20 records, at least 100" {
			t.Fatalf("the roster is shown as %v", r)
		}
		cfg := config(t)
		cfg.Sources[0].Contract = &roster.Contract{MinRows: roster.Bound{Rows: 20}}
		w.restart(cfg)
		if _, err := w.svc.ReplayDelivery(w.operator(), &peoplev1.ReplayDeliveryRequest{Id: r.GetDeliveries()[1]}); err != nil {
			t.Fatal(err)
		}
		w.judge()
		if r := w.roster("r1"); r.GetTakenAt() == nil || r.GetChanged() != 20 || r.GetAcceptedBy() != "" {
			t.Errorf("the roster is shown as %v", r)
		}
	})
}

func TestARecordOfARosterThatCannotBeUnderstoodIsHeldAlone(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		people := some(20000, 20)
		w.give(list{id: "r1", made: w.clock(), people: people})
		w.pass(time.Hour)
		listed := slices.Clone(people)
		listed[3] = listed[3].with("start_date", "soon")
		listed[4] = listed[4].with("title", "Manager")
		r := w.give(list{id: "r2", made: w.clock(), people: listed})
		if r.GetChanged() != 1 || r.GetAbsent() != 0 {
			t.Errorf("the roster is shown as %v", r)
		}
		held := w.deliveries(&peoplev1.ListDeliveriesRequest{HeldOnly: true})
		if len(held) != 1 || held[0].GetItemsHeld() != 1 {
			t.Fatalf("held are %v", held)
		}
		if got := w.find("20003").GetStatus(); got != peoplev1.PersonStatus_PERSON_STATUS_ACTIVE {
			t.Errorf("who could not be understood is %s", got)
		}
		// A replay takes in nothing that only repeats what was known.
		answer, err := w.svc.ReplayDelivery(w.operator(), &peoplev1.ReplayDeliveryRequest{Id: held[0].GetId()})
		if err != nil || len(answer.GetItems()) != 1 || answer.GetItems()[0].GetHeld() == "" {
			t.Errorf("the replay is answered %v (%v)", answer.GetItems(), err)
		}
		if got := w.count(`SELECT count(*) FROM facts`); got != 21 {
			t.Errorf("%d facts, want 21", got)
		}
	})
}

func TestASourceThatSendsNoRosterIsShown(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, ingest.Migrations(), func(t *testing.T, db *sqldb.DB) {
		w := agreed(t, db, roster.Contract{Freshness: 26 * time.Hour})
		stale := func() []string { return w.findings(peoplev1.PeopleFindingKind_PEOPLE_FINDING_KIND_STALE) }
		check := func(figure float64, want ...string) {
			t.Helper()
			w.judge()
			if diff := cmp.Diff(append([]string{}, want...), stale()); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			if got := w.figure("tenure_ingest_roster_stale", "source", "acme-hr"); got != figure {
				t.Errorf("the figure is %v, want %v", got, figure)
			}
		}
		check(1, "acme-hr never")
		w.give(list{id: "r1", made: w.clock(), people: some(20000, 2)})
		check(0)
		w.pass(26 * time.Hour)
		check(0)
		w.pass(time.Second)
		check(1, "acme-hr 11-23 14:00")
		w.give(list{id: "r2", made: noon, people: some(20000, 2)}) // no newer than the first
		check(1, "acme-hr 11-23 14:00")
		w.give(list{id: "r3", made: w.clock(), people: some(20000, 2)})
		check(0)
	})
}

func TestARosterThatWasMadeBeforeTheLastOneIsNotTakenIn(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		people := some(20000, 10)
		w.give(list{id: "r2", made: noon, people: people})
		r := w.give(list{id: "r1", made: noon.Add(-time.Hour), people: people[:9]})
		if !r.GetSuperseded() || r.GetTakenAt() != nil || len(w.absent()) != 0 {
			t.Errorf("an older roster is shown as %v", r)
		}
	})
}

func TestARosterWaitsForAPartLongerThanBodiesAreKept(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		bodies := list{id: "r1", made: noon, people: some(20000, 20), size: 10}.bodies()
		w.deliver("part-1", bodies[0])
		w.pass(800 * time.Hour)
		if err := w.svc.DropRaw(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.deliver("part-2", bodies[1])
		w.judge()
		if r := w.roster("r1"); r.GetChanged() != 20 {
			t.Errorf("the roster is shown as %v", r)
		}
		w.pass(800 * time.Hour)
		if err := w.svc.DropRaw(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := w.count(`SELECT count(*) FROM deliveries WHERE body IS NOT NULL`); got != 0 {
			t.Errorf("%d bodies of a roster that is taken are kept", got)
		}
	})
}
