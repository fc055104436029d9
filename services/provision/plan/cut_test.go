package plan_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/services/provision/plan"
)

func TestWhatADecisionAmountsToWhereSomebodyWasCut(t *testing.T) {
	t.Parallel()
	never, cut, lifted := plan.Cut{}, plan.Cut{Version: 6, Stands: true}, plan.Cut{Version: 7}
	for name, c := range map[string]struct {
		cut     plan.Cut
		decided uint64
		want    plan.Ruling
	}{
		"nobody was ever cut":                           {never, 3, plan.Counts},
		"nobody was ever cut, and nothing was decided":  {never, 0, plan.Counts},
		"decided before the cut":                        {cut, 5, plan.Nothing},
		"decided from the cut's own version":            {cut, 6, plan.Nothing},
		"decided after HR's next record":                {cut, 9, plan.Nothing},
		"never decided":                                 {cut, 0, plan.Nothing},
		"lifted, and decided before the cut":            {lifted, 5, plan.Waits},
		"lifted, and decided while it stood":            {lifted, 6, plan.Waits},
		"lifted, and decided from the lift's version":   {lifted, 7, plan.Counts},
		"lifted, and decided after HR's next record":    {lifted, 8, plan.Counts},
		"lifted, and policy has not decided since ever": {lifted, 0, plan.Waits},
	} {
		if got := c.cut.Rule(c.decided); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestUnderACutNothingIsDesiredAndTheOrderIsTheRelease(t *testing.T) {
	t.Parallel()
	cut := plan.Cut{Version: 6, Stands: true}
	d := plan.Desired{
		Person: "ann", Generation: 4, Decision: 9, PersonVersion: 5, State: plan.Enabled, Entitlements: []string{"a"},
		Attributes: map[string]string{"login": "ann"}, Run: 2, Stays: true,
	}
	want := plan.Desired{Person: "ann", Generation: 4, Decision: 9, PersonVersion: 6, State: plan.None, Release: "cut-6", Run: 2}
	if diff := cmp.Diff(want, cut.Under(d)); diff != "" {
		t.Errorf("under a cut (-want +got):\n%s", diff)
	}
	d.PersonVersion, d.Release = 8, "policy's"
	if got := cut.Under(d); got.PersonVersion != 6 || got.Release != "policy's" {
		t.Errorf("a newer decision with a release: %+v", got)
	}
}

// TestWhoIsCutTwiceForOneGenerationLosesSessionsAndCredentialsTwice: the account worked in between.
func TestWhoIsCutTwiceForOneGenerationLosesSessionsAndCredentialsTwice(t *testing.T) {
	t.Parallel()
	cut := plan.Cut{Version: 6, Stands: true}
	can := plan.Capabilities{Ops: map[plan.Op]plan.Support{
		plan.Enable: {}, plan.Disable: {}, plan.KillSessions: {}, plan.RevokeCredential: {CredentialKinds: []string{"password"}},
	}}
	wanted := plan.Desired{Person: "ann", Generation: 4, Decision: 1, PersonVersion: 5, State: plan.Enabled, Release: "r", Run: 1, Stays: true}
	account := plan.Account{ID: "1", Marker: plan.Marker("ann"), Status: plan.StatusEnabled, GrantsComplete: true, LiveSessions: -1}
	record := plan.Record{AccountID: "1", Made: plan.Created, Run: 1}
	step := func(d plan.Desired, want ...plan.Op) {
		t.Helper()
		p := plan.Make(plan.Input{Desired: d, Found: plan.Found{Linked: []plan.Account{account}}, Record: record, Can: can, Settings: plan.Settings{Enforce: plan.Full}})
		var ops []plan.Op
		results := make([]plan.Result, len(p.Steps))
		for i, s := range p.Steps {
			ops, results[i] = append(ops, s.Op), plan.Changed
			switch s.Op {
			case plan.Disable:
				account.Status = plan.StatusDisabled
			case plan.Enable:
				account.Status = plan.StatusEnabled
			default:
			}
		}
		if diff := cmp.Diff(want, ops); diff != "" {
			t.Fatalf("steps for version %d (-want +got):\n%s", d.PersonVersion, diff)
		}
		record = record.Advance(d, p, results, p.Again)
	}
	step(cut.Under(wanted), plan.Disable, plan.KillSessions, plan.RevokeCredential)
	step(cut.Under(wanted))
	wanted.PersonVersion = 7 // lifted: policy wants what it wanted before, so there is no new generation
	step(wanted, plan.Enable)
	cut.Version, wanted.PersonVersion = 8, 7
	step(cut.Under(wanted), plan.Disable, plan.KillSessions, plan.RevokeCredential)
	wanted.PersonVersion = 9 // policy has heard of the lift, and nobody here has
	step(cut.Under(wanted))
	step(wanted, plan.Enable)
}
