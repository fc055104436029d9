package timeline

import "time"

// point is an instant at which what holds changes: another fact takes over, or the start or end that the fact in force
// names has come.
type point struct {
	at     time.Time
	fact   *Fact
	status Status

	started time.Time // of the latest run of employment; zero: not begun
	ended   time.Time // of the run that is over; zero unless terminated
}

// course is all of an employment's points, by time. It has no end: the last point holds for ever.
type course []point

// plot draws the course that ordered facts describe.
func plot(ordered []Fact) course {
	c := make(course, 0, len(ordered)+2)
	for i := range ordered {
		f := &ordered[i]
		var until time.Time // zero: for ever
		if i+1 < len(ordered) {
			if until = ordered[i+1].Effective; until.Equal(f.Effective) {
				continue // superseded: it never holds
			}
		}
		c = c.add(f, f.Effective)
		first, second := f.Start, f.End
		if second.Before(first) {
			first, second = second, first
		}
		for _, at := range [...]time.Time{first, second} {
			if at.After(f.Effective) && (until.IsZero() || at.Before(until)) && f.statusAt(at) != c[len(c)-1].status {
				c = c.add(f, at)
			}
		}
	}
	return c
}

// statusAt is the status that the fact gives at an instant at which it is in force.
func (f *Fact) statusAt(t time.Time) Status {
	said, _ := ParseStatus(f.Record.Status)
	switch {
	case said == Terminated || !f.End.IsZero() && !t.Before(f.End):
		return Terminated
	case said.employed() && !t.Before(f.Start): // a zero Start is before everything
		return said
	}
	return Pending
}

// add appends the fact's point at an instant.
func (c course) add(f *Fact, at time.Time) course {
	p := point{at: at, fact: f, status: f.statusAt(at)}
	var last point
	if len(c) > 0 {
		last = c[len(c)-1]
	}
	switch p.status {
	case Active, OnLeave:
		switch {
		case !f.Start.IsZero():
			p.started = f.Start
		case last.status.employed():
			p.started = last.started
		default:
			p.started = at
		}
	case Terminated:
		p.started, p.ended = last.started, last.ended
		if last.status == Terminated {
			break
		}
		p.ended = at
		if said, _ := ParseStatus(f.Record.Status); said != Terminated && f.End.Before(at) {
			p.ended = f.End // it had ended before the source told of it
		}
		if last.fact == nil && !f.Start.IsZero() && f.Start.Before(p.ended) {
			p.started = f.Start
		}
	case Pending, StatusUnknown:
	}
	return append(c, p)
}

// holding is the index of the point that holds at t; -1: t is before the first.
func (c course) holding(t time.Time) int {
	for i := len(c) - 1; i >= 0; i-- {
		if !c[i].at.After(t) {
			return i
		}
	}
	return -1
}

// begunBefore tells whether the employment ran at any time before t.
func (c course) begunBefore(t time.Time) bool {
	for i := range c {
		if c[i].status.employed() && c[i].at.Before(t) {
			return true
		}
	}
	return false
}

// standing is where the employment stands at t, and when time alone will change that next; zero: never.
func (c course) standing(e Employment, t time.Time) (s Standing, next time.Time) {
	i := c.holding(t)
	s = Standing{Employment: e, Status: Pending, Record: c[0].fact.Record}
	if i >= 0 {
		s = c[i].standing(e)
	}
	for _, p := range c[i+1:] {
		if p.status != s.Status || len(Changes(s.Record, p.fact.Record)) > 0 {
			return s, p.at
		}
	}
	return s, time.Time{}
}

func (p *point) standing(e Employment) Standing {
	return Standing{Employment: e, Status: p.status, Record: p.fact.Record, StartedAt: p.started, EndedAt: p.ended}
}
