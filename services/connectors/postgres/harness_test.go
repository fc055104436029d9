package postgres_test

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tenurehq/tenure/pkg/connector/connectortest"
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

// How the connector is spoken to.
var (
	step, set, outcomes, only             = connectortest.Step, connectortest.Set, connectortest.Outcomes, connectortest.Only
	byID, byName, byMarker, byEntitlement = connectortest.ByID, connectortest.ByName, connectortest.ByMarker, connectortest.ByEntitlement
)

// server is one real PostgreSQL, seen by a superuser's own connection and through the connector.
type server struct {
	dsn    string
	client connectortest.Client
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

func open(t *testing.T, cfg postgres.Config) connectortest.Client {
	t.Helper()
	database, err := postgres.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return connectortest.Start(t, database, database.Close)
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

func named(login string) *connectorv1.Step { return set(opCreate, map[string]string{"login": login}) }

// marker is the marker of the account that a test makes for login.
func marker(login string) string { return "p:" + login }

// account makes an account that can log in, without a password, and returns its id.
func account(t *testing.T, client connectortest.Client, login string) string {
	t.Helper()
	return client.Want(t, "", marker(login), "CC", named(login), step(opEnable, "")).GetAccountId()
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
