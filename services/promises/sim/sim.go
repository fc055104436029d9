// Package sim is Tenure in one thread: its real pure cores (timeline, decide, brake, plan) and its services' protocol (outbox
// and chunks, stream, policy's compare-and-set, a worker's claim, intent, call, read-back and outcome, cuts, the log) as
// state machines, under a scheduler that owns time and chance.
//
// A schedule is a list of choices, drawn from a seed: who makes their next step, how far the clock moves, what is lost,
// doubled, reordered, wiped, who dies, which request that is on the wire lands and which reply does not. Then everything
// that can work is let work until nothing is left to do, and the invariants are looked at; some are looked at all the
// time. The same seed is the same schedule, always.
//
// It promises nothing about the code that it mirrors: what mirrors a function names it. What it finds is found in the
// protocol, so it is told of a bug to make (see Bugs), to be seen to find it.
package sim

import (
	"embed"
	"encoding/json"
	"fmt"
	"math/rand/v2"
)

// Setup is the world of a schedule.
type Setup struct {
	People, Apps int
	Limit        int  // of people who may lose access within an hour without corroboration; 0: no brake
	StaleSearch  bool // what was created is found by search only after a while
	UniqueNames  bool // the applications take no second account of a name
	Own          bool // Tenure takes away only what it gave
	NothingLost  bool // by the stream, and nobody compares: messages that come at least once must do
	LateEffects  bool // what nobody waits for any more takes effect at the last moment
	TakenBack    bool // in the end every connection breaks, and HR says that everybody works after all
	Stall        int  // in the end somebody stands still until all others have come to rest: 1.. a replica of policy, then a worker
}

// Schedule is all that a run depends on, but for the bug.
type Schedule struct {
	Seed    uint64
	Setup   Setup
	Choices []Choice
}

// Choice is one move of the scheduler. One that is not possible when its turn comes is no move.
type Choice struct {
	What Move
	Who  uint8 // of several who may make the move
	How  uint8 // of the ways in which it may go
}

// Kept is a schedule that once showed something wrong in Tenure, shrunk, with the bug that makes it do so again.
type Kept struct {
	Name     string `json:"-"` // of its file
	Found    string // what was wrong, and is not any more
	Bug      string
	Schedule Schedule
}

//go:embed testdata/*.json
var testdata embed.FS

// Regressions are all schedules that are kept.
func Regressions() ([]Kept, error) {
	files, err := testdata.ReadDir("testdata")
	if err != nil {
		return nil, err
	}
	var all []Kept
	for _, f := range files {
		text, err := testdata.ReadFile("testdata/" + f.Name())
		if err != nil {
			return nil, err
		}
		k := Kept{Name: f.Name()}
		if err := json.Unmarshal(text, &k); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		all = append(all, k)
	}
	return all, nil
}

const choices = 260 // in a schedule, of which about a third are possible

// Draw returns the schedule of a seed.
func Draw(seed uint64) Schedule {
	r := rand.New(rand.NewPCG(seed, 0x7e9de)) //nolint:gosec // repeats, guards nothing
	s := Schedule{Seed: seed, Setup: Setup{
		People: 1 + r.IntN(3), Apps: 1 + r.IntN(2), StaleSearch: r.IntN(3) == 0, UniqueNames: r.IntN(2) == 0, NothingLost: r.IntN(4) == 0,
		LateEffects: r.IntN(2) == 0, Own: r.IntN(2) == 0, Stall: r.IntN(2 + replicas + workers), TakenBack: r.IntN(4) == 0,
	}}
	if r.IntN(3) == 0 {
		s.Setup.Limit = 1
		s.Setup.People = 3
	}
	s.Choices = make([]Choice, choices)
	var favourite [numberOfMoves]uint8 // goes on while the others stand still, for some moves
	for i := range s.Choices {
		bits := r.Uint32()
		c := Choice{What: moves[bits>>16%uint32(len(moves))], Who: uint8(bits), How: uint8(bits >> 8)} //nolint:gosec // parts of it
		if c.What == PolicyStep || c.What == WorkerStep {
			if r.IntN(8) == 0 {
				favourite[c.What] = c.Who
			}
			c.Who = favourite[c.What]
		}
		s.Choices[i] = c
	}
	return s
}

// Violation is an invariant that did not hold.
type Violation struct {
	Invariant string
	Detail    string
}

func (v *Violation) String() string { return v.Invariant + ": " + v.Detail }

// Run runs a schedule in a Tenure with a bug and returns the first violation; nil: there was none.
func Run(s Schedule, bug Bug) *Violation {
	w := newWorld(s.Setup, bug)
	return w.run(s.Choices)
}

// Story runs a schedule and tells what happened, ending with the violation.
func Story(s Schedule, bug Bug) []string {
	w := newWorld(s.Setup, bug)
	w.telling = true
	v := w.run(s.Choices)
	if v != nil {
		w.story = append(w.story, "violation of "+v.String())
	}
	return w.story
}

func (w *world) run(choices []Choice) *Violation {
	for _, c := range choices {
		w.move(c)
		if w.violation != nil {
			return w.violation
		}
	}
	w.settle()
	if w.violation == nil {
		w.judge()
	}
	return w.violation
}

// violated notes the first violation.
func (w *world) violated(invariant, format string, args ...any) {
	if w.violation == nil {
		w.violation = &Violation{invariant, fmt.Sprintf(format, args...)}
	}
}

// Shrink returns a schedule that violates the same invariant by fewer choices: none of those left can be spared.
func Shrink(s Schedule, bug Bug) Schedule {
	first := Run(s, bug)
	if first == nil {
		return s
	}
	fails := func(choices []Choice, setup Setup) bool {
		v := Run(Schedule{Seed: s.Seed, Setup: setup, Choices: choices}, bug)
		return v != nil && v.Invariant == first.Invariant
	}
	for size := len(s.Choices) / 2; size > 0; {
		shorter := false
		for from := 0; from < len(s.Choices); {
			to := min(from+size, len(s.Choices))
			rest := make([]Choice, 0, len(s.Choices))
			rest = append(append(rest, s.Choices[:from]...), s.Choices[to:]...)
			if fails(rest, s.Setup) {
				s.Choices, shorter = rest, true
			} else {
				from = to
			}
		}
		if !shorter || size > 1 {
			size /= 2
		}
	}
	for _, simpler := range []func(*Setup){
		func(u *Setup) { u.StaleSearch = false }, func(u *Setup) { u.UniqueNames = false }, func(u *Setup) { u.Apps = 1 },
	} {
		setup := s.Setup
		simpler(&setup)
		if fails(s.Choices, setup) {
			s.Setup = setup
		}
	}
	return s
}
