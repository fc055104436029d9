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

// Decide works out what a person should have. Standing is what was decided last, by application.
func Decide(rules Rules, person *model.Person, standing map[string]Access) Decision {
	decision := Decision{Access: map[string]Access{}}
	state := stateOf(person)
	if state == None {
		return decision // whatever the rules say, and whether or not they err
	}
	grants, errs := rules.Model.Evaluate(person)
	decision.Errors = errs
	reasons := map[string][]Reason{}
	for _, g := range grants {
		reasons[g.Application] = append(reasons[g.Application], Reason{
			Entitlement: g.Entitlement, Role: g.Role, Bindings: g.Bindings,
		})
	}
	if len(errs) > 0 {
		keepStanding(rules.Model, errs, standing, reasons)
	}
	for _, app := range rules.Accounts.Applications() {
		if len(reasons[app]) == 0 {
			continue
		}
		account, errs := accountOf(rules.Accounts, app, person, standing[app])
		decision.Errors = append(decision.Errors, errs...)
		if len(errs) > 0 && standing[app].State == None {
			continue // an account made without one of its attributes could be somebody else's
		}
		decision.Access[app] = access(state, reasons[app], account)
	}
	return decision
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
func keepStanding(m *model.Model, errs []model.RuleError, standing map[string]Access, reasons map[string][]Reason) {
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
			reasons[app] = append(reasons[app], r)
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
		if c := strings.Compare(a.Entitlement, b.Entitlement); c != 0 {
			return c
		}
		if c := strings.Compare(a.Role, b.Role); c != 0 {
			return c
		}
		return slices.Compare(a.Bindings, b.Bindings)
	})
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
