package plan_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tenurehq/tenure/services/provision/plan"
)

// house is a faithful application with any number of accounts, unique by name, that finds by id, marker and name.
type house struct {
	accounts []*plan.Account
	made     int
	enabled  []string // ids, in the order in which they were enabled
}

func (h *house) look(r plan.Record, d plan.Desired, s plan.Settings) plan.Found {
	by := func(is func(*plan.Account) bool) (out []plan.Account) {
		for _, a := range h.accounts {
			if is(a) {
				out = append(out, *a)
			}
		}
		return out
	}
	found := plan.Found{Linked: by(func(a *plan.Account) bool { return a.ID == r.AccountID })}
	if len(found.Linked) > 0 && !plan.IsFormer(d, r, s, found.Linked[0]) {
		return found
	}
	for run := d.Run; run > 0 && len(found.Marked) == 0; run-- {
		found.Marked = by(func(a *plan.Account) bool { return a.Marker == plan.MarkerOf(d.Person, run) })
	}
	found.Named = by(func(a *plan.Account) bool { return a.Name == d.Attributes["login"] })
	return found
}

func (h *house) apply(t *rapid.T, p plan.Plan) []plan.Result {
	a := p.Account
	if a != nil {
		a = h.accounts[slices.IndexFunc(h.accounts, func(b *plan.Account) bool { return b.ID == p.Account.ID })]
	}
	var results []plan.Result
	for _, s := range p.Steps {
		switch s.Op {
		case plan.Create:
			for _, b := range h.accounts {
				if b.Name == s.Attributes["login"] || b.Marker == p.Marker {
					t.Fatalf("CREATE of %s %s beside %+v", s.Attributes["login"], p.Marker, *b)
				}
			}
			h.made++
			a = &plan.Account{
				ID: fmt.Sprint(h.made), Name: s.Attributes["login"], Marker: p.Marker, Status: plan.StatusDisabled,
				Attributes: s.Attributes, GrantsComplete: true, CredentialsComplete: true,
			}
			h.accounts = append(h.accounts, a)
		case plan.Update:
			a.Attributes = merged(a.Attributes, s.Attributes)
			a.Name = a.Attributes["login"]
		case plan.Enable:
			a.Status = plan.StatusEnabled
			h.enabled = append(h.enabled, a.ID)
		case plan.Disable:
			a.Status = plan.StatusDisabled
		case plan.Delete:
			h.accounts = slices.DeleteFunc(h.accounts, func(b *plan.Account) bool { return b == a })
		case plan.Grant:
			a.Grants = append(a.Grants, plan.Granted{Entitlement: s.Target})
		case plan.Revoke:
			a.Grants = slices.DeleteFunc(a.Grants, func(g plan.Granted) bool { return g.Entitlement == s.Target })
		case plan.KillSessions, plan.RevokeCredential, plan.NoOp, plan.RotateCredential:
		}
		results = append(results, plan.Changed)
	}
	return results
}

// TestWhoComesBackNeverHasTwoAccountsNorOneOfBefore tells random stories of hiring, leave, leaving, cancelled
// terminations and rehires, in which the worker sometimes hears nothing of a change, and sometimes loses its record.
func TestWhoComesBackNeverHasTwoAccountsNorOneOfBefore(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h, record := &house{}, plan.Record{}
		can := capabilities()
		can.Name, can.Attributes["login"] = "login", plan.Attribute{}
		settings := plan.Settings{
			Enforce: plan.Full, Renew: true, CreateGrace: time.Minute,
			DeleteAfter: rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(t, "delete after"),
		}
		d := plan.Desired{
			Person: ann, Release: "r", Run: 1, State: plan.Enabled, Entitlements: []string{"a"},
			Attributes: map[string]string{"login": "ann"},
		}
		at, gone, used := now, false, map[string]uint64{}
		for range rapid.IntRange(1, 12).Draw(t, "events") {
			d.Generation, d.Decision, d.PersonVersion = d.Generation+1, d.Decision+1, d.PersonVersion+1
			d.Stays = true
			switch event := rapid.SampledFrom([]string{"leave", "back", "leaver", "rename"}).Draw(t, "event"); {
			case event == "leaver":
				d.State, d.Stays, gone = plan.None, false, true
			case event == "leave" && !gone:
				d.State = plan.Disabled
			case event == "rename":
				d.Attributes = map[string]string{"login": rapid.SampledFrom([]string{"ann", "lee"}).Draw(t, "name")}
				d.Stays = !gone
			case event == "back":
				if gone && rapid.Bool().Draw(t, "rehired") {
					d.Run++
				}
				d.State, gone = plan.Enabled, false
			}
			if rapid.IntRange(0, 3).Draw(t, "unheard") == 0 {
				continue
			}
			if rapid.IntRange(0, 5).Draw(t, "lost") == 0 {
				record = plan.Record{}
			}
			at = at.Add(30 * time.Minute)
			settle(t, h, &record, d, can, settings, at)
			usable := 0
			for _, a := range h.accounts {
				if a.Status == plan.StatusEnabled {
					usable++
					if run := used[a.ID]; run != 0 && run != d.Run && d.State == plan.Enabled && record.AccountID == a.ID {
						t.Fatalf("account %s of employment %d is used in employment %d", a.ID, run, d.Run)
					}
					if record.AccountID == a.ID {
						used[a.ID] = d.Run
					}
				}
			}
			if usable > 1 {
				t.Fatalf("%d usable accounts", usable)
			}
		}
	})
}

// settle reads, plans and carries out until nothing is left to do.
func settle(t *rapid.T, h *house, r *plan.Record, d plan.Desired, can plan.Capabilities, s plan.Settings, at time.Time) {
	for range 6 {
		p := plan.Make(plan.Input{Desired: d, Found: h.look(*r, d, s), Record: *r, Can: can, Settings: s, Now: at})
		*r = r.See(d, p, at)
		if len(p.Steps) == 0 {
			if p.Problem == nil && p.Holds() {
				r.Decision = d.Decision
			}
			if d.State == plan.Enabled && p.Problem == nil && (p.Account == nil || p.Account.Status != plan.StatusEnabled) {
				t.Fatalf("at rest without an account that works: %+v", describe(p))
			}
			return
		}
		*r = r.Advance(d, p, h.apply(t, p), at)
	}
	t.Fatal("never at rest")
}
