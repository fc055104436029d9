package sim

import (
	"slices"
	"time"
)

// kind of an event.
type kind uint8

const (
	lifecycle kind = iota
	cutting
	access
	intent
	outcome
)

// event is a fact on its way. Two services tell of a person's version, policy of a generation.
type event struct {
	id      int
	kind    kind
	urgent  bool
	person  int
	app     int
	version uint64 // of the person; of access: the generation
}

// message is an event with its number.
type message struct {
	origin int
	seq    uint64
	event  event
}

// chunk mirrors a row of outbox_sent.
type chunk struct {
	first, last uint64
	urgent      bool
	at          time.Time
	events      []event
}

// progress mirrors outbox.progress.
type progress struct {
	epoch int
	seq   uint64
	at    time.Time
}

// outbox mirrors pkg/outbox.
type outbox struct {
	w      *world
	origin int

	// In the database.
	waiting [2][]event // urgent, normal
	next    uint64
	sent    []*chunk
	done    progress

	// In the relay's memory.
	begun bool
	mine  progress
	most  *chunk
	todo  []*chunk
	busy  *chunk
	again bool
	fresh bool

	committed []event // for the invariants
	numbers   map[int]uint64
}

func newOutbox(w *world, origin int) *outbox {
	return &outbox{w: w, origin: origin, next: 1, fresh: true, numbers: map[int]uint64{}}
}

// add is within the caller's transaction.
func (o *outbox) add(e event) {
	e.id = o.w.id()
	lane := 1
	if e.urgent {
		lane = 0
	}
	o.waiting[lane] = append(o.waiting[lane], e)
	o.committed = append(o.committed, e)
}

const mostEvents = 3 // in a chunk

// step mirrors outbox.send and sender.step.
func (o *outbox) step(how int) bool {
	switch {
	case !o.begun:
		o.begun, o.mine = true, o.done
		back := o.fresh || o.again
		o.again, o.fresh = false, false
		if o.w.bug == RelayForgets {
			return true
		}
		o.recall(back)
		return true
	case o.busy != nil:
		o.publish(how)
		return true
	case o.again:
		o.again = false
		o.recall(true)
		return true
	}
	lane := 0
	if len(o.waiting[0]) == 0 {
		if len(o.todo) > 0 {
			o.busy = o.todo[0]
			if !slices.Contains(o.sent, o.busy) { // forgotten meanwhile
				o.todo, o.busy = o.todo[1:], nil
				o.advance()
			}
			return true
		}
		if lane = 1; len(o.waiting[1]) == 0 {
			if o.mine != o.done { // mirrors sender.save
				o.done = o.mine
				return true
			}
			return false
		}
	}
	o.moveEvents(lane)
	return true
}

// moveEvents mirrors store.move: rows out, numbers, chunk and progress in one transaction.
func (o *outbox) moveEvents(lane int) {
	n := min(len(o.waiting[lane]), mostEvents)
	c := &chunk{first: o.next, last: o.next + uint64(n) - 1, urgent: lane == 0, at: o.w.now, events: slices.Clone(o.waiting[lane][:n])}
	o.waiting[lane] = o.waiting[lane][n:]
	o.next += uint64(n)
	o.sent = append(o.sent, c)
	o.done = o.mine
	for i, e := range c.events {
		o.numbers[e.id] = c.first + uint64(i)
	}
	o.busy = c
}

// publish mirrors sender.publish: the chunk as it is, until the stream has all of it.
func (o *outbox) publish(how int) {
	c := o.busy
	sends := c.events
	if o.w.bug == ChunkChanges { // what has come meanwhile goes along
		sends = append(slices.Clone(sends), append(slices.Clone(o.waiting[0]), o.waiting[1]...)...)
	}
	n, ok := len(sends), true
	switch how % 8 {
	case 0:
		n, ok = 0, false
	case 1:
		n, ok = len(sends)/2, false
	case 2:
		ok = false // stored, and nobody hears of it
	}
	for i, e := range sends[:n] {
		o.w.stream.publish(message{o.origin, c.first + uint64(i), e})
	}
	if !ok {
		return
	}
	o.w.tell("%s publishes %d to %d", o.name(), c.first, c.last)
	o.busy = nil
	if len(o.todo) > 0 && o.todo[0] == c {
		o.todo = o.todo[1:]
	} else if o.most == nil || c.last > o.most.last {
		o.most = c
	}
	o.advance()
}

func (o *outbox) advance() {
	if len(o.todo) == 0 && o.most != nil && o.most.last > o.mine.seq {
		o.mine.seq, o.mine.at = o.most.last, o.most.at
	}
}

// recall mirrors sender.recall.
func (o *outbox) recall(back bool) {
	if o.w.stream.epoch != o.mine.epoch {
		o.mine = progress{epoch: o.w.stream.epoch}
		o.done = o.mine
	}
	o.todo, o.most = nil, nil
	for _, urgent := range []bool{true, false} {
		for _, c := range o.sent {
			if c.urgent != urgent || c.last <= o.mine.seq && (!back || c.at.Before(o.mine.at.Add(-resend))) {
				continue
			}
			o.todo = append(o.todo, c)
			if o.most == nil || c.last > o.most.last {
				o.most = c
			}
		}
	}
}

// ask mirrors outbox.ask: what audit has recorded is forgotten, once it is published.
func (o *outbox) ask() bool {
	recorded := o.w.audit.recorded(o.origin)
	kept := len(o.sent)
	o.sent = slices.DeleteFunc(o.sent, func(c *chunk) bool { return c.last <= recorded && c.last <= o.done.seq })
	return len(o.sent) < kept
}

func (o *outbox) kill() {
	o.w.tell("the relay of %s dies", o.name())
	o.begun, o.busy, o.todo, o.most, o.again, o.fresh = false, nil, nil, nil, false, true
}

func (o *outbox) name() string {
	switch o.origin {
	case ofIngest:
		return "ingest"
	case ofPolicy:
		return "policy"
	}
	return applications[o.origin-ofApps]
}
