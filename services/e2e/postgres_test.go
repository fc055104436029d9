package e2e

import (
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/jackc/pgx/v5"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	"github.com/tenurehq/tenure/services/audit"
)

// postgresServer runs PostgreSQL with the files of deploy/postgres and returns its host and port.
func postgresServer(t *testing.T, certs string) string {
	t.Helper()
	admin, err := url.Parse(postgresAdmin(t, certs))
	if err != nil {
		t.Fatal(err)
	}
	return admin.Host
}

// postgresAdmin is postgresServer, and returns the superuser's DSN.
func postgresAdmin(t *testing.T, certs string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tenure-e2e-") //nolint:usetesting // the server's user cannot enter the test's own folder
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	// First those who look after the test's server, then the file as it is.
	files := map[string]string{"pg_hba.conf": "host all postgres 127.0.0.1/32 scram-sha-256\n", "pg_ident.conf": ""}
	for name := range files {
		files[name] += read(t, filepath.Join(root, "deploy", "postgres", name))
	}
	for _, name := range []string{"postgres.crt", "postgres.key", "ca.crt"} {
		files[name] = read(t, filepath.Join(certs, name))
	}
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		giveToServer(t, file)
	}
	giveToServer(t, dir)
	at := func(name string) string { return "=" + filepath.Join(dir, name) }
	admin := sqltest.PostgresServer(t, "ssl=on", "ssl_cert_file"+at("postgres.crt"), "ssl_key_file"+at("postgres.key"), "ssl_ca_file"+at("ca.crt"),
		"hba_file"+at("pg_hba.conf"), "ident_file"+at("pg_ident.conf"))
	conn, err := pgx.Connect(t.Context(), admin)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for statement := range strings.SplitSeq(read(t, filepath.Join(root, "deploy", "postgres", "init.sql")), ";\n") {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("deploy/postgres/init.sql: %s: %v", statement, err)
		}
	}
	return admin
}

// giveToServer gives a file to whom the server runs as: root's tests run it as somebody else, as PostgreSQL demands.
func giveToServer(t *testing.T, name string) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	them, err := user.Lookup("postgres")
	if err != nil {
		if them, err = user.Lookup("nobody"); err != nil {
			t.Fatal(err)
		}
	}
	uid, err := strconv.Atoi(them.Uid)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.Atoi(them.Gid)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(name, uid, gid); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// databaseURL is the one of a service's example configuration, at another server and with certificates elsewhere.
func databaseURL(t *testing.T, service, server, certs string) string {
	t.Helper()
	var file struct {
		Database struct{ URL string } `yaml:"database"`
	}
	text := read(t, filepath.Join(root, "deploy", "config", "cluster", service+".yaml"))
	if err := yaml.Unmarshal([]byte(text), &file); err != nil {
		t.Fatal(err)
	}
	dsn, err := url.Parse(strings.ReplaceAll(file.Database.URL, "/etc/tenure/certs", certs))
	if err != nil || dsn.Host == "" {
		t.Fatalf("database.url of %s: %q, %v", service, file.Database.URL, err)
	}
	dsn.Host = server
	return dsn.String()
}

func TestOnThePostgreSQLOfComposeServicesNeedNoPasswordAndOthersHaveNoWayIn(t *testing.T) {
	t.Parallel()
	certs := filepath.Join(installation(t), "deploy", "certs")
	server := postgresServer(t, certs)
	for service, schema := range map[string]string{"ingest": "ingest", "policy": "policy", "provision": "provision_wiki", "audit": "audit"} {
		db, err := sqldb.Open(t.Context(), sqldb.Config{
			Postgres: config.NewSecret([]byte(databaseURL(t, service, server, certs))), Schema: schema,
		}, audit.Migrations()...) // any service's will do: what is tried is whether the login may make them
		if err != nil {
			t.Errorf("%s cannot use the database: %v", service, err)
			continue
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
	ours := databaseURL(t, "ingest", server, certs)
	for who, dsn := range map[string]string{
		"console's certificate":   strings.ReplaceAll(ours, "ingest.", "console."),
		"an operator":             strings.ReplaceAll(ours, "ingest.", "ada."),
		"nobody's certificate":    ours[:strings.Index(ours, "&sslcert")],
		"a line without TLS":      ours[:strings.Index(ours, "?")] + "?sslmode=disable",
		"a service as superuser":  strings.Replace(ours, "tenure@", "postgres@", 1),
		"a service, another base": strings.Replace(ours, "/tenure?", "/postgres?", 1),
	} {
		conn, err := pgx.Connect(t.Context(), dsn)
		if err == nil {
			_ = conn.Close(t.Context())
			t.Errorf("%s is let in", who)
		} else if !strings.Contains(err.Error(), "28000") && !strings.Contains(err.Error(), "28P01") && !strings.Contains(err.Error(), "password") {
			t.Errorf("%s is kept out, but not by the server's rules: %v", who, err)
		}
	}
}
