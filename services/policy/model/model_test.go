package model_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/services/policy/model"
)

var applications = []string{"wiki", "code", "warehouse"}

func load(tb testing.TB, text string) *model.Model {
	tb.Helper()
	m, err := model.Load([]model.File{{Name: "roles.yaml", Content: []byte(text)}}, applications)
	if err != nil {
		tb.Fatalf("a good model was refused:\n%v", err)
	}
	return m
}

const company = `
entitlements:
  - {app: warehouse, id: "role:admin", level: admin, can: [create, edit, delete, export], privileged: true}
  - {app: warehouse, id: "role:readonly", level: read}
roles:
  - name: everyone
    members: person.status in ["active", "on_leave"]
    grants: [{app: wiki, entitlement: "group:staff"}]
  - name: developer
    members: person.department == "d005" && person.employment_type in ["employee", "contractor"]
    grants:
      - {app: code, entitlement: "group:developers"}
      - {app: warehouse, entitlement: "role:readonly"}
  - name: per-department
    for_each: {d: "[person.department]"}
    members: d != ""
    grants: [{app: wiki, entitlement: "group:dept-${d}"}]
  - name: on-call
    members: person.attributes["rota"] == "platform"
    grants: [{app: code}]
tests:
  - name: a developer
    given: {department: d005, employment_type: employee, attributes: {rota: ""}}
    expect:
      code: ["group:developers"]
      warehouse: ["role:readonly"]
      wiki: ["group:staff", "group:dept-d005"]
  - name: nobody keeps anything after the end
    given: {department: d005, employment_type: employee, status: terminated}
    expect: {}
  - name: an account alone
    given: {attributes: {rota: platform}}
    expect: {code: [], wiki: ["group:staff"]}
`

func TestEveryProblemOfAModelIsReportedAtItsPlaceAtOnce(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ text, want string }{
		"unknown key of a role": {
			"roles:\n  - name: a\n    member: \"true\"\n    members: \"true\"\n    grants: [{app: wiki}]\n",
			"m.yaml:3:roles[0].member: unknown key; known are name, members, for_each, grants",
		},
		"unknown top-level key": {"role: []\n", "m.yaml:1:role: unknown key; known are entitlements, roles, tests"},
		"duplicate role": {
			"roles:\n  - {name: a, members: \"true\", grants: [{app: wiki}]}\n  - {name: a, members: \"true\", grants: [{app: wiki}]}\n",
			`m.yaml:3:roles[1].name: role "a" stands in m.yaml:2 already`,
		},
		"unknown application": {
			"roles:\n  - name: a\n    members: \"true\"\n    grants:\n      - app: wikki\n",
			`m.yaml:5:roles[0].grants[0].app: unknown application "wikki"; configured are wiki, code, warehouse`,
		},
		"CEL syntax": {
			"roles:\n  - name: a\n    members: person.department ==\n    grants: [{app: wiki}]\n",
			"m.yaml:3:roles[0].members: column 21 of the expression: Syntax error: mismatched input '<EOF>'",
		},
		"CEL field": {
			"roles:\n  - name: a\n    members: person.departmnt == \"x\"\n    grants: [{app: wiki}]\n",
			"m.yaml:3:roles[0].members: column 7 of the expression: undefined field 'departmnt'",
		},
		"CEL in a block is counted by the lines of the file": {
			"roles:\n  - name: a\n    members: |\n      person.status == \"active\" &&\n      person.nme == \"\"\n    grants: [{app: wiki}]\n",
			"m.yaml:5:roles[0].members: column 7 of the expression: undefined field 'nme'",
		},
		"CEL type": {
			"roles:\n  - name: a\n    members: person.department\n    grants: [{app: wiki}]\n",
			"m.yaml:3:roles[0].members: must give true or false, not text",
		},
		"has() of a field": {
			"roles:\n  - name: a\n    members: has(person.title)\n    grants: [{app: wiki}]\n",
			`m.yaml:3:roles[0].members: column 4 of the expression: every field of person is always present: compare it with ""`,
		},
		"person as a whole": {
			"roles:\n  - name: a\n    members: \"[person] == [person]\"\n    grants: [{app: wiki}]\n",
			"person can only be used by its fields",
		},
		"a clock": {
			"roles:\n  - name: a\n    members: now > timestamp(person.start_date)\n    grants: [{app: wiki}]\n",
			"undeclared reference to 'now'",
		},
		"nested loops": {
			"roles:\n  - name: a\n    members: '[\"a\"].exists(x, [\"b\"].exists(y, x == y))'\n    grants: [{app: wiki}]\n",
			"comprehension exceeds nesting limit",
		},
		"bad regular expression": {
			"roles:\n  - name: a\n    members: person.title.matches(\"(\")\n    grants: [{app: wiki}]\n",
			"invalid matches argument",
		},
		"no grants": {
			"roles:\n  - name: a\n    members: \"true\"\n    grants: []\n",
			"m.yaml:4:roles[0].grants: is empty",
		},
		"grants missing":  {"roles:\n  - name: a\n    members: \"true\"\n", "m.yaml:2:roles[0]: grants is missing"},
		"members missing": {"roles:\n  - name: a\n    grants: [{app: wiki}]\n", "m.yaml:2:roles[0]: members is missing"},
		"bad role name": {
			"roles:\n  - {name: \"a b\", members: \"true\", grants: [{app: wiki}]}\n",
			`m.yaml:2:roles[0].name: "a b" is not a name`,
		},
		"number as entitlement": {
			"roles:\n  - name: a\n    members: \"true\"\n    grants: [{app: wiki, entitlement: 4711}]\n",
			"m.yaml:4:roles[0].grants[0].entitlement: must be text, not a number: put it in quotes",
		},
		"empty entitlement": {
			"roles:\n  - name: a\n    members: \"true\"\n    grants: [{app: wiki, entitlement: \"\"}]\n",
			"m.yaml:4:roles[0].grants[0].entitlement: is empty",
		},
		"control character": {
			"roles:\n  - name: a\n    members: \"true\"\n    grants: [{app: wiki, entitlement: \"a\\nb\"}]\n",
			"has a control character",
		},
		"unknown value in an entitlement": {
			"roles:\n  - name: a\n    members: \"true\"\n    grants: [{app: wiki, entitlement: \"g-${d}\"}]\n",
			"has ${d}, and the role has no for_each",
		},
		"for_each of text": {
			"roles:\n  - name: a\n    for_each: {d: person.department}\n    members: \"true\"\n    grants: [{app: wiki, entitlement: \"g-${d}\"}]\n",
			"m.yaml:3:roles[0].for_each.d: must give a list of texts, not text",
		},
		"for_each named person": {
			"roles:\n  - name: a\n    for_each: {person: \"[person.department]\"}\n    members: \"true\"\n    grants: [{app: wiki}]\n",
			`"person" cannot be the name of a value`,
		},
		"the same grant twice": {
			"roles:\n  - name: a\n    members: \"true\"\n    grants: [{app: wiki, entitlement: x}, {app: wiki, entitlement: x}]\n",
			"m.yaml:4:roles[0].grants[1]: this role gives it already",
		},
		"unknown verb": {
			"entitlements:\n  - {app: wiki, id: x, can: [exprot]}\nroles:\n  - {name: a, members: \"true\", grants: [{app: wiki}]}\n",
			`m.yaml:2:entitlements[0].can[0]: "exprot" is none of approve, create, delete, edit, export`,
		},
		"catalogue twice": {
			"entitlements:\n  - {app: wiki, id: x}\n  - {app: wiki, id: x}\nroles:\n  - {name: a, members: \"true\", grants: [{app: wiki}]}\n",
			"m.yaml:3:entitlements[1]: x of wiki is in the catalogue already",
		},
		"test of an unknown field": {
			"roles:\n  - {name: a, members: \"true\", grants: [{app: wiki}]}\ntests:\n  - given: {dept: d005}\n    expect: {wiki: []}\n",
			`m.yaml:4:tests[0].given.dept: a person has no field "dept"`,
		},
		"anchor":          {"roles: &r []\n", "not an anchor or alias"},
		"duplicate key":   {"roles: []\nroles: []\n", "m.yaml:2"},
		"two documents":   {"roles:\n  - {name: a, members: \"true\", grants: [{app: wiki}]}\n---\nroles: []\n", "a second document"},
		"not YAML":        {"roles: [\n", "m.yaml:"},
		"a list":          {"- a\n", "m.yaml:1: must be a mapping of keys to values, not a list"},
		"nothing":         {"\n", "no role in any file"},
		"not UTF-8":       {"roles: \xff\n", "m.yaml: is not UTF-8"},
		"empty condition": {"roles:\n  - {name: a, members: \"  \", grants: [{app: wiki}]}\n", "roles[0].members: is empty"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := model.Load([]model.File{{Name: "m.yaml", Content: []byte(c.text)}}, applications)
			if err == nil {
				t.Fatalf("accepted:\n%s", c.text)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("problems:\n%v\nwant one with\n%s", err, c.want)
			}
		})
	}
}

func TestAllProblemsOfAllFilesAreReportedInOrder(t *testing.T) {
	t.Parallel()
	_, err := model.Load([]model.File{
		{Name: "b.yaml", Content: []byte("roles:\n  - {name: a, members: person.x == \"\", grants: [{app: nowhere}]}\n")},
		{Name: "a.yaml", Content: []byte("rolls: 1\nroles:\n  - {name: a, members: \"1 + 1\", grants: []}\n")},
	}, applications)
	if err == nil {
		t.Fatal("accepted")
	}
	var places []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		places = append(places, strings.SplitN(line, " ", 2)[0])
	}
	want := []string{
		"a.yaml:1:rolls:", "a.yaml:3:roles[0].members:", "a.yaml:3:roles[0].grants:",
		"b.yaml:2:roles[0].name:", "b.yaml:2:roles[0].members:", "b.yaml:2:roles[0].grants[0].app:",
	}
	if diff := cmp.Diff(want, places); diff != "" {
		t.Errorf("places of problems (-want +got):\n%s\n%v", diff, err)
	}
}

func TestAModelPassesItsOwnTests(t *testing.T) {
	t.Parallel()
	// The developer and the leaver have no rota; the test of the developer says so to keep the rule from failing.
	if err := load(t, company).CheckTests(); err != nil {
		t.Fatalf("the company's tests fail:\n%v", err)
	}
}

func TestAFailedTestSaysWhatIsMissingAndWhatIsTooMuch(t *testing.T) {
	t.Parallel()
	m := load(t, `
roles:
  - {name: everyone, members: "true", grants: [{app: wiki, entitlement: staff}, {app: code}]}
tests:
  - name: somebody
    given: {}
    expect: {wiki: [staff, admins]}
`)
	results := m.Test()
	want := []model.TestResult{{
		Name: "somebody", File: "roles.yaml", Line: 5,
		Missing:    []model.Ref{{Application: "wiki", Entitlement: "admins"}},
		Unexpected: []model.Ref{{Application: "code"}},
	}}
	if diff := cmp.Diff(want, results); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	wantText := "roles.yaml:5:somebody: does not have admins in wiki\nroles.yaml:5:somebody: has an account in code, which is not expected"
	if err := m.CheckTests(); err == nil || err.Error() != wantText {
		t.Errorf("problems:\n%v\nwant:\n%s", err, wantText)
	}
}

func TestTheDigestIsOfNamesAndContentsInAnyOrder(t *testing.T) {
	t.Parallel()
	role := func(name string) []byte {
		return fmt.Appendf(nil, "roles: [{name: %s, members: \"true\", grants: [{app: wiki}]}]", name)
	}
	digest := func(files ...model.File) [32]byte {
		m, err := model.Load(files, applications)
		if err != nil {
			t.Fatal(err)
		}
		return m.Digest()
	}
	a, b := model.File{Name: "a.yaml", Content: role("a")}, model.File{Name: "b.yaml", Content: role("b")}
	if digest(a, b) != digest(b, a) {
		t.Error("the order of the files changes the digest")
	}
	swapped := digest(model.File{Name: "a.yaml", Content: role("b")}, model.File{Name: "b.yaml", Content: role("a")})
	if digest(a, b) == swapped {
		t.Error("other contents have the same digest")
	}
}

func TestARuleThatFailsGivesNothingAndNamesNoValue(t *testing.T) {
	t.Parallel()
	m := load(t, `
roles:
  - name: lookup
    members: '{"d005": "yes"}[person.department] == "yes" && person.status == "active"'
    grants: [{app: code}]
  - name: everyone
    members: "true"
    grants: [{app: wiki}]
`)
	grants, errs := m.Evaluate(&model.Person{Status: "active", Department: "secret-project"})
	if diff := cmp.Diff([]model.Grant{{Application: "wiki", Role: "everyone"}}, grants); diff != "" {
		t.Errorf("grants (-want +got):\n%s", diff)
	}
	want := []model.RuleError{{Role: "lookup", Code: "no_such_key", Message: `no such key in {"d005": "yes"}[person.department] == "yes"`}}
	if diff := cmp.Diff(want, errs); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
	// CEL: false && error is false.
	if _, errs := m.Evaluate(&model.Person{Status: "on_leave", Department: "secret-project"}); len(errs) != 0 {
		t.Errorf("a rule with a false part still erred: %v", errs)
	}
}

func TestAValueFromHRCannotMakeAnEntitlementMeanAnotherOne(t *testing.T) {
	t.Parallel()
	m := load(t, `
roles:
  - name: per-department
    for_each: {d: "[person.department]"}
    members: "true"
    grants: [{app: wiki, entitlement: "cn=${d},ou=groups"}]
`)
	for _, department := range []string{"x,ou=admins", "", " d005", "a\x00b", "#04", `a\b`, "a\nb"} {
		grants, errs := m.Evaluate(&model.Person{Status: "active", Department: department})
		if len(grants) != 0 || len(errs) != 1 || errs[0].Code != "unsafe_value" {
			t.Errorf("department %q gives %v with errors %v", department, grants, errs)
		}
	}
	for _, department := range []string{"d005", "R&D", "Forschung (Süd)", "研究"} {
		grants, errs := m.Evaluate(&model.Person{Status: "active", Department: department})
		if len(grants) != 1 || grants[0].Entitlement != "cn="+department+",ou=groups" || len(errs) != 0 {
			t.Errorf("department %q gives %v with errors %v", department, grants, errs)
		}
	}
}

func TestForEachGivesOneGrantPerValue(t *testing.T) {
	t.Parallel()
	m := load(t, `
roles:
  - name: teams
    for_each: {team: 'person.attributes[?"teams"].orValue("").split(" ")', site: "[person.location]"}
    members: team != "" && site != ""
    grants: [{app: wiki, entitlement: "${site}-${team}"}]
`)
	grants, errs := m.Evaluate(&model.Person{
		Status: "active", Location: "berlin", Attributes: map[string]string{"teams": "red blue red"},
	})
	want := []model.Grant{
		{Application: "wiki", Entitlement: "berlin-blue", Role: "teams", Bindings: []string{"site=berlin", "team=blue"}},
		{Application: "wiki", Entitlement: "berlin-red", Role: "teams", Bindings: []string{"site=berlin", "team=red"}},
	}
	if diff := cmp.Diff(want, grants); diff != "" || len(errs) != 0 {
		t.Errorf("errors %v, grants (-want +got):\n%s", errs, diff)
	}
	many := "t"
	for i := range 300 {
		many += fmt.Sprintf(" t%d", i)
	}
	_, errs = m.Evaluate(&model.Person{Status: "active", Location: "berlin", Attributes: map[string]string{"teams": many}})
	if len(errs) != 1 || errs[0].Code != "too_many_values" {
		t.Errorf("300 values: errors %v", errs)
	}
}

func TestAnExpensiveRuleIsStoppedAndOtherRulesGoOn(t *testing.T) {
	t.Parallel()
	m := load(t, `
roles:
  - name: slow
    members: person.title.split("").exists(a, a.matches("^[0-9]+$"))
    grants: [{app: code}]
  - name: everyone
    members: "true"
    grants: [{app: wiki}]
`)
	grants, errs := m.Evaluate(&model.Person{Status: "active", Title: strings.Repeat("long ", 4000)})
	if len(grants) != 1 || grants[0].Application != "wiki" {
		t.Errorf("grants: %v", grants)
	}
	if len(errs) != 1 || errs[0].Code != "too_expensive" {
		t.Errorf("errors: %v", errs)
	}
}

func TestExplainSaysWhichPartOfWhichRuleWasFalse(t *testing.T) {
	t.Parallel()
	m := load(t, company)
	person := &model.Person{Status: "active", Department: "d005", EmploymentType: "intern", Attributes: map[string]string{"rota": ""}}
	cases := []struct {
		ref  model.Ref
		want []model.Verdict
	}{
		{model.Ref{Application: "code", Entitlement: "group:developers"}, []model.Verdict{
			{Role: "developer", Entitlement: "group:developers", Failed: `person.employment_type in ["employee", "contractor"]`},
		}},
		{model.Ref{Application: "code"}, []model.Verdict{
			{Role: "developer", Entitlement: "group:developers", Failed: `person.employment_type in ["employee", "contractor"]`},
			{Role: "on-call", Failed: `person.attributes["rota"] == "platform"`},
		}},
		{model.Ref{Application: "wiki", Entitlement: "group:dept-d005"}, []model.Verdict{
			{Role: "per-department", Bindings: []string{"d=d005"}, Entitlement: "group:dept-d005", Member: true},
		}},
		{model.Ref{Application: "wiki", Entitlement: "group:dept-d004"}, []model.Verdict{
			{Role: "per-department", Entitlement: "group:dept-d004", Failed: "d in [person.department]"},
		}},
		{model.Ref{Application: "warehouse", Entitlement: "role:owner"}, nil},
	}
	for _, c := range cases {
		if diff := cmp.Diff(c.want, m.Explain(person, c.ref)); diff != "" {
			t.Errorf("why %v (-want +got):\n%s", c.ref, diff)
		}
	}
	gone := &model.Person{Status: "terminated", Department: "d005", EmploymentType: "employee"}
	want := []model.Verdict{{
		Role: "developer", Entitlement: "role:readonly", Failed: `person.status in ["active", "on_leave"]`,
	}}
	if diff := cmp.Diff(want, m.Explain(gone, model.Ref{Application: "warehouse", Entitlement: "role:readonly"})); diff != "" {
		t.Errorf("why not a leaver (-want +got):\n%s", diff)
	}
	unknown := &model.Person{Status: "active", Department: "d004"}
	verdicts := m.Explain(unknown, model.Ref{Application: "code"})
	if len(verdicts) != 2 || verdicts[1].Error == nil || verdicts[1].Error.Code != "no_such_key" {
		t.Errorf("a rule that errs is not explained: %+v", verdicts)
	}
}

func TestUnclassifiedEntitlementsAreKnown(t *testing.T) {
	t.Parallel()
	want := []model.Ref{{Application: "code", Entitlement: "group:developers"}, {Application: "wiki", Entitlement: "group:staff"}}
	if diff := cmp.Diff(want, load(t, company).Unclassified()); diff != "" {
		t.Errorf("unclassified (-want +got):\n%s", diff)
	}
}

func TestAnAcceptedModelStillLoadsWhenAnApplicationIsNoLongerConfigured(t *testing.T) {
	t.Parallel()
	files := []model.File{{Name: "roles.yaml", Content: []byte(company)}}
	if _, err := model.Load(files, []string{"wiki"}); err == nil {
		t.Error("a new model may name applications that are not configured")
	}
	m, err := model.Load(files, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"code", "warehouse", "wiki"}, m.Applications()); diff != "" {
		t.Errorf("applications (-want +got):\n%s", diff)
	}
}

func TestTheExampleModelPassesItsTests(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../../deploy/config/model/roles.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.Load([]model.File{{Name: "roles.yaml", Content: content}}, applications)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.CheckTests(); err != nil {
		t.Error(err)
	}
	if len(m.Test()) < 5 {
		t.Error("the example shows hardly any tests")
	}
}
