package ingest_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/tenurehq/tenure/pkg/bus"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
)

// career is what an HR system says about somebody, in order.
func career(id string) []string {
	day := func(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 9, 0, 0, 0, time.UTC) }
	who := ann().with("external_id", id, "email", id+"@acme.example")
	return []string{
		changedAt(day(2019, 12, 1), who.with("effective_date", "2020-01-01", "start_date", "2020-01-01")),
		changedAt(day(2020, 6, 1), who.with("effective_date", "2020-06-01", "department", "d004")),
		changedAt(day(2020, 6, 2), who.with("effective_date", "2020-06-01", "department", "d006")),
		changedAt(day(2021, 3, 1), who.with("effective_date", "2021-03-01", "department", "d006", "status", "on_leave")),
		changedAt(day(2021, 9, 1), who.with("effective_date", "2021-09-01", "department", "d006")),
		changedAt(day(2022, 12, 20), who.with("effective_date", "2023-01-01", "department", "d006", "status", "terminated")),
		changedAt(day(2024, 1, 2), who.with("effective_date", "2024-02-01", "department", "d001", "title", "Manager")),
		changedAt(day(2025, 5, 5), who.with("effective_date", "2025-05-05", "department", "d001", "title", "Director", "end_date", "2027-12-31")),
	}
}

func TestWhatPeopleComeToBeDoesNotDependOnTheOrderOfArrival(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		for i, body := range career("ordered") {
			w.deliver(fmt.Sprint("ordered-", i), body)
		}
		want := w.find("ordered")
		if want.GetRecord().GetTitle() != "Director" || want.GetNextDue() == nil {
			t.Fatalf("in order the person comes to be %v", want)
		}
		shuffle := rand.New(rand.NewPCG(1, 2))
		for round := range 20 {
			id := fmt.Sprintf("shuffled%02d", round)
			bodies := career(id)
			order := append(shuffle.Perm(len(bodies)), shuffle.Perm(len(bodies))...) // and everything twice
			for _, i := range order {
				w.deliver(fmt.Sprintf("%s-%d", id, i), bodies[i])
			}
			got := w.find(id)
			if got.GetVersion() != uint64(len(bodies)) {
				t.Errorf("order %v: version %d after %d facts", order, got.GetVersion(), len(bodies))
			}
			blur(got, want)
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("order %v comes to another end (-ordered +shuffled):\n%s", order, diff)
			}
		}
	})
}

// blur makes of two people who differ only in who they are two who do not.
func blur(people ...*peoplev1.Person) {
	for _, p := range people {
		p.Id, p.Version, p.UserName = "", 0, ""
		records := []*peoplev1.Record{p.GetRecord()}
		for _, e := range p.GetEmployments() {
			e.ExternalId = ""
			records = append(records, e.GetRecord())
		}
		for _, r := range records {
			r.ExternalId, r.Email = "", ""
		}
	}
}

func TestVersionsRiseByOneUnderManyWriters(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		const writers, each = 8, 10
		var all sync.WaitGroup
		for writer := range writers {
			all.Go(func() {
				for n := range each {
					made := noon.Add(-time.Hour + time.Duration(writer*each+n)*time.Second)
					w.deliver(fmt.Sprintf("msg-%d-%d", writer, n), changedAt(made, ann().with("title", fmt.Sprintf("%d-%d", writer, n))))
				}
			})
		}
		all.Wait()
		timeline := w.timeline("10001")
		if got := timeline.GetPerson().GetVersion(); got != writers*each {
			t.Errorf("version %d after %d facts", got, writers*each)
		}
		if got := len(timeline.GetFacts()); got != writers*each {
			t.Errorf("%d facts of %d are there", got, writers*each)
		}
		if got, want := timeline.GetPerson().GetRecord().GetTitle(), fmt.Sprintf("%d-%d", writers-1, each-1); got != want {
			t.Errorf("the title is that of %s, want the newest, %s", got, want)
		}
		seen := map[uint64]bool{}
		for _, h := range timeline.GetHappenings() {
			version := h.GetLifecycle().GetPersonVersion()
			if seen[version] || version < 1 || version > writers*each {
				t.Errorf("version %d of an event is used twice or was never the person's", version)
			}
			seen[version] = true
		}
	})
}

func TestTwoBatchesOfTheSamePeopleAtOnceBothHold(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		const people = 50
		roster := func(made time.Time, backwards bool) string {
			all := make([]data, people)
			for i := range all {
				n := i
				if backwards {
					n = people - 1 - i
				}
				all[i] = ann().with("external_id", fmt.Sprint(30000+n), "title", made.Format(time.TimeOnly))
			}
			return text(map[string]any{"type": "person.batch", "timestamp": made, "data": map[string]any{"people": all}})
		}
		var all sync.WaitGroup
		for n := range 8 {
			all.Go(func() { w.deliver(fmt.Sprint("msg-", n), roster(noon.Add(time.Duration(n-8)*time.Minute), n%2 == 1)) })
		}
		all.Wait()
		for i := range people {
			p := w.find(fmt.Sprint(30000 + i))
			if p.GetVersion() != 8 || p.GetRecord().GetTitle() != "11:59:00" {
				t.Fatalf("after eight rosters person %d has version %d and the title %s", i, p.GetVersion(), p.GetRecord().GetTitle())
			}
		}
	})
}

func TestEventsCarryNamesOfWhatChangedAndNeverValues(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		const canary = "Zyxwvut"
		events := w.run()
		secretive := func(n int) data {
			d := data{"external_id": canary + "1", "status": "active", "attributes": data{"cost_center": fmt.Sprint(canary, n)}}
			for _, name := range []string{"given_name", "family_name", "department", "title", "manager_external_id", "company", "location"} {
				d[name] = fmt.Sprint(canary, name, n)
			}
			return d.with("email", fmt.Sprintf("%s%d@acme.example", canary, n), "employment_type", "employee")
		}
		w.deliver(canary+"-msg-1", changed(secretive(1)))
		w.pass(time.Second)
		w.deliver(canary+"-msg-2", changed(secretive(2)))
		if answer := w.post(canary+"-msg-3", changed(secretive(3).with("start_date", canary))); answer.held() == "" {
			t.Fatalf("a bad date was answered %s", answer.text)
		}
		if _, err := w.svc.SetPerson(w.operator(), &peoplev1.SetPersonRequest{
			Ref: canary + "1", Fields: map[string]string{"title": canary},
		}); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Second)
		w.deliver(canary+"-msg-4", changed(secretive(4).with("status", "terminated")))
		want := []string{"Lifecycle", "Lifecycle", "DeliveryHeld", "Lifecycle", "Lifecycle"}
		for range want {
			event := next(t, events)
			encoded, err := proto.Marshal(event.Proto())
			if err != nil {
				t.Fatal(err)
			}
			if containsFold(encoded, canary) {
				t.Errorf("an event on %s holds a person's data: %q", event.Subject, encoded)
			}
		}
		mover := w.timeline(canary + "1").GetHappenings()[1]
		if len(mover.GetChanges()) != 9 || mover.GetChanges()[0].GetFrom() == mover.GetChanges()[0].GetTo() {
			t.Errorf("the timeline does not show the values: %v", mover.GetChanges())
		}
		if diff := cmp.Diff(9, len(mover.GetLifecycle().GetChanged())); diff != "" {
			t.Errorf("number of changed names (-want +got):\n%s", diff)
		}
	})
}

func TestALeaverTravelsInTheUrgentLane(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		events := w.run()
		first := w.deliver("msg-1", changed(ann()))
		w.pass(time.Second)
		request := w.signed("acme-hr", "msg-2", changed(ann().with("status", "terminated")))
		request.Header.Set("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
		second := w.send(request)
		person := w.find("10001").GetId()
		got := map[string]bus.Event{}
		for range 2 {
			e := next(t, events)
			got[e.Subject] = e
		}
		joiner, leaver := got["tenure.lifecycle.normal.joiner."+person], got["tenure.lifecycle.urgent.leaver."+person]
		if joiner.ID == "" || leaver.ID == "" {
			t.Fatalf("events are on %v", got)
		}
		if joiner.CorrelationID != first.Delivery || leaver.CorrelationID != second.Delivery {
			t.Error("an event does not tell which delivery led to it")
		}
		if leaver.Origin != "ingest" || !strings.HasPrefix(leaver.TraceParent, "00-4bf92f3577b34da6a3ce929d0e0e4736-") {
			t.Errorf("the leaver's envelope is %+v", leaver)
		}
	})
}

func containsFold(text []byte, part string) bool {
	return bytes.Contains(bytes.ToLower(text), []byte(strings.ToLower(part)))
}
