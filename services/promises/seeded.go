package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/tenurehq/tenure/services/promises/seeded"
	"github.com/tenurehq/tenure/services/promises/table"
)

// tryBrake makes bugs in the brake's part of policy and has its tests look for them. Without a bug the same tests must pass.
func tryBrake(ctx context.Context, _ size, out io.Writer) ([]table.Row, error) {
	bugs := seeded.OfTheBrake()
	tests, said, ok := seeded.Pass(ctx, bugs)
	r := table.Row{Promise: "P11", Tried: "policy's tests of the brake, both engines", N: tests, Figure: "each bug is in its source"}
	if !ok {
		fmt.Fprintln(out, said)
		r.Violations++
	}
	err := find(ctx, &r, bugs, out)
	return []table.Row{r}, err
}

// tryBugsInTrouble makes bugs that show when a process dies, or something goes wrong elsewhere. Each takes minutes, so this is a part
// of the long size.
func tryBugsInTrouble(ctx context.Context, how size, out io.Writer) ([]table.Row, error) {
	if !how.long {
		return nil, nil
	}
	rows := []table.Row{
		{Promise: "P1 P2 P8", Tried: "deaths, with bugs", Figure: "each bug is in its source"},
		{Promise: "P14", Tried: "faults, with bugs", Figure: "each bug is in its source"},
	}
	for i, bugs := range [][]seeded.Bug{seeded.OfDeaths(), seeded.OfFaults()} {
		if err := find(ctx, &rows[i], bugs, out); err != nil {
			return nil, err
		}
		rows[i].N = rows[i].SeededTotal
	}
	return rows, nil
}

// find counts in a row the bugs that their tests find.
func find(ctx context.Context, r *table.Row, bugs []seeded.Bug, out io.Writer) error {
	for _, b := range bugs {
		found, err := b.Find(ctx)
		switch {
		case errors.Is(err, seeded.ErrSkipped):
			fmt.Fprintf(out, "cannot be looked for here by %s: %s\n", b.Test, b.Name)
			continue
		case err != nil:
			return err
		}
		r.SeededTotal++
		if !found {
			fmt.Fprintf(out, "not found by %s: %s\n", b.Test, b.Name)
			continue
		}
		r.SeededKilled++
	}
	return nil
}
