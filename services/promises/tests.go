package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/tenurehq/tenure/services/promises/table"
)

// test is one that tries promises on the real thing. It adds its rows to the file that table.EnvFile names.
type test struct {
	pkg      string // below services
	name     string
	tags     string
	parallel int // parts of it at a time
}

// tests are those of them that count here.
var tests = []test{
	{pkg: "policy", name: "TestTheYearsOfACompanyAreNotHeld", parallel: 3},
	{pkg: "e2e", name: "TestLeaversDoNotWait", parallel: 2},
	{pkg: "e2e", name: "TestWhereverAProcessDiesTheEndIsTheSame", tags: "crashpoints", parallel: 7}, // they wait more than they work
	{pkg: "e2e", name: "TestWhereverAReplicaDiesTheEndIsTheSame", tags: "crashpoints", parallel: 1},
	{pkg: "e2e", name: "TestAWipedStreamLosesNothing", parallel: 1},
	{pkg: "e2e", name: "TestFaultsAreSeenAndHealWithoutHands", parallel: 4},
}

// tryTests runs the tests, one after the other: they need the machine.
func tryTests(ctx context.Context, how size, out io.Writer) ([]table.Row, error) {
	var rows []table.Row
	for _, t := range tests {
		some, err := t.try(ctx, how, out)
		if err != nil {
			return nil, err
		}
		rows = append(rows, some...)
	}
	return rows, nil
}

func (t test) try(ctx context.Context, how size, out io.Writer) ([]table.Row, error) {
	dir, err := os.MkdirTemp("", "tenure-promises-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "rows")
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-timeout=60m", fmt.Sprint("-parallel=", t.parallel), "-tags="+t.tags, "-run=^"+t.name+"$", //nolint:gosec // names from this file
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
	fmt.Fprintf(out, "%s:\n%s\n", t.name, said)
	for _, r := range rows {
		if !r.Holds() {
			return rows, nil // the row says it
		}
	}
	return nil, fmt.Errorf("%s did not come to its end: %w", t.name, failed)
}
