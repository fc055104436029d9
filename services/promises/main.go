// Command promises tries what Tenure promises, and prints what came of it: one line for each promise and way of trying it,
// also as JSON. A line also says how many of the bugs that were made on purpose were found; one that was not found fails the
// run as a violation does, because a test that cannot fail proves nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/tenurehq/tenure/pkg/run"
	"github.com/tenurehq/tenure/services/promises/table"
)

// size says how much is tried.
type size struct {
	schedules int // of the simulator
	perBug    int // after which a bug that was made counts as not found
	long      bool
}

// trial is a way in which promises are tried. It writes what went wrong, in full, to its writer.
type trial struct {
	name string
	try  func(context.Context, size, io.Writer) ([]table.Row, error)
}

// trials are all of them, in their order.
func trials() []trial {
	all := []trial{
		{"every order of the leaver race", tryRace},
		{"the simulator", trySimulator},
		{"bugs in the brake", tryBrake},
		{"bugs in the urgent lane", tryLeavers},
		{"bugs in trouble", tryBugsInTrouble},
	}
	for _, t := range tests {
		all = append(all, trial{t.what, t.try})
	}
	return all
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
		how.schedules, how.long = 1_000_000, true
	default:
		return fmt.Errorf("PROMISES is %q: it can only be long, for ten times as much", long)
	}
	var (
		rows   []table.Row
		failed error
		began  = time.Now()
	)
	for _, t := range trials() {
		fmt.Fprintf(os.Stderr, "%6s  %s\n", time.Since(began).Round(time.Second), t.name)
		some, err := t.try(ctx, how, os.Stderr)
		rows, failed = append(rows, some...), errors.Join(failed, err)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	fmt.Fprintf(os.Stderr, "%6s  done\n", time.Since(began).Round(time.Second))
	if err := table.Show(os.Stdout, rows); err != nil {
		return err
	}
	if *out != "" {
		if err := table.Write(*out, rows); err != nil {
			return err
		}
	}
	if failed != nil {
		return failed
	}
	for _, r := range rows {
		if !r.Holds() {
			return errors.New("a promise does not hold, or a bug that was made on purpose was not found")
		}
	}
	return nil
}
