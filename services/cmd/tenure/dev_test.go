package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/tenurehq/tenure/services/settings"
)

func prepared(t *testing.T, d *devRun) *devRun {
	t.Helper()
	d.out = new(bytes.Buffer)
	if err := d.prepare(); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestAFirstStartThatWasCutShortBeginsAnew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// What a start leaves that ended while it wrote the configuration: tokens, and half a file under another name.
	for _, sub := range []string{operatorsDir, sourcesDir} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{"tenure.yaml.new": "data_dir: .\noperators:\n  - {na", operatorsDir + "/ada": "old\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := prepared(t, &devRun{dir: dir, port: 8080})
	if len(d.settings.Operators) != 2 || len(d.settings.Applications) != 3 {
		t.Errorf("%d operators, %d applications", len(d.settings.Operators), len(d.settings.Applications))
	}
	if _, err := os.Stat(filepath.Join(dir, "tenure.yaml.new")); !os.IsNotExist(err) {
		t.Errorf("half a file is still there: %v", err)
	}
	c := &client{dataDir: dir, operator: "ada"}
	token, err := c.token()
	if err != nil || string(token.Reveal()) == "old" {
		t.Errorf("ada's token is that of the start which was cut short: %v", err)
	}
	before := d.settings.Operators[0].TokenSHA256
	if again := prepared(t, &devRun{dir: dir, port: 9090}); again.settings.Operators[0].TokenSHA256 != before {
		t.Error("the next start made everything anew")
	}
	for _, name := range []string{"tenure.yaml", operatorsDir + "/ada", operatorsDir + "/bob", sourcesDir + "/" + demoSource} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, want mode 0600", name, err)
		}
	}
}

// Who began empty and added an application starts without --empty some day.
func TestThePeopleOfTheDemoStayInTheDemo(t *testing.T) {
	t.Parallel()
	if d := prepared(t, &devRun{dir: t.TempDir(), port: 8080}); !d.demo() {
		t.Error("the demo company is missing in its own directory")
	}
	if d := prepared(t, &devRun{dir: t.TempDir(), port: 8080, empty: true}); d.demo() {
		t.Error("--empty is not empty")
	}
	dir := t.TempDir()
	prepared(t, &devRun{dir: dir, port: 8080, empty: true})
	d := prepared(t, &devRun{dir: dir, port: 8080})
	d.settings.Applications = []settings.Application{{Name: "warehouse", Connector: "postgres"}}
	if d.demo() {
		t.Error("the demo company would get into an application that is none of its own")
	}
}
