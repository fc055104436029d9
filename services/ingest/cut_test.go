package ingest_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/rpc"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/ingest/cut"
)

// as is a context in which that operator calls.
func (w *world) as(operator string) context.Context {
	return rpc.WithCaller(w.tb.Context(), rpc.Caller{Operator: operator})
}

// cut orders that somebody has nothing, in an operator's name.
func (w *world) cut(operator, ref string) *peoplev1.CutPersonResponse {
	w.tb.Helper()
	answer, err := w.svc.CutPerson(w.as(operator), &peoplev1.CutPersonRequest{Ref: ref, Reason: "seen at the gate"})
	if err != nil {
		w.tb.Fatalf("cut %s: %v", ref, err)
	}
	return answer
}

func (w *world) lift(operator, ref string) *peoplev1.Person {
	w.tb.Helper()
	answer, err := w.svc.LiftPerson(w.as(operator), &peoplev1.LiftPersonRequest{Ref: ref, Reason: "it was somebody else"})
	if err != nil {
		w.tb.Fatalf("lift %s: %v", ref, err)
	}
	return answer.GetPerson()
}

// cuts is what GetCuts answers, with the key it gave.
func (w *world) cuts(people ...string) ([]*peoplev1.CutState, []byte) {
	w.tb.Helper()
	s := &stream[peoplev1.GetCutsResponse]{ctx: w.operator()}
	if err := w.svc.GetCuts(&peoplev1.GetCutsRequest{PersonIds: people}, s); err != nil {
		w.tb.Fatalf("get cuts: %v", err)
	}
	var all []*peoplev1.CutState
	for _, page := range s.sent {
		all = append(all, page.GetCuts()...)
	}
	return all, s.sent[0].GetPublicKey()
}

func TestACutStandsAboveHRUntilItIsLifted(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		w.deliver("msg-1", changed(ann()))
		before := w.find("10001")
		got := w.cut("ada", "10001")
		person := got.GetPerson()
		if got.GetNeedsSecond() || person.GetVersion() != before.GetVersion()+1 || person.GetStatus() != peoplev1.PersonStatus_PERSON_STATUS_ACTIVE {
			t.Errorf("cut: %v, want it done, the version raised and HR's status as it was", got)
		}
		c := person.GetCut()
		if c.GetActor() != "operator:ada" || c.GetSecond() != "" || c.GetReason() != "seen at the gate" || !c.GetAt().AsTime().Equal(w.clock()) ||
			c.GetPersonVersion() != person.GetVersion() {
			t.Errorf("the cut is %v", c)
		}

		w.pass(time.Minute)
		w.deliver("msg-2", changed(ann().with("title", "Chief")))
		after := w.find("10001")
		if after.GetCut().GetPersonVersion() != c.GetPersonVersion() || after.GetVersion() <= person.GetVersion() || after.GetRecord().GetTitle() != "Chief" {
			t.Errorf("HR's next record: %v, want it taken in and the person still cut", after)
		}
		if again := w.cut("bob", "10001").GetPerson(); !again.GetCut().GetAt().AsTime().Equal(c.GetAt().AsTime()) || again.GetVersion() != after.GetVersion() {
			t.Errorf("cut again: %v, want the same cut", again)
		}

		w.pass(time.Minute)
		lifted := w.lift("bob", "10001")
		if lifted.GetCut() != nil || lifted.GetVersion() != after.GetVersion()+1 {
			t.Errorf("lifted: %v", lifted)
		}
		if again := w.lift("ada", "10001"); again.GetVersion() != lifted.GetVersion() {
			t.Errorf("lifted again: version %d, want %d", again.GetVersion(), lifted.GetVersion())
		}
		story := w.timeline("10001")
		if diff := cmp.Diff([]string{"joiner", "cut", "mover", "lift"}, kinds(story)); diff != "" {
			t.Errorf("what happened (-want +got):\n%s", diff)
		}
		last := story.GetHappenings()[3]
		if last.GetLifecycle().GetActor() != "operator:bob" || last.GetChanges()[0].GetTo() != "it was somebody else" {
			t.Errorf("the lift is told as %v", last)
		}
	})
}

func TestEverybodyWhoAsksIsShownACut(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		w.deliver("msg-1", batch(ann(), ann().with("external_id", "10002", "email", "bea@acme.example")))
		id := w.cut("ada", "10001").GetPerson().GetId()
		got, err := w.svc.GetPeople(w.operator(), &peoplev1.GetPeopleRequest{Ids: []string{id, w.find("10002").GetId()}})
		if err != nil {
			t.Fatal(err)
		}
		listed := &stream[peoplev1.ListPeopleResponse]{ctx: w.operator()}
		if err := w.svc.ListPeople(&peoplev1.ListPeopleRequest{}, listed); err != nil {
			t.Fatal(err)
		}
		set, err := w.svc.SetPerson(w.operator(), &peoplev1.SetPersonRequest{Ref: "10001", Fields: map[string]string{"title": "Chief"}})
		if err != nil {
			t.Fatal(err)
		}
		for what, people := range map[string][]*peoplev1.Person{
			"GetPeople": got.GetPeople(), "ListPeople": listed.sent[0].GetPeople(), "Timeline": {w.timeline("10001").GetPerson()},
			"SetPerson": {set.GetPerson()}, "FindPerson": {w.find("10001"), w.find("10002")},
		} {
			for _, p := range people {
				if (p.GetCut() != nil) != (p.GetId() == id) {
					t.Errorf("%s shows %s with cut %v", what, p.GetUserName(), p.GetCut())
				}
			}
		}
	})
}

func TestACutIsSaidInTheUrgentLaneAndSigned(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		events := w.run()
		w.deliver("msg-1", changed(ann()))
		next(t, events)
		person := w.cut("ada", "10001").GetPerson()
		_, key := w.cuts()
		for _, want := range []struct {
			kind    eventv1.LifecycleKind
			token   string
			version uint64
		}{
			{eventv1.LifecycleKind_LIFECYCLE_KIND_CUT, "cut", person.GetVersion()},
			{eventv1.LifecycleKind_LIFECYCLE_KIND_LIFT, "lift", person.GetVersion() + 1},
		} {
			if want.token == "lift" {
				w.lift("ada", "10001")
			}
			e := next(t, events)
			fact, err := e.Decode()
			if err != nil {
				t.Fatal(err)
			}
			l, ok := fact.(*eventv1.Lifecycle)
			if !ok || e.Subject != "tenure.lifecycle.urgent."+want.token+"."+person.GetId() || l.GetKind() != want.kind || l.GetPersonVersion() != want.version {
				t.Errorf("%s is said as %s %v", want.token, e.Subject, fact)
			}
			if !cut.Signed(l, key) {
				t.Errorf("%s is not signed by the key that GetCuts gives", want.token)
			}
			if strings.Contains(string(e.Data), "gate") || strings.Contains(string(e.Data), "somebody") {
				t.Errorf("the reason of the %s is on the bus", want.token)
			}
		}
	})
}

func TestWhereSomebodyStandsWithCutsIsTold(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		var people []data
		for i := range 3 {
			people = append(people, ann().with("external_id", fmt.Sprint(20001+i), "email", nil))
		}
		w.deliver("msg-1", batch(people...))
		if all, key := w.cuts(); len(all) != 0 || len(key) != 32 {
			t.Errorf("before anybody was cut: %v and a key of %d bytes, want none and one of 32", all, len(key))
		}
		first, second := w.cut("ada", "20001").GetPerson(), w.cut("ada", "20002").GetPerson()
		w.lift("ada", "20002")
		w.pass(time.Minute)
		w.cut("ada", "20002")
		w.pass(time.Minute)
		w.lift("ada", "20002")
		all, _ := w.cuts()
		some, _ := w.cuts(second.GetId(), w.find("20003").GetId())
		type told struct {
			Version uint64
			Cut     bool
			At      time.Time
		}
		for what, c := range map[string]struct {
			got  []*peoplev1.CutState
			want map[string]told
		}{
			"everybody":       {all, map[string]told{first.GetId(): {first.GetVersion(), true, noon}, second.GetId(): {second.GetVersion() + 3, false, noon.Add(2 * time.Minute)}}},
			"those asked for": {some, map[string]told{second.GetId(): {second.GetVersion() + 3, false, noon.Add(2 * time.Minute)}}},
		} {
			got := map[string]told{}
			for _, s := range c.got {
				got[s.GetPersonId()] = told{s.GetPersonVersion(), s.GetCut(), s.GetAt().AsTime()}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
	})
}

func TestMoreThanTwentyPeopleAnHourNeedASecondOperator(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		var people []data
		for i := range 24 {
			people = append(people, ann().with("external_id", fmt.Sprint(20001+i), "email", nil))
		}
		w.deliver("msg-1", batch(people...))
		for i := range 20 {
			ref := fmt.Sprint(20001 + i)
			if w.cut([]string{"ada", "bob"}[i%2], ref).GetNeedsSecond() {
				t.Fatalf("the order about %s, number %d, needs a second operator", ref, i+1)
			}
		}
		w.lift("ada", "20001")
		if w.cut("ada", "20001").GetNeedsSecond() {
			t.Error("somebody who was counted counts twice")
		}
		asked := w.cut("ada", "20021")
		if !asked.GetNeedsSecond() || asked.GetPerson().GetCut() != nil {
			t.Fatalf("the 21st within an hour: %v, want it kept for a second operator", asked)
		}
		if again := w.cut("ada", "20021"); !again.GetNeedsSecond() {
			t.Error("the same operator confirmed their own order")
		}
		w.pass(59 * time.Minute)
		confirmed := w.cut("bob", "20021")
		c := confirmed.GetPerson().GetCut()
		if confirmed.GetNeedsSecond() || c.GetActor() != "operator:ada" || c.GetSecond() != "operator:bob" {
			t.Errorf("confirmed by another operator: %v", confirmed)
		}

		// An order that nobody confirmed within the hour is over; so are those of before, and each counts for an hour.
		if !w.cut("ada", "20022").GetNeedsSecond() {
			t.Error("the 22nd within an hour needs nobody")
		}
		w.pass(61 * time.Minute)
		if got := w.cut("bob", "20022"); got.GetNeedsSecond() || got.GetPerson().GetCut().GetSecond() != "" {
			t.Errorf("an hour later: %v, want it to be one operator's order", got)
		}
	})
}

func TestAnOrderThatWaitsIsAnOperatorsAction(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		var people []data
		for i := range 21 {
			people = append(people, ann().with("external_id", fmt.Sprint(20001+i), "email", nil))
		}
		w.deliver("msg-1", batch(people...))
		for i := range 20 {
			w.cut("ada", fmt.Sprint(20001+i))
		}
		id := w.cut("ada", "20021").GetPerson().GetId()
		w.cut("ada", "20021")
		w.cut("bob", "20021")
		events := w.run()
		var said []string
		for slices.IndexFunc(said, func(s string) bool { return strings.Contains(s, "cut-confirm") }) < 0 ||
			!slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, "CUT "+id) }) {
			fact, err := next(t, events).Decode()
			if err != nil {
				t.Fatal(err)
			}
			switch fact := fact.(type) {
			case *eventv1.OperatorAction:
				said = append(said, fmt.Sprint(fact.GetAction(), " ", fact.GetObject(), " ", fact.GetActor()))
			case *eventv1.Lifecycle:
				if fact.GetPersonId() == id && fact.GetKind() == eventv1.LifecycleKind_LIFECYCLE_KIND_CUT {
					said = append(said, fmt.Sprint("CUT ", id, " ", fact.GetActor()))
				}
			}
		}
		slices.Sort(said)
		want := []string{"CUT " + id + " operator:ada", "cut-confirm " + id + " operator:bob", "cut-request " + id + " operator:ada"}
		if diff := cmp.Diff(want, said); diff != "" {
			t.Errorf("the record (-want +got):\n%s", diff)
		}
	})
}

func TestTheLimitHoldsForManyOrdersAtOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		var people []data
		for i := range 32 {
			people = append(people, ann().with("external_id", fmt.Sprint(20001+i), "email", nil))
		}
		w.deliver("msg-1", batch(people...))
		var cut, kept int
		var mu sync.Mutex
		var all sync.WaitGroup
		for worker := range 8 {
			all.Go(func() {
				for i := worker; i < len(people); i += 8 {
					answer, err := w.svc.CutPerson(w.as("ada"), &peoplev1.CutPersonRequest{Ref: fmt.Sprint(20001 + i), Reason: "x"})
					if err != nil {
						t.Errorf("cut: %v", err)
						return
					}
					mu.Lock()
					if answer.GetNeedsSecond() {
						kept++
					} else {
						cut++
					}
					mu.Unlock()
				}
			})
		}
		all.Wait()
		if cut != 20 || kept != 12 {
			t.Errorf("%d were cut and %d kept for a second operator, want 20 and 12", cut, kept)
		}
	})
}

func TestACutNeedsAReasonAndAPerson(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		w.deliver("msg-1", changed(ann()))
		for reason, want := range map[string]fault.Kind{"": fault.Invalid, " \n": fault.Invalid, strings.Repeat("x", 1001): fault.Invalid, "a\x00b": fault.Invalid} {
			if _, err := w.svc.CutPerson(w.operator(), &peoplev1.CutPersonRequest{Ref: "10001", Reason: reason}); fault.KindOf(err) != want {
				t.Errorf("cut for %.10q: %v", reason, err)
			}
			if _, err := w.svc.LiftPerson(w.operator(), &peoplev1.LiftPersonRequest{Ref: "10001", Reason: reason}); fault.KindOf(err) != want {
				t.Errorf("lift for %.10q: %v", reason, err)
			}
		}
		if _, err := w.svc.CutPerson(w.operator(), &peoplev1.CutPersonRequest{Ref: "nobody", Reason: "x"}); fault.KindOf(err) != fault.NotFound {
			t.Errorf("cut nobody: %v", err)
		}
		if _, err := w.svc.LiftPerson(w.operator(), &peoplev1.LiftPersonRequest{Ref: "10001", Reason: "x"}); fault.KindOf(err) != fault.Refused {
			t.Errorf("lift who was never cut: %v", err)
		}
	})
}

// TestACutIsCommittedWithItsEvent looks for the event in the outbox of the same database.
func TestACutIsCommittedWithItsEvent(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		w.deliver("msg-1", changed(ann()))
		w.cut("ada", "10001")
		var n int
		if err := w.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM outbox WHERE lane = $1`, int64(eventv1.Lane_LANE_URGENT)).Scan(&n); err != nil || n != 1 {
			t.Errorf("%d urgent events wait to leave (%v), want one", n, err)
		}
	})
}
