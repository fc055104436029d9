// Package worker brings one application to what is desired, and proves that it did.
//
// A message only marks a target due. The worker claims due targets under a lease, asks policy for what is desired now,
// reads the application, plans, commits its intent, makes the calls, reads the application again and commits the
// outcome. Nothing that it is told by an application is believed before it was read back; no call is repeated without
// a fresh read; what cannot be done is tried again, more and more slowly, and is never dropped.
package worker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/connector"
	"github.com/tenurehq/tenure/pkg/outbox"
	"github.com/tenurehq/tenure/pkg/run"
	"github.com/tenurehq/tenure/pkg/telemetry"
	"github.com/tenurehq/tenure/pkg/urgency"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/provision/internal/store"
	"github.com/tenurehq/tenure/services/provision/plan"
)

// Config is what an operator says about one application.
type Config struct {
	Application string
	Correlate   string // attribute whose value is the correlation key; empty: none
	Settings    plan.Settings
	Concurrency int // targets worked on at a time
	PerMinute   int // calls; 0: no limit but the connector's
	Timing      Timing
}

// Timing are the worker's clocks. Every one of them must be set.
type Timing struct {
	Request   time.Duration // one call; also how far not_after lies ahead
	Skew      time.Duration // how far the clocks of worker and connector may differ
	Lease     time.Duration // of a claimed target: longer than Request and Skew
	Poll      time.Duration // how often to look for due targets that nobody announced
	Repair    time.Duration // how often to compare generations with policy
	Inspect   time.Duration // how often an application that works is asked whether it is well
	Again     time.Duration // after which what is settled is read again
	RetryMin  time.Duration // before the second attempt
	RetryMax  time.Duration // between attempts
	Slow      time.Duration // between attempts at what is stuck
	Attempts  int           // after which a target is stuck
	Escalate  time.Duration // after which urgent work that nobody could do is stuck, too
	Pending   time.Duration // how long an operation that the application accepted is asked after
	PollEvery time.Duration // how often
}

// Deps are the worker's collaborators.
type Deps struct {
	Store     *store.Store
	Outbox    *outbox.Outbox
	Bus       *bus.Bus
	Access    accessv1.AccessServiceClient
	People    peoplev1.PeopleServiceClient // for cuts
	Connector connectorv1.ConnectorClient
	Metrics   *Metrics
	Log       *zap.Logger
	Now       func() time.Time
	Sole      bool // no other process that works for this application is alive
}

// Worker is the worker of one application. Safe for concurrent use.
type Worker struct {
	cfg    Config
	deps   Deps
	app    *application
	slots  *slots
	holder string
	log    *zap.Logger

	lines     []*line
	writes    map[store.Lane]writes
	repairNow chan struct{}
	cutsNow   chan struct{}

	mu   sync.Mutex
	took time.Duration // what one target takes, lately
}

// New returns the worker of one application. It makes no call.
func New(cfg Config, deps Deps) *Worker {
	log := deps.Log.With(zap.String(telemetry.FieldApplication, cfg.Application))
	slots := newSlots(cfg.Concurrency)
	w := &Worker{
		cfg: cfg, deps: deps, log: log,
		slots: slots, holder: uuid.NewString(),
		lines:     []*line{newLine(urgent, true), newLine(urgent, false), newLine(normal, false)},
		repairNow: make(chan struct{}, 1), cutsNow: make(chan struct{}, 1),
		app: &application{
			name: cfg.Application, client: deps.Connector, timeout: cfg.Timing.Request,
			pacer: newPacer(cfg.PerMinute), slots: slots, breaker: newBreaker(), metrics: deps.Metrics, log: log, now: deps.Now,
			entitlements: map[string]entitlement{},
		},
	}
	w.writes = map[store.Lane]writes{urgent: w.writesOf(urgent), normal: w.writesOf(normal)}
	deps.Metrics.notSeen(cfg.Application, 0)
	deps.Bus.OnNewStream(func() {
		wake(w.repairNow)
		wake(w.cutsNow)
	})
	return w
}

// Run works until ctx ends and what was taken is finished.
func (w *Worker) Run(ctx context.Context) error {
	consumer := func(name string, handle bus.Handler, subjects ...string) run.Task {
		return w.deps.Bus.Consumer(bus.ConsumerConfig{
			Name: "provision-" + w.cfg.Application + "-" + name, Subjects: subjects, Park: w.deps.Outbox,
		}, handle)
	}
	const lane = eventv1.Lane_LANE_URGENT
	if w.deps.Sole {
		w.free(ctx)
	}
	tasks := []run.Task{
		consumer("urgent", w.onUrgent, bus.AccessSubject(lane, w.cfg.Application, ""),
			bus.LifecycleSubject(lane, eventv1.LifecycleKind_LIFECYCLE_KIND_CUT, ""), bus.LifecycleSubject(lane, eventv1.LifecycleKind_LIFECYCLE_KIND_LIFT, "")),
		consumer("normal", w.onNormal, bus.AccessSubject(eventv1.Lane_LANE_NORMAL, w.cfg.Application, "")),
		func(ctx context.Context) error { return w.app.guard(ctx, w.back) },
		func(ctx context.Context) error { return w.app.inspect(ctx, w.cfg.Timing.Inspect) },
		w.repair,
		w.repairCuts,
		w.watch,
		w.setBack,
		w.deps.Outbox.Relay,
	}
	for _, l := range w.lines {
		tasks = append(tasks, func(ctx context.Context) error { return w.feed(ctx, l) })
	}
	return run.All(ctx, tasks...)
}

// free ends the leases of this process's former lives, so that nobody waits for the dead. If that fails they end by
// themselves.
func (w *Worker) free(ctx context.Context) {
	var freed int64
	err := w.deps.Store.InTx(ctx, func(tx store.Tx) (err error) {
		freed, err = tx.Free(ctx, w.deps.Now(), w.cfg.Timing.Skew)
		return err
	})
	switch {
	case err != nil && ctx.Err() == nil:
		w.log.Warn("leases of a process that died not freed", zap.Error(err))
	case freed > 0:
		w.log.Info("leases of a process that died are over", zap.Int64("targets", freed))
	}
}

// Lanes as the store counts them.
const (
	urgent = store.Lane(eventv1.Lane_LANE_URGENT)
	normal = store.Lane(eventv1.Lane_LANE_NORMAL)
)

func laneOf(lane eventv1.Lane) store.Lane {
	if lane == eventv1.Lane_LANE_URGENT {
		return urgent
	}
	return normal // what has no lane is in no hurry
}

func protoLane(lane store.Lane) eventv1.Lane {
	if lane == urgent {
		return eventv1.Lane_LANE_URGENT
	}
	return eventv1.Lane_LANE_NORMAL
}

// wake tells a loop that there is something to do; it never blocks.
func wake(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// ring tells all lines that there may be something to do.
func (w *Worker) ring() {
	for _, l := range w.lines {
		wake(l.bell)
	}
}

// together is how many normal events are marked in one transaction: an urgent one waits for its end.
const together = 64

// onNormal handles what is not urgent.
func (w *Worker) onNormal(ctx context.Context, batch []bus.Event) error {
	for some := range slices.Chunk(batch, together) {
		urgency.GiveWay(ctx)
		if err := w.onAccess(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

// onAccess marks the targets of a batch due. Of several generations of one person the greatest counts.
func (w *Worker) onAccess(ctx context.Context, batch []bus.Event) error {
	greatest := map[string]store.Mark{}
	for _, e := range batch {
		message, err := e.Decode()
		if err != nil {
			return err
		}
		fact, ok := message.(*eventv1.Access)
		if !ok || fact.GetApplication() != w.cfg.Application || fact.GetGeneration() == 0 || fact.GetPersonId() == "" {
			return bus.Permanent(fmt.Errorf("not an access fact of application %s", w.cfg.Application))
		}
		m := store.Mark{Person: fact.GetPersonId(), Generation: int64(fact.GetGeneration()), Lane: laneOfSubject(e.Subject, w.cfg.Application)} //nolint:gosec // a counter
		if m.Generation > greatest[m.Person].Generation {
			greatest[m.Person] = m
		}
	}
	return w.mark(ctx, greatest)
}

// laneOfSubject is the lane that an event travelled in.
func laneOfSubject(subject, app string) store.Lane {
	prefix := bus.AccessSubject(eventv1.Lane_LANE_URGENT, app, "")
	prefix = prefix[:len(prefix)-1] // without the wildcard
	if len(subject) > len(prefix) && subject[:len(prefix)] == prefix {
		return urgent
	}
	return normal
}

func (w *Worker) mark(ctx context.Context, marks map[string]store.Mark) error {
	byLane := map[store.Lane][]store.Mark{}
	for _, m := range marks {
		byLane[m.Lane] = append(byLane[m.Lane], m)
	}
	for _, l := range w.lines {
		if list := byLane[l.lane]; !l.cut && len(list) > 0 { // who is cut has nothing to wait for: their line looks by itself now and then
			if err := w.markIn(ctx, l, list); err != nil {
				return err
			}
		}
	}
	return nil
}

// markIn marks targets of one line due. When its feed waits it gets them at once, as many as it can work on soon.
func (w *Worker) markIn(ctx context.Context, l *line, marks []store.Mark) error {
	// In one order everywhere: no two transactions wait for each other.
	slices.SortFunc(marks, func(a, b store.Mark) int { return strings.Compare(a.Person, b.Person) })
	var taken claimed
	rest := marks
	hand := l.hand()
	err := w.deps.Store.InTx(ctx, func(tx store.Tx) (err error) {
		now := w.deps.Now()
		taken, rest = claimed{at: now}, marks
		if hand != nil {
			taken.targets, rest, err = tx.MarkAndClaim(ctx, marks, w.claim(l, now))
		}
		if err == nil && len(rest) > 0 {
			_, err = tx.MarkDue(ctx, rest, now)
		}
		return err
	})
	if hand != nil {
		if err != nil {
			taken = claimed{} // if they are claimed all the same their leases end by themselves
		}
		hand <- taken
	}
	if err == nil && len(rest) > 0 {
		wake(l.bell)
	}
	return err
}

// Retry makes a target due at once and says who wanted it. It reports whether there is such a target.
func (w *Worker) Retry(ctx context.Context, person, actor string) (bool, error) {
	event := bus.NewEvent(bus.OperatorSubject("retry"), &eventv1.OperatorAction{Actor: actor, Action: "retry", Object: person}, bus.Cause{})
	found := false
	err := w.deps.Store.InTx(ctx, func(tx store.Tx) (err error) {
		if found, err = tx.Retry(ctx, person, w.deps.Now()); err != nil || !found {
			return err
		}
		return w.deps.Outbox.Add(ctx, tx.Tx, eventv1.Lane_LANE_NORMAL, event)
	})
	w.ring()
	return found, err
}

// Store returns what the worker knows.
func (w *Worker) Store() *store.Store { return w.deps.Store }

// Health says in a word how the application is, and why.
func (w *Worker) Health() (health, detail string) { return w.app.health() }

// Describe asks the connector what it can do.
func (w *Worker) Describe(ctx context.Context) *connectorv1.DescribeResponse {
	d, p := w.app.describe(ctx)
	if p != nil {
		return nil
	}
	return d.response
}

// Check asks the application whether it works, and whether the credential for it ends soon. It is made for an operator who
// looks, so it does not wait for the pace.
func (w *Worker) Check(ctx context.Context) *connectorv1.CheckResponse {
	response, p := w.app.check(ctx)
	if response == nil {
		response = &connectorv1.CheckResponse{}
		if p != nil {
			response.Problems = append(response.Problems, problemProto(p))
		}
	}
	if p = w.app.expiring(w.deps.Now()); p != nil {
		response.Problems = append(response.Problems, problemProto(p))
	}
	return response
}

func problemProto(p *connector.Problem) *connectorv1.Problem {
	return &connectorv1.Problem{Code: p.Code, Reason: p.Reason, Message: p.Message, Scope: p.Scope}
}
