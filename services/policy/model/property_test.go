package model_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tenurehq/tenure/services/policy/model"
)

var departments = []string{"", "d001", "d005", "d008"}

func anyPerson(t *rapid.T) *model.Person {
	p := &model.Person{
		Status:     rapid.SampledFrom([]string{"pending", "active", "active", "on_leave", "terminated"}).Draw(t, "status"),
		Department: rapid.SampledFrom(departments).Draw(t, "department"),
		Title:      rapid.SampledFrom([]string{"Engineer", "Senior Engineer", "Manager"}).Draw(t, "title"),
	}
	if rapid.Bool().Draw(t, "has a rota") {
		p.Attributes = map[string]string{"rota": rapid.SampledFrom([]string{"", "platform"}).Draw(t, "rota")}
	}
	return p
}

// anyPart draws one side of a rule: comparisons that the index knows, and what only CEL can do, some of which errs.
func anyPart(t *rapid.T) string {
	return rapid.SampledFrom([]string{
		`person.department == "d005"`, `"d008" == person.department`, `person.department != "d001"`,
		`person.department in ["d001", "d008"]`, `person.department in []`, `person.title == "Manager"`,
		`person.status == "active"`, `person.title.startsWith("Senior")`, `person.attributes["rota"] == "platform"`,
		`person.attributes[?"rota"].orValue("") == ""`, `(person.department == "d005" || person.title == "Manager")`,
		`!(person.department == "d001")`, `true`,
	}).Draw(t, "part")
}

func anyModel(t *rapid.T) string {
	var b strings.Builder
	b.WriteString("roles:\n")
	for i := range rapid.IntRange(1, 8).Draw(t, "roles") {
		members := rapid.SliceOfN(rapid.Custom(anyPart), 1, 4).Draw(t, "members")
		fmt.Fprintf(&b, "  - {name: r%d, members: '%s', grants: [{app: wiki, entitlement: e%d}]}\n", i, strings.Join(members, " && "), i)
	}
	return b.String()
}

func TestTheIndexChangesNothingButTheTimeItTakes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m, err := model.Load([]model.File{{Name: "m.yaml", Content: []byte(anyModel(t))}}, applications)
		if err != nil {
			t.Fatal(err)
		}
		p := anyPerson(t)
		grants, errs := m.Evaluate(p)
		wantGrants, wantErrs := m.EvaluateUnindexed(p)
		if diff := cmp.Diff(wantGrants, grants); diff != "" {
			t.Fatalf("grants (-every role +index):\n%s", diff)
		}
		if diff := cmp.Diff(wantErrs, errs); diff != "" {
			t.Fatalf("errors (-every role +index):\n%s", diff)
		}
	})
}

// A rule is split at its top-level && and partly done without CEL. The same rule inside one more || is left to CEL.
func TestSplittingARuleChangesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		members := strings.Join(rapid.SliceOfN(rapid.Custom(anyPart), 1, 4).Draw(t, "members"), " && ")
		text := fmt.Sprintf(`
roles:
  - {name: split, members: '%s', grants: [{app: wiki}]}
  - {name: whole, members: '(%s) || 1 == 2', grants: [{app: wiki}]}
`, members, members)
		m, err := model.Load([]model.File{{Name: "m.yaml", Content: []byte(text)}}, applications)
		if err != nil {
			t.Fatal(err)
		}
		var given, erred []string
		grants, errs := m.Evaluate(anyPerson(t))
		for _, g := range grants {
			given = append(given, g.Role)
		}
		for _, e := range errs {
			erred = append(erred, e.Role)
		}
		if len(given) == 1 || len(erred) == 1 {
			t.Fatalf("%s: given by %v, errors of %v", members, given, erred)
		}
	})
}

func TestExplainAgreesWithEvaluate(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m, err := model.Load([]model.File{{Name: "m.yaml", Content: []byte(anyModel(t))}}, applications)
		if err != nil {
			t.Fatal(err)
		}
		p := anyPerson(t)
		grants, _ := m.Evaluate(p)
		given := map[string]bool{}
		for _, g := range grants {
			given[g.Role] = true
		}
		for _, v := range m.Explain(p, model.Ref{Application: "wiki"}) {
			if v.Member != given[v.Role] {
				t.Fatalf("role %s is explained as member=%v and given=%v", v.Role, v.Member, given[v.Role])
			}
			if !v.Member && v.Failed == "" && v.Error == nil {
				t.Fatalf("role %s does not say why not", v.Role)
			}
		}
	})
}

func TestAModelServesManyGoroutines(t *testing.T) {
	t.Parallel()
	m := load(t, company)
	person := model.Person{Status: "active", Department: "d005", EmploymentType: "employee"}
	want, _ := m.Evaluate(&person)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 200 {
				if got, _ := m.Evaluate(&person); !cmp.Equal(want, got) {
					t.Errorf("another goroutine got other grants: %v", got)
					return
				}
			}
		})
	}
	wait.Wait()
}

func FuzzLoad(f *testing.F) {
	f.Add(company)
	f.Add("roles: [{name: a, members: \"true\", grants: [{app: wiki}]}]")
	f.Add("roles: &a [*a]")
	f.Add("? [a]\n: b")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := model.Load([]model.File{{Name: "m.yaml", Content: []byte(text)}}, applications)
		if err == nil {
			m.Test()
		}
	})
}
