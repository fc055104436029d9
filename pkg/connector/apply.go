package connector

import (
	"context"
	"errors"
	"time"

	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

// Apply implements connectorv1.ConnectorServer. It always answers with an OK status and one result for each step.
//
// What a step that was not done (failed, unknown or pending) means for those behind it:
//   - Steps that give (CREATE, UPDATE, ENABLE, GRANT, ROTATE_CREDENTIAL) are not attempted any more: a joiner's plan stops.
//   - Steps that take away (DISABLE, KILL_SESSIONS, REVOKE_CREDENTIAL, REVOKE) go on: a leaver's plan does not stop, and
//     a mover does not keep old access because a new one is missing.
//   - DELETE is not attempted: it would take away the handle on what is still to do.
//   - Nothing is attempted any more after a problem of the whole application (rate limit, dead credential, unreachable).
func (s *server) Apply(ctx context.Context, req *connectorv1.ApplyRequest) (*connectorv1.ApplyResponse, error) {
	a := application{
		impl: s.impl, key: s.key, now: s.now, redact: s.redactor(),
		ref: Ref{ID: AccountID(req.GetAccountId()), Marker: req.GetMarker(), IfVersion: req.GetIfVersion()},
	}
	if req.GetNotAfter().IsValid() {
		a.notAfter = req.GetNotAfter().AsTime()
	}
	if s.maxSteps > 0 && len(req.GetSteps()) > s.maxSteps {
		a.refused = Invalid(nil, "tenure.max_steps", "%d steps in one call, at most %d are taken", len(req.GetSteps()), s.maxSteps)
	} else if a.notAfter.IsZero() {
		a.refused = Invalid(nil, ReasonNotAfter, "not_after is missing or not a time")
	}
	out := &connectorv1.ApplyResponse{}
	for i, st := range req.GetSteps() {
		out.Results = append(out.Results, a.step(ctx, i, step{Step: st}))
	}
	out.AccountId = string(a.ref.ID)
	if a.attempted && a.ref.ID != "" {
		out.Observed = s.observe(ctx, a.ref.ID, req.GetSteps())
	}
	return out, nil
}

// observe reads the account back. What cannot be read is left unset: the worker reads for itself then.
func (s *server) observe(ctx context.Context, id AccountID, steps []*connectorv1.Step) *connectorv1.Account {
	q := Query{By: ByID, Value: string(id)}
	for _, st := range steps {
		switch st.GetOp() {
		case eventv1.Op_OP_DISABLE, eventv1.Op_OP_KILL_SESSIONS, eventv1.Op_OP_REVOKE_CREDENTIAL, eventv1.Op_OP_ROTATE_CREDENTIAL:
			q.Credentials, q.Sessions = true, true
		default:
		}
	}
	found, p := s.read(ctx, q)
	if p != nil || len(found.Accounts) != 1 {
		return nil
	}
	return accountProto(found.Accounts[0])
}

// application is one Apply under way.
type application struct {
	impl     Connector
	key      *sealKey
	now      func() time.Time
	redact   redactor
	notAfter time.Time
	ref      Ref

	refused   *Problem // the whole request is
	attempted bool     // something reached the connector
	notDone   bool     // an earlier step was not done
	instance  bool     // and why concerns the whole application
}

func (a *application) step(ctx context.Context, i int, s step) *connectorv1.StepResult {
	op, can := operationOf(a.impl, s.GetOp())
	switch {
	case a.refused != nil:
		return a.notAttempted(s, a.refused)
	case ctx.Err() != nil || !a.now().Before(a.notAfter):
		return a.notAttempted(s, &Problem{Reason: ReasonNotAfter, Message: "its time had passed"})
	case a.instance, a.notDone && (!op.takesAway || op.op == eventv1.Op_OP_DELETE):
		return a.notAttempted(s, &Problem{Reason: ReasonEarlierStep, Message: "an earlier step was not done"})
	case !can:
		return a.failed(s, Unsupported("tenure.unsupported", "this connector cannot do %s", s.GetOp()))
	}
	if p := a.prepare(i, op, &s); p != nil {
		return a.failed(s, p)
	}
	return a.attempt(ctx, op, s)
}

// prepare refuses what no connector should have to think about, and opens the step's secret.
func (a *application) prepare(i int, op operation, s *step) *Problem {
	creates := op.op == eventv1.Op_OP_CREATE
	polled := s.GetPollToken() != ""
	switch {
	case creates && i > 0:
		return Invalid(nil, "tenure.create_first", "CREATE is only ever the first step")
	case creates && a.ref.ID != "":
		return Invalid(nil, "tenure.create_existing", "CREATE in a request that names an account")
	case creates && a.ref.Marker == "" && !polled:
		return Invalid(nil, "tenure.marker", "CREATE in a request without a marker: nobody could tell whose the account is")
	case !creates && a.ref.ID == "":
		return Invalid(nil, ReasonNoAccount, "neither account_id nor a CREATE that made an account")
	case s.GetTarget() == "" && (op.op == eventv1.Op_OP_GRANT || op.op == eventv1.Op_OP_REVOKE):
		return Invalid(nil, "tenure.target", "no entitlement is named")
	case polled && !is[Poller](a.impl):
		return Unsupported("tenure.poll", "this connector never answers PENDING, so nothing can be polled")
	}
	if op.op != eventv1.Op_OP_ROTATE_CREDENTIAL || polled {
		return nil
	}
	if len(s.GetSecretIn()) > 0 {
		secret, err := a.key.open(s.GetSecretIn())
		if err != nil {
			return Invalid(nil, "tenure.secret_in", "%v", err)
		}
		s.secret = secret
		a.redact = newRedactor(append(secretsOf(a.impl), secret))
		return nil
	}
	// What the application makes must have somewhere to go before it is made.
	if _, err := Seal(s.GetSealTo(), ""); err != nil {
		return Invalid(nil, "tenure.seal_to", "no secret_in, and seal_to is no good: %v", err)
	}
	return nil
}

// attempt runs one step under not_after, so that a worker that was paused cannot act later than it said.
func (a *application) attempt(ctx context.Context, op operation, s step) *connectorv1.StepResult {
	ctx, cancel := context.WithTimeout(ctx, a.notAfter.Sub(a.now())) // the machine's clock may be another
	defer cancel()
	a.attempted = true
	var d done
	err := guard(func() (err error) {
		if token := s.GetPollToken(); token != "" {
			d.account, d.change, err = a.impl.(Poller).Poll(ctx, a.ref, token)
			return err
		}
		d, err = op.run(ctx, a.impl, a.ref, s)
		return err
	})
	// The version was that of before the plan: our own first step changes it.
	a.ref.IfVersion = ""
	if op.op == eventv1.Op_OP_CREATE {
		// Also next to an error: an account that was half made must not be forgotten.
		a.ref.ID = d.account
	}
	out := &connectorv1.StepResult{Index: s.GetIndex(), ProducedId: string(d.account) + d.credential, Remaining: countProto(d.remaining)}
	var wait *pending
	switch {
	case err == nil:
		a.settle(s, d, out)
	case errors.As(err, &wait):
		out.Outcome, out.PollToken = connectorv1.Outcome_OUTCOME_PENDING, wait.token
	default:
		a.explain(op, problemOf(err, true), out)
	}
	switch out.GetOutcome() {
	case connectorv1.Outcome_OUTCOME_CHANGED, connectorv1.Outcome_OUTCOME_UNCHANGED:
	default:
		a.notDone = true
	}
	return out
}

// settle fills in the result of a step that its connector calls done.
func (a *application) settle(s step, d done, out *connectorv1.StepResult) {
	switch {
	case s.GetOp() == eventv1.Op_OP_CREATE && d.account == "":
		a.explain(operation{}, Unknown("tenure.no_id", "the connector named no account"), out)
		return
	case d.change == Changed:
		out.Outcome = connectorv1.Outcome_OUTCOME_CHANGED
	case d.change == Unchanged:
		out.Outcome = connectorv1.Outcome_OUTCOME_UNCHANGED
	default:
		a.explain(operation{}, Unknown("tenure.no_change", "the connector said neither changed nor unchanged"), out)
		return
	}
	if d.secret == "" {
		return
	}
	sealed, err := Seal(s.GetSealTo(), d.secret)
	if err != nil {
		// The credential exists and nobody has it: the worker finds it by its id and revokes it.
		a.explain(operation{}, Unknown("tenure.seal_to", "the new secret could not be sealed"), out)
		return
	}
	out.SealedSecret = sealed
}

// explain fills in the result of a step that was not done.
func (a *application) explain(op operation, p *Problem, out *connectorv1.StepResult) {
	if op.absentIsSo && p.Code == connectorv1.Code_CODE_NOT_FOUND {
		out.Outcome, out.Remaining = connectorv1.Outcome_OUTCOME_UNCHANGED, 0
		return
	}
	out.Outcome = connectorv1.Outcome_OUTCOME_FAILED
	if p.Code == connectorv1.Code_CODE_OUTCOME_UNKNOWN || p.Code == connectorv1.Code_CODE_UNSPECIFIED {
		out.Outcome = connectorv1.Outcome_OUTCOME_UNKNOWN
	}
	out.Problem = a.redact.proto(p)
	a.instance = a.instance || p.Scope == connectorv1.Scope_SCOPE_INSTANCE
}

// failed is the result of a step that was refused before it reached the connector.
func (a *application) failed(s step, p *Problem) *connectorv1.StepResult {
	a.notDone = true
	return &connectorv1.StepResult{Index: s.GetIndex(), Outcome: connectorv1.Outcome_OUTCOME_FAILED, Problem: a.redact.proto(p), Remaining: -1}
}

func (a *application) notAttempted(s step, p *Problem) *connectorv1.StepResult {
	return &connectorv1.StepResult{Index: s.GetIndex(), Outcome: connectorv1.Outcome_OUTCOME_NOT_ATTEMPTED, Problem: a.redact.proto(p), Remaining: -1}
}
