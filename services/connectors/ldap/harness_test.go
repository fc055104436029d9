package ldap_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tenurehq/tenure/pkg/connector/connectortest"
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

// How the connector is spoken to.
var (
	step, set, outcomes, only             = connectortest.Step, connectortest.Set, connectortest.Outcomes, connectortest.Only
	byID, byName, byMarker, byEntitlement = connectortest.ByID, connectortest.ByName, connectortest.ByMarker, connectortest.ByEntitlement
)

// server is one real OpenLDAP, seen by its administrator and through the connector.
type server struct {
	*ldaptest.Server
	client connectortest.Client
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

func open(t *testing.T, cfg ldap.Config) connectortest.Client {
	t.Helper()
	directory, err := ldap.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return connectortest.Start(t, directory, directory.Close)
}

func group(name string) string { return "cn=" + name + "," + ldaptest.GroupsBase }

func named(login string) *connectorv1.Step {
	return set(opCreate, map[string]string{"uid": login, "cn": "C " + login, "sn": "S", "mail": "m@acme.example"})
}

// marker is the marker of the account that a test makes for login.
func marker(login string) string { return "p:" + login }

// wantProblem applies one step and expects that it fails, for this reason.
func wantProblem(t *testing.T, client connectortest.Client, id, mark string, st *connectorv1.Step, code connectorv1.Code, reason string) *connectorv1.Problem {
	t.Helper()
	p := client.Want(t, id, mark, "F", st).GetResults()[0].GetProblem()
	if p.GetCode() != code || p.GetReason() != reason {
		t.Fatalf("%s: %v, want %s %s", st.GetOp(), p, code, reason)
	}
	return p
}

// account makes an account that is enabled, without a password, and returns its id.
func account(t *testing.T, client connectortest.Client, login string) string {
	t.Helper()
	return client.Want(t, "", marker(login), "CC", named(login), step(opEnable, "")).GetAccountId()
}
