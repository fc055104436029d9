package policy_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
)

func TestWhoHasTwoEmploymentsHasWhatEachOfThemGives(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s := w.service()
		w.apply(s, company)
		ann := person(active, "d005")
		second := &peoplev1.Employment{Status: active, Record: &peoplev1.Record{ExternalId: "second", Department: "d008"}}
		ann.Employments = []*peoplev1.Employment{{Status: active, Record: ann.GetRecord()}, second}
		has := func() map[string]string {
			t.Helper()
			w.people.put(ann)
			if err := s.Decide(t.Context(), ann.GetId()); err != nil {
				t.Fatal(err)
			}
			return w.show(s, ann.GetId())
		}
		want := map[string]string{"wiki": "[staff]", "code": "[developers]", "warehouse": "[readonly]"}
		if diff := cmp.Diff(want, has()); diff != "" {
			t.Errorf("with both (-want +got):\n%s", diff)
		}
		explained, err := s.Explain(t.Context(), &accessv1.ExplainRequest{PersonId: ann.GetId(), Application: "warehouse", Entitlement: "readonly"})
		if err != nil {
			t.Fatal(err)
		}
		members := map[string]bool{}
		for _, v := range explained.GetVerdicts() {
			members[v.GetReason().GetRole()] = v.GetMember()
		}
		if diff := cmp.Diff(map[string]bool{"developer": true, "researcher": true}, members); diff != "" {
			t.Errorf("why (-want +got):\n%s", diff)
		}
		// The one that counts most ends: what it gave goes, what the other gives stays.
		ann.Employments = []*peoplev1.Employment{second, {Status: terminated, Record: ann.GetRecord()}}
		ann.Record = second.GetRecord()
		want["code"] = "ACCESS_STATE_NONE[]"
		if diff := cmp.Diff(want, has()); diff != "" {
			t.Errorf("with the second alone (-want +got):\n%s", diff)
		}
	})
}
