package plan_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tenurehq/tenure/services/provision/plan"
)

var names = []string{"a", "b", "c", "d", "e"}

// world is an application with at most one account that matters.
type world struct {
	account *plan.Account
}

// apply does what a faithful application does.
func (w *world) apply(steps []plan.Step) []plan.Result {
	var results []plan.Result
	for _, s := range steps {
		a := w.account
		switch s.Op {
		case plan.Create:
			w.account = &plan.Account{
				ID: "new", Marker: plan.Marker(ann), Status: plan.StatusDisabled, Attributes: s.Attributes,
				GrantsComplete: true, CredentialsComplete: true,
			}
		case plan.Update:
			a.Attributes = merged(a.Attributes, s.Attributes)
			if a.Marker == "" {
				a.Marker = plan.Marker(ann)
			}
		case plan.Enable:
			a.Status = plan.StatusEnabled
		case plan.Disable:
			a.Status = plan.StatusDisabled
		case plan.Delete:
			w.account = nil
		case plan.Grant:
			a.Grants = append(a.Grants, plan.Granted{Entitlement: s.Target})
		case plan.Revoke:
			a.Grants = slices.DeleteFunc(a.Grants, func(g plan.Granted) bool { return g.Entitlement == s.Target })
		case plan.KillSessions:
			if a.LiveSessions > 0 {
				a.LiveSessions = 0
			}
		case plan.RevokeCredential:
			a.Credentials = slices.DeleteFunc(a.Credentials, func(c plan.Credential) bool { return c.Kind == s.Target })
		case plan.NoOp, plan.RotateCredential:
		}
		results = append(results, plan.Changed)
	}
	return results
}

func merged(a, b map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range a {
		out[k] = v
	}
	for k, v := range b {
		out[k] = v
	}
	return out
}

func (w *world) found(r plan.Record, correlated bool) plan.Found {
	switch {
	case w.account == nil:
		return plan.Found{}
	case w.account.ID == r.AccountID:
		return plan.Found{Linked: []plan.Account{*w.account}}
	case w.account.Marker == plan.Marker(ann):
		return plan.Found{Marked: []plan.Account{*w.account}}
	case correlated:
		return plan.Found{Correlated: []plan.Account{*w.account}}
	}
	return plan.Found{}
}

func drawSituation(t *rapid.T) (plan.Input, *world) {
	subset := func(label string) []string {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, len(names), rapid.ID[string]).Draw(t, label)
	}
	w := &world{}
	if rapid.Bool().Draw(t, "exists") {
		w.account = &plan.Account{
			ID:             "1",
			Marker:         rapid.SampledFrom([]string{"", plan.Marker(ann)}).Draw(t, "marker"),
			Status:         rapid.SampledFrom([]plan.Status{plan.StatusEnabled, plan.StatusDisabled}).Draw(t, "status"),
			Attributes:     map[string]string{"mail": rapid.SampledFrom([]string{"x", "y"}).Draw(t, "mail")},
			GrantsComplete: rapid.Bool().Draw(t, "grants complete"), CredentialsComplete: rapid.Bool().Draw(t, "credentials complete"),
			LiveSessions: rapid.IntRange(-1, 3).Draw(t, "sessions"),
		}
		for _, e := range subset("has") {
			w.account.Grants = append(w.account.Grants, plan.Granted{
				Entitlement: e, Immutable: rapid.IntRange(0, 4).Draw(t, "immutable") == 0,
			})
		}
		if rapid.Bool().Draw(t, "password") {
			w.account.Credentials = []plan.Credential{{ID: "1", Kind: "password"}}
		}
	}
	in := plan.Input{
		Desired: plan.Desired{
			Person: ann, Generation: 5, Decision: uint64(rapid.IntRange(1, 3).Draw(t, "decision")), PersonVersion: uint64(rapid.IntRange(1, 3).Draw(t, "version")),
			State:        rapid.SampledFrom([]plan.State{plan.None, plan.Disabled, plan.Enabled}).Draw(t, "state"),
			Entitlements: subset("wanted"), Attributes: map[string]string{"mail": "y"},
			Release: rapid.SampledFrom([]string{"", "r"}).Draw(t, "release"),
		},
		Record: plan.Record{
			Gave: subset("gave"), Decision: uint64(rapid.IntRange(0, 3).Draw(t, "settled")),
			DisabledForLeaver: rapid.Bool().Draw(t, "left"), DisabledVersion: uint64(rapid.IntRange(0, 3).Draw(t, "left at")),
			Made: rapid.SampledFrom([]plan.Made{plan.NotMade, plan.Created, plan.TakenOver}).Draw(t, "made"),
		},
		Can: capabilities(),
		Settings: plan.Settings{
			Enforce:     plan.Enforce(rapid.IntRange(0, 3).Draw(t, "enforce")),
			Adopt:       rapid.Bool().Draw(t, "adopt"),
			DeleteAfter: rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(t, "delete after"),
			CreateGrace: time.Minute,
		},
		Now: now,
	}
	if w.account != nil && rapid.Bool().Draw(t, "linked") {
		in.Record.AccountID = "1"
	}
	if rapid.Bool().Draw(t, "unwanted for long") {
		in.Record.UnwantedSince = now.Add(-2 * time.Hour)
	}
	for _, op := range []plan.Op{plan.KillSessions, plan.RevokeCredential, plan.Enable, plan.Disable, plan.Update, plan.Revoke} {
		if rapid.IntRange(0, 5).Draw(t, "cannot "+op.String()) == 0 {
			delete(in.Can.Ops, op)
		}
	}
	for _, e := range subset("exclusive") {
		in.Can.ExclusionGroup[e] = "one-of"
	}
	in.Found = w.found(in.Record, true)
	return in, w
}

// TestConverges: what a plan asks of a faithful application leaves nothing to ask; and when nothing withholds it, the
// person has exactly what is desired.
func TestConverges(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in, w := drawSituation(t)
		p := plan.Make(in)
		for range 2 { // an account is deleted only after it was seen disabled
			in.Record = in.Record.See(in.Desired, p, now).Advance(in.Desired, p, w.apply(p.Steps), now)
			in.Found = w.found(in.Record, true)
			p = plan.Make(in)
		}
		if len(p.Steps) > 0 {
			t.Fatalf("a plan that was carried out asks for more: %v", describe(p).Steps)
		}
		if p.Holds() && in.Settings.Enforce == plan.Full {
			checkHolds(t, in, w)
		}
	})
}

func checkHolds(t *rapid.T, in plan.Input, w *world) {
	a := w.account
	if in.Desired.State == plan.Enabled {
		if a == nil || a.Status != plan.StatusEnabled {
			t.Fatal("the plan holds and the account cannot be used")
		}
		for _, e := range in.Desired.Entitlements {
			if !a.GrantsComplete && slices.Contains(in.Record.Gave, e) {
				continue
			}
			if !slices.ContainsFunc(a.Grants, func(g plan.Granted) bool { return g.Entitlement == e }) {
				t.Fatalf("the plan holds and %s is missing", e)
			}
		}
		for _, g := range a.Grants {
			if !g.Immutable && !slices.Contains(in.Desired.Entitlements, g.Entitlement) {
				t.Fatalf("the plan holds and %s is still there", g.Entitlement)
			}
		}
		return
	}
	if a == nil || a.Marker != plan.Marker(ann) && in.Record.AccountID != a.ID {
		return // nothing of the person's
	}
	if a.Status != plan.StatusDisabled || a.LiveSessions > 0 {
		t.Fatal("the plan of a leaver holds and the account can be used")
	}
	if in.Desired.State == plan.None && slices.ContainsFunc(a.Grants, func(g plan.Granted) bool { return !g.Immutable }) {
		t.Fatal("the plan of a leaver holds and grants are left")
	}
}

// TestEnforceIsMonotone: a higher level does all that a lower one does.
func TestEnforceIsMonotone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in, _ := drawSituation(t)
		var lower []string
		for level := plan.Observe; level <= plan.Full; level++ {
			in.Settings.Enforce = level
			steps := describe(plan.Make(in)).Steps
			for _, s := range lower {
				if !slices.Contains(steps, s) {
					t.Fatalf("%s drops %q of the level below", level, s)
				}
			}
			if level == plan.Observe && len(steps) > 0 {
				t.Fatalf("observe would do %v", steps)
			}
			lower = steps
		}
	})
}

// TestNeverDoes: the steps that no situation may bring about.
func TestNeverDoes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in, w := drawSituation(t)
		p := plan.Make(in)
		for _, s := range p.Steps {
			if in.Desired.State != plan.Enabled && !s.Op.Destructive() {
				t.Fatalf("a person who should have nothing gets %s", s.Op)
			}
			if s.Op.Destructive() && in.Desired.Release == "" {
				t.Fatalf("%s without a release", s.Op)
			}
			if s.Op.Destructive() && in.Settings.Enforce < plan.Own {
				t.Fatalf("%s under enforce %s", s.Op, in.Settings.Enforce)
			}
			if _, ok := in.Can.Ops[s.Op]; !ok {
				t.Fatalf("%s, which the application cannot do", s.Op)
			}
			if s.Op == plan.Enable && w.account != nil && in.Record.DisabledForLeaver && in.Desired.PersonVersion <= in.Record.DisabledVersion {
				t.Fatal("a leaver is enabled again for the same person version")
			}
			if s.Op == plan.Revoke && slices.ContainsFunc(w.account.Grants, func(g plan.Granted) bool { return g.Entitlement == s.Target && g.Immutable }) {
				t.Fatal("an immutable grant is revoked")
			}
			if s.Op == plan.Delete && w.account.Status != plan.StatusDisabled {
				t.Fatal("an account is deleted that was not seen disabled")
			}
		}
		if p.Account != nil && p.Claim == plan.Adopted && !in.Settings.Adopt {
			t.Fatal("an account is adopted although adopt is never")
		}
	})
}
