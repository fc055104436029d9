package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// nodes are three NATS servers as deploy/nats/cluster.conf has them, each a process.
type nodes struct {
	dir    string
	certs  string
	hosts  []string // of each
	ports  []string // three of each: of clients, routes, monitoring
	bridge string   // that joins their networks; empty: they are all on the loopback
	all    []*process
}

// natsBuilt is the NATS server at the version of services/go.mod, built once for all tests of this process.
var natsBuilt struct {
	sync.Once
	err error
}

// buildNATS puts that server beside the programs of services/cmd.
func buildNATS(t *testing.T) {
	t.Helper()
	program(t, "tenure") // makes the folder
	natsBuilt.Do(func() {
		cmd := exec.Command("go", "build", "-o", built.dir+"/", "github.com/nats-io/nats-server/v2") // for all tests, so of no one test
		if out, err := cmd.CombinedOutput(); err != nil {
			natsBuilt.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if natsBuilt.err != nil {
		t.Fatal(natsBuilt.err)
	}
}

// newNodes chooses where the nodes will be: each in a network of its own, or all on the loopback.
func newNodes(t *testing.T, apart bool) *nodes {
	t.Helper()
	ns := &nodes{dir: t.TempDir(), all: make([]*process, 3)}
	for _, address := range freeAddresses(t, 9) {
		_, port, _ := strings.Cut(address, ":")
		ns.ports = append(ns.ports, port)
	}
	net := fmt.Sprintf("10.%d.%d.", 100+rand.N(100), rand.N(250))
	for n := range ns.all {
		host := "127.0.0.1"
		if apart {
			host = net + strconv.Itoa(n+1)
		}
		ns.hosts = append(ns.hosts, host)
	}
	if !apart {
		return ns
	}
	ns.bridge = fmt.Sprintf("tenure%x", rand.N(1<<24))
	ip(t, "link", "add", ns.bridge, "type", "bridge")
	t.Cleanup(func() {
		_ = exec.CommandContext(context.WithoutCancel(t.Context()), "ip", "link", "del", ns.bridge).Run()
	})
	ip(t, "address", "add", net+"254/24", "dev", ns.bridge)
	ip(t, "link", "set", ns.bridge, "up")
	return ns
}

// ip runs that program.
func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// noNetworks says why no network namespaces can be made here; empty: they can.
func noNetworks() string {
	for _, line := range []string{"unshare -n true", "ip -V", "nsenter -V"} {
		word := strings.Fields(line)
		if out, err := exec.Command(word[0], word[1:]...).CombinedOutput(); err != nil {
			return fmt.Sprintf("no network namespaces: %s: %v %s", line, err, strings.TrimSpace(string(out)))
		}
	}
	if os.Geteuid() != 0 {
		return "no network namespaces: that takes root"
	}
	return ""
}

func (ns *nodes) at(n, port int) string { return ns.hosts[n] + ":" + ns.ports[3*n+port] }

// urls are those of all nodes.
func (ns *nodes) urls() string {
	var all []string
	for n := range ns.all {
		all = append(all, "tls://"+ns.at(n, 0))
	}
	return strings.Join(all, ",")
}

// start starts a node, for the first time or again.
func (ns *nodes) start(t *testing.T, n int) {
	t.Helper()
	buildNATS(t)
	var under, routes []string
	bind := ns.hosts[n] + ":"
	if ns.bridge != "" {
		under, bind = []string{"unshare", "-n"}, "0.0.0.0:" // it listens before it has an address
	}
	for other := range ns.all {
		routes = append(routes, strconv.Quote("tls://"+ns.at(other, 1)))
	}
	dir := filepath.Join(ns.dir, strconv.Itoa(n))
	for _, file := range []string{"nats.conf", "cluster.conf"} {
		write(t, filepath.Join(dir, file), strings.NewReplacer(
			"/etc/nats/certs", ns.certs, "0.0.0.0:4222", bind+ns.ports[3*n], "127.0.0.1:8222", bind+ns.ports[3*n+2], `"/data"`, strconv.Quote(filepath.Join(dir, "data")),
			"0.0.0.0:6222", bind+ns.ports[3*n+1], `["tls://nats-1:6222", "tls://nats-2:6222", "tls://nats-3:6222"]`, "["+strings.Join(routes, ",")+"]",
		).Replace(read(t, filepath.Join(root, "deploy", "nats", file))))
	}
	ns.all[n] = launchUnder(t, under, environment(), dir, "nats-server", "-c", "cluster.conf", "--name", fmt.Sprint("nats-", n))
	if ns.bridge != "" {
		ns.join(t, n)
	}
}

// join gives a node's network an address, and a cable to the bridge.
func (ns *nodes) join(t *testing.T, n int) {
	t.Helper()
	pid := strconv.Itoa(ns.all[n].cmd.Process.Pid)
	ours, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the network of a node", func() (bool, string) {
		theirs, err := os.Readlink("/proc/" + pid + "/ns/net")
		return err == nil && theirs != ours, theirs
	})
	ip(t, "link", "add", ns.cable(n), "type", "veth", "peer", "name", "eth0", "netns", pid)
	ip(t, "link", "set", ns.cable(n), "master", ns.bridge, "up")
	for _, line := range []string{"address add " + ns.hosts[n] + "/24 dev eth0", "link set eth0 up", "link set lo up"} {
		output(t, "nsenter", append([]string{"-t", pid, "-n", "ip"}, strings.Fields(line)...)...)
	}
}

// cable is the host's end of a node's.
func (ns *nodes) cable(n int) string { return ns.bridge + "-" + strconv.Itoa(n) }

// setLinked pulls a node's cable, or puts it back.
func (ns *nodes) setLinked(t *testing.T, n int, linked bool) {
	t.Helper()
	ip(t, "link", "set", ns.cable(n), map[bool]string{true: "up", false: "down"}[linked])
}

// signal sends a signal to a node.
func (ns *nodes) signal(t *testing.T, n int, what syscall.Signal) {
	t.Helper()
	if err := ns.all[n].cmd.Process.Signal(what); err != nil {
		t.Fatal(err)
	}
}

// kill ends a node at once.
func (ns *nodes) kill(t *testing.T, n int) {
	t.Helper()
	ns.signal(t, n, syscall.SIGKILL)
	<-ns.all[n].done
}

// probes are where the nodes say that they are healthy.
func (ns *nodes) probes() (all []string) {
	for n := range ns.all {
		all = append(all, "http://"+ns.at(n, 2)+"/healthz")
	}
	return all
}

// awaitHealthy waits until all nodes are one cluster.
func (ns *nodes) awaitHealthy(t *testing.T) {
	t.Helper()
	for _, probe := range ns.probes() {
		await(t, probe+" to be healthy", func() (bool, string) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			status, body, err := get(ctx, probe)
			return err == nil && status == http.StatusOK, fmt.Sprint(string(body), err)
		})
	}
}

// mostAsked is the node to which most services are connected.
func (ns *nodes) mostAsked(t *testing.T) (node int) {
	t.Helper()
	most := 0
	for n := range ns.all {
		_, body, err := get(t.Context(), "http://"+ns.at(n, 2)+"/connz")
		var said struct {
			Connections int `json:"num_connections"`
		}
		if err := errors.Join(err, json.Unmarshal(body, &said)); err != nil {
			t.Fatal(err)
		}
		if said.Connections > most {
			node, most = n, said.Connections
		}
	}
	t.Logf("%d connections are to the node that is hit", most)
	return node
}

// leader is the node that leads the stream.
func (ns *nodes) leader(t *testing.T) (leader int) {
	t.Helper()
	await(t, "the stream to have a leader", func() (bool, string) {
		_, body, err := get(t.Context(), "http://"+ns.at(0, 2)+"/jsz?streams=true")
		var said struct {
			Accounts []struct {
				Streams []struct {
					Cluster struct{ Leader string }
				} `json:"stream_detail"`
			} `json:"account_details"`
		}
		if err != nil || json.Unmarshal(body, &said) != nil || len(said.Accounts) == 0 || len(said.Accounts[0].Streams) == 0 {
			return false, string(body)
		}
		_, err = fmt.Sscanf(said.Accounts[0].Streams[0].Cluster.Leader, "nats-%d", &leader)
		return err == nil, string(body)
	})
	return leader
}
