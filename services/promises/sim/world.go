package sim

import (
	"fmt"
	"time"

	"github.com/tenurehq/tenure/services/policy/decide"
	"github.com/tenurehq/tenure/services/policy/model"
)

// world is all of Tenure and what it works with.
type world struct {
	setup Setup
	bug   Bug
	cores cores
	now   time.Time

	people   []*person
	ingest   *ingest
	policy   *policy
	apps     []*application
	audit    *audit
	outboxes []*outbox // of ingest, policy, and each application
	stream   *stream

	ids int // given to events, operations and lives

	stalled   int // see Setup.Stall
	telling   bool
	story     []string
	violation *Violation
}

// The origins of events.
const (
	ofIngest = iota
	ofPolicy
	ofApps // and so on, one for each
)

// The protocol's times are the defaults of the services.
const (
	ackWait    = 30 * time.Second
	remembered = 2 * time.Minute // how long the stream knows what it has seen
	resend     = 30 * time.Second
	request    = 30 * time.Second
	skew       = 2 * time.Second
	lease      = 3*request + 3*skew
	retryMin   = time.Second
	retryMax   = 5 * time.Minute
	slow       = time.Hour
	grace      = time.Minute
	staleness  = 20 * time.Second // of a search: less than grace without request and skew
	rounds     = 3
	freshFor   = 2 * time.Second
	pauseMax   = 10 * time.Second

	compareEvery = 5 * time.Minute
)

var epoch = time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)

var applications = [...]string{"wiki", "code"}

func newWorld(setup Setup, bug Bug) *world {
	w := &world{setup: setup, bug: bug, cores: coresWith(bug), now: epoch}
	w.stream = &stream{w: w, seen: map[int]time.Time{}}
	for range ofApps + setup.Apps {
		w.outboxes = append(w.outboxes, newOutbox(w, len(w.outboxes)))
	}
	for range setup.People {
		w.people = append(w.people, &person{})
	}
	w.ingest = &ingest{w: w, taken: map[string]*record{}, log: w.outboxes[ofIngest]}
	w.policy = newPolicy(w)
	for i := range setup.Apps {
		w.apps = append(w.apps, newApplication(w, i))
	}
	w.audit = newAudit(w)
	return w
}

// pass moves the clock.
func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	w.tell("%s pass", d)
}

func (w *world) id() int {
	w.ids++
	return w.ids
}

func (w *world) tell(format string, args ...any) {
	if w.telling {
		w.story = append(w.story, w.now.Sub(epoch).Round(time.Millisecond).String()+" "+fmt.Sprintf(format, args...))
	}
}

// rules are the ones that decisions are made by in every world.
var rules = func() decide.Rules {
	m, err := model.Load([]model.File{{Name: "roles.yaml", Content: []byte(`
roles:
  - {name: everyone, members: 'person.status in ["active", "on_leave"]', grants: [{app: wiki, entitlement: staff}]}
  - {name: developer, members: person.department == "dev", grants: [{app: wiki, entitlement: dev}, {app: code, entitlement: write}]}
  - {name: operator, members: person.department == "ops", grants: [{app: wiki, entitlement: ops}, {app: code}]}
`)}}, applications[:])
	if err != nil {
		panic(err) // the text above
	}
	accounts, err := model.NewAccountMapping([]model.Application{
		{Name: "wiki", Account: map[string]string{"login": "person.user_name"}},
		{Name: "code", Account: map[string]string{"login": "person.user_name"}},
	})
	if err != nil {
		panic(err) // the text above
	}
	return decide.Rules{Model: m, Accounts: accounts}
}()

// settle lets everything work that can, until nothing is left to do. Holds of the brake are released, and nothing is lost
// any more. Where somebody is cut, policy works only when everything else has come to rest: a cut needs no policy.
func (w *world) settle() {
	if w.setup.TakenBack {
		w.takeBack()
	}
	w.tell("nothing is lost any more, and everybody works")
	for p := range w.people {
		w.policy.stopped = w.policy.stopped || w.people[p].cutStands
	}
	if w.policy.stopped {
		w.rest(w.now.Add(policyAway))
		for p, person := range w.people {
			if person.cutStands {
				w.cutOff(p, "cut_person_active_after_settle", "although cut, and policy is away")
			}
		}
		w.policy.stopped = false
	}
	const ever = 100 * 365 * 24 * time.Hour
	if w.setup.Stall > 0 {
		w.stalled = w.setup.Stall
		w.rest(w.now.Add(ever))
		w.stalled = 0
		w.tell("who stood still goes on")
	}
	w.rest(w.now.Add(ever))
}

// takeBack lets requests, of whose replies nobody will hear, meet with decisions that want the opposite.
func (w *world) takeBack() {
	for _, a := range w.apps {
		for more := true; more; {
			more = a.loseReply(0)
		}
	}
	for p := range w.people {
		w.ingest.say(p, p*0x80)
	}
}

const policyAway = 10 * time.Minute

const restless = 4000 // steps of everybody, after which the world will never come to rest

// rest lets everybody work until nothing is left to do, but no longer than until.
func (w *world) rest(until time.Time) {
	compared := w.now
	for n := 0; w.violation == nil && w.now.Before(until); n++ {
		if n > restless {
			w.violated("never_settles", "after %d rounds there is still something to do", n)
			return
		}
		if w.work() {
			continue
		}
		next := w.nextTimer()
		if due := compared.Add(compareEvery); next.IsZero() || next.After(due) {
			w.now, compared = due, due
			if !w.compare() && next.IsZero() {
				return
			}
			continue
		}
		w.now = next
	}
}

// compare makes all the regular comparisons. It reports whether any of them found something.
func (w *world) compare() bool {
	found := false
	for i := range 2 + len(w.apps) + len(w.outboxes) {
		found = w.repair(i) || found
	}
	return found
}

// gently is the way of a step in which nothing goes wrong.
const gently = 0xff

// work has everybody make a step. It reports whether anybody could.
func (w *world) work() bool {
	w.now = w.now.Add(time.Microsecond)
	did := w.ingest.work()
	for _, o := range w.outboxes {
		did = o.step(gently) || did
	}
	for p := range w.people {
		did = w.policy.approve(p) || did
	}
	for i := range w.policy.replicas {
		did = w.stalled != 1+i && w.policy.replicas[i].step(gently) || did
	}
	for n, a := range w.apps {
		did = a.land(gently) || did
		for i := range a.workers {
			did = (n > 0 || w.stalled != 1+replicas+i) && a.workers[i].step(gently) || did
		}
	}
	return w.audit.step(gently) || did
}

// nextTimer is the next instant at which time alone makes something possible; zero: there is none.
func (w *world) nextTimer() time.Time {
	var next time.Time
	at := func(t time.Time) {
		if t.After(w.now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, p := range w.people {
		at(p.state.Next)
	}
	for _, c := range w.stream.consumers {
		for _, f := range c.flying {
			at(f.until)
		}
	}
	for _, a := range w.apps {
		a.timers(at)
	}
	return next
}

// mends says that somebody compares states at times, and so finds what a lost message told of.
func (w *world) mends() bool { return !w.setup.NothingLost && w.bug != NoRepair }
