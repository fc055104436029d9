package connector_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenurehq/tenure/pkg/connector"
	"github.com/tenurehq/tenure/pkg/connector/connectortest"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

const (
	opCreate  = eventv1.Op_OP_CREATE
	opUpdate  = eventv1.Op_OP_UPDATE
	opEnable  = eventv1.Op_OP_ENABLE
	opDisable = eventv1.Op_OP_DISABLE
	opDelete  = eventv1.Op_OP_DELETE
	opGrant   = eventv1.Op_OP_GRANT
	opRevoke  = eventv1.Op_OP_REVOKE
	opKill    = eventv1.Op_OP_KILL_SESSIONS
	opCut     = eventv1.Op_OP_REVOKE_CREDENTIAL
	opRotate  = eventv1.Op_OP_ROTATE_CREDENTIAL
)

func ann() connector.Account {
	return connector.Account{
		ID: "1", Name: "ann", Marker: "m", Status: connector.Enabled, Attributes: map[string]string{"login": "ann"},
		Grants: []connector.Grant{{Entitlement: "group:old"}}, LiveSessions: connector.Counted(2),
		Credentials: []connector.Credential{{ID: "k", Kind: connector.KindAPIKey}},
	}
}

func joiner() *connectorv1.ApplyRequest {
	return &connectorv1.ApplyRequest{Marker: "m", Steps: []*connectorv1.Step{
		step(opCreate, ""), step(opUpdate, ""), step(opGrant, "group:a"), step(opEnable, ""),
	}}
}

func leaver() *connectorv1.ApplyRequest {
	return &connectorv1.ApplyRequest{AccountId: "1", Marker: "m", Steps: []*connectorv1.Step{
		step(opDisable, ""), step(opKill, ""), step(opCut, ""), step(opRevoke, "group:old"), step(opDelete, ""),
	}}
}

func TestEveryStepTwiceChangesOnlyOnce(t *testing.T) {
	t.Parallel()
	client := dial(t, newFake())
	for _, c := range []struct {
		req           *connectorv1.ApplyRequest
		first, second string
	}{
		{joiner(), "CUCC", "UUUU"},
		// What is gone cannot be disabled any more: the worker reads that for itself.
		{leaver(), "CUUUC", "FFUU-"},
	} {
		if got := connectortest.Outcomes(apply(t, client, c.req)); got != c.first {
			t.Errorf("first time: outcomes %s, want %s", got, c.first)
		}
		if got := connectortest.Outcomes(apply(t, client, c.req)); got != c.second {
			t.Errorf("second time: outcomes %s, want %s", got, c.second)
		}
	}
}

func TestIDOfACreatedAccountServesTheStepsBehindItAndIsReadBack(t *testing.T) {
	t.Parallel()
	got := apply(t, dial(t, newFake()), joiner())
	if got.GetAccountId() != "1" || got.GetResults()[0].GetProducedId() != "1" {
		t.Fatalf("account id %q, produced id %q; want 1", got.GetAccountId(), got.GetResults()[0].GetProducedId())
	}
	observed := got.GetObserved()
	if observed.GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_ENABLED || len(observed.GetGrants()) != 1 {
		t.Fatalf("what was read back is not what the steps made: %v", observed)
	}
	if observed.GetLiveSessions() != -1 {
		t.Errorf("a connector that says nothing of sessions must read as unknown (-1), not as %d", observed.GetLiveSessions())
	}
}

func TestNothingIsAttemptedAfterNotAfter(t *testing.T) {
	t.Parallel()
	for name, notAfter := range map[string]*timestamppb.Timestamp{
		"past": timestamppb.New(time.Now().Add(-time.Second)),
		"none": {Seconds: 1 << 60},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(ann())
			req := leaver()
			req.NotAfter = notAfter
			got := apply(t, dial(t, f), req)
			if connectortest.Outcomes(got) != "-----" || len(f.mutations()) != 0 {
				t.Fatalf("outcomes %s, calls %v: a late plan touched the application", connectortest.Outcomes(got), f.mutations())
			}
			if reason := got.GetResults()[0].GetProblem().GetReason(); reason != connector.ReasonNotAfter {
				t.Errorf("reason %q, want %q", reason, connector.ReasonNotAfter)
			}
		})
	}
}

func TestNotAfterIsCheckedBeforeEachStepAndEndsTheOneInFlight(t *testing.T) {
	t.Parallel()
	f := newFake(ann())
	f.fail = func(ctx context.Context, call string) error {
		if call != "kill" {
			return nil
		}
		<-ctx.Done() // a call that would outlast not_after
		return ctx.Err()
	}
	req := leaver()
	req.NotAfter = timestamppb.New(time.Now().Add(200 * time.Millisecond))
	if got := connectortest.Outcomes(apply(t, dial(t, f), req)); got != "C?---" {
		t.Fatalf("outcomes %s, want C?---: one step in flight is all that may be open", got)
	}
	if want := []string{"disable", "kill"}; !slices.Equal(f.mutations(), want) {
		t.Fatalf("calls %v, want %v", f.mutations(), want)
	}
}

func TestACallHasAsLongAsNotAfterSaysByTheCallersClock(t *testing.T) {
	t.Parallel()
	theirs := func() time.Time { return time.Now().Add(-time.Hour) }
	f := newFake(ann())
	f.fail = func(ctx context.Context, _ string) error { return ctx.Err() }
	req := leaver()
	req.NotAfter = timestamppb.New(theirs().Add(time.Minute))
	if got := connectortest.Outcomes(apply(t, dial(t, f, connector.WithClock(theirs)), req)); got != "CCCCC" {
		t.Errorf("outcomes %s, want CCCCC: there was a minute left", got)
	}
}

func TestWhatAFailureMeansForTheStepsBehindIt(t *testing.T) {
	t.Parallel()
	mover := func() *connectorv1.ApplyRequest {
		return &connectorv1.ApplyRequest{AccountId: "1", Marker: "m", Steps: []*connectorv1.Step{
			step(opGrant, "group:new"), step(opUpdate, ""), step(opRevoke, "group:old"), step(opGrant, "group:other"),
		}}
	}
	denied := connector.Denied("x.403", "no")
	for _, c := range []struct {
		name string
		req  *connectorv1.ApplyRequest
		call string
		err  error
		want string
	}{
		{"a joiner's plan stops at the first failure", joiner(), "grant group:a", denied, "CUF-"},
		{"a joiner's plan stops at an unknown outcome", joiner(), "update", errors.New("reset by peer"), "C?--"},
		{"a joiner's plan stops at what is pending", joiner(), "grant group:a", connector.Pending("t"), "CUP-"},
		{"a leaver's plan goes on, and keeps the handle", leaver(), "disable", denied, "FCCC-"},
		{"a leaver's plan goes on past an unknown outcome", leaver(), "kill", errors.New("reset by peer"), "C?CC-"},
		{"a leaver's plan goes on past what is pending", leaver(), "disable", connector.Pending("t"), "PCCC-"},
		{"a mover loses the old though the new is missing", mover(), "grant group:new", connector.NoEntitlement("group:new"), "F-C-"},
		{"a rate limit ends even a leaver's plan", leaver(), "kill", connector.RateLimited(time.Second, "x.429", "slow down"), "CF---"},
		{"so does an application that is down", leaver(), "disable", connector.Unavailable("x", "refused"), "F----"},
		{"so does a dead credential", leaver(), "disable", connector.Auth("x.401", "who?"), "F----"},
		{"revoking what does not exist is done", leaver(), "revoke group:old", connector.NoEntitlement("group:old"), "CCCUC"},
		{"granting what does not exist is not", mover(), "grant group:other", connector.NoEntitlement("group:other"), "CUCF"},
		{"a conflict is known not to be done", mover(), "update", connector.Conflict("x.412", "changed"), "CFC-"},
		{"a status from elsewhere that may hide success is unknown", mover(), "update", status.Error(codes.Internal, "reset"), "C?C-"},
		{"and stops everything where the whole application is gone", mover(), "update", status.Error(codes.Unavailable, "gone"), "C?--"},
		{"a status from elsewhere that is certain is not done", mover(), "update", status.Error(codes.PermissionDenied, "no"), "CFC-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(ann())
			if c.req.GetAccountId() == "" {
				f = newFake()
			}
			f.fail = func(_ context.Context, call string) error {
				if call == c.call {
					return c.err
				}
				return nil
			}
			if got := connectortest.Outcomes(apply(t, dial(t, f), c.req)); got != c.want {
				t.Fatalf("outcomes %s, want %s", got, c.want)
			}
		})
	}
}

func TestAHalfMadeAccountIsNotForgotten(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.fail = func(_ context.Context, call string) error {
		if call == "create" {
			return connector.Unknown("x.500", "no answer")
		}
		return nil
	}
	got := apply(t, dial(t, f), joiner())
	if connectortest.Outcomes(got) != "?---" || got.GetResults()[0].GetProducedId() != "1" || got.GetAccountId() != "1" {
		t.Fatalf("outcomes %s, id %q: the id that came with the error is lost", connectortest.Outcomes(got), got.GetAccountId())
	}
	if got.GetObserved().GetId() != "1" {
		t.Error("the half-made account was not read back")
	}
}

func TestStepsThatNoConnectorShouldSee(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		req  *connectorv1.ApplyRequest
		want string
		code connectorv1.Code
	}{
		{"an operation of a later contract", &connectorv1.ApplyRequest{AccountId: "1", Steps: []*connectorv1.Step{step(99, "")}}, "F", connectorv1.Code_CODE_UNSUPPORTED},
		{"no operation", &connectorv1.ApplyRequest{AccountId: "1", Steps: []*connectorv1.Step{step(0, "")}}, "F", connectorv1.Code_CODE_UNSUPPORTED},
		{"no account and no CREATE", &connectorv1.ApplyRequest{Steps: []*connectorv1.Step{step(opEnable, "")}}, "F", connectorv1.Code_CODE_INVALID},
		{"CREATE of an account that is named", &connectorv1.ApplyRequest{AccountId: "1", Marker: "m", Steps: []*connectorv1.Step{step(opCreate, "")}}, "F", connectorv1.Code_CODE_INVALID},
		{"CREATE without a marker", &connectorv1.ApplyRequest{Steps: []*connectorv1.Step{step(opCreate, "")}}, "F", connectorv1.Code_CODE_INVALID},
		{"CREATE in the middle", &connectorv1.ApplyRequest{AccountId: "1", Steps: []*connectorv1.Step{step(opEnable, ""), step(opCreate, "")}}, "UF", connectorv1.Code_CODE_INVALID},
		{"GRANT of nothing", &connectorv1.ApplyRequest{AccountId: "1", Steps: []*connectorv1.Step{step(opGrant, "")}}, "F", connectorv1.Code_CODE_INVALID},
		{"a poll of what never pends", &connectorv1.ApplyRequest{AccountId: "1", Steps: []*connectorv1.Step{{Op: opEnable, PollToken: "t"}}}, "F", connectorv1.Code_CODE_UNSUPPORTED},
		{"more steps than the connector takes", &connectorv1.ApplyRequest{AccountId: "1", Steps: []*connectorv1.Step{
			step(opEnable, ""), step(opEnable, ""), step(opEnable, ""), step(opEnable, ""), step(opEnable, ""), step(opEnable, ""),
		}}, "------", connectorv1.Code_CODE_INVALID},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(ann())
			f.description.Limits.MaxSteps = 5
			got := apply(t, dial(t, f), c.req)
			last := got.GetResults()[len(got.GetResults())-1]
			if connectortest.Outcomes(got) != c.want || last.GetProblem().GetCode() != c.code {
				t.Fatalf("outcomes %s with %v, want %s with %v", connectortest.Outcomes(got), last.GetProblem(), c.want, c.code)
			}
			if n := len(f.mutations()); n != strings.Count(c.want, "U") {
				t.Fatalf("the connector was called: %v", f.mutations())
			}
		})
	}
}

func TestAPanicIsAnUnknownOutcomeThatSaysWhere(t *testing.T) {
	t.Parallel()
	f := newFake(ann())
	f.fail = func(_ context.Context, call string) error {
		if call == "disable" {
			panic("index out of range")
		}
		return nil
	}
	got := apply(t, dial(t, f), leaver())
	if connectortest.Outcomes(got) != "?CCC-" {
		t.Fatalf("outcomes %s, want ?CCC-", connectortest.Outcomes(got))
	}
	if message := got.GetResults()[0].GetProblem().GetMessage(); !strings.Contains(message, "apply_test.go:") || !strings.Contains(message, "index out of range") {
		t.Errorf("the message does not say where and what: %q", message)
	}
}

func TestAMethodThatSaysNothingIsUnknown(t *testing.T) {
	t.Parallel()
	got := apply(t, dial(t, silent{newFake(ann())}), &connectorv1.ApplyRequest{AccountId: "1", Steps: []*connectorv1.Step{step(opDisable, "")}})
	if connectortest.Outcomes(got) != "?" {
		t.Fatalf("outcomes %s: a forgotten return value must not read as done", connectortest.Outcomes(got))
	}
}

type silent struct{ *fake }

func (silent) Disable(context.Context, connector.Ref) (connector.Change, error) { return 0, nil }

func TestIfVersionIsForTheFirstAttemptedStepOnly(t *testing.T) {
	t.Parallel()
	f := newFake(ann())
	req := leaver()
	req.IfVersion = "7"
	apply(t, dial(t, f), req)
	if diff := cmp.Diff([]string{"7", "", "", "", ""}, f.versions); diff != "" {
		t.Fatalf("our own first step changes the version (-want +got):\n%s", diff)
	}
}

func TestPendingIsPolledWithItsToken(t *testing.T) {
	t.Parallel()
	f := &slow{fake: newFake()}
	client := dial(t, f)
	got := apply(t, client, joiner())
	if connectortest.Outcomes(got) != "P---" || got.GetResults()[0].GetPollToken() != "job-1" {
		t.Fatalf("outcomes %s, token %q", connectortest.Outcomes(got), got.GetResults()[0].GetPollToken())
	}
	again := joiner()
	again.Steps[0].PollToken = "job-1"
	if got = apply(t, client, again); connectortest.Outcomes(got) != "CUCC" || got.GetAccountId() != "1" {
		t.Fatalf("outcomes %s, id %q: the polled CREATE must carry the plan on", connectortest.Outcomes(got), got.GetAccountId())
	}
}

// slow creates in the background.
type slow struct{ *fake }

func (s *slow) Create(context.Context, connector.NewAccount) (connector.AccountID, connector.Change, error) {
	return "", 0, connector.Pending("job-1")
}

func (s *slow) Poll(ctx context.Context, _ connector.Ref, token string) (connector.AccountID, connector.Change, error) {
	if token != "job-1" {
		return "", 0, connector.NotFound("x.404", "no such job")
	}
	return s.fake.Create(ctx, connector.NewAccount{Marker: "m", Attributes: map[string]string{"login": "ann"}})
}
