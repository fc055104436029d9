package ingest_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/fault"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
)

func TestAPersonIsFoundByEachOfTheirNames(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		w.deliver("msg-1", changed(ann()))
		w.deliver("msg-2", changed(ann().with("external_id", "10002", "given_name", "Bea", "email", "ANN.Archer@acme.example")))
		w.deliver("msg-3", changed(ann().with("external_id", "10003", "given_name", "Cat", "email", "cat@acme.example")))
		cat := w.find("10003")
		for _, ref := range []string{cat.GetId(), strings.ToUpper(cat.GetId()), cat.GetUserName(), "cat@acme.example", "CAT@acme.example"} {
			if got := w.find(ref); got.GetId() != cat.GetId() {
				t.Errorf("%s is %s", ref, got.GetId())
			}
		}
		_, err := w.svc.FindPerson(w.operator(), &peoplev1.FindPersonRequest{Ref: "ann.archer@acme.example"})
		if fault.KindOf(err) != fault.Refused {
			t.Fatalf("an e-mail of two people: %v, want it refused", err)
		}
		for _, id := range []string{"10001", "10002"} {
			if candidate := w.find(id).GetId(); !strings.Contains(err.Error(), candidate) {
				t.Errorf("the candidates lack %s: %v", candidate, err)
			}
		}
		for _, ref := range []string{"10004", "0198f3c2-0000-7000-8000-000000000000"} {
			if _, err := w.svc.FindPerson(w.operator(), &peoplev1.FindPersonRequest{Ref: ref}); fault.KindOf(err) != fault.NotFound {
				t.Errorf("%s: %v, want not found", ref, err)
			}
		}
		got, err := w.svc.GetPeople(w.operator(), &peoplev1.GetPeopleRequest{Ids: []string{cat.GetId(), "0198f3c2-0000-7000-8000-000000000000"}})
		if err != nil || len(got.GetPeople()) != 1 || got.GetPeople()[0].GetId() != cat.GetId() {
			t.Errorf("asked for one that is there and one that is not: %v (%v)", got.GetPeople(), err)
		}
	})
}

func TestPeopleAreListedInOrderOfUserName(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		var people []data
		for i := range 700 { // more than a page
			people = append(people, ann().with("external_id", fmt.Sprint(20000+i), "email", nil, "department", fmt.Sprintf("d%03d", i%7)))
		}
		w.deliver("msg-1", batch(people...))
		w.deliver("msg-2", changed(ann().with("external_id", "1", "given_name", "Zoë", "family_name", "Quux", "status", "pending")))
		list := func(req *peoplev1.ListPeopleRequest) []*peoplev1.Person {
			t.Helper()
			s := &stream[peoplev1.ListPeopleResponse]{ctx: w.operator()}
			if err := w.svc.ListPeople(req, s); err != nil {
				t.Fatal(err)
			}
			var all []*peoplev1.Person
			for _, page := range s.sent {
				all = append(all, page.GetPeople()...)
			}
			return all
		}
		all := list(&peoplev1.ListPeopleRequest{})
		if len(all) != 701 {
			t.Fatalf("%d people are listed, want 701", len(all))
		}
		for i := range all[1:] {
			if all[i].GetUserName() >= all[i+1].GetUserName() {
				t.Errorf("%s is listed before %s", all[i].GetUserName(), all[i+1].GetUserName())
			}
		}
		for what, c := range map[string]struct {
			req  *peoplev1.ListPeopleRequest
			want int
		}{
			"a department":        {&peoplev1.ListPeopleRequest{Department: "d003"}, 100},
			"a status":            {&peoplev1.ListPeopleRequest{Status: peoplev1.PersonStatus_PERSON_STATUS_PENDING}, 1},
			"part of a name":      {&peoplev1.ListPeopleRequest{Query: "ë qu"}, 1},
			"part of a user name": {&peoplev1.ListPeopleRequest{Query: "aarcher7"}, 11},
			"nobody":              {&peoplev1.ListPeopleRequest{Query: "nobody"}, 0},
		} {
			if got := len(list(c.req)); got != c.want {
				t.Errorf("%s lists %d people, want %d", what, got, c.want)
			}
		}
	})
}

func TestUserNamesAreGivenOnceAndForEver(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		var names []string
		for i := range 4 {
			id := fmt.Sprint(10001 + i)
			w.deliver("msg-"+id, changed(ann().with("external_id", id)))
			names = append(names, w.find(id).GetUserName())
		}
		if diff := cmp.Diff([]string{"aarcher", "ann.archer", "aarcher2", "aarcher3"}, names); diff != "" {
			t.Errorf("four of one name (-want +got):\n%s", diff)
		}
		w.pass(time.Second)
		w.deliver("gone", changed(ann().with("status", "terminated")))
		w.deliver("renamed", changed(ann().with("external_id", "10002", "family_name", "Baker")))
		w.deliver("fifth", changed(ann().with("external_id", "10005")))
		for id, want := range map[string]string{"10001": "aarcher", "10002": "ann.archer", "10005": "aarcher4"} {
			if got := w.find(id).GetUserName(); got != want {
				t.Errorf("%s is called %s, want %s", id, got, want)
			}
		}
		w.deliver("never", changed(ann().with("external_id", "10006", "given_name", "Una", "status", "terminated")))
		if got := w.find("10006").GetUserName(); got != "" {
			t.Errorf("somebody who had ended before anything was heard of them is called %s", got)
		}
		w.pass(time.Second)
		w.deliver("rehired", changed(ann().with("external_id", "10006", "given_name", "Una")))
		if got := w.find("10006").GetUserName(); got != "uarcher" {
			t.Errorf("hired after all they are called %q", got)
		}
	})
}

func TestManyOfOneNameAtOnceAllGetAName(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		const writers, each = 8, 25
		var all sync.WaitGroup
		for writer := range writers {
			all.Go(func() {
				var people []data
				for n := range each {
					people = append(people, ann().with("external_id", fmt.Sprintf("%d-%d", writer, n)))
				}
				w.deliver(fmt.Sprint("msg-", writer), batch(people...))
			})
		}
		all.Wait()
		names := map[string]bool{}
		for writer := range writers {
			for n := range each {
				names[w.find(fmt.Sprintf("%d-%d", writer, n)).GetUserName()] = true
			}
		}
		if len(names) != writers*each || names[""] {
			t.Errorf("%d people have %d user names", writers*each, len(names))
		}
		for _, want := range []string{"aarcher", "ann.archer", fmt.Sprint("aarcher", writers*each-1)} {
			if !names[want] {
				t.Errorf("nobody is called %s", want)
			}
		}
	})
}

func TestATimelineTellsWhatWasSaidAndWhenItWasKnown(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		w.deliver("msg-1", changed(ann().with("effective_date", "2026-01-01")))
		w.pass(time.Hour)
		w.deliver("msg-2", changed(ann().with("effective_date", "2026-03-01", "department", "d004")))
		w.pass(time.Hour)
		w.deliver("msg-3", changed(ann().with("effective_date", "2026-03-01", "department", "d006")))
		timeline := w.timeline("10001")
		var said []string
		for _, f := range timeline.GetFacts() {
			said = append(said, fmt.Sprint(f.GetEffectiveAt().AsTime().Format(time.DateOnly), " ", f.GetRecord().GetDepartment(), " ",
				f.GetKnownAt().AsTime().Sub(noon), " ", f.GetSuperseded()))
		}
		if diff := cmp.Diff([]string{"2026-01-01 d005 0s false", "2026-03-01 d004 1h0m0s true", "2026-03-01 d006 2h0m0s false"}, said); diff != "" {
			t.Errorf("facts (-want +got):\n%s", diff)
		}
		last := timeline.GetHappenings()[len(timeline.GetHappenings())-1]
		if !last.GetLifecycle().GetBackdated() || len(last.GetChanges()) != 1 || last.GetChanges()[0].GetFrom() != "d004" || last.GetChanges()[0].GetTo() != "d006" {
			t.Errorf("the last thing that happened is %v", last)
		}
	})
}

func TestACommitmentIsOverWhatTheEventLeavesOut(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		events := w.run()
		w.deliver("msg-1", changed(ann()))
		published, err := next(t, events).Decode()
		if err != nil {
			t.Fatal(err)
		}
		kept, err := w.svc.Happenings(t.Context(), w.find("10001").GetId())
		if err != nil || len(kept) != 1 {
			t.Fatalf("%d happenings are kept (%v)", len(kept), err)
		}
		sum := sha256.Sum256(slices.Concat([]byte("tenure.people.v1.Happening\x00"), kept[0].Nonce, kept[0].Facts))
		want := sum[:]
		lifecycle, ok := published.(interface{ GetCommitment() []byte })
		if !ok || !bytes.Equal(lifecycle.GetCommitment(), want) || len(kept[0].Nonce) != 32 {
			t.Errorf("the event's commitment is not over the facts that are kept")
		}
		if shown := w.timeline("10001").GetHappenings()[0].GetLifecycle().GetCommitment(); !bytes.Equal(shown, want) {
			t.Errorf("the timeline shows the commitment %x, want %x", shown, want)
		}
	})
}

func TestAnOperatorsWordIsAFactAboutTheSameEmployment(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		w.deliver("msg-1", changed(ann().with("attributes", data{"cost_center": "4711"}, "effective_date", "2026-11-01")))
		w.pass(time.Hour)
		before := w.find("10001")
		set, err := w.svc.SetPerson(w.operator(), &peoplev1.SetPersonRequest{Ref: before.GetUserName(), Fields: map[string]string{
			"department": "d004", "title": "", "attributes.floor": "3",
		}})
		if err != nil {
			t.Fatal(err)
		}
		after := w.find("10001")
		if after.GetId() != before.GetId() || set.GetPerson().GetVersion() != before.GetVersion()+1 || after.GetEmployments()[0].GetSource() != "acme-hr" {
			t.Errorf("the word made %v of %v", after, before)
		}
		r := after.GetRecord()
		if r.GetDepartment() != "d004" || r.GetTitle() != "" || r.GetGivenName() != "Ann" || r.GetAttributes()["cost_center"] != "4711" || r.GetAttributes()["floor"] != "3" {
			t.Errorf("the record is %v", r)
		}
		timeline := w.timeline("10001")
		fact := timeline.GetFacts()[1]
		if fact.GetSource() != "operators" || fact.GetActor() != "operator:ada" || fact.GetDeliveryId() != set.GetDeliveryId() ||
			!fact.GetEffectiveAt().AsTime().Equal(noon.Add(time.Hour)) {
			t.Errorf("the fact is %v", fact)
		}
		event := timeline.GetHappenings()[1].GetLifecycle()
		if event.GetActor() != "operator:ada" || event.GetSource() != "operators" {
			t.Errorf("the event is %v", event)
		}
		if diff := cmp.Diff([]string{"joiner", "mover"}, kinds(timeline)); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		w.pass(time.Hour)
		w.deliver("msg-2", changed(ann()))
		if got := w.find("10001").GetRecord().GetDepartment(); got != "d005" {
			t.Errorf("after HR spoke again the department is %s, want HR's", got)
		}
	})
}

func TestAnOperatorsWordDoesNotBringSomebodyEarly(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		w.deliver("msg-1", changed(ann().with("effective_date", "2026-12-01")))
		if _, err := w.svc.SetPerson(w.operator(), &peoplev1.SetPersonRequest{Ref: "10001", Fields: map[string]string{"title": "Smith"}}); err != nil {
			t.Fatal(err)
		}
		if p := w.find("10001"); p.GetStatus() != peoplev1.PersonStatus_PERSON_STATUS_PENDING || p.GetRecord().GetTitle() != "Smith" {
			t.Errorf("before the first day, with another title, they are %v with the title %s", p.GetStatus(), p.GetRecord().GetTitle())
		}
		if _, err := w.svc.SetPerson(w.operator(), &peoplev1.SetPersonRequest{Ref: "10001", Fields: map[string]string{"status": "active"}}); err != nil {
			t.Fatal(err)
		}
		if p := w.find("10001"); p.GetStatus() != peoplev1.PersonStatus_PERSON_STATUS_ACTIVE {
			t.Errorf("told to be active they are %v", p.GetStatus())
		}
	})
}

func TestAnOperatorCanEndSomebodyOnADay(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		w.deliver("msg-1", changed(ann()))
		_, err := w.svc.SetPerson(w.operator(), &peoplev1.SetPersonRequest{Ref: "10001", Fields: map[string]string{
			"status": "terminated", "effective_date": "2026-12-01",
		}})
		if err != nil {
			t.Fatal(err)
		}
		if p := w.find("10001"); p.GetStatus() != peoplev1.PersonStatus_PERSON_STATUS_ACTIVE || p.GetNextDue() == nil {
			t.Errorf("before the day they are %v", p)
		}
		w.pass(9 * 24 * time.Hour)
		if err := w.svc.Fire(t.Context()); err != nil {
			t.Fatal(err)
		}
		if p := w.find("10001"); p.GetStatus() != peoplev1.PersonStatus_PERSON_STATUS_TERMINATED {
			t.Errorf("on the day they are %v", p.GetStatus())
		}
	})
}

func TestAnOperatorMakesANewPersonOnlyOnPurpose(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		set := func(ref string, fields map[string]string) error {
			_, err := w.svc.SetPerson(w.operator(), &peoplev1.SetPersonRequest{Ref: ref, Fields: fields})
			return err
		}
		if err := set("ext-1", map[string]string{"department": "d001"}); fault.KindOf(err) != fault.NotFound {
			t.Errorf("a reference to nobody: %v, want not found", err)
		}
		if err := set("0198f3c2-0000-7000-8000-000000000000", map[string]string{"status": "active"}); fault.KindOf(err) != fault.NotFound {
			t.Errorf("an id of nobody: %v, want not found", err)
		}
		if err := set("ext-1", map[string]string{"status": "active", "given_name": "Eve", "family_name": "Extern"}); err != nil {
			t.Fatal(err)
		}
		p := w.find("ext-1")
		if p.GetEmployments()[0].GetSource() != "operators" || p.GetStatus() != peoplev1.PersonStatus_PERSON_STATUS_ACTIVE || p.GetUserName() != "eextern" {
			t.Errorf("the new person is %v", p)
		}
		for what, fields := range map[string]map[string]string{
			"no fields":         nil,
			"an unknown field":  {"departement": "d001"},
			"the external id":   {"external_id": "7"},
			"an unknown status": {"status": "retired"},
			"a bad date":        {"start_date": "soon"},
		} {
			if err := set("ext-1", fields); fault.KindOf(err) != fault.Invalid {
				t.Errorf("%s: %v, want it invalid", what, err)
			}
		}
		if err := set("ext-1", map[string]string{"departement": "d001"}); !strings.Contains(err.Error(), "department, title") {
			t.Errorf("the names that are allowed are not told: %v", err)
		}
	})
}

func TestWithoutAManualSourceNobodySetsAnything(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		w.deliver("msg-1", changed(ann()))
		cfg := config(t)
		cfg.Sources = cfg.Sources[:2]
		w.restart(cfg)
		_, err := w.svc.SetPerson(w.operator(), &peoplev1.SetPersonRequest{Ref: "10001", Fields: map[string]string{"title": "x"}})
		if fault.KindOf(err) != fault.Refused {
			t.Errorf("%v, want it refused", err)
		}
	})
}

// HR and an operator speak at the same moment: that the person has left must not be lost under a word about a department.
func TestAnOperatorsWordAboutADepartmentDoesNotUndoATermination(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		at := w.clock().UTC()
		body := func(status string, effective time.Time) string {
			return `{"type":"person.changed","timestamp":"` + effective.Format(time.RFC3339) + `","data":{"external_id":"10001","status":"` + status +
				`","given_name":"Ann","family_name":"Lee","department":"d005","effective_date":"` + effective.Format(time.RFC3339) + `"}}`
		}
		w.deliver("joins", body("active", at.Add(-time.Hour)))
		if _, err := w.svc.SetPerson(w.operator(), &peoplev1.SetPersonRequest{Ref: "10001", Fields: map[string]string{"department": "d004"}}); err != nil {
			t.Fatal(err)
		}
		w.deliver("leaves", body("terminated", at.Add(-time.Minute))) // of before the operator's word, and known after it
		got := w.find("10001")
		if got.GetStatus() != peoplev1.PersonStatus_PERSON_STATUS_TERMINATED {
			t.Errorf("the person who left is %s", got.GetStatus())
		}
		happened := w.timeline("10001").GetHappenings()
		if last := happened[len(happened)-1].GetLifecycle(); last.GetKind() != eventv1.LifecycleKind_LIFECYCLE_KIND_LEAVER || last.GetActor() != "source:acme-hr" {
			t.Errorf("the last that happened is %v", last)
		}
	})
}
