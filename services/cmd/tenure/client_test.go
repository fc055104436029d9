package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tenurehq/tenure/pkg/fault"
)

func TestATokenThatWasFoundStaysOnThisMachine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, operatorsDir), 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, operatorsDir, "ada")
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		client
		sent bool
	}{
		{client{server: "127.0.0.1:8081"}, true},
		{client{server: "[::1]:8081"}, true},
		{client{server: "localhost:8081"}, true},
		{client{server: "unix:/run/tenure.sock"}, true},
		{client{server: "tenure.example:8081"}, false},
		{client{server: "127.0.0.1.example:8081"}, false},
		{client{server: "nonsense"}, false},
		{client{server: "tenure.example:8081", operator: "ada"}, true},
		{client{server: "tenure.example:8081", tokenFile: file}, true},
	} {
		c.dataDir = dir
		token, err := c.token()
		if sent := err == nil && string(token.Reveal()) == "secret"; sent != c.sent {
			t.Errorf("%s, operator %q, file %q: token read %v (%v), want %v", c.server, c.operator, c.tokenFile, sent, err, c.sent)
		}
		if !c.sent && fault.ExitCode(err) != 4 {
			t.Errorf("%s: exit code %d, want 4", c.server, fault.ExitCode(err))
		}
	}
}
