//go:build crashpoints

package e2e

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/crash"
	"github.com/tenurehq/tenure/pkg/rpc"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	"github.com/tenurehq/tenure/services/promises/table"
)

// hits is how often each point is died at: at its first hit, at its second, …
func hits() int {
	if whole() {
		return 3
	}
	return 1
}

// where are the points of an engine at which processes die when there is no time for all: of two applications those of one, and on
// PostgreSQL, where the leases of the dead last a minute, those where something is decided, begun, or said to be done.
var where = map[string]*regexp.Regexp{
	sqldb.SQLite:   regexp.MustCompile(`^(ingest|policy|audit|provision[-_/]wiki|wiki)`),
	sqldb.Postgres: regexp.MustCompile(`^(ingest|policy|provision[-_/]wiki|wiki).*(accept|saveOnce|write|apply: after)`),
}

// Wherever a process dies, the end is the same: nothing that was accepted is lost, nothing is done twice with effect, and
// the log has no gap. The points are those that a first run of the same story reaches.
func TestWhereverAProcessDiesTheEndIsTheSame(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			dieEverywhere(t, engine)
		})
	}
}

func dieEverywhere(t *testing.T, engine string) {
	reached := map[string]int{}
	t.Run("nobody dies", func(t *testing.T) {
		list := filepath.Join(t.TempDir(), "points")
		c := newCrash(t, engine)
		c.run(t, crash.EnvList+"="+list)
		if c.died.Load() {
			t.Fatal("somebody died all the same")
		}
		for line := range strings.Lines(read(t, list)) {
			reached[strings.TrimSpace(line)]++
		}
	})
	if len(reached) < 100 {
		t.Fatalf("the story reaches %d points only: %v", len(reached), slices.Sorted(maps.Keys(reached)))
	}
	if !whole() {
		maps.DeleteFunc(reached, func(point string, _ int) bool { return !where[engine].MatchString(point) })
	}
	var cells, died, failed atomic.Int64
	t.Run("somebody dies", func(t *testing.T) {
		for point, times := range reached {
			for hit := range min(hits(), times) {
				name := fmt.Sprintf("%s#%d", point, hit+1)
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					cells.Add(1)
					t.Cleanup(func() {
						if t.Failed() {
							failed.Add(1)
						}
					})
					c := newCrash(t, engine)
					c.run(t, crash.EnvPoint+"="+name)
					if c.died.Load() {
						died.Add(1)
					}
				})
			}
		}
	})
	t.Logf("%d points, %d times a point and a hit, at %d of which the process died there; the others were not reached so often this time", len(reached), cells.Load(), died.Load())
	if died.Load()*10 < cells.Load()*8 {
		t.Errorf("the process died at %d of %d only", died.Load(), cells.Load())
	}
	promised(t, table.Row{
		Promise: "P1 P2 P6 P8", Tried: fmt.Sprintf("a death at each of %d points, hits 1 to %d, %s", len(reached), hits(), engine), N: int(cells.Load()), Violations: int(failed.Load()),
		Figure: fmt.Sprintf("the process died at %d", died.Load()),
	})
}

// crashing is a Tenure that may die once, is started again, and goes on.
type crashing struct {
	*tenure
	mortal
	died atomic.Bool
}

func newCrash(t *testing.T, engine string) *crashing {
	t.Helper()
	at := freeAddresses(t, 2)
	c := &crashing{mortal: mortal{apps: map[string]wiki{"wiki": {at[0]}, "code": {at[1]}}}}
	applications := ""
	for _, app := range []string{"wiki", "code"} {
		applications += demoApplication(app, c.apps[app].address, smallGroups, "") + "    limits: {timeout: 2s}\n" // after it no call can come late
	}
	p := plan{applications: applications, logLevel: "warn", more: "audit: {checkpoint_every: 1s}"}
	if engine == sqldb.Postgres {
		p.database = sqltest.Postgres(t)
	}
	c.tenure = configure(t, p)
	c.operator = c.cli
	return c
}

// run tells the story with a process of that environment, and looks at the end.
func (c *crashing) run(t *testing.T, env string) {
	t.Helper()
	story := crashStory(t, 1)
	stopped, gone := make(chan struct{}), make(chan struct{})
	c.process = launchIn(t, append(environment(), env), c.dir, "tenure", "serve", "-c", "tenure.yaml")
	go func() { // who sees to it that it runs
		defer close(gone)
		for p := c.process; ; {
			select {
			case <-stopped:
				return
			case <-p.done:
			}
			if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL || c.died.Swap(true) {
				t.Errorf("the process ended: %v\n%s", p.err, tail(p.stderr))
				return
			}
			p = launch(t, c.dir, "tenure", "serve", "-c", "tenure.yaml")
		}
	}()
	defer func() {
		close(stopped)
		<-gone
	}()
	c.insistOnModel(t, c.dir, crashRoles)
	o := c.door(t)
	c.tell(t, c.hr(t), o, story)
	c.checkJournals(t, story)
	c.checkLog(t, o)
}

func (c *crashing) door(t *testing.T) operators {
	t.Helper()
	secret, err := config.ReadSecret(filepath.Join(c.dir, "data", "operators", "vic"))
	if err != nil {
		t.Fatal(err)
	}
	return dial(t, rpc.PeerConfig{Address: c.grpc, Token: secret, Patience: 10 * time.Second})
}
