package run_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/run"
)

// TestMain lets this binary be the process whose end the tests look at.
func TestMain(m *testing.M) {
	switch os.Getenv("RUN_TEST_MAIN") {
	case "":
		goleak.VerifyTestMain(m)
	case "refused":
		run.Main(func(context.Context, []string) error {
			return fmt.Errorf("start: %w", fault.New(fault.Refused, "held"))
		})
	case "wait":
		run.Main(func(ctx context.Context, args []string) error {
			_, _ = fmt.Println("ready", strings.Join(args, " "))
			return run.All(ctx, func(ctx context.Context) error { <-ctx.Done(); return nil })
		})
	case "memory":
		run.Main(func(context.Context, []string) error {
			_, err := fmt.Printf("%d %% %d bytes\n", debug.SetGCPercent(-1), debug.SetMemoryLimit(-1))
			return err
		})
	case "deaf":
		run.Main(func(ctx context.Context, _ []string) error {
			_, _ = fmt.Println("ready")
			<-ctx.Done()
			_, _ = fmt.Println("ready")
			select {}
		})
	}
}

func child(t *testing.T, what string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), "RUN_TEST_MAIN="+what)
	stderr := new(bytes.Buffer)
	cmd.Stderr = stderr
	return cmd, stderr
}

func TestMainExitsWithTheErrorsCode(t *testing.T) {
	t.Parallel()
	cmd, stderr := child(t, "refused")
	err := cmd.Run()
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 4 {
		t.Errorf("refused: %v, want exit 4", err)
	}
	if got := stderr.String(); got != "error: start: held\n" {
		t.Errorf("printed %q, want one line", got)
	}
}

func TestMainEndsWellOnSIGTERM(t *testing.T) {
	t.Parallel()
	cmd, stderr := child(t, "wait", "-c", "file")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, len("ready -c file\n"))
	if _, err := out.Read(line); err != nil || string(line) != "ready -c file\n" {
		t.Fatalf("start: %q, %v", line, err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("SIGTERM: %v (%s), want exit 0", err, stderr)
	}
}

func TestSecondSignalKills(t *testing.T) {
	t.Parallel()
	cmd, _ := child(t, "deaf")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, len("ready\n"))
	for range 2 { // started, and then asked to stop
		if _, err := io.ReadFull(out, line); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	// The handler is taken away concurrently with the context's end, so the second signal may still meet it: repeat.
	died := make(chan error, 1)
	go func() { died <- cmd.Wait() }()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case err := <-died:
			if exit := new(exec.ExitError); !errors.As(err, &exit) || !exit.Sys().(syscall.WaitStatus).Signaled() {
				t.Errorf("second signal: %v, want death by signal", err)
			}
			return
		case <-again.C:
			_ = cmd.Process.Signal(syscall.SIGTERM)
		}
	}
}

func TestAllEndsTheOthersWhenOneFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	ended := false
	err := run.All(t.Context(),
		func(ctx context.Context) error { <-ctx.Done(); ended = true; return nil },
		func(context.Context) error { return broken },
	)
	if !errors.Is(err, broken) || !ended {
		t.Errorf("err %v, other task ended: %v", err, ended)
	}
}

func TestAllWaitsForWhatWasTaken(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	finished := false
	err := run.All(ctx,
		func(context.Context) error { cancel(); return nil },
		func(ctx context.Context) error {
			<-ctx.Done()
			finished = true
			return fmt.Errorf("query: %w", ctx.Err())
		},
	)
	if err != nil {
		t.Errorf("a task that stopped when asked is a failure: %v", err)
	}
	if !finished {
		t.Error("All returned before its task had finished")
	}
}

func TestCancelledTaskWithoutAStopIsAFailure(t *testing.T) {
	t.Parallel()
	if err := run.All(t.Context(), func(context.Context) error { return context.Canceled }); err == nil {
		t.Error("a task died of a context of its own and the process went on")
	}
}
