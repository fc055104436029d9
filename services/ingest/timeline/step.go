package timeline

import (
	"slices"
	"strings"
	"time"
)

// At is what the facts say about the instant t. It does not depend on their order or on repeats.
func At(facts []Fact, t time.Time) State {
	whole, _ := resolve(Ordered(facts))
	return plot(whole).state(t)
}

// Step takes in what was said about an employment and lets time pass until now.
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
	wasWhole, _ := resolve(known)
	whole, word := resolve(all)
	w := walk{known: plot(wasWhole), course: plot(whole), fresh: fresh(known, all), word: word, before: before}
	if i := w.known.holding(before.At); i >= 0 && !before.At.IsZero() {
		w.held = w.known[i].fact
	}
	d := Decision{State: w.course.state(now)}
	for i := range all {
		if w.fresh[all[i].identity()] {
			d.Accepted = append(d.Accepted, all[i])
		}
	}
	d.Events = append(w.corrections(), w.transitions(now)...)
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

// walk goes from the state decided before to the present one, along the course as it is known now.
type walk struct {
	known  course // as it was known before
	course course // as it is known now
	fresh  map[identity]bool
	word   map[identity]*Fact // of a fact that says nothing of status: whose word its status is
	before State
	held   *Fact // the fact that held in before; nil: none did
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
		var from State
		if j := w.known.holding(p.at); j >= 0 {
			from = State{Status: w.known[j].status, Record: w.known[j].fact.Record}
		}
		if by := w.word[w.held.identity()]; by != nil && by.identity() == p.fact.identity() {
			continue // the present goes by it: a transition tells
		}
		changes := differences(from, p)
		if from.Status != StatusUnknown && len(changes) == 0 {
			continue // it says what held then anyway
		}
		events = append(events, w.event(Correction, p, changes))
	}
	return events
}

// transitions are the events of the points that come after what was decided before, up to now.
func (w *walk) transitions(now time.Time) []Event {
	var events []Event
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
		events = append(events, w.transition(cur, curEnd, i)...)
		cur = State{Status: p.status, Record: p.fact.Record}
		curEnd = p.fact.End
	}
	return events
}

// decided tells whether the point went into the state before.
func (w *walk) decided(p *point) bool {
	if w.held == nil {
		return false
	}
	order := compare(p.fact, w.held)
	return order < 0 || order == 0 && !p.at.After(w.before.At)
}

// transition is what it means to go from one state to the i-th point.
func (w *walk) transition(from State, fromEnd time.Time, i int) []Event {
	p := &w.course[i]
	changes := differences(from, p)
	switch {
	case p.status.employed() && from.Status == p.status:
		return w.moved(p, changes, fromEnd)
	case p.status == OnLeave && from.Status == Active:
		return []Event{w.event(LeaveStarted, p, changes)}
	case p.status == Active && from.Status == OnLeave:
		return []Event{w.event(LeaveEnded, p, changes)}
	case p.status.employed():
		return w.began(from, i)
	case from.Status.employed():
		return []Event{w.event(Leaver, p, changes)}
	case p.status == Terminated && from.Status == Terminated:
		if len(changes) > 0 {
			return []Event{w.event(Correction, p, changes)}
		}
	case p.status == Terminated:
		kind := NoShow
		if from.Status == StatusUnknown && !p.started.IsZero() {
			kind = Leaver // never seen before, and its own record says that it had begun
		}
		return []Event{w.event(kind, p, changes)}
	}
	return nil // pending: known, and nothing follows until it is active
}

// moved: still employed. A later last day is told apart from the rest.
func (w *walk) moved(p *point, changes []Change, fromEnd time.Time) []Event {
	var events []Event
	isEnd := func(c Change) bool { return c.Field == "end_date" }
	extended := !fromEnd.IsZero() && (p.fact.End.IsZero() || p.fact.End.After(fromEnd))
	if i := slices.IndexFunc(changes, isEnd); i >= 0 && extended {
		events = append(events, w.event(ContractExtended, p, []Change{changes[i]}))
		changes = slices.DeleteFunc(changes, isEnd)
	}
	if len(changes) > 0 {
		events = append(events, w.event(Mover, p, changes))
	}
	return events
}

// began: employed from now on. Who begins on leave has joined and is away, which is two things.
func (w *walk) began(from State, i int) []Event {
	p := w.course[i]
	kind := Joiner
	if w.course.begun(i) {
		kind = Rehire
	}
	active := p
	active.status = Active
	events := []Event{w.event(kind, &active, differences(from, &active))}
	if p.status == OnLeave {
		events = append(events, w.event(LeaveStarted, &p, []Change{{Field: "status", From: Active.String(), To: OnLeave.String()}}))
	}
	return events
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

// differences between a state and a point: of the records, and the status that holds. None when nothing was known.
func differences(from State, to *point) []Change {
	if from.Status == StatusUnknown {
		return nil
	}
	changes := Changes(from.Record, to.fact.Record)
	if from.Status != to.status {
		changes = append(changes, Change{Field: "status", From: from.Status.String(), To: to.status.String()})
		slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.Field, b.Field) })
	}
	return changes
}
