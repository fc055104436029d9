package policy_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/policy"
)

func TestWhatEventsDidNotSayIsFoundByComparing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s, h := w.service(), w.listen()
		w.apply(s, company)
		ann := person(active, "d008")
		w.people.put(ann) // and nobody hears of it
		background(t, s.Run)
		h.model()
		for _, e := range h.access(2) {
			if e.CorrelationID == "" || h.fact(e).GetPersonId() != ann.GetId() {
				t.Errorf("announced %+v", e)
			}
		}
	})
}

func TestAnIngestThatIsAwayDelaysAndLosesNothing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s, h := w.service(), w.listen()
		w.apply(s, company)
		background(t, s.Run)
		h.model()
		w.people.leave(true)
		w.say(normal, eventv1.LifecycleKind_LIFECYCLE_KIND_JOINER, person(active, "d008"))
		w.people.leave(false)
		h.access(2)
	})
}

func TestWhileAuditLagsNothingNewIsReleasedAndRemovalsGoOn(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s := w.service()
		w.apply(s, company)
		ann, bob := person(active, "d005"), person(active, "d008")
		w.people.put(ann)
		if err := s.Decide(t.Context(), ann.GetId()); err != nil {
			t.Fatal(err)
		}
		lag := 2 * time.Minute
		s.SetBehind(func() time.Duration { return lag })
		ann.Record.Department = "d008" // loses code, keeps wiki and warehouse
		ann.Record.EmploymentType, ann.Record.Attributes = "employee", map[string]string{"rota": "yes"}
		w.people.put(ann)
		w.people.put(bob)
		if err := s.Decide(t.Context(), ann.GetId(), bob.GetId()); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"wiki": "[staff]", "code": "[]", "warehouse": "[readonly]"}
		if diff := cmp.Diff(want, w.show(s, ann.GetId())); diff != "" {
			t.Errorf("while audit lags, removals go on and on-call waits (-want +got):\n%s", diff)
		}
		if got := w.show(s, bob.GetId()); len(got) != 0 {
			t.Errorf("while audit lags, a joiner has %v", got)
		}
		shown, err := s.ShowAccess(t.Context(), &accessv1.ShowAccessRequest{PersonId: bob.GetId()})
		if err != nil || len(shown.GetErrors()) != 1 || shown.GetErrors()[0].GetCode() != "audit_behind" {
			t.Errorf("it is not shown that grants wait: %v, %v", shown.GetErrors(), err)
		}
		if err := s.ReleaseWithheld(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := w.show(s, bob.GetId()); len(got) != 0 {
			t.Errorf("released although audit still lags: %v", got)
		}
		lag = 0
		if err := s.ReleaseWithheld(t.Context()); err != nil {
			t.Fatal(err)
		}
		want = map[string]string{"wiki": "[staff]", "code": "[on-call]", "warehouse": "[readonly]"}
		if diff := cmp.Diff(want, w.show(s, ann.GetId())); diff != "" {
			t.Errorf("once audit has caught up (-want +got):\n%s", diff)
		}
		if got := w.show(s, bob.GetId()); len(got) != 2 {
			t.Errorf("once audit has caught up, the joiner has %v", got)
		}
	})
}

func TestOtherApplicationsMakeEverybodyDueAgain(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s := w.service()
		w.apply(s, company)
		ann := person(active, "d008")
		w.people.put(ann)
		if err := s.Compare(t.Context()); err != nil {
			t.Fatal(err)
		}
		renamed := w.service(func(c *policy.Config, _ *policy.Deps) {
			c.Applications[0].Account = map[string]string{"login": `person.user_name.replace("u-", "v-")`}
		})
		if err := renamed.Compare(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, err := renamed.GetDesired(t.Context(), &accessv1.GetDesiredRequest{Application: "wiki", PersonIds: []string{ann.GetId()}})
		if err != nil {
			t.Fatal(err)
		}
		d := got.GetDesired()[0]
		if d.GetAccount()["login"] != "v-"+ann.GetId() || d.GetGeneration() != 2 {
			t.Errorf("after another mapping of accounts: %v", d)
		}
	})
}

func TestAPersonOfWhomIngestForgotAVersionKeepsNobodyElseWaiting(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s := w.service()
		w.apply(s, company)
		ann, bob := person(active, "d008"), person(active, "d008")
		before := w.people.put(ann)
		w.people.put(ann)
		w.people.put(bob)
		if err := s.Compare(t.Context()); err != nil {
			t.Fatal(err)
		}
		left := person(terminated, "d008")
		left.Id = bob.GetId()
		w.people.put(left)
		w.people.restore(before) // from a backup
		renamed := w.service(func(c *policy.Config, _ *policy.Deps) {
			c.Applications[0].Account = map[string]string{"login": `person.user_name.replace("u-", "v-")`}
		})
		if err := renamed.Compare(t.Context()); err != nil {
			t.Errorf("repair stops at one person: %v", err)
		}
		want := map[string]string{"wiki": "ACCESS_STATE_NONE[]", "warehouse": "ACCESS_STATE_NONE[]"}
		if diff := cmp.Diff(want, w.show(renamed, bob.GetId())); diff != "" {
			t.Errorf("a leaver keeps what another person's trouble hides (-want +got):\n%s", diff)
		}
		if got := w.show(renamed, ann.GetId()); len(got) == 0 {
			t.Error("she lost what was decided by a version that ingest no longer has")
		}
	})
}
