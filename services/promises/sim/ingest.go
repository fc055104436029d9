package sim

import (
	"fmt"
	"time"

	"github.com/tenurehq/tenure/services/ingest/timeline"
)

// person is one in ingest's database.
type person struct {
	version uint64
	facts   []timeline.Fact
	state   timeline.State

	cutVersion uint64 // of the newest cut or lift; 0: never cut
	cutStands  bool
}

// record is what a source made, and delivers until it is answered.
type record struct {
	key      string
	person   int
	fact     timeline.Fact
	answered bool
}

// ingest mirrors services/ingest: a delivery is taken, and what it means told, in one transaction.
type ingest struct {
	w       *world
	log     *outbox
	sources []*record          // in the order in which they were made
	taken   map[string]*record // deliveries in the database, by key: the first body counts

	buffer []timeline.Fact // of a bug: answered, and not committed
	owners []int
}

// say makes a record about a person.
func (g *ingest) say(p, how int) {
	w := g.w
	r := timeline.Record{ExternalID: fmt.Sprintf("%d", p), Status: "active", Department: "dev"}
	f := timeline.Fact{
		Source: "hr", Key: fmt.Sprintf("d%d", len(g.sources)+1), Employment: timeline.Employment{Source: "hr", ExternalID: r.ExternalID},
		Effective: w.now, SourceTime: w.now, DeliveryID: fmt.Sprintf("d%d", len(g.sources)+1), Actor: "source:hr",
	}
	if how&0x80 != 0 {
		r.Department = "ops"
	}
	what := "works in " + r.Department
	switch how % 16 {
	case 0, 1, 2, 3, 4:
	case 5:
		f.Start = w.now.Add(2 * time.Minute)
		what += " from in two minutes on"
	case 6, 7:
		f.End = w.now.Add(90 * time.Second)
		what += " for another 90 seconds"
	case 8:
		r.Status, what = "on_leave", "is away"
	case 9:
		r.Status, what = "pending", "is still to come"
	case 10:
		f.Effective = w.now.Add(-10 * time.Minute)
		what += " since ten minutes ago"
	case 11:
		r.Status, f.Effective, what = "terminated", w.now.Add(time.Minute), "leaves in a minute"
	default:
		r.Status, what = "terminated", "leaves"
	}
	f.Record = r
	g.sources = append(g.sources, &record{key: f.Key, person: p, fact: f})
	w.tell("HR notes in %s: p%d %s", f.Key, p, what)
}

// unanswered returns one of the records that the source still has to deliver.
func (g *ingest) unanswered(answered bool, n int) *record {
	count := 0
	for _, r := range g.sources {
		if r.answered == answered {
			count++
		}
	}
	if count == 0 {
		return nil
	}
	n %= count
	for _, r := range g.sources {
		if r.answered == answered {
			if n == 0 {
				return r
			}
			n--
		}
	}
	return nil
}

func (g *ingest) post(who, how int) bool {
	r := g.unanswered(false, who)
	if r == nil {
		return false
	}
	g.w.tell("%s is delivered", r.key)
	g.take(r.key, r)
	if how%8 == 0 {
		g.w.tell("the answer is lost")
		return true
	}
	r.answered = true
	return true
}

func (g *ingest) postAgain(who int) {
	if r := g.unanswered(true, who); r != nil {
		g.w.tell("%s is delivered again", r.key)
		g.take(r.key, r)
	}
}

// postOther is a source, or somebody else, that uses an id for a second time: the answer is that it is held.
func (g *ingest) postOther(who int) {
	r := g.unanswered(true, who)
	if r == nil {
		return
	}
	other := *r
	other.fact.Record.Status, other.fact.Record.Department = "active", "ops"
	g.w.tell("%s is delivered with another body", r.key)
	if g.w.bug == IDReuse {
		other.fact.Key += "'"
		g.settle(other.person, []timeline.Fact{other.fact})
		return
	}
	g.take(r.key, &other)
}

// take mirrors ingest.accept and settle: what is known already, and an id with another body, change nothing.
func (g *ingest) take(key string, r *record) {
	if known := g.taken[key]; known != nil {
		return // of another body: held
	}
	if g.w.bug == AnswerEarly {
		g.buffer, g.owners = append(g.buffer, r.fact), append(g.owners, r.person)
		g.taken[key] = r
		return
	}
	g.taken[key] = r
	g.settle(r.person, []timeline.Fact{r.fact})
}

// settle mirrors ingest.settle: it takes the person's row by raising their version.
func (g *ingest) settle(p int, said []timeline.Fact) {
	w, person := g.w, g.w.people[p]
	for i := range said {
		said[i].Known = w.now
	}
	person.version++
	d := w.cores.step(person.facts, said, person.state, w.now)
	person.state = d.State
	person.facts = append(person.facts, d.Accepted...)
	for _, e := range d.Events {
		w.tell("ingest tells of p%d, version %d: %s", p, person.version, e.Kind)
		g.log.add(event{kind: lifecycle, urgent: e.Kind.Lane() == timeline.Urgent, person: p, version: person.version})
	}
}

// timer mirrors ingest's scheduler: the due time is in the person's row.
func (g *ingest) timer(p int) bool {
	if g.w.bug == TimersInMemory && p%2 == 0 && g.w.now.Sub(g.w.people[p].state.At) > time.Minute {
		return false // nobody remembers
	}
	if next := g.w.people[p].state.Next; next.IsZero() || next.After(g.w.now) {
		return false
	}
	g.settle(p, nil)
	return true
}

func (g *ingest) cut(p int) {
	person := g.w.people[p]
	if person.cutStands {
		return
	}
	person.version++
	person.cutVersion, person.cutStands = person.version, true
	g.w.tell("an operator cuts p%d, version %d", p, person.version)
	g.log.add(event{kind: cutting, urgent: true, person: p, version: person.version})
}

func (g *ingest) lift(p int) {
	person := g.w.people[p]
	if !person.cutStands {
		return
	}
	person.version++
	person.cutVersion, person.cutStands = person.version, false
	g.w.tell("an operator lifts the cut of p%d, version %d", p, person.version)
	g.log.add(event{kind: cutting, urgent: true, person: p, version: person.version})
}

func (g *ingest) kill() {
	if g.w.bug == AnswerEarly {
		g.buffer, g.owners = nil, nil
		g.w.tell("ingest dies")
	}
}

// work is all that ingest can do by itself or is asked to.
func (g *ingest) work() bool {
	did := g.post(0, 1)
	for i, f := range g.buffer {
		g.settle(g.owners[i], []timeline.Fact{f})
	}
	g.buffer, g.owners = nil, nil
	for p := range g.w.people {
		did = g.timer(p) || did
	}
	return did
}

// told is where a person must stand by the first bodies that were answered.
func (g *ingest) told(p int) timeline.State {
	var facts []timeline.Fact
	for _, r := range g.sources {
		if r.person == p && r.answered {
			facts = append(facts, r.fact)
		}
	}
	return timeline.At(facts, g.w.now)
}
