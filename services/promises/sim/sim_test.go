package sim_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/tenurehq/tenure/services/promises/sim"
)

func TestWhatWasFoundIsFoundNoMoreButWithItsBug(t *testing.T) {
	t.Parallel()
	all, err := sim.Regressions()
	if err != nil || len(all) == 0 {
		t.Fatalf("%d schedules, %v", len(all), err)
	}
	for _, k := range all {
		t.Run(strings.ReplaceAll(strings.TrimSuffix(k.Name, ".json"), "_", " "), func(t *testing.T) {
			t.Parallel()
			if v := sim.Run(k.Schedule, sim.NoBug); v != nil {
				t.Errorf("%s again:\n%s", v, strings.Join(sim.Story(k.Schedule, sim.NoBug), "\n"))
			}
			if v := sim.Run(k.Schedule, named(t, k.Bug)); v == nil {
				t.Errorf("the schedule shows nothing of this any more: %s", k.Bug)
			}
		})
	}
}

func named(t *testing.T, name string) sim.Bug {
	t.Helper()
	for _, bug := range sim.Bugs() {
		if bug.String() == name {
			return bug
		}
	}
	t.Fatalf("there is no bug %q", name)
	return sim.NoBug
}

func TestSomeSchedulesViolateNothing(t *testing.T) {
	t.Parallel()
	const seeds = 1000 // make promises runs a hundred times as many
	for seed := range uint64(seeds) {
		if v := sim.Run(sim.Draw(seed), sim.NoBug); v != nil {
			t.Fatalf("seed %d: %s\n%s", seed, v, strings.Join(sim.Story(sim.Shrink(sim.Draw(seed), sim.NoBug), sim.NoBug), "\n"))
		}
	}
}

func TestASeedIsAlwaysTheSameSchedule(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		one, two := sim.Story(sim.Draw(seed), sim.NoBug), sim.Story(sim.Draw(seed), sim.NoBug)
		if !reflect.DeepEqual(one, two) {
			t.Fatalf("seed %d tells two stories", seed)
		}
	}
}

func TestAShrunkScheduleShowsTheSameByFewerMoves(t *testing.T) {
	t.Parallel()
	for seed := range uint64(1000) {
		before := sim.Run(sim.Draw(seed), sim.CallFirst)
		if before == nil {
			continue
		}
		short := sim.Shrink(sim.Draw(seed), sim.CallFirst)
		if after := sim.Run(short, sim.CallFirst); after == nil || after.Invariant != before.Invariant {
			t.Errorf("seed %d shows %s, and shrunk %v", seed, before, after)
		}
		if len(short.Choices) > 20 {
			t.Errorf("seed %d takes %d moves to show a call before its intent", seed, len(short.Choices))
		}
		return
	}
	t.Error("no seed shows a call before its intent")
}
