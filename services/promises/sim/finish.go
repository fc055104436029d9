package sim

import (
	"strconv"
	"time"
)

// rest mirrors task.rest.
func (k *worker) rest() {
	switch p := k.plan; {
	case p.Problem != nil:
		k.end()
	case len(p.Steps) > 0:
		k.finish(k.t.quiet, false)
	case !p.Wait.IsZero():
		until := k.w.now.Add(k.delay())
		if p.Wait.Before(until) {
			until = p.Wait
		}
		k.finish(until, false)
	case k.doubt().After(k.w.now):
		k.finish(k.doubt(), false)
	case k.blind:
		k.t.attempts++
		k.finish(k.w.now.Add(k.delay()), false)
	default:
		k.settle()
	}
}

// settle mirrors task.settle.
func (k *worker) settle() {
	k.t.attempts, k.t.urgent, k.t.stuck = 0, false, false
	k.t.settled, k.t.record.Decision, k.t.version = k.t.generation, k.d.Decision, k.d.PersonVersion
	k.finish(k.plan.Again, true)
}

// end mirrors task.end: later, and more and more slowly.
func (k *worker) end() {
	k.t.attempts++
	d := k.delay()
	if k.seen && k.plan.Problem != nil {
		k.t.stuck, d = true, slow
	}
	k.finish(k.w.now.Add(d), false)
}

// delay mirrors task.delay, without jitter.
func (k *worker) delay() time.Duration {
	return min(retryMax, retryMin<<min(max(k.t.attempts-1, 0), 16))
}

// abandon mirrors task.abandon.
func (k *worker) abandon() {
	k.tell("finds something newer about p%d, or its lease lost", k.person)
	if len(k.ops) > 0 {
		k.end()
		return
	}
	k.giveBack(0)
}

// giveBack mirrors store.GiveBack.
func (k *worker) giveBack(after time.Duration) {
	t := k.targets[k.person]
	if k.holds() {
		if !k.left {
			t.holder = 0
		}
		t.until = time.Time{}
		if t.generation <= k.t.generation && k.cuts[k.person].Version <= k.cut.Version {
			t.due = k.w.now.Add(after)
		}
	}
	k.idle()
}

// finish mirrors task.finish and store.Finish: the target's row and the outcomes in one transaction. A newer generation, or
// what somebody made due meanwhile, stays due.
func (k *worker) finish(due time.Time, settled bool) {
	t := k.targets[k.person]
	held := k.holds() || k.w.bug == FenceMissing
	if held {
		newer := t.generation > k.t.generation || !t.due.Equal(k.wasDue)
		after := k.t
		after.epoch, after.holder, after.until, after.due = t.epoch, 0, time.Time{}, due
		if newer {
			after.generation, after.urgent, after.due, after.attempts = max(t.generation, k.t.generation), t.urgent, t.due, 0
		}
		*t = after
	}
	for _, op := range k.ops {
		if !held && k.w.bug != ClosedByOther {
			break // whoever has the target now takes up what is open
		}
		if !op.entry.outcome && k.w.bug != OutcomeForgotten {
			op.entry.outcome = true
			k.log.add(event{kind: outcome, person: k.person, app: k.n, version: op.entry.desired.Generation})
		}
	}
	if settled {
		k.tell("is done with p%d at generation %d", k.person, k.t.generation)
	} else {
		k.tell("leaves p%d for later", k.person)
	}
	k.idle()
}

func (k *worker) idle() {
	*k = worker{application: k.application, i: k.i, life: k.life}
}

func (k *worker) kill() {
	if k.stage != workerIdle {
		k.tell("dies")
	}
	*k = worker{application: k.application, i: k.i, life: k.w.id()}
}

func personName(p int) string { return "p" + strconv.Itoa(p) }
