package audit_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/bus/bustest"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	"github.com/tenurehq/tenure/services/audit"
)

func TestTheSigningKeyIsMadeOnceAndKeptFromOthers(t *testing.T) {
	t.Parallel()
	db, events := sqltest.New(t, "sqlite", audit.Migrations()...), bustest.New(t)
	open := func(file, origin string) (*audit.Service, error) {
		return audit.New(audit.Config{KeyFile: file, Origin: origin}, audit.Deps{
			DB: db, Bus: events, Log: zap.NewNop(), Registry: prometheus.NewRegistry(), Now: time.Now,
		})
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "not", "there", "audit.key")
	first, err := open(file, "")
	if err != nil {
		t.Fatalf("in a folder that was not there: %v", err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (%v), want 0600", info.Mode(), err)
	}
	if names, err := os.ReadDir(filepath.Dir(file)); err != nil || len(names) != 1 {
		t.Errorf("beside the key: %v (%v)", names, err)
	}
	again, err := open(file, "")
	if err != nil || again.VerifierKey() != first.VerifierKey() {
		t.Errorf("at the next start there is another key: %v", err)
	}

	other, err := open(filepath.Join(dir, "other.key"), "log.example")
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	signing, _, _ := strings.Cut(string(key), "\n")
	for what, wrong := range map[string]struct {
		content string
		mode    os.FileMode
		origin  string
	}{
		"open to everybody":    {string(key), 0o644, ""},
		"without verifier key": {signing + "\n", 0o600, ""},
		"another's verifier":   {signing + "\n" + other.VerifierKey() + "\n", 0o600, ""},
		"cut short":            {"", 0o600, ""},
		"of another log":       {string(key), 0o600, "log.example"},
	} {
		path := filepath.Join(dir, strings.ReplaceAll(what, " ", "-"))
		if err := os.WriteFile(path, []byte(wrong.content), wrong.mode); err != nil {
			t.Fatal(err)
		}
		_, err := open(path, wrong.origin)
		if err == nil {
			t.Errorf("a key %s was taken", what)
			continue
		}
		if strings.Contains(err.Error(), "PRIVATE+KEY") {
			t.Errorf("a key %s is shown: %v", what, err)
		}
	}
}
