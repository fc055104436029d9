package plan

import "slices"

// Verdict is what a read says of a step.
type Verdict int

// The verdicts.
const (
	CannotTell Verdict = iota
	Done
	NotDone
)

// Seen judges a step by an account as read after it, nil when there is none. It is how an unknown outcome is resolved,
// and how a connector's word is checked.
func Seen(s Step, a *Account, can Capabilities) Verdict {
	if a == nil {
		return seenWithout(s.Op)
	}
	switch s.Op {
	case Create:
		return Done
	case Update:
		for name, want := range s.Attributes {
			attr := can.Attributes[name]
			have, known := a.Attributes[name]
			if attr.Sensitive && !known {
				continue
			}
			if have != want && (!attr.FoldCase || !equalFold(have, want)) {
				return NotDone
			}
		}
		return Done
	case Enable:
		return status(a.Status, StatusEnabled)
	case Disable:
		return status(a.Status, StatusDisabled)
	case Delete:
		return NotDone
	case Grant, Revoke:
		has := slices.ContainsFunc(a.Grants, func(g Granted) bool { return g.Entitlement == s.Target })
		if !has && !a.GrantsComplete {
			return CannotTell
		}
		return when(has == (s.Op == Grant))
	case KillSessions:
		if a.LiveSessions < 0 {
			return CannotTell
		}
		return when(a.LiveSessions == 0)
	case RevokeCredential:
		has := slices.ContainsFunc(a.Credentials, func(c Credential) bool { return s.Target == c.Kind || s.Target == c.ID })
		if !has && !a.CredentialsComplete {
			return CannotTell
		}
		return when(!has)
	case NoOp, RotateCredential:
	}
	return CannotTell
}

// seenWithout judges a step by the absence of any account: nothing was given, and nothing is left to take.
func seenWithout(op Op) Verdict {
	return when(op.Destructive())
}

func status(have, want Status) Verdict {
	if have == StatusUnknown {
		return CannotTell
	}
	return when(have == want)
}

func when(done bool) Verdict {
	if done {
		return Done
	}
	return NotDone
}
