package decide_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/services/policy/decide"
	"github.com/tenurehq/tenure/services/policy/model"
)

var update = flag.Bool("update", false, "write what is decided now as what is wanted")

// golden is one case: its file name is a sentence, and reviewers read it instead of the Go.
type golden struct {
	Given struct {
		Model        string
		Applications []string
		Accounts     map[string]map[string]string `yaml:",omitempty"`
		Person       map[string]string
		Attributes   map[string]string       `yaml:",omitempty"`
		Others       []map[string]string     `yaml:",omitempty"` // further employments
		Standing     map[string]goldenAccess `yaml:",omitempty"`
	}
	Want goldenDecision
}

type goldenDecision struct {
	Access map[string]goldenAccess
	Errors []string `yaml:",omitempty"`
}

// goldenAccess has its entitlements in its reasons, one line each: `entitlement <- role binding… (standing)`.
type goldenAccess struct {
	State   string
	Account map[string]string `yaml:",omitempty"`
	Why     []string
}

var states = map[string]decide.State{"none": decide.None, "disabled": decide.Disabled, "enabled": decide.Enabled}

func TestDecisionsAreAsTheGoldenCasesSay(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d golden cases, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.ReplaceAll(strings.TrimSuffix(filepath.Base(file), ".yaml"), "_", " ")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var c golden
			if err := yaml.UnmarshalWithOptions(text, &c, yaml.Strict()); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			got := show(decide.Decide(rules(t, c), person(t, c), standing(t, c), others(t, c)...))
			if *update {
				c.Want = got
				rewritten, err := yaml.MarshalWithOptions(c, yaml.UseLiteralStyleIfMultiline(true))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, rewritten, 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(c.Want, got); diff != "" {
				t.Errorf("%s is not so (-want +got):\n%s", name, diff)
			}
		})
	}
}

func rules(tb testing.TB, c golden) decide.Rules {
	tb.Helper()
	m, err := model.Load([]model.File{{Name: "model.yaml", Content: []byte(c.Given.Model)}}, c.Given.Applications)
	if err != nil {
		tb.Fatal(err)
	}
	var applications []model.Application
	for _, name := range c.Given.Applications {
		applications = append(applications, model.Application{Name: name, Account: c.Given.Accounts[name]})
	}
	accounts, err := model.NewAccountMapping(applications)
	if err != nil {
		tb.Fatal(err)
	}
	return decide.Rules{Model: m, Accounts: accounts}
}

func person(tb testing.TB, c golden) *model.Person {
	tb.Helper()
	return employment(tb, c.Given.Person, c.Given.Attributes)
}

func others(tb testing.TB, c golden) []*model.Person {
	tb.Helper()
	var all []*model.Person
	for _, fields := range c.Given.Others {
		all = append(all, employment(tb, fields, nil))
	}
	return all
}

func employment(tb testing.TB, fields, attributes map[string]string) *model.Person {
	tb.Helper()
	p := &model.Person{Attributes: attributes}
	into := map[string]*string{
		"status": &p.Status, "department": &p.Department, "title": &p.Title, "email": &p.Email, "user_name": &p.UserName,
		"employment_type": &p.EmploymentType,
	}
	for name, value := range fields {
		if into[name] == nil {
			tb.Fatalf("golden cases know no field %q of a person", name)
		}
		*into[name] = value
	}
	return p
}

func standing(tb testing.TB, c golden) map[string]decide.Access {
	tb.Helper()
	found := map[string]decide.Access{}
	for app, g := range c.Given.Standing {
		a := decide.Access{State: states[g.State], Account: g.Account}
		for _, why := range g.Why {
			entitlement, by, ok := strings.Cut(why, " <- ")
			if !ok {
				tb.Fatalf("%q is not `entitlement <- role`", why)
			}
			words := strings.Fields(by)
			entitlement = strings.TrimPrefix(entitlement, "account")
			a.Reasons = append(a.Reasons, decide.Reason{Entitlement: entitlement, Role: words[0], Bindings: words[1:]})
			if entitlement != "" {
				a.Entitlements = append(a.Entitlements, entitlement)
			}
		}
		found[app] = a
	}
	return found
}

func show(d decide.Decision) goldenDecision {
	shown := goldenDecision{Access: map[string]goldenAccess{}}
	for app, a := range d.Access {
		g := goldenAccess{Account: a.Account}
		for name, state := range states {
			if state == a.State {
				g.State = name
			}
		}
		for _, r := range a.Reasons {
			entitlement := r.Entitlement
			if entitlement == "" {
				entitlement = "account"
			}
			line := entitlement + " <- " + strings.Join(append([]string{r.Role}, r.Bindings...), " ")
			if r.Standing {
				line += " (standing)"
			}
			g.Why = append(g.Why, line)
		}
		shown.Access[app] = g
	}
	for _, e := range d.Errors {
		shown.Errors = append(shown.Errors, fmt.Sprintf("%s: %s: %s", e.Role, e.Code, e.Message))
	}
	return shown
}
