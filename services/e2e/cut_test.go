package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// cutShown is what people show says of somebody in JSON, as far as it is about cuts.
type cutShown struct {
	Status string `json:"status"`
	Cut    *struct {
		Actor  string `json:"actor"`
		Second string `json:"second"`
		Reason string `json:"reason"`
	} `json:"cut"`
	Accounts []struct {
		Application      string   `json:"application"`
		EndedAt          string   `json:"ended_at"`
		CutOffAt         string   `json:"cut_off_at"`
		EffectiveSeconds *float64 `json:"effective_seconds"`
		KnownSeconds     *float64 `json:"known_seconds"`
	} `json:"accounts"`
}

func TestACutDisablesEverywhereAndHRDoesNotBringThePersonBack(t *testing.T) {
	t.Parallel()
	at := freeAddresses(t, 2)
	apps := map[string]wiki{"wiki": {at[0]}, "code": {at[1]}}
	tn := serve(t, plan{applications: demoApplication("wiki", at[0], smallGroups, "") + demoApplication("code", at[1], []string{"group:writers"}, "")})
	tn.applyModel(t, smallRoles+`  - name: writers
    members: person.department == "d005"
    grants: [{app: code, entitlement: "group:writers"}]
`)
	ann := record{ExternalID: "1", Status: "active", GivenName: "Ann", FamilyName: "Lee", Email: "ann.lee@acme.example", Department: "d005", Title: "Engineer"}
	bo := record{ExternalID: "2", Status: "active", GivenName: "Bo", FamilyName: "Ek", Email: "bo.ek@acme.example", Department: "d005"}
	hr := tn.hr(t)
	hr.tell(t, "ann", ann)
	hr.tell(t, "bo", bo)
	tn.settle(t)
	has := func(who record) string {
		t.Helper()
		var all []string
		for name, app := range apps {
			account := app.account(t, who.Email)
			all = append(all, fmt.Sprint(name, " ", account.Status, account.Entitlements))
		}
		slices.Sort(all)
		return strings.Join(all, ", ")
	}
	const everything, nothing = "code enabled[group:writers], wiki enabled[group:developers group:staff]", "code disabled[], wiki disabled[]"
	if got := has(ann); got != everything {
		t.Fatalf("before the cut Ann has %s", got)
	}

	for operator, line := range map[string]string{"vic": "people cut 1 --reason x", "olga": "people lift 1 --reason x"} {
		tn.cliAs(t, operator, strings.Fields(line)...).want(t, 4) // a viewer may not, and nobody is cut yet
	}
	tn.cliAs(t, "olga", "people", "cut", "1", "--reason", "badge stolen").want(t, 0)
	await(t, "Ann to have nothing", func() (bool, string) { got := has(ann); return got == nothing, got })
	tn.settle(t)
	if got := has(bo); got != everything {
		t.Errorf("Bo, who was not cut, has %s", got)
	}
	shown := ask[cutShown](t, tn, "people", "show", "1")
	if c := shown.Cut; c == nil || c.Actor != "operator:olga" || c.Second != "" || c.Reason != "badge stolen" || shown.Status != "PERSON_STATUS_ACTIVE" {
		t.Errorf("people show: %+v", shown)
	}
	if len(shown.Accounts) != 2 {
		t.Errorf("accounts: %+v", shown.Accounts)
	}
	for _, a := range shown.Accounts {
		if a.EndedAt == "" || a.CutOffAt == "" || a.KnownSeconds == nil || *a.KnownSeconds != *a.EffectiveSeconds || *a.KnownSeconds > 60 {
			t.Errorf("clocks in %s: %+v", a.Application, a)
		}
	}

	// HR goes on speaking, and Tenure is started anew.
	ann.Title = "Chief"
	hr.tell(t, "ann-again", ann)
	tn.settle(t)
	tn.stop(t)
	tn.start(t)
	ann.Title, ann.Department = "Engineer", "d001"
	hr.tell(t, "ann-moves", ann)
	ann.Department = "d005"
	hr.tell(t, "ann-moves-back", ann)
	tn.settle(t)
	if got := has(ann); got != nothing {
		t.Errorf("after HR's next records Ann has %s", got)
	}
	for _, line := range []string{"people show 1", "people list", "access show 1", "access why 1 wiki"} {
		if said := tn.cli(t, strings.Fields(line)...).want(t, 0).stdout; !strings.Contains(said, "cut") {
			t.Errorf("tenure %s does not tell of the cut:\n%s", line, said)
		}
	}

	tn.cliAs(t, "bob", "people", "lift", "1", "--reason", "badge found").want(t, 0)
	tn.settle(t)
	if got := has(ann); got != everything {
		t.Errorf("after the lift Ann has %s", got)
	}
	if said := tn.cli(t, "people", "timeline", "1").want(t, 0).stdout; !strings.Contains(said, "badge stolen") || !strings.Contains(said, "badge found") {
		t.Errorf("the timeline does not tell why:\n%s", said)
	}
	if again := ask[cutShown](t, tn, "people", "show", "1"); again.Cut != nil || again.Accounts[0].EndedAt != "" {
		t.Errorf("after the lift people show says %+v", again)
	}
	tn.cli(t, "audit", "verify").want(t, 0)
}

func TestManyCutsNeedASecondOperator(t *testing.T) {
	t.Parallel()
	tn, w, _ := small(t)
	hr := tn.hr(t)
	emails := map[string]string{}
	for n := range 21 {
		r := record{ExternalID: fmt.Sprint(100 + n), Status: "active", GivenName: "P", FamilyName: fmt.Sprintf("Q%d", n), Email: fmt.Sprintf("p%d@acme.example", n), Department: "d001"}
		emails[r.ExternalID] = r.Email
		hr.tell(t, r.ExternalID, r)
	}
	tn.settle(t)
	for n := range 20 {
		tn.cliAs(t, "olga", "people", "cut", fmt.Sprint(100+n), "--reason", "incident").want(t, 0)
	}
	asked := tn.cliAs(t, "olga", "people", "cut", "120", "--reason", "incident").want(t, 4)
	if !strings.Contains(asked.stderr, "second operator") || !strings.Contains(asked.stderr, "tenure people cut 120") {
		t.Errorf("whoever needs a second operator is told %q", asked.stderr)
	}
	if said := tn.cliAs(t, "olga", "people", "cut", "120", "--reason", "incident", "-o", "json").want(t, 4).stdout; !strings.Contains(said, `"needs_second":true`) {
		t.Errorf("machines are told %s", said)
	}
	tn.settle(t)
	for id, email := range emails {
		if want := map[bool]string{true: "enabled", false: "disabled"}[id == "120"]; w.account(t, email).Status != want {
			t.Errorf("%s is %s, want %s", id, w.account(t, email).Status, want)
		}
	}
	tn.cliAs(t, "bob", "people", "cut", "120", "--reason", "confirmed").want(t, 0)
	tn.settle(t)
	if got := w.account(t, emails["120"]); got.Status != "disabled" {
		t.Errorf("confirmed by another operator, and has %+v", got)
	}
	if c := ask[cutShown](t, tn, "people", "show", "120").Cut; c == nil || c.Actor != "operator:olga" || c.Second != "operator:bob" {
		t.Errorf("the cut is %+v", c)
	}
	if log := tn.cli(t, "audit", "log").want(t, 0).stdout; !strings.Contains(log, "tenure.operator.cut-request") && !strings.Contains(log, "cut-request") {
		t.Errorf("the record does not tell of the request:\n%s", log)
	}
}
