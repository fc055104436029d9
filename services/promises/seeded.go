package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/tenurehq/tenure/services/promises/seeded"
	"github.com/tenurehq/tenure/services/promises/table"
)

// tryBrake makes bugs in the brake's part of policy and has its tests look for them.
func tryBrake(ctx context.Context, _ size, out io.Writer) ([]table.Row, error) {
	return tryOwnTests(ctx, "P11", "policy's tests of the brake, both engines", seeded.OfTheBrake(), out)
}

// tryLeavers does the same with what lets leavers pass, wherever it is.
func tryLeavers(ctx context.Context, _ size, out io.Writer) ([]table.Row, error) {
	return tryOwnTests(ctx, "P5", "the services' own tests of the urgent lane", seeded.OfLeavers(), out)
}

// tryOwnTests has the tests of packages look for bugs in them. Without a bug the same tests must pass.
func tryOwnTests(ctx context.Context, promise, tried string, bugs []seeded.Bug, out io.Writer) ([]table.Row, error) {
	r := table.Row{Promise: promise, Tried: tried, Figure: "each bug is in its source"}
	perPackage := map[string][]seeded.Bug{}
	for _, b := range bugs {
		perPackage[b.Package] = append(perPackage[b.Package], b)
	}
	for _, some := range perPackage {
		tests, said, ok := seeded.Pass(ctx, some)
		r.N += tests
		if !ok {
			fmt.Fprintln(out, said)
			r.Violations++
		}
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
