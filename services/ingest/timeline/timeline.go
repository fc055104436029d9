// Package timeline works out what is known about a person at an instant, and what a new fact means.
//
// It promises that the state at an instant depends on the set of facts alone, never on the order in which they
// arrived or on how often each of them did, and that time alone is enough to bring about what was said to come:
// Decision.State.Next names the first instant at which that happens.
//
// It is pure: no I/O, no clock, no randomness, no goroutines. It reads no zone files either; dates arrive resolved to
// instants (see Instant and EndOfDay), so a later change of a source's zone does not rewrite what was known.
//
// A person has one or more employments, each with its own facts and its own course. What the person is, is what these
// come to together at each instant: see together.
package timeline

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Status of an employment. The numbers are those of tenure.people.v1.PersonStatus.
type Status uint8

const (
	// StatusUnknown is the status before anything was said.
	StatusUnknown Status = iota
	// Pending: known, and not to have access yet.
	Pending
	// Active: should have access.
	Active
	// OnLeave: employed, away; access rests.
	OnLeave
	// Terminated: access has ended.
	Terminated
)

// ParseStatus reads a status as a Record has it.
func ParseStatus(text string) (Status, bool) {
	switch text {
	case "pending":
		return Pending, true
	case "active":
		return Active, true
	case "on_leave":
		return OnLeave, true
	case "terminated":
		return Terminated, true
	}
	return StatusUnknown, false
}

// String is the status as a Record has it; "" for StatusUnknown.
func (s Status) String() string {
	switch s {
	case Pending:
		return "pending"
	case Active:
		return "active"
	case OnLeave:
		return "on_leave"
	case Terminated:
		return "terminated"
	case StatusUnknown:
	}
	return ""
}

// employed tells whether the employment runs: it has begun and has not ended.
func (s Status) employed() bool { return s == Active || s == OnLeave }

// Fact is a record with its two times: the instant from which it holds, and when it became known.
//
// All instants are whole microseconds, as they are stored. A fact's identity is (Source, Key, Item).
type Fact struct {
	Source string // name of the source, or of the manual source for an operator's word
	Key    string // the delivery's key within the source: webhook-id
	Item   uint32 // index of the item in the delivery

	Employment Employment // what it is about

	Effective  time.Time // the record holds from here on
	SourceTime time.Time // when the source made the record; of two with the same Effective the later one wins
	Start      time.Time // start_date as an instant; zero: none
	End        time.Time // the instant at which access ends by end_date; zero: none

	Known      time.Time // when Tenure learned of it
	DeliveryID string
	Actor      string // source:<name> or operator:<name>

	// Record is the whole of what is said. One without a status says nothing of status, start and end: they are as before.
	Record Record
}

// identity tells the same fact said twice from two facts.
type identity struct {
	source, key string
	item        uint32
}

func (f *Fact) identity() identity { return identity{f.Source, f.Key, f.Item} }

// compare orders facts: of those that are effective at an instant, the greatest holds. Arrival has no part in it.
func compare(a, b *Fact) int {
	return cmp.Or(
		a.Effective.Compare(b.Effective),
		a.SourceTime.Compare(b.SourceTime),
		strings.Compare(a.Key, b.Key),
		cmp.Compare(a.Item, b.Item),
		strings.Compare(a.Source, b.Source),
	)
}

// State is what is known about a person at an instant.
type State struct {
	At     time.Time // the instant; zero: nothing was decided yet
	Status Status    // of the employment that counts most
	Record Record    // the same one's

	// StartedAt is when the first of the employments that run began; of none that runs, when the one that counts most
	// did. Zero while that has not begun.
	StartedAt time.Time
	// EndedAt is when access ended: with the last employment. Zero unless Terminated.
	EndedAt time.Time
	// Next is the first instant after At at which time alone changes an employment; zero: never.
	Next time.Time

	Employments []Standing // all of them, the one that counts most first
}

// Kind of a lifecycle event. The numbers are those of tenure.event.v1.LifecycleKind.
type Kind uint8

const (
	// Joiner: the first time active.
	Joiner Kind = iota + 1
	// Mover: still employed, and something about it changed.
	Mover
	// Leaver: no longer employed.
	Leaver
	// Rehire: active again after it had ended.
	Rehire
	// LeaveStarted: a leave of absence began.
	LeaveStarted
	// LeaveEnded: back from a leave of absence.
	LeaveEnded
	// Correction: what is known of the past changed, or something about an employment that does not run; nobody's access follows.
	Correction
	// NoShow: ended before it began.
	NoShow
	// ContractExtended: the last day moved to a later one, or away, while employed.
	ContractExtended
)

// String is the kind as subjects have it, e.g. "leave-started".
func (k Kind) String() string {
	switch k {
	case Joiner:
		return "joiner"
	case Mover:
		return "mover"
	case Leaver:
		return "leaver"
	case Rehire:
		return "rehire"
	case LeaveStarted:
		return "leave-started"
	case LeaveEnded:
		return "leave-ended"
	case Correction:
		return "correction"
	case NoShow:
		return "no-show"
	case ContractExtended:
		return "contract-extended"
	}
	return ""
}

// Lane of an event. The numbers are those of tenure.event.v1.Lane.
type Lane uint8

const (
	// Urgent: access ends.
	Urgent Lane = iota + 1
	// Normal: everything else.
	Normal
)

// Lane of an event of this kind.
func (k Kind) Lane() Lane {
	if k == Leaver || k == NoShow {
		return Urgent
	}
	return Normal
}

// Event is what a fact, or the passing of time, means for a person.
type Event struct {
	Kind      Kind
	Effective time.Time // the instant from which it holds
	// Backdated: it held from more than Grace before it became known.
	Backdated bool
	// Changes lists what changed, by field name, with values. Empty when nothing was known before.
	Changes []Change

	// Whose word it goes by. ByTime: that word was known before and its instant has come; then DeliveryID is empty,
	// Item is 0 and Actor is ActorTime.
	ByTime     bool
	Source     string
	DeliveryID string
	Item       uint32
	Known      time.Time // when Tenure learned of that word
	Actor      string
}

// Grace is how long word may take to arrive without being called back-dated.
const Grace = 5 * time.Minute

// ActorTime is the actor of what time alone brought about.
const ActorTime = "service:ingest"

// Changed is the names of what changed, sorted, for the bus: never a value.
func (e *Event) Changed() []string {
	names := make([]string, len(e.Changes))
	for i, c := range e.Changes {
		names[i] = c.Field
	}
	return names
}

// Decision is what a Step comes to.
type Decision struct {
	State    State
	Events   []Event // in the order in which they belong
	Accepted []Fact  // the facts that were new, in order: what there is to store
}

// Ordered returns the facts in the order in which they hold, each once.
func Ordered(facts []Fact) []Fact {
	out := make([]Fact, 0, len(facts))
	seen := make(map[identity]bool, len(facts))
	for i := range facts {
		if id := facts[i].identity(); !seen[id] {
			seen[id] = true
			out = append(out, facts[i])
		}
	}
	slices.SortFunc(out, func(a, b Fact) int { return compare(&a, &b) })
	return out
}

// resolve completes facts of one employment, in the order of Ordered, that say nothing of status: an operator's word about a department
// must not stand against HR's word that the person has left, whichever came first and whatever instant each is about. Their
// status, start and end are those of the fact before; word names whose that is.
func resolve(ordered []Fact) (whole []Fact, word map[identity]*Fact) {
	whole = slices.Clone(ordered)
	for i := range whole {
		f := &whole[i]
		if f.Record.Status != "" {
			continue
		}
		from := i - 1
		if from < 0 { // nothing was said before it: what comes first
			if from = slices.IndexFunc(whole, func(f Fact) bool { return f.Record.Status != "" }); from < 0 {
				continue
			}
		}
		by := &whole[from]
		f.Record.Status, f.Record.StartDate, f.Record.EndDate = by.Record.Status, by.Record.StartDate, by.Record.EndDate
		f.Start, f.End = by.Start, by.End
		if word == nil {
			word = map[identity]*Fact{}
		}
		if earlier := word[by.identity()]; earlier != nil {
			by = earlier
		}
		word[f.identity()] = by
	}
	return whole, word
}

// Superseded tells, for facts in the order of Ordered, which of them a greater fact of the same instant about the same
// employment outdid.
func Superseded(ordered []Fact) []bool {
	out := make([]bool, len(ordered))
	next := make(map[Employment]time.Time)
	for i := len(ordered) - 1; i >= 0; i-- {
		f := &ordered[i]
		at, known := next[f.Employment]
		out[i] = known && at.Equal(f.Effective)
		next[f.Employment] = f.Effective
	}
	return out
}
