package sim

// audit mirrors services/audit: it records every event of every origin once, in whatever order they come, and pulls what is
// missing.
type audit struct {
	w        *world
	consumer *consumer
	origins  []*recording
	leaves   []message

	batch  []message
	done   bool
	buffer []message // of a bug: acknowledged, and in memory only
}

// recording mirrors store.Progress of audit.
type recording struct {
	seq   uint64
	later map[uint64]bool
}

func newAudit(w *world) *audit {
	a := &audit{w: w, consumer: w.stream.consumer("audit", func(message) bool { return true })}
	for range w.outboxes {
		a.origins = append(a.origins, &recording{later: map[uint64]bool{}})
	}
	return a
}

// step fetches a batch, records it in one transaction, or acknowledges it.
func (a *audit) step(how int) bool {
	switch {
	case a.batch == nil:
		a.flush(how)
		a.batch = a.consumer.fetch(how)
		return a.batch != nil
	case !a.done:
		a.record(a.batch)
		a.done = true
	default:
		a.consumer.ack(a.batch)
		a.batch, a.done = nil, false
	}
	return true
}

// record mirrors sequencer.record: what has been recorded is left out.
func (a *audit) record(batch []message) {
	for _, m := range batch {
		o := a.origins[m.origin]
		if m.seq <= o.seq || o.later[m.seq] {
			continue
		}
		o.later[m.seq] = true
		for o.later[o.seq+1] {
			o.seq++
			delete(o.later, o.seq)
		}
		if a.w.bug == HolesSkipped {
			for seq := range o.later {
				o.seq = max(o.seq, seq)
			}
		}
		if a.w.bug == SinkInMemory {
			a.buffer = append(a.buffer, m)
		} else {
			a.leaves = append(a.leaves, m)
		}
	}
}

func (a *audit) flush(how int) {
	if how == gently || how%4 == 0 {
		a.leaves, a.buffer = append(a.leaves, a.buffer...), nil
	}
}

// recorded mirrors AuditService.Recorded.
func (a *audit) recorded(origin int) uint64 { return a.origins[origin].seq }

// pull mirrors audit.repair: the holes, and what may be after what is known.
func (a *audit) pull() bool {
	if a.w.bug == NoPull || a.w.setup.NothingLost {
		return false
	}
	found := false
	for origin, o := range a.origins {
		for _, c := range a.w.outboxes[origin].sent {
			for i, e := range c.events {
				m := message{origin, c.first + uint64(i), e}
				if m.seq > o.seq && !o.later[m.seq] {
					found = true
					a.record([]message{m})
				}
			}
		}
	}
	return found
}

func (a *audit) kill() {
	if a.batch != nil || a.buffer != nil {
		a.w.tell("audit dies")
	}
	a.batch, a.done, a.buffer = nil, false, nil
}
