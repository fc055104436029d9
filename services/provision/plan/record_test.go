package plan_test

import (
	"slices"
	"testing"
	"time"

	"github.com/tenurehq/tenure/services/provision/plan"
)

// TestWhatIsCalledRevokedAndStillListedStaysOurs: else it would be taken for somebody else's gift, and left.
func TestWhatIsCalledRevokedAndStillListedStaysOurs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		listed, there bool
		want          []string
	}{
		"listed, and still there":        {true, true, []string{"staff"}},
		"listed, and gone":               {true, false, nil},
		"not listed: the word has to do": {false, false, nil},
	} {
		d := plan.Desired{Person: "ann", Generation: 2, State: plan.None, Release: "r", Run: 1}
		account := plan.Account{ID: "1", Marker: plan.Marker("ann"), Status: plan.StatusDisabled, GrantsComplete: c.listed}
		record := plan.Record{AccountID: "1", Made: plan.Created, Gave: []string{"staff"}, Run: 1}
		p := plan.Plan{Steps: []plan.Step{{Op: plan.Revoke, Target: "staff"}}, Account: &account, Claim: plan.Linked, Enforce: plan.Own, Leaving: true}
		record = record.Advance(d, p, []plan.Result{plan.Changed}, time.Unix(1, 0))
		if c.there {
			account.Grants = []plan.Granted{{Entitlement: "staff"}}
		}
		p.Steps = nil
		if got := record.See(d, p, time.Unix(2, 0)).Gave; !slices.Equal(got, c.want) {
			t.Errorf("%s: ours is %v, want %v", name, got, c.want)
		}
	}
}

// TestANewAccountHasSettledNothing: only its creation had effect, after the decision had been settled without one (under a
// cut that was lifted since).
func TestANewAccountHasSettledNothing(t *testing.T) {
	t.Parallel()
	d := plan.Desired{Person: "ann", Generation: 1, Decision: 2, PersonVersion: 3, State: plan.Enabled, Attributes: map[string]string{"login": "ann"}, Run: 1}
	can := plan.Capabilities{Name: "login", Ops: map[plan.Op]plan.Support{plan.Create: {}, plan.Enable: {}}}
	create := plan.Plan{Steps: []plan.Step{{Op: plan.Create}, {Op: plan.Enable}}, Enforce: plan.Own}
	record := plan.Record{Decision: 2}.Advance(d, create, []plan.Result{plan.Unknown, plan.Unknown}, time.Unix(1, 0))
	half := plan.Account{ID: "1", Name: "ann", Marker: plan.Marker("ann"), Status: plan.StatusDisabled, Attributes: d.Attributes, GrantsComplete: true}
	p := plan.Make(plan.Input{
		Desired: d, Found: plan.Found{Marked: []plan.Account{half}}, Record: record, Can: can, Settings: plan.Settings{Enforce: plan.Own}, Now: time.Unix(2, 0),
	})
	if !slices.ContainsFunc(p.Steps, func(s plan.Step) bool { return s.Op == plan.Enable }) {
		t.Errorf("an account of which half was made is left so: %v %v", p.Steps, p.Notes)
	}
}
