package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tenurehq/tenure/services/promises/sim"
	"github.com/tenurehq/tenure/services/promises/table"
)

// trySimulator runs schedules from seed 0 on, and for each bug the schedules that are kept and as many others as it takes to find
// it.
func trySimulator(ctx context.Context, how size, out io.Writer) ([]table.Row, error) {
	kept, err := sim.Regressions()
	if err != nil {
		return nil, err
	}
	found := map[string]int{} // violations by promise
	told := map[string]bool{}
	for v := range search(ctx, how.schedules, sim.NoBug) {
		found[sim.Invariants()[v.Invariant]]++
		if !told[v.Invariant] {
			told[v.Invariant] = true
			tell(out, v)
		}
	}
	rows := map[string]*table.Row{}
	of := func(promise string) *table.Row {
		if rows[promise] == nil {
			rows[promise] = &table.Row{
				Promise: promise, Tried: fmt.Sprintf("simulator, seeds 0 to %d", how.schedules-1), N: how.schedules, Violations: found[promise],
			}
		}
		return rows[promise]
	}
	for _, bug := range sim.Bugs() {
		r := of(bug.Promise())
		r.SeededTotal++
		survived := !slices.ContainsFunc(kept, func(k sim.Kept) bool { return sim.Run(k.Schedule, bug) != nil }) // some are rare
		if survived {
			for range search(ctx, how.perBug, bug) {
				survived = false
				break
			}
		}
		if survived {
			fmt.Fprintf(out, "not found in %d schedules: %s\n", how.perBug, bug)
			continue
		}
		r.SeededKilled++
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var all []table.Row
	for _, promise := range []string{"P1", "P2", "P4", "P6", "P8", "P11"} {
		r := of(promise)
		names := maps.Clone(sim.Invariants())
		maps.DeleteFunc(names, func(_, p string) bool { return p != promise })
		r.Figure = fmt.Sprintf("below 3 in %d at 95 %%: ", r.N) + strings.Join(slices.Sorted(maps.Keys(names)), " ")
		all = append(all, *r)
	}
	return all, nil
}

// failure is a schedule with what it violates.
type failure struct {
	*sim.Violation
	seed uint64
}

// search runs the schedules of seeds from 0 on, on all processors, and tells what they violate. Whoever has heard enough
// ends it.
func search(ctx context.Context, schedules int, bug sim.Bug) func(func(failure) bool) {
	return func(yield func(failure) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		var next atomic.Uint64
		failures := make(chan failure)
		var running sync.WaitGroup
		for range runtime.GOMAXPROCS(0) {
			running.Go(func() {
				for ctx.Err() == nil {
					seed := next.Add(1) - 1
					if seed >= uint64(schedules) { //nolint:gosec // a count
						return
					}
					if v := sim.Run(sim.Draw(seed), bug); v != nil {
						select {
						case failures <- failure{v, seed}:
						case <-ctx.Done():
						}
					}
				}
			})
		}
		go func() {
			running.Wait()
			close(failures)
		}()
		for f := range failures {
			if !yield(f) {
				return
			}
		}
	}
}

// tell writes the shortest story that shows a violation, and the schedule to keep in services/promises/sim/testdata.
func tell(out io.Writer, f failure) {
	short := sim.Shrink(sim.Draw(f.seed), sim.NoBug)
	fmt.Fprintf(out, "seed %d violates %s. The shortest story:\n  %s\n", f.seed, f.Violation, strings.Join(sim.Story(short, sim.NoBug), "\n  "))
	if kept, err := json.Marshal(short); err == nil {
		fmt.Fprintf(out, "To keep it: %s\n", kept)
	}
}
