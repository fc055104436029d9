package e2e

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
)

// warehouse is a PostgreSQL whose logins Tenure manages, looked at by its superuser and without Tenure.
type warehouse struct {
	admin *url.URL // the superuser's
	owner string   // the login that Tenure has
}

// newWarehouse starts a PostgreSQL with these roles to be granted, and an administrator for Tenure who is no superuser.
func newWarehouse(t *testing.T, grantable []string) *warehouse {
	t.Helper()
	admin, err := url.Parse(sqltest.PostgresServer(t, "log_min_messages=notice", "log_statement=all", "log_line_prefix=%c "))
	if err != nil {
		t.Fatal(err)
	}
	w := &warehouse{admin: admin, owner: "tenure_worker"}
	w.sql(t, `CREATE ROLE tenure_worker LOGIN CREATEROLE PASSWORD 'of the worker' IN ROLE pg_signal_backend`)
	for _, role := range grantable {
		w.sql(t, "CREATE ROLE "+pgx.Identifier{role}.Sanitize())
	}
	return w
}

// warehouseRoles are those of the company's model.
func warehouseRoles() []string {
	all := []string{"reviewers"}
	for _, d := range departments {
		all = append(all, "dept_"+d)
	}
	for _, title := range titles {
		all = append(all, "title_"+title)
	}
	return all
}

// application is the warehouse as the configuration has it. The password is kept in a file of dir.
func (w *warehouse) application(t *testing.T) string {
	t.Helper()
	return w.applicationAt(t, w.admin.Host)
}

// applicationAt is application, reached at an address.
func (w *warehouse) applicationAt(t *testing.T, address string) string {
	t.Helper()
	password := filepath.Join(t.TempDir(), "password")
	write(t, password, "of the worker")
	dsn := *w.admin
	dsn.User, dsn.Host = url.User(w.owner), address
	return fmt.Sprintf(`
  - name: warehouse
    connector: postgres
    environment: prod
    owner: team-data
    enforce: full
    config: {url: %q, password_file: %q}
    account: {login: person.user_name}
`, dsn.String(), password)
}

// log is the file in which the server writes every statement, a line of which begins with the session.
func (w *warehouse) log(t *testing.T) string {
	t.Helper()
	conn := w.connect(t)
	defer conn.Close(t.Context())
	var data string
	if err := conn.QueryRow(t.Context(), "SHOW data_directory").Scan(&data); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(filepath.Dir(data), "log")
}

func (w *warehouse) connect(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), w.admin.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// sql runs a statement as the superuser.
func (w *warehouse) sql(t *testing.T, statement string) {
	t.Helper()
	conn := w.connect(t)
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// setPassword gives a role a password, as an administrator might behind Tenure's back.
func (w *warehouse) setPassword(t *testing.T, login, password string) {
	t.Helper()
	w.sql(t, fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'", pgx.Identifier{login}.Sanitize(), strings.ReplaceAll(password, "'", "''")))
}

// login tries to log in as a person's client would.
func (w *warehouse) login(t *testing.T, name, password string) (*pgx.Conn, error) {
	t.Helper()
	dsn := *w.admin
	dsn.User = url.UserPassword(name, password)
	return pgx.Connect(t.Context(), dsn.String())
}

// login is a role as the server has it.
type login struct {
	canLogin bool
	limit    int32
	memberOf []string // sorted
}

// logins are all roles that people made, but the superuser, Tenure's own and those that are there to be granted.
func (w *warehouse) logins(t *testing.T, grantable []string) map[string]*login {
	t.Helper()
	conn := w.connect(t)
	defer conn.Close(t.Context())
	all := map[string]*login{}
	rows, err := conn.Query(t.Context(), `SELECT rolname, rolcanlogin, rolconnlimit FROM pg_roles WHERE NOT rolsuper AND oid >= 16384`)
	if err != nil {
		t.Fatal(err)
	}
	var name string
	var l login
	if _, err := pgx.ForEachRow(rows, []any{&name, &l.canLogin, &l.limit}, func() error {
		if name != w.owner && !slices.Contains(grantable, name) {
			all[name] = &login{canLogin: l.canLogin, limit: l.limit}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	rows, err = conn.Query(t.Context(), `SELECT m.rolname, r.rolname FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid
		JOIN pg_roles m ON m.oid = a.member WHERE NOT m.rolsuper AND m.oid >= 16384 ORDER BY r.rolname`)
	if err != nil {
		t.Fatal(err)
	}
	var role string
	if _, err := pgx.ForEachRow(rows, []any{&name, &role}, func() error {
		if all[name] == nil && name != w.owner {
			t.Errorf("%s, which is there to be granted, is a member of %s", name, role)
			return nil
		}
		if name != w.owner {
			all[name].memberOf = append(all[name].memberOf, role)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}
