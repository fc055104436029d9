package scim_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenurehq/tenure/pkg/connector"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/connectors/scim"
	"github.com/tenurehq/tenure/services/connectors/scim/scimtest"
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

	workEmail  = `emails[type eq "work"].value`
	department = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department"
)

func open(t *testing.T, cfg scim.Config) connectorv1.ConnectorClient {
	t.Helper()
	application, err := scim.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	client, stop, err := connector.InProcess(application.Connector())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(stop(), application.Close()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return client
}

func tokenFile(t *testing.T, token string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// odd starts an application with quirks and a connector to it.
func odd(t *testing.T, q scimtest.Quirks, cfg scim.Config) (*scimtest.Odd, connectorv1.ConnectorClient) {
	t.Helper()
	o := scimtest.StartOdd(t, q)
	o.AddGroup("staff")
	o.AddGroup("ops")
	cfg.URL, cfg.TokenFile = o.URL(), tokenFile(t, o.Token())
	return o, open(t, cfg)
}

func step(op eventv1.Op, target string) *connectorv1.Step {
	return &connectorv1.Step{Op: op, Target: target}
}

func set(op eventv1.Op, attributes map[string]string, empty ...string) *connectorv1.Step {
	return &connectorv1.Step{Op: op, Attributes: attributes, Clear: empty}
}

func named(name string) *connectorv1.Step {
	return set(opCreate, map[string]string{"userName": name})
}

// apply carries out steps for an account, that of marker p:<name> for none.
func apply(t *testing.T, client connectorv1.ConnectorClient, id, marker string, steps ...*connectorv1.Step) *connectorv1.ApplyResponse {
	t.Helper()
	return applyVersion(t, client, id, marker, "", steps...)
}

func applyVersion(t *testing.T, client connectorv1.ConnectorClient, id, marker, version string, steps ...*connectorv1.Step) *connectorv1.ApplyResponse {
	t.Helper()
	for i, s := range steps {
		s.Index = uint32(i)
	}
	got, err := client.Apply(t.Context(), &connectorv1.ApplyRequest{
		AccountId: id, Marker: marker, IfVersion: version, Steps: steps, NotAfter: timestamppb.New(time.Now().Add(20 * time.Second)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// want applies steps and compares the outcomes: C for changed, U for unchanged, F for failed, ? for unknown, N for not attempted.
func want(t *testing.T, client connectorv1.ConnectorClient, id, marker, outcomes string, steps ...*connectorv1.Step) *connectorv1.ApplyResponse {
	t.Helper()
	got := apply(t, client, id, marker, steps...)
	if letters := outcomesOf(got); letters != outcomes {
		t.Fatalf("%v came to %s, want %s: %v", steps, letters, outcomes, got.GetResults())
	}
	return got
}

func outcomesOf(got *connectorv1.ApplyResponse) string {
	var letters strings.Builder
	for _, r := range got.GetResults() {
		letters.WriteString(map[connectorv1.Outcome]string{
			connectorv1.Outcome_OUTCOME_CHANGED: "C", connectorv1.Outcome_OUTCOME_UNCHANGED: "U", connectorv1.Outcome_OUTCOME_FAILED: "F",
			connectorv1.Outcome_OUTCOME_UNKNOWN: "?", connectorv1.Outcome_OUTCOME_NOT_ATTEMPTED: "N",
		}[r.GetOutcome()])
	}
	return letters.String()
}

// wantProblem wants the last step to fail with a code, and a reason that begins like this.
func wantProblem(t *testing.T, got *connectorv1.ApplyResponse, code connectorv1.Code, reason string) *connectorv1.Problem {
	t.Helper()
	p := got.GetResults()[len(got.GetResults())-1].GetProblem()
	if p.GetCode() != code || !strings.HasPrefix(p.GetReason(), reason) {
		t.Fatalf("%v, want %s %s", got.GetResults(), code, reason)
	}
	return p
}

// account makes one that is enabled and marked p:<name>.
func account(t *testing.T, client connectorv1.ConnectorClient, name string) string {
	t.Helper()
	got := apply(t, client, "", "p:"+name, named(name), step(opEnable, ""))
	if letters := outcomesOf(got); letters != "CC" && letters != "CU" {
		t.Fatalf("%s: %v", name, got.GetResults())
	}
	return got.GetAccountId()
}

func read(t *testing.T, client connectorv1.ConnectorClient, req *connectorv1.ReadRequest) *connectorv1.ReadResponse {
	t.Helper()
	got, err := client.Read(t.Context(), req)
	if err != nil || got.GetProblem() != nil {
		t.Fatalf("%v: %v, %v", req, got, err)
	}
	return got
}

// unreadable wants a read to fail.
func unreadable(t *testing.T, client connectorv1.ConnectorClient, req *connectorv1.ReadRequest) *connectorv1.Problem {
	t.Helper()
	got, err := client.Read(t.Context(), req)
	if err != nil || got.GetProblem() == nil {
		t.Fatalf("%v: %v, %v: want a problem", req, got, err)
	}
	return got.GetProblem()
}

// check returns what Check says is wrong, as codes and reasons.
func check(t *testing.T, client connectorv1.ConnectorClient) (all []string, identity string) {
	t.Helper()
	got, err := client.Check(t.Context(), &connectorv1.CheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range got.GetProblems() {
		if strings.Contains(p.String(), "canary") {
			t.Errorf("a message shows the token: %v", p)
		}
		all = append(all, strings.TrimPrefix(p.GetCode().String(), "CODE_")+" "+p.GetReason())
	}
	return all, got.GetTargetIdentity()
}

func byID(id string) *connectorv1.ReadRequest {
	return &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_AccountId{AccountId: id}}
}

func byName(name string) *connectorv1.ReadRequest {
	return &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_Name{Name: name}}
}

func byMarker(marker string) *connectorv1.ReadRequest {
	return &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_Marker{Marker: marker}}
}

func byKey(key string) *connectorv1.ReadRequest {
	return &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_CorrelationKey{CorrelationKey: key}}
}

func byEntitlement(id string) *connectorv1.ReadRequest {
	return &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_EntitlementId{EntitlementId: id}}
}

// one reads the one account by id.
func one(t *testing.T, client connectorv1.ConnectorClient, id string) *connectorv1.Account {
	t.Helper()
	got := read(t, client, byID(id)).GetAccounts()
	if len(got) != 1 {
		t.Fatalf("%d accounts have the id %s", len(got), id)
	}
	return got[0]
}

func grants(a *connectorv1.Account) string {
	var ids []string
	for _, g := range a.GetGrants() {
		ids = append(ids, g.GetEntitlementId())
	}
	return strings.Join(ids, " ")
}

// listed is what a listing held.
type listed struct {
	accounts     map[string]*connectorv1.Account
	entitlements []string
	members      map[string]int // "account entitlement"
	end          *connectorv1.End
}

func list(t *testing.T, client connectorv1.ConnectorClient) listed {
	t.Helper()
	stream, err := client.List(t.Context(), &connectorv1.ListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	l := listed{accounts: map[string]*connectorv1.Account{}, members: map[string]int{}}
	for l.end == nil {
		item, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case item.GetAccount() != nil:
			if l.accounts[item.GetAccount().GetId()] != nil {
				t.Errorf("account %s is listed twice", item.GetAccount().GetId())
			}
			l.accounts[item.GetAccount().GetId()] = item.GetAccount()
		case item.GetEntitlement() != nil:
			l.entitlements = append(l.entitlements, item.GetEntitlement().GetId())
		case item.GetMembership() != nil:
			l.members[item.GetMembership().GetAccountId()+" "+item.GetMembership().GetEntitlementId()]++
		}
		l.end = item.GetEnd()
	}
	return l
}
