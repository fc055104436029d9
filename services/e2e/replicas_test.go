package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/crash"
	"github.com/tenurehq/tenure/pkg/rpc"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/audit/evidence"
)

// replicated is Tenure as scripts/cluster.sh has it: two of every service over PostgreSQL and three NATS nodes.
type replicated struct {
	*cluster
	port int
}

// ports of scripts/cluster.sh, from its first one.
const (
	clientPort, routePort, servicePort, listingPort = 0, 10, 40, 100
	ports                                           = 120
)

// limits are the brake's, as the example has them.
var limits = regexp.MustCompile(`(?m)^(  (?:privileged_)?per_(?:hour|day|app_day)): [^#\n]+`)

// unlimited is a configuration by which the brake lets pass whoever loses access.
func unlimited(text string) string { return limits.ReplaceAllString(text, "${1}: 100%") }

func newReplicated(t *testing.T) *replicated {
	t.Helper()
	buildNATS(t)
	dir, err := os.MkdirTemp("", "tenure-e2e-") //nolint:usetesting // PostgreSQL's user cannot enter the test's own folder
	if err != nil {
		t.Fatal(err)
	}
	r := &replicated{port: freePorts(t, ports), cluster: &cluster{
		dir: dir, certs: filepath.Join(dir, "certs"), at: map[string][]string{}, apps: map[string]wiki{}, running: map[string]*process{},
	}}
	t.Cleanup(func() {
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(dir, "log", "*.log"))
			for _, log := range logs {
				t.Logf("%s ends with:\n%s", filepath.Base(log), tail(log))
			}
		}
		if err := r.script(context.WithoutCancel(t.Context()), "clean"); err != nil {
			t.Error(err)
		}
	})
	if err := r.script(t.Context(), "up"); err != nil {
		t.Fatal(err)
	}
	r.secret = read(t, filepath.Join(dir, "secrets", "acme-hr"))
	for n, service := range []string{"ingest", "policy", "provision", "audit", "console"} {
		for k := range 6 { // http, grpc and metrics of each replica
			r.at[service] = append(r.at[service], r.address(servicePort+10*n+k))
		}
	}
	for n, app := range []string{"wiki", "code", "warehouse"} {
		r.apps[app] = wiki{r.address(listingPort + n)}
	}
	return r
}

func (r *replicated) address(offset int) string { return fmt.Sprintf("127.0.0.1:%d", r.port+offset) }

func (r *replicated) script(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(root, "scripts", "cluster.sh"), args...)
	cmd.Env = append(environment(), "TENURE_CLUSTER_DIR="+r.dir, fmt.Sprintf("TENURE_CLUSTER_PORT=%d", r.port))
	if !whole() || crash.Enabled { // else the script builds, as it does for people
		cmd.Env = append(cmd.Env, "TENURE_CLUSTER_BUILT="+built.dir)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("scripts/cluster.sh %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// freePorts is the first of n ports on which nobody listened a moment ago.
func freePorts(t *testing.T, n int) int {
	t.Helper()
	for range 100 {
		first := int(nextPort.Add(int64(n))) - n + 1
		if portsFree(t, first, n) {
			return first
		}
	}
	t.Fatalf("no %d free ports in a row", n)
	return 0
}

func portsFree(t *testing.T, first, n int) bool {
	t.Helper()
	for port := first; port < first+n; port++ {
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return false
		}
		_ = listener.Close()
	}
	return true
}

// hr is an HR system that knows both replicas of ingest, takes turns, and goes to the other one when one does not listen.
func (r *replicated) hr(t *testing.T) *hr {
	t.Helper()
	var turn atomic.Int64
	return r.hrThatTries(t, func() int { return int(turn.Add(1) % 2) })
}

// hrThatTries is hr that tries the replica of that number first.
func (r *replicated) hrThatTries(t *testing.T, first func() int) *hr {
	t.Helper()
	trusted, err := (rpc.TLS{CAFile: filepath.Join(r.certs, "ca.crt")}).Client("ingest")
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: trusted, DialContext: func(ctx context.Context, network, _ string) (conn net.Conn, err error) {
		one := first()
		for _, replica := range []int{one, 1 - one} {
			if conn, err = new(net.Dialer).DialContext(ctx, network, r.at["ingest"][3*replica]); err == nil {
				return conn, nil
			}
		}
		return nil, err
	}}
	return newHR(t, "https://ingest/v1/webhooks/acme-hr", r.secret, transport)
}

func TestARollingRestartUnderLoadLosesNothingAndDoesNothingTwice(t *testing.T) {
	if !whole() {
		t.Skip("ten processes and three NATS nodes, each restarted: make storms")
	}
	r := newReplicated(t) // alone: it measures pauses
	r.withoutLimits(t)    // half of this company moves or leaves within minutes
	t.Run("nobody is let in who has no business", r.doorsAreShut)

	load := r.load(t)
	for _, name := range []string{
		"ingest-1", "ingest-2", "policy-1", "policy-2", "provision-1", "provision-2", "audit-1", "audit-2", "console-1", "console-2",
		"nats-1", "nats-2", "nats-3",
	} {
		if err := r.script(t.Context(), "restart", name); err != nil {
			t.Error(err)
		}
		load.pauseOf(t, name)
	}
	r.wipeStream(t)
	load.pauseOf(t, "the stream")
	said := load.stop()
	r.settle(t)
	r.compare(t, said)
	report := answer[evidence.Report](t, r.ada(t, "audit", "verify", "-o", "json"))
	for _, origin := range []string{"ingest", "policy", "provision/wiki", "provision/code", "provision/warehouse"} {
		if report.Origins[origin] == 0 {
			t.Errorf("the log has nothing of %s", origin)
		}
	}
	if len(report.Missing) > 0 {
		t.Errorf("the log has gaps: %v", report.Missing)
	}
	t.Logf("%d people, %d entries in the log without a gap", len(said), report.Leaves)
}

// withoutLimits gives it the example's model, and lets the brake pass whoever loses access.
func (r *replicated) withoutLimits(t *testing.T) {
	t.Helper()
	for _, replica := range []string{"policy-1", "policy-2"} {
		file := filepath.Join(r.dir, "config", replica, "tenure.yaml")
		write(t, file, unlimited(read(t, file)))
	}
	if err := r.script(t.Context(), "restart", "policy-1", "policy-2"); err != nil {
		t.Fatal(err)
	}
	model, err := filepath.Abs(filepath.Join(root, "deploy", "config", "model"))
	if err != nil {
		t.Fatal(err)
	}
	r.ada(t, "model", "apply", model, "--yes").want(t, 0)
}

// wipeStream kills all nodes of NATS, deletes what they stored, and starts them again.
func (r *replicated) wipeStream(t *testing.T) {
	t.Helper()
	nodes := []string{"nats-1", "nats-2", "nats-3"}
	for _, node := range nodes {
		r.end(t, node, syscall.SIGKILL)
	}
	for _, node := range nodes {
		store := filepath.Join(r.dir, "data", node)
		if stored, err := os.ReadDir(store); err != nil || len(stored) == 0 {
			t.Fatalf("%s: nothing is stored there: %v", store, err)
		}
		if err := os.RemoveAll(store); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.script(t.Context(), "up"); err != nil {
		t.Fatal(err)
	}
}

// end ends a process of the script's.
func (r *replicated) end(t *testing.T, name string, by syscall.Signal) {
	t.Helper()
	file := filepath.Join(r.dir, "run", name+".pid")
	pid, err := strconv.Atoi(strings.TrimSpace(read(t, file)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, by); err != nil {
		t.Fatal(err)
	}
	await(t, name+" to be dead", func() (bool, string) { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH), "it lives" })
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
}

// load is what HR goes on saying.
type load struct {
	stopping chan struct{}
	senders  sync.WaitGroup

	mu      sync.Mutex
	said    map[string]record // the last of each person, by external id
	count   int
	longest time.Duration // from the first attempt to tell something to its 202, since this was last asked
}

// load begins to say of one person after another that they join, that many of them move, and that many leave.
func (r *replicated) load(t *testing.T) *load {
	t.Helper()
	const senders, every = 3, 100 * time.Millisecond
	l := &load{stopping: make(chan struct{}), said: map[string]record{}}
	hr := r.hr(t)
	for sender := range senders {
		l.senders.Go(func() {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for n := sender; ; n += senders {
				joins := record{
					ExternalID: fmt.Sprint(20000 + n), Status: "active", GivenName: "Pat", FamilyName: fmt.Sprintf("Person%d", n), StartDate: "2020-01-01",
					Email: fmt.Sprintf("p%d@acme.example", n), Department: "d005", Title: "Engineer", Attributes: map[string]string{},
				}
				moves, leaves := joins, joins
				moves.Department, moves.Title = "d007", "Manager"
				if n%2 == 0 {
					leaves = moves
				}
				leaves.Status = "terminated"
				l.tell(t, hr, "joins", joins)
				if n%2 == 0 {
					l.tell(t, hr, "moves", moves)
				}
				if n%3 == 0 {
					l.tell(t, hr, "leaves", leaves)
				}
				select {
				case <-l.stopping:
					return
				case <-tick.C:
				}
			}
		})
	}
	return l
}

// tell insists until it is accepted.
func (l *load) tell(t *testing.T, hr *hr, what string, r record) {
	t.Helper()
	p, began := says(t, r.ExternalID+"-"+what, time.Now(), r), time.Now()
	await(t, p.id+" to be accepted", func() (bool, string) {
		_, err := hr.post(t, p)
		return err == nil, fmt.Sprint(err)
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said[r.ExternalID] = r
	l.longest, l.count = max(l.longest, time.Since(began)), l.count+1
}

// pauseOf logs the longest time that something took to be accepted while this process was restarted.
func (l *load) pauseOf(t *testing.T, name string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Logf("%-12s restarted; %d webhooks accepted so far, the slowest since the last restart after %s", name, l.count, l.longest.Round(time.Millisecond))
	l.longest = 0
}

// stop ends it and returns the last that was said of each person.
func (l *load) stop() map[string]record {
	close(l.stopping)
	l.senders.Wait()
	return l.said
}

// compare reads the applications and their journals.
func (r *replicated) compare(t *testing.T, said map[string]record) {
	t.Helper()
	for app, w := range r.apps {
		logins := map[string]wikiAccount{}
		var all []wikiAccount
		if err := json.Unmarshal(w.fetch(t, "/accounts"), &all); err != nil {
			t.Fatal(err)
		}
		for _, account := range all {
			logins[account.Login] = account
		}
		if len(logins) != len(all) {
			t.Errorf("%s has %d accounts, and %d logins", app, len(all), len(logins))
		}
		for id, person := range said {
			login := "pp" + strings.TrimPrefix(strings.ToLower(person.FamilyName), "p")
			account := logins[login]
			delete(logins, login)
			want := []string(nil)
			if person.Status == "active" {
				want = wanted(app, person)
			}
			slices.Sort(account.Entitlements)
			if diff := cmp.Diff(strings.Join(want, " "), strings.Join(account.Entitlements, " ")); diff != "" || (account.Status == "enabled") != (want != nil) {
				t.Errorf("%s (%s, %s) is %q in %s (-model +has):\n%s", id, person.Department, person.Status, account.Status, app, diff)
			}
		}
		if len(logins) > 0 {
			t.Errorf("%s has accounts of nobody: %v", app, logins)
		}
		w.nothingTwice(t, app)
	}
}

// wanted is what the example model gives an active person of load's.
func wanted(app string, person record) []string {
	if person.Department == "d005" {
		return map[string][]string{"wiki": {"group:dept-d005", "group:staff"}, "code": {"group:developers"}, "warehouse": {"role:readonly"}}[app]
	}
	return map[string][]string{"wiki": {"group:dept-d007", "group:staff"}, "warehouse": {"role:reporting"}}[app]
}

// nothingTwice: as load moves and ends everybody once, each effect in the journal can be right once.
func (w wiki) nothingTwice(t *testing.T, app string) {
	t.Helper()
	type effect struct{ Account, Op, Entitlement string }
	seen, entries := map[effect]bool{}, 0
	for line := range strings.Lines(string(w.fetch(t, "/journal"))) {
		var e effect
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("the journal of %s: %v: %s", app, err, line)
		}
		if seen[e] {
			t.Errorf("the journal of %s has %+v twice", app, e)
		}
		seen[e] = true
		entries++
	}
	if entries == 0 {
		t.Errorf("the journal of %s is empty", app)
	}
	t.Logf("the journal of %s: %d effects, none twice", app, entries)
}

// doorsAreShut tries what certificates are there to prevent.
func (r *replicated) doorsAreShut(t *testing.T) {
	ca := filepath.Join(r.certs, "ca.crt")
	show := func(name string) rpc.TLS {
		return rpc.TLS{CertFile: filepath.Join(r.certs, name+".crt"), KeyFile: filepath.Join(r.certs, name+".key"), CAFile: ca}
	}
	read := func(cfg rpc.PeerConfig) error {
		conn, err := rpc.Dial(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		stream, err := eventv1.NewEventLogClient(conn).Read(t.Context(), &eventv1.ReadRequest{Origin: "policy", From: 1, To: 1})
		if err == nil {
			_, err = stream.Recv()
		}
		if errors.Is(err, io.EOF) { // let in, and there is nothing
			return nil
		}
		return err
	}
	policy := r.at["policy"][1]
	if err := read(rpc.PeerConfig{Address: policy, ServerName: "policy", TLS: show("audit")}); err != nil {
		t.Fatalf("audit cannot read policy's events: %v", err)
	}
	for who, cfg := range map[string]rpc.PeerConfig{
		"nobody's certificate":               {Address: policy, ServerName: "policy", TLS: rpc.TLS{CAFile: ca}},
		"another service's certificate":      {Address: policy, ServerName: "policy", TLS: show("ingest")},
		"NATS's certificate":                 {Address: policy, ServerName: "policy", TLS: show("nats")},
		"a server that shows another's name": {Address: r.at["ingest"][1], ServerName: "policy", TLS: show("audit")},
	} {
		if read(cfg) == nil {
			t.Errorf("with %s policy's events can be read", who)
		}
	}
	js := rawJetStream(t, "tls://"+r.address(clientPort+1), r.certs, "provision")
	refused, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := js.Publish(refused, bus.AccessSubject(eventv1.Lane_LANE_URGENT, "wiki", "p1"), nil); err == nil {
		t.Error("provision could say what is policy's to say")
	}
	for name, want := range map[string]bool{"nats": true, "ingest": false} {
		if got := r.isNode(t, show(name)); got != want {
			t.Errorf("with the certificate of %s: taken for a node of NATS: %v, want %v", name, got, want)
		}
	}
}

// isNode tells whether somebody is taken for a node of the NATS cluster.
func (r *replicated) isNode(t *testing.T, shown rpc.TLS) bool {
	t.Helper()
	settings, err := shown.Client("nats")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", r.address(routePort+1))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	secure := tls.Client(conn, settings)
	if _, err := secure.Write([]byte("CONNECT {\"verbose\":true,\"name\":\"stranger\",\"cluster\":\"tenure\"}\r\nPING\r\n")); err != nil {
		return false
	}
	lines := bufio.NewScanner(secure)
	for lines.Scan() {
		switch {
		case strings.HasPrefix(lines.Text(), "-ERR"):
			return false
		case lines.Text() == "PONG": // its INFO greets everybody
			return true
		}
	}
	return false
}
