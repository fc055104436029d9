// Package seeded makes bugs on purpose in copies of the services' source, and has a named test of theirs look for each.
//
// A bug is a replacement of text. The compiler is given the changed copy in place of the file (go test -overlay), so the services
// themselves have no hooks, and a bug that does not fit its file any more is an error, not a bug that was found.
package seeded

import (
	"bytes"
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

// module that all packages are of.
const module = "github.com/tenurehq/tenure/services/"

// Bug is one way in which a service could be wrong.
type Bug struct {
	Name    string
	Promise string // that it breaks, by its number in docs/promises.md
	Package string // below services, whose test finds it
	Test    string
	Chance  bool // decides whether one run of the test finds it: it gets ten
	Edits   []Edit
}

// Edit puts one text in the place of another, which stands in the file once.
type Edit struct {
	File     string // of the bug's package
	From, To string
}

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
	out, err := test(ctx, b.Package, "^"+b.Test+"$", times, "-overlay", overlay)
	var exit *exec.ExitError
	switch {
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
	out, err := test(ctx, bugs[0].Package, "^("+strings.Join(names, "|")+")$", 1)
	return len(names), string(out), err == nil
}

func test(ctx context.Context, pkg, name string, times int, flags ...string) ([]byte, error) {
	args := append([]string{"test", "-trimpath", "-failfast", fmt.Sprint("-count=", times), "-run", name}, flags...)
	return exec.CommandContext(ctx, "go", append(args, module+pkg)...).CombinedOutput() //nolint:gosec // named in this package
}

// overlay writes the changed files, and what tells the compiler of them, whose name it returns.
func (b Bug) overlay(ctx context.Context, dir string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", module+b.Package).Output() //nolint:gosec // as below
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
