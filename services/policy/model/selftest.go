package model

import (
	"fmt"
	"slices"
	"strings"
)

// test is one entry of `tests:`.
type test struct {
	name   string
	file   string
	line   int
	person Person
	want   []Ref // sorted; an empty entitlement is the account
}

// TestResult is what came of one of the model's own tests. It passed when there is nothing to say.
type TestResult struct {
	Name       string
	File       string
	Line       int
	Missing    []Ref // expected and not given; an empty entitlement is the account itself
	Unexpected []Ref // given and not expected
	Errors     []RuleError
}

// Passed says whether the person got exactly what was expected.
func (r TestResult) Passed() bool {
	return len(r.Missing) == 0 && len(r.Unexpected) == 0 && len(r.Errors) == 0
}

// Problems returns what is wrong, in the form of Load's.
func (r TestResult) Problems() Problems {
	var found Problems
	say := func(format string, args ...any) {
		found = append(found, Problem{File: r.File, Line: r.Line, Key: r.Name, What: fmt.Sprintf(format, args...)})
	}
	for _, ref := range r.Missing {
		say("does not have %s", ref)
	}
	for _, ref := range r.Unexpected {
		say("has %s, which is not expected", ref)
	}
	for _, e := range r.Errors {
		say("role %s cannot be decided: %s", e.Role, e.Message)
	}
	return found
}

func (r Ref) String() string {
	if r.Entitlement == "" {
		return "an account in " + r.Application
	}
	return fmt.Sprintf("%s in %s", r.Entitlement, r.Application)
}

// Test runs the model's own tests. What a test expects is all that the person has: an application that it does not
// list is one where the person has nothing, and one with an empty list is an account without entitlements.
func (m *Model) Test() []TestResult {
	results := make([]TestResult, len(m.tests))
	for i := range m.tests {
		t := &m.tests[i]
		grants, errs := m.Evaluate(&t.person)
		var got []Ref
		for _, g := range grants {
			got = append(got, Ref{g.Application, ""}, Ref{g.Application, g.Entitlement})
		}
		got = sortedRefs(got)
		results[i] = TestResult{
			Name:       t.name,
			File:       t.file,
			Line:       t.line,
			Missing:    without(t.want, got),
			Unexpected: without(got, t.want),
			Errors:     errs,
		}
	}
	return results
}

// CheckTests runs the tests and returns the failed ones as Problems, nil when all pass.
func (m *Model) CheckTests() error {
	var found Problems
	for _, r := range m.Test() {
		found = append(found, r.Problems()...)
	}
	return found.err()
}

func sortedRefs(refs []Ref) []Ref {
	slices.SortFunc(refs, func(a, b Ref) int {
		if c := strings.Compare(a.Application, b.Application); c != 0 {
			return c
		}
		return strings.Compare(a.Entitlement, b.Entitlement)
	})
	return slices.Compact(refs)
}

// without returns what is in a and not in b.
func without(a, b []Ref) []Ref {
	var rest []Ref
	for _, ref := range a {
		if !slices.Contains(b, ref) {
			rest = append(rest, ref)
		}
	}
	return rest
}

func (b *builder) test(n node) {
	keys := b.mapping(n, "name", "given", "expect")
	t := test{name: n.key, file: n.file, line: n.line, person: Person{Status: StatusActive}}
	if name, ok := keys["name"]; ok {
		if text, ok := b.text(name); ok && text != "" {
			t.name = text
		}
	}
	if given, ok := b.required(n, keys, "given"); ok {
		b.person(given, &t.person)
	}
	if expect, ok := b.required(n, keys, "expect"); ok {
		for _, app := range b.entries(expect) {
			if !b.checkApplication(app.value, app.key) {
				continue
			}
			t.want = append(t.want, Ref{app.key, ""})
			for _, entitlement := range b.texts(app.value) {
				if what := checkEntitlement(entitlement.key); what != "" {
					b.problem(entitlement.value, "%s", what)
					continue
				}
				t.want = append(t.want, Ref{app.key, entitlement.key})
			}
		}
	}
	t.want = sortedRefs(t.want)
	b.model.tests = append(b.model.tests, t)
}

// person reads the fields of a person; what is not said is empty, and the status is active.
func (b *builder) person(n node, p *Person) {
	for _, e := range b.entries(n) {
		if e.key == attributesField {
			p.Attributes = map[string]string{}
			for _, attribute := range b.entries(e.value) {
				if value, ok := b.text(attribute.value); ok {
					p.Attributes[attribute.key] = value
				}
			}
			continue
		}
		i := fieldNamed(e.key)
		if i < 0 {
			b.problem(e.value, "a person has no field %q", e.key)
			continue
		}
		value, ok := b.text(e.value)
		if !ok {
			continue
		}
		*fields[i].at(p) = value
		if e.key == "status" && !slices.Contains(statuses[:], value) {
			b.problem(e.value, "%q is none of %s", value, strings.Join(statuses[:], ", "))
		}
	}
}

var statuses = [...]string{StatusPending, StatusActive, StatusOnLeave, StatusTerminated}
