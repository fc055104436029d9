package plan

import (
	"slices"
	"time"
)

// Record is what Tenure remembers of a person in an application, beyond what the application can say.
type Record struct {
	AccountID string // the link; empty: none
	Made      Made
	Gave      []string // entitlements that Tenure gave, sorted
	Run       uint64   // of employment that the account was used for last; 0: not known

	Decision          uint64 // the decision that was settled last; 0: none was for the account that there is
	DisabledForLeaver bool
	DisabledVersion   uint64 // the person version for which it was disabled
	CutGeneration     uint64 // the generation for which sessions and credentials were cut
	UnwantedSince     time.Time
	Deleted           bool   // Tenure deleted the account
	DeletedVersion    uint64 // for this person version

	CreateTried time.Time // the last CREATE that may have had effect
	Creating    bool      // and whose account has not been seen yet
}

// Made is how an account came to be Tenure's.
type Made int

// How an account came to be Tenure's.
const (
	NotMade Made = iota
	Created
	TakenOver
)

// Result is what a connector said of a step; the numbers are those of tenure.connector.v1.Outcome.
type Result int

// The results.
const (
	NoResult Result = iota
	Changed
	Unchanged
	Failed
	Unknown
	Pending
	NotAttempted
)

// mayHaveHappened says that the step may have had, or may still get, its effect.
func (r Result) mayHaveHappened() bool {
	return r != Failed && r != NotAttempted
}

// happened says that the connector claims the step's state to hold.
func (r Result) happened() bool { return r == Changed || r == Unchanged }

// Advance returns the record after the steps of a plan, with one result each. NoResult is an intent whose outcome
// nobody heard: it may have happened. at is when the calls were made.
func (r Record) Advance(d Desired, p Plan, results []Result, at time.Time) Record {
	r.Gave = slices.Clone(r.Gave)
	cuts, cut := 0, 0
	for i, s := range p.Steps {
		result := results[i]
		switch s.Op {
		case Grant: // an unknown GRANT counts as given: what we asked for and then see is ours
			if result.mayHaveHappened() {
				r.Gave = sorted(append(r.Gave, s.Target))
			}
		case Revoke:
			// Where the grants are listed, ours are until they are seen to be gone: the word for it may be wrong.
			if listed := p.Account != nil && p.Account.GrantsComplete; result.happened() && !listed {
				r.Gave = slices.DeleteFunc(r.Gave, func(e string) bool { return e == s.Target })
			}
		case Create:
			if result.mayHaveHappened() {
				r.CreateTried, r.Creating = at, true
				r.Deleted, r.Decision = false, 0 // nothing was settled of this one
			}
		case Disable:
			if result.mayHaveHappened() {
				r = r.disabled(d, p)
			}
		case Enable:
			if result.happened() {
				r.DisabledForLeaver = false
			}
			if result.mayHaveHappened() {
				r.CutGeneration = 0 // who gets in anew has to be cut off anew, also for the same generation
			}
		case Delete:
			if p.Former {
				if result.happened() {
					r = r.unlinked()
				}
				break
			}
			if result.mayHaveHappened() {
				r.Deleted, r.DeletedVersion = true, max(r.DeletedVersion, d.PersonVersion)
			}
		case KillSessions, RevokeCredential:
			cuts++
			if result.happened() {
				cut++
			}
		case Update:
			r = r.takeOver(p, result)
		case NoOp, RotateCredential:
		}
	}
	if cuts > 0 && cuts == cut {
		r.CutGeneration = d.Generation
	}
	return r
}

// takeOver links the account whose UPDATE wrote our marker into it.
func (r Record) takeOver(p Plan, result Result) Record {
	if p.Claim != Adopted && p.Claim != Bound || !result.mayHaveHappened() {
		return r
	}
	r.Made = Created
	if p.Claim == Adopted {
		r.Made = TakenOver
	}
	if result.happened() {
		r.AccountID, r.Creating = p.Account.ID, false
	}
	return r
}

// See returns the record after a read whose plan is p.
func (r Record) See(d Desired, p Plan, now time.Time) Record {
	a := p.Account
	if slices.Contains(p.Retired, r.AccountID) {
		r = r.unlinked()
	}
	if a == nil {
		if r.Deleted && p.Problem == nil {
			r.AccountID, r.Made, r.Gave, r.UnwantedSince = "", NotMade, nil, time.Time{}
		}
		return r
	}
	if p.Former {
		return r
	}
	if p.Claim == Adopted || p.Claim == Bound {
		marks := slices.ContainsFunc(p.Steps, func(s Step) bool { return s.Op == Update })
		if marks || p.Enforce == Observe {
			return r // not ours before it is marked
		}
	}
	switch {
	case p.Claim == Adopted:
		r.Made = TakenOver
	case r.Made == NotMade: // it carries our marker, or the name that we asked for
		r.Made = Created
	}
	r.AccountID = a.ID
	r.Creating, r.Deleted, r.CreateTried = false, false, time.Time{}
	if a.GrantsComplete {
		r.Gave = slices.DeleteFunc(slices.Clone(r.Gave), func(e string) bool {
			return !slices.ContainsFunc(a.Grants, func(g Granted) bool { return g.Entitlement == e })
		})
	}
	if d.State == Enabled {
		r.Run = max(r.Run, d.Run)
	}
	switch {
	case d.State != None || a.Status != StatusDisabled:
		r.UnwantedSince = time.Time{}
	default: // perhaps disabled before they left, for a leave of absence
		if p.Enforce >= Own {
			r = r.disabled(d, p)
		}
		if r.UnwantedSince.IsZero() {
			r.UnwantedSince = now
		}
	}
	return r
}

// disabled notes for whom the account is disabled.
func (r Record) disabled(d Desired, p Plan) Record {
	if p.Former { // for whom it was, not for who is back
		r.DisabledForLeaver = true
		return r
	}
	r.DisabledForLeaver = d.State == None && !d.Stays
	r.DisabledVersion = max(r.DisabledVersion, d.PersonVersion)
	return r
}

// unlinked forgets the account: it is gone, or is not the person's to use any more.
func (r Record) unlinked() Record {
	r.AccountID, r.Made, r.Gave, r.Run, r.UnwantedSince, r.DisabledForLeaver = "", NotMade, nil, 0, time.Time{}, false
	return r
}
