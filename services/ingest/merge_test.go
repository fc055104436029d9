package ingest_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/fault"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
)

func (w *world) merge(into, from string) *peoplev1.Person {
	w.tb.Helper()
	answer, err := w.svc.MergePeople(w.operator(), &peoplev1.MergePeopleRequest{Into: into, From: from})
	if err != nil {
		w.tb.Fatalf("merge %s into %s: %v", from, into, err)
	}
	return answer.GetPerson()
}

func (w *world) split(ref string, employments ...string) (*peoplev1.SplitPersonResponse, error) {
	req := &peoplev1.SplitPersonRequest{Ref: ref}
	for _, e := range employments {
		source, id, _ := strings.Cut(e, ":")
		req.Employments = append(req.Employments, &peoplev1.SplitPersonRequest_Key{Source: source, ExternalId: id})
	}
	return w.svc.SplitPerson(w.operator(), req)
}

// get is a person as they are, whoever they turned out to be.
func (w *world) get(id string) *peoplev1.Person {
	w.tb.Helper()
	answer, err := w.svc.GetPeople(w.operator(), &peoplev1.GetPeopleRequest{Ids: []string{id}})
	if err != nil || len(answer.GetPeople()) != 1 {
		w.tb.Fatalf("get %s: %v, %v", id, answer, err)
	}
	return answer.GetPeople()[0]
}

// lookAlikes are the pairs that are reported, by external id, with what they have in common.
func (w *world) lookAlikes() []string {
	w.tb.Helper()
	s := &stream[peoplev1.ListFindingsResponse]{ctx: w.operator()}
	err := w.svc.ListFindings(&peoplev1.ListFindingsRequest{Kind: peoplev1.PeopleFindingKind_PEOPLE_FINDING_KIND_LOOK_ALIKE}, s)
	if err != nil {
		w.tb.Fatalf("list findings: %v", err)
	}
	var all []string
	name := func(id string) string { return w.get(id).GetEmployments()[0].GetExternalId() }
	for _, page := range s.sent {
		for _, f := range page.GetFindings() {
			all = append(all, name(f.GetPersonId())+" "+name(f.GetOtherPersonId())+": "+f.GetDetail())
			if f.GetSince() == nil {
				w.tb.Errorf("a finding without its time: %v", f)
			}
		}
	}
	return all
}

func TestPeopleWhoLookAlikeAreReportedAndNotJoined(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		born := data{"birth_date": "1970-01-01"}
		w.deliver("msg-1", batch(
			ann(),
			ann().with("external_id", "10002", "given_name", "Bea", "email", "ANN.archer@acme.example"),
			ann().with("external_id", "10003", "given_name", "Cat", "email", nil, "attributes", born),
			ann().with("external_id", "10004", "given_name", "CAT", "email", "c@acme.example", "attributes", born),
			ann().with("external_id", "10005", "given_name", "Cat", "email", nil),
			ann().with("external_id", "10006", "given_name", "Dan", "email", "d@acme.example", "person_key", "P6"),
			ann().with("external_id", "10007", "given_name", "Eve", "email", "e@acme.example"),
		))
		w.pass(time.Hour)
		w.deliver("msg-2", changed(ann().with("external_id", "10007", "given_name", "Eve", "email", "e@acme.example", "person_key", "P6")))
		want := []string{
			"10001 10002: the same e-mail",
			"10003 10004: the same name and date of birth",
			"10006 10007: the same person_key of acme-hr",
		}
		if diff := cmp.Diff(want, w.lookAlikes()); diff != "" {
			t.Errorf("look-alikes (-want +got):\n%s", diff)
		}
		w.merge("10001", "10002")
		w.merge("10006", "10007")
		if diff := cmp.Diff(want[1:2], w.lookAlikes()); diff != "" {
			t.Errorf("look-alikes after a merge (-want +got):\n%s", diff)
		}
		if _, err := w.split("10001", "acme-hr:10002"); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want[1:2], w.lookAlikes()); diff != "" {
			t.Errorf("look-alikes after an operator said that they are two (-want +got):\n%s", diff)
		}
	})
}

func TestTwoPeopleWhoAreMergedAreOneWithTheEmploymentsOfBoth(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		events := w.run()
		w.deliver("msg-1", changed(ann()))
		w.deliver("msg-2", changed(teacher().with("given_name", "Anna", "email", "anna@school.example", "person_key", "P1")))
		into, from := w.find("10001"), w.find("10002")
		next(t, events)
		next(t, events)
		w.pass(time.Hour)
		got := w.merge("10001", "10002")
		if got.GetId() != into.GetId() || got.GetVersion() != into.GetVersion()+1 || got.GetUserName() != into.GetUserName() {
			t.Errorf("merged they are %v", got)
		}
		if diff := cmp.Diff([]string{"10001 active", "10002 active"}, stands(got)); diff != "" {
			t.Errorf("employments (-want +got):\n%s", diff)
		}
		gone := w.get(from.GetId())
		if gone.GetMergedInto() != into.GetId() || gone.GetVersion() != from.GetVersion()+1 || len(gone.GetEmployments()) != 0 ||
			gone.GetStatus() != peoplev1.PersonStatus_PERSON_STATUS_TERMINATED || !gone.GetEndedAt().AsTime().Equal(w.clock()) {
			t.Errorf("who was merged is %v", gone)
		}
		for _, ref := range []string{from.GetId(), from.GetUserName(), "10002", "anna@school.example"} {
			if p := w.find(ref); p.GetId() != into.GetId() {
				t.Errorf("%s means %s, want who they turned out to be", ref, p.GetId())
			}
		}

		told := map[string]bus.Event{}
		for range 3 {
			e := next(t, events)
			told[e.Subject] = e
		}
		deed, mover, leaver := told["tenure.operator.merge"], told["tenure.lifecycle.normal.mover."+into.GetId()], told["tenure.lifecycle.urgent.leaver."+from.GetId()]
		if deed.ID == "" || mover.CausationID != deed.ID || leaver.CausationID != deed.ID {
			t.Fatalf("it was told by %v", told)
		}
		fact, err := mover.Decode()
		if lifecycle, ok := fact.(*eventv1.Lifecycle); err != nil || !ok || lifecycle.GetActor() != "operator:ada" ||
			lifecycle.GetPersonVersion() != got.GetVersion() || !cmp.Equal(lifecycle.GetChanged(), []string{"employments"}) {
			t.Errorf("the event is %v (%v)", fact, err)
		}
		// What was told of either is told still, and what was said of both is said of one.
		both := w.timeline("10001")
		if diff := cmp.Diff([]string{"joiner", "joiner", "leaver", "mover"}, slices.Sorted(slices.Values(kinds(both)))); diff != "" || len(both.GetFacts()) != 2 {
			t.Errorf("%d facts, and happenings (-want +got):\n%s", len(both.GetFacts()), diff)
		}

		w.deliver("msg-3", changed(teacher().with("person_key", "P1", "title", "Head")))
		w.deliver("msg-4", changed(teacher().with("external_id", "10003", "person_key", "P1")))
		if p := w.find("10001"); len(p.GetEmployments()) != 3 || p.GetEmployments()[1].GetRecord().GetTitle() != "Head" {
			t.Errorf("what is said after a merge makes them %v", p)
		}
	})
}

func TestWhatCannotBeMergedOrSplitIsRefused(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		w.deliver("msg-1", batch(ann(), ann().with("external_id", "10002"), ann().with("external_id", "10003"), ann().with("external_id", "10004")))
		w.merge("10001", "10002")
		w.cut("ada", "10003")
		merge := func(into, from string) error {
			_, err := w.svc.MergePeople(w.operator(), &peoplev1.MergePeopleRequest{Into: into, From: from})
			return err
		}
		for what, err := range map[string]error{
			"oneself":                    merge("10001", "10002"),
			"into somebody who is cut":   merge("10003", "10001"),
			"somebody who is cut":        merge("10001", "10003"),
			"with one employment":        second(w.split("10004", "acme-hr:10004")),
			"all employments":            second(w.split("10001", "acme-hr:10001", "acme-hr:10002")),
			"an employment of another":   second(w.split("10001", "acme-hr:10004")),
			"without saying which leave": second(w.split("10001")),
		} {
			if fault.KindOf(err) != fault.Refused {
				t.Errorf("%s: %v, want it refused", what, err)
			}
		}
		if err := second(w.split("10001")); !strings.Contains(err.Error(), "acme-hr:10001, acme-hr:10002") {
			t.Errorf("the employments are not listed: %v", err)
		}
		if err := merge("10001", "nobody"); fault.KindOf(err) != fault.NotFound {
			t.Errorf("nobody: %v", err)
		}
	})
}

func second[T any](_ T, err error) error { return err }

func TestWhoIsSplitOffIsAnotherPersonFromThenOn(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		w.deliver("msg-1", batch(ann().with("person_key", "P1"), teacher().with("given_name", "Bea", "person_key", "P1")))
		before := w.find("10001")
		w.pass(time.Hour)
		answer, err := w.split("10001", "acme-hr:10002")
		if err != nil {
			t.Fatal(err)
		}
		stays, split := w.find("10001"), w.find("10002")
		if stays.GetId() != before.GetId() || stays.GetVersion() != before.GetVersion()+1 || stays.GetUserName() != before.GetUserName() {
			t.Errorf("who stays is %v", stays)
		}
		if split.GetId() == stays.GetId() || split.GetUserName() != "barcher" || split.GetId() != answer.GetSplit().GetId() {
			t.Errorf("who was split off is %v, and was answered as %v", split, answer.GetSplit())
		}
		if diff := cmp.Diff([]string{"joiner", "mover"}, kinds(w.timeline("10001"))); diff != "" {
			t.Errorf("happenings of who stays (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"joiner"}, kinds(w.timeline("10002"))); diff != "" {
			t.Errorf("happenings of who was split off (-want +got):\n%s", diff)
		}
		w.deliver("msg-2", changed(teacher().with("person_key", "P1", "status", "terminated")))
		w.deliver("msg-3", changed(ann().with("external_id", "10003", "person_key", "P1")))
		if p := w.find("10001"); p.GetId() != w.find("10003").GetId() || p.GetStatus() != peoplev1.PersonStatus_PERSON_STATUS_ACTIVE {
			t.Errorf("a further employment under the key that both had is not theirs who stay: %v", p)
		}
		if p := w.find("10002"); p.GetStatus() != peoplev1.PersonStatus_PERSON_STATUS_TERMINATED {
			t.Errorf("who was split off and left is %v", p)
		}
	})
}

// Whatever arrives while people are merged and split belongs to whose employment it is in the end.
func TestWhatArrivesWhilePeopleAreMergedAndSplitIsNotLost(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		w.deliver("msg", batch(ann(), teacher()))
		w.pass(time.Minute)
		const rounds, each = 5, 8
		var all sync.WaitGroup
		all.Go(func() {
			for range rounds {
				w.merge("10001", "10002")
				if _, err := w.split("10001", "acme-hr:10002"); err != nil {
					t.Errorf("split: %v", err)
				}
			}
		})
		for n := range 2 {
			all.Go(func() {
				for i := range each {
					id := []string{"10001", "10002"}[n]
					at := noon.Add(time.Duration(i) * time.Second)
					w.deliver("msg-"+id+"-"+at.Format("05"), changedAt(at, ann().with("external_id", id, "title", at.Format("05"))))
				}
			})
		}
		all.Wait()
		for _, id := range []string{"10001", "10002"} {
			told := w.timeline(id)
			if got := stands(told.GetPerson()); len(got) != 1 || len(told.GetFacts()) != each+1 || told.GetPerson().GetRecord().GetTitle() != "07" {
				t.Errorf("%s: %v with %d facts and the title %s", id, got, len(told.GetFacts()), told.GetPerson().GetRecord().GetTitle())
			}
		}
	})
}
