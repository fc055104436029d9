package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/connector"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/provision/internal/store"
	"github.com/tenurehq/tenure/services/provision/plan"
)

// operation is one committed intent and what the connector said of it.
type operation struct {
	entry   store.Entry
	plan    plan.Plan
	steps   []*connectorv1.Step
	results []*connectorv1.StepResult // nil: nobody heard
	pending bool                      // the application accepted it and has not finished
}

// errSuperseded: the lease was lost, a newer generation was heard of, or the process stops, so nothing may be called any
// more.
var errSuperseded = errors.New("superseded")

// act commits the intent to carry out steps and then makes the calls. Its errors mean that nothing was called: because of a
// *connector.Problem, of errSuperseded, or of a database that does not say whether the intent was written.
func (k *task) act(ctx context.Context, steps []plan.Step) (*operation, error) {
	hurry := k.lane == urgent
	if p := k.app.admit(k.turn, hurry); p != nil { //nolint:contextcheck // a turn is waited for as long as the target is held, a call is not; first, so that not_after is not spent on waiting
		if k.turn.Err() != nil {
			return nil, errSuperseded
		}
		return nil, p
	}
	timing := k.cfg.Timing
	now := k.deps.Now()
	notAfter := now.Add(timing.Request)
	until := now.Add(timing.Lease)
	lasting, cancel := context.WithTimeout(ctx, timing.Request) // not_after by what has passed: the clock may be set back meanwhile
	defer cancel()
	if limit := k.leased.Add(-timing.Skew); notAfter.After(limit) || k.leased.After(until) { // later than any lease: the clock was set back
		ok, err := k.deps.Store.Renew(ctx, k.holder, store.Claimed{Target: k.t, Cut: k.cut}, now, until)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, errSuperseded
		}
		k.leased = until
	}
	op, event, err := k.intent(steps, now, notAfter)
	if err != nil {
		return nil, &connector.Problem{Code: connectorv1.Code_CODE_INVALID, Reason: "tenure.encode"}
	}
	in := &intending{Intent: store.Intent{Entry: op.entry, Cut: k.cut}, event: event}
	if err := k.writes[k.lane].intents.Do(ctx, in); err != nil {
		return nil, err // no call without a committed intent
	}
	if !in.written {
		return nil, errSuperseded
	}
	if k.neverShown(steps) {
		k.deps.Metrics.notSeen(k.cfg.Application, 1)
	}
	k.ops = append(k.ops, op)
	k.call(lasting, op, op.steps)
	k.heard(op)
	return op, nil
}

// intent is the operation, and the event that announces it.
func (k *task) intent(steps []plan.Step, now, notAfter time.Time) (*operation, bus.Event, error) {
	op := &operation{plan: k.plan, steps: stepsOf(steps)}
	op.plan.Steps = steps
	request := &connectorv1.ApplyRequest{
		OperationId: uuid.Must(uuid.NewV7()).String(), Generation: k.d.Generation, Epoch: uint64(k.t.Epoch), //nolint:gosec // a counter
		NotAfter: timestamppb.New(notAfter), Marker: k.plan.Marker, Actor: "service:provision", Steps: op.steps,
	}
	if k.account != nil {
		request.AccountId, request.IfVersion = k.account.GetId(), k.account.GetVersion()
	}
	facts, err := encode(request)
	if err != nil {
		return nil, bus.Event{}, fmt.Errorf("encode an intent: %w", err)
	}
	nonce := newNonce()
	fact := &eventv1.Intent{
		PersonId: k.d.Person, Application: k.cfg.Application, OperationId: request.GetOperationId(),
		Generation: k.d.Generation, Decision: k.d.Decision, PersonVersion: k.d.PersonVersion, ModelSeq: k.desired.GetModelSeq(),
		Epoch: request.GetEpoch(), NotAfter: request.GetNotAfter(), Commitment: commit(tagIntent, nonce, facts),
	}
	for _, s := range steps {
		fact.Ops = append(fact.Ops, eventv1.Op(s.Op)) //nolint:gosec // the numbers are the same
	}
	fact.Release = k.releases(steps)
	event := bus.NewEvent(bus.IntentSubject(k.cfg.Application, k.d.Person), fact, k.causedBy(k.desired.GetEventId()))
	op.entry = k.entry(request.GetOperationId())
	op.entry.NotAfter, op.entry.IntentAt = notAfter, now
	op.entry.Intent, op.entry.IntentNonce, op.entry.IntentEvent = facts, nonce, event.ID
	return op, event, nil
}

// neverShown says that an account is asked for again: the application named one that it had made, and shows none.
func (k *task) neverShown(steps []plan.Step) bool {
	return k.t.Record.Creating && k.t.Record.AccountID != "" &&
		slices.ContainsFunc(steps, func(s plan.Step) bool { return s.Op == plan.Create })
}

// releases are the permissions for those of the steps that take something away.
func (k *task) releases(steps []plan.Step) string {
	var all []string
	for _, s := range steps {
		release := k.d.Release
		if k.d.Permission.Covers(s) {
			release = k.d.Permission.Release
		}
		if s.Op.Destructive() && !slices.Contains(all, release) {
			all = append(all, release)
		}
	}
	return strings.Join(all, " ")
}

// entry is a journal row about what is desired now.
func (k *task) entry(operation string) store.Entry {
	return store.Entry{
		Operation: operation, Person: k.d.Person, Epoch: k.t.Epoch, Wanted: int64(k.d.State), Correlation: k.desired.GetCorrelationId(),
		Generation: int64(k.d.Generation), Decision: int64(k.d.Decision), PersonVersion: int64(k.d.PersonVersion), //nolint:gosec // counters
		ModelSeq: int64(k.desired.GetModelSeq()), //nolint:gosec // a counter
	}
}

func (k *task) causedBy(event string) bus.Cause {
	return bus.Cause{CorrelationID: k.desired.GetCorrelationId(), CausationID: event}
}

// call makes the calls of an operation for these of its steps: as many as the connector's limit of steps needs, and
// one more for what a connector that stops at an error left out although nothing should wait for it.
func (k *task) call(ctx context.Context, op *operation, steps []*connectorv1.Step) {
	request := &connectorv1.ApplyRequest{}
	if proto.Unmarshal(op.entry.Intent, request) != nil {
		return
	}
	if op.results == nil {
		op.results = make([]*connectorv1.StepResult, len(op.steps))
	}
	for len(steps) > 0 {
		n := len(steps)
		if most := k.can.maxSteps; most > 0 {
			n = min(n, most)
		}
		request.Steps = steps[:n]
		results, p := k.app.apply(ctx, request)
		if p != nil { // nobody knows what became of any of them
			for _, s := range steps[:n] {
				op.results[s.GetIndex()] = unknownResult(s, p)
			}
			op.skip(steps[n:])
			return
		}
		attempted := op.take(request, results)
		rest := slices.Concat(op.leftOut(results, request.GetSteps()), steps[n:])
		if op.failed() {
			rest = slices.DeleteFunc(rest, func(s *connectorv1.Step) bool { return !goesOn(s.GetOp()) })
		}
		if !attempted || op.instance(results) || ctx.Err() != nil || !k.deps.Now().Before(op.entry.NotAfter) {
			rest = nil
		}
		request.IfVersion = "" // our own first call changed it
		steps = rest
	}
	op.skip(op.steps)
}

// take keeps the results, and the id of an account that was created. It reports whether anything was attempted.
func (op *operation) take(request *connectorv1.ApplyRequest, results []*connectorv1.StepResult) bool {
	attempted := false
	for i, r := range results {
		s := request.GetSteps()[i]
		op.results[s.GetIndex()] = r
		if r.GetOutcome() != connectorv1.Outcome_OUTCOME_NOT_ATTEMPTED {
			attempted = true
		}
		if s.GetOp() == eventv1.Op_OP_CREATE && request.GetAccountId() == "" {
			request.AccountId = r.GetProducedId()
		}
	}
	return attempted
}

// leftOut are steps that take away and were not attempted because of another one.
func (op *operation) leftOut(results []*connectorv1.StepResult, steps []*connectorv1.Step) []*connectorv1.Step {
	var left []*connectorv1.Step
	for i, r := range results {
		if r.GetOutcome() == connectorv1.Outcome_OUTCOME_NOT_ATTEMPTED && goesOn(steps[i].GetOp()) &&
			r.GetProblem().GetReason() != connector.ReasonNotAfter {
			left = append(left, steps[i])
		}
	}
	return left
}

// goesOn says that a step is carried out although an earlier one was not. DELETE is not: it would take away the handle
// on what is still to do.
func goesOn(op eventv1.Op) bool {
	return plan.Op(op).Destructive() && op != eventv1.Op_OP_DELETE
}

func (op *operation) failed() bool {
	return slices.ContainsFunc(op.results, func(r *connectorv1.StepResult) bool {
		switch r.GetOutcome() {
		case connectorv1.Outcome_OUTCOME_FAILED, connectorv1.Outcome_OUTCOME_UNKNOWN, connectorv1.Outcome_OUTCOME_PENDING:
			return true
		default:
			return false
		}
	})
}

func (op *operation) instance(results []*connectorv1.StepResult) bool {
	return slices.ContainsFunc(results, func(r *connectorv1.StepResult) bool {
		return r.GetProblem().GetScope() == connectorv1.Scope_SCOPE_INSTANCE
	})
}

// skip says of the steps that have no result that they were not attempted.
func (op *operation) skip(steps []*connectorv1.Step) {
	for _, s := range steps {
		if op.results[s.GetIndex()] == nil {
			op.results[s.GetIndex()] = &connectorv1.StepResult{
				Index: s.GetIndex(), Outcome: connectorv1.Outcome_OUTCOME_NOT_ATTEMPTED, Remaining: -1,
				Problem: &connectorv1.Problem{Reason: connector.ReasonEarlierStep},
			}
		}
	}
}

// heard draws the consequences of what the connector said of an operation.
func (k *task) heard(op *operation) {
	results := make([]plan.Result, len(op.steps))
	for i := range op.steps {
		if op.results != nil {
			results[i] = plan.Result(op.results[i].GetOutcome())
		}
		r := results[i]
		if r == plan.Pending {
			op.pending = true
		}
		if r == plan.Unknown || r == plan.NoResult {
			until := op.entry.NotAfter.Add(k.cfg.Timing.Skew)
			if plan.Op(op.steps[i].GetOp()).Destructive() {
				k.t.TakingUntil = later(k.t.TakingUntil, until)
			} else {
				k.t.QuietUntil = later(k.t.QuietUntil, until)
			}
		}
		if id := op.results; id != nil && op.steps[i].GetOp() == eventv1.Op_OP_CREATE {
			k.hint = op.results[i].GetProblem().GetExistingAccountId()
			if r == plan.Changed || r == plan.Unchanged {
				k.t.Record.AccountID = op.results[i].GetProducedId()
			}
		}
	}
	d := plan.Desired{
		Person: op.entry.Person, State: plan.State(op.entry.Wanted),
		Generation: uint64(op.entry.Generation), PersonVersion: uint64(op.entry.PersonVersion), //nolint:gosec // counters
	}
	// The same version of a person who has not left now had not left then.
	now := desiredOf(k.desired)
	d.Stays = now.Stays && now.PersonVersion == d.PersonVersion
	k.t.Record = k.t.Record.Advance(d, op.plan, results, op.entry.IntentAt)
	if op.pending {
		k.t.Pending = op.entry.Operation
		k.t.QuietUntil = later(k.t.QuietUntil, k.deps.Now().Add(k.cfg.Timing.PollEvery))
	}
}

// cause is the first thing that kept a step of the operation from being done; nil: nothing did.
func (op *operation) cause() *connector.Problem {
	for _, r := range op.results {
		switch r.GetOutcome() {
		case connectorv1.Outcome_OUTCOME_FAILED, connectorv1.Outcome_OUTCOME_UNKNOWN:
			if p := problemOf(r.GetProblem()); p != nil {
				return p
			}
			return &connector.Problem{Code: connectorv1.Code_CODE_OUTCOME_UNKNOWN, Reason: reasonMissing}
		default:
		}
	}
	return nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// takeUp loads the intents that an earlier holder left without an outcome, and takes them for having happened.
func (k *task) takeUp(ctx context.Context) error {
	entries, err := k.deps.Store.OpenIntents(ctx, []string{k.t.Person})
	if err != nil {
		return err
	}
	for _, e := range entries {
		request, response := &connectorv1.ApplyRequest{}, &connectorv1.ApplyResponse{}
		if err := proto.Unmarshal(e.Intent, request); err != nil {
			return fmt.Errorf("intent %s: %w", e.Operation, err)
		}
		if err := proto.Unmarshal(e.Results, response); err != nil {
			return fmt.Errorf("results of %s: %w", e.Operation, err)
		}
		op := &operation{entry: e, steps: request.GetSteps(), plan: planOf(request.GetSteps())}
		if len(response.GetResults()) > 0 {
			op.results = matched(op.steps, response.GetResults())
			op.pending = e.Operation == k.t.Pending
		}
		k.ops = append(k.ops, op)
		if !op.pending {
			k.heard(op)
		}
	}
	return nil
}

// poll asks after an operation that the application accepted.
func (k *task) poll(ctx context.Context) {
	pending := k.t.Pending
	k.t.Pending = ""
	i := slices.IndexFunc(k.ops, func(op *operation) bool { return op.pending && op.entry.Operation == pending })
	if i < 0 {
		return
	}
	op := k.ops[i]
	op.pending = false
	var asked []*connectorv1.Step
	for j, r := range op.results {
		if r.GetOutcome() == connectorv1.Outcome_OUTCOME_PENDING {
			s := proto.CloneOf(op.steps[j])
			s.PollToken = r.GetPollToken()
			asked = append(asked, s)
		}
	}
	if k.deps.Now().Sub(op.entry.IntentAt) > k.cfg.Timing.Pending {
		for _, s := range asked { // long enough: reading decides
			op.results[s.GetIndex()] = unknownResult(s, &connector.Problem{Code: connectorv1.Code_CODE_OUTCOME_UNKNOWN, Reason: "tenure.pending_too_long"})
		}
		k.heard(op)
		return
	}
	request := &connectorv1.ApplyRequest{}
	if proto.Unmarshal(op.entry.Intent, request) != nil {
		return
	}
	if p := k.app.admit(k.turn, k.lane == urgent); p == nil { //nolint:contextcheck // a turn is waited for as long as the target is held, a call is not
		request.Steps, request.NotAfter = asked, timestamppb.New(k.deps.Now().Add(k.cfg.Timing.Request))
		request.AccountId, request.IfVersion = op.account(request.GetAccountId()), ""
		if results, p := k.app.apply(ctx, request); p == nil {
			op.take(request, results)
		}
	}
	k.heard(op)
}

// account is the one that an operation is about: named in the request, or made by it.
func (op *operation) account(named string) string {
	for i, s := range op.steps {
		if named == "" && s.GetOp() == eventv1.Op_OP_CREATE {
			return op.results[i].GetProducedId()
		}
	}
	return named
}
