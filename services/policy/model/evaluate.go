package model

import (
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
)

// role is a role ready to be evaluated.
type role struct {
	name      string
	members   string
	file      string
	line      int
	variables []string // names of for_each, sorted
	each      []values // by variables
	condition condition
	grants    []grant
}

// values is one for_each: an expression that gives the values.
type values struct {
	source  string
	program cel.Program
}

type grant struct {
	application string
	entitlement template
}

// RuleError is a role that could not be decided for a person.
type RuleError struct {
	Role    string
	Code    string
	Message string // without any value of the person
}

func (r *role) place() Role {
	return Role{Name: r.name, Members: r.members, File: r.file, Line: r.line}
}

func (r *role) canGive(ref Ref) bool {
	return slices.ContainsFunc(r.grants, func(g grant) bool {
		return g.application == ref.Application && g.entitlement.canGive(ref.Entitlement)
	})
}

// Evaluate returns what the roles give a person, sorted by application, entitlement and role, and the roles that could
// not be decided, which give nothing. Somebody who is neither active nor on leave gets nothing by any role.
func (m *Model) Evaluate(p *Person) ([]Grant, []RuleError) {
	if !p.entitled() {
		return nil, nil
	}
	var grants []Grant
	var errs []RuleError
	for _, i := range m.candidates(p) {
		r := &m.roles[i]
		given, failure := r.evaluate(p)
		if failure != nil {
			errs = append(errs, RuleError{Role: r.name, Code: failure.Code, Message: failure.Error()})
			continue
		}
		grants = append(grants, given...)
	}
	slices.SortFunc(grants, Grant.compare)
	return grants, errs
}

func (g Grant) compare(other Grant) int {
	if c := strings.Compare(g.Application, other.Application); c != 0 {
		return c
	}
	if c := strings.Compare(g.Entitlement, other.Entitlement); c != 0 {
		return c
	}
	if c := strings.Compare(g.Role, other.Role); c != 0 {
		return c
	}
	return slices.Compare(g.Bindings, other.Bindings)
}

// evaluate returns what one role gives a person. One value of for_each that fails makes the role undecided as a whole:
// half a role is nothing that anybody asked for.
func (r *role) evaluate(p *Person) ([]Grant, *Failure) {
	var given []Grant
	var failed *Failure
	err := r.eachScope(p, func(s *scope) {
		member, _, failure := r.condition.holds(s)
		if failure != nil && failed == nil {
			failed = failure
		}
		if !member || failed != nil {
			return
		}
		for i := range r.grants {
			entitlement, failure := r.grants[i].entitlement.fill(s.values)
			if failure != nil {
				failed = failure
				return
			}
			given = append(given, Grant{
				Application: r.grants[i].application,
				Entitlement: entitlement,
				Role:        r.name,
				Bindings:    r.bindings(s.values),
			})
		}
	})
	if err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, failed
	}
	return given, nil
}

// eachScope calls f for every combination of the values of for_each, once when there is none. The scope is only valid
// during the call.
func (r *role) eachScope(p *Person, f func(*scope)) *Failure {
	s := &scope{person: p, names: r.variables}
	if len(r.each) == 0 {
		f(s)
		return nil
	}
	all := make([][]string, len(r.each))
	count := 1
	for i, e := range r.each {
		found, failure := list(e.program, s, e.source)
		if failure != nil {
			return failure
		}
		all[i] = found
		if count *= len(found); count > maxValues {
			return &Failure{Code: "too_many_values", In: e.source}
		}
	}
	s.values = make([]string, len(all))
	for n := range count {
		for i := len(all) - 1; i >= 0; i-- {
			s.values[i] = all[i][n%len(all[i])]
			n /= len(all[i])
		}
		f(s)
	}
	return nil
}

// bindings returns the values under their names.
func (r *role) bindings(values []string) []string {
	if len(values) == 0 {
		return nil
	}
	named := make([]string, len(values))
	for i, v := range values {
		named[i] = r.variables[i] + "=" + v
	}
	return named
}

// index finds the roles that demand a value of one field by that value.
type index struct {
	field int
	roles map[string][]int
}

// buildIndexes puts every role that demands person.field == "x", or in ["x", …], under one such field: roles of
// which it is not true for a person are then never looked at. The part with the fewest values is taken.
func (m *Model) buildIndexes() {
	byField := map[int]map[string][]int{}
	for i := range m.roles {
		var best *comparison
		for _, p := range m.roles[i].condition {
			c := p.compare
			if c == nil || c.negated || c.field < 0 {
				continue
			}
			// Nearly everybody is active, so status leads nowhere unless there is nothing else.
			better := best == nil || fields[best.field].name == "status" ||
				(len(c.values) < len(best.values) && fields[c.field].name != "status")
			if better {
				best = c
			}
		}
		if best == nil {
			m.always = append(m.always, i)
			continue
		}
		if byField[best.field] == nil {
			byField[best.field] = map[string][]int{}
		}
		for _, value := range slices.Compact(slices.Sorted(slices.Values(best.values))) {
			byField[best.field][value] = append(byField[best.field][value], i)
		}
	}
	for i := range fields {
		if roles, ok := byField[i]; ok {
			m.indexes = append(m.indexes, index{i, roles})
		}
	}
}

// candidates returns the roles that may give a person something, in the order of the model.
func (m *Model) candidates(p *Person) []int {
	found := slices.Clone(m.always)
	for _, x := range m.indexes {
		found = append(found, x.roles[*fields[x.field].at(p)]...)
	}
	slices.Sort(found)
	return found
}
