package main

import (
	"bytes"
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
		"holds list",
		"connector new mine --lang go",
		"people cut 1 --reason x",
		"apps reconcile wiki",
		"audit proof minus-one",
		"model check /does/not/exist",
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
		"holds list": "holds", "connector conform x --fixture y": "connector", "people cut 1 --reason x": "people cut",
		"people lift 1": "people lift", "people merge 1 2": "people merge", "people split 1": "people split", "apps reconcile wiki": "apps reconcile",
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
