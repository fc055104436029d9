package sim

import (
	"slices"
	"strconv"
	"time"

	"github.com/tenurehq/tenure/services/ingest/timeline"
	"github.com/tenurehq/tenure/services/policy/brake"
	"github.com/tenurehq/tenure/services/policy/decide"
	"github.com/tenurehq/tenure/services/policy/model"
	"github.com/tenurehq/tenure/services/provision/plan"
)

const replicas = 2

// decided mirrors a row of decisions.
type decided struct {
	n        uint64
	version  uint64
	ended    bool // the person has left, or is cut
	held     bool // by the brake
	approved bool // by two people, exactly this
}

// desired mirrors a row of desired.
type desired struct {
	generation uint64
	urgent     bool
	release    string
	access     decide.Access
}

// loss is one person's, for the windows of the brake and for the invariant.
type loss struct {
	person int
	at     time.Time
	apps   []string
}

// policy mirrors services/policy: two replicas over one database.
type policy struct {
	w        *world
	log      *outbox
	decided  []decided
	desired  []map[string]desired // by person and application
	spent    []loss               // released without corroboration
	urgent   *consumer
	normal   *consumer
	replicas [replicas]*replica
	woken    bool // a new stream
	stopped  bool

	losses []loss                // for the invariant: of everybody who lost access and should have been counted
	said   map[said]plan.Desired // of a bug: what each message meant when it was sent
	cursor time.Time             // of a bug
}

// said names a generation.
type said struct {
	person     int
	app        string
	generation uint64
}

// replica is one process of policy.
type replica struct {
	*policy
	n      int
	stage  policyStage
	from   *consumer
	batch  []message
	due    []int
	before map[int]decided
	people map[int]snapshot
	spentD []loss // of a bug: as read before the transaction
}

type policyStage uint8

const (
	policyIdle policyStage = iota
	policyReads
	policyAsks
	policySaves
	policyAcks
)

// snapshot is a person as ingest answers.
type snapshot struct {
	version uint64
	state   timeline.State
	cut     bool
}

func newPolicy(w *world) *policy {
	p := &policy{w: w, log: w.outboxes[ofPolicy], decided: make([]decided, w.setup.People), said: map[said]plan.Desired{}}
	for range w.setup.People {
		p.desired = append(p.desired, map[string]desired{})
	}
	lane := func(name string, urgent bool) *consumer {
		return w.stream.consumer(name, func(m message) bool {
			return (m.event.kind == lifecycle || m.event.kind == cutting) && m.event.urgent == urgent
		})
	}
	p.urgent, p.normal = lane("policy-urgent", true), lane("policy-normal", false)
	for i := range p.replicas {
		p.replicas[i] = &replica{policy: p, n: i + 1}
	}
	return p
}

// step is the next of a replica: fetch, read what was decided, ask ingest, decide and save, acknowledge.
func (r *replica) step(how int) bool {
	if r.stopped {
		return false
	}
	switch r.stage {
	case policyIdle:
		return r.fetch(how)
	case policyReads:
		if r.w.bug == AckEarly && r.from != nil {
			r.from.ack(r.batch)
		}
		r.before = map[int]decided{}
		for _, p := range r.due {
			r.before[p] = r.decided[p]
		}
		r.spentD = r.spent
		r.stage = policyAsks
	case policyAsks:
		r.people = map[int]snapshot{}
		for _, p := range r.due {
			at := r.w.people[p]
			r.people[p] = snapshot{at.version, at.state, at.cutStands}
		}
		r.w.tell("policy %d asks ingest about %v", r.n, r.due)
		r.stage = policySaves
	case policySaves:
		r.save()
	case policyAcks:
		if r.from != nil {
			r.from.ack(r.batch)
		}
		r.stage, r.batch, r.from = policyIdle, nil, nil
	}
	return true
}

func (r *replica) fetch(how int) bool {
	if r.woken {
		r.woken = false
		r.compare()
		return true
	}
	from := r.urgent
	if how != gently && how&0x40 != 0 {
		from = r.normal
	}
	batch := from.fetch(how)
	if len(batch) == 0 && how == gently {
		from = r.normal
		batch = from.fetch(how)
	}
	if len(batch) == 0 {
		return false
	}
	r.from, r.batch, r.due, r.stage = from, batch, nil, policyReads
	for _, m := range batch {
		if !slices.Contains(r.due, m.event.person) {
			r.due = append(r.due, m.event.person)
		}
	}
	return true
}

// compare mirrors policy.compare: whoever ingest has a newer version of is due, with the first replica that is free.
func (p *policy) compare() bool {
	if p.stopped || !p.w.mends() {
		return false
	}
	var due []int
	for i, d := range p.decided {
		person := p.w.people[i]
		if d.version < person.version && (p.w.bug != NaiveCursor || person.state.At.After(p.cursor)) {
			due = append(due, i)
		}
	}
	p.cursor = p.w.now
	for i, r := range p.replicas {
		if r.stage == policyIdle && len(due) > 0 && p.w.stalled != 1+i {
			r.due, r.stage, r.from, r.batch = due, policyReads, nil, nil
			return true
		}
	}
	return false
}

// approve is two people who release what is held of somebody: they are decided about again.
func (p *policy) approve(person int) bool {
	d := &p.decided[person]
	if p.stopped || !d.held {
		return false
	}
	for i, r := range p.replicas {
		if r.stage == policyIdle && p.w.stalled != 1+i {
			d.approved = true
			p.w.tell("two people release what is held of p%d", person)
			r.due, r.stage, r.from, r.batch = []int{person}, policyReads, nil, nil
			return true
		}
	}
	return false
}

// weighed is a decision before it is saved.
type weighed struct {
	person int
	before decided
	from   snapshot
	access map[string]decide.Access
	loses  []string // applications
	why    brake.Corroboration
}

// save mirrors policy.decideChunk, weigh and save.
func (r *replica) save() {
	var all []weighed
	for _, p := range r.due {
		before, from := r.before[p], r.people[p]
		if from.version < before.version || from.version == 0 {
			continue
		}
		if before.n > 0 && before.version == from.version && !before.approved {
			continue // decided already; an event came twice
		}
		all = append(all, r.weigh(p, before, from))
	}
	verdicts := r.judge(all)
	var overtaken []int
	for i, d := range all {
		now := &r.decided[d.person]
		if !r.claims(now, d) {
			r.w.tell("policy %d was overtaken about p%d", r.n, d.person)
			overtaken = append(overtaken, d.person)
			continue
		}
		_, left := d.from.status()
		*now = decided{n: now.n + 1, version: d.from.version, ended: left, held: verdicts != nil && !verdicts[i].Released()}
		if now.held {
			r.w.tell("policy %d holds what p%d would lose by version %d", r.n, d.person, d.from.version)
			continue
		}
		r.write(d)
	}
	if r.due = overtaken; len(overtaken) > 0 {
		r.stage = policyReads
		return
	}
	r.stage = policyAcks
}

// claims mirrors store.Claim, the compare-and-set.
func (r *replica) claims(now *decided, d weighed) bool {
	switch r.w.bug {
	case NoCAS:
		return true
	case VersionLess:
		return now.n == d.before.n && (now.version < d.from.version || now.n == 0)
	default:
	}
	return now.n == d.before.n && now.version <= d.from.version
}

// status is what policy sees, and whether the person has left.
func (s snapshot) status() (status string, left bool) {
	status = s.state.Status.String()
	return status, s.cut || s.state.Status == timeline.Terminated
}

// wanted mirrors policy.decideFor.
func (w *world) wanted(p int, s snapshot, standing map[string]decide.Access) map[string]decide.Access {
	if s.cut {
		return nil
	}
	status, _ := s.status()
	return w.cores.decide(rules, &model.Person{
		Status: status, Department: s.state.Record.Department, UserName: personName(p),
	}, standing).Access
}

func (r *replica) weigh(p int, before decided, from snapshot) weighed {
	standing := map[string]decide.Access{}
	for app, d := range r.desired[p] {
		standing[app] = d.access
	}
	d := weighed{person: p, before: before, from: from, access: r.w.wanted(p, from, standing)}
	d.loses = losesIn(standing, d.access)
	switch {
	case from.cut:
		d.why = brake.Ordered
	case before.approved && before.version == from.version:
		d.why = brake.Approved
	}
	return d
}

// losesIn lists the applications in which the second takes something of the first away.
func losesIn(before, after map[string]decide.Access) []string {
	_, loses := decide.Diff(before, after)
	var apps []string
	for _, l := range loses {
		if len(apps) == 0 || apps[len(apps)-1] != l.Application {
			apps = append(apps, l.Application)
		}
	}
	return apps
}

const window = time.Hour

// judge asks the brake about a batch, in the transaction that saves it; nil: there is no brake.
func (r *replica) judge(all []weighed) []brake.Verdict {
	if r.w.setup.Limit == 0 {
		return nil
	}
	losses := r.spent
	if r.w.bug == BrakeOutside {
		losses = r.spentD
	}
	in := map[int]bool{}
	for _, l := range losses {
		if r.w.now.Sub(l.at) < window {
			in[l.person] = true
		}
	}
	changes := make([]brake.Change, len(all))
	for i, d := range all {
		changes[i] = brake.Change{Person: strconv.Itoa(d.person), Loses: len(d.loses) > 0, Apps: d.loses, Corroboration: d.why}
		if len(d.loses) == 0 || in[d.person] { // nothing is lost, or it is in the count already
			changes[i].Corroboration = brake.Ordered
		}
	}
	return r.w.cores.judge(oneAnHour, brake.Population{People: len(r.w.people)}, brake.Spent{Hour: len(in), Day: len(in)}, changes)
}

var oneAnHour = func() brake.Limits {
	limit := func(text string) brake.Limit {
		l, err := brake.ParseLimit(text)
		if err != nil {
			panic(err) // the texts below
		}
		return l
	}
	return brake.Limits{PerHour: limit("1"), PerDay: limit("1000"), PerAppDay: limit("1000")}
}()

// write stores and announces what changes.
func (r *replica) write(d weighed) {
	if len(d.loses) > 0 && d.why == brake.Uncorroborated {
		r.spent = append(r.spent, loss{d.person, r.w.now, d.loses})
	}
	before := map[string]decide.Access{}
	for _, name := range applications[:r.w.setup.Apps] {
		old := r.desired[d.person][name]
		before[name] = old.access
		wanted := d.access[name]
		if wanted.Equal(old.access) {
			continue
		}
		_, urgent := d.from.status()
		release := old.release // mirrors decision.release: what was ordered before may not be done yet
		if slices.Contains(d.loses, name) {
			release = "r" + strconv.Itoa(r.w.id())
		}
		r.desired[d.person][name] = desired{generation: old.generation + 1, urgent: urgent, access: wanted, release: release}
		r.w.tell("policy %d decides of p%d from version %d: in %s %s %v, generation %d", r.n, d.person, d.from.version, name,
			stateNames[wanted.State], wanted.Entitlements, old.generation+1)
		if r.w.bug == ActsOnMessage {
			r.said[said{d.person, name, old.generation + 1}], _ = r.get(d.person, name)
		}
		r.log.add(event{kind: access, urgent: urgent, person: d.person, app: appNumber(name), version: old.generation + 1})
	}
	r.lost(d, before)
}

var stateNames = [...]string{"nothing", "a disabled account", "an account"}

func appNumber(name string) int {
	for i, a := range applications {
		if a == name {
			return i
		}
	}
	return -1
}

// lost looks at the promise of the brake: it counts by itself what was taken from whom.
func (r *replica) lost(d weighed, before map[string]decide.Access) {
	if r.w.setup.Limit == 0 || d.from.cut || d.before.approved {
		return
	}
	after := map[string]decide.Access{}
	for name := range before {
		after[name] = r.desired[d.person][name].access
	}
	if _, loses := decide.Diff(before, after); len(loses) == 0 {
		return
	}
	r.losses = append(r.losses, loss{person: d.person, at: r.w.now})
	in := map[int]bool{}
	for _, l := range r.losses {
		if r.w.now.Sub(l.at) < window {
			in[l.person] = true
		}
	}
	if len(in) > r.w.setup.Limit {
		r.w.violated("released_over_limit", "%d people lost access within an hour, and %d may", len(in), r.w.setup.Limit)
	}
}

// get mirrors AccessService.GetDesired.
func (p *policy) get(person int, app string) (plan.Desired, bool) {
	d, ok := p.desired[person][app]
	if !ok {
		return plan.Desired{}, false
	}
	last := p.decided[person]
	return plan.Desired{
		Person: personName(person), Generation: d.generation, Decision: last.n, PersonVersion: last.version,
		State: plan.State(d.access.State) + 1, Entitlements: d.access.Entitlements, Attributes: d.access.Account,
		Release: d.release, Run: 1, Stays: !last.ended,
	}, true
}

func (r *replica) kill() {
	if r.stage != policyIdle {
		r.w.tell("policy %d dies", r.n)
	}
	*r = replica{policy: r.policy, n: r.n}
}
