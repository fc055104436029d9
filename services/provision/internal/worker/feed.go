package worker

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/telemetry"
	"github.com/tenurehq/tenure/pkg/urgency"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	"github.com/tenurehq/tenure/services/provision/internal/store"
)

const (
	ahead     = time.Second     // how much work is claimed ahead of what is under way
	mostAhead = 64              // targets in one claim
	fresh     = 2 * time.Second // how old an answer of policy may be when work on a target begins
	pauseMin  = 250 * time.Millisecond
	pauseMax  = 10 * time.Second
)

// feed claims the due targets of one line, a batch at a time, and has them worked on. It returns when ctx has ended and
// what was begun is finished.
func (w *Worker) feed(ctx context.Context, l *line) error {
	var begun sync.WaitGroup
	defer begun.Wait()
	pause := pauseMin
	for ctx.Err() == nil {
		if !w.ready(ctx) {
			return nil
		}
		if l.lane != urgent {
			urgency.GiveWay(ctx)
		}
		taken, err := w.next(ctx, l)
		var desired map[string]*accessv1.Desired
		if err == nil && len(taken.targets) > 0 {
			desired, err = w.desired(ctx, taken.targets)
		}
		if err != nil {
			if ctx.Err() == nil {
				w.log.Warn("cannot work on due targets", zap.Int64(telemetry.FieldLane, int64(l.lane)), zap.Error(err))
			}
			var cut []store.Claimed
			cut, taken.targets = byCut(taken.targets)
			w.giveBack(ctx, taken.targets, pause)
			w.begin(ctx, l, claimed{cut, taken.at}, nil, &begun)
			l.lookAt = time.Time{}
			if sleep(ctx, pause) != nil {
				return nil
			}
			pause = min(2*pause, pauseMax)
			continue
		}
		pause = pauseMin
		w.begin(ctx, l, taken, desired, &begun)
	}
	return nil
}

// next claims targets that are due. Where there were none lately it waits for some, and returns what was claimed for it, if anything.
func (w *Worker) next(ctx context.Context, l *line) (claimed, error) {
	if time.Now().Before(l.lookAt) {
		taken := l.wait(ctx)
		if len(taken.targets) == 0 {
			l.lookAt = time.Time{}
		}
		return taken, nil
	}
	taken := claimed{at: w.deps.Now()}
	var err error
	if taken.targets, err = w.deps.Store.Claim(ctx, w.claim(l, taken.at)); err == nil && len(taken.targets) == 0 {
		l.lookAt = time.Now().Add(w.cfg.Timing.Poll)
	}
	return taken, err
}

// ready waits until the application may be called, and knows what it can do; false: ctx has ended.
func (w *Worker) ready(ctx context.Context) bool {
	for {
		if w.app.breaker.waitFor(ctx, false) != nil {
			return false
		}
		if pause, _ := w.app.pacer.pause(); pause > 0 {
			if sleep(ctx, pause) != nil {
				return false
			}
			continue
		}
		d, p := w.app.describe(ctx)
		if p == nil {
			w.limit(d)
			return ctx.Err() == nil
		}
		if w.app.breaker.open() == nil { // not the breaker's kind of problem, which it would have told
			w.log.Warn("connector does not describe itself", zap.String("code", CodeName(p.Code)))
		}
		if sleep(ctx, pauseMax) != nil {
			return false
		}
	}
}

// limit applies what the connector says of itself, where it is stricter.
func (w *Worker) limit(d *described) {
	limits := d.response.GetLimits()
	size := w.cfg.Concurrency
	if most := int(limits.GetMaxConcurrency()); most > 0 {
		size = min(size, most)
	}
	if limits.GetSerializeByEntitlement() {
		size = 1 // two writers of one whole list lose each other's members
	}
	if size != w.slots.count() {
		w.slots.resize(size)
	}
	w.app.pacer.lower(int(limits.GetMaxPerMinute()))
}

// claim is for as many targets as are likely to be worked on soon: a target that waits under its lease is one that no
// other worker takes.
func (w *Worker) claim(l *line, now time.Time) store.Claim {
	return store.Claim{
		Lane: l.lane, Cut: l.cut, Limit: w.soon(), Holder: w.holder, Now: now, Until: now.Add(w.cfg.Timing.Lease), Settings: w.cfg.applied(),
	}
}

// byCut parts targets: of people who are cut, and of others.
func byCut(targets []store.Claimed) (cut, others []store.Claimed) {
	for _, t := range targets {
		if t.Cut.Stands {
			cut = append(cut, t)
		} else {
			others = append(others, t)
		}
	}
	return cut, others
}

func (w *Worker) soon() int {
	w.mu.Lock()
	took := w.took
	w.mu.Unlock()
	n := w.slots.count()
	if took <= 0 {
		return n
	}
	return min(max(1, int(float64(n)*float64(ahead)/float64(took))), mostAhead)
}

// lasted remembers how long targets take, the last ones counting most.
func (w *Worker) lasted(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.took == 0 {
		w.took = d
		return
	}
	w.took += (d - w.took) / 8
}

// desired asks policy, in one call, what is desired now, of those for whom that matters.
func (w *Worker) desired(ctx context.Context, taken []store.Claimed) (map[string]*accessv1.Desired, error) {
	var people []string
	for _, t := range taken {
		if waitsForPolicy(t) {
			people = append(people, t.Person)
		}
	}
	if len(people) == 0 {
		return nil, nil
	}
	if cut, _ := byCut(taken); len(cut) > 0 {
		patient, cancel := context.WithTimeout(ctx, cutPatience)
		defer cancel()
		ctx = patient
	}
	return w.ask(ctx, people)
}

func (w *Worker) ask(ctx context.Context, people []string) (map[string]*accessv1.Desired, error) {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timing.Request)
	defer cancel()
	response, err := w.deps.Access.GetDesired(ctx, &accessv1.GetDesiredRequest{Application: w.cfg.Application, PersonIds: people})
	if err != nil {
		return nil, err
	}
	desired := make(map[string]*accessv1.Desired, len(people))
	for _, d := range response.GetDesired() {
		desired[d.GetPersonId()] = d
	}
	return desired, nil
}

// begin starts the work on each target as a slot becomes free. What was not begun when ctx ends, or when the
// application stops working, is given back.
func (w *Worker) begin(ctx context.Context, l *line, taken claimed, desired map[string]*accessv1.Desired, begun *sync.WaitGroup) {
	hurry := l.lane == urgent
	for i, t := range taken.targets {
		if w.app.breaker.open() != nil || w.slots.take(ctx, hurry) != nil {
			w.giveBack(ctx, taken.targets[i:], 0)
			l.lookAt = time.Time{}
			return
		}
		d := desired[t.Person]
		begun.Go(func() {
			defer w.slots.giveBack(hurry)
			start := time.Now()
			// What was taken is finished, also when the process is told to stop.
			w.work(context.WithoutCancel(ctx), t, d, taken.at, ctx.Done())
			w.lasted(time.Since(start))
		})
	}
}

// giveBack ends the leases of targets that were not begun. If that fails the leases end by themselves.
func (w *Worker) giveBack(ctx context.Context, targets []store.Claimed, after time.Duration) {
	if len(targets) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.cfg.Timing.Request)
	defer cancel()
	if err := w.deps.Store.GiveBack(ctx, w.holder, targets, w.deps.Now().Add(after)); err != nil {
		w.log.Warn("leases not given back", zap.Int("targets", len(targets)), zap.Error(err))
	}
}
