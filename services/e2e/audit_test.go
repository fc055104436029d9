package e2e

import (
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
	_ "modernc.org/sqlite"             // the driver sqlite

	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/services/audit/evidence"
)

// audited is the last part of a history: the record of it holds, and whoever changes a byte of it is found.
func (h *history) audited(t *testing.T, samples int) {
	t.Helper()
	signed := ask[struct {
		Note string `json:"note"`
		Key  string `json:"verifier_key"`
	}](t, h.tenure, "audit", "checkpoint", "--now")
	// What an auditor keeps elsewhere.
	kept := t.TempDir()
	key, held := filepath.Join(kept, "log.vkey"), filepath.Join(kept, "checkpoint")
	write(t, key, signed.Key)
	write(t, held, signed.Note)

	running := h.verifies(t, "--key", key, "--checkpoint", held)
	if n := running.Origins["ingest"]; n < 1000 {
		t.Errorf("the log has %d events of ingest, and 1,000 people joined", n)
	}
	for _, origin := range []string{"policy", "provision/wiki", "provision/warehouse"} {
		if running.Origins[origin] == 0 {
			t.Errorf("the log has nothing of %s", origin)
		}
	}
	export := filepath.Join(t.TempDir(), "export")
	h.cli(t, "audit", "export", export).want(t, 0)
	offline := execute(t, t.TempDir(), "tenure", "audit", "verify", export, "--key", key, "--checkpoint", held, "-o", "json").want(t, 0)
	var report evidence.Report
	if err := json.Unmarshal([]byte(offline.stdout), &report); err != nil {
		t.Fatal(err)
	}
	if report.Leaves < running.Leaves || report.Beyond != 0 || len(report.Missing) > 0 {
		t.Errorf("the export proves %+v, the log %+v", report, running)
	}
	t.Logf("the log of %d entries and %d checkpoints verifies", report.Leaves, report.Checkpoints)
	changedExportIsFound(t, export, key, signed.Key, samples)
	h.changedLogIsFound(t)
}

// verifies expects that the running log verifies.
func (h *history) verifies(t *testing.T, args ...string) evidence.Report {
	t.Helper()
	return ask[evidence.Report](t, h.tenure, append([]string{"audit", "verify"}, args...)...)
}

// changedExportIsFound changes one byte at a time and verifies, with the auditor's own key.
func changedExportIsFound(t *testing.T, export, keyFile, key string, samples int) {
	t.Helper()
	checkpoints, err := filepath.Glob(filepath.Join(export, "checkpoints", "*"))
	if err != nil || len(checkpoints) == 0 {
		t.Fatalf("an export without checkpoints: %v", err)
	}
	for n := range samples {
		name := filepath.Join(export, []string{"leaves", "hashes"}[n%2])
		if n%5 == 4 {
			name = checkpoints[below(t, len(checkpoints))]
		}
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		at, mask := below(t, len(content)), byte(1)<<below(t, 8)
		changed := slices.Clone(content)
		changed[at] ^= mask
		if err := os.WriteFile(name, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = evidence.VerifyDir(export, key)
		if err == nil {
			t.Errorf("byte %d of %s was changed by %#x, and the export verifies", at, filepath.Base(name), mask)
		}
		if n < 3 { // the command says the same as the library behind it
			r := execute(t, t.TempDir(), "tenure", "audit", "verify", export, "--key", keyFile).want(t, 1)
			if !strings.Contains(r.stderr, "NOT VERIFIED") || strings.Count(r.stderr, "\n") != 1 {
				t.Errorf("a changed export: %q", r.stderr)
			}
		}
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := evidence.VerifyDir(export, key); err != nil {
		t.Errorf("with every byte as it was: %v", err)
	}
}

func below(t *testing.T, n int) int {
	t.Helper()
	random, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
	if err != nil {
		t.Fatal(err)
	}
	return int(random.Int64())
}

// changedLogIsFound edits the running log as whoever owns the database could.
func (h *history) changedLogIsFound(t *testing.T) {
	t.Helper()
	db := h.auditDatabase(t)
	for _, edit := range []struct{ table, key, pick, column string }{
		{"batches", "first", "min(first)", "data"},
		{"batches", "first", "max(first)", "lengths"},
		{"hashes", "first", "min(first)", "data"},
		{"checkpoints", "size", "max(size)", "note"},
	} {
		name := edit.table
		if h.engine == sqldb.Postgres {
			name = "audit." + edit.table
		}
		var row int64 // the log grows while we are at it
		if err := db.QueryRowContext(t.Context(), "SELECT "+edit.pick+" FROM "+name).Scan(&row); err != nil {
			t.Fatalf("%s: %v", edit.table, err)
		}
		where := fmt.Sprintf("%s = %d", edit.key, row)
		var was []byte
		if err := db.QueryRowContext(t.Context(), "SELECT "+edit.column+" FROM "+name+" WHERE "+where).Scan(&was); err != nil {
			t.Fatalf("%s: %v", edit.table, err)
		}
		changed := slices.Clone(was)
		changed[len(changed)/2] ^= 1
		set := func(value []byte) {
			var argument any = value
			if edit.column != "data" {
				argument = string(value)
			}
			if result, err := db.ExecContext(t.Context(), "UPDATE "+name+" SET "+edit.column+" = $1 WHERE "+where, argument); err != nil {
				t.Fatalf("edit %s: %v", edit.table, err)
			} else if n, _ := result.RowsAffected(); n != 1 {
				t.Fatalf("edited %d rows of %s", n, edit.table)
			}
		}
		set(changed)
		if r := h.cli(t, "audit", "verify"); r.code != 1 || !strings.Contains(r.stderr, "NOT VERIFIED") || strings.Contains(r.stderr, "internal") {
			t.Errorf("one byte of %s's %s was changed in the database, and verify says (exit %d): %s%s", edit.table, edit.column, r.code, r.stdout, r.stderr)
		}
		set(was)
		h.verifies(t)
	}
}

// auditDatabase is Tenure's own, opened by whoever may do everything, with what guards it taken away.
func (h *history) auditDatabase(t *testing.T) *sql.DB {
	t.Helper()
	driver, dsn := "pgx", h.database
	if h.engine == sqldb.SQLite {
		driver, dsn = "sqlite", "file:"+filepath.Join(h.dir, "data", "audit.db")+"?_pragma=busy_timeout(20000)"
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if h.engine == sqldb.Postgres {
		return db // a superuser's
	}
	if _, err := db.ExecContext(t.Context(), "UPDATE batches SET data = x'00' WHERE first = 0"); err == nil {
		t.Error("a leaf can be edited without taking anything away")
	}
	rows, err := db.QueryContext(t.Context(), "SELECT name FROM sqlite_master WHERE type = 'trigger'")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }() // closed early in the good case
	var triggers []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		triggers = append(triggers, name)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for _, name := range triggers {
		if _, err := db.ExecContext(t.Context(), `DROP TRIGGER "`+name+`"`); err != nil {
			t.Fatal(err)
		}
	}
	return db
}
