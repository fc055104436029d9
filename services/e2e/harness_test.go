package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/crash"
	"github.com/tenurehq/tenure/services/promises/seeded"
	"github.com/tenurehq/tenure/services/promises/table"
)

// stopTime is how long a process may take to finish what it has taken.
const stopTime = 30 * time.Second

// built are the programs of services/cmd: built once, for all tests of this process.
var built struct {
	sync.Once
	dir string
	err error
}

// whole says that the tests that take long are run at their full size: make storms.
func whole() bool { return os.Getenv("TENURE_TEST_WHOLE") != "" }

// tabled says that somebody makes a table of promises: make promises.
func tabled() bool { return os.Getenv(table.EnvFile) != "" }

// promised adds rows of what a test tried to the table of promises, where somebody makes one.
func promised(t *testing.T, rows ...table.Row) {
	t.Helper()
	if !tabled() {
		return
	}
	if err := table.Add(os.Getenv(table.EnvFile), rows...); err != nil {
		t.Error(err)
	}
}

// TestMain removes what was built.
func TestMain(m *testing.M) {
	m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
}

func build() {
	if built.dir, built.err = os.MkdirTemp("", "tenure-bin-"); built.err != nil {
		return
	}
	args := []string{"build", "-o", built.dir + "/"}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race") // a process that races exits with 66, which no test wants
	}
	if crash.Enabled {
		args = append(args, "-tags", "crashpoints")
	}
	cmd := exec.Command("go", append(args, "./services/cmd/...")...) // for all tests, so of no one test
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		built.err = fmt.Errorf("go build: %w\n%s", err, out)
	}
}

// program is the path of a built one.
func program(t *testing.T, name string) string {
	t.Helper()
	built.Do(build)
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, name)
}

// environment is this process's without what would configure Tenure.
func environment() []string {
	var kept []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "TENURE_") {
			kept = append(kept, variable)
		}
	}
	return kept
}

// process is a program that runs until it is stopped, or the test ends.
type process struct {
	name   string
	cmd    *exec.Cmd
	stdout string // files with what it has printed
	stderr string
	done   chan struct{} // closed when it has ended
	err    error         // of its end
}

// launch starts a program in dir. What it prints goes to files there.
func launch(t *testing.T, dir, name string, args ...string) *process {
	t.Helper()
	return launchIn(t, environment(), dir, name, args...)
}

// launchIn is launch with an environment of its own.
func launchIn(t *testing.T, env []string, dir, name string, args ...string) *process {
	t.Helper()
	return launchUnder(t, nil, env, dir, name, args...)
}

// launchUnder is launchIn by the hand of another program, which becomes it: the line of that program, or nothing.
func launchUnder(t *testing.T, under, env []string, dir, name string, args ...string) *process {
	t.Helper()
	p := &process{name: name, done: make(chan struct{})}
	line := append(append(slices.Clone(under), program(t, name)), args...)
	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), line[0], line[1:]...) // it ends by Cleanup
	p.cmd.Dir, p.cmd.Env = dir, env
	out, err := os.CreateTemp(dir, name+"-*.out")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	log, err := os.CreateTemp(dir, name+"-*.log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr, p.stdout, p.stderr = out, log, out.Name(), log.Name()
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		if p.running() {
			_ = p.cmd.Process.Kill()
			<-p.done
		}
		if t.Failed() {
			t.Logf("%s printed last:\n%s", name, tail(p.stderr))
		}
	})
	return p
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// ends waits for the end of the process, so long, and says whether it came.
func (p *process) ends(within time.Duration) bool {
	select {
	case <-p.done:
		return true
	case <-time.After(within):
		return false
	}
}

// stop asks the process to end, and expects that it finishes what it has taken and exits with 0.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("stop %s: %v\n%s", p.name, err, tail(p.stderr))
	}
	if !p.ends(stopTime) {
		t.Fatalf("%s does not end %s after SIGTERM:\n%s", p.name, stopTime, tail(p.stderr))
	}
	if p.err != nil {
		t.Fatalf("%s ends with %v after SIGTERM, want exit 0:\n%s", p.name, p.err, tail(p.stderr))
	}
}

// awaitReady waits until the process says that it is ready.
func (p *process) awaitReady(t *testing.T, metrics string) {
	t.Helper()
	last := ""
	await(t, p.name+" to be ready", func() (bool, string) {
		if !p.running() {
			t.Fatalf("%s ended: %v\n%s", p.name, p.err, tail(p.stderr))
		}
		status, body, err := get(t.Context(), "http://"+metrics+"/readyz")
		if err == nil {
			last = string(body)
		}
		return err == nil && status == http.StatusOK, last
	})
}

// await asks until it is so. Waiting too long fails the test with what was seen last.
func await(t *testing.T, what string, ask func() (ok bool, seen string)) {
	t.Helper()
	awaitFor(t, longestWait(), what, ask)
}

// longestWait is how long is waited for what must come.
func longestWait() time.Duration {
	if d, err := time.ParseDuration(os.Getenv(seeded.EnvPatience)); err == nil {
		return d
	}
	return 2 * time.Minute
}

func awaitFor(t *testing.T, limit time.Duration, what string, ask func() (ok bool, seen string)) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(limit); ; <-tick.C {
		ok, seen := ask()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain for %s; seen last: %s", limit, what, seen)
		}
	}
}

// get fetches a page.
func get(ctx context.Context, url string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	var all bytes.Buffer
	_, err = all.ReadFrom(resp.Body)
	return resp.StatusCode, all.Bytes(), err
}

// tail is the end of a file.
func tail(name string) string {
	content, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	if cut := len(content) - 8<<10; cut > 0 {
		content = content[cut:]
	}
	return string(content)
}

// nextPort is the port to try next. Ports are given out once in a process, and lie below those that the system gives to
// outgoing connections by itself: one of these could take a port between its choice and the start of who listens there.
var nextPort = func() *atomic.Int64 {
	var port atomic.Int64
	port.Store(10000 + rand.Int64N(8000))
	return &port
}()

// freeAddresses are n loopback addresses on which nobody listened a moment ago.
func freeAddresses(t *testing.T, n int) []string {
	t.Helper()
	var addresses []string
	for range 2000 {
		if len(addresses) == n {
			return addresses
		}
		address := fmt.Sprintf("127.0.0.1:%d", nextPort.Add(1))
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
		if err != nil {
			continue // somebody's
		}
		_ = listener.Close()
		addresses = append(addresses, address)
	}
	t.Fatalf("no %d free ports", n)
	return nil
}

// write makes a file that only its owner reads, with the folders above it.
func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// seed is what a test draws by: another one each time, or the one that is to be drawn by again.
func seed(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("TENURE_TEST_SEED")
	if text == "" {
		return uint64(time.Now().UnixNano())
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("TENURE_TEST_SEED: %v", err)
	}
	return seed
}

// ran is how a command ended.
type ran struct {
	line   string // as it was called
	code   int
	stdout string
	stderr string
}

// execute runs a program to its end.
func execute(t *testing.T, dir, name string, args ...string) ran {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program(t, name), args...)
	var out, problems bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, environment(), &out, &problems
	err := cmd.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", name, err)
	}
	return ran{name + " " + strings.Join(args, " "), cmd.ProcessState.ExitCode(), out.String(), problems.String()}
}

// want expects that exit code.
func (r ran) want(t *testing.T, code int) ran {
	t.Helper()
	if r.code != code {
		t.Fatalf("%s: exit %d, want %d\n%s%s", r.line, r.code, code, r.stdout, r.stderr)
	}
	return r
}
