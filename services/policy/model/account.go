package model

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
)

// AccountMapping works out the attributes of accounts: `applications[].account`, CEL over person. It cannot be
// changed and may be used by any number of goroutines.
type AccountMapping struct {
	applications []string // sorted
	attributes   map[string][]attribute
	digest       [32]byte
}

// attribute is one attribute of the accounts of one application.
type attribute struct {
	name    string
	source  string
	field   int // in fields, when the expression is just that; else -1
	program cel.Program
}

// Application is what a model needs to know of an application: its name and the expressions of its accounts'
// attributes.
type Application struct {
	Name    string
	Account map[string]string
}

// NewAccountMapping checks the expressions. The error is Problems whose keys are those of the config file, like
// applications[2].account.mail.
func NewAccountMapping(applications []Application) (*AccountMapping, error) {
	l, err := newLanguage()
	if err != nil {
		return nil, err
	}
	m := &AccountMapping{attributes: map[string][]attribute{}}
	var problems Problems
	var canonical []File
	for i, app := range applications {
		say := func(key, what string) {
			problems = append(problems, Problem{Key: fmt.Sprintf("applications[%d].%s", i, key), What: what})
		}
		if !applicationName.MatchString(app.Name) {
			say("name", fmt.Sprintf("%q is not the name of an application: 1 to 40 of a-z, 0-9 and -", app.Name))
		}
		if slices.Contains(m.applications, app.Name) {
			say("name", fmt.Sprintf("%q stands here twice", app.Name))
			continue
		}
		m.applications = append(m.applications, app.Name)
		for _, name := range slices.Sorted(maps.Keys(app.Account)) {
			a, mistakes := l.attribute(name, app.Account[name])
			for _, wrong := range mistakes {
				say("account."+name, wrong.what)
			}
			m.attributes[app.Name] = append(m.attributes[app.Name], a)
			canonical = append(canonical, File{Name: app.Name + "\x00" + name, Content: []byte(a.source)})
		}
		canonical = append(canonical, File{Name: app.Name})
	}
	if err := problems.err(); err != nil {
		return nil, err
	}
	slices.Sort(m.applications)
	slices.SortFunc(canonical, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	m.digest = digest(canonical)
	return m, nil
}

func (l *language) attribute(name, source string) (attribute, []mistake) {
	a := attribute{name: name, source: source, field: -1}
	if name == "" {
		return a, []mistake{{what: "an attribute without a name"}}
	}
	env, checked, mistakes := l.check(source, nil, cel.StringType)
	if mistakes != nil {
		return a, mistakes
	}
	if a.field = asField(checked.NativeRep().Expr()); a.field >= 0 {
		return a, nil
	}
	program, err := plan(env, checked)
	if err != nil {
		return a, []mistake{{what: err.Error()}}
	}
	a.program = program
	return a, nil
}

// asField returns the field that an expression just reads, or -1.
func asField(e ast.Expr) int {
	if e.Kind() != ast.SelectKind || e.AsSelect().IsTestOnly() {
		return -1
	}
	operand := e.AsSelect().Operand()
	if operand.Kind() != ast.IdentKind || operand.AsIdent() != "person" {
		return -1
	}
	return fieldNamed(e.AsSelect().FieldName())
}

// Applications returns the names, sorted. The caller must not change them.
func (m *AccountMapping) Applications() []string { return m.applications }

// Digest identifies the mapping: the same names and expressions have the same.
func (m *AccountMapping) Digest() [32]byte { return m.digest }

// Evaluate returns the attributes of a person's account in an application, without empty ones, and the names of those
// that could not be evaluated with the reason for each.
func (m *AccountMapping) Evaluate(application string, p *Person) (map[string]string, map[string]*Failure) {
	attributes := m.attributes[application]
	if len(attributes) == 0 {
		return nil, nil
	}
	found := make(map[string]string, len(attributes))
	var failed map[string]*Failure
	for i := range attributes {
		a := &attributes[i]
		value, failure := a.evaluate(p)
		switch {
		case failure != nil:
			if failed == nil {
				failed = map[string]*Failure{}
			}
			failed[a.name] = failure
		case value != "":
			found[a.name] = value
		}
	}
	return found, failed
}

func (a *attribute) evaluate(p *Person) (string, *Failure) {
	if a.field >= 0 {
		return *fields[a.field].at(p), nil
	}
	return text(a.program, &scope{person: p}, a.source)
}
