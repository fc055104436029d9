package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/tenurehq/tenure/services/promises/table"
)

// test is a run of tests that try promises on the real thing. They add their rows to the file that table.EnvFile names.
type test struct {
	what     string
	pkg      string // below services
	run      string // their names, as go test -run has them
	tags     string
	parallel int // parts of one of them at a time
}

// tests are those of them that count here. Most wait more than they work; those that are built alike are one run, which builds once.
var tests = []test{
	{what: "a company's years", pkg: "policy", run: "TestTheYearsOfACompanyAreNotHeld", parallel: 3},
	{what: "deaths", pkg: "e2e", run: "TestWherever.*DiesTheEndIsTheSame", tags: "crashpoints", parallel: 16},
	{what: "leavers, wipes and faults", pkg: "e2e", run: "TestLeaversDoNotWait|TestAWipedStreamLosesNothing|TestFaultsAreSeenAndHealWithoutHands", parallel: 4},
}

// try runs the tests by themselves: they need the machine.
func (t test) try(ctx context.Context, how size, out io.Writer) ([]table.Row, error) {
	dir, err := os.MkdirTemp("", "tenure-promises-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "rows")
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-timeout=60m", fmt.Sprint("-parallel=", t.parallel), "-tags="+t.tags, "-run=^("+t.run+")$", //nolint:gosec // names from this file
		"github.com/tenurehq/tenure/services/"+t.pkg)
	cmd.Env = append(os.Environ(), table.EnvFile+"="+file)
	if how.long {
		cmd.Env = append(cmd.Env, "TENURE_TEST_WHOLE=1")
	}
	said, failed := cmd.CombinedOutput()
	rows, err := table.Read(file)
	if err != nil {
		return nil, err
	}
	if failed == nil && len(rows) > 0 {
		return rows, nil
	}
	fmt.Fprintf(out, "%s:\n%s\n", t.what, said)
	if slices.ContainsFunc(rows, func(r table.Row) bool { return !r.Holds() }) {
		return rows, nil // the row says it
	}
	return rows, fmt.Errorf("%s: no end: %w", t.what, failed)
}
