package worker

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/connector"
	"github.com/tenurehq/tenure/pkg/crash"
	"github.com/tenurehq/tenure/pkg/urgency"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

// Reasons of problems that are the worker's own.
const (
	reasonOpen       = "tenure.breaker_open"
	reasonNoEffect   = "tenure.no_effect"
	reasonLie        = "tenure.wrong_answer"
	reasonNoDecision = "tenure.no_decision"
	reasonMissing    = "tenure.result_missing"
	reasonLostReply  = "tenure.reply_lost"
	reasonBehind     = "tenure.policy_behind"
	reasonExpires    = "tenure.credential_expires"

	reasonPolicySilent = "tenure.policy_silent"
)

// application is one application as its worker reaches it: every call is paced, timed, counted and watched by the
// breaker. Safe for concurrent use.
type application struct {
	name    string
	client  connectorv1.ConnectorClient
	timeout time.Duration
	pacer   *pacer
	slots   *slots
	breaker *breaker
	metrics *Metrics
	log     *zap.Logger
	now     func() time.Time

	mu           sync.Mutex
	describing   *described             // nil: not asked yet
	entitlements map[string]entitlement // what was learned of them
	expires      time.Time              // when the connector's credential ends; zero: not known
}

// entitlement is what is remembered of one for a while.
type entitlement struct {
	group string
	until time.Time
}

const entitlementMemory = time.Hour

// describe returns what the connector can do, asking it the first time.
func (a *application) describe(ctx context.Context) (*described, *connector.Problem) {
	a.mu.Lock()
	known := a.describing
	a.mu.Unlock()
	if known != nil {
		return known, nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	response, err := a.client.Describe(ctx, &connectorv1.DescribeRequest{})
	if err != nil {
		p := readProblem(err)
		a.seen(p)
		return nil, p
	}
	d := describedBy(response)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.describing = d
	return d, nil
}

// forget makes the next describe ask again: an application that was away may have come back as another version.
func (a *application) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.describing = nil
}

// check asks the application whether it works, and remembers when the credential ends by which it is called.
func (a *application) check(ctx context.Context) (*connectorv1.CheckResponse, *connector.Problem) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	response, err := a.client.Check(ctx, &connectorv1.CheckRequest{})
	if err != nil {
		return nil, readProblem(err)
	}
	a.learn(response)
	if len(response.GetProblems()) > 0 {
		return response, problemOf(response.GetProblems()[0])
	}
	return response, nil
}

// read makes one paced Read, waiting for its turn until turn ends. Its problem means that nothing may be inferred.
func (a *application) read(ctx, turn context.Context, urgent bool, req *connectorv1.ReadRequest) (*connectorv1.ReadResponse, *connector.Problem) {
	if p := a.admit(turn, urgent); p != nil {
		return nil, p
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	response, err := a.client.Read(ctx, req)
	crash.At(a.name).Reach("after reading")
	p := problemOf(response.GetProblem())
	if err != nil {
		p = readProblem(err)
	}
	a.seen(p)
	a.metrics.call(a.name, "READ", outcomeOf(p))
	if p != nil {
		return nil, p
	}
	if lie := wrongAnswer(req, response); lie != "" {
		return nil, &connector.Problem{Code: connectorv1.Code_CODE_INCONSISTENT, Reason: reasonLie, Message: lie}
	}
	return response, nil
}

// admit waits until a call may be made, or turn ends; an open breaker refuses.
func (a *application) admit(turn context.Context, urgent bool) *connector.Problem {
	if cause := a.breaker.open(); cause != nil {
		return &connector.Problem{Code: cause.Code, Reason: reasonOpen, Scope: connectorv1.Scope_SCOPE_INSTANCE}
	}
	switch {
	case urgent:
		urgency.Hurry()
	case !a.slots.wanted(): // else what is urgent waits for this to be done
		urgency.GiveWay(turn)
	}
	if err := a.pacer.wait(turn, urgent); err != nil {
		return connector.Unavailable(reasonOpen, "the worker stops")
	}
	return nil
}

// apply makes one call that changes things; the caller has waited for admit and has committed the intent. A problem is
// of the call as a whole: nobody knows what became of its steps.
func (a *application) apply(ctx context.Context, req *connectorv1.ApplyRequest) ([]*connectorv1.StepResult, *connector.Problem) {
	ctx, cancel := context.WithTimeout(ctx, req.GetNotAfter().AsTime().Sub(a.now())) // the machine's clock may be another
	defer cancel()
	at := crash.At(a.name)
	at.Reach("before the calls")
	response, err := a.client.Apply(ctx, req)
	at.Reach("after the calls")
	if err != nil {
		p := connector.FromStatus(err)
		p.Message, p.Reason = text(p.Message), text(p.Reason)
		a.seen(p)
		for _, s := range req.GetSteps() {
			a.metrics.call(a.name, opName(s.GetOp()), connectorv1.Outcome_OUTCOME_UNKNOWN.String())
		}
		return nil, p
	}
	results := matched(req.GetSteps(), response.GetResults())
	var worst *connector.Problem
	for i, r := range results {
		a.metrics.call(a.name, opName(req.GetSteps()[i].GetOp()), r.GetOutcome().String())
		if r.GetProblem() == nil || r.GetOutcome() == connectorv1.Outcome_OUTCOME_NOT_ATTEMPTED {
			continue
		}
		const whole = connectorv1.Scope_SCOPE_INSTANCE
		if p := problemOf(r.GetProblem()); worst == nil || worst.Scope != whole && p.Scope == whole {
			worst = p
		}
	}
	a.seen(worst)
	return results, nil
}

// matched returns one result for each step, whatever the connector answered.
func matched(steps []*connectorv1.Step, results []*connectorv1.StepResult) []*connectorv1.StepResult {
	out := make([]*connectorv1.StepResult, len(steps))
	for i, s := range steps {
		for _, r := range results {
			if r.GetIndex() == s.GetIndex() && out[i] == nil && r.GetOutcome() != connectorv1.Outcome_OUTCOME_UNSPECIFIED {
				out[i] = r
			}
		}
		if out[i] == nil {
			out[i] = unknownResult(s, &connector.Problem{Code: connectorv1.Code_CODE_OUTCOME_UNKNOWN, Reason: reasonMissing})
		}
	}
	return out
}

func unknownResult(s *connectorv1.Step, p *connector.Problem) *connectorv1.StepResult {
	return &connectorv1.StepResult{
		Index: s.GetIndex(), Outcome: connectorv1.Outcome_OUTCOME_UNKNOWN, Remaining: -1,
		Problem: &connectorv1.Problem{Code: p.Code, Reason: p.Reason, Message: p.Message, Scope: p.Scope},
	}
}

// seen lets breaker and pacer learn from a call.
func (a *application) seen(p *connector.Problem) {
	switch {
	case p == nil:
		a.pacer.taken()
	case p.Code == connectorv1.Code_CODE_RATE_LIMITED && p.Scope != connectorv1.Scope_SCOPE_STEP: // else other steps may go on
		a.pacer.throttled(p.RetryAfter)
	}
	if a.breaker.report(p) {
		a.log.Error("application does not work: its targets wait", zap.String("code", CodeName(p.Code)))
		a.metrics.breaker(a.name, true)
	}
}

// guard asks an application that does not work whether it is back, and runs until ctx ends.
func (a *application) guard(ctx context.Context, back func(context.Context, string)) error {
	for a.breaker.waitFor(ctx, true) == nil {
		cause := a.breaker.open()
		for {
			if err := sleep(ctx, a.breaker.nextProbe()); err != nil {
				return nil //nolint:nilerr // told to stop
			}
			_, p := a.check(ctx)
			if p == nil || p.Code == connectorv1.Code_CODE_UNSUPPORTED {
				break
			}
			if p.Code == connectorv1.Code_CODE_RATE_LIMITED { // it works, and is asked too often
				a.pacer.throttled(p.RetryAfter)
				break
			}
		}
		a.forget()
		a.breaker.close()
		a.metrics.breaker(a.name, false)
		a.log.Info("application works again")
		back(ctx, CodeName(cause.Code))
	}
	return nil
}

// exclusions returns the groups of entitlements of which an account has at most one, as far as the application tells.
func (a *application) exclusions(ctx, turn context.Context, urgent bool, ids []string, now time.Time) map[string]string {
	groups := map[string]string{}
	for _, id := range ids {
		a.mu.Lock()
		known, ok := a.entitlements[id]
		a.mu.Unlock()
		if !ok || now.After(known.until) {
			response, p := a.read(ctx, turn, urgent, &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_EntitlementId{EntitlementId: id}})
			if p != nil {
				continue // not known: the usual order, and the read-back tells
			}
			known = entitlement{group: response.GetEntitlement().GetExclusionGroup(), until: now.Add(entitlementMemory)}
			a.mu.Lock()
			a.entitlements[id] = known
			a.mu.Unlock()
		}
		if known.group != "" {
			groups[id] = known.group
		}
	}
	return groups
}

// wrongAnswer says how an answer to Read is none to what was asked; empty: it is one.
func wrongAnswer(req *connectorv1.ReadRequest, response *connectorv1.ReadResponse) string {
	for _, a := range response.GetAccounts() {
		switch by := req.GetBy().(type) {
		case *connectorv1.ReadRequest_AccountId:
			if a.GetId() != by.AccountId {
				return "an account with another id than was asked for"
			}
		case *connectorv1.ReadRequest_Marker:
			if a.GetMarker() != by.Marker {
				return "an account with another marker than was asked for"
			}
		case *connectorv1.ReadRequest_Name:
			if !strings.EqualFold(a.GetName(), by.Name) {
				return "an account with another name than was asked for"
			}
		case *connectorv1.ReadRequest_CorrelationKey:
			if !strings.EqualFold(a.GetCorrelationKey(), by.CorrelationKey) {
				return "an account with another correlation key than was asked for"
			}
		}
		if a.GetId() == "" || text(a.GetId()) != a.GetId() {
			return "an account without a usable id"
		}
	}
	return ""
}

// readProblem reads a failed call that changes nothing: whatever became of it, nothing happened.
func readProblem(err error) *connector.Problem {
	p := connector.FromStatus(err)
	p.Message, p.Reason = text(p.Message), text(p.Reason)
	if p.Code == connectorv1.Code_CODE_OUTCOME_UNKNOWN && (errors.Is(err, context.DeadlineExceeded) || strings.HasPrefix(p.Reason, "grpc.")) {
		p.Code = connectorv1.Code_CODE_TARGET_UNAVAILABLE
	}
	return p
}

func outcomeOf(p *connector.Problem) string {
	if p == nil {
		return "OK"
	}
	return CodeName(p.Code)
}

func opName(op eventv1.Op) string { return strings.TrimPrefix(op.String(), "OP_") }

// health says in a word how the application is, and in a problem's code and reason why.
func (a *application) health() (health, detail string) {
	if cause := a.breaker.open(); cause != nil {
		health = "open"
		switch cause.Code {
		case connectorv1.Code_CODE_TARGET_UNAVAILABLE, connectorv1.Code_CODE_OUTCOME_UNKNOWN:
			health = "unreachable"
		case connectorv1.Code_CODE_AUTH, connectorv1.Code_CODE_DENIED:
			health = "unauthorized"
		default:
		}
		return health, strings.TrimSpace(CodeName(cause.Code) + " " + cause.Reason)
	}
	if pause, slowed := a.pacer.pause(); pause > 0 || slowed {
		return "throttled", CodeName(connectorv1.Code_CODE_RATE_LIMITED)
	}
	if p := a.expiring(a.now()); p != nil {
		return "ok", strings.TrimSpace(CodeName(p.Code) + " " + p.Reason)
	}
	return "ok", ""
}
