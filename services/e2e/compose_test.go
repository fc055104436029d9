package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/tenurehq/tenure/services/settings"
)

// root is the repository.
const root = "../.."

// composition is docker-compose.yml, as far as it is looked at here.
type composition struct {
	Services map[string]composed `yaml:"services"`
	Volumes  map[string]any      `yaml:"volumes"`
}

type composed struct {
	User    string   `yaml:"user"`
	Command []string `yaml:"command"`
	Build   struct {
		Context    string            `yaml:"context"`
		Dockerfile string            `yaml:"dockerfile"`
		Args       map[string]string `yaml:"args"`
	} `yaml:"build"`
	Volumes     []string `yaml:"volumes"`
	Healthcheck struct {
		Test []string `yaml:"test"`
	} `yaml:"healthcheck"`
	DependsOn map[string]any `yaml:"depends_on"`
	ReadOnly  bool           `yaml:"read_only"`
}

// processes are the services of the composition that are Tenure's, and the program of each.
var processes = map[string]string{
	"ingest": "hr-ingest", "policy": "policy", "provision": "connector-worker", "audit": "audit-sink", "console": "console",
}

func readComposition(t *testing.T) composition {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docker-compose.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var c composition
	if err := yaml.Unmarshal(text, &c); err != nil {
		t.Fatalf("docker-compose.yml: %v", err)
	}
	return c
}

// mounts are the files of the repository that a service sees, by their place in the container. Named volumes are left
// out.
func (c composed) mounts(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, volume := range c.Volumes {
		parts := strings.Split(volume, ":")
		if !strings.HasPrefix(parts[0], "./") {
			continue
		}
		if len(parts) != 3 || parts[2] != "ro" {
			t.Errorf("%s can be written from the container", volume)
		}
		files[parts[1]] = filepath.Join(root, parts[0])
	}
	return files
}

func TestComposeRunsEveryProcessFromItsOwnImage(t *testing.T) {
	t.Parallel()
	c := readComposition(t)
	for name, program := range processes {
		service, ok := c.Services[name]
		if !ok {
			t.Errorf("docker-compose.yml lacks %s", name)
			continue
		}
		if len(service.Command) == 0 || service.Command[0] != program {
			t.Errorf("%s runs %q, not %s", name, service.Command, program)
		}
		if _, err := os.Stat(filepath.Join(root, "services", "cmd", program, "main.go")); err != nil {
			t.Errorf("%s: there is no such program: %v", name, err)
		}
		if service.Build.Args["BINARY"] != program {
			t.Errorf("the image of %s holds %q, and it runs %s", name, service.Build.Args["BINARY"], program)
		}
		if _, err := os.Stat(filepath.Join(root, service.Build.Context, service.Build.Dockerfile)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if test := service.Healthcheck.Test; len(test) == 0 || !strings.HasSuffix(test[len(test)-1], "/readyz") {
			t.Errorf("%s is not asked whether it is ready: %q", name, test)
		}
		if service.User == "" || !service.ReadOnly {
			t.Errorf("%s runs as root or may write into its image", name)
		}
	}
	for name, service := range c.Services {
		for other := range service.DependsOn {
			if _, ok := c.Services[other]; !ok {
				t.Errorf("%s waits for %s, which is not there", name, other)
			}
		}
		for _, volume := range service.Volumes {
			source, _, _ := strings.Cut(volume, ":")
			if _, ok := c.Volumes[source]; !ok && !strings.HasPrefix(source, "./") {
				t.Errorf("%s: the volume %s is not declared", name, source)
			}
		}
	}
}

func TestComposeGivesEachServiceTheConfigurationItNeedsAndNobodyElsesKey(t *testing.T) {
	t.Parallel()
	made := installation(t)
	c := readComposition(t)
	for name, service := range c.Services {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			container := mount(t, service, made)
			for inside := range service.mounts(t) {
				if base := filepath.Base(inside); filepath.Ext(base) == ".key" && base != name+".key" {
					t.Errorf("it sees the key %s", base)
				}
			}
			program, ours := processes[name]
			if !ours {
				return
			}
			i := slices.Index(service.Command, "-c")
			if i < 0 || i+1 >= len(service.Command) {
				t.Fatalf("%s names no configuration: %q", program, service.Command)
			}
			s, err := settings.Load(filepath.Join(container, service.Command[i+1]))
			if err != nil {
				t.Fatalf("in its container %s does not start: %v", program, err)
			}
			if err := s.Check(); err != nil {
				t.Errorf("in its container %s --check fails: %v", program, err)
			}
			if cert := filepath.Base(string(s.TLS.CertFile)); cert != name+".crt" {
				t.Errorf("%s says by %s that it is somebody else", name, cert)
			}
			for _, path := range strings.FieldsFunc(s.Database.URL, func(r rune) bool { return r == '=' || r == '&' }) {
				if strings.HasPrefix(path, "/etc/") {
					if _, err := os.Stat(filepath.Join(container, path)); err != nil {
						t.Errorf("database.url names a file that is not mounted: %v", err)
					}
				}
			}
		})
	}
}

// installation is the part of deploy that each installation makes for itself, made by the commands that
// docker-compose.yml tells.
func installation(t *testing.T, hosts ...string) string {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("openssl is needed for certificates: scripts/servers.sh installs it")
		}
		t.Skip("openssl is not installed")
	}
	dir := t.TempDir()
	script, err := filepath.Abs(filepath.Join(root, "scripts", "certs.sh"))
	if err != nil {
		t.Fatal(err)
	}
	commands := "mkdir -p deploy/secrets\n" + `"$0" deploy/certs "$@" >/dev/null` + "\n" +
		`(umask 077; echo "whsec_$(openssl rand -base64 32)" >deploy/secrets/acme-hr)`
	shell := exec.CommandContext(t.Context(), "bash", append([]string{"-euc", commands, script}, hosts...)...)
	shell.Dir = dir
	if out, err := shell.CombinedOutput(); err != nil {
		t.Fatalf("make certificates and secrets: %v\n%s", err, out)
	}
	return dir
}

// mount lays out the files that a service sees, each at its place below the returned folder.
func mount(t *testing.T, service composed, made string) string {
	t.Helper()
	container := t.TempDir()
	for inside, outside := range service.mounts(t) {
		// Certificates and secrets are not committed, and not those of an installation in this very tree.
		for _, own := range []string{"deploy/certs", "deploy/secrets"} {
			if strings.HasPrefix(outside, filepath.Join(root, own)) {
				outside = filepath.Join(made, strings.TrimPrefix(outside, root))
			}
		}
		content, err := os.ReadFile(outside)
		if err != nil {
			t.Fatalf("%s is mounted and is not there: %v", inside, err)
		}
		place := filepath.Join(container, inside)
		if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(place, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return container
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

func TestTheDockerfileCopiesWhatThereIs(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "deploy", "docker", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	downloaded, described := false, map[string]bool{}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == "RUN" && strings.Contains(line, "go mod download"):
			downloaded = true
		case words[0] == "COPY" && !strings.HasPrefix(words[1], "--from"):
			for _, source := range words[1 : len(words)-1] {
				if !exists(filepath.Join(root, source)) {
					t.Errorf("COPY %s: there is no such file", source)
				}
				described[source] = !downloaded
			}
		}
	}
	work, err := os.ReadFile(filepath.Join(root, "go.work"))
	if err != nil {
		t.Fatal(err)
	}
	for word := range strings.FieldsSeq(string(work)) {
		if module, ok := strings.CutPrefix(word, "./"); ok && !described[module+"/go.mod"] {
			t.Errorf("%s/go.mod must be copied before go mod download", module)
		}
	}
}
