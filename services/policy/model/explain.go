package model

import "strings"

// Verdict is what one role says of one person and one entitlement that it can give.
type Verdict struct {
	Role        string
	Bindings    []string
	Entitlement string // what it gives; empty: the account alone, or not known
	Member      bool
	Failed      string     // the first part of the rule that is false; empty when member or Error is set
	Error       *RuleError // the role could not be decided
}

// entitledRule stands before every rule.
const entitledRule = `person.status in ["` + StatusActive + `", "` + StatusOnLeave + `"]`

// Explain returns what every role that can give an entitlement says of a person, in the order of the model. An empty
// entitlement asks for the account, which every grant in the application gives.
func (m *Model) Explain(p *Person, ref Ref) []Verdict {
	var verdicts []Verdict
	for i := range m.roles {
		r := &m.roles[i]
		if r.touches(ref) {
			verdicts = append(verdicts, r.explain(p, ref)...)
		}
	}
	return verdicts
}

func (r *role) touches(ref Ref) bool {
	for i := range r.grants {
		g := &r.grants[i]
		if g.application == ref.Application && (ref.Entitlement == "" || g.entitlement.canGive(ref.Entitlement)) {
			return true
		}
	}
	return false
}

func (r *role) explain(p *Person, ref Ref) []Verdict {
	if !p.entitled() {
		return []Verdict{{Role: r.name, Entitlement: ref.Entitlement, Failed: entitledRule}}
	}
	if _, failure := r.evaluate(p); failure != nil {
		undecided := &RuleError{Role: r.name, Code: failure.Code, Message: failure.Error()}
		return []Verdict{{Role: r.name, Entitlement: ref.Entitlement, Error: undecided}}
	}
	var verdicts []Verdict
	// evaluate has just done the same without a failure.
	_ = r.eachScope(p, func(s *scope) {
		member, failed, _ := r.condition.holds(s)
		for i := range r.grants {
			g := &r.grants[i]
			if g.application != ref.Application {
				continue
			}
			entitlement, failure := g.entitlement.fill(s.values)
			if failure != nil && ref.Entitlement != "" {
				continue // not a member by these values, else evaluate had failed; and they do not give what is asked for
			}
			if ref.Entitlement != "" && entitlement != ref.Entitlement {
				continue
			}
			v := Verdict{Role: r.name, Bindings: r.bindings(s.values), Entitlement: entitlement, Member: member}
			if !member {
				v.Failed = r.condition[failed].text
			}
			verdicts = append(verdicts, v)
			if ref.Entitlement == "" {
				break // one grant is enough for the account
			}
		}
	})
	if len(verdicts) == 0 {
		verdicts = []Verdict{{Role: r.name, Entitlement: ref.Entitlement, Failed: r.eachSource()}}
	}
	return verdicts
}

// eachSource shows the for_each as the part of the rule that gave no fitting value.
func (r *role) eachSource() string {
	shown := make([]string, len(r.each))
	for i, e := range r.each {
		shown[i] = r.variables[i] + " in " + e.source
	}
	return strings.Join(shown, " && ")
}
