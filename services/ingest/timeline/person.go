package timeline

import (
	"slices"
	"time"
)

// FieldEmployments is the name under which a Change lists how a person's employments stand, where there are several.
const FieldEmployments = "employments"

// events are what the turns of all employments mean for the person, in order of time.
func (ws walks) events(now time.Time) []Event {
	var events []Event
	var turns []turn
	for _, w := range ws.each {
		events = append(events, w.corrections()...)
		turns = append(turns, w.turns(now)...)
	}
	slices.SortStableFunc(turns, func(a, b turn) int { return a.point.at.Compare(b.point.at) })
	from := ws.before
	for len(turns) > 0 { // who goes from one employment to another at one instant has moved, and neither left nor come back
		at := turns[0].point.at
		n := slices.IndexFunc(turns, func(t turn) bool { return !t.point.at.Equal(at) })
		if n < 0 {
			n = len(turns)
		}
		m := moment{from: from, turns: turns[:n], begun: ws.begunBefore(at)}
		moved := make([]Standing, n)
		for i := range m.turns {
			moved[i] = m.turns[i].point.standing(m.turns[i].of)
		}
		m.to = from.with(moved...)
		events = append(events, m.events()...)
		from, turns = m.to, turns[n:]
	}
	return events
}

// begunBefore tells whether the person was employed at any time before t.
func (ws walks) begunBefore(t time.Time) bool {
	return slices.ContainsFunc(ws.each, func(w *walk) bool { return w.course.begunBefore(t) })
}

// moment is an instant at which employments of a person turn.
type moment struct {
	from, to State
	turns    []turn
	begun    bool // the person was employed before
}

// events are what the moment means.
func (m *moment) events() []Event {
	from, to := m.from.Status, m.to.Status
	changes := m.changes(to)
	switch {
	case to.employed() && from == to:
		return m.moved(changes)
	case to == OnLeave && from == Active:
		return m.tell(LeaveStarted, changes)
	case to == Active && from == OnLeave:
		return m.tell(LeaveEnded, changes)
	case to.employed():
		return m.began()
	case from.employed():
		return m.tell(Leaver, changes)
	case to == Terminated:
		return m.over(changes)
	}
	return nil // pending: known, and nothing follows until it is active
}

// moved: still employed. A later last day is told apart from the rest.
func (m *moment) moved(changes []Change) []Event {
	if len(changes) == 0 {
		return nil
	}
	runs := func(t turn) bool { return t.from.Status.employed() || t.point.status.employed() }
	if !slices.ContainsFunc(m.turns, runs) { // another employment, from which nothing follows
		if slices.ContainsFunc(m.turns, func(t turn) bool { return t.point.status == Terminated }) {
			return m.tell(Correction, changes)
		}
		return nil
	}
	var events []Event
	isEnd := func(c Change) bool { return c.Field == "end_date" }
	if i := slices.IndexFunc(changes, isEnd); i >= 0 && m.extended() {
		events = append(events, m.tell(ContractExtended, []Change{changes[i]})...)
		changes = slices.DeleteFunc(changes, isEnd)
	}
	if len(changes) > 0 {
		events = append(events, m.tell(Mover, changes)...)
	}
	return events
}

// extended tells whether an employment runs on to a later end than was known.
func (m *moment) extended() bool {
	return slices.ContainsFunc(m.turns, func(t turn) bool {
		return t.from.Status.employed() && t.point.status.employed() &&
			!t.fromEnd.IsZero() && (t.point.fact.End.IsZero() || t.point.fact.End.After(t.fromEnd))
	})
}

// began: employed from now on. Who begins on leave has joined and is away, which is two things.
func (m *moment) began() []Event {
	kind := Joiner
	if m.begun {
		kind = Rehire
	}
	events := m.tell(kind, m.changes(Active))
	if m.to.Status == OnLeave {
		events = append(events, m.tell(LeaveStarted, []Change{{Field: "status", From: Active.String(), To: OnLeave.String()}})...)
	}
	return events
}

// over: nothing runs, and something of it is over.
func (m *moment) over(changes []Change) []Event {
	t := m.decisive()
	switch {
	case m.from.Status == StatusUnknown && !t.point.started.IsZero():
		return m.tell(Leaver, changes) // never seen before, and its own record says that it had begun
	case m.from.Status == StatusUnknown:
		return m.tell(NoShow, changes)
	case m.from.Status == Pending && !slices.ContainsFunc(m.to.Employments, func(e Standing) bool { return e.Status == Pending }):
		return m.tell(NoShow, changes)
	case len(changes) > 0:
		return m.tell(Correction, changes)
	}
	return nil
}

// changes of the person: of the employment that counts most, how all of them stand if there are several, and what
// changed of the others. None when nothing was known before. Status is what the person's is told to be.
func (m *moment) changes(status Status) []Change {
	if m.from.Status == StatusUnknown {
		return nil
	}
	changes := differences(Standing{Status: m.from.Status, Record: m.from.Record}, Standing{Status: status, Record: m.to.Record})
	if len(m.to.Employments) == 1 {
		return changes
	}
	if from, to := m.from.employments(), m.to.employments(); from != to {
		changes = append(changes, Change{Field: FieldEmployments, From: from, To: to})
	}
	for _, t := range m.turns {
		if t.of == m.to.Employments[0].Employment || t.from.Status == StatusUnknown {
			continue
		}
		for _, own := range Changes(t.from.Record, t.point.fact.Record) {
			if !slices.ContainsFunc(changes, func(c Change) bool { return c.Field == own.Field }) {
				changes = append(changes, own)
			}
		}
	}
	sortChanges(changes)
	return changes
}

// decisive is the turn whose word the moment goes by: of one that begins or ends something, before any other; of what
// was just said, before what time brought.
func (m *moment) decisive() *turn {
	weight := func(t *turn) int {
		w := 0
		if t.from.Status.employed() != t.point.status.employed() {
			w += 2
		}
		if t.fresh[t.point.fact.identity()] {
			w++
		}
		return w
	}
	best := &m.turns[0]
	for i := range m.turns[1:] {
		if t := &m.turns[1+i]; weight(t) > weight(best) {
			best = t
		}
	}
	return best
}

// tell is the event of a kind.
func (m *moment) tell(kind Kind, changes []Change) []Event {
	t := m.decisive()
	return []Event{t.event(kind, t.point, changes)}
}

// Regrouped is what it means for a person that employments became theirs, or are theirs no more, at an instant: by an
// operator's word that some people are one, or that one is several. Nothing new was said about any employment.
func Regrouped(from, to State, at time.Time, actor string) (Event, bool) {
	e := Event{Effective: at, Known: at, Actor: actor, Kind: Correction}
	if from.Status != StatusUnknown {
		e.Changes = differences(Standing{Status: from.Status, Record: from.Record}, Standing{Status: to.Status, Record: to.Record})
		if was, is := from.employments(), to.employments(); was != is {
			e.Changes = append(e.Changes, Change{Field: FieldEmployments, From: was, To: is})
			sortChanges(e.Changes)
		}
	}
	was, is := from.Status, to.Status
	switch {
	case is.employed() && was == is:
		e.Kind = Mover
	case is == OnLeave && was == Active:
		e.Kind = LeaveStarted
	case is == Active && was == OnLeave:
		e.Kind = LeaveEnded
	case is.employed() && !from.StartedAt.IsZero():
		e.Kind = Rehire
	case is.employed():
		e.Kind = Joiner
	case was.employed():
		e.Kind = Leaver
	case len(e.Changes) == 0:
		return Event{}, false
	}
	return e, true
}
