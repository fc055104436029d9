// Command bench measures Tenure as it is shipped, on SQLite and on PostgreSQL, beside what the same machine does in the
// same run when it only makes the same row writes and messages. docs/performance.md says what each figure means and how
// its floor is made.
//
//	go run ./services/e2e/bench -out out/bench.json
//
// Everything is on loopback, in a temporary folder, bounded, and ends by itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/tenurehq/tenure/pkg/run"
)

// options are the sizes of a run. The defaults are what docs/performance.md reports.
type options struct {
	out     string
	rounds  int
	events  int // of a throughput round: half joiners, half movers
	slow    int // of a latency round
	every   time.Duration
	clients int
	leavers int // of each half of a round behind joiners
	backlog int // joiners that they are behind
	behind  int // such rounds
	growth  sizes
	windows int // at each size
	engines string
	peers   string
	only    string
	profile string
	dir     string
}

func main() { run.Main(start) }

func start(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.out, "out", "", "file for the figures as JSON lines")
	flags.IntVar(&o.rounds, "rounds", 5, "measured rounds for each engine, and beside a peer")
	flags.IntVar(&o.events, "events", 600, "lifecycle events in a throughput round")
	flags.IntVar(&o.slow, "slow", 60, "lifecycle events in a latency round")
	flags.DurationVar(&o.every, "every", 25*time.Millisecond, "time between two events of a latency round")
	flags.IntVar(&o.clients, "clients", 32, "concurrent webhook clients")
	flags.IntVar(&o.leavers, "leavers", 50, "leavers in each half of a round: idle, and behind joiners")
	flags.IntVar(&o.backlog, "backlog", 10000, "joiners that the leavers are behind")
	flags.IntVar(&o.behind, "behind", 10, "rounds of leavers behind joiners, for each engine")
	flags.Var(&o.growth, "growth", "numbers of people, ascending, that the cost of an event is compared at, like 1000,10000; empty: it is not measured")
	flags.IntVar(&o.windows, "windows", 5, "measured windows at each number of people")
	flags.StringVar(&o.engines, "engines", "sqlite,postgres", "engines, in the order of a round")
	flags.StringVar(&o.peers, "peers", "", "river: Tenure on PostgreSQL is measured beside scripts/river, too")
	flags.StringVar(&o.only, "only", "", "the one part to measure: growth, behind, rounds or peers")
	flags.StringVar(&o.profile, "profile", "", "folder for CPU profiles: Tenure then runs inside this process, without floors")
	flags.StringVar(&o.dir, "dir", "", "folder for the data, which is kept; default: a temporary one")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.rounds < 0 || o.events < 2 || o.slow < 1 || o.clients < 1 || o.leavers < 1 || o.backlog < 1 || o.behind < 0 {
		return errors.New("events, slow, clients, leavers and backlog must be positive, rounds and behind not negative")
	}
	if o.peers != "" && o.peers != peerRiver {
		return fmt.Errorf("peers: %q is not known, only %q is", o.peers, peerRiver)
	}
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	if o.profile != "" {
		return errors.Join(b.profile(ctx), b.close())
	}
	return errors.Join(b.run(ctx), b.close())
}

// print writes a line for people.
func print(format string, args ...any) {
	_, _ = fmt.Fprintf(os.Stdout, format+"\n", args...) // a closed terminal is no reason to stop measuring
}

// write writes the figures for programs.
func write(path string, emit func(io.Writer) error) error {
	if path == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	file, err := os.Create(path) //nolint:gosec // G304: the one who runs it names the file
	if err != nil {
		return err
	}
	return errors.Join(emit(file), file.Close())
}
