package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAModelThatIsWrongNeverReplacesTheOneInEffect(t *testing.T) {
	t.Parallel()
	tn, w, ann := small(t)
	inEffect := tn.cli(t, "model", "show").want(t, 0).stdout
	for name, wrong := range map[string]struct{ text, says string }{
		"unknown field":     {`roles: [{name: x, members: person.height == "2"}]`, "roles.yaml:1"},
		"wrong type":        {`roles: [{name: x, members: person.department}]`, "roles.yaml:1"},
		"unknown key":       {`roles: [{name: x, member: "true"}]`, "roles.yaml:1"},
		"no application":    {`roles: [{name: x, members: "true", grants: [{app: vault}]}]`, "vault"},
		"a test that fails": {smallRoles + "tests: [{given: {department: d001}, expect: {wiki: []}}]", "test"},
		"nothing":           {"", "role"},
	} {
		write(t, filepath.Join(tn.dir, "wrong", "roles.yaml"), wrong.text+"\n")
		r := tn.cli(t, "model", "apply", "wrong", "--yes")
		if r.code != 1 || !strings.Contains(r.stderr, wrong.says) {
			t.Errorf("%s: exit %d, %q; want 1 and %q", name, r.code, r.stderr, wrong.says)
		}
		if now := tn.cli(t, "model", "show").want(t, 0).stdout; now != inEffect {
			t.Errorf("%s: the model in effect is now\n%s", name, now)
		}
	}
	ann.Title = "Chief"
	tn.hr(t).tell(t, "again", ann)
	tn.settle(t)
	if got := w.account(t, ann.Email); got.Status != "enabled" || !slices.Equal(got.Entitlements, []string{"group:developers", "group:staff"}) {
		t.Errorf("by the model in effect Ann has %+v", got)
	}
}

func TestARuleThatErrsTakesNothingAwayAndGivesNothing(t *testing.T) {
	t.Parallel()
	tn, w, ann := small(t)
	tn.applyModel(t, smallRoles+`  - name: rota
    members: person.attributes["rota"] == "yes"
    grants: [{app: wiki, entitlement: "group:rota"}]
`)
	ann.Attributes = map[string]string{"rota": "yes"}
	bo := record{ExternalID: "2", Status: "active", GivenName: "Bo", FamilyName: "Ek", Email: "bo.ek@acme.example", Department: "d001"}
	hr := tn.hr(t)
	hr.tell(t, "ann", ann)
	hr.tell(t, "bo", bo) // has no rota: the rule errs
	tn.settle(t)
	if got := w.account(t, ann.Email).Entitlements; !slices.Equal(got, []string{"group:developers", "group:rota", "group:staff"}) {
		t.Fatalf("Ann has %v", got)
	}
	if got := w.account(t, bo.Email).Entitlements; !slices.Equal(got, []string{"group:staff"}) {
		t.Errorf("a rule that errs gave Bo %v", got)
	}
	ann.Attributes, ann.Department = nil, "d001" // now it errs for Ann, too; the other rule does not
	hr.tell(t, "ann-again", ann)
	tn.settle(t)
	if got := w.account(t, ann.Email).Entitlements; !slices.Equal(got, []string{"group:rota", "group:staff"}) {
		t.Errorf("Ann has %v: want what the erring rule gave, and not what another no longer gives", got)
	}
	if shown := tn.cli(t, "access", "show", "1").want(t, 0).stdout; !strings.Contains(shown, "rota") {
		t.Errorf("the rule that errs is not shown:\n%s", shown)
	}
	ann.Status = "terminated"
	hr.tell(t, "ann-leaves", ann)
	tn.settle(t)
	if got := w.account(t, ann.Email); got.Status != "disabled" || len(got.Entitlements) > 0 {
		t.Errorf("Ann left and has %+v: an erring rule keeps nothing for a leaver", got)
	}
}

func TestAnApplicationThatIsAwayDelaysOnlyItselfAndCatchesUp(t *testing.T) {
	t.Parallel()
	w, db := wiki{freeAddresses(t, 1)[0]}, newWarehouse(t, []string{"dept_d005", "dept_d001"})
	cable := newWire(t, db.admin.Host)
	tn := serve(t, plan{applications: demoApplication("wiki", w.address, smallGroups, "") + db.applicationAt(t, cable.address)})
	tn.applyModel(t, smallRoles+`  - name: readers
    for_each: {d: "[person.department]"}
    members: d in ["d005", "d001"]
    grants: [{app: warehouse, entitlement: "role:dept_${d}"}]
`)
	hr := tn.hr(t)
	people := make([]record, 30)
	say := func(what string, change func(n int, r *record)) {
		t.Helper()
		var all []posting
		for n := range people {
			change(n, &people[n])
			all = append(all, says(t, fmt.Sprintf("%s-%d", what, n), time.Now(), people[n]))
		}
		hr.postAll(t, all, false)
	}
	say("join", func(n int, r *record) {
		*r = record{ExternalID: fmt.Sprint(n), Status: "active", GivenName: "G", FamilyName: fmt.Sprintf("Person%d", n), Email: fmt.Sprintf("p%d@acme.example", n), Department: "d005"}
	})
	tn.settle(t)

	cable.setDown(true)
	say("change", func(n int, r *record) { // some leave, some move, some stay
		switch n % 3 {
		case 0:
			r.Status = "terminated"
		case 1:
			r.Department = "d001"
		}
	})
	tn.settle(t, "warehouse") // which is away, and nobody else waits for it
	for _, r := range people {
		if got := w.account(t, r.Email); (got.Status == "enabled") != (r.Status == "active") {
			t.Errorf("while the warehouse is away %s has %+v in the wiki", r.ExternalID, got)
		}
	}
	if list := tn.cli(t, "apps", "list").want(t, 0).stdout; !strings.Contains(list, "unreachable") && !strings.Contains(list, "open") {
		t.Errorf("nobody is told that the warehouse is away:\n%s", list)
	}
	if l := db.logins(t, []string{"dept_d005", "dept_d001"})["gperson0"]; l == nil || !l.canLogin {
		t.Fatalf("the warehouse is cut off and has heard of the leaver: %+v", l)
	}

	cable.setDown(false)
	tn.settle(t)
	logins := db.logins(t, []string{"dept_d005", "dept_d001"})
	for n, r := range people {
		l := logins["gperson"+fmt.Sprint(n)]
		if r.Status == "active" && (l == nil || !l.canLogin || !slices.Equal(l.memberOf, []string{"dept_" + r.Department})) {
			t.Errorf("%d should have dept_%s and has %+v", n, r.Department, l)
		}
		if r.Status != "active" && (l.canLogin || l.limit != 0 || len(l.memberOf) > 0) {
			t.Errorf("%d left and has %+v", n, l)
		}
	}
}
