package decide_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tenurehq/tenure/services/policy/decide"
	"github.com/tenurehq/tenure/services/policy/model"
)

const company = `
roles:
  - {name: everyone, members: person.status != "", grants: [{app: wiki, entitlement: staff}]}
  - {name: developer, members: person.department == "d005", grants: [{app: code, entitlement: developers}, {app: warehouse, entitlement: readonly}]}
  - {name: active-only, members: person.status == "active", grants: [{app: code}]}
  - {name: rota, members: 'person.attributes["rota"] == "yes"', grants: [{app: code, entitlement: on-call}]}
  - {name: per-department, for_each: {d: "[person.department]"}, members: d != "", grants: [{app: wiki, entitlement: "dept-${d}"}]}
`

func companyRules(tb testing.TB) decide.Rules {
	tb.Helper()
	var c golden
	c.Given.Model = company
	c.Given.Applications = []string{"wiki", "code", "warehouse"}
	c.Given.Accounts = map[string]map[string]string{
		"wiki": {"mail": "person.email"}, "code": {"cost": `person.attributes["cost"]`},
	}
	return rules(tb, c)
}

func anyPerson(t *rapid.T) *model.Person {
	p := &model.Person{
		Status:     rapid.SampledFrom([]string{"", "pending", "active", "on_leave", "terminated"}).Draw(t, "status"),
		Department: rapid.SampledFrom([]string{"", "d004", "d005", "x,y"}).Draw(t, "department"),
		Email:      rapid.SampledFrom([]string{"", "ada@acme.example"}).Draw(t, "email"),
		Attributes: map[string]string{},
	}
	for _, name := range []string{"rota", "cost"} {
		if rapid.Bool().Draw(t, name) {
			p.Attributes[name] = rapid.SampledFrom([]string{"yes", "no"}).Draw(t, name+" is")
		}
	}
	return p
}

// anyHistory decides about a person as they were some times before.
func anyHistory(t *rapid.T, rules decide.Rules) map[string]decide.Access {
	var standing map[string]decide.Access
	for range rapid.IntRange(0, 4).Draw(t, "decisions before") {
		standing = decide.Decide(rules, anyPerson(t), standing).Access
	}
	return standing
}

func TestTheSameModelAndPersonGiveTheSameAccessWhateverWasBefore(t *testing.T) {
	t.Parallel()
	rules := companyRules(t)
	rapid.Check(t, func(t *rapid.T) {
		p := anyPerson(t)
		fresh := decide.Decide(rules, p, nil)
		if len(fresh.Errors) > 0 {
			t.Skip("what errs depends on what was before")
		}
		if diff := cmp.Diff(fresh, decide.Decide(rules, p, anyHistory(t, rules))); diff != "" {
			t.Fatalf("with nothing before (-) and with a history (+):\n%s", diff)
		}
	})
}

func TestDecidingAgainChangesNothing(t *testing.T) {
	t.Parallel()
	rules := companyRules(t)
	rapid.Check(t, func(t *rapid.T) {
		p := anyPerson(t)
		once := decide.Decide(rules, p, anyHistory(t, rules))
		twice := decide.Decide(rules, p, once.Access)
		if gains, loses := decide.Diff(once.Access, twice.Access); len(gains)+len(loses) > 0 {
			t.Fatalf("deciding again gives %v and takes %v", gains, loses)
		}
	})
}

func TestWhoIsNotEmployedHasNothingAnywhere(t *testing.T) {
	t.Parallel()
	rules := companyRules(t)
	rapid.Check(t, func(t *rapid.T) {
		p := anyPerson(t)
		p.Status = rapid.SampledFrom([]string{"pending", "terminated", ""}).Draw(t, "not employed")
		if d := decide.Decide(rules, p, anyHistory(t, rules)); len(d.Access) > 0 {
			t.Fatalf("somebody %s has %v", p.Status, d.Access)
		}
	})
}

func TestARuleThatErrsTakesNothingAwayAndGivesNothingNew(t *testing.T) {
	t.Parallel()
	rules := companyRules(t)
	rapid.Check(t, func(t *rapid.T) {
		p := anyPerson(t)
		p.Status = "active"
		before := anyHistory(t, rules)
		after := decide.Decide(rules, p, before)
		var erred []string
		for _, e := range after.Errors {
			erred = append(erred, e.Role)
		}
		count := func(access map[string]decide.Access) map[string]int {
			by := map[string]int{}
			for app, a := range access {
				for _, r := range a.Reasons {
					if slices.Contains(erred, r.Role) {
						by[app+" "+r.Role+" "+r.Entitlement]++
					}
				}
			}
			return by
		}
		if diff := cmp.Diff(count(before), count(after.Access)); diff != "" {
			t.Fatalf("grants of the roles %v that erred, before and after:\n%s", erred, diff)
		}
	})
}

func TestOnLeaveAccountsAreDisabledAndKeepTheirEntitlements(t *testing.T) {
	t.Parallel()
	rules := companyRules(t)
	rapid.Check(t, func(t *rapid.T) {
		p := anyPerson(t)
		p.Status = "on_leave"
		for app, a := range decide.Decide(rules, p, anyHistory(t, rules)).Access {
			if a.State != decide.Disabled {
				t.Fatalf("the account in %s has state %d", app, a.State)
			}
		}
		p.Department = "d005"
		if a := decide.Decide(rules, p, nil).Access["warehouse"]; !slices.Equal(a.Entitlements, []string{"readonly"}) {
			t.Fatalf("on leave, the entitlements of the work are %v", a.Entitlements)
		}
	})
}

func TestSeveralEmploymentsHaveWhatTheActiveOnesHaveAlone(t *testing.T) {
	t.Parallel()
	rules := companyRules(t)
	rapid.Check(t, func(t *rapid.T) {
		person, others := anyPerson(t), []*model.Person{anyPerson(t), anyPerson(t)}
		for _, p := range append(others, person) {
			p.Attributes["cost"] = "yes" // without it the account alone could not be made
		}
		together := decide.Decide(rules, person, nil, others...)
		greatest := map[string]decide.State{}
		given := map[string]map[string]bool{} // by application
		for _, p := range append(others, person) {
			for app, a := range decide.Decide(rules, p, nil).Access {
				if a.State > greatest[app] {
					greatest[app], given[app] = a.State, map[string]bool{}
				}
				if a.State == greatest[app] {
					for _, e := range a.Entitlements {
						given[app][e] = true
					}
				}
			}
		}
		for app, a := range together.Access {
			want := slices.Sorted(maps.Keys(given[app]))
			if a.State != greatest[app] || !slices.Equal(a.Entitlements, want) {
				t.Fatalf("in %s together: %v %v, want %v %v", app, a.State, a.Entitlements, greatest[app], want)
			}
			for i := range a.Reasons[1:] {
				if a.Reasons[i].Entitlement == a.Reasons[i+1].Entitlement && a.Reasons[i].Role == a.Reasons[i+1].Role &&
					slices.Equal(a.Reasons[i].Bindings, a.Reasons[i+1].Bindings) {
					t.Fatalf("in %s one reason is given twice: %v", app, a.Reasons)
				}
			}
		}
		if len(together.Errors) == 0 && len(together.Access) != len(given) {
			t.Fatalf("together in %v, apart in %v", together.Access, given)
		}
		if diff := cmp.Diff(together.Access, decide.Decide(rules, person, nil, others[1], others[0]).Access); diff != "" {
			t.Fatalf("the order of the others matters:\n%s", diff)
		}
	})
}

func TestWhatIsWithheldIsExactlyWhatIsNew(t *testing.T) {
	t.Parallel()
	rules := companyRules(t)
	rapid.Check(t, func(t *rapid.T) {
		standing := anyHistory(t, rules)
		wanted := decide.Decide(rules, anyPerson(t), standing).Access
		released := map[string]decide.Access{}
		withheld := false
		for app := range maps.All(wanted) {
			a, kept := decide.Withhold(wanted[app], standing[app])
			withheld = withheld || kept
			if a.State != decide.None {
				released[app] = a
			}
		}
		gains, _ := decide.Diff(standing, released)
		if len(gains) > 0 {
			t.Fatalf("released although new: %v", gains)
		}
		_, lost := decide.Diff(standing, wanted)
		_, lostNow := decide.Diff(standing, released)
		if diff := cmp.Diff(lost, lostNow); diff != "" {
			t.Fatalf("removals that waited or were made up (-wanted +released):\n%s", diff)
		}
		wantedNew, _ := decide.Diff(standing, wanted)
		if withheld != (len(wantedNew) > 0) {
			t.Fatalf("withheld=%v, and new is %v", withheld, wantedNew)
		}
	})
}
