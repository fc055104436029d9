package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// dev is a running tenure dev.
type dev struct {
	*process
	dir  string // where it runs
	port int    // the first of its six
}

// startDev starts tenure dev and waits until it has said where everything is.
func startDev(t *testing.T, dir string, port int, args ...string) *dev {
	t.Helper()
	d := &dev{launch(t, dir, "tenure", append([]string{"dev"}, args...)...), dir, port}
	await(t, "tenure dev to say where everything is", func() (bool, string) {
		if !d.running() {
			t.Fatalf("tenure dev ended: %v\n%s", d.err, tail(d.stderr))
		}
		said := d.said(t)
		return strings.Contains(said, "audit verify\n") || strings.Contains(said, "model apply DIR\n"), said
	})
	return d
}

func (d *dev) said(t *testing.T) string {
	t.Helper()
	return read(t, d.stdout)
}

// command runs a line as somebody types it into a shell, in the folder where dev was started.
func (d *dev) command(t *testing.T, line string) string {
	t.Helper()
	shell := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", line) // from our own README
	shell.Dir = d.dir
	// What a README cannot know: that the usual ports are taken.
	shell.Env = append(environment(), fmt.Sprintf("TENURE_SERVER=127.0.0.1:%d", d.port+1), fmt.Sprintf("TENURE_WEBHOOKS=http://127.0.0.1:%d", d.port))
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%s\n%v\n%s", line, err, out)
	}
	return string(out)
}

func (d *dev) wiki() wiki { return wiki{fmt.Sprintf("127.0.0.1:%d", d.port+3)} }

// clone is a folder with bin/ in it, as make leaves a clone.
func clone(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Symlink(filepath.Dir(program(t, "tenure")), filepath.Join(dir, "bin")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// sixPorts finds six free ones in a row.
func sixPorts(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 20000 + rand.IntN(10000)
		free := 0
		for n := range 6 {
			listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port+n))
			if err != nil {
				break
			}
			_ = listener.Close()
			free++
		}
		if free == 6 {
			return port
		}
	}
	t.Fatal("no six free ports in a row")
	return 0
}

// has waits until a person has exactly these entitlements in the wiki, by its own listing.
func (d *dev) has(t *testing.T, login, entitlements string) {
	t.Helper()
	await(t, login+" to have "+entitlements+" in the wiki", func() (bool, string) {
		for _, account := range d.wiki().accounts(t) {
			if account.Login == login {
				has := account.Status + " " + strings.Join(account.Entitlements, " ")
				return has == "enabled "+entitlements, has
			}
		}
		return false, "no account"
	})
}

func TestTheFirstFiveMinutesOfTheREADMEWorkAsPrinted(t *testing.T) {
	t.Parallel()
	_, section, found := strings.Cut(read(t, filepath.Join(root, "README.md")), "\n## The first five minutes\n")
	if !found {
		t.Fatal("the README has no first five minutes")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var blocks []string
	for rest := section; ; {
		_, block, more := strings.Cut(rest, "```sh\n")
		if !more {
			break
		}
		block, rest, _ = strings.Cut(block, "```\n")
		blocks = append(blocks, block)
	}
	if len(blocks) < 4 || !strings.HasSuffix(blocks[0], "make run\n") {
		t.Fatalf("it begins with\n%s", blocks)
	}
	port := sixPorts(t)
	d := startDev(t, clone(t), port, "--port", fmt.Sprint(port))
	said := map[string]string{}
	for _, block := range blocks[1:] {
		said[block] = d.command(t, block)
		if strings.Contains(block, "people set 10001 department=d004") {
			d.has(t, "mokafor", "group:dept-d004 group:staff")
		}
		if strings.Contains(block, "send acme-hr") {
			d.has(t, "alee", "group:dept-d005 group:staff")
		}
	}
	all := strings.Join(mapValues(said), "\n")
	for _, words := range []string{"mokafor", `person.department == "d005"`, "all read back", "verified: ", "none missing"} {
		if !strings.Contains(all, words) {
			t.Errorf("nothing says %q:\n%s", words, all)
		}
	}
	d.stop(t)
}

func mapValues(m map[string]string) (all []string) {
	for _, value := range m {
		all = append(all, value)
	}
	return all
}

func TestDevStoppedAndStartedAgainHasEverythingStill(t *testing.T) {
	t.Parallel()
	port := sixPorts(t)
	dir := clone(t)
	d := startDev(t, dir, port, "--port", fmt.Sprint(port), "--data-dir", "mine")
	_, try, found := strings.Cut(d.said(t), "Try, in another terminal:\n")
	if !found || strings.Count(try, "bin/tenure ") < 5 {
		t.Fatalf("it suggests nothing to try:\n%s", d.said(t))
	}
	for line := range strings.Lines(try) {
		if strings.TrimSpace(line) != "" {
			d.command(t, line)
		}
	}
	d.has(t, "mokafor", "group:dept-d004 group:staff")
	state := func() map[string]string {
		t.Helper()
		all := map[string]string{"wiki": string(d.wiki().fetch(t, "/accounts"))}
		for _, line := range []string{"people list", "people timeline 10001", "model show", "deliveries list", "access who --app code"} {
			all[line] = d.command(t, "bin/tenure --data-dir mine "+line)
		}
		return all
	}
	before := state()
	d.stop(t)
	d = startDev(t, dir, port, "--data-dir", "mine") // the port was of the first start
	if diff := cmp.Diff(before, state()); diff != "" {
		t.Errorf("after a stop and a start (-before +after):\n%s", diff)
	}
	if verified := d.command(t, "bin/tenure --data-dir mine audit verify"); !strings.Contains(verified, "none missing") {
		t.Errorf("the record: %s", verified)
	}
	d.command(t, "bin/tenure --data-dir mine people set 10001 department=d007")
	d.has(t, "mokafor", "group:dept-d007 group:staff")
	d.stop(t)
}

func TestDevEmptyStartsWithNothing(t *testing.T) {
	t.Parallel()
	port := sixPorts(t)
	d := startDev(t, clone(t), port, "--empty", "--port", fmt.Sprint(port))
	for line, want := range map[string]string{"people list -o json": `{"people":[]}`, "apps list -o json": `{"applications":[]}`} {
		if got := strings.TrimSpace(d.command(t, "bin/tenure "+line)); got != want {
			t.Errorf("%s: %s", line, got)
		}
	}
	d.stop(t)
}
