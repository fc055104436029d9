package postgres_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	"github.com/tenurehq/tenure/services/connectors/postgres"
)

func eachStepTwice(t *testing.T, s server) {
	s.sql(t, `CREATE ROLE twice_group`)
	joiner := []*connectorv1.Step{
		named("twice"), set(opUpdate, map[string]string{"login": "twice", "valid_until": "2030-01-01T00:00:00Z"}),
		step(opGrant, "role:twice_group"), step(opEnable, ""),
	}
	first := s.client.Want(t, "", "p:twice", "CCCC", joiner...)
	again := s.client.Want(t, "", "p:twice", "UUUU", joiner...)
	if first.GetAccountId() != again.GetAccountId() || first.GetAccountId() == "" {
		t.Fatalf("ids %q and %q", first.GetAccountId(), again.GetAccountId())
	}
	id := first.GetAccountId()
	if diff := cmp.Diff(first.GetObserved(), again.GetObserved(), protocmp.Transform()); diff != "" {
		t.Errorf("what was read back differs:\n%s", diff)
	}
	s.client.Want(t, id, "p:twice", "C", s.client.Rotation(t, "password", "secret"))
	leaver := []*connectorv1.Step{step(opDisable, ""), step(opKill, ""), step(opCut, ""), step(opRevoke, "role:twice_group")}
	got := s.client.Want(t, id, "p:twice", "CUCC", leaver...)
	o := got.GetObserved()
	if o.GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_DISABLED || len(o.GetGrants()) != 0 || !o.GetGrantsComplete() ||
		len(o.GetCredentials()) != 0 || !o.GetCredentialsComplete() || o.GetLiveSessions() != 0 {
		t.Errorf("after a leaver's plan there is still %v", o)
	}
	s.client.Want(t, id, "p:twice", "UUUU", leaver...)
	s.client.Want(t, id, "p:twice", "C", step(opDelete, ""))
	if gone := s.client.Want(t, id, "p:twice", "U", step(opDelete, "")); gone.GetObserved() != nil {
		t.Errorf("a dropped role was read back: %v", gone.GetObserved())
	}
}

// refused says whether the server itself turned a login down.
func refused(err error) bool {
	var said *pgconn.PgError
	return errors.As(err, &said) && strings.HasPrefix(said.Code, "28")
}

func disabledCannotLogIn(t *testing.T, s server) {
	id := account(t, s.client, "locked")
	s.client.Want(t, id, "p:locked", "C", s.client.Rotation(t, "password", "correct horse"))
	if _, err := s.login(t, "locked", "correct horse"); err != nil {
		t.Fatalf("an enabled account cannot log in: %v", err)
	}
	if _, err := s.login(t, "locked", "wrong"); !refused(err) {
		t.Fatalf("a wrong password: %v; this probe proves nothing", err)
	}
	s.client.Want(t, id, "p:locked", "C", step(opDisable, ""))
	if _, err := s.login(t, "locked", "correct horse"); !refused(err) {
		t.Fatalf("a disabled account can log in (%v)", err)
	}
	if got := s.ask(t, `SELECT rolcanlogin::text || rolconnlimit::text FROM pg_roles WHERE rolname = 'locked'`); got != "false0" {
		t.Errorf("login and limit are %s, want NOLOGIN and 0", got)
	}
	s.client.Want(t, id, "p:locked", "C", step(opEnable, ""))
	if _, err := s.login(t, "locked", "correct horse"); err != nil {
		t.Fatalf("an account that was enabled again cannot log in: %v", err)
	}
}

func sessionsDieByKill(t *testing.T, s server) {
	id := account(t, s.client, "live")
	s.client.Want(t, id, "p:live", "C", s.client.Rotation(t, "password", "pw"))
	var open []*pgx.Conn
	for range 3 {
		conn, err := s.login(t, "live", "pw")
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
	}
	got := s.client.Want(t, id, "p:live", "C", step(opDisable, ""))
	if n := got.GetObserved().GetLiveSessions(); n != 3 {
		t.Errorf("%d live sessions are read after DISABLE, want 3", n)
	}
	if err := open[0].Ping(t.Context()); err != nil {
		t.Fatalf("DISABLE cut a session, which Describe denies: %v", err)
	}
	got = s.client.Want(t, id, "p:live", "C", step(opKill, ""))
	if left := got.GetResults()[0].GetRemaining(); left != 0 || got.GetObserved().GetLiveSessions() != 0 {
		t.Errorf("%d sessions remain, %d are read", left, got.GetObserved().GetLiveSessions())
	}
	for _, conn := range open {
		if err := conn.Ping(t.Context()); err == nil {
			t.Error("a killed session still answers")
		}
	}
	if got = s.client.Want(t, id, "p:live", "U", step(opKill, "")); got.GetResults()[0].GetRemaining() != 0 {
		t.Errorf("%v", got.GetResults())
	}
}

func sessionsOfTheGone(t *testing.T, s server) {
	id := account(t, s.client, "ghost")
	s.client.Want(t, id, "p:ghost", "C", s.client.Rotation(t, "password", "pw"))
	conn, err := s.login(t, "ghost", "pw")
	if err != nil {
		t.Fatal(err)
	}
	s.client.Want(t, id, "p:ghost", "C", step(opDelete, ""))
	if err := conn.Ping(t.Context()); err != nil {
		t.Fatalf("DELETE cut a session, which Describe denies: %v", err)
	}
	s.client.Want(t, id, "p:ghost", "C", step(opKill, ""))
	if err := conn.Ping(t.Context()); err == nil {
		t.Fatal("the session of a dropped role lives on")
	}
	s.client.Want(t, "10", "p:ghost", "F", step(opKill, ""))
	s.client.Want(t, "nonsense", "p:ghost", "F", step(opKill, ""))
}

func revokedPassword(t *testing.T, s server) {
	id := account(t, s.client, "keyless")
	s.client.Want(t, id, "p:keyless", "C", s.client.Rotation(t, "password", "pw"))
	if a := only(t, s.client.Found(t, byID(id))); len(a.GetCredentials()) != 1 || !a.GetCredentialsComplete() || a.GetCredentials()[0].GetKind() != "password" {
		t.Fatalf("credentials: %v", a)
	}
	s.client.Want(t, id, "p:keyless", "U", step(opCut, "api_key"))
	s.client.Want(t, id, "p:keyless", "CU", step(opCut, "password"), step(opCut, ""))
	if _, err := s.login(t, "keyless", "pw"); !refused(err) {
		t.Fatalf("a revoked password still opens: %v", err)
	}
}

func rotatedPasswords(t *testing.T, s server) {
	id := account(t, s.client, "turning")
	for _, password := range []string{"plain", `it's "quoted" \ $$`, "cafe\u0301\u00a0au lait", "emoji 🔑", strings.Repeat("long", 50)} {
		s.client.Want(t, id, "p:turning", "C", s.client.Rotation(t, "password", password))
		if _, err := s.login(t, "turning", password); err != nil {
			t.Errorf("%q: %v", password, err)
		}
	}
	if stored := s.ask(t, `SELECT rolpassword FROM pg_authid WHERE rolname = 'turning'`); !strings.HasPrefix(stored, "SCRAM-SHA-256$4096:") {
		t.Errorf("the server stores %.20s…", stored)
	}
}

func ownersStay(t *testing.T, s server) {
	id := account(t, s.client, "owner")
	s.sql(t, `CREATE TABLE owned (x int)`, `ALTER TABLE owned OWNER TO owner`)
	got := s.client.Want(t, id, "p:owner", "F", step(opDelete, ""))
	if p := got.GetResults()[0].GetProblem(); p.GetCode() != connectorv1.Code_CODE_PRECONDITION || p.GetReason() != "sqlstate.2BP01" {
		t.Errorf("problem %v, want PRECONDITION sqlstate.2BP01", p)
	}
	if got.GetObserved().GetId() != id {
		t.Error("the refused role is gone")
	}
	s.sql(t, `DROP TABLE owned`)
	s.client.Want(t, id, "p:owner", "C", step(opDelete, ""))
}

// hard are names that have broken a connector somewhere.
var hard = []string{
	`o'brien`, `"quoted"`, `back\slash`, `semi;colon--`, `$$dollar$$`, `a b`, ` leading and trailing `, `%I %s %L`, `new` + "\n" + `line`,
	`Ünïcødé`, `名前`, `🔑`, `e` + "\u0301", `Case`, `case2`, `CASE2`, `select`, `user@example.com`, `{"json": true}`, `'; DROP ROLE postgres; --`,
	`tab` + "\t", strings.Repeat("ö", 31) + "x", "role:prefix", "name=value,other",
}

func hardNames(t *testing.T, s server) {
	for _, name := range hard {
		group := "g" + name
		if len(group) > 63 {
			group = name[1:] // half a rune is no name
			group = strings.ToValidUTF8(group, "")
		}
		s.sql(t, "CREATE ROLE "+quote(group))
		mark := strings.NewReplacer("\n", " ").Replace(name)
		id := s.client.Want(t, "", mark, "CCC", named(name), step(opGrant, "role:"+group), step(opEnable, "")).GetAccountId()
		for how, req := range map[string]*connectorv1.ReadRequest{"id": byID(id), "name": byName(name), "marker": byMarker(mark)} {
			a := only(t, s.client.Found(t, req))
			if a.GetId() != id || a.GetName() != name || a.GetMarker() != mark || a.GetAttributes()["login"] != name ||
				len(a.GetGrants()) != 1 || a.GetGrants()[0].GetEntitlementId() != "role:"+group {
				t.Errorf("%q by %s is %v", name, how, a)
			}
		}
		if got := s.client.Found(t, byEntitlement("role:"+group)); only(t, got).GetId() != id {
			t.Errorf("%q is not found as a member of %q", name, group)
		}
		s.client.Want(t, id, mark, "C", s.client.Rotation(t, "password", name))
		if _, err := s.login(t, name, name); err != nil {
			t.Errorf("%q cannot log in: %v", name, err)
		}
		s.client.Want(t, id, mark, "CCCCC", set(opUpdate, map[string]string{"login": strings.ToValidUTF8(name[:len(name)-1], "") + "_"}),
			step(opDisable, ""), step(opCut, ""), step(opRevoke, "role:"+group), step(opDelete, ""))
		s.sql(t, "DROP ROLE "+quote(group))
	}
}

func refusedNames(t *testing.T, s server) {
	for _, name := range []string{"", "pg_mine", "public", "none", "nul\x00", strings.Repeat("x", 64)} {
		got := s.client.Do(t, "", "p:refused", named(name))
		p := got.GetResults()[0].GetProblem()
		if outcomes(got) != "F" || p.GetCode() != connectorv1.Code_CODE_INVALID || !slices.Equal(p.GetFields(), []string{"login"}) {
			t.Errorf("%q: %v", name, got.GetResults())
		}
	}
	got := s.client.Do(t, "", "two\nlines", named("two_lines"))
	if outcomes(got) != "F" {
		t.Error("a marker of two lines was taken: it would not be found again")
	}
	got = s.client.Do(t, "", "p:odd", set(opCreate, map[string]string{"login": "odd", "shoe_size": "44"}))
	if p := got.GetResults()[0].GetProblem(); !slices.Equal(p.GetFields(), []string{"shoe_size"}) {
		t.Errorf("an attribute that roles do not have: %v", got.GetResults())
	}
}

func renameKeepsID(t *testing.T, s server) {
	id := account(t, s.client, "maiden")
	s.sql(t, `ALTER ROLE maiden RENAME TO married`)
	if a := only(t, s.client.Found(t, byID(id))); a.GetName() != "married" || a.GetMarker() != "p:maiden" {
		t.Fatalf("by id: %v", a)
	}
	if got := s.client.Found(t, byName("maiden")); len(got.GetAccounts()) != 0 {
		t.Errorf("the old name still finds %v", got.GetAccounts())
	}
	s.client.Want(t, id, "p:maiden", "CCC", step(opDisable, ""), step(opEnable, ""), set(opUpdate, map[string]string{"login": "remarried"}))
	if a := only(t, s.client.Found(t, byName("remarried"))); a.GetId() != id {
		t.Errorf("id %s, want %s", a.GetId(), id)
	}
}

func takenName(t *testing.T, s server) {
	s.sql(t, `CREATE ROLE taken LOGIN`, `COMMENT ON ROLE taken IS 'the old batch user'`)
	oid := s.ask(t, `SELECT oid::text FROM pg_roles WHERE rolname = 'taken'`)
	got := s.client.Want(t, "", "p:new", "F-", named("taken"), step(opEnable, ""))
	if p := got.GetResults()[0].GetProblem(); p.GetCode() != connectorv1.Code_CODE_ALREADY_EXISTS || p.GetExistingAccountId() != oid {
		t.Errorf("problem %v, want ALREADY_EXISTS of %s", p, oid)
	}
	id := account(t, s.client, "wants_taken")
	got = s.client.Want(t, id, "p:wants_taken", "F", set(opUpdate, map[string]string{"login": "taken"}))
	if p := got.GetResults()[0].GetProblem(); p.GetCode() != connectorv1.Code_CODE_ALREADY_EXISTS || p.GetExistingAccountId() != oid {
		t.Errorf("rename: problem %v, want ALREADY_EXISTS of %s", p, oid)
	}
	if c := s.ask(t, `SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = 'taken'`); c != "the old batch user" {
		t.Errorf("its comment is now %q", c)
	}
}

func markedIsFound(t *testing.T, s server) {
	id := account(t, s.client, "mine")
	s.sql(t, `ALTER ROLE mine RENAME TO still_mine`)
	if got := s.client.Want(t, "", "p:mine", "U", named("mine")); got.GetAccountId() != id {
		t.Errorf("a second account %s was made beside %s", got.GetAccountId(), id)
	}
	s.sql(t, `CREATE ROLE impostor LOGIN`, `COMMENT ON ROLE impostor IS 'not managed by Tenure: p:mine'`)
	if a := only(t, s.client.Found(t, byMarker("p:mine"))); a.GetId() != id {
		t.Errorf("%v", a)
	}
}

func adoption(t *testing.T, s server) {
	s.sql(t, `CREATE ROLE veteran LOGIN`, `COMMENT ON ROLE veteran IS 'ask Ruth first'`)
	a := only(t, s.client.Found(t, byName("veteran")))
	if a.GetMarker() != "" || a.GetCorrelationKey() != "veteran" {
		t.Fatalf("%v", a)
	}
	s.client.Want(t, a.GetId(), "p:ruth", "CU", set(opUpdate, nil), set(opUpdate, map[string]string{"login": "veteran"}))
	if b := only(t, s.client.Found(t, byMarker("p:ruth"))); b.GetId() != a.GetId() {
		t.Errorf("the adopted account is not found by its marker: %v", b)
	}
	if c := s.ask(t, `SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = 'veteran'`); c != "ask Ruth first\nmanaged by Tenure: p:ruth" {
		t.Errorf("the comment is now %q", c)
	}
	s.client.Want(t, a.GetId(), "p:ruth", "CU", step(opDisable, ""), step(opDisable, ""))
	if b := only(t, s.client.Found(t, byName("veteran"))); b.GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_DISABLED {
		t.Errorf("a marked role without LOGIN is still an account: %v", b)
	}
}

func protected(t *testing.T, s server) {
	s.sql(t, `CREATE ROLE boss SUPERUSER LOGIN`, `CREATE ROLE standby REPLICATION LOGIN`, `CREATE ROLE kept LOGIN`,
		`CREATE ROLE someones LOGIN`, `COMMENT ON ROLE someones IS 'managed by Tenure: p:somebody else'`,
		`CREATE ROLE mere_group`, `CREATE ROLE protected_group`)
	state := `SELECT string_agg(a::text || coalesce(shobj_description(a.oid, 'pg_authid'), ''), ';' ORDER BY rolname) FROM pg_authid a
	          WHERE rolname IN ('boss', 'standby', 'kept', 'someones', 'mere_group', 'postgres', 'pg_monitor')`
	before := s.ask(t, state)
	for _, name := range []string{"boss", "standby", "kept", "someones", "mere_group", "postgres", "pg_monitor"} {
		id := s.ask(t, `SELECT oid::text FROM pg_roles WHERE rolname = $1`, name)
		for _, st := range []*connectorv1.Step{
			set(opUpdate, map[string]string{"login": "renamed"}), step(opEnable, ""), step(opDisable, ""), step(opDelete, ""),
			step(opGrant, "role:protected_group"), step(opRevoke, "role:protected_group"), step(opKill, ""), step(opCut, ""),
		} {
			got := s.client.Do(t, id, "p:me", st)
			if p := got.GetResults()[0].GetProblem(); outcomes(got) != "F" || p.GetCode() != connectorv1.Code_CODE_DENIED {
				t.Errorf("%s of %s: %v, want DENIED", st.GetOp(), name, got.GetResults())
			}
		}
	}
	if after := s.ask(t, state); after != before {
		t.Errorf("something protected was altered:\n%s\n%s", before, after)
	}
}

func concurrentCreates(t *testing.T, s server) {
	client := open(t, postgres.Config{URL: s.dsn, Connections: 20})
	var (
		mu   sync.Mutex
		ids  = map[string]int{}
		made int
		wait sync.WaitGroup
	)
	for range 20 {
		wait.Go(func() {
			got, err := client.Apply(t.Context(), &connectorv1.ApplyRequest{
				Marker: "p:race", NotAfter: timestamppb.New(time.Now().Add(time.Minute)), Steps: []*connectorv1.Step{named("race")},
			})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			ids[got.GetAccountId()]++
			if outcomes(got) == "C" {
				made++
			} else if outcomes(got) != "U" {
				t.Errorf("%v", got.GetResults())
			}
		})
	}
	wait.Wait()
	if made != 1 || len(ids) != 1 {
		t.Fatalf("%d were made, ids %v", made, ids)
	}
}

func validUntil(t *testing.T, s server) {
	id := account(t, s.client, "temp")
	for _, until := range []string{"2026-12-01T00:00:00Z", "2099-02-28T23:59:59.123456Z", "1999-01-01T00:00:00Z"} {
		st := set(opUpdate, map[string]string{"valid_until": until})
		got := s.client.Want(t, id, "p:temp", "CU", st, st)
		if read := got.GetObserved().GetAttributes()["valid_until"]; read != until {
			t.Errorf("written %s, read %s: a difference for ever", until, read)
		}
	}
	got := s.client.Want(t, id, "p:temp", "CU", &connectorv1.Step{Op: opUpdate, Clear: []string{"valid_until"}}, &connectorv1.Step{Op: opUpdate, Clear: []string{"valid_until"}})
	if until, ok := got.GetObserved().GetAttributes()["valid_until"]; ok {
		t.Errorf("cleared, and still %s", until)
	}
	for _, until := range []string{"2026-12-01", "2026-12-01T00:00:00+01:00", "infinity", "tomorrow", "2026-12-01T00:00:00.0Z", "2026-12-01T00:00:00.1234567Z"} {
		got := s.client.Want(t, id, "p:temp", "F", set(opUpdate, map[string]string{"valid_until": until}))
		if p := got.GetResults()[0].GetProblem(); p.GetCode() != connectorv1.Code_CODE_INVALID || !slices.Equal(p.GetFields(), []string{"valid_until"}) {
			t.Errorf("%s: %v", until, p)
		}
	}
}

func connectionLimit(t *testing.T, s server) {
	id := account(t, s.client, "limited")
	s.sql(t, `ALTER ROLE limited NOLOGIN CONNECTION LIMIT 5`)
	s.client.Want(t, id, "p:limited", "C", step(opEnable, ""))
	if got := s.ask(t, `SELECT rolconnlimit::text FROM pg_roles WHERE rolname = 'limited'`); got != "5" {
		t.Errorf("limit %s, want 5", got)
	}
	s.sql(t, `ALTER ROLE limited CONNECTION LIMIT 0`)
	if a := only(t, s.client.Found(t, byID(id))); a.GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_DISABLED {
		t.Error("a role that may hold no connection counts as enabled")
	}
}

func lockedOut(t *testing.T, s server) {
	id := account(t, s.client, "contended")
	conn, err := pgx.Connect(t.Context(), s.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), `BEGIN; ALTER ROLE contended CONNECTION LIMIT 3`); err != nil {
		t.Fatal(err)
	}
	got, err := s.client.Apply(t.Context(), &connectorv1.ApplyRequest{
		AccountId: id, Marker: "p:contended", NotAfter: timestamppb.New(time.Now().Add(300 * time.Millisecond)), Steps: []*connectorv1.Step{step(opDisable, "")},
	})
	if err != nil || outcomes(got) != "F" {
		t.Fatalf("%v, %v; want FAILED: nothing was committed", got.GetResults(), err)
	}
	if _, err := conn.Exec(t.Context(), `COMMIT`); err != nil {
		t.Fatal(err)
	}
	if a := only(t, s.client.Found(t, byID(id))); a.GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_ENABLED {
		t.Error("a step that was reported as not done took effect later")
	}
}
