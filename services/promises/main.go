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

	"github.com/tenurehq/tenure/pkg/run"
	"github.com/tenurehq/tenure/services/promises/table"
)

// size says how much is tried.
type size struct {
	schedules int // of the simulator
	perBug    int // after which a bug that was made counts as not found
	long      bool
}

// trials are all ways in which promises are tried. Each writes what went wrong, in full, to its writer.
func trials() []func(context.Context, size, io.Writer) ([]table.Row, error) {
	return []func(context.Context, size, io.Writer) ([]table.Row, error){
		tryRace,
		trySimulator,
		tryBrake,
		tryLeavers,
		tryBugsInTrouble,
		tryTests,
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
		how.schedules, how.long = 1_000_000, true
	default:
		return fmt.Errorf("PROMISES is %q: it can only be long, for ten times as much", long)
	}
	var rows []table.Row
	for _, trial := range trials() {
		some, err := trial(ctx, how, os.Stderr)
		if err != nil {
			return err
		}
		rows = append(rows, some...)
	}
	if err := table.Show(os.Stdout, rows); err != nil {
		return err
	}
	if *out != "" {
		if err := table.Write(*out, rows); err != nil {
			return err
		}
	}
	for _, r := range rows {
		if !r.Holds() {
			return errors.New("a promise does not hold, or a bug that was made on purpose was not found")
		}
	}
	return nil
}
