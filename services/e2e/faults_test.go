package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenurehq/tenure/services/promises/seeded"
	"github.com/tenurehq/tenure/services/promises/table"
)

const (
	alarmTime  = 2 * time.Minute // within which an operator is called
	settleTime = 2 * time.Minute // within which everything is as it should be once a fault is over; the leases of the dead are 60 s of it
)

// least is how long each fault lasts, however soon it is seen.
const least = 10 * time.Second

// fault is one thing that goes wrong, and what is expected of it.
type fault struct {
	name  string
	world func(*testing.T) *world
	alarm string        // that rises
	quick bool          // it takes seconds, and so a part in make test
	needs func() string // says why it cannot be made here; nil: it can be made anywhere
	// spares says that everybody gets what they should while it lasts.
	spares bool
	// begin makes it so. It returns what ends it; nobody does anything else by hand.
	begin func(t *testing.T, w *world) (heal func())
}

// faults are all of them.
func faults() []fault {
	return slices.Concat(applicationFaults, natsFaults, postgresFaults, diskFaults, clockFaults)
}

// Whatever goes wrong for a while, an operator is called; and when it is over, everything comes to its end by itself: no event is
// lost, nobody has two accounts, and who left has nothing and was given nothing.
func TestFaultsAreSeenAndHealWithoutHands(t *testing.T) {
	for _, tool := range []string{"strace", "ip"} {
		// What a machine forbids is told row by row; what only has to be installed must not be missing where it counts.
		if _, err := exec.LookPath(tool); err != nil && runtime.GOOS == "linux" && os.Getenv("CI") != "" {
			t.Fatalf("%v: scripts/servers.sh installs it", err)
		}
	}
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			if !f.quick && !whole() && !tabled() && os.Getenv(seeded.EnvPatience) == "" {
				t.Skip("it takes a minute or more: make promises")
			}
			t.Parallel()
			f.try(t)
		})
	}
}

func (f fault) try(t *testing.T) {
	t.Helper()
	r, why := table.Row{Promise: "P14", Tried: "fault: " + f.name, Violations: 1, Figure: "not at the end"}, "a server is missing"
	defer func() {
		if t.Skipped() { // it counts as nothing, and is not hidden
			r.Violations, r.Figure = 0, "NOT RUN: "+why
		}
		promised(t, r)
	}()
	if f.needs != nil {
		if reason := f.needs(); reason != "" {
			why = reason
			t.Skip("not run: ", why)
		}
	}
	w := f.world(t)
	alarmed, settled := f.tell(t, w)
	r.N = len(w.words)
	if r.Figure = fmt.Sprintf("alarm %q after %s, settled %s after its end", f.alarm, alarmed, settled); !t.Failed() {
		r.Violations = 0
	}
	t.Log(r.Figure)
}

// joiners, movers and leavers are how many there are of each, in each part of the story.
const joiners, movers, leavers = 4, 4, 4

// tell tells the story that all faults share: people join; while something goes wrong others join, some of all move, and some leave,
// one of them before anything could have been done for them.
func (f fault) tell(t *testing.T, w *world) (alarmed, settled time.Duration) {
	t.Helper()
	var before, during []record
	for n := range movers + leavers {
		before = append(before, person(n))
	}
	<-w.say(t, before...)
	awaitFor(t, settleTime, "everybody to be settled before anything goes wrong", func() (bool, string) { return w.settled(t) })
	quiet := w.figures(t.Context())
	if on := rising(quiet, quiet); len(on) > 0 {
		t.Fatalf("alarms before anything goes wrong: %v", on)
	}

	heal := f.begin(t, w)
	began := time.Now()
	for n := range joiners {
		during = append(during, person(100+n))
	}
	for n := range movers {
		moved := before[n]
		moved.Department = "d005"
		during = append(during, moved)
	}
	for _, leaver := range append(slices.Clone(before[movers:]), during[0]) {
		leaver.Status = "terminated"
		during = append(during, leaver)
	}
	accepted := w.say(t, during...)
	var on []string
	awaitFor(t, alarmTime, "the alarm "+f.alarm, func() (bool, string) {
		on = rising(quiet, w.figures(t.Context()))
		return slices.Contains(on, f.alarm), strings.Join(on, ", ")
	})
	alarmed = time.Since(began).Round(100 * time.Millisecond)

	if f.spares {
		awaitFor(t, settleTime, "everybody to be settled in spite of it", func() (bool, string) { return w.settled(t) })
		t.Logf("everybody was settled %s after it began", time.Since(began).Round(100*time.Millisecond))
	}
	await(t, "the fault to have lasted", func() (bool, string) { return time.Since(began) >= least, "" })
	heal()
	ended := time.Now()
	awaitFor(t, settleTime, "HR to be heard", func() (bool, string) {
		select {
		case <-accepted:
			return true, ""
		default:
			return false, "somebody is not"
		}
	})
	awaitFor(t, time.Until(ended.Add(settleTime)), "everybody to be settled", func() (bool, string) { return w.settled(t) })
	settled = time.Since(ended).Round(100 * time.Millisecond)
	w.check(t)
	awaitFor(t, settleTime, "the alarms to end", func() (bool, string) {
		now := w.figures(t.Context())
		on := rising(now, now)
		return len(on) == 0, strings.Join(on, ", ")
	})
	return alarmed, settled
}
