package main

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

func TestAProcessIsReadWhateverItsNameHolds(t *testing.T) {
	t.Parallel()
	got, err := parseProc("42 (a) b (c) S 7 42 42 0 -1 4194560 100 200 0 0 11 12 13 14 20 0 1 0 99")
	if err != nil {
		t.Fatal(err)
	}
	if want := (proc{parent: 7, own: 230 * time.Millisecond, ended: 270 * time.Millisecond}); got != want {
		t.Errorf("it is read as %+v, want %+v", got, want)
	}
	if _, err := parseProc("42 (short) S 7"); err == nil {
		t.Error("half a line is taken")
	}
}

// A server's processor time is that of its children too, of those that run and of those that have ended.
func TestTheTimeOfAFamilyIsThatOfItsChildren(t *testing.T) {
	t.Parallel()
	const busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
	parent := exec.CommandContext(t.Context(), "/bin/sh", "-c", busy+"; echo; read -r _; exit 0")
	in, err := parent.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // it has worked, and waits
		t.Fatal(err)
	}
	took, err := readProc(parent.Process.Pid)
	if err != nil || took.own == 0 {
		t.Fatalf("a child that was busy took %s: %v", took.own, err)
	}
	own, err := readProc(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	running, err := family(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if running < own.own+took.own {
		t.Errorf("with a child that took %s, of one that had itself taken %s, a family took %s", took.own, own.own, running)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := parent.Wait(); err != nil {
		t.Fatal(err)
	}
	ended, err := family(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if ended < own.own+took.own {
		t.Errorf("after a child that took %s, of one that had itself taken %s, a family took %s", took.own, own.own, ended)
	}
}

func TestSizesAscend(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]sizes{"": nil, "1000": {1000}, "1,20,300": {1, 20, 300}} {
		var got sizes
		if err := got.Set(text); err != nil || !slices.Equal(got, want) || got.String() != text {
			t.Errorf("%q is read as %v: %v", text, got, err)
		}
	}
	for _, text := range []string{"0", "-1", "2,1", "1,1", "1,", "many"} {
		if err := new(sizes).Set(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
