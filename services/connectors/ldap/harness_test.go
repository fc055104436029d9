package ldap_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenurehq/tenure/pkg/connector"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/connectors/ldap"
	"github.com/tenurehq/tenure/services/connectors/ldap/ldaptest"
)

const (
	opCreate  = eventv1.Op_OP_CREATE
	opUpdate  = eventv1.Op_OP_UPDATE
	opEnable  = eventv1.Op_OP_ENABLE
	opDisable = eventv1.Op_OP_DISABLE
	opDelete  = eventv1.Op_OP_DELETE
	opGrant   = eventv1.Op_OP_GRANT
	opRevoke  = eventv1.Op_OP_REVOKE
	opCut     = eventv1.Op_OP_REVOKE_CREDENTIAL
	opRotate  = eventv1.Op_OP_ROTATE_CREDENTIAL
)

// server is one real OpenLDAP, seen by its administrator and through the connector.
type server struct {
	*ldaptest.Server
	client connectorv1.ConnectorClient
}

// start starts a server of its own for a test.
func start(t *testing.T, cfg ldaptest.Config) server {
	t.Helper()
	s := server{Server: ldaptest.StartWith(t, cfg)}
	s.client = open(t, s.config(t))
	return s
}

// config is that of a connector to the server, as its administrator.
func (s server) config(t *testing.T) ldap.Config {
	t.Helper()
	return ldap.Config{
		URL: s.URL(), BindDN: s.AdminDN(), PasswordFile: file(t, s.AdminPassword()),
		PeopleBase: ldaptest.PeopleBase, GroupsBase: ldaptest.GroupsBase, EmptyGroupMember: s.EmptyGroupMember(),
	}
}

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, cfg ldap.Config) connectorv1.ConnectorClient {
	t.Helper()
	directory, err := ldap.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	client, stop, err := connector.InProcess(directory)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(stop(), directory.Close()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return client
}

func group(name string) string { return "cn=" + name + "," + ldaptest.GroupsBase }

func step(op eventv1.Op, target string) *connectorv1.Step {
	return &connectorv1.Step{Op: op, Target: target}
}

func set(op eventv1.Op, attributes map[string]string) *connectorv1.Step {
	return &connectorv1.Step{Op: op, Attributes: attributes}
}

func named(login string) *connectorv1.Step {
	return set(opCreate, map[string]string{"uid": login, "cn": "C " + login, "sn": "S", "mail": "m@acme.example"})
}

// marker is the marker of the account that a test makes for login.
func marker(login string) string { return "p:" + login }

// apply runs steps on the account with that id, or creates one when id is empty.
func apply(t *testing.T, client connectorv1.ConnectorClient, id, mark string, steps ...*connectorv1.Step) *connectorv1.ApplyResponse {
	t.Helper()
	got, err := client.Apply(t.Context(), &connectorv1.ApplyRequest{
		AccountId: id, Marker: mark, NotAfter: timestamppb.New(time.Now().Add(30 * time.Second)), Steps: steps,
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// outcomes in short: C changed, U unchanged, F failed, ? unknown, - not attempted.
func outcomes(resp *connectorv1.ApplyResponse) string {
	out := ""
	for _, r := range resp.GetResults() {
		out += map[connectorv1.Outcome]string{
			connectorv1.Outcome_OUTCOME_CHANGED: "C", connectorv1.Outcome_OUTCOME_UNCHANGED: "U", connectorv1.Outcome_OUTCOME_FAILED: "F",
			connectorv1.Outcome_OUTCOME_UNKNOWN: "?", connectorv1.Outcome_OUTCOME_NOT_ATTEMPTED: "-",
		}[r.GetOutcome()]
	}
	return out
}

// want applies steps and expects these outcomes.
func want(t *testing.T, client connectorv1.ConnectorClient, id, mark, expected string, steps ...*connectorv1.Step) *connectorv1.ApplyResponse {
	t.Helper()
	got := apply(t, client, id, mark, steps...)
	if outcomes(got) != expected {
		t.Fatalf("outcomes %s, want %s: %v", outcomes(got), expected, got.GetResults())
	}
	return got
}

// wantProblem applies one step and expects that it fails, for this reason.
func wantProblem(t *testing.T, client connectorv1.ConnectorClient, id, mark string, st *connectorv1.Step, code connectorv1.Code, reason string) *connectorv1.Problem {
	t.Helper()
	p := want(t, client, id, mark, "F", st).GetResults()[0].GetProblem()
	if p.GetCode() != code || p.GetReason() != reason {
		t.Fatalf("%s: %v, want %s %s", st.GetOp(), p, code, reason)
	}
	return p
}

// account makes an account that is enabled, without a password, and returns its id.
func account(t *testing.T, client connectorv1.ConnectorClient, login string) string {
	t.Helper()
	return want(t, client, "", marker(login), "CC", named(login), step(opEnable, "")).GetAccountId()
}

// rotation is the step that gives an account a password through the connector.
func rotation(t *testing.T, client connectorv1.ConnectorClient, password string) *connectorv1.Step {
	t.Helper()
	description, err := client.Describe(t.Context(), &connectorv1.DescribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := connector.Seal(description.GetSealKey(), password)
	if err != nil {
		t.Fatal(err)
	}
	return &connectorv1.Step{Op: opRotate, Target: "password", SecretIn: sealed}
}

func read(t *testing.T, client connectorv1.ConnectorClient, req *connectorv1.ReadRequest) *connectorv1.ReadResponse {
	t.Helper()
	got, err := client.Read(t.Context(), req)
	if err != nil || got.GetProblem() != nil {
		t.Fatalf("read: %v, %v", got.GetProblem(), err)
	}
	return got
}

func byID(id string) *connectorv1.ReadRequest {
	return &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_AccountId{AccountId: id}, Credentials: true, Sessions: true}
}

func byName(name string) *connectorv1.ReadRequest {
	return &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_Name{Name: name}}
}

func byMarker(mark string) *connectorv1.ReadRequest {
	return &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_Marker{Marker: mark}}
}

func byEntitlement(id string) *connectorv1.ReadRequest {
	return &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_EntitlementId{EntitlementId: id}}
}

// only returns the one account that was read.
func only(t *testing.T, resp *connectorv1.ReadResponse) *connectorv1.Account {
	t.Helper()
	if len(resp.GetAccounts()) != 1 {
		t.Fatalf("%d accounts, want one: %v", len(resp.GetAccounts()), resp.GetAccounts())
	}
	return resp.GetAccounts()[0]
}

func listing(t *testing.T, client connectorv1.ConnectorClient) (items []*connectorv1.ListResponse) {
	t.Helper()
	stream, err := client.List(t.Context(), &connectorv1.ListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		item, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			t.Fatal("the listing has no end")
		case err != nil:
			t.Fatal(err)
		case item.GetEnd() != nil:
			if !item.GetEnd().GetComplete() {
				t.Fatalf("incomplete: %v", item.GetEnd())
			}
			return items
		}
		items = append(items, item)
	}
}
