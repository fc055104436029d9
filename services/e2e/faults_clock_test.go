package e2e

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// clockFaults are those of the clock that processes see. What tells how much time has passed goes on as it should.
var clockFaults = []fault{
	{name: "our clock is an hour ahead of HR's", world: inOneProcess, needs: noClocks, alarm: "webhooks refused", begin: func(t *testing.T, w *world) func() {
		return setClock(t, w.tenure.cmd.Process.Pid, time.Hour)
	}},
	{name: "every clock is an hour ahead while an application is away, and is then set back", world: inOneProcess, needs: noClocks, alarm: "a clock was set", begin: allOff(time.Hour)},
	{name: "every clock is an hour behind while an application is away, and is then set", world: inOneProcess, needs: noClocks, alarm: "a clock was set", begin: allOff(-time.Hour)},
	{name: "the workers' clock is an hour ahead", world: onPostgres, needs: noClocks, alarm: "a clock is off", spares: true, begin: workersOff(time.Hour)},
	{name: "the workers' clock is an hour behind", world: onPostgres, needs: noClocks, alarm: "a clock is off", spares: true, begin: workersOff(-time.Hour)},
}

// allOff sets the clocks of Tenure and of HR. What waits for the application waits for an instant by that clock, and is still
// waiting when it is right again.
func allOff(off time.Duration) func(*testing.T, *world) func() {
	return func(t *testing.T, w *world) func() {
		t.Helper()
		reset := setClock(t, w.tenure.cmd.Process.Pid, off)
		w.hr.ahead = off
		w.gate.set(resets)
		return func() {
			reset()
			w.gate.set(nil)
		}
	}
}

// workersOff sets the clock of the workers alone.
func workersOff(off time.Duration) func(*testing.T, *world) func() {
	return func(t *testing.T, w *world) func() {
		t.Helper()
		return setClock(t, w.cluster.running["provision"].cmd.Process.Pid, off)
	}
}

// noClocks says why no process can be given a clock of its own here; empty: it can.
func noClocks() string {
	switch {
	case runtime.GOOS != "linux", runtime.GOARCH != "amd64":
		return "a process is given a clock of its own on Linux and amd64 only"
	case os.Geteuid() != 0:
		return "to give a process a clock of its own takes root"
	}
	return ""
}

// setClock gives a process a clock that is off, from now on until what it returns is called. A program asks for the time by code
// that the kernel has put into its memory, which is replaced:
//
//	mov $228, %eax; syscall            clock_gettime, of the kernel itself
//	test %edi, %edi; jne 1f            of another clock than the one that tells the date: as it is
//	addq $OFF, (%rsi)
//	1: ret
func setClock(t *testing.T, pid int, off time.Duration) (reset func()) {
	t.Helper()
	code := []byte{0xb8, 228, 0, 0, 0, 0x0f, 0x05, 0x85, 0xff, 0x75, 0x07, 0x48, 0x81, 0x06, 0, 0, 0, 0, 0xc3}
	binary.LittleEndian.PutUint32(code[14:], uint32(int32(off/time.Second)))
	at, size := clockCode(t, pid)
	before := replaceCode(t, pid, at, size, code)
	return func() { replaceCode(t, pid, at, size, before) }
}

// clockCode is where the code is by which a process asks for the time.
func clockCode(t *testing.T, pid int) (at, size uint64) {
	t.Helper()
	for line := range strings.Lines(read(t, fmt.Sprintf("/proc/%d/maps", pid))) {
		if !strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			continue
		}
		var from, to uint64
		if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err != nil {
			t.Fatal(err)
		}
		image := make([]byte, to-from)
		memory(t, pid, func(file *os.File) error { _, err := file.ReadAt(image, int64(from)); return err })
		file, err := elf.NewFile(bytes.NewReader(image))
		if err != nil {
			t.Fatal(err)
		}
		symbols, err := file.DynamicSymbols()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range symbols {
			if s.Name == "__vdso_clock_gettime" {
				return from + s.Value, s.Size
			}
		}
	}
	t.Fatal("the process does not ask for the time in the way that was expected")
	return 0, 0
}

// replaceCode puts other code in the place of a function's beginning, while nobody is within it, and returns what was there.
func replaceCode(t *testing.T, pid int, at, size uint64, code []byte) (before []byte) {
	t.Helper()
	await(t, "nobody to be asking for the time", func() (bool, string) {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
				t.Error(err)
			}
		}()
		if where := stopped(t, pid, at, at+size); where != "" {
			return false, where
		}
		before = make([]byte, len(code))
		memory(t, pid, func(file *os.File) error {
			if _, err := file.ReadAt(before, int64(at)); err != nil {
				return err
			}
			_, err := file.WriteAt(code, int64(at))
			return err
		})
		return true, ""
	})
	return before
}

// stopped says which thread of a process still runs, or is between two addresses; empty: none.
func stopped(t *testing.T, pid int, from, to uint64) string {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(threads) == 0 {
		t.Fatal("the process has no threads: ", err)
	}
	for _, thread := range threads {
		_, state, _ := strings.Cut(read(t, filepath.Join(thread, "stat")), ") ")
		word := strings.Fields(read(t, filepath.Join(thread, "syscall"))) // its last is where the thread is
		if !strings.HasPrefix(state, "T") || len(word) < 2 {
			return thread + " runs"
		}
		pc, err := strconv.ParseUint(word[len(word)-1], 0, 64)
		if err != nil {
			t.Fatal(err)
		}
		if pc >= from && pc < to {
			return thread + " is within it"
		}
	}
	return ""
}

// memory lets do read and write the memory of a process.
func memory(t *testing.T, pid int, do func(*os.File) error) {
	t.Helper()
	file, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := do(file); err != nil {
		t.Fatal(err)
	}
}
