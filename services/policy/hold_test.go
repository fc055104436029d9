package policy_test

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/rpc"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	authv1 "github.com/tenurehq/tenure/proto/gen/tenure/auth/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/policy"
)

// as is the context of a call by an approver.
func (w *world) as(name string) context.Context {
	return rpc.WithCaller(w.t.Context(), rpc.Caller{Operator: name, Role: authv1.Role_ROLE_APPROVER})
}

// hold returns the only hold, with the people of it.
func (w *world) hold(s *policy.Service) (*accessv1.Hold, []*accessv1.HeldPerson) {
	w.t.Helper()
	listed, err := s.ListHolds(w.t.Context(), &accessv1.ListHoldsRequest{})
	if err != nil || len(listed.GetHolds()) != 1 {
		w.t.Fatalf("holds %v, %v: want one", listed.GetHolds(), err)
	}
	answer := &stream[accessv1.ShowHoldResponse]{ctx: w.t.Context()}
	if err := s.ShowHold(&accessv1.ShowHoldRequest{Id: listed.GetHolds()[0].GetId()}, answer); err != nil {
		w.t.Fatal(err)
	}
	var people []*accessv1.HeldPerson
	for _, m := range answer.sent {
		people = append(people, m.GetPeople()...)
	}
	return answer.sent[0].GetHold(), people
}

// rejected returns what was rejected, and who is under a hold of it.
func (w *world) rejected(s *policy.Service, id string) ([]*accessv1.Hold, []*accessv1.HeldPerson) {
	w.t.Helper()
	listed, err := s.ListHolds(w.t.Context(), &accessv1.ListHoldsRequest{Rejected: true})
	if err != nil {
		w.t.Fatal(err)
	}
	answer := &stream[accessv1.ShowHoldResponse]{ctx: w.t.Context()}
	if err := s.ShowHold(&accessv1.ShowHoldRequest{Id: id, Rejected: true}, answer); fault.KindOf(err) == fault.NotFound {
		return listed.GetHolds(), nil
	} else if err != nil {
		w.t.Fatal(err)
	}
	var people []*accessv1.HeldPerson
	for _, m := range answer.sent {
		people = append(people, m.GetPeople()...)
	}
	return listed.GetHolds(), people
}

// release has two operators release the only hold.
func (w *world) release(s *policy.Service) {
	w.t.Helper()
	hold, _ := w.hold(s)
	for i, name := range []string{"ada", "bob"} {
		answer, err := s.ReleaseHold(w.as(name), &accessv1.ReleaseHoldRequest{Id: hold.GetId(), Hash: hold.GetHash()})
		if err != nil || answer.GetNeedsSecond() != (i == 0) {
			w.t.Fatalf("%s releases: %v, %v", name, answer, err)
		}
	}
}

func (w *world) desired(s *policy.Service, app, person string) *accessv1.Desired {
	w.t.Helper()
	got, err := s.GetDesired(w.t.Context(), &accessv1.GetDesiredRequest{Application: app, PersonIds: []string{person}})
	if err != nil || len(got.GetDesired()) != 1 {
		w.t.Fatalf("desired in %s: %v, %v", app, got, err)
	}
	return got.GetDesired()[0]
}

func TestAWaveIsToldByItsCauseInWords(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s := w.service(braked("0", "0", nil))
		w.apply(s, company)
		everybody := w.hire(s, 8)
		var events []bus.Event
		for i, p := range everybody {
			p.Record.Department = ""
			one, to := "88", ""
			if i >= 6 {
				p.Record.Department, one, to = "d001", p.GetId(), "d001"
			}
			e := w.event(mover, p, func(e *eventv1.Lifecycle) { e.DeliveryId, e.Changed = one, []string{"department", "email"} })
			w.people.tell(p.GetId(), e.ID, &peoplev1.Change{Field: "email", From: "a@acme.example", To: "b@acme.example"},
				&peoplev1.Change{Field: "department", From: "d005", To: to})
			events = append(events, e)
		}
		w.hear(s, events...)
		want := []string{"6 of 8: department d005 → empty, delivery 88", "2 of 8: department d005 → d001, source hr"}
		if diff := cmp.Diff(want, w.holds(s)); diff != "" {
			t.Errorf("holds (-want +got):\n%s", diff)
		}
	})
}

func TestAHeldPersonKeepsEverythingAndGetsNothingNew(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s := w.service(braked("0", "0", nil))
		w.apply(s, company)
		ann := w.hire(s, 1)[0]
		before, numbers := w.show(s, ann.GetId()), w.desired(s, "code", ann.GetId())
		// Who moves to research loses code, and is to be on call.
		ann.Record.Department, ann.Record.EmploymentType = "d008", "employee"
		ann.Record.Attributes = map[string]string{"rota": "yes"}
		w.hear(s, w.event(mover, ann))
		if diff := cmp.Diff(before, w.show(s, ann.GetId())); diff != "" {
			t.Errorf("held, a mover should have what they had (-want +got):\n%s", diff)
		}
		now := w.desired(s, "code", ann.GetId())
		if now.GetGeneration() != numbers.GetGeneration() || now.GetDecision() != numbers.GetDecision() || now.GetPersonVersion() != numbers.GetPersonVersion() {
			t.Errorf("a worker is told %v: what is held confirms nothing, want the numbers of %v", now, numbers)
		}
		shown, err := s.ShowAccess(t.Context(), &accessv1.ShowAccessRequest{PersonId: ann.GetId()})
		hold, people := w.hold(s)
		if err != nil || shown.GetHold() != hold.GetId() || len(people) != 1 {
			t.Errorf("their access names hold %q, %v; it is %s and has %d people", shown.GetHold(), err, hold.GetId(), len(people))
		}
		what := people[0].GetApplications()[0]
		if what.GetApplication() != "code" || !slices.Equal(what.GetLoses(), []string{"developers"}) || !slices.Equal(what.GetGains(), []string{"on-call"}) {
			t.Errorf("it would do %v, want on-call instead of developers in code", what)
		}

		// A newer decision takes its place: one hold, with another hash.
		ann.Record.Attributes = nil
		w.hear(s, w.event(mover, ann))
		newer, people := w.hold(s)
		if len(people) != 1 || bytes.Equal(newer.GetHash(), hold.GetHash()) {
			t.Errorf("after a newer decision %d people are held, and the hash is another one: %v", len(people), !bytes.Equal(newer.GetHash(), hold.GetHash()))
		}
		// And one that takes nothing away frees them, with what it gives.
		ann.Record.Department, ann.Record.Attributes = "d005", map[string]string{"rota": "yes"}
		w.hear(s, w.event(mover, ann))
		if got := w.show(s, ann.GetId())["code"]; got != "[developers on-call]" || len(w.holds(s)) != 0 {
			t.Errorf("freed, they have %s in code; held: %v", got, w.holds(s))
		}
		if d := w.desired(s, "code", ann.GetId()); d.GetDecision() != 4 || d.GetRelease() != "" {
			t.Errorf("freed, a worker is told %v: want decision 4, which takes nothing away", d)
		}
	})
}

func TestAHoldIsReleasedByTwoPeopleWhoWereShownExactlyThat(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s := w.service(braked("0", "0", nil))
		w.apply(s, company)
		people := w.hire(s, 3)
		w.terminate(s, people[:2])
		hold, _ := w.hold(s)
		ask := func(name string, hash []byte) (bool, fault.Kind) {
			answer, err := s.ReleaseHold(w.as(name), &accessv1.ReleaseHoldRequest{Id: hold.GetId(), Hash: hash})
			if err == nil {
				return answer.GetNeedsSecond(), -1
			}
			return false, fault.KindOf(err)
		}
		if _, kind := ask("ada", []byte("another")); kind != fault.Conflict {
			t.Errorf("with the hash of something else: %v, want a conflict", kind)
		}
		if second, kind := ask("ada", hold.GetHash()); !second || kind != -1 {
			t.Errorf("the first operator: %v, %v; want a request", second, kind)
		}
		if _, kind := ask("ada", hold.GetHash()); kind != fault.Refused {
			t.Errorf("the same operator again: %v, want a refusal", kind)
		}
		w.terminate(s, people[2:]) // the hold grows
		if _, kind := ask("bob", hold.GetHash()); kind != fault.Conflict {
			t.Errorf("what was asked for has changed: %v, want a conflict", kind)
		}
		grown, _ := w.hold(s)
		if r := grown.GetRequest(); r.GetActor() != "operator:ada" || !r.GetOutdated() {
			t.Errorf("the request of before: %v, want ada's, outdated", r)
		}
		if second, _ := ask("bob", grown.GetHash()); !second {
			t.Error("a changed hold is released by one operator alone")
		}
		if gone := w.gone(s, people); len(gone) != 0 {
			t.Fatalf("%d lost access before two people agreed", len(gone))
		}
		if second, kind := ask("ada", grown.GetHash()); second || kind != -1 {
			t.Errorf("the second operator: %v, %v; want a release", second, kind)
		}
		// The process dies here: another one does it.
		s = w.service(braked("0", "0", nil))
		if err := s.ReleaseHeld(t.Context()); err != nil {
			t.Fatal(err)
		}
		if gone := w.gone(s, people); len(gone) != 3 || len(w.holds(s)) != 0 {
			t.Errorf("released, %d of 3 lost access; held: %v", len(gone), w.holds(s))
		}
		d := w.desired(s, "wiki", people[0].GetId())
		if d.GetRelease() == "" || d.GetRelease() != w.desired(s, "code", people[1].GetId()).GetRelease() {
			t.Errorf("released together, they carry the releases %q and another", d.GetRelease())
		}
		if d.GetCorrelationId() == "" || d.GetPersonVersion() != 2 {
			t.Errorf("a worker is told %v: want the numbers and the correlation of what was held", d)
		}
	})
}

func TestARejectedHoldStaysUntilANewerDecision(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s := w.service(braked("0", "0", nil))
		w.apply(s, company)
		people := w.hire(s, 2)
		w.terminate(s, people)
		hold, _ := w.hold(s)
		if _, err := s.ReleaseHold(w.as("ada"), &accessv1.ReleaseHoldRequest{Id: hold.GetId(), Hash: hold.GetHash()}); err != nil {
			t.Fatal(err)
		}
		for i, name := range []string{"bob", "ada"} { // what ada asked for was something else
			answer, err := s.RejectHold(w.as(name), &accessv1.RejectHoldRequest{Id: hold.GetId(), Hash: hold.GetHash()})
			if err != nil || answer.GetNeedsSecond() != (i == 0) {
				t.Fatalf("%s rejects: %v, %v", name, answer, err)
			}
		}
		if err := s.Decide(t.Context(), people[0].GetId(), people[1].GetId()); err != nil {
			t.Fatal(err)
		}
		if gone := w.gone(s, people); len(gone) != 0 || len(w.holds(s)) != 0 {
			t.Errorf("rejected, %d lost access; held: %v", len(gone), w.holds(s))
		}
		if listed, held := w.rejected(s, hold.GetId()); len(listed) != 1 || !listed[0].GetRejected() || listed[0].GetPeople() != 2 || len(held) != 2 {
			t.Errorf("what was rejected is listed as %v, with %d people, want the hold of 2", listed, len(held))
		}
		w.terminate(s, people[:1]) // HR says it again
		if _, held := w.hold(s); len(held) != 1 || held[0].GetPersonId() != people[0].GetId() {
			t.Errorf("said again, %v are held: want the one it was said of", held)
		}
		w.terminate(s, people[1:], func(e *eventv1.Lifecycle) { e.Actor, e.Source = "operator:ada", "operators" })
		if gone := w.gone(s, people); !slices.Equal(gone, []string{people[1].GetId()}) {
			t.Errorf("%v lost access: want the one whom an operator terminated", gone)
		}
		if listed, held := w.rejected(s, hold.GetId()); len(listed)+len(held) != 0 {
			t.Errorf("after newer decisions %v are still listed as rejected", listed)
		}
	})
}

func TestWhatAWorkerWantsToTakeAwayCountsAndIsHeldAsWell(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s := w.service(braked("3", "100%", nil))
		w.apply(s, company)
		people := w.hire(s, 8)
		w.terminate(s, people[:1])
		ask := func(p *peoplev1.Person, targets ...string) *accessv1.ReleaseResponse {
			request := &accessv1.ReleaseRequest{Application: "code", PersonId: p.GetId(), Generation: 1}
			for _, target := range targets {
				request.Steps = append(request.Steps, &accessv1.UnorderedStep{Op: eventv1.Op_OP_REVOKE, Target: target})
			}
			answer, err := s.Release(t.Context(), request)
			if err != nil {
				t.Fatal(err)
			}
			return answer
		}
		released := 0
		for _, p := range people[1:] { // a connector that misreads: everybody is an administrator
			if answer := ask(p, "admins"); answer.GetRelease() != "" {
				released++
			} else if answer.GetHold() == "" {
				t.Errorf("neither released nor held: %v", answer)
			}
		}
		if released != 2 {
			t.Errorf("%d are released, want 2: one of 3 left already", released)
		}
		if diff := cmp.Diff([]string{"5 of 5: drift, source code"}, w.holds(s)); diff != "" {
			t.Errorf("holds (-want +got):\n%s", diff)
		}
		if answer := ask(people[1], "admins"); answer.GetRelease() == "" {
			t.Error("who asks again for what was released is held")
		}
		w.terminate(s, people[2:3]) // counted already, and lost something there
		if gone := w.gone(s, people); len(gone) != 2 {
			t.Errorf("%d left: who lost something within the hour loses the rest at no cost", len(gone))
		}
		if answer := ask(people[4]); answer.GetRelease()+answer.GetHold() != "" {
			t.Errorf("who asks for nothing any more is answered %v", answer)
		}
		if _, held := w.hold(s); len(held) != 4 {
			t.Errorf("%d are held, want 4: one is not asked for any more", len(held))
		}
		w.release(s)
		if answer := ask(people[5], "admins", "owners"); answer.GetRelease() != "" {
			t.Error("more than what was released is released")
		}
		first := ask(people[6], "admins").GetRelease()
		if first == "" || first != ask(people[6], "admins").GetRelease() {
			t.Error("what two people released is not released for the worker, or not for good")
		}
		w.terminate(s, people[7:]) // held whole: nothing else is taken meanwhile
		if answer := ask(people[7], "admins"); answer.GetRelease() != "" {
			t.Error("of somebody who is held something is taken away")
		}
	})
}
