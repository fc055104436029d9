package ingest_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
)

// teacher is a second employment of the person with the key P1.
func teacher() data {
	return ann().with("external_id", "10002", "person_key", "P1", "department", "d008", "title", "Teacher")
}

// stands tells how a person's employments stand, the one that counts most first.
func stands(p *peoplev1.Person) []string {
	var all []string
	for _, e := range p.GetEmployments() {
		all = append(all, e.GetExternalId()+" "+strings.ToLower(strings.TrimPrefix(e.GetStatus().String(), "PERSON_STATUS_")))
	}
	return all
}

func TestAPersonKeyJoinsEmploymentsIntoOnePerson(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		w.deliver("msg-1", changed(ann().with("person_key", "P1")))
		w.pass(time.Hour)
		w.deliver("msg-2", changed(teacher()))
		p := w.find("10001")
		if other := w.find("10002"); other.GetId() != p.GetId() || p.GetUserName() != "aarcher" || p.GetVersion() != 2 {
			t.Fatalf("two employments with one key are %s and %s", p, other)
		}
		if diff := cmp.Diff([]string{"10001 active", "10002 active"}, stands(p)); diff != "" {
			t.Errorf("employments (-want +got):\n%s", diff)
		}
		if p.GetRecord().GetTitle() != "Engineer" {
			t.Errorf("the record that counts most is %v, want the first employment's", p.GetRecord())
		}
		w.pass(time.Hour)
		w.deliver("msg-3", changed(ann().with("person_key", "P1", "status", "terminated")))
		p = w.find("10001")
		if diff := cmp.Diff([]string{"10002 active", "10001 terminated"}, stands(p)); diff != "" || p.GetRecord().GetTitle() != "Teacher" {
			t.Errorf("after the first one ended, the title is %s, employments (-want +got):\n%s", p.GetRecord().GetTitle(), diff)
		}
		w.pass(time.Hour)
		w.deliver("msg-4", changed(teacher().with("status", "terminated")))
		if p = w.find("10001"); !p.GetEndedAt().AsTime().Equal(noon.Add(3 * time.Hour)) {
			t.Errorf("after the last one ended, the person ended at %v", p.GetEndedAt())
		}
		if diff := cmp.Diff([]string{"joiner", "mover", "mover", "leaver"}, kinds(w.timeline("10001"))); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

func TestAPersonKeyIsItsSourcesOwn(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		w.deliver("msg-1", changed(ann().with("person_key", "P1")))
		if _, err := w.svc.Submit(w.operator(), &peoplev1.SubmitRequest{
			Source: "roster", Key: "k", RecordsJson: []string{text(teacher())},
		}); err != nil {
			t.Fatal(err)
		}
		if a, b := w.find("10001"), w.find("10002"); a.GetId() == b.GetId() {
			t.Errorf("the same key of another source made one person: %v", a)
		}
	})
}

// What an employment's person is, is settled when it is first heard of: else a mistyped key would take people's access away.
func TestAPersonKeyThatComesLaterJoinsNothing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		w.deliver("msg-1", changed(ann().with("person_key", "P1")))
		w.deliver("msg-2", changed(teacher().with("person_key", nil)))
		w.pass(time.Hour)
		w.deliver("msg-3", changed(teacher()))
		if a, b := w.find("10001"), w.find("10002"); a.GetId() == b.GetId() {
			t.Errorf("a key that came later made one person of two: %v", a)
		}
		w.deliver("msg-4", changed(teacher().with("external_id", "10003", "person_key", "P2")))
		w.deliver("msg-5", changed(ann().with("external_id", "10004", "person_key", "P2")))
		if a, b := w.find("10003"), w.find("10004"); a.GetId() != b.GetId() {
			t.Errorf("a key that was new made two people: %v and %v", a, b)
		}
	})
}

func TestEmploymentsOfOnePersonThatArriveAtOnceAreOnePerson(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		const people, each = 6, 4
		var all sync.WaitGroup
		for n := range each {
			all.Go(func() {
				var records []data
				for i := range people {
					at := (i + n) % people // each delivery in another order
					records = append(records, ann().with("external_id", fmt.Sprintf("%d-%d", at, n), "person_key", fmt.Sprint("P", at)))
				}
				w.deliver(fmt.Sprint("msg-", n), batch(records...))
			})
		}
		all.Wait()
		for i := range people {
			p := w.find(fmt.Sprintf("%d-0", i))
			if len(p.GetEmployments()) != each || p.GetVersion() != each {
				t.Errorf("person %d has version %d and the employments %v, want %d", i, p.GetVersion(), stands(p), each)
			}
		}
		s := &stream[peoplev1.ListPeopleResponse]{ctx: w.operator()}
		if err := w.svc.ListPeople(&peoplev1.ListPeopleRequest{}, s); err != nil || len(s.sent[0].GetPeople()) != people {
			t.Errorf("%v people came of it, want %d (%v)", s.sent, people, err)
		}
	})
}

func TestAnOperatorsWordIsAboutTheEmploymentThatTheyName(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		w.deliver("msg-1", batch(ann().with("person_key", "P1"), teacher()))
		for ref, title := range map[string]string{"10002": "Head", "aarcher": "Lead"} {
			w.pass(time.Hour)
			if _, err := w.svc.SetPerson(w.operator(), &peoplev1.SetPersonRequest{Ref: ref, Fields: map[string]string{"title": title}}); err != nil {
				t.Fatal(err)
			}
		}
		e := w.find("aarcher").GetEmployments()
		if e[0].GetRecord().GetTitle() != "Lead" || e[1].GetRecord().GetTitle() != "Head" {
			t.Errorf("the titles are %s and %s", e[0].GetRecord().GetTitle(), e[1].GetRecord().GetTitle())
		}
	})
}
