package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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

// diskFaults are those of the disk under one process: of its databases, and of the stream's store.
var diskFaults = []fault{
	{name: "the disk is full", world: onSmallDisk("."), needs: noMounts, alarm: "intake fails", begin: fills(".")},
	{name: "the stream's disk is full", world: onSmallDisk("jetstream"), needs: noMounts, alarm: "not ready", begin: fills("jetstream")},
	{name: "fsync fails with EIO", world: supervised, needs: noTracing, alarm: "intake fails", begin: func(t *testing.T, w *world) func() {
		return trace(t, w.tenure.cmd.Process.Pid, "inject=fsync,fdatasync:error=EIO")
	}},
}

// diskSize is enough for everything, and soon full.
const diskSize = 64 << 20

// onSmallDisk is a world of one process, of which the data, or a folder of it, is on a disk of its own.
func onSmallDisk(folder string) func(*testing.T) *world {
	return func(t *testing.T) *world {
		t.Helper()
		return supervisedOn(t, func(data string) {
			saved, data := filepath.Join(filepath.Dir(data), "saved"), filepath.Join(data, folder)
			if err := errors.Join(os.MkdirAll(data, 0o700), os.Rename(data, saved), os.Mkdir(data, 0o700)); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Mount("tmpfs", data, "tmpfs", 0, fmt.Sprintf("mode=0700,size=%d", diskSize)); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := syscall.Unmount(data, syscall.MNT_DETACH); err != nil {
					t.Error(err)
				}
			})
			output(t, "cp", "-a", saved+"/.", data)
		})
	}
}

// fills fills that disk.
func fills(folder string) func(*testing.T, *world) func() {
	return func(t *testing.T, w *world) func() {
		t.Helper()
		filler := filepath.Join(w.tenure.dir, "data", folder, "filler")
		fill(t, filler)
		stop := again(t, 100*time.Millisecond, func() { fill(t, filler) }) // what is given back is taken, too
		return func() {
			stop()
			if err := os.Remove(filler); err != nil {
				t.Error(err)
			}
		}
	}
}

// noMounts says why nothing can be mounted here; empty: it can.
func noMounts() string {
	if out, err := exec.Command("unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt").CombinedOutput(); err != nil {
		return fmt.Sprintf("no disk of its own can be mounted: %v %s", err, bytes.TrimSpace(out))
	}
	return ""
}

// fill writes to a file until nothing more can be written to its disk.
func fill(t *testing.T, name string) {
	t.Helper()
	file, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
		return
	}
	defer file.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = file.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
}

// supervised is a world of one process that is started again when it ends, as by systemd.
func supervised(t *testing.T) *world {
	t.Helper()
	return supervisedOn(t, func(string) {})
}

func supervisedOn(t *testing.T, prepare func(data string)) *world {
	t.Helper()
	w := newWorld(t)
	w.tenure = configure(t, plan{applications: w.applications(t), logLevel: "warn", more: "audit: {checkpoint_every: 1s}\nnats: {max_bytes: 16777216}"})
	prepare(filepath.Join(w.tenure.dir, "data"))
	w.tenure.start(t)
	w.supervise(t)
	w.listeners, w.hr, w.door, w.cli = []string{w.tenure.metrics}, w.tenure.hr(t), w.tenure.dial(t), w.tenure.cli
	w.tenure.applyModel(t, worldModel)
	return w
}

// supervise starts the process again a second after it ended.
func (w *world) supervise(t *testing.T) {
	t.Helper()
	first, watched := w.tenure.process, make(chan struct{})
	go func() {
		defer close(watched)
		for p := first; ; {
			select {
			case <-p.done:
			case <-t.Context().Done():
				return
			}
			t.Logf("the process ended and is started again: %v\n%s", p.err, lastLine(p.stderr))
			select {
			case <-time.After(time.Second):
			case <-t.Context().Done():
				return
			}
			p = launch(t, w.tenure.dir, "tenure", "serve", "-c", "tenure.yaml")
		}
	}()
	t.Cleanup(func() { <-watched })
}

func lastLine(file string) string {
	lines := strings.Split(strings.TrimSpace(tail(file)), "\n")
	return lines[len(lines)-1]
}

// noTracing says why system calls cannot be made to fail here; empty: they can.
func noTracing() string {
	if out, err := exec.Command("strace", "-qq", "-o", "/dev/null", "-e", "inject=fsync:error=EIO", "true").CombinedOutput(); err != nil {
		return fmt.Sprintf("no system call can be made to fail: strace: %v %s", err, bytes.TrimSpace(out))
	}
	if os.Geteuid() != 0 {
		return "no system call can be made to fail: strace of a process that runs takes root"
	}
	return ""
}

// trace lets system calls of a process fail as strace is told. It returns what ends that.
func trace(t *testing.T, pid int, expression string) (stop func()) {
	t.Helper()
	said := filepath.Join(t.TempDir(), "strace")
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "strace", "-f", "-o", said, "-e", expression, "-p", strconv.Itoa(pid)) // it ends below
	notes, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	attached := make([]byte, 1)
	if _, err := io.ReadFull(notes, attached); err != nil { // it says so for each thread
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, notes) }()
	letGo := sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGINT) // it lets go
		_ = cmd.Wait()
	})
	t.Cleanup(letGo)
	return func() {
		letGo()
		injected := strings.Count(read(t, said), "(INJECTED)")
		t.Logf("%d system calls failed", injected)
		if injected == 0 {
			t.Error("no system call failed")
		}
	}
}
