//go:build crashpoints

package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/crash"
	"github.com/tenurehq/tenure/services/promises/table"
)

// decisive are the points at which replicas die when there is no time for all: where something is decided, begun, or said to be
// done.
var decisive = regexp.MustCompile(`^(ingest ingest.*acceptTogether|policy policy.*saveOnce|policy outbox.*publish: before|audit store.*Append: after|audit bus.*settle: before|` +
	`provision_wiki worker.*(writeIntents: after|writeEndings: before)|wiki worker.*apply: after)`)

// A replica has so much time to reach the point at which it is to die, while HR goes on. At first the other one goes on, too; then the
// other one is away, and with it the leases of what only one does at a time.
const (
	reachingBeside = 4 * time.Second
	reachingAlone  = 40 * time.Second
)

// Wherever one of two replicas dies, the end is the same: nothing that was accepted is lost, nothing is done twice with effect, and
// the log has no gap. There are two of every service, over PostgreSQL and three NATS nodes; each service has its deaths one after
// the other, all services at a time, and HR does not stop speaking. The points are those that a first run of a story reaches.
func TestWhereverAReplicaDiesTheEndIsTheSame(t *testing.T) {
	t.Parallel()
	m := newMortals(t)
	points := map[string]map[string]int{} // by service: how often each was reached
	if !t.Run("nobody dies", func(t *testing.T) {
		m.insistOnModel(t, m.dir, crashRoles)
		m.said = crashStory(t, 1)
		m.tell(t, m.hr, m.door(t), m.said)
		for service, p := range m.pairs {
			points[service] = map[string]int{}
			for line := range strings.Lines(read(t, p.list())) {
				points[service][strings.TrimSpace(line)]++
			}
		}
	}) {
		return
	}
	all := 0
	for service, reached := range points {
		if len(reached) < 10 {
			t.Fatalf("the story reaches %d points of %s only: %v", len(reached), service, slices.Sorted(maps.Keys(reached)))
		}
		if !whole() {
			maps.DeleteFunc(reached, func(point string, _ int) bool { return !decisive.MatchString(point) })
		}
		all += len(reached)
	}
	var cells, died, failed atomic.Int64
	began := time.Now()
	ended := t.Run("somebody dies", func(t *testing.T) {
		world := t
		defer func() {
			if t.Failed() {
				t.Logf("who died:\n%s", strings.Join(m.deaths, "\n"))
			}
		}()
		stop := m.live(t)
		defer stop()
		var services sync.WaitGroup
		for service, reached := range points {
			services.Go(func() {
				p := m.pairs[service]
				for _, point := range slices.Sorted(maps.Keys(reached)) {
					for hit := range min(hits(), reached[point]) {
						if world.Failed() {
							return // what the journals show stays there, and HR may have fallen silent
						}
						name := fmt.Sprintf("%s#%d", point, hit+1)
						t.Run(name, func(t *testing.T) {
							cells.Add(1)
							t.Cleanup(func() {
								if t.Failed() {
									failed.Add(1)
								}
							})
							if p.dies(t, world, name) {
								died.Add(1)
							}
						})
					}
				}
			})
		}
		services.Wait()
		stop()
		for _, p := range m.pairs {
			if !p.both[0].running() {
				p.start(t, 0)
			}
			p.awaitReady(t, 0)
		}
		t.Logf("%d deaths in %s, while HR said %d words", died.Load(), time.Since(began).Round(time.Second), len(m.said.records))
		o := m.door(t)
		await(t, "everybody to be settled", func() (bool, string) { return m.settled(t, o, m.said, len(m.said.records)) })
		m.checkJournals(t, m.said)
		m.checkLog(t, o)
		for _, p := range m.pairs {
			for _, replica := range p.both {
				replica.stop(t) // so nobody ended who should not
			}
		}
	})
	if !ended && failed.Load() == 0 {
		failed.Add(1)
	}
	t.Logf("%d points, %d times a point and a hit, at %d of which the replica died there; it did not come to the others in time", all, cells.Load(), died.Load())
	if died.Load()*10 < cells.Load()*8 {
		t.Errorf("a replica died at %d of %d only", died.Load(), cells.Load())
	}
	promised(t, table.Row{
		Promise: "P1 P2 P6 P8", Tried: fmt.Sprintf("a death at each of %d points, hits 1 to %d, replicas on PostgreSQL and NATS", all, hits()), N: int(cells.Load()), Violations: int(failed.Load()),
		Figure: fmt.Sprintf("a replica died at %d", died.Load()),
	})
}

// mortals are two of every service; one of the two may die.
type mortals struct {
	*replicated
	mortal
	pairs map[string]*pair // by service
	hr    *hr              // goes to who may die, while they listen

	mu     sync.Mutex
	said   company  // that HR began to say
	deaths []string // in their order
}

// pair are the two replicas of a service. Who may die is the first.
type pair struct {
	*mortals
	service string
	both    [2]*process
}

func newMortals(t *testing.T) *mortals {
	t.Helper()
	r := newReplicated(t)
	m := &mortals{replicated: r, mortal: mortal{apps: map[string]wiki{}, operator: r.ada}, pairs: map[string]*pair{}}
	applications := ""
	for _, app := range []string{"wiki", "code"} {
		m.apps[app] = r.apps[app]
		write(t, filepath.Join(r.dir, "config", app+".yaml"), fmt.Sprintf("temper: plain\nentitlements: [\"%s\"]\n", strings.Join(smallGroups, `", "`)))
		applications += fmt.Sprintf(`
  - name: %s
    connector: remote
    address: unix:%s
    environment: prod
    owner: team-%s
    enforce: full
    account: {login: person.user_name, email: person.email}
    limits: {timeout: 2s} # after it no call can come late
`, app, filepath.Join(r.dir, "run", app+".sock"), app)
	}
	for _, service := range []string{"ingest", "policy", "provision", "audit"} {
		m.pairs[service] = &pair{mortals: m, service: service}
		for n := range 2 {
			r.end(t, m.pairs[service].name(n), syscall.SIGTERM)
			file := m.pairs[service].config(n)
			text, _, configured := strings.Cut(read(t, file), "\napplications:") // the last key
			if configured {
				text += "\napplications:\n" + applications
			}
			write(t, file, strings.Replace(unlimited(text), "checkpoint_every: 60s", "checkpoint_every: 1s", 1)+"\nlog_level: warn\n")
		}
	}
	if err := r.script(t.Context(), "restart", "wiki", "code"); err != nil {
		t.Fatal(err)
	}
	for _, p := range m.pairs {
		p.start(t, 0, crash.EnvList+"="+p.list())
	}
	for _, p := range m.pairs {
		p.awaitReady(t, 0)
		p.start(t, 1) // later, so that the first has the leases
	}
	for _, p := range m.pairs {
		p.awaitReady(t, 1)
	}
	m.hr = r.hrThatTries(t, func() int { return 0 })
	m.hr.client.Transport.(*http.Transport).DisableKeepAlives = true // or it would stay with the other one
	return m
}

func (p *pair) name(n int) string { return fmt.Sprintf("%s-%d", p.service, n+1) }

func (p *pair) config(n int) string {
	return filepath.Join(p.dir, "config", p.name(n), "tenure.yaml")
}

// list is the file with the points that the first one reached before anybody died.
func (p *pair) list() string { return filepath.Join(p.dir, "points-"+p.service) }

// start starts one of them, for the first time or again.
func (p *pair) start(t *testing.T, n int, env ...string) {
	t.Helper()
	p.both[n] = launchIn(t, append(environment(), env...), p.dir, processes[p.service], "-c", p.config(n))
}

func (p *pair) awaitReady(t *testing.T, n int) {
	t.Helper()
	p.both[n].awaitReady(t, p.at[p.service][3*n+2])
}

// dies lets the first one die at a point while HR goes on, and says whether it came to that. It is started again by whatever comes
// next. The second one goes on, as a process of world's.
func (p *pair) dies(t, world *testing.T, point string) bool {
	t.Helper()
	if p.both[0].running() {
		p.both[0].stop(t)
	}
	p.start(t, 0, crash.EnvPoint+"="+point)
	dying := p.both[0]
	await(t, dying.name+" to be ready, or dead", func() (bool, string) {
		status, body, err := get(t.Context(), "http://"+p.at[p.service][2]+"/readyz")
		return !dying.running() || err == nil && status == http.StatusOK, fmt.Sprint(string(body), err)
	})
	if !dying.ends(reachingBeside) { // it may be waiting for what one does at a time
		p.both[1].stop(t)
		dying.ends(reachingAlone)
		p.start(world, 1)
		p.awaitReady(t, 1)
	}
	_ = dying.cmd.Process.Signal(syscall.SIGTERM) // it may die yet, on its way out; or it is dead
	if !dying.ends(stopTime) {
		t.Fatalf("it does not end %s after SIGTERM", stopTime)
	}
	p.mu.Lock() // HR begins to say nothing meanwhile
	defer p.mu.Unlock()
	p.checkJournals(t, p.said)
	if dying.err == nil {
		t.Logf("not reached in %s; it printed last:\n%s", reachingBeside+reachingAlone, tail(dying.stderr))
		return false
	}
	if status, ok := dying.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Errorf("it ended: %v", dying.err)
	}
	p.deaths = append(p.deaths, fmt.Sprintf("after %d words %s", len(p.said.records), point))
	return true
}

// atATime is how many stories are told at a time, a word of one of them every so often; after so many words an operator applies the
// model anew.
const (
	atATime     = 4
	every       = 200 * time.Millisecond
	wordsAModel = 25
)

// live has HR tell stories of ever new people until the function that it returns is called.
func (m *mortals) live(t *testing.T) (stop func()) {
	t.Helper()
	stopping, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		var told [atATime]company // what is left of each story
		next := len(m.said.after(len(m.said.records))) + 1
		for n := 0; ; n++ {
			story := &told[n%atATime]
			if len(story.records) == 0 {
				*story = crashStory(t, next)
				next += len(story.after(len(story.records)))
			}
			m.say(t, story.records[0], story.postings[0])
			if n%wordsAModel == 0 {
				m.insistOnModel(t, m.dir, fmt.Sprintf("%s# %d\n", crashRoles, n)) // another one, that means the same
			}
			story.records, story.postings = story.records[1:], story.postings[1:]
			select {
			case <-stopping:
				return
			case <-tick.C:
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(stopping)
		<-done
	})
}

// say insists until it is accepted.
func (m *mortals) say(t *testing.T, r record, p posting) {
	t.Helper()
	m.mu.Lock()
	m.said.records, m.said.postings = append(m.said.records, r), append(m.said.postings, p)
	m.mu.Unlock()
	m.hr.insist(t, []posting{p}, new(atomic.Int64))
}
