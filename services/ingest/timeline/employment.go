package timeline

import (
	"cmp"
	"iter"
	"slices"
	"strings"
	"time"
)

// Employment is one (source, external id), which always means the same one.
type Employment struct{ Source, ExternalID string }

func (e Employment) compare(f Employment) int {
	return cmp.Or(strings.Compare(e.Source, f.Source), strings.Compare(e.ExternalID, f.ExternalID))
}

// String names the employment for people.
func (e Employment) String() string {
	if e.Source == "" {
		return e.ExternalID
	}
	return e.Source + ":" + e.ExternalID
}

// Standing is where one employment stands at an instant.
type Standing struct {
	Employment Employment
	Status     Status
	Record     Record // what holds; before the first fact's instant, what is to come first

	// StartedAt is when its latest run began: the record's start, else the instant at which it became active. Zero while
	// it has not begun.
	StartedAt time.Time
	// EndedAt is when it ended. Zero unless Terminated.
	EndedAt time.Time
}

// counts says how much an employment counts for what a person is: one that runs before one that rests, then one that
// has run and is over before one that is still to come, and that before one that never began.
func (s *Standing) counts() int {
	switch s.Status {
	case Active:
		return 4
	case OnLeave:
		return 3
	case Terminated:
		if !s.StartedAt.IsZero() {
			return 2
		}
	case Pending:
		return 1
	case StatusUnknown:
	}
	return 0
}

// compare puts first the employment that counts most: of two that count alike the one that began first, or that ended
// last, then the one whose name is less.
func (s *Standing) compare(t *Standing) int {
	return cmp.Or(
		cmp.Compare(t.counts(), s.counts()),
		t.EndedAt.Compare(s.EndedAt),
		s.StartedAt.Compare(t.StartedAt),
		s.Employment.compare(t.Employment),
	)
}

// together is what employments make of a person: what the one that counts most is, employed since the first of those
// that run began.
func together(at time.Time, employments []Standing) State {
	s := State{At: at, Employments: employments}
	if len(employments) == 0 {
		return s
	}
	slices.SortFunc(employments, func(a, b Standing) int { return a.compare(&b) })
	most := &employments[0]
	s.Status, s.Record, s.StartedAt, s.EndedAt = most.Status, most.Record, most.StartedAt, most.EndedAt
	for i := range employments[1:] {
		if e := &employments[1+i]; e.Status.employed() && e.StartedAt.Before(s.StartedAt) {
			s.StartedAt = e.StartedAt
		}
	}
	return s
}

// byEmployment takes facts in the order of Ordered apart, in order of employment.
func byEmployment(ordered []Fact) iter.Seq2[Employment, []Fact] {
	return func(yield func(Employment, []Fact) bool) {
		if len(ordered) == 0 {
			return
		}
		first := ordered[0].Employment
		if !slices.ContainsFunc(ordered, func(f Fact) bool { return f.Employment != first }) {
			yield(first, ordered) // nearly everybody has one
			return
		}
		own := make(map[Employment][]Fact)
		var names []Employment
		for i := range ordered {
			e := ordered[i].Employment
			if own[e] == nil {
				names = append(names, e)
			}
			own[e] = append(own[e], ordered[i])
		}
		slices.SortFunc(names, Employment.compare)
		for _, e := range names {
			if !yield(e, own[e]) {
				return
			}
		}
	}
}

// Of is where the employment stands; the zero Standing when nothing is known of it.
func (s *State) Of(e Employment) Standing {
	for i := range s.Employments {
		if s.Employments[i].Employment == e {
			return s.Employments[i]
		}
	}
	return Standing{}
}

// with is the state that follows when an employment stands elsewhere.
func (s *State) with(moved ...Standing) State {
	all := slices.Clone(s.Employments)
	for _, m := range moved {
		i := slices.IndexFunc(all, func(e Standing) bool { return e.Employment == m.Employment })
		if i < 0 {
			all = append(all, m)
		} else {
			all[i] = m
		}
	}
	return together(s.At, all)
}

// employments lists how they stand, in order of their names, where there are several.
func (s *State) employments() string {
	list := make([]string, len(s.Employments))
	for i := range s.Employments {
		list[i] = s.Employments[i].Employment.String() + " " + s.Employments[i].Status.String()
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}
