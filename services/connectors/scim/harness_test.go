package scim_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tenurehq/tenure/pkg/connector/connectortest"
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

// How the connector is spoken to.
var (
	step, set, outcomes, only                    = connectortest.Step, connectortest.Set, connectortest.Outcomes, connectortest.Only
	byID, byName, byMarker, byKey, byEntitlement = connectortest.ByID, connectortest.ByName, connectortest.ByMarker, connectortest.ByKey, connectortest.ByEntitlement
)

func open(t *testing.T, cfg scim.Config) connectortest.Client {
	t.Helper()
	application, err := scim.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return connectortest.Start(t, application.Connector(), application.Close)
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
func odd(t *testing.T, q scimtest.Quirks, cfg scim.Config) (*scimtest.Odd, connectortest.Client) {
	t.Helper()
	o := scimtest.StartOdd(t, q)
	o.AddGroup("staff")
	o.AddGroup("ops")
	cfg.URL, cfg.TokenFile = o.URL(), tokenFile(t, o.Token())
	return o, open(t, cfg)
}

func named(name string) *connectorv1.Step {
	return set(opCreate, map[string]string{"userName": name})
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
func account(t *testing.T, client connectortest.Client, name string) string {
	t.Helper()
	got := client.Do(t, "", "p:"+name, named(name), step(opEnable, ""))
	if letters := outcomes(got); letters != "CC" && letters != "CU" {
		t.Fatalf("%s: %v", name, got.GetResults())
	}
	return got.GetAccountId()
}

// unreadable wants a read to fail.
func unreadable(t *testing.T, client connectortest.Client, req *connectorv1.ReadRequest) *connectorv1.Problem {
	t.Helper()
	got, err := client.Read(t.Context(), req)
	if err != nil || got.GetProblem() == nil {
		t.Fatalf("%v: %v, %v: want a problem", req, got, err)
	}
	return got.GetProblem()
}

// check returns what Check says is wrong, as codes and reasons.
func check(t *testing.T, client connectortest.Client) (all []string, identity string) {
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

// one reads the one account by id.
func one(t *testing.T, client connectortest.Client, id string) *connectorv1.Account {
	t.Helper()
	return only(t, client.Found(t, byID(id)))
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

func list(t *testing.T, client connectortest.Client) listed {
	t.Helper()
	items, end := client.Listing(t)
	l := listed{accounts: map[string]*connectorv1.Account{}, members: map[string]int{}, end: end}
	for _, item := range items {
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
	}
	return l
}
