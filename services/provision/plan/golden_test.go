package plan_test

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/services/provision/plan"
)

var update = flag.Bool("update", false, "rewrite what the golden cases want")

// A golden case is a situation and the plan for it; its file's name says the rule.
type golden struct {
	Given given `yaml:"given"`
	Want  want  `yaml:"want"`
}

type given struct {
	Desired struct {
		State        string            `yaml:"state"`
		Entitlements []string          `yaml:"entitlements,omitempty,flow"`
		Attributes   map[string]string `yaml:"attributes,omitempty,flow"`
		NoRelease    bool              `yaml:"no_release,omitempty"`
		Permitted    []string          `yaml:"permitted,omitempty,flow"` // entitlements that may be revoked although no decision ordered it
		Version      uint64            `yaml:"person_version,omitempty"`
		Decision     uint64            `yaml:"decision,omitempty"`
		Run          uint64            `yaml:"employment,omitempty"`
		Stays        bool              `yaml:"has_not_left,omitempty"`
	} `yaml:"desired"`
	Enforce     string   `yaml:"enforce"`
	Adopt       string   `yaml:"adopt,omitempty"`
	DeleteAfter string   `yaml:"delete_after,omitempty"`
	Cannot      []string `yaml:"cannot,omitempty,flow"`
	Exclusive   []string `yaml:"exclusive,omitempty,flow"`
	Rehired     string   `yaml:"when_rehired,omitempty"`
	Renames     bool     `yaml:"renames,omitempty"` // login is the account's name and can be changed

	Linked     []account `yaml:"linked,omitempty"`
	Marked     []account `yaml:"marked,omitempty"`
	Correlated []account `yaml:"correlated,omitempty"`
	Named      []account `yaml:"named,omitempty"`

	Gave            []string `yaml:"gave,omitempty,flow"`
	Made            string   `yaml:"made,omitempty"`
	Unlinked        bool     `yaml:"not_on_record,omitempty"`
	UsedFor         uint64   `yaml:"used_for_employment,omitempty"`
	SettledDecision uint64   `yaml:"settled_decision,omitempty"`
	LeaverVersion   uint64   `yaml:"disabled_for_leaver_version,omitempty"`
	DeletedVersion  uint64   `yaml:"deleted_for_version,omitempty"`
	UnwantedFor     string   `yaml:"unwanted_for,omitempty"`
	Cut             bool     `yaml:"sessions_and_credentials_were_cut,omitempty"`
	CreateTriedAgo  string   `yaml:"create_tried_ago,omitempty"`
}

type account struct {
	ID          string            `yaml:"id"`
	Name        string            `yaml:"name,omitempty"`
	Marker      string            `yaml:"marker,omitempty"`
	Status      string            `yaml:"status"`
	Attributes  map[string]string `yaml:"attributes,omitempty,flow"`
	Grants      []string          `yaml:"grants,omitempty,flow"` // "name", "name inherited", "name immutable"
	Credentials []string          `yaml:"credentials,omitempty,flow"`
	Sessions    int               `yaml:"sessions,omitempty"`
	Partial     bool              `yaml:"partial,omitempty"`
}

type want struct {
	Steps   []string `yaml:"steps"`
	Notes   []string `yaml:"notes,omitempty"`
	Problem string   `yaml:"problem,omitempty"`
	Account string   `yaml:"account,omitempty"`
	Leaving bool     `yaml:"leaving,omitempty"`
	Holds   bool     `yaml:"holds,omitempty"`
	Removal bool     `yaml:"removal,omitempty"`
	CutOff  bool     `yaml:"cut_off,omitempty"`
	Wait    bool     `yaml:"wait,omitempty"`
	Marker  string   `yaml:"marker,omitempty"` // where it is not the person's plain one
	Retired []string `yaml:"made_way,omitempty,flow"`
	Again   string   `yaml:"again_in,omitempty"`
}

const ann = "0190aaaa-0000-7000-8000-000000000001"

var now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func TestGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var g golden
			if err := yaml.UnmarshalWithOptions(text, &g, yaml.Strict()); err != nil {
				t.Fatal(err)
			}
			got := describe(plan.Make(g.Given.input(t)))
			if *update {
				g.Want = got
				out, err := yaml.Marshal(g)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, out, 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(g.Want, got); diff != "" {
				t.Errorf("another plan than the case wants (-want +got):\n%s", diff)
			}
		})
	}
}

func (g given) input(t *testing.T) plan.Input {
	t.Helper()
	in := plan.Input{
		Desired: plan.Desired{
			Person: ann, Generation: 7, Decision: max(g.Desired.Decision, 1), PersonVersion: max(g.Desired.Version, 1),
			State:        map[string]plan.State{"none": plan.None, "disabled": plan.Disabled, "enabled": plan.Enabled}[g.Desired.State],
			Entitlements: g.Desired.Entitlements, Attributes: g.Desired.Attributes, Release: "release-1",
			Run: max(g.Desired.Run, 1), Stays: g.Desired.Stays,
		},
		Record: plan.Record{
			Gave: g.Gave, Made: map[string]plan.Made{"": plan.NotMade, "created": plan.Created, "taken over": plan.TakenOver}[g.Made],
			Decision: g.SettledDecision, DisabledForLeaver: g.LeaverVersion > 0, DisabledVersion: g.LeaverVersion,
			Run: g.UsedFor, Deleted: g.DeletedVersion > 0, DeletedVersion: g.DeletedVersion,
		},
		Can: capabilities(),
		Settings: plan.Settings{
			Enforce: plan.Enforce(slices.Index([]string{"observe", "add", "own", "full"}, g.Enforce)),
			Adopt:   g.Adopt == "correlated", Renew: g.Rehired == "new",
			DeleteAfter: duration(t, g.DeleteAfter), CreateGrace: time.Minute,
		},
		Now: now,
	}
	if g.Desired.NoRelease {
		in.Desired.Release = ""
	}
	for _, e := range g.Desired.Permitted {
		in.Desired.Permission.Release = "release-2"
		in.Desired.Permission.Steps = append(in.Desired.Permission.Steps, plan.Step{Op: plan.Revoke, Target: e})
	}
	if g.Cut {
		in.Record.CutGeneration = in.Desired.Generation
	}
	if g.UnwantedFor != "" {
		in.Record.UnwantedSince = now.Add(-duration(t, g.UnwantedFor))
	}
	if g.CreateTriedAgo != "" {
		in.Record.CreateTried, in.Record.Creating = now.Add(-duration(t, g.CreateTriedAgo)), true
	}
	for op := range in.Can.Ops {
		if slices.Contains(g.Cannot, op.String()) {
			delete(in.Can.Ops, op)
		}
	}
	for _, e := range g.Exclusive {
		in.Can.ExclusionGroup[e] = "one-of"
	}
	for _, list := range []struct {
		from []account
		to   *[]plan.Account
	}{{g.Linked, &in.Found.Linked}, {g.Marked, &in.Found.Marked}, {g.Correlated, &in.Found.Correlated}, {g.Named, &in.Found.Named}} {
		for _, a := range list.from {
			*list.to = append(*list.to, a.plan())
		}
	}
	if g.Renames {
		in.Can.Name = "login"
		in.Can.Attributes["login"] = plan.Attribute{}
	}
	if len(in.Found.Linked) > 0 && !g.Unlinked {
		in.Record.AccountID = in.Found.Linked[0].ID
	}
	return in
}

func (a account) plan() plan.Account {
	out := plan.Account{
		ID: a.ID, Name: a.Name, Marker: map[string]string{"": "", "ours": plan.Marker(ann), "ours/2": plan.MarkerOf(ann, 2), "other": plan.Marker("somebody-else")}[a.Marker],
		Status:     map[string]plan.Status{"enabled": plan.StatusEnabled, "disabled": plan.StatusDisabled}[a.Status],
		Attributes: a.Attributes, GrantsComplete: !a.Partial, CredentialsComplete: !a.Partial, LiveSessions: a.Sessions,
	}
	for _, g := range a.Grants {
		name, flag, _ := strings.Cut(g, " ")
		out.Grants = append(out.Grants, plan.Granted{Entitlement: name, Inherited: flag == "inherited", Immutable: flag == "immutable"})
	}
	for _, kind := range a.Credentials {
		out.Credentials = append(out.Credentials, plan.Credential{ID: kind + "-1", Kind: kind})
	}
	return out
}

func capabilities() plan.Capabilities {
	ops := map[plan.Op]plan.Support{}
	for op := plan.Create; op <= plan.RevokeCredential; op++ {
		ops[op] = plan.Support{}
	}
	ops[plan.RevokeCredential] = plan.Support{CredentialKinds: []string{"api_key", "password"}}
	return plan.Capabilities{
		Ops:            ops,
		Attributes:     map[string]plan.Attribute{"login": {ReadOnly: true}, "mail": {FoldCase: true}},
		ExclusionGroup: map[string]string{},
	}
}

func describe(p plan.Plan) want {
	w := want{Steps: []string{}, Leaving: p.Leaving, Holds: p.Holds(), Removal: p.Removal(), CutOff: p.CutOff(), Retired: p.Retired, Wait: !p.Wait.IsZero()}
	for _, s := range p.Steps {
		line := strings.TrimSpace(s.Op.String() + " " + s.Target)
		for _, name := range slices.Sorted(maps.Keys(s.Attributes)) {
			line += " " + name + "=" + s.Attributes[name]
		}
		w.Steps = append(w.Steps, line)
	}
	for _, n := range p.Notes {
		w.Notes = append(w.Notes, n.String())
	}
	if p.Problem != nil {
		w.Problem = p.Problem.Code + " " + p.Problem.Reason
	}
	if p.Account != nil {
		w.Account = p.Account.ID
	}
	if p.Marker != plan.Marker(ann) {
		w.Marker = p.Marker
	}
	if !p.Again.IsZero() {
		w.Again = p.Again.Sub(now).String()
	}
	return w
}

func duration(t *testing.T, s string) time.Duration {
	t.Helper()
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
