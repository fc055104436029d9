package plan

import "fmt"

// Note is something that is needed, or might be expected, and is not planned.
type Note struct {
	Op     Op
	Target string
	Why    Why
	Level  Enforce // for Enforced and Foreign: the level in force
	Blocks bool    // the desired access does not hold because of it
}

// Why is the reason for a note.
type Why int

// The reasons.
const (
	Enforced    Why = iota + 1 // enforce does not allow it
	Foreign                    // others gave it, and enforce leaves that alone
	Unsupported                // the application cannot do it
	Unseen                     // the application neither shows live sessions nor ends them
	Unreleased                 // it takes something away, and there is no release
	Immutable                  // it cannot be changed
	Excluded                   // something of the same exclusion group stays
	Outdated                   // the account was disabled or deleted by what is newer than this decision
	NotOurs                    // an account fits that is not Tenure's
	Ambiguous                  // several accounts fit
	OtherPerson                // the account carries another person's marker
	Former                     // the account is of an earlier run of employment, and is not used again
	NoState                    // the decision says nothing that can be planned for
)

// String says it to an operator. It names entitlements and attributes, never a value of a person.
func (n Note) String() string {
	what := n.Op.String()
	if n.Target != "" {
		what += " " + n.Target
	}
	switch n.Why {
	case Enforced:
		return fmt.Sprintf("would %s: enforce is %s", what, n.Level)
	case Foreign:
		return fmt.Sprintf("leaves %s: not given by Tenure, and enforce is %s", n.Target, n.Level)
	case Unsupported:
		return fmt.Sprintf("cannot %s: the application has no such operation", what)
	case Unseen:
		return fmt.Sprintf("cannot %s: whether any are live is not known, and the application has no such operation", what)
	case Unreleased:
		return fmt.Sprintf("refuses %s: it takes something away and has no release", what)
	case Immutable:
		return fmt.Sprintf("cannot %s: the application does not let it be changed", what)
	case Excluded:
		return fmt.Sprintf("would %s: something that excludes it stays", what)
	case Outdated:
		return fmt.Sprintf("does not %s: what disabled or deleted the account is newer than this decision", what)
	case NotOurs:
		return "leaves an account that fits and is not Tenure's"
	case Ambiguous:
		return "several accounts fit: none is touched"
	case OtherPerson:
		return "the account is marked for another person: it is not touched"
	case Former:
		return "the account of an earlier employment is in the way: it is not used again"
	case NoState:
		return "the decision names no state of access"
	}
	return what
}

// Problem is why a person has to help. Code is a Problem.code of the connector contract, Reason a stable token.
type Problem struct {
	Code    string
	Reason  string
	Account string // the id of the account that is in the way, when there is one
}

// Reasons of problems that are the plan's own, not the application's.
const (
	ReasonUnsupported = "tenure.unsupported"
	ReasonNoRelease   = "tenure.release_missing"
	ReasonNotOurs     = "tenure.not_ours"
	ReasonAmbiguous   = "tenure.ambiguous"
	ReasonOtherPerson = "tenure.other_person"
	ReasonExcluded    = "tenure.excluded"
	ReasonFormer      = "tenure.former_account"
	ReasonNoState     = "tenure.no_state"
)

var whyOf = map[string]Why{
	ReasonUnsupported: Unsupported,
	ReasonNoRelease:   Unreleased,
	ReasonNotOurs:     NotOurs,
	ReasonAmbiguous:   Ambiguous,
	ReasonOtherPerson: OtherPerson,
	ReasonExcluded:    Excluded,
	ReasonFormer:      Former,
	ReasonNoState:     NoState,
}
