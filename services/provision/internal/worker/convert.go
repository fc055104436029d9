package worker

import (
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/tenurehq/tenure/pkg/connector"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/provision/plan"
)

// maxText bounds what an application may make us keep of its words.
const maxText = 1 << 10

// encode is the one encoding of facts that are committed to.
func encode(m proto.Message) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

// desiredOf is policy's decision in the plan's words.
func desiredOf(d *accessv1.Desired) plan.Desired {
	return plan.Desired{
		Person:        d.GetPersonId(),
		Generation:    d.GetGeneration(),
		Decision:      d.GetDecision(),
		PersonVersion: d.GetPersonVersion(),
		State:         plan.State(d.GetState()),
		Entitlements:  d.GetEntitlements(),
		Attributes:    d.GetAccount(),
		Release:       d.GetRelease(),
		Run:           d.GetEmployment(),
		Stays:         d.GetEmployment() > 0 && d.GetEndedAt() == nil, // a policy that does not count says nothing of it
	}
}

func accountOf(a *connectorv1.Account) plan.Account {
	out := plan.Account{
		ID:                  a.GetId(),
		Name:                a.GetName(),
		Marker:              a.GetMarker(),
		Status:              plan.Status(a.GetStatus()),
		Attributes:          a.GetAttributes(),
		Version:             a.GetVersion(),
		GrantsComplete:      a.GetGrantsComplete(),
		CredentialsComplete: a.GetCredentialsComplete(),
		LiveSessions:        int(a.GetLiveSessions()),
	}
	for _, g := range a.GetGrants() {
		out.Grants = append(out.Grants, plan.Granted{Entitlement: g.GetEntitlementId(), Inherited: g.GetInherited(), Immutable: g.GetImmutable()})
	}
	for _, c := range a.GetCredentials() {
		out.Credentials = append(out.Credentials, plan.Credential{ID: c.GetId(), Kind: c.GetKind()})
	}
	return out
}

func stepsOf(steps []plan.Step) []*connectorv1.Step {
	out := make([]*connectorv1.Step, len(steps))
	for i, s := range steps {
		out[i] = &connectorv1.Step{
			Index: uint32(i), Op: eventv1.Op(s.Op), Target: s.Target, Attributes: s.Attributes, //nolint:gosec // a plan is short
		}
	}
	return out
}

// planOf reads the steps of an intent back from the journal.
func planOf(steps []*connectorv1.Step) plan.Plan {
	var p plan.Plan
	for _, s := range steps {
		p.Steps = append(p.Steps, plan.Step{Op: plan.Op(s.GetOp()), Target: s.GetTarget(), Attributes: s.GetAttributes()})
	}
	return p
}

// described is what Describe says, as far as the worker needs it.
type described struct {
	can      plan.Capabilities
	maxSteps int // in one Apply; 0: no limit
	response *connectorv1.DescribeResponse
}

func describedBy(r *connectorv1.DescribeResponse) *described {
	d := &described{
		can: plan.Capabilities{
			Ops:            map[plan.Op]plan.Support{},
			Attributes:     map[string]plan.Attribute{},
			ExclusionGroup: map[string]string{},
		},
		maxSteps: int(r.GetLimits().GetMaxSteps()),
		response: r,
	}
	for _, o := range r.GetOps() {
		d.can.Ops[plan.Op(o.GetOp())] = plan.Support{CutsSessions: o.GetCutsSessions(), CredentialKinds: o.GetCredentialKinds()}
	}
	for _, a := range r.GetAttributes() {
		d.can.Attributes[a.GetName()] = plan.Attribute{ReadOnly: !a.GetWritable(), FoldCase: !a.GetCaseExact(), Sensitive: a.GetSensitive()}
		if d.can.Name == "" && a.GetUnique() && a.GetRequired() {
			d.can.Name = a.GetName()
		}
	}
	return d
}

// problemOf is a connector's problem as it may be kept; nil for nil.
func problemOf(p *connectorv1.Problem) *connector.Problem {
	if p == nil {
		return nil
	}
	return &connector.Problem{
		Code: p.GetCode(), Reason: text(p.GetReason()), Message: text(p.GetMessage()), RetryAfter: p.GetRetryAfter().AsDuration(),
		Scope: p.GetScope(), Existing: connector.AccountID(p.GetExistingAccountId()),
	}
}

// text makes what an application said fit to be kept: bounded, valid, without characters that databases refuse.
func text(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == utf8.RuneError {
			return ' '
		}
		return r
	}, s)
	if len(s) <= maxText {
		return s
	}
	end := maxText
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

// CodeName is a problem's code as it is kept and published.
func CodeName(code connectorv1.Code) string {
	if code == connectorv1.Code_CODE_UNSPECIFIED {
		return "UNSPECIFIED"
	}
	return strings.TrimPrefix(code.String(), "CODE_")
}

func codeOf(name string) connectorv1.Code {
	return connectorv1.Code(connectorv1.Code_value["CODE_"+name])
}

// notesOf are a plan's notes as they are shown, each once.
func notesOf(p plan.Plan) []string {
	var notes []string
	for _, n := range p.Notes {
		if s := n.String(); !slices.Contains(notes, s) {
			notes = append(notes, s)
		}
	}
	return notes
}
