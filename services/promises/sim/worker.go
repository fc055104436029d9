package sim

import (
	"slices"
	"time"

	"github.com/tenurehq/tenure/services/provision/plan"
)

// worker mirrors services/provision/internal/worker: one process, working on one target at a time.
type worker struct {
	*application
	i     int
	life  int // the holder's name: a process that died has another one
	stage workerStage

	from  *consumer
	batch []message

	person  int
	t       target // as claimed, and as it will be written
	wasDue  time.Time
	left    bool // an earlier holder did not give it back
	claimed time.Time
	leased  time.Time
	cut     plan.Cut
	known   bool // policy answered, and knows of the person
	blind   bool // it did not, about somebody who is cut
	d       plan.Desired
	plan    plan.Plan
	seen    bool // the last read succeeded
	ops     []*operation
	last    *operation
	round   int
	wired   *call
}

// operation mirrors worker.operation.
type operation struct {
	entry   *entry
	plan    plan.Plan
	results []plan.Result // nil: nobody heard
	made    string        // id of an account
}

type workerStage uint8

const (
	workerIdle    workerStage = iota
	workerMarks               // has messages
	workerAcks                // has marked targets
	workerAsks                // has a target
	workerReads               // knows what is desired
	workerCalls               // has committed an intent
	workerWaits               // for the reply
	workerIntends             // of a bug: called first
)

func (k *worker) step(how int) bool {
	switch k.stage {
	case workerIdle:
		if how&1 == 0 && how != gently {
			return k.claim(how) || k.fetch(how)
		}
		return k.fetch(how) || k.claim(how)
	case workerMarks:
		k.marks()
	case workerAcks:
		k.from.ack(k.batch)
		k.stage, k.batch = workerIdle, nil
	case workerAsks:
		k.ask()
	case workerReads:
		k.reads()
	case workerCalls:
		k.call()
	case workerWaits:
		return k.wait()
	case workerIntends:
		k.last.entry.committed = true
		k.stage = workerWaits
	}
	return true
}

func (k *worker) fetch(how int) bool {
	if k.woken {
		k.woken = false
		k.compare()
		return true
	}
	from := k.urgent
	if how != gently && how&0x20 != 0 {
		from = k.normal
	}
	batch := from.fetch(how)
	if len(batch) == 0 && how == gently {
		from = k.normal
		batch = from.fetch(how)
	}
	if len(batch) == 0 {
		return false
	}
	k.from, k.batch, k.stage = from, batch, workerMarks
	return true
}

// marks mirrors worker.onUrgent and onAccess.
func (k *worker) marks() {
	for _, m := range k.batch {
		if m.event.kind == cutting {
			k.noteCut(m.event.person)
		} else {
			k.mark(m.event.person, m.event.version, m.event.urgent)
		}
	}
	k.stage = workerAcks
}

// claim mirrors store.Claim, of a single target: who is cut first, then the urgent lane.
func (k *worker) claim(how int) bool {
	best := -1
	rank := func(p int) int {
		switch t := k.targets[p]; {
		case k.cuts[p].Stands:
			return 2
		case t.urgent:
			return 1
		}
		return 0
	}
	for n := range k.w.people {
		p := (n + how/8) % len(k.w.people)
		t := k.targets[p]
		if t == nil || t.due.IsZero() || t.due.After(k.w.now) {
			continue
		}
		if t.until.After(k.w.now) && k.w.bug != NoLease {
			continue
		}
		if best < 0 || rank(p) > rank(best) {
			best = p
		}
	}
	if best < 0 {
		return false
	}
	t := k.targets[best]
	left := t.holder != 0
	t.holder, t.until = k.life, k.w.now.Add(k.leaseTime())
	t.epoch++
	*k = worker{
		application: k.application, i: k.i, life: k.life, stage: workerAsks, person: best, t: *t, wasDue: t.due, left: left,
		claimed: k.w.now, leased: t.until, cut: k.cuts[best],
	}
	k.tell("claims p%d at generation %d", best, t.generation)
	return true
}

func (k *worker) leaseTime() time.Duration {
	if k.w.bug == LeaseShort {
		return 5 * time.Second
	}
	return lease
}

func (k *worker) tell(format string, args ...any) {
	if k.w.telling {
		k.w.tell("worker %d of %s "+format, append([]any{k.i, k.name}, args...)...)
	}
}

// ask mirrors what Worker.work does before its rounds.
func (k *worker) ask() {
	if k.w.now.Sub(k.claimed) > freshFor {
		k.cut = k.cuts[k.person] // mirrors worker.desiredAgain
	}
	k.d, k.known = plan.Desired{}, false
	if waits := !k.cut.Stands || k.t.generation > k.t.settled; waits && !k.w.policy.stopped { // mirrors waitsForPolicy
		k.d, k.known = k.w.policy.get(k.person, k.name)
	}
	if k.w.bug == ActsOnMessage && !k.cut.Stands {
		k.messageSays()
	}
	switch {
	case k.cut.Stands && k.w.bug != CutIgnored:
		k.underCut()
	case !k.known && k.w.policy.stopped:
		k.giveBack(pauseMax)
		return
	}
	if k.left && k.w.bug != LeaseShort {
		k.takeUp()
	}
	if !k.known && (!k.cut.Stands || k.w.bug == CutIgnored) || !k.cut.Stands && k.d.Generation < k.t.generation && k.w.bug != ActsOnMessage {
		k.end()
		return
	}
	k.t.generation = max(k.t.generation, k.d.Generation)
	if k.cut.Rule(k.d.PersonVersion) == plan.Waits && k.w.bug != CutForgotten {
		k.end()
		return
	}
	k.tell("is to do generation %d, decision %d of version %d: %s, cut %v", k.d.Generation, k.d.Decision, k.d.PersonVersion, stateNames[k.d.State-1], k.cut.Stands)
	k.stage, k.round, k.last = workerReads, 0, nil
}

// messageSays is the bug of a worker that carries out what it heard of when it heard of it.
func (k *worker) messageSays() {
	if d, ok := k.w.policy.said[said{k.person, k.name, k.t.generation}]; ok {
		k.d = d
	}
}

// underCut mirrors worker.underCut.
func (k *worker) underCut() {
	if !k.known || k.d.Generation < k.t.generation {
		k.blind = k.t.generation > k.t.settled
		k.d = plan.Desired{
			Person: personName(k.person), Generation: k.t.generation, Decision: k.t.record.Decision, PersonVersion: k.t.version, Run: 1,
		}
	}
	version := k.d.PersonVersion
	k.d = k.cut.Under(k.d)
	if k.w.bug == LiftForgotten {
		k.d.PersonVersion = max(version, k.d.PersonVersion)
	}
}

// takeUp mirrors task.takeUp: what an earlier holder intended may have happened.
func (k *worker) takeUp() {
	for _, e := range k.journal {
		if e.person != k.person || e.outcome {
			continue
		}
		op := &operation{entry: e, plan: plan.Plan{Steps: e.steps}}
		k.ops = append(k.ops, op)
		k.heard(op)
	}
}

// reads mirrors one round of task.rounds: read, plan, and act, rest or end.
func (k *worker) reads() {
	settings := plan.Settings{Enforce: plan.Full, CreateGrace: grace}
	if k.w.setup.Own {
		settings.Enforce = plan.Own
	}
	in := plan.Input{Desired: k.d, Found: k.find(k), Record: k.t.record, Can: capabilities, Settings: settings, Now: k.w.now}
	k.plan = k.w.cores.plan(in)
	k.seen = true
	k.permitted(in)
	gave := k.t.record.Gave
	k.t.record = k.t.record.See(k.d, k.plan, k.w.now)
	if k.quiet() && k.w.bug != LateIsForeign {
		k.t.record.Gave = gave
	}
	steps := k.allowed()
	cause := k.last != nil && k.last.failed()
	switch {
	case len(steps) == 0 && cause && k.plan.Problem == nil && len(k.plan.Steps) > 0:
		k.end()
	case len(steps) == 0:
		k.rest()
	case cause:
		k.end()
	case k.last != nil && !cause && sameSteps(k.last.entry.steps, steps), k.round >= rounds:
		k.end()
	default:
		k.act(steps)
	}
}

// permitted looks at the promise of releases: the same plan without one takes nothing away. And nothing is there that Tenure
// did not give, so nothing may be taken for that.
func (k *worker) permitted(in plan.Input) {
	foreign := slices.ContainsFunc(k.plan.Notes, func(n plan.Note) bool { return n.Why == plan.Foreign })
	if k.holds() && (foreign || len(k.plan.Unordered) > 0 && in.Desired.Release != "") {
		k.w.violated("own_taken_for_foreign", "what p%d was given in %s counts as given by others", k.person, k.name)
	}
	in.Desired.Release = ""
	if in.Desired.State == plan.Enabled && len(k.plan.Steps) == 0 {
		return
	}
	for _, s := range k.w.cores.plan(in).Steps {
		if s.Op.Destructive() {
			k.w.violated("removal_without_release", "%s of p%d in %s", s.Op, k.person, k.name)
		}
	}
}

// holds says that the target is still this worker's.
func (k *worker) holds() bool {
	t := k.targets[k.person]
	return t.epoch == k.t.epoch && t.holder == k.life
}

// allowed mirrors task.allowed.
func (k *worker) allowed() []plan.Step {
	if !k.quiet() {
		return k.plan.Steps
	}
	return slices.DeleteFunc(slices.Clone(k.plan.Steps), func(s plan.Step) bool { return !s.Op.Destructive() })
}

func (k *worker) quiet() bool { return k.w.now.Before(k.t.quiet) && k.w.bug != NoQuiet }

// doubt mirrors task.doubt.
func (k *worker) doubt() time.Time {
	switch {
	case k.w.bug == NoQuiet:
		return time.Time{}
	case k.plan.Leaving, k.w.bug == LateRemovalForgotten:
		return k.t.quiet
	}
	return later(k.t.quiet, k.t.taking)
}

func sameSteps(a, b []plan.Step) bool {
	return slices.EqualFunc(a, b, func(x, y plan.Step) bool { return x.Op == y.Op && x.Target == y.Target })
}

// act mirrors task.act: the lease must outlast the call, and the intent is committed only while nothing newer was heard of.
func (k *worker) act(steps []plan.Step) {
	t := k.targets[k.person]
	notAfter := k.w.now.Add(request)
	ours := k.holds() && t.generation <= k.t.generation && k.cuts[k.person].Version <= k.cut.Version
	if k.w.bug == FenceMissing {
		ours = true
	}
	if notAfter.After(k.leased.Add(-skew)) && k.w.bug != LeaseShort { // mirrors store.Renew
		if !ours || !t.until.After(k.w.now) && k.w.bug != FenceMissing {
			k.abandon()
			return
		}
		t.until = k.w.now.Add(lease)
		k.leased = t.until
	}
	if !ours { // mirrors store.Intend
		k.abandon()
		return
	}
	for _, s := range steps {
		if !s.Op.Destructive() && k.d.PersonVersion < k.cuts[k.person].Version {
			k.w.violated("older_word_after_cut", "%s of p%d in %s by version %d", s.Op, k.person, k.name, k.d.PersonVersion)
		}
	}
	e := &entry{id: k.w.id(), person: k.person, desired: k.d, epoch: k.t.epoch, notAfter: notAfter, at: k.w.now, steps: steps, committed: true}
	op := &operation{entry: e, plan: k.plan}
	op.plan.Steps = steps
	k.ops, k.last = append(k.ops, op), op
	k.round++
	k.journal = append(k.journal, e)
	k.log.add(event{kind: intent, person: k.person, app: k.n, version: k.d.Generation})
	k.stage = workerCalls
	k.tell("intends for p%d, generation %d: %v", k.person, k.d.Generation, names(steps))
	if k.w.bug == CallFirst {
		e.committed = false
		k.call()
		k.stage = workerIntends
	}
}

func names(steps []plan.Step) []string {
	all := make([]string, len(steps))
	for i, s := range steps {
		if all[i] = s.Op.String(); s.Target != "" {
			all[i] += " " + s.Target
		}
	}
	return all
}

func (k *worker) call() {
	c := &call{entry: k.last.entry, life: k.life, marker: k.plan.Marker}
	if k.plan.Account != nil {
		c.account = k.plan.Account.ID
	}
	k.wired = c
	k.wire = append(k.wire, c)
	k.stage = workerWaits
}

// wait is for the reply, as long as the request may take; what nobody heard of is unknown.
func (k *worker) wait() bool {
	c := k.wired
	switch {
	case c.deaf || !k.w.now.Before(c.entry.notAfter):
		k.last.results = make([]plan.Result, len(c.entry.steps))
		for i := range k.last.results {
			k.last.results[i] = plan.Unknown
		}
		k.tell("does not hear what became of operation %d", c.entry.id)
	case c.next == len(c.entry.steps):
		k.last.results, k.last.made = c.results, c.made
		k.drop(c)
	default:
		return false
	}
	if c.next == len(c.entry.steps) {
		k.drop(c)
	}
	k.wired = nil
	k.heard(k.last)
	k.stage = workerReads
	switch {
	case k.w.bug == NoReadBack && !k.last.failed():
		k.settle()
	case k.w.bug == BlindRetry && k.last.failed() && k.round < rounds:
		k.act(k.last.entry.steps)
	}
	return true
}

// heard mirrors task.heard.
func (k *worker) heard(op *operation) {
	results := make([]plan.Result, len(op.entry.steps))
	copy(results, op.results)
	for i, s := range op.entry.steps {
		r := results[i]
		if r == plan.Unknown || r == plan.NoResult {
			until := op.entry.notAfter.Add(skew)
			if s.Op.Destructive() {
				k.t.taking = later(k.t.taking, until)
			} else {
				k.t.quiet = later(k.t.quiet, until)
			}
		}
		if s.Op == plan.Create && (r == plan.Changed || r == plan.Unchanged) {
			k.t.record.AccountID = op.made
		}
	}
	d := op.entry.desired
	d.Stays = k.d.Stays && k.d.PersonVersion == d.PersonVersion
	settled := k.t.record.Decision
	k.t.record = k.t.record.Advance(d, op.plan, results, op.entry.at)
	if k.w.bug == NewIsSettled {
		k.t.record.Decision = settled
	}
	for i, s := range op.entry.steps {
		if k.w.bug == RevokedOnWord && s.Op == plan.Revoke && results[i] == plan.Changed {
			k.t.record.Gave = slices.DeleteFunc(slices.Clone(k.t.record.Gave), func(e string) bool { return e == s.Target })
		}
	}
	if k.w.bug == UnknownIsNothing {
		k.t.record.CreateTried, k.t.record.Creating, k.t.quiet = time.Time{}, false, time.Time{}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (op *operation) failed() bool {
	return slices.ContainsFunc(op.results, func(r plan.Result) bool { return r == plan.Failed || r == plan.Unknown })
}
