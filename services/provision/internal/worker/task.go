package worker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/tenurehq/tenure/pkg/connector"
	"github.com/tenurehq/tenure/pkg/telemetry"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	"github.com/tenurehq/tenure/services/provision/internal/store"
	"github.com/tenurehq/tenure/services/provision/plan"
)

// rounds is how often a target is planned anew under one claim: what one plan leaves, such as a grant that came with
// another one, the next one sees.
const rounds = 3

// task is the work on one claimed target.
type task struct {
	*Worker
	desired *accessv1.Desired
	d       plan.Desired
	cut     store.Cut
	can     *described
	t       store.Target // as it will be written
	lane    store.Lane   // in which it is worked on
	leased  time.Time    // until when
	stop    <-chan struct{}
	turn    context.Context //nolint:containedctx // ends when no call may wait for its turn any longer

	wasCut bool // the application let them in no more when the target was claimed
	behind bool // policy knows an older generation than was announced
	blind  bool // policy did not answer about somebody who is cut, and has announced what is not settled

	hold  string // of the brake, which keeps back what no decision ordered
	asked bool   // policy holds something that was asked for, as far as is known

	hint string // an account that the application says is in the way

	// What the last read showed.
	in      plan.Input
	plan    plan.Plan
	account *connectorv1.Account // nil: none
	readAt  time.Time            // zero: it could not be read

	ops []*operation // without an outcome yet, the oldest first
}

// work brings one claimed target forward as far as it goes now, and gives it back. d is what policy said when it was asked
// after claimed.
func (w *Worker) work(ctx context.Context, c store.Claimed, d *accessv1.Desired, claimed time.Time, stop <-chan struct{}) {
	if w.deps.Now().Sub(claimed).Abs() > fresh { // before it was claimed: the clock was set back
		var err error
		if d, err = w.desiredAgain(ctx, &c); err != nil {
			w.giveBack(ctx, []store.Claimed{c}, pauseMin)
			return
		}
	}
	k := &task{
		Worker: w, desired: d, t: c.Target, cut: c.Cut, lane: c.Lane, leased: claimed.Add(w.cfg.Timing.Lease), stop: stop, wasCut: !c.CutOffAt.IsZero(),
		asked: c.Reason == plan.ReasonNoRelease && !c.Cut.Stands, // a cut asks for no permission, and tells policy later
	}
	if c.Cut.Stands {
		k.desired, k.blind = underCut(d, c)
	}
	if c.Abandoned || c.Pending != "" {
		if err := k.takeUp(ctx); err != nil {
			w.log.Warn("open intents not loaded", zap.String(telemetry.FieldPerson, c.Person), zap.Error(err))
			w.giveBack(ctx, []store.Claimed{c}, pauseMin)
			return
		}
	}
	if k.desired == nil { // nothing is inferred from a decision that is not there
		k.d = plan.Desired{Person: c.Person}
		k.end(ctx, &connector.Problem{Code: connectorv1.Code_CODE_INCONSISTENT, Reason: reasonNoDecision})
		return
	}
	k.d = desiredOf(k.desired)
	if int64(k.d.Generation) < c.Generation { //nolint:gosec // a counter
		// A replica of policy that lags, or one that was restored from an older backup: nothing is done by an older word.
		k.behind = true
		k.end(ctx, &connector.Problem{Code: connectorv1.Code_CODE_INCONSISTENT, Reason: reasonBehind})
		return
	}
	if planCut(k.cut).Rule(k.d.PersonVersion) == plan.Waits {
		k.postpone(ctx, reasonLift)
		return
	}
	k.t.Generation = int64(k.d.Generation) //nolint:gosec // a counter
	if leaves := k.desired.GetEndedAt() != nil && k.d.State != plan.Enabled && k.t.SettledGeneration < k.t.Generation; leaves || k.cut.Stands {
		k.lane = urgent // they left after this was claimed, or a lagging event put it into the other lane
	}
	defer k.keep(ctx)()
	var p *connector.Problem
	if k.can, p = w.app.describe(ctx); p != nil {
		k.end(ctx, p)
		return
	}
	if k.t.Pending != "" {
		k.poll(ctx)
	}
	k.rounds(ctx)
}

// rounds reads, plans and acts until nothing is left to do or something is in the way.
func (k *task) rounds(ctx context.Context) {
	var last *operation
	for round := 0; ; round++ {
		if p := k.read(ctx); p != nil {
			if k.turn.Err() != nil {
				k.abandon(ctx)
				return
			}
			k.end(ctx, p)
			return
		}
		k.permit(ctx)
		steps := k.allowed()
		var cause *connector.Problem
		if last != nil {
			cause = last.cause()
		}
		switch {
		case len(steps) == 0 && cause != nil && k.plan.Problem == nil && len(k.plan.Steps) > 0: // what is left must wait
			k.end(ctx, cause)
			return
		case len(steps) == 0:
			k.rest(ctx)
			return
		case cause != nil && !k.again(cause):
			k.end(ctx, cause)
			return
		case last != nil && cause == nil && sameSteps(last.plan.Steps, steps), round >= rounds:
			if cause == nil { // every step was called done, and none was seen to be
				cause = &connector.Problem{Code: connectorv1.Code_CODE_INCONSISTENT, Reason: reasonNoEffect}
			}
			k.end(ctx, cause)
			return
		}
		if last == nil && k.stopping() {
			k.abandon(ctx)
			return
		}
		op, err := k.act(ctx, steps)
		var p *connector.Problem
		switch {
		case errors.Is(err, errSuperseded):
			k.abandon(ctx)
			return
		case errors.As(err, &p):
			k.end(ctx, p)
			return
		case err != nil: // perhaps there is an intent: the lease ends by itself, and whoever takes it next looks
			k.log.Warn("intent not written", zap.String(telemetry.FieldPerson, k.d.Person), zap.Error(err))
			return
		}
		last = op
	}
}

// stopping says that the process was told to stop: what has no intent yet need not begin.
func (k *task) stopping() bool {
	select {
	case <-k.stop:
		return true
	default:
		return false
	}
}

// abandon gives the target back before anything more is begun.
func (k *task) abandon(ctx context.Context) {
	if len(k.ops) > 0 { // operations of before wait for their outcome, and the read-back is here
		k.end(ctx, &connector.Problem{Code: connectorv1.Code_CODE_OUTCOME_UNKNOWN, Reason: reasonLostReply})
		return
	}
	k.giveBack(ctx, []store.Claimed{{Target: k.t}}, 0) // a cut that was heard of meanwhile is read with the next claim
}

// again says that a fresh plan may be carried out at once.
func (k *task) again(cause *connector.Problem) bool {
	switch cause.Code {
	case connectorv1.Code_CODE_CONFLICT: // somebody else was faster; we have read again
		return true
	case connectorv1.Code_CODE_NOT_FOUND: // the account is gone; the plan knows whether it may come back
		return cause.Reason == connector.ReasonNoAccount
	default:
		return false
	}
}

// allowed are the planned steps that may be carried out now. While an earlier call may still have effect, nothing is
// given; what takes away never waits.
func (k *task) allowed() []plan.Step {
	if !k.quiet() {
		return k.plan.Steps
	}
	return slices.DeleteFunc(slices.Clone(k.plan.Steps), func(s plan.Step) bool { return !s.Op.Destructive() })
}

func (k *task) quiet() bool { return k.deps.Now().Before(k.t.QuietUntil) }

// read finds the person's account, and plans.
func (k *task) read(ctx context.Context) *connector.Problem {
	k.readAt = time.Time{}
	found, raw, p := k.find(ctx)
	if p != nil {
		return p
	}
	now := k.deps.Now()
	k.notAhead(now)
	k.in = plan.Input{Desired: k.d, Found: found, Record: k.t.Record, Can: k.can.can, Settings: k.cfg.Settings, Now: now}
	k.make(ctx)
	k.readAt, k.account = now, nil
	if k.plan.Account != nil {
		k.account = raw[k.plan.Account.ID]
	}
	gave := k.t.Record.Gave
	k.t.Record = k.t.Record.See(k.d, k.plan, now)
	if k.quiet() {
		k.t.Record.Gave = gave // what is not there yet may come, and is ours then
	}
	k.clocks(now)
	return nil
}

// notAhead brings back what comes from before the clock was set back, and was written after that was mended: what happened has
// happened by now, and no call may have effect for longer than a lease lasts.
func (k *task) notAhead(now time.Time) {
	t, over := &k.t, now.Add(k.cfg.Timing.Lease)
	t.QuietUntil, t.TakingUntil = earlier(t.QuietUntil, over), earlier(t.TakingUntil, over)
	t.Record.CreateTried, t.Record.UnwantedSince = earlier(t.Record.CreateTried, now), earlier(t.Record.UnwantedSince, now)
}

// make plans by what was read.
func (k *task) make(ctx context.Context) {
	k.plan = plan.Make(k.in)
	if ids := exchanged(k.plan.Steps); len(ids) > 0 {
		if groups := k.app.exclusions(ctx, k.turn, k.lane == urgent, ids, k.in.Now); len(groups) > 0 {
			k.in.Can.ExclusionGroup = groups
			k.plan = plan.Make(k.in)
		}
	}
}

// exchanged are the entitlements of a plan that gives some and takes others: only then does their order matter.
func exchanged(steps []plan.Step) []string {
	var given, taken []string
	for _, s := range steps {
		switch s.Op {
		case plan.Grant:
			given = append(given, s.Target)
		case plan.Revoke:
			taken = append(taken, s.Target)
		default:
		}
	}
	if len(given) == 0 || len(taken) == 0 {
		return nil
	}
	return append(given, taken...)
}

// find reads by the surest way first, and stops at the first that finds something.
func (k *task) find(ctx context.Context) (plan.Found, map[string]*connectorv1.Account, *connector.Problem) {
	var found plan.Found
	raw := map[string]*connectorv1.Account{}
	by := func(list *[]plan.Account, req *connectorv1.ReadRequest) *connector.Problem {
		req.Credentials, req.Sessions = k.d.State != plan.Enabled, k.d.State != plan.Enabled
		response, p := k.app.read(ctx, k.turn, k.lane == urgent, req)
		if p != nil {
			if p.Code == connectorv1.Code_CODE_UNSUPPORTED || p.Code == connectorv1.Code_CODE_NOT_FOUND {
				return nil // it cannot be found this way
			}
			return p
		}
		for _, a := range response.GetAccounts() {
			raw[a.GetId()] = a
			*list = append(*list, accountOf(a))
		}
		return nil
	}
	if id := k.t.Record.AccountID; id != "" {
		p := by(&found.Linked, &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_AccountId{AccountId: id}})
		if p != nil || len(found.Linked) > 0 && !k.former(found.Linked) {
			return found, raw, p
		}
	}
	for run := max(k.d.Run, 1); run > 0 && len(found.Marked) == 0; run-- { // the newest first
		marker := plan.MarkerOf(k.d.Person, run)
		if p := by(&found.Marked, &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_Marker{Marker: marker}}); p != nil {
			return found, raw, p
		}
	}
	if len(found.Marked) > 0 && !k.former(found.Marked) {
		return found, raw, nil
	}
	if key := k.d.Attributes[k.cfg.Correlate]; key != "" && k.cfg.Settings.Adopt {
		if p := by(&found.Correlated, &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_CorrelationKey{CorrelationKey: key}}); p != nil {
			return found, raw, p
		}
	}
	if name := k.d.Attributes[k.can.can.Name]; name != "" {
		if p := by(&found.Named, &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_Name{Name: name}}); p != nil {
			return found, raw, p
		}
	}
	if k.hint != "" && raw[k.hint] == nil {
		if p := by(&found.Named, &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_AccountId{AccountId: k.hint}}); p != nil {
			return found, raw, p
		}
	}
	return found, raw, nil
}

// former says that accounts are of earlier runs of employment: what the person is to have now is looked for besides.
func (k *task) former(accounts []plan.Account) bool {
	return !slices.ContainsFunc(accounts, func(a plan.Account) bool {
		return !plan.IsFormer(k.d, k.t.Record, k.cfg.Settings, a)
	})
}

// clocks notes since when the application lets somebody in no more who has left.
func (k *task) clocks(now time.Time) {
	t := &k.t
	if k.desired.GetEndedAt() == nil || k.d.State == plan.Enabled {
		t.EndedAt, t.EndKnownAt, t.CutOffAt = time.Time{}, time.Time{}, time.Time{}
		return
	}
	t.EndedAt, t.EndKnownAt = k.desired.GetEndedAt().AsTime(), k.desired.GetEndedAt().AsTime()
	if known := k.desired.GetEndKnownAt(); known != nil {
		t.EndKnownAt = known.AsTime()
	}
	switch {
	case !k.plan.CutOff():
		t.CutOffAt = time.Time{} // not yet, or not any more
	case t.CutOffAt.IsZero() && !k.quiet(): // while a call may still have effect it is not known
		t.CutOffAt = now
	}
}

// rest ends a round in which nothing may be done: everything is as it should be, or something is waited for.
func (k *task) rest(ctx context.Context) {
	now := k.deps.Now()
	switch p := k.plan; {
	case p.Problem != nil:
		problem := &connector.Problem{Code: codeOf(p.Problem.Code), Reason: p.Problem.Reason, Existing: connector.AccountID(p.Problem.Account)}
		if p.Problem.Reason == plan.ReasonNoRelease && k.hold != "" {
			problem.Message = "hold " + k.hold
		}
		k.end(ctx, problem)
	case k.t.Pending != "", len(p.Steps) > 0: // what is left waits for a call that may still have effect
		k.wait(ctx, k.t.QuietUntil)
	case !p.Wait.IsZero():
		k.wait(ctx, earlier(p.Wait, now.Add(k.delay())))
	case k.blind: // what can be found is gone; there may be more
		k.postpone(ctx, reasonBlind)
	case k.doubt().After(now):
		k.wait(ctx, k.doubt())
	default:
		k.settle(ctx)
	}
}

// doubt is until when a call whose reply was lost may undo what was read: gone is only what stays gone after it, and there what
// stays there. What takes away does a leaver no harm, however late it comes.
func (k *task) doubt() time.Time {
	if k.plan.Leaving {
		return k.t.QuietUntil
	}
	return later(k.t.QuietUntil, k.t.TakingUntil)
}

// sameSteps says that a plan asks again for what was just called done.
func sameSteps(a, b []plan.Step) bool {
	return slices.EqualFunc(a, b, func(x, y plan.Step) bool { return x.Op == y.Op && x.Target == y.Target })
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// observed is the account as the journal keeps it.
func (k *task) observed() []byte {
	if k.account == nil {
		return nil
	}
	b, err := encode(k.account)
	if err != nil { // only a text that is not UTF-8, which cannot have come over the wire
		return nil
	}
	return b
}

// words is what an operator is told of a problem.
func words(p *connector.Problem) string {
	return strings.TrimSpace(CodeName(p.Code) + " " + p.Reason + " " + p.Message)
}

// Observed reads an account that the store keeps; nil: none was found.
func Observed(b []byte) *connectorv1.Account {
	if len(b) == 0 {
		return nil
	}
	a := &connectorv1.Account{}
	if proto.Unmarshal(b, a) != nil {
		return nil
	}
	return a
}
