// Command promises tries what Tenure promises, and prints what came of it: one line for each promise and way of trying it,
// also as JSON. A line also says how many of the bugs that were made on purpose were found; one that was not found fails the
// run as a violation does, because a test that cannot fail proves nothing.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/tenurehq/tenure/pkg/run"
)

// row is one line of the table.
type row struct {
	Promise      string `json:"promise"` // its number in docs/promises.md
	Tried        string `json:"tried"`
	N            int    `json:"n"`
	Violations   int    `json:"violations"`
	Figure       string `json:"figure"`
	SeededKilled int    `json:"seeded_killed"`
	SeededTotal  int    `json:"seeded_total"`
}

func (r row) holds() bool { return r.Violations == 0 && r.SeededKilled == r.SeededTotal }

// size says how much is tried.
type size struct {
	schedules int // of the simulator
	perBug    int // after which a bug that was made counts as not found
}

// trials are all ways in which promises are tried. Each writes what went wrong, in full, to its writer.
func trials() []func(context.Context, size, io.Writer) ([]row, error) {
	return []func(context.Context, size, io.Writer) ([]row, error){
		tryRace,
		trySimulator,
		trySeeded,
	}
}

func main() { run.Main(try) }

func try(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("promises", flag.ContinueOnError)
	out := flags.String("out", "", "also write the table as JSON lines to this file, such as out/promises.json")
	if err := flags.Parse(args); err != nil {
		return err
	}
	how := size{schedules: 100_000, perBug: 60_000}
	switch long := os.Getenv("PROMISES"); long {
	case "":
	case "long":
		how.schedules = 1_000_000
	default:
		return fmt.Errorf("PROMISES is %q: it can only be long, for ten times as much", long)
	}
	var rows []row
	for _, trial := range trials() {
		some, err := trial(ctx, how, os.Stderr)
		if err != nil {
			return err
		}
		rows = append(rows, some...)
	}
	if err := show(os.Stdout, rows); err != nil {
		return err
	}
	if *out != "" {
		if err := write(*out, rows); err != nil {
			return err
		}
	}
	for _, r := range rows {
		if !r.holds() {
			return errors.New("a promise does not hold, or a bug that was made on purpose was not found")
		}
	}
	return nil
}

func show(w io.Writer, rows []row) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "PROMISE\tTRIED\tN\tVIOLATIONS\tFIGURE\tSEEDED BUGS KILLED")
	for _, r := range rows {
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%s\t%d/%d\n", r.Promise, r.Tried, r.N, r.Violations, r.Figure, r.SeededKilled, r.SeededTotal)
	}
	return table.Flush()
}

func write(path string, rows []row) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // nothing secret
		return err
	}
	f, err := os.Create(path) //nolint:gosec // named by who runs it
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	lines := json.NewEncoder(f)
	for _, r := range rows {
		if err := lines.Encode(r); err != nil {
			return err
		}
	}
	return nil
}
