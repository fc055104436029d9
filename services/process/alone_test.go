package process

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/services/settings"
)

func TestOneProcessAtATimeIsAlone(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "provision_wiki.lock")
	first, err := alone(file)
	if err != nil || first == nil {
		t.Fatalf("nobody has it, and it is not given: %v", err)
	}
	if second, err := alone(file); err != nil || second != nil {
		t.Errorf("given twice: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	third, err := alone(file)
	if err != nil || third == nil {
		t.Fatalf("given back, and not given again: %v", err)
	}
	_ = third.Close()
}

func TestADatabaseWhoseApplicationIsNotConfiguredAnyMoreIsFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg, err := settings.Parse(filepath.Join(dir, "tenure.yaml"), []byte("data_dir: .\napplications:\n  - {name: my-wiki, connector: demo, owner: o}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"provision_my_wiki.db", "provision_old_code.db", "provision_old_code.db-wal", "policy.db"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := (&Process{settings: cfg}).unconfigured(t.Context(), nil)
	if diff := cmp.Diff([]string{"old-code"}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
