package policy_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/fault"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/policy"
)

func TestExplainTellsTheRuleTheFalsePartAndTheHistory(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s, h := w.service(), w.listen()
		w.apply(s, company)
		background(t, s.Run)
		h.model()
		ann := person(active, "d005")
		joined := w.say(normal, eventv1.LifecycleKind_LIFECYCLE_KIND_JOINER, ann)
		h.access(3)
		ann.Record.Department = "d008"
		moved := w.say(normal, eventv1.LifecycleKind_LIFECYCLE_KIND_MOVER, ann)
		gone := h.access(1)["code"]

		why, err := s.Explain(t.Context(), &accessv1.ExplainRequest{
			PersonId: ann.GetId(), Application: "code", Entitlement: "developers",
		})
		if err != nil {
			t.Fatal(err)
		}
		if why.GetWanted() || len(why.GetVerdicts()) != 1 {
			t.Fatalf("why: %v", why)
		}
		v := why.GetVerdicts()[0]
		if v.GetMember() || v.GetFailed() != `person.department == "d005"` || v.GetReason().GetRole() != "developer" ||
			v.GetReason().GetFile() != "roles.yaml" || v.GetReason().GetLine() != 6 {
			t.Errorf("verdict: %v", v)
		}
		history := why.GetHistory()
		if len(history) != 2 {
			t.Fatalf("history: %v", history)
		}
		if history[0].GetTriggerEventId() != moved.ID || !cmp.Equal(history[0].GetRemoved(), []string{"developers"}) ||
			history[0].GetAccessEventId() != gone.ID || history[0].GetState() != eventv1.AccessState_ACCESS_STATE_NONE {
			t.Errorf("newest: %v, want the removal by %s", history[0], moved.ID)
		}
		if history[1].GetTriggerEventId() != joined.ID || !cmp.Equal(history[1].GetAdded(), []string{"developers"}) ||
			history[1].GetDecision() != 1 || history[1].GetModelSeq() != 1 {
			t.Errorf("oldest: %v, want the grant by %s", history[1], joined.ID)
		}

		account, err := s.Explain(t.Context(), &accessv1.ExplainRequest{PersonId: ann.GetId(), Application: "warehouse"})
		if err != nil {
			t.Fatal(err)
		}
		var members []string
		for _, v := range account.GetVerdicts() {
			members = append(members, fmt.Sprint(v.GetReason().GetRole(), v.GetMember()))
		}
		if diff := cmp.Diff([]string{"developerfalse", "researchertrue"}, members); diff != "" || !account.GetWanted() {
			t.Errorf("why an account in warehouse, wanted=%v (-want +got):\n%s", account.GetWanted(), diff)
		}
		if len(account.GetHistory()) != 1 {
			t.Errorf("the warehouse did not change when ann moved, and its history is %v", account.GetHistory())
		}

		for _, r := range []*accessv1.ExplainRequest{
			{PersonId: ann.GetId(), Application: "nowhere"}, {PersonId: "nobody", Application: "wiki"},
		} {
			if _, err := s.Explain(t.Context(), r); fault.KindOf(err) != fault.NotFound {
				t.Errorf("explain %v: %v, want NotFound", r, err)
			}
		}
	})
}

func TestWhoFindsEverybodyByApplicationEntitlementVerbAndEnvironment(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s := w.service()
		w.apply(s, company+`
  - given: {status: active}
    expect: {wiki: [staff]}
`)
		dev, lab, gone := person(active, "d005"), person(onLeave, "d008"), person(active, "d005")
		names := map[string]string{}
		for name, p := range map[string]string{"dev": dev.GetId(), "lab": lab.GetId(), "gone": gone.GetId()} {
			names[p] = name
		}
		w.people.put(dev)
		w.people.put(lab)
		w.people.put(gone)
		if err := s.Compare(t.Context()); err != nil {
			t.Fatal(err)
		}
		gone.Status = terminated
		w.people.put(gone)
		if err := s.Compare(t.Context()); err != nil {
			t.Fatal(err)
		}
		cases := []struct {
			ask  *accessv1.WhoRequest
			want []string
		}{
			{&accessv1.WhoRequest{Application: "code"}, []string{"dev code developers [developer] "}},
			{&accessv1.WhoRequest{Can: "export"}, []string{
				"dev warehouse readonly [developer] read", "lab warehouse readonly [researcher] read",
			}},
			{&accessv1.WhoRequest{Entitlement: "staff"}, []string{"dev wiki staff [everyone] ", "lab wiki staff [everyone] "}},
			{&accessv1.WhoRequest{Environment: "staging"}, []string{"dev code developers [developer] "}},
			{&accessv1.WhoRequest{Environment: "dev"}, nil},
		}
		for _, c := range cases {
			var got []string
			for _, holder := range who(t, s, c.ask) {
				got = append(got, fmt.Sprintf("%s %s %s %v %s", names[holder.GetPersonId()], holder.GetApplication(),
					holder.GetEntitlement(), holder.GetRoles(), holder.GetLevel()))
			}
			slices.Sort(got)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("who %v (-want +got):\n%s", c.ask, diff)
			}
		}
		for ask, kind := range map[*accessv1.WhoRequest]fault.Kind{
			{Can: "exprot"}: fault.Usage, {Application: "nowhere"}: fault.NotFound,
		} {
			if err := s.Who(ask, &stream[accessv1.WhoResponse]{ctx: t.Context()}); fault.KindOf(err) != kind {
				t.Errorf("who %v: %v", ask, err)
			}
		}
	})
}

func who(t *testing.T, s *policy.Service, ask *accessv1.WhoRequest) []*accessv1.WhoResponse_Holder {
	t.Helper()
	sent := &stream[accessv1.WhoResponse]{ctx: t.Context()}
	if err := s.Who(ask, sent); err != nil {
		t.Fatal(err)
	}
	var all []*accessv1.WhoResponse_Holder
	for _, m := range sent.sent {
		all = append(all, m.GetHolders()...)
	}
	return all
}
