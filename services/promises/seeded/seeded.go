// Package seeded makes bugs on purpose in copies of the services' source, and has a named test of theirs look for each.
//
// A bug is a replacement of text. The compiler is given the changed copy in place of the file (go test -overlay), so the services
// themselves have no hooks, and a bug that does not fit its file any more is an error, not a bug that was found.
package seeded

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// module is what the paths of all packages begin with.
const module = "github.com/tenurehq/tenure/"

// Bug is one way in which a service could be wrong.
type Bug struct {
	Name    string
	Promise string // that it breaks, by its number in docs/promises.md
	Package string // whose test finds it, below the module
	Test    string
	Within  string // the one part of the test that is run, as go test -run has it; empty: all
	Tags    string // that the test is built with
	Chance  bool   // decides whether one run of the test finds it: it gets ten
	Source  string // the package that it is in, where that is another one
	Edits   []Edit
}

// Edit puts one text in the place of another, which stands in the file once.
type Edit struct {
	File     string // of the package that the bug is in
	From, To string
}

// In is the package that the bug is in.
func (b Bug) In() string { return cmp.Or(b.Source, b.Package) }

// ErrSkipped says that the bug's test cannot be run on this machine.
var ErrSkipped = errors.New("the test was skipped")

// Find runs the bug's test with the bug, and reports whether it failed.
func (b Bug) Find(ctx context.Context) (found bool, err error) {
	dir, err := os.MkdirTemp("", "tenure-seeded-")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	overlay, err := b.overlay(ctx, dir)
	if err != nil {
		return false, fmt.Errorf("%s: %w", b.Name, err)
	}
	times := 1
	if b.Chance {
		times = 10
	}
	out, err := test(ctx, b, "^"+b.Test+"$"+b.Within, times, "-overlay="+overlay)
	var exit *exec.ExitError
	switch {
	case err == nil && bytes.Contains(out, []byte("--- SKIP: "+b.Test)):
		return false, ErrSkipped
	case err == nil:
		return false, nil
	case !errors.As(err, &exit), !bytes.Contains(out, []byte("--- FAIL: "+b.Test)):
		return false, fmt.Errorf("%s: %s was not run: %w\n%s", b.Name, b.Test, err, out)
	}
	return true, nil
}

// Pass runs the tests of these bugs, which are all of one package, without any bug. It returns how many tests there are, and
// what they say when one fails.
func Pass(ctx context.Context, bugs []Bug) (tests int, output string, ok bool) {
	var names []string
	for _, b := range bugs {
		if !slices.Contains(names, b.Test) {
			names = append(names, b.Test)
		}
	}
	out, err := test(ctx, bugs[0], "^("+strings.Join(names, "|")+")$", 1, "")
	return len(names), string(out), err == nil
}

// EnvPatience says to tests of whole processes how long, as a duration, they wait for what a bug may keep from coming.
const EnvPatience = "TENURE_TEST_PATIENCE"

// patience is long enough for what comes: without a bug the tests pass with it.
const patience = "30s"

// test runs a test. The flags go to every build, also to that of the programs which the test starts.
func test(ctx context.Context, b Bug, name string, times int, flags string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-vet=off", "-v", "-failfast", fmt.Sprint("-count=", times), "-tags="+b.Tags, "-run="+name, module+b.Package) //nolint:gosec // named in this package
	cmd.Env = append(os.Environ(), "GOFLAGS=-trimpath "+flags, EnvPatience+"="+patience)
	return cmd.CombinedOutput()
}

// overlay writes the changed files, and what tells the compiler of them, whose name it returns.
func (b Bug) overlay(ctx context.Context, dir string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", module+b.In()).Output() //nolint:gosec // as below
	if err != nil {
		return "", fmt.Errorf("go list: %w", err)
	}
	files, err := b.Apply(strings.TrimSpace(string(out)))
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for path, content := range files {
		changed := filepath.Join(dir, strconv.Itoa(len(replace))+".go")
		if err := os.WriteFile(changed, content, 0o600); err != nil {
			return "", err
		}
		replace[path] = changed
	}
	overlay := filepath.Join(dir, "overlay.json")
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	return overlay, os.WriteFile(overlay, text, 0o600)
}

// Apply returns the files of the package in a folder that the bug changes, with the bug, by path.
func (b Bug) Apply(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, e := range b.Edits {
		path := filepath.Join(dir, e.File)
		content, ok := files[path]
		if !ok {
			var err error
			if content, err = os.ReadFile(path); err != nil { //nolint:gosec // named in this package
				return nil, err
			}
		}
		if n := bytes.Count(content, []byte(e.From)); n != 1 {
			return nil, fmt.Errorf("%s has %d times, and not once: %s", e.File, n, e.From)
		}
		files[path] = bytes.Replace(content, []byte(e.From), []byte(e.To), 1)
	}
	return files, nil
}
