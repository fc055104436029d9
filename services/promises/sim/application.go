package sim

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/tenurehq/tenure/services/policy/decide"
	"github.com/tenurehq/tenure/services/provision/plan"
)

const workers = 2

// application is one application with what its workers share: the database of provision/<app>.
type application struct {
	w       *world
	n       int
	name    string
	log     *outbox
	workers [workers]*worker
	woken   bool // a new stream: compare

	// In the workers' database.
	targets map[int]*target
	cuts    map[int]plan.Cut
	journal []*entry

	urgent, normal *consumer

	// In the application itself.
	accounts []*account
	made     int
	wire     []*call
}

// account is one in the application.
type account struct {
	plan.Account
	at time.Time // when it was made
}

// call is a request on the wire, and the connector that carries it out.
type call struct {
	entry   *entry
	life    int // of the worker that waits for the reply
	account string
	marker  string
	next    int // step
	results []plan.Result
	failed  bool
	made    string // id of an account
	deaf    bool   // the reply is lost
	lies    bool
}

// target mirrors a row of targets.
type target struct {
	generation uint64
	urgent     bool
	due        time.Time // zero: not
	attempts   int
	holder     int
	epoch      int
	until      time.Time // of the lease
	settled    uint64    // generation
	version    uint64    // of the person, as settled
	quiet      time.Time
	taking     time.Time
	record     plan.Record
	stuck      bool
}

// entry mirrors a row of the journal.
type entry struct {
	id        int
	person    int
	desired   plan.Desired
	epoch     int
	notAfter  time.Time
	at        time.Time
	steps     []plan.Step
	committed bool // false only of a bug
	outcome   bool
}

// lastMoment before a request can have no more effect.
const lastMoment = 10 * time.Millisecond

var capabilities = func() plan.Capabilities {
	can := plan.Capabilities{Name: "login", Ops: map[plan.Op]plan.Support{}}
	for _, op := range []plan.Op{plan.Create, plan.Update, plan.Enable, plan.Disable, plan.Delete, plan.Grant, plan.Revoke, plan.KillSessions, plan.RevokeCredential} {
		can.Ops[op] = plan.Support{CutsSessions: op == plan.Disable}
	}
	return can
}()

func newApplication(w *world, n int) *application {
	a := &application{
		w: w, n: n, name: applications[n], log: w.outboxes[ofApps+n], targets: map[int]*target{}, cuts: map[int]plan.Cut{},
	}
	lane := func(name string, urgent bool) *consumer {
		return w.stream.consumer(name, func(m message) bool {
			return m.event.urgent == urgent && (m.event.kind == access && m.event.app == n || m.event.kind == cutting)
		})
	}
	a.urgent, a.normal = lane(a.name+"-urgent", true), lane(a.name+"-normal", false)
	for i := range a.workers {
		a.workers[i] = &worker{application: a, i: i + 1, life: w.id()}
	}
	return a
}

// some returns one of the calls that a filter lets through.
func (a *application) some(how int, which func(*call) bool) *call {
	var found []*call
	for _, c := range a.wire {
		if which(c) {
			found = append(found, c)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return found[how%len(found)]
}

// land is the next step of a request having its effect. A connector looks at not_after before each step; what passed that
// may take effect until the clocks' difference later, which is as late as an application may be.
func (a *application) land(how int) bool {
	c := a.some(how, func(c *call) bool {
		if how == gently && a.w.setup.LateEffects && (c.deaf || !a.waits(c)) && a.w.now.Before(c.entry.notAfter.Add(skew-lastMoment)) {
			return false
		}
		return c.next < len(c.entry.steps)
	})
	if c == nil {
		return false
	}
	s := c.entry.steps[c.next]
	result := plan.NotAttempted
	switch late := !a.w.now.Before(c.entry.notAfter.Add(skew)); {
	case late && a.w.bug != NotAfterIgnored:
	case c.failed && (!s.Op.Destructive() || s.Op == plan.Delete):
	case c.lies:
		result = plan.Changed
	default:
		result = a.apply(c, s)
	}
	c.failed = c.failed || result == plan.Failed
	c.results = append(c.results, result)
	c.next++
	if c.next == len(c.entry.steps) && (c.deaf || !a.waits(c)) {
		a.drop(c)
	}
	return true
}

// waits says that somebody still waits for the reply.
func (a *application) waits(c *call) bool {
	return slices.ContainsFunc(a.workers[:], func(k *worker) bool { return k.wired == c && k.life == c.life })
}

func (a *application) drop(c *call) {
	a.wire = slices.DeleteFunc(a.wire, func(d *call) bool { return d == c })
}

func (a *application) loseRequest(how int) {
	if c := a.some(how, func(c *call) bool { return c.next == 0 }); c != nil {
		a.w.tell("the request of operation %d is lost", c.entry.id)
		c.deaf = true
		a.drop(c)
	}
}

func (a *application) loseReply(how int) bool {
	c := a.some(how, func(c *call) bool { return !c.deaf })
	if c == nil {
		return false
	}
	a.w.tell("the connection of operation %d breaks", c.entry.id)
	c.deaf = true
	if c.next == len(c.entry.steps) {
		a.drop(c)
	}
	return true
}

func (a *application) lie(how int) {
	if c := a.some(how, func(c *call) bool { return c.next == 0 }); c != nil {
		a.w.tell("the application answers operation %d with yes and does nothing", c.entry.id)
		c.lies = true
	}
}

// apply is the effect of one step.
func (a *application) apply(c *call, s plan.Step) plan.Result {
	w := a.w
	if !c.entry.committed {
		w.violated("effect_without_intent", "%s of operation %d in %s", s.Op, c.entry.id, a.name)
	}
	id := c.account
	if s.Op == plan.Create && id == "" {
		return a.create(c, s)
	}
	if id == "" {
		id = c.made
	}
	i := slices.IndexFunc(a.accounts, func(x *account) bool { return x.ID == id })
	if i < 0 {
		return plan.Failed
	}
	x := a.accounts[i]
	w.tell("%s: %s %s of %s takes effect, by operation %d of generation %d", a.name, s.Op, s.Target, x.Marker, c.entry.id, c.entry.desired.Generation)
	was := slices.ContainsFunc(x.Grants, func(g plan.Granted) bool { return g.Entitlement == s.Target })
	switch s.Op {
	case plan.Enable:
		return x.become(plan.StatusEnabled)
	case plan.Disable:
		return x.become(plan.StatusDisabled)
	case plan.Grant:
		if was {
			return plan.Unchanged
		}
		x.Grants = append(slices.Clone(x.Grants), plan.Granted{Entitlement: s.Target})
	case plan.Revoke:
		if !was {
			return plan.Unchanged
		}
		x.Grants = slices.DeleteFunc(slices.Clone(x.Grants), func(g plan.Granted) bool { return g.Entitlement == s.Target })
	case plan.Update:
		if c.marker != "" {
			x.Marker = c.marker
		}
	case plan.Delete:
		a.accounts = slices.Delete(a.accounts, i, i+1)
	default:
		return plan.Unchanged
	}
	return plan.Changed
}

func (x *account) become(s plan.Status) plan.Result {
	if x.Status == s {
		return plan.Unchanged
	}
	x.Status = s
	return plan.Changed
}

func (a *application) create(c *call, s plan.Step) plan.Result {
	name := s.Attributes["login"]
	if a.w.setup.UniqueNames && slices.ContainsFunc(a.accounts, func(x *account) bool { return x.Name == name }) {
		return plan.Failed
	}
	if slices.ContainsFunc(a.accounts, func(x *account) bool { return x.Marker == c.marker }) {
		a.w.violated("two_accounts_for_one_person", "p%d has two in %s", c.entry.person, a.name)
	}
	a.made++
	x := &account{at: a.w.now, Account: plan.Account{
		ID: strconv.Itoa(a.made), Name: name, Marker: c.marker, Status: plan.StatusDisabled, Attributes: map[string]string{"login": name},
		GrantsComplete: true, CredentialsComplete: true,
	}}
	a.accounts = append(a.accounts, x)
	c.made = x.ID
	a.w.tell("%s: an account for %s is created, by operation %d of generation %d", a.name, c.marker, c.entry.id, c.entry.desired.Generation)
	return plan.Changed
}

// find mirrors task.find. A stale search does not show what is new; a read by id does.
func (a *application) find(k *worker) plan.Found {
	var found plan.Found
	search := func(which func(*account) bool) []plan.Account {
		var list []plan.Account
		for _, x := range a.accounts {
			stale := a.w.setup.StaleSearch && a.w.now.Sub(x.at) < staleness
			if which(x) && !stale {
				list = append(list, x.Account)
			}
		}
		return list
	}
	if a.w.bug == NoLookup && k.d.State == plan.Enabled && k.t.record.AccountID == "" {
		return found
	}
	if id := k.t.record.AccountID; id != "" {
		for _, x := range a.accounts {
			if x.ID == id {
				found.Linked = append(found.Linked, x.Account)
				return found
			}
		}
	}
	if found.Marked = search(func(x *account) bool { return x.Marker == plan.Marker(k.d.Person) }); len(found.Marked) > 0 {
		return found
	}
	if name := k.d.Attributes["login"]; name != "" {
		found.Named = search(func(x *account) bool { return x.Name == name })
	}
	return found
}

// mark mirrors store.MarkDue.
func (a *application) mark(person int, generation uint64, urgent bool) bool {
	t := a.targets[person]
	if t == nil {
		t = &target{}
		a.targets[person] = t
	}
	if generation <= t.generation {
		return false
	}
	t.generation, t.urgent, t.due, t.attempts, t.stuck = generation, urgent, a.w.now, 0, false
	return true
}

// compare mirrors worker.compare and compareCuts.
func (a *application) compare() bool {
	found := false
	if !a.w.mends() {
		return false
	}
	if !a.w.policy.stopped {
		for p := range a.w.people {
			if d, ok := a.w.policy.desired[p][a.name]; ok {
				found = a.mark(p, d.generation, d.urgent) || found
			}
		}
	}
	for p := range a.w.people {
		found = a.noteCut(p) || found
	}
	return found
}

// noteCut mirrors worker.onCuts and noteCuts: ingest says where the person stands.
func (a *application) noteCut(p int) bool {
	said := a.w.people[p]
	if said.cutVersion <= a.cuts[p].Version {
		return false
	}
	a.cuts[p] = plan.Cut{Version: said.cutVersion, Stands: said.cutStands, At: a.w.now}
	if t := a.targets[p]; t != nil {
		t.due, t.urgent, t.attempts = a.w.now, said.cutStands, 0
	}
	return true
}

// timers tells when time alone makes something possible.
func (a *application) timers(at func(time.Time)) {
	for _, t := range a.targets {
		if t.holder != 0 {
			at(t.until)
		}
		if !t.due.IsZero() {
			at(t.due)
		}
	}
	for _, c := range a.wire {
		at(c.entry.notAfter.Add(skew - lastMoment))
	}
	for _, k := range a.workers {
		if k.stage == workerWaits {
			at(k.last.entry.notAfter)
		}
	}
}

// shows says what an account amounts to in words.
func (a *application) shows(marker string) (access decide.Access, text string) {
	for _, x := range a.accounts {
		if x.Marker != marker {
			continue
		}
		access.State = decide.State(plan.Shows(&x.Account)) - 1
		for _, g := range x.Grants {
			access.Entitlements = append(access.Entitlements, g.Entitlement)
		}
		slices.Sort(access.Entitlements)
	}
	return access, fmt.Sprintf("%s %v", stateNames[access.State], access.Entitlements)
}
