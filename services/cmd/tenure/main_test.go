package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/tenurehq/tenure/pkg/fault"
)

// leaves are the commands that do something.
func leaves(cmd *cobra.Command) []*cobra.Command {
	if !cmd.HasSubCommands() {
		return []*cobra.Command{cmd}
	}
	var all []*cobra.Command
	for _, sub := range cmd.Commands() {
		all = append(all, leaves(sub)...)
	}
	return all
}

func TestEveryCommandSaysWhatItDoesAndShowsAnExample(t *testing.T) {
	t.Parallel()
	n := 0
	for _, cmd := range leaves(newRoot()) {
		if cmd.Hidden {
			continue
		}
		n++
		if cmd.Short == "" || !strings.Contains(cmd.Example, cmd.CommandPath()) {
			t.Errorf("%s: no short help, or no example that shows it", cmd.CommandPath())
		}
	}
	if n < 25 {
		t.Errorf("only %d commands", n)
	}
}

func TestWrongUseIsToldFromFailure(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"people show",
		"people shwo ada",
		"people set 1",
		"people set 1 department",
		"nonsense",
		"people list --nonsense",
		"people list -o yaml",
		"holds show",
		"connector new mine --lang go",
		"people cut 1",
		"people cut --reason x",
		"people lift 1 --reason",
		"apps reconcile wiki",
		"audit proof minus-one",
		"model check /does/not/exist",
		"model check -o xml demo",
	} {
		args := strings.Fields(line)
		root := newRoot()
		root.SetArgs(append(args, "--data-dir", t.TempDir()))
		root.SetOut(new(bytes.Buffer))
		root.SetErr(new(bytes.Buffer))
		err := root.ExecuteContext(t.Context())
		// Without a token nothing is sent, so what needs a connection before it looks at its arguments is refused instead.
		if code := fault.ExitCode(err); code != 2 && fault.KindOf(err) != fault.Unauthenticated {
			t.Errorf("tenure %s: exit code %d (%v), want 2", line, code, err)
		}
	}
}

func TestWhatIsNotBuiltYetIsRefusedByName(t *testing.T) {
	t.Parallel()
	for line, name := range map[string]string{
		"connector conform x --fixture y": "connector", "apps reconcile wiki": "apps reconcile",
	} {
		root := newRoot()
		root.SetArgs(strings.Fields(line))
		err := root.ExecuteContext(t.Context())
		if err == nil || !strings.HasPrefix(err.Error(), name+": not built yet") || fault.ExitCode(err) != 2 {
			t.Errorf("tenure %s: got %v", line, err)
		}
	}
}

func TestShellsCanComplete(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		root := newRoot()
		out := new(bytes.Buffer)
		root.SetOut(out)
		root.SetArgs([]string{"completion", shell})
		if err := root.ExecuteContext(t.Context()); err != nil || out.Len() < 500 {
			t.Errorf("completion for %s: %d bytes, %v", shell, out.Len(), err)
		}
	}
}

func TestNamesFromOutsideCannotMoveTheCursor(t *testing.T) {
	t.Parallel()
	out := new(bytes.Buffer)
	p := &printer{w: out}
	if err := p.table([]string{"NAME"}, [][]string{{"a\x1b[2Jb\nc\u202ed"}}); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(strings.SplitN(out.String(), "\n", 2)[1]); got != "a·[2Jb·c·d" {
		t.Errorf("got %q", got)
	}
}

func TestTextsOfSeveralLinesCannotMoveTheCursorEither(t *testing.T) {
	t.Parallel()
	if got, want := cleanLines("{\"a\":\n\t\"b\u009b2J\u202e\"\r\n}"), "{\"a\":\n    \"b·2J·\"·\n}"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAModelIsCheckedForMachinesToo(t *testing.T) {
	t.Parallel()
	out := new(bytes.Buffer)
	root := newRoot()
	root.SetOut(out)
	root.SetErr(new(bytes.Buffer))
	dir := t.TempDir()
	raw, err := demo.ReadFile("demo/roles.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "roles.yaml"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	root.SetArgs([]string{"model", "check", dir, "-o", "json"})
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Roles        int      `json:"roles"`
		SHA256       string   `json:"sha256"`
		Unclassified []string `json:"unclassified"`
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got.Roles != 5 || len(got.SHA256) != 64 || got.Unclassified == nil {
		t.Errorf("got %s (%v)", out, err)
	}
}

func TestAKindThatNoEventHasIsRefused(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"", "leaver", "leave-started", "no-show", "contract-extended", "lift", "intent", "checkpoint"} {
		if err := checkKind(kind); err != nil {
			t.Errorf("%q: %v", kind, err)
		}
	}
	for _, kind := range []string{"leavr", "unspecified", "LEAVER", "tenure"} {
		if err := checkKind(kind); fault.ExitCode(err) != 2 {
			t.Errorf("%q: %v, want exit code 2", kind, err)
		}
	}
}

func TestWhoCannotReachTenureIsToldWhere(t *testing.T) {
	t.Parallel()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("t\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	root := newRoot()
	root.SetArgs([]string{"people", "list", "--server", "127.0.0.1:1", "--token-file", token})
	err := root.ExecuteContext(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "no Tenure answers at 127.0.0.1:1: ") || fault.ExitCode(err) != 1 {
		t.Errorf("got %v", err)
	}
}

func TestACSVRowBecomesARecord(t *testing.T) {
	t.Parallel()
	im := &importer{head: []string{"external_id", "given_name", "email", "attributes.cost_center"}}
	got, err := im.record([]string{"7", `Ann "A"`, "", "47"})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"attributes":{"cost_center":"47"},"external_id":"7","given_name":"Ann \"A\""}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
