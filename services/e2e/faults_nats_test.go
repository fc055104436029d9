package e2e

import (
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// natsFaults are those of three NATS nodes. Who falls silent is the one to which most services are connected.
var natsFaults = []fault{
	{name: "a NATS node is killed", world: onNodes(false), alarm: "a NATS node is away", spares: true, begin: func(t *testing.T, w *world) func() {
		n := w.nodes.leader(t)
		w.nodes.kill(t, n)
		return func() { w.nodes.start(t, n) }
	}},
	{name: "a NATS node is paused", world: onNodes(false), alarm: "a NATS node is away", spares: true, begin: func(t *testing.T, w *world) func() {
		n := w.nodes.mostAsked(t)
		w.nodes.signal(t, n, syscall.SIGSTOP)
		return func() { w.nodes.signal(t, n, syscall.SIGCONT) }
	}},
	{name: "a NATS node is partitioned", world: onNodes(true), needs: noNetworks, alarm: "a NATS node is away", spares: true, begin: func(t *testing.T, w *world) func() {
		n := w.nodes.mostAsked(t)
		w.nodes.setLinked(t, n, false)
		return func() { w.nodes.setLinked(t, n, true) }
	}},
	{name: "two of three NATS nodes are killed", world: onNodes(false), alarm: "not ready", begin: func(t *testing.T, w *world) func() {
		n := w.nodes.leader(t)
		gone := []int{n, (n + 1) % 3}
		for _, n := range gone {
			w.nodes.kill(t, n)
		}
		return func() {
			for _, n := range gone {
				w.nodes.start(t, n)
			}
		}
	}},
	{name: "nobody reaches NATS, nor a node another", world: onNodes(true), needs: noNetworks, alarm: "not ready", begin: func(t *testing.T, w *world) func() {
		for n := range w.nodes.all {
			w.nodes.setLinked(t, n, false)
		}
		return func() {
			for n := range w.nodes.all {
				w.nodes.setLinked(t, n, true)
			}
		}
	}},
}

// onNodes is a world of five processes over three NATS nodes, each in a network of its own or all on the loopback.
func onNodes(apart bool) func(*testing.T) *world {
	return func(t *testing.T) *world {
		t.Helper()
		ns := newNodes(t, apart)
		made := filepath.Join(installation(t, ns.hosts...), "deploy")
		ns.certs = filepath.Join(made, "certs")
		for n := range ns.all {
			ns.start(t, n)
		}
		ns.awaitHealthy(t)
		c := newClusterOn(t, made, ns.urls(), postgresServer(t, ns.certs))
		for service := range processes {
			file := filepath.Join(c.dir, service, "tenure.yaml")
			write(t, file, strings.Replace(read(t, file), "  max_bytes:", "  replicas: 3\n  max_bytes:", 1))
		}
		w := inProcesses(t, c)
		w.nodes, w.probes = ns, ns.probes()
		return w
	}
}

// inProcesses is a world of five processes.
func inProcesses(t *testing.T, c *cluster) *world {
	t.Helper()
	w := newWorld(t)
	w.cluster = c
	c.replaceApplications(t, w.applications(t))
	c.openBrake(t)
	for service := range processes {
		c.launch(t, service)
	}
	for service, p := range c.running {
		p.awaitReady(t, c.at[service][2])
		w.listeners = append(w.listeners, c.at[service][2])
	}
	slices.Sort(w.listeners)
	w.hr, w.door, w.cli = c.hr(t), c.door(t), c.ada
	write(t, filepath.Join(c.dir, "model", "roles.yaml"), worldModel)
	c.ada(t, "model", "apply", "model", "--yes").want(t, 0)
	return w
}
