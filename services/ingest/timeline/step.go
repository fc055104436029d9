package timeline

import (
	"slices"
	"strings"
	"time"
)

// At is what the facts say about the instant t. It does not depend on their order or on repeats.
func At(facts []Fact, t time.Time) State {
	var employments []Standing
	var next time.Time
	for e, own := range byEmployment(Ordered(facts)) {
		whole, _ := resolve(own)
		s, changes := plot(whole).standing(e, t)
		employments, next = append(employments, s), first(next, changes)
	}
	s := together(t, employments)
	s.Next = next
	return s
}

// first is the earlier of two instants, of which zero is none.
func first(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Step takes in what was said about a person and lets time pass until now.
//
// Known are the facts taken in before, said the new ones; either may be empty. Before is the state that the last Step
// came to, the zero State when there was none; it may be had again as At(known, before.At). The same fact again, or
// a Step with nothing said before Next, brings no event. A now that lies before before.At counts as before.At: what was
// decided is not undecided by a clock that went back.
func Step(known, said []Fact, before State, now time.Time) Decision {
	if now.Before(before.At) {
		now = before.At
	}
	known = Ordered(known)
	all := Ordered(slices.Concat(known, said)) // known first: of two of one identity the one taken in first stays
	fresh := fresh(known, all)
	d := Decision{State: At(all, now)}
	for i := range all {
		if fresh[all[i].identity()] {
			d.Accepted = append(d.Accepted, all[i])
		}
	}
	d.Events = walkAll(known, all, fresh, before).events(now)
	return d
}

// fresh are the identities that are in all and not in known.
func fresh(known, all []Fact) map[identity]bool {
	out := make(map[identity]bool, len(all)-len(known))
	for i := range all {
		out[all[i].identity()] = true
	}
	for i := range known {
		delete(out, known[i].identity())
	}
	return out
}

// walk goes from where an employment stood before to where it stands now, along the course as it is known now.
type walk struct {
	of     Employment
	known  course // as it was known before
	course course // as it is known now
	fresh  map[identity]bool
	word   map[identity]*Fact // of a fact that says nothing of status: whose word its status is
	before Standing
	at     time.Time // the instant of before; zero: nothing was decided yet
	held   *Fact     // the fact that held in before; nil: none did
}

// walks are those of all employments of a person, in order of their names.
type walks struct {
	before State
	each   []*walk
}

func walkAll(known, all []Fact, fresh map[identity]bool, before State) walks {
	was := make(map[Employment]course)
	for e, own := range byEmployment(known) {
		whole, _ := resolve(own)
		was[e] = plot(whole)
	}
	ws := walks{before: before}
	for e, own := range byEmployment(all) {
		whole, word := resolve(own)
		w := &walk{of: e, known: was[e], course: plot(whole), fresh: fresh, word: word, before: before.Of(e), at: before.At}
		if i := w.known.holding(before.At); i >= 0 && !before.At.IsZero() {
			w.held = w.known[i].fact
		}
		ws.each = append(ws.each, w)
	}
	return ws
}

// corrections are the new facts that belong before the one that held: history changes, the present does not.
func (w *walk) corrections() []Event {
	if w.held == nil {
		return nil
	}
	var events []Event
	for i := range w.course {
		p := &w.course[i]
		if !p.at.Equal(p.fact.Effective) || !w.fresh[p.fact.identity()] || compare(p.fact, w.held) >= 0 {
			continue
		}
		var from Standing
		if j := w.known.holding(p.at); j >= 0 {
			from = w.known[j].standing(w.of)
		}
		if by := w.word[w.held.identity()]; by != nil && by.identity() == p.fact.identity() {
			continue // the present goes by it: a transition tells
		}
		changes := differences(from, p.standing(w.of))
		if from.Status != StatusUnknown && len(changes) == 0 {
			continue // it says what held then anyway
		}
		events = append(events, w.event(Correction, p, changes))
	}
	return events
}

// turn is a point of an employment's course that was not told yet.
type turn struct {
	*walk
	point   *point
	from    Standing
	fromEnd time.Time // the end that was known of before
}

// turns are the points that come after what was decided before, up to now.
func (w *walk) turns(now time.Time) []turn {
	var turns []turn
	cur := w.before
	var curEnd time.Time
	if w.held != nil {
		curEnd = w.held.End
	}
	last := w.course.holding(now)
	for i := range w.course[:last+1] {
		p := &w.course[i]
		// The last point is always looked at, so that the events end where the state does even if a newer program
		// judges the same facts differently.
		if w.decided(p) && i != last {
			continue
		}
		turns = append(turns, turn{walk: w, point: p, from: cur, fromEnd: curEnd})
		cur, curEnd = p.standing(w.of), p.fact.End
	}
	return turns
}

// decided tells whether the point went into the state before.
func (w *walk) decided(p *point) bool {
	if w.held == nil {
		return false
	}
	order := compare(p.fact, w.held)
	return order < 0 || order == 0 && !p.at.After(w.at)
}

// event of a kind at a point. It counts from the instant at which access ended, if that is what it tells.
func (w *walk) event(kind Kind, p *point, changes []Change) Event {
	f := p.fact
	if by := w.word[f.identity()]; by != nil && !w.fresh[f.identity()] && w.fresh[by.identity()] {
		f = by // what was said of the status, which the fact in force leaves open, is what is new
	}
	e := Event{
		Kind: kind, Effective: p.at, Changes: changes,
		Source: f.Source, DeliveryID: f.DeliveryID, Item: f.Item, Known: f.Known, Actor: f.Actor,
	}
	if kind.Lane() == Urgent && p.status == Terminated {
		e.Effective = p.ended
	}
	if !w.fresh[f.identity()] {
		e.ByTime, e.DeliveryID, e.Item, e.Actor = true, "", 0, ActorTime
		return e
	}
	e.Backdated = e.Effective.Add(Grace).Before(f.Known)
	return e
}

// differences between two standings: of the records, and the status that holds. None when nothing was known.
func differences(from, to Standing) []Change {
	if from.Status == StatusUnknown {
		return nil
	}
	changes := Changes(from.Record, to.Record)
	if from.Status != to.Status {
		changes = append(changes, Change{Field: "status", From: from.Status.String(), To: to.Status.String()})
		sortChanges(changes)
	}
	return changes
}

func sortChanges(changes []Change) {
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.Field, b.Field) })
}
