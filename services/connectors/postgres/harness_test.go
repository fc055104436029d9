package postgres_test

import (
	"context"
	"errors"
	"io"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenurehq/tenure/pkg/connector"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/connectors/postgres"
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

// server is one real PostgreSQL, seen by a superuser's own connection and through the connector.
type server struct {
	dsn    string
	client connectorv1.ConnectorClient
}

// TestAgainstARealServer holds every test that needs one; they share it, and keep to role names of their own.
func TestAgainstARealServer(t *testing.T) {
	t.Parallel()
	dsn := sqltest.PostgresServer(t)
	s := server{dsn: dsn, client: open(t, postgres.Config{URL: dsn, Protected: []string{"kept"}})}
	for name, test := range map[string]func(*testing.T, server){
		"each step a second time changes nothing":                       eachStepTwice,
		"disabled means cannot log in":                                  disabledCannotLogIn,
		"a live session survives DISABLE and dies by KILL_SESSIONS":     sessionsDieByKill,
		"sessions of a role that is gone can be ended":                  sessionsOfTheGone,
		"a revoked password opens nothing":                              revokedPassword,
		"a rotated password works for clients that normalise it":        rotatedPasswords,
		"a role that owns something is not dropped":                     ownersStay,
		"every hard name is just a name":                                hardNames,
		"names that PostgreSQL would change or reserve are refused":     refusedNames,
		"a rename in the database keeps the account":                    renameKeepsID,
		"a taken name is told and not taken over":                       takenName,
		"an account with our marker is found, not made again":           markedIsFound,
		"adoption writes the marker and keeps people's comments":        adoption,
		"what is protected is never altered":                            protected,
		"what is no mere group is never granted":                        ungrantable,
		"entitlements are never made":                                   missingEntitlement,
		"inherited grants are told apart":                               inherited,
		"a role that other roles share shows its members":               members,
		"a listing equals its reads":                                    listingEqualsReads,
		"twenty grants of one role at once lose none":                   concurrentGrants,
		"twenty creates of one account at once make one":                concurrentCreates,
		"valid_until reads back as it was written":                      validUntil,
		"a person's connection limit survives being enabled again":      connectionLimit,
		"what waits for a lock until not_after is known not to be done": lockedOut,
		"Check says which server and what is missing":                   check,
		"Check tells a wrong password from a server that is away":       checkFailures,
		"an administrator who is no superuser can do all of it":         ordinaryAdministrator,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, s)
		})
	}
}

func open(t *testing.T, cfg postgres.Config) connectorv1.ConnectorClient {
	t.Helper()
	database, err := postgres.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	client, stop, err := connector.InProcess(database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(stop(), database.Close()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return client
}

// sql runs statements as the superuser, without the connector.
func (s server) sql(t *testing.T, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// ask returns the one text that a query of the superuser's answers.
func (s server) ask(t *testing.T, sql string, args ...any) (text string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&text); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return text
}

// login tries to log in over TCP with a password, as a person's client would.
func (s server) login(t *testing.T, user, password string) (*pgx.Conn, error) {
	t.Helper()
	cfg, err := pgx.ParseConfig(s.as(t, user, password))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	}
	return conn, err
}

func (s server) as(t *testing.T, user, password string) string {
	t.Helper()
	u, err := url.Parse(s.dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, password)
	return u.String()
}

func step(op eventv1.Op, target string) *connectorv1.Step {
	return &connectorv1.Step{Op: op, Target: target}
}

func set(op eventv1.Op, attributes map[string]string) *connectorv1.Step {
	return &connectorv1.Step{Op: op, Attributes: attributes}
}

func named(login string) *connectorv1.Step { return set(opCreate, map[string]string{"login": login}) }

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

// account makes an account that can log in, without a password, and returns its id.
func account(t *testing.T, client connectorv1.ConnectorClient, login string) string {
	t.Helper()
	return want(t, client, "", marker(login), "CC", named(login), step(opEnable, "")).GetAccountId()
}

// setPassword rotates the account's password through the connector.
func setPassword(t *testing.T, client connectorv1.ConnectorClient, id, mark, password string) {
	t.Helper()
	description, err := client.Describe(t.Context(), &connectorv1.DescribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := connector.Seal(description.GetSealKey(), password)
	if err != nil {
		t.Fatal(err)
	}
	want(t, client, id, mark, "C", &connectorv1.Step{Op: opRotate, Target: "password", SecretIn: sealed})
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

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
