package worker

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/connector"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/provision/internal/store"
	"github.com/tenurehq/tenure/services/provision/plan"
)

// settle ends the work: the last read shows all that may be done to be done.
func (k *task) settle(ctx context.Context) {
	t := &k.t
	t.State, t.DueAt, t.Attempts = store.Settled, k.plan.Again, 0
	if k.cfg.Settings.Enforce == plan.Observe {
		t.State = store.Observing
	}
	t.Problem, t.Reason, t.Detail, t.Removal, t.StuckSince = "", "", "", false, time.Time{}
	t.Lane = normal // what falls due by itself later is in no hurry
	isNew := t.SettledGeneration < t.Generation
	t.SettledGeneration = t.Generation
	t.Record.Decision = k.d.Decision
	t.PersonVersion, t.ModelSeq = int64(k.d.PersonVersion), int64(k.desired.GetModelSeq()) //nolint:gosec // counters
	if isNew && len(k.ops) == 0 {
		// Nothing had to be called; that it was seen to be so is a fact all the same, once for each generation.
		k.ops = append(k.ops, &operation{entry: k.entry(uuid.Must(uuid.NewV7()).String())})
	}
	k.finish(ctx, func(t *store.Target, was store.Stuckness) []bus.Event {
		if was.Since.IsZero() {
			return nil
		}
		return []bus.Event{k.finding(t.Person, t.Generation, eventv1.FindingKind_FINDING_KIND_UNSTUCK, was.Problem, was.Removal, k.causedBy(k.desired.GetEventId()))}
	})
}

// wait ends the work until a time: it cannot be known, or nothing may be done, before.
func (k *task) wait(ctx context.Context, until time.Time) {
	k.waitFor(ctx, until, connectorv1.Code_CODE_OUTCOME_UNKNOWN, reasonLostReply)
}

func (k *task) waitFor(ctx context.Context, until time.Time, code connectorv1.Code, reason string) {
	k.t.DueAt = until
	k.t.Problem, k.t.Reason, k.t.Detail = CodeName(code), reason, ""
	k.finish(ctx, func(t *store.Target, was store.Stuckness) []bus.Event {
		t.State, t.StuckSince, t.Removal = store.Retrying, was.Since, was.Removal
		if !was.Since.IsZero() {
			t.State = store.Stuck
		}
		return nil
	})
}

// end ends the work with what is in the way: the target will be tried again, soon, or slowly once a person has to help.
func (k *task) end(ctx context.Context, p *connector.Problem) {
	now, removal, stuck := k.deps.Now(), k.removal(), false
	k.t.Problem, k.t.Reason, k.t.Detail = CodeName(p.Code), p.Reason, detailOf(p)
	how, late := manner(p), k.mayBeOurs(p)
	if late {
		how = soon
	}
	switch how {
	case untilItMayBe: // not an attempt: the application did not get to try
		k.t.DueAt = now.Add(jitter(max(p.RetryAfter, k.cfg.Timing.RetryMin)))
	case soon:
		k.t.Attempts++
		k.t.DueAt = now.Add(max(p.RetryAfter, k.delay()))
		stuck = k.t.Attempts >= int64(k.cfg.Timing.Attempts)
	case slowly:
		k.t.Attempts++
		stuck = true
	}
	if stuck {
		slow := k.cfg.Timing.Slow
		if late || // nobody says when a search shows what is there
			p.Reason == plan.ReasonNoRelease || // what two people released is to be done soon
			p.Reason == reasonNoEffect { // nobody says when an application that only says yes is well again: it looked well all the time
			slow = min(slow, k.cfg.Timing.Repair*4/5) // with the jitter not longer than Repair
		}
		k.t.DueAt = now.Add(max(p.RetryAfter, jitter(slow)))
	}
	k.finish(ctx, func(t *store.Target, was store.Stuckness) []bus.Event {
		t.State, t.StuckSince, t.Removal = store.Retrying, was.Since, false
		if !stuck && was.Since.IsZero() {
			return nil
		}
		t.State, t.Removal = store.Stuck, removal
		if was.Since.IsZero() {
			t.StuckSince = now
		}
		if !was.Since.IsZero() && (was.Removal || !removal) {
			return nil // somebody was told
		}
		return []bus.Event{k.finding(t.Person, t.Generation, eventv1.FindingKind_FINDING_KIND_STUCK, t.Problem, removal, k.causedBy(k.desired.GetEventId()))}
	})
}

// mayBeOurs says that the account in the way may be the one that was asked for before: the application has it, and no search shows it
// yet. What a search shows is in the plan.
func (k *task) mayBeOurs(p *connector.Problem) bool {
	return p.Code == connectorv1.Code_CODE_ALREADY_EXISTS && k.t.Record.Creating && k.plan.Problem == nil
}

// detailOf is what the application said, and which account it said to be in the way.
func detailOf(p *connector.Problem) string {
	if p.Existing == "" {
		return p.Message
	}
	return strings.TrimPrefix(p.Message+"; account "+text(string(p.Existing))+" is in the way", "; ")
}

// removal says that access which should be gone is not, or may not be.
func (k *task) removal() bool {
	if k.desired == nil {
		return false
	}
	if k.behind { // what is desired is not known: what hurries is taken for a removal
		return k.lane == urgent
	}
	if k.readAt.IsZero() { // not seen: a leaver counts as not gone
		return k.d.State != plan.Enabled
	}
	return k.plan.Removal()
}

// How a target is tried again.
type retryManner int

const (
	untilItMayBe retryManner = iota + 1
	soon
	slowly
)

// manner is what a problem means for trying again (the contract is the table).
func manner(p *connector.Problem) retryManner {
	if p.Code == connectorv1.Code_CODE_RATE_LIMITED || p.Scope == connectorv1.Scope_SCOPE_INSTANCE {
		return untilItMayBe // the breaker or the pacer has it, for all targets at once
	}
	switch p.Code {
	case connectorv1.Code_CODE_TARGET_UNAVAILABLE, connectorv1.Code_CODE_OUTCOME_UNKNOWN, connectorv1.Code_CODE_CONFLICT,
		connectorv1.Code_CODE_INCONSISTENT, connectorv1.Code_CODE_CURSOR_EXPIRED:
		return soon
	case connectorv1.Code_CODE_NOT_FOUND:
		if p.Reason == connector.ReasonNoAccount {
			return soon
		}
	default:
	}
	return slowly
}

// delay grows with the attempts, with jitter.
func (k *task) delay() time.Duration {
	b := backoff.ExponentialBackOff{
		InitialInterval: k.cfg.Timing.RetryMin, MaxInterval: k.cfg.Timing.RetryMax, Multiplier: 2, RandomizationFactor: 0.3,
	}
	var d time.Duration
	for range min(max(k.t.Attempts, 1), 32) {
		d = b.NextBackOff()
	}
	return d
}

// jitter keeps what failed together from being tried together; it never shortens.
func jitter(d time.Duration) time.Duration {
	return d + rand.N(d/5+1) //nolint:gosec // spreads attempts, guards nothing
}

func encodeResults(results []*connectorv1.StepResult) []byte {
	b, err := encode(&connectorv1.ApplyResponse{Results: results})
	if err != nil { // only a text that is not UTF-8, which cannot have come over the wire
		return nil
	}
	return b
}

// conclude is the outcome of an operation as the last read shows it.
func (k *task) conclude(op *operation) (store.Entry, bus.Event) {
	e := op.entry
	fact := &eventv1.Outcome{
		PersonId: k.t.Person, Application: k.cfg.Application, OperationId: e.Operation, Generation: uint64(e.Generation), //nolint:gosec // a counter
		Steps: k.stepOutcomes(op),
	}
	fact.State = k.outcomeState(op, fact.GetSteps())
	e.Results, e.State, e.OutcomeNonce, e.OutcomeAt = encodeResults(op.results), int64(fact.GetState()), newNonce(), k.deps.Now()
	if !k.readAt.IsZero() {
		fact.ReadBackAt = timestamppb.New(k.readAt)
		fact.Observed = eventv1.AccessState(k.shows()) //nolint:gosec // the numbers are the same
		e.Observed = k.observed()
	}
	fact.Commitment = commit(tagOutcome, e.OutcomeNonce, e.Observed)
	cause := e.IntentEvent
	if cause == "" {
		cause = k.desired.GetEventId()
	}
	event := bus.NewEvent(bus.OutcomeSubject(k.cfg.Application, k.t.Person), fact, bus.Cause{CorrelationID: e.Correlation, CausationID: cause})
	e.OutcomeEvent = event.ID
	if e.IntentAt.IsZero() {
		e.IntentAt = e.OutcomeAt
	}
	return e, event
}

// shows is what the last read amounts to. An account that we may not touch is not nothing.
func (k *task) shows() plan.State {
	if k.plan.Account == nil && k.plan.Problem != nil {
		return plan.StateUnknown
	}
	return plan.Shows(k.plan.Account)
}

// stepOutcomes judges each step by the connector's word and by what was read after it, and adds what the application
// cannot do.
func (k *task) stepOutcomes(op *operation) []*eventv1.StepOutcome {
	var out []*eventv1.StepOutcome
	for i, s := range op.plan.Steps {
		verdict := plan.CannotTell
		if !k.readAt.IsZero() {
			verdict = plan.Seen(s, k.plan.Account, k.can.can)
		}
		o := &eventv1.StepOutcome{Op: eventv1.Op(s.Op)} //nolint:gosec // the numbers are the same
		var r *connectorv1.StepResult
		if op.results != nil {
			r = op.results[i]
		}
		o.State, o.Problem = stepState(s, r, verdict)
		o.Changed = o.GetState() == eventv1.OutcomeState_OUTCOME_STATE_DONE && changed(r)
		out = append(out, o)
	}
	for _, n := range k.plan.Notes {
		if n.Why == plan.Unsupported && n.Op != plan.NoOp {
			out = append(out, &eventv1.StepOutcome{
				Op: eventv1.Op(n.Op), State: eventv1.OutcomeState_OUTCOME_STATE_NOT_DONE, //nolint:gosec // the numbers are the same
				Problem: CodeName(connectorv1.Code_CODE_UNSUPPORTED),
			})
		}
	}
	return out
}

// unseen is how many steps of an operation were called done and are seen not to be so. A new account may show itself later, and
// is counted when it is asked for again.
func (k *task) unseen(op *operation) int {
	if k.readAt.IsZero() || op.results == nil || !k.plan.Wait.IsZero() || op.entry.Generation != k.t.Generation {
		return 0 // not read, not heard, not to be expected yet, or overruled since
	}
	n := 0
	for i, s := range op.plan.Steps {
		if calledDone(op.results[i]) && plan.Seen(s, k.plan.Account, k.can.can) == plan.NotDone {
			n++
		}
	}
	return n
}

func calledDone(r *connectorv1.StepResult) bool {
	return r.GetOutcome() == connectorv1.Outcome_OUTCOME_CHANGED || r.GetOutcome() == connectorv1.Outcome_OUTCOME_UNCHANGED
}

// changed says that a step that was done had effect: it was called so, or nobody knows and it is so now.
func changed(r *connectorv1.StepResult) bool {
	switch r.GetOutcome() {
	case connectorv1.Outcome_OUTCOME_UNCHANGED, connectorv1.Outcome_OUTCOME_FAILED, connectorv1.Outcome_OUTCOME_NOT_ATTEMPTED:
		return false
	default:
		return true
	}
}

// stepState: done is what was seen to be so; what was called done and is seen not to be so is a lie.
func stepState(s plan.Step, r *connectorv1.StepResult, verdict plan.Verdict) (eventv1.OutcomeState, string) {
	const (
		done    = eventv1.OutcomeState_OUTCOME_STATE_DONE
		notDone = eventv1.OutcomeState_OUTCOME_STATE_NOT_DONE
		unknown = eventv1.OutcomeState_OUTCOME_STATE_UNKNOWN
	)
	switch r.GetOutcome() {
	case connectorv1.Outcome_OUTCOME_CHANGED, connectorv1.Outcome_OUTCOME_UNCHANGED:
		switch verdict {
		case plan.Done:
			return done, ""
		case plan.NotDone:
			return notDone, CodeName(connectorv1.Code_CODE_INCONSISTENT)
		case plan.CannotTell:
			return unknown, ""
		}
	case connectorv1.Outcome_OUTCOME_FAILED, connectorv1.Outcome_OUTCOME_NOT_ATTEMPTED:
		if verdict == plan.Done && s.Op.Destructive() {
			return done, "" // what should be gone is
		}
		return notDone, CodeName(r.GetProblem().GetCode())
	default:
	}
	switch verdict {
	case plan.Done:
		return done, ""
	case plan.NotDone:
		return notDone, CodeName(connectorv1.Code_CODE_OUTCOME_UNKNOWN)
	case plan.CannotTell:
	}
	return unknown, CodeName(connectorv1.Code_CODE_OUTCOME_UNKNOWN)
}

// outcomeState is done only when the read-back shows what was desired.
func (k *task) outcomeState(op *operation, steps []*eventv1.StepOutcome) eventv1.OutcomeState {
	if k.readAt.IsZero() {
		return eventv1.OutcomeState_OUTCOME_STATE_UNKNOWN
	}
	current := op.entry.Generation == k.t.Generation
	if current && k.plan.Holds() {
		return eventv1.OutcomeState_OUTCOME_STATE_DONE
	}
	all := true
	for i, s := range steps {
		if i >= len(op.plan.Steps) {
			break
		}
		if s.GetState() == eventv1.OutcomeState_OUTCOME_STATE_UNKNOWN {
			return eventv1.OutcomeState_OUTCOME_STATE_UNKNOWN
		}
		all = all && s.GetState() == eventv1.OutcomeState_OUTCOME_STATE_DONE
	}
	if all && !current { // superseded: its steps are all there is to say
		return eventv1.OutcomeState_OUTCOME_STATE_DONE
	}
	return eventv1.OutcomeState_OUTCOME_STATE_NOT_DONE
}
