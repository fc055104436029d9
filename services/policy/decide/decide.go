// Package decide works out what a person should have, and why: from the model, the person as known now, and what was
// decided before. It is pure: no clock, no randomness, no I/O, and it changes nothing that it is given.
//
// What was decided before matters in one case only: what cannot be worked out this time stays as it was. A rule that
// errs gives nothing new and takes nothing away; an attribute that errs keeps its former value. Everything else
// follows from the model and the person alone, so the same two always give the same access.
package decide

import (
	"maps"
	"slices"
	"strings"

	"github.com/tenurehq/tenure/services/policy/model"
)

// State is what is wanted of a person's account in an application. A greater state lets the person do more.
type State int

// The states, from least to most.
const (
	None     State = iota // nothing is wanted there
	Disabled              // an account that cannot be used, its entitlements kept: leave of absence
	Enabled
)

// Reason is why one entitlement is wanted.
type Reason struct {
	Entitlement string // empty: the account alone
	Role        string
	Bindings    []string // the values of for_each, e.g. d=d005
	Standing    bool     // the rule erred this time; kept because it was granted before
}

// compare orders reasons by entitlement, role and bindings.
func (r Reason) compare(other Reason) int {
	if c := strings.Compare(r.Entitlement, other.Entitlement); c != 0 {
		return c
	}
	if c := strings.Compare(r.Role, other.Role); c != 0 {
		return c
	}
	return slices.Compare(r.Bindings, other.Bindings)
}

// Access is what a person should have in one application. The zero Access is nothing.
type Access struct {
	State        State
	Entitlements []string          // sorted, each once; none when State is None
	Account      map[string]string // attributes; none when State is None
	Reasons      []Reason          // sorted by entitlement and role; at least one for each entitlement
}

// Equal says whether two accesses ask for the same in the application. The reasons may differ.
func (a Access) Equal(b Access) bool {
	return a.State == b.State && slices.Equal(a.Entitlements, b.Entitlements) && maps.Equal(a.Account, b.Account)
}

// Rules is what decisions are made by.
type Rules struct {
	Model    *model.Model
	Accounts *model.AccountMapping // its applications are the ones that are decided about
}

// Decision is what a person should have everywhere.
type Decision struct {
	Access map[string]Access // by application; one with nothing is left out
	Errors []model.RuleError // what could not be decided; an account's attribute has no role
}

// Decide works out what a person should have. Standing is what was decided last, by application. Person is who they are by
// the employment that counts most, whose attributes their accounts have; others are their further employments. Access is
// the union over those that are active, and where none of these gives anything over those on leave: what rests there
// stays, and is not used under another employment.
func Decide(rules Rules, person *model.Person, standing map[string]Access, others ...*model.Person) Decision {
	decision := Decision{Access: map[string]Access{}}
	wants := map[string]want{}
	decision.Errors = addWants(wants, rules.Model, person, standing)
	for _, other := range others {
		for _, e := range addWants(wants, rules.Model, other, standing) {
			if !slices.Contains(decision.Errors, e) {
				decision.Errors = append(decision.Errors, e)
			}
		}
	}
	if len(wants) == 0 {
		return decision
	}
	for _, app := range rules.Accounts.Applications() {
		w := wants[app]
		if len(w.reasons) == 0 {
			continue
		}
		account, errs := accountOf(rules.Accounts, app, person, standing[app])
		decision.Errors = append(decision.Errors, errs...)
		if len(errs) > 0 && standing[app].State == None {
			continue // an account made without one of its attributes could be somebody else's
		}
		decision.Access[app] = access(w.state, w.reasons, account)
	}
	return decision
}

// want is what employments give in one application: those of the greatest state alone.
type want struct {
	state   State
	reasons []Reason
}

// addWants adds what one employment gives, and returns what could not be decided about it.
func addWants(wants map[string]want, m *model.Model, employment *model.Person, standing map[string]Access) []model.RuleError {
	state := stateOf(employment)
	if state == None {
		return nil // whatever the rules say, and whether or not they err
	}
	grants, errs := m.Evaluate(employment)
	add := func(app string, r Reason) {
		w := wants[app]
		switch {
		case state > w.state:
			w = want{state: state, reasons: []Reason{r}}
		case state == w.state:
			w.reasons = append(w.reasons, r)
		}
		wants[app] = w
	}
	for _, g := range grants {
		add(g.Application, Reason{Entitlement: g.Entitlement, Role: g.Role, Bindings: g.Bindings})
	}
	if len(errs) > 0 {
		keepStanding(m, errs, standing, add)
	}
	return errs
}

func stateOf(person *model.Person) State {
	switch person.Status {
	case model.StatusActive:
		return Enabled
	case model.StatusOnLeave:
		return Disabled
	}
	return None
}

// keepStanding adds what the roles that erred gave before, as far as the model still lets them give it.
func keepStanding(m *model.Model, errs []model.RuleError, standing map[string]Access, add func(app string, r Reason)) {
	erred := make(map[string]bool, len(errs))
	for _, e := range errs {
		erred[e.Role] = true
	}
	for app, before := range standing {
		for _, r := range before.Reasons {
			if !erred[r.Role] || !m.CanGive(r.Role, model.Ref{Application: app, Entitlement: r.Entitlement}) {
				continue
			}
			r.Standing = true
			add(app, r)
		}
	}
}

// accountOf works out the attributes of an account. One that errs keeps its former value.
func accountOf(
	accounts *model.AccountMapping, app string, person *model.Person, before Access,
) (map[string]string, []model.RuleError) {
	account, failed := accounts.Evaluate(app, person)
	var errs []model.RuleError
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		errs = append(errs, model.RuleError{
			Code:    failed[name].Code,
			Message: "account attribute " + name + " of " + app + ": " + failed[name].Error(),
		})
		if value, ok := before.Account[name]; ok {
			account[name] = value
		}
	}
	return account, errs
}

func access(state State, reasons []Reason, account map[string]string) Access {
	slices.SortFunc(reasons, func(a, b Reason) int {
		if c := a.compare(b); c != 0 || a.Standing == b.Standing {
			return c
		}
		if b.Standing {
			return -1
		}
		return 1
	})
	// The same reason by two employments is one; that one of them could not be asked is then no matter.
	reasons = slices.CompactFunc(reasons, func(a, b Reason) bool { return a.compare(b) == 0 })
	a := Access{State: state, Reasons: reasons}
	for _, r := range reasons {
		if r.Entitlement != "" && (len(a.Entitlements) == 0 || a.Entitlements[len(a.Entitlements)-1] != r.Entitlement) {
			a.Entitlements = append(a.Entitlements, r.Entitlement)
		}
	}
	if len(account) > 0 {
		a.Account = account
	}
	return a
}
