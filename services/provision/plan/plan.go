// Package plan works out what has to be done in one application so that one person has there what they should have.
//
// It is pure: what it returns follows from its input alone. It promises an order that is safe (a leaver is disabled
// before anything else), that nothing is taken away without a release for it, that nothing is inferred from what an
// application does not say, and that whatever is needed and not planned is said in a note. It refuses to choose: an
// account that is not surely the person's is a problem for a human, not a guess.
package plan

import (
	"slices"
	"time"
)

// Step is one ensure-operation.
type Step struct {
	Op         Op
	Target     string            // GRANT, REVOKE: entitlement; REVOKE_CREDENTIAL: kind
	Attributes map[string]string // CREATE, UPDATE
}

// Plan is what is to be done, and what is not and why.
type Plan struct {
	Steps     []Step
	Notes     []Note
	Problem   *Problem // set: a person has to help; the steps, if any, are still right
	Unordered []Step   // that take something away, were needed, and have no permission
	Account   *Account // the one that the steps are about; nil: there is none
	Claim     Claim    // why that account is the person's
	Marker    string   // what that account carries or will carry
	Former    bool     // that account is of an earlier run of employment, and has to make way
	Retired   []string // ids of such accounts that are out of the way
	Enforce   Enforce  // the level it was made for
	Leaving   bool     // goes on past errors: what is taken away does not wait for anything
	// Wait is set when the application may not show yet what was done: nothing that gives may be done, and nothing
	// may be believed to be gone, before then.
	Wait time.Time
	// Again is when there will be something to do although nothing changes (a deletion that falls due, an account that may show itself); zero: never.
	Again time.Time
}

// Holds says that the application shows the desired access: nothing is left to do and nothing that matters is withheld.
func (p Plan) Holds() bool {
	return len(p.Steps) == 0 && p.Problem == nil && p.Wait.IsZero() &&
		!slices.ContainsFunc(p.Notes, func(n Note) bool { return n.Blocks })
}

// Removal says that access which should be gone is not, or may not be, as far as this plan can see.
func (p Plan) Removal() bool {
	takes := func(op Op) bool { return op.Destructive() && op != Delete }
	if p.Leaving && p.Problem != nil && p.Account == nil {
		return true // an account fits, and we may not touch it
	}
	return slices.ContainsFunc(p.Steps, func(s Step) bool { return takes(s.Op) }) ||
		slices.ContainsFunc(p.Notes, func(n Note) bool { return n.Blocks && takes(n.Op) })
}

// CutOff says that a person who should not get in cannot, as far as the application shows: nothing of theirs is there, or
// it is disabled and no session or credential that is known of, or that might be ended, is left. Entitlements may be.
func (p Plan) CutOff() bool {
	lets := func(op Op) bool { return op == Disable || op == KillSessions || op == RevokeCredential }
	switch {
	case !p.Leaving, !p.Wait.IsZero():
		return false
	case p.Account == nil:
		return p.Problem == nil
	}
	return p.Account.Status == StatusDisabled &&
		!slices.ContainsFunc(p.Steps, func(s Step) bool { return lets(s.Op) }) &&
		!slices.ContainsFunc(p.Notes, func(n Note) bool { return n.Blocks && lets(n.Op) })
}

// Shows says what an account, nil for none, amounts to.
func Shows(a *Account) State {
	switch {
	case a == nil:
		return None
	case a.Status == StatusEnabled:
		return Enabled
	case a.Status == StatusDisabled:
		return Disabled
	default:
		return StateUnknown
	}
}

// Make returns the plan. Steps stand in the order in which they must be carried out.
func Make(in Input) Plan {
	former := formers(in)
	in.Found = in.Found.without(former)
	p := planner{in: in}
	p.Leaving, p.Enforce = in.Desired.State != Enabled, in.Settings.Enforce
	account, claim, problem := find(in)
	for i := range former {
		p.former = true
		makesWay := account == nil && !p.retire(&former[i])
		p.former = false
		if makesWay {
			p.Account, p.Claim, p.Former, p.Marker = &former[i], Marked, true, former[i].Marker
			return p.Plan
		}
		p.Retired = append(p.Retired, former[i].ID)
	}
	p.Account, p.Claim, p.Marker = account, claim, in.marker(account)
	if problem != nil {
		p.stuck(NoOp, "", *problem)
		return p.Plan
	}
	if account == nil {
		p.Wait = p.invisibleUntil()
		p.Again = p.mayShowItself()
		if len(in.Found.Correlated)+len(in.Found.Named) > 0 {
			p.note(Note{Why: NotOurs})
		}
	}
	switch in.Desired.State {
	case Enabled:
		p.give(account)
	case Disabled:
		p.suspend(account)
	case None:
		p.remove(account)
	case StateUnknown:
		p.stuck(NoOp, "", Problem{Code: "INVALID", Reason: ReasonNoState})
	}
	return p.Plan
}

type planner struct {
	Plan
	in     Input
	former bool // what is planned is for an account of an earlier run of employment
}

// invisibleUntil is the end of the time in which an account that was asked for may exist without being seen.
func (p *planner) invisibleUntil() time.Time {
	r := p.in.Record
	if r.CreateTried.IsZero() {
		return time.Time{}
	}
	if until := r.CreateTried.Add(p.in.Settings.CreateGrace); until.After(p.in.Now) {
		return until
	}
	return time.Time{}
}

// longUnseen is after which an account that was asked for and never seen is looked for no more than anything else.
const longUnseen = 12 * time.Hour

// mayShowItself is when to look again for an account that was asked for, was never seen and is wanted no more: after as long again, so
// ever more rarely. A search may be out of date for longer than anybody waits for it.
func (p *planner) mayShowItself() time.Time {
	since := p.in.Now.Sub(p.in.Record.CreateTried)
	if p.in.Desired.State == Enabled || !p.in.Record.Creating || !p.Wait.IsZero() || since > longUnseen {
		return time.Time{}
	}
	return p.in.Now.Add(since)
}

// give plans for a person who should have an account that works: joiners, movers, those who come back.
func (p *planner) give(a *Account) {
	d := p.in.Desired
	wanted := sorted(d.Entitlements)
	if a == nil {
		if !p.Wait.IsZero() {
			return
		}
		if p.in.Record.Deleted && d.PersonVersion <= p.in.Record.DeletedVersion {
			p.note(Note{Op: Create, Why: Outdated, Blocks: true})
			return
		}
		if !p.need(Step{Op: Create, Attributes: nonEmpty(d.Attributes)}, Add) {
			return
		}
		for _, e := range wanted {
			p.need(Step{Op: Grant, Target: e}, Add)
		}
		if p.supports(Enable) { // an application that creates accounts ready to use need not know how to enable one
			p.need(Step{Op: Enable}, Add)
		}
		return
	}

	if a.unseen() { // it can be given nothing before it is let in: a plan of its own, and the rest when it is seen
		p.enable(a)
		return
	}
	p.update(a)
	missing := p.missing(a, wanted)
	unwanted := p.unwanted(a, wanted)
	for _, s := range unwanted { // where an account may have only one of a group, the old one goes first
		if p.excludes(s.Target, missing) {
			p.take(s)
		}
	}
	for _, e := range missing {
		if p.excludedBy(e, unwanted) {
			p.stuck(Grant, e, Problem{Code: "PRECONDITION", Reason: ReasonExcluded})
			continue
		}
		p.need(Step{Op: Grant, Target: e}, Add)
	}
	for _, s := range unwanted {
		if !p.excludes(s.Target, missing) {
			p.take(s)
		}
	}
	p.enable(a)
	p.rename(a)
}

// unseen says that the application shows nothing of an account while it is disabled: neither its name nor anything else.
func (a *Account) unseen() bool {
	return a.Status == StatusDisabled && a.Name == "" && len(a.Attributes) == 0 && !a.GrantsComplete
}

func (p *planner) enable(a *Account) {
	switch {
	case a.Status != StatusDisabled:
	case p.mayEnable():
		p.need(Step{Op: Enable}, Add)
	default:
		p.note(Note{Op: Enable, Why: Outdated, Blocks: true})
	}
}

// mayEnable: an account that was disabled for a leaver is enabled again only for a higher person version; any other
// only for a newer decision than the one that was settled last (somebody may have disabled it by hand since).
func (p *planner) mayEnable() bool {
	r, d := p.in.Record, p.in.Desired
	if r.DisabledForLeaver {
		return d.PersonVersion > r.DisabledVersion
	}
	return d.Decision > r.Decision
}

// update plans for attributes that differ, but for the name. Attributes that are not desired are left alone.
func (p *planner) update(a *Account) {
	differ := p.differing(a)
	delete(differ, p.in.Can.Name)
	if len(differ) == 0 && p.Claim != Adopted && p.Claim != Bound {
		return
	}
	p.change(differ) // of an account that is taken over also writes the marker
}

// rename plans for the account's name, last: a name that is taken keeps nothing else from being done.
func (p *planner) rename(a *Account) {
	name := p.in.Can.Name
	if want, ok := p.differing(a)[name]; ok {
		p.change(map[string]string{name: want})
	}
}

// differing are the desired attributes that the account does not have and that can be changed.
func (p *planner) differing(a *Account) map[string]string {
	differ := map[string]string{}
	for name, want := range nonEmpty(p.in.Desired.Attributes) {
		attr := p.in.Can.Attributes[name]
		have, known := a.Attributes[name]
		switch {
		case attr.Sensitive && !known, have == want, attr.FoldCase && equalFold(have, want):
		case attr.ReadOnly:
			if n := (Note{Op: Update, Target: name, Why: Immutable}); !slices.Contains(p.Notes, n) {
				p.note(n)
			}
		default:
			differ[name] = want
		}
	}
	return differ
}

func (p *planner) change(attributes map[string]string) {
	if !p.supports(Update) { // not a reason to wait for anybody: the account works
		for _, name := range sortedKeys(attributes) {
			p.note(Note{Op: Update, Target: name, Why: Unsupported})
		}
		return
	}
	p.need(Step{Op: Update, Attributes: attributes}, Add)
}

// suspend plans for a leave of absence: nobody can use the account, its grants stay. What Tenure gave and is not desired
// any more goes, because a role may be for who is at work; what others gave waits until the person is back.
func (p *planner) suspend(a *Account) {
	if a == nil {
		return
	}
	p.disable(a)
	p.killSessions(a)
	for _, s := range p.unwanted(a, p.in.Desired.Entitlements) {
		if slices.Contains(p.in.Record.Gave, s.Target) {
			p.take(s)
		}
	}
}

// remove plans for a person who should have nothing here.
func (p *planner) remove(a *Account) {
	if a == nil {
		return
	}
	p.disable(a)
	p.killSessions(a)
	p.revokeCredentials(a)
	for _, s := range p.unwanted(a, nil) {
		p.take(s)
	}
	p.delete(a)
}

func (p *planner) disable(a *Account) {
	if a.Status != StatusDisabled { // unknown is no evidence of disabled
		p.need(Step{Op: Disable}, Own)
	}
}

func (p *planner) killSessions(a *Account) {
	switch unknown := a.LiveSessions < 0; {
	case a.LiveSessions == 0:
	case !unknown, p.supports(KillSessions) && !p.cutAlready(): // seen: somebody still works in there; or may do so
		p.need(Step{Op: KillSessions}, Own)
	case !p.supports(KillSessions) && !p.in.Can.Ops[Disable].CutsSessions:
		p.note(Note{Op: KillSessions, Why: Unseen}) // as long as the person should have nothing, whatever else was cut
	}
}

func (p *planner) revokeCredentials(a *Account) {
	var seen []string
	for _, c := range a.Credentials {
		seen = append(seen, c.Kind)
	}
	if !p.supports(RevokeCredential) {
		if len(seen) > 0 || !a.CredentialsComplete {
			p.note(Note{Op: RevokeCredential, Why: Unsupported})
		}
		return
	}
	kinds := sorted(append(slices.Clone(p.in.Can.Ops[RevokeCredential].CredentialKinds), seen...))
	for _, kind := range kinds {
		if !slices.Contains(seen, kind) && (a.CredentialsComplete || p.cutAlready()) {
			continue
		}
		p.need(Step{Op: RevokeCredential, Target: kind}, Own)
	}
}

// cutAlready says that sessions and credentials were cut for this generation, in an application that does not list them.
func (p *planner) cutAlready() bool {
	return p.in.Record.CutGeneration != 0 && p.in.Record.CutGeneration >= p.in.Desired.Generation
}

// delete plans the end of an account that was unwanted for long enough, and only once it was seen to be disabled.
func (p *planner) delete(a *Account) {
	s, r := p.in.Settings, p.in.Record
	if s.DeleteAfter <= 0 || a.Status != StatusDisabled {
		return
	}
	level := Own
	if r.Made != Created {
		level = Full // what others made is theirs unless everything is ours
	}
	if s.Enforce < level {
		return
	}
	since := r.UnwantedSince
	if since.IsZero() {
		since = p.in.Now
	}
	if due := since.Add(s.DeleteAfter); due.After(p.in.Now) {
		p.Again = due
		return
	}
	p.need(Step{Op: Delete}, level)
}

// missing are the wanted entitlements that the account is not known to have.
func (p *planner) missing(a *Account, wanted []string) []string {
	has := map[string]bool{}
	for _, g := range a.Grants {
		has[g.Entitlement] = true
	}
	if !a.GrantsComplete { // what we gave and cannot see is taken on the connector's word
		for _, e := range p.in.Record.Gave {
			has[e] = true
		}
	}
	var missing []string
	for _, e := range wanted {
		if !has[e] {
			missing = append(missing, e)
		}
	}
	return missing
}

// unwanted are the REVOKE steps for what the account has beyond wanted, sorted, whoever gave it.
func (p *planner) unwanted(a *Account, wanted []string) []Step {
	listed := map[string]bool{}
	var names []string
	for _, g := range a.Grants {
		listed[g.Entitlement] = true
		if slices.Contains(wanted, g.Entitlement) {
			continue
		}
		switch {
		case g.Inherited: // goes with the grant it comes with
		case g.Immutable:
			p.note(Note{Op: Revoke, Target: g.Entitlement, Why: Immutable})
		default:
			names = append(names, g.Entitlement)
		}
	}
	if !a.GrantsComplete { // not listed is not gone
		for _, e := range p.in.Record.Gave {
			if !listed[e] && !slices.Contains(wanted, e) {
				names = append(names, e)
			}
		}
	}
	var steps []Step
	for _, e := range sorted(names) {
		steps = append(steps, Step{Op: Revoke, Target: e})
	}
	return steps
}

// take plans a REVOKE as far as enforcement reaches.
func (p *planner) take(s Step) {
	if slices.Contains(p.in.Record.Gave, s.Target) {
		p.need(s, Own)
		return
	}
	if p.in.Settings.Enforce < Full {
		p.note(Note{Op: s.Op, Target: s.Target, Why: Foreign, Level: p.in.Settings.Enforce})
		return
	}
	p.need(s, Full)
}

// excludes says that the account may not have e together with one of the others.
func (p *planner) excludes(e string, others []string) bool {
	group := p.in.Can.ExclusionGroup[e]
	return group != "" && slices.ContainsFunc(others, func(o string) bool { return p.in.Can.ExclusionGroup[o] == group })
}

// excludedBy says that e cannot be given because something of its exclusion group stays.
func (p *planner) excludedBy(e string, unwanted []Step) bool {
	for _, s := range unwanted {
		if p.excludes(s.Target, []string{e}) && !slices.ContainsFunc(p.Steps, func(t Step) bool { return t.Op == Revoke && t.Target == s.Target }) {
			return true
		}
	}
	return false
}

func (p *planner) supports(op Op) bool {
	_, ok := p.in.Can.Ops[op]
	return ok
}

// need adds a step, or says why it is not added. It reports whether the step was added.
func (p *planner) need(s Step, level Enforce) bool {
	switch {
	case p.in.Settings.Enforce < level:
		p.note(Note{Op: s.Op, Target: s.Target, Why: Enforced, Level: p.in.Settings.Enforce, Blocks: true})
	case !p.supports(s.Op):
		p.stuck(s.Op, s.Target, Problem{Code: "UNSUPPORTED", Reason: ReasonUnsupported})
	case !p.permitted(s):
		p.Unordered = append(p.Unordered, s)
		p.stuck(s.Op, s.Target, Problem{Code: "PRECONDITION", Reason: ReasonNoRelease})
	default:
		p.Steps = append(p.Steps, s)
		return true
	}
	return false
}

// permitted says that a step takes nothing away, or that there is a release for it: the one that came with the decision
// for what decisions ordered, and else the permission.
func (p *planner) permitted(s Step) bool {
	return !s.Op.Destructive() || p.in.Desired.Release != "" && p.ordered(s) || p.in.Desired.Permission.Covers(s)
}

// ordered says that a decision took away what the step does: all of an account that nobody should be able to use, and of
// any other what Tenure gave.
func (p *planner) ordered(s Step) bool {
	return p.former || p.in.Desired.State != Enabled || s.Op == Revoke && slices.Contains(p.in.Record.Gave, s.Target)
}

// stuck records a problem with its note; the first problem is the one that is shown.
func (p *planner) stuck(op Op, target string, problem Problem) {
	p.note(Note{Op: op, Target: target, Why: whyOf[problem.Reason], Blocks: true})
	if p.in.Settings.Enforce > Observe && p.Problem == nil {
		p.Problem = &problem
	}
}

func (p *planner) note(n Note) { p.Notes = append(p.Notes, n) }
