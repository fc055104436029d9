package sim

import (
	"slices"
	"time"
)

// stream is JetStream as the services see it: at least once, in any order, and not for ever.
type stream struct {
	w         *world
	epoch     int
	seen      map[int]time.Time // event ids, for as long as they are remembered
	consumers []*consumer
}

// consumer is a durable one.
type consumer struct {
	w       *world
	name    string
	takes   func(message) bool
	pending []waiting
	flying  []flying
}

type waiting struct {
	message
	at time.Time
}

// flying is delivered and not acknowledged.
type flying struct {
	waiting
	until time.Time
}

func (s *stream) consumer(name string, takes func(message) bool) *consumer {
	c := &consumer{w: s.w, name: name, takes: takes}
	s.consumers = append(s.consumers, c)
	return c
}

func (s *stream) publish(m message) {
	if at, known := s.seen[m.event.id]; known && s.w.now.Sub(at) < remembered {
		return
	}
	s.seen[m.event.id] = s.w.now
	for _, c := range s.consumers {
		if c.takes(m) {
			c.pending = append(c.pending, waiting{m, s.w.now})
		}
	}
}

// fetch delivers up to two messages, whichever; perhaps one of them will come again.
func (c *consumer) fetch(how int) []message {
	c.late()
	if len(c.pending) == 0 {
		return nil
	}
	var batch []message
	for range 1 + how%2 {
		if len(c.pending) == 0 {
			break
		}
		i := 0
		if how != gently {
			i = how / 4 % len(c.pending)
		}
		m := c.pending[i]
		if how == gently || how%16 != 3 {
			c.pending = slices.Delete(c.pending, i, i+1)
		}
		c.flying = append(c.flying, flying{m, c.w.now.Add(ackWait)})
		batch = append(batch, m.message)
	}
	return batch
}

// late redelivers what was not acknowledged in time.
func (c *consumer) late() {
	c.flying = slices.DeleteFunc(c.flying, func(f flying) bool {
		if f.until.After(c.w.now) {
			return false
		}
		c.pending = append(c.pending, f.waiting)
		return true
	})
}

func (c *consumer) ack(batch []message) {
	for _, m := range batch {
		i := slices.IndexFunc(c.flying, func(f flying) bool { return f.event.id == m.event.id })
		if i >= 0 {
			c.flying = slices.Delete(c.flying, i, i+1)
		}
	}
}

func (s *stream) expire(who int) {
	c := s.consumers[who%len(s.consumers)]
	for i := range c.flying {
		c.flying[i].until = s.w.now
	}
	if len(c.flying) > 0 {
		s.w.tell("what %s has not acknowledged comes again", c.name)
	}
	c.late()
}

func (s *stream) drop(who, how int) {
	c := s.consumers[who%len(s.consumers)]
	if len(c.pending) == 0 || s.w.setup.NothingLost {
		return
	}
	i := how % len(c.pending)
	s.w.tell("a message for %s is lost: %d of origin %d", c.name, c.pending[i].seq, c.pending[i].origin)
	c.pending = slices.Delete(c.pending, i, i+1)
}

// wipe loses the whole stream; a new one takes its place, and everybody is told.
func (s *stream) wipe() {
	if s.w.setup.NothingLost {
		return
	}
	s.w.tell("the stream is deleted")
	s.epoch++
	s.seen = map[int]time.Time{}
	for _, c := range s.consumers {
		c.pending, c.flying = nil, nil
	}
	s.returned()
	s.w.policy.woken = true
	for _, a := range s.w.apps {
		a.woken = true
	}
}

// crash loses what the server had not synced, its last second.
func (s *stream) crash() {
	if s.w.setup.NothingLost {
		return
	}
	s.w.tell("the stream's server crashes and loses its last second")
	old := func(at time.Time) bool { return s.w.now.Sub(at) > time.Second }
	for _, c := range s.consumers {
		c.pending = slices.DeleteFunc(c.pending, func(m waiting) bool { return !old(m.at) })
		c.flying = slices.DeleteFunc(c.flying, func(m flying) bool { return !old(m.at) })
	}
	for id, at := range s.seen {
		if !old(at) {
			delete(s.seen, id)
		}
	}
	s.returned()
}

// returned tells the relays that the stream was away.
func (s *stream) returned() {
	for _, o := range s.w.outboxes {
		o.again = true
	}
}
