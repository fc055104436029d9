package settings_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/services/policy/model"
	"github.com/tenurehq/tenure/services/settings"
)

// deploy is where the example configurations are.
const deploy = "../../deploy"

// installation is a copy of deploy with the certificates and secrets that each installation makes for itself.
func installation(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("openssl is needed for certificates: scripts/servers.sh installs it")
		}
		t.Skip("openssl is not installed")
	}
	dir := filepath.Join(t.TempDir(), "deploy")
	copyTree(t, filepath.Join(deploy, "config"), filepath.Join(dir, "config"))
	certs := exec.CommandContext(t.Context(), "../../scripts/certs.sh", filepath.Join(dir, "certs"))
	if out, err := certs.CombinedOutput(); err != nil {
		t.Fatalf("make certificates: %v\n%s", err, out)
	}
	for file, secret := range map[string]string{
		"secrets/acme-hr":          "whsec_c2VjcmV0LW9mLXRoZS1leGFtcGxlLWZvci10ZXN0cy0zMg==",
		"config/secrets/acme-hr":   "whsec_c2VjcmV0LW9mLXRoZS1leGFtcGxlLWZvci10ZXN0cy0zMg==",
		"config/secrets/reports":   "for tests",
		"config/secrets/directory": "for tests",
		"config/secrets/suite":     "for-tests",
		"config/secrets/bamboohr":  "for tests", "config/secrets/bamboohr-api": "for tests",
		"config/secrets/hibob": "for tests", "config/secrets/hibob-api": "for tests",
	} {
		name := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// copyTree copies what is committed: not what an installation in this very tree has made.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if inside == "secrets" || inside == "data" {
				return fs.SkipDir
			}
			return os.MkdirAll(filepath.Join(to, inside), 0o755)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, inside), content, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEveryExampleConfigurationLoads(t *testing.T) {
	t.Parallel()
	dir := installation(t)
	files := []string{filepath.Join(dir, "config", "tenure.yaml")}
	cluster, err := filepath.Glob(filepath.Join(dir, "config", "cluster", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(cluster) != 5 {
		t.Errorf("config/cluster has %d files, and there are five processes", len(cluster))
	}
	for _, file := range append(files, cluster...) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			s, err := settings.Load(file)
			if err != nil {
				t.Fatalf("the example is refused: %v", err)
			}
			if err := s.Check(); err != nil {
				t.Errorf("the example does not pass --check: %v", err)
			}
			if cfg, err := s.Provision(); err != nil || cfg.Validate() != nil {
				t.Errorf("the workers refuse the example: %v, %v", err, cfg.Validate())
			}
		})
	}
}

// What stands in a comment as an example of an application must be one when it is taken out of the comment.
func TestTheExamplesInCommentsLoadToo(t *testing.T) {
	t.Parallel()
	file := filepath.Join(installation(t), "config", "tenure.yaml")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	examples := 0
	for line := range strings.Lines(string(content)) {
		switch {
		case strings.HasPrefix(line, "  # - name: "), strings.HasPrefix(line, "  # - {name: ") && strings.Contains(line, "connector: "):
			examples++
			line = "  " + line[len("  # "):]
		case strings.HasPrefix(line, "  #   "):
			line = "  " + line[len("  # "):]
		case strings.Contains(line, "# mapping: "):
			line = strings.Replace(line, "# mapping: ", "mapping: ", 1)
		}
		text.WriteString(line)
	}
	if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := settings.Load(file)
	if err != nil {
		t.Fatalf("an example in a comment is refused: %v", err)
	}
	if err := s.Check(); err != nil {
		t.Errorf("an example in a comment does not pass --check: %v", err)
	}
	if examples == 0 || s.Sources[0].Mapping == "" {
		t.Errorf("%d applications and the mapping %q were in comments", examples, s.Sources[0].Mapping)
	}
}

func TestProcessesOfOneClusterAgree(t *testing.T) {
	t.Parallel()
	dir := installation(t)
	load := func(name string) *settings.Settings {
		s, err := settings.Load(filepath.Join(dir, "config", "cluster", name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	policy := load("policy")
	for _, name := range []string{"provision", "audit"} {
		if diff := cmp.Diff(policy.Applications, load(name).Applications); diff != "" {
			t.Errorf("policy and %s must know the same applications (-policy +%s):\n%s", name, name, diff)
		}
	}
	for _, name := range []string{"ingest", "provision", "audit"} {
		if diff := cmp.Diff(policy.NATS, load(name).NATS); diff != "" {
			t.Errorf("whoever comes first makes the stream, so policy and %s must want the same one:\n%s", name, diff)
		}
	}
}

func TestTheExampleModelFitsTheExampleApplications(t *testing.T) {
	t.Parallel()
	roles, err := os.ReadFile(filepath.Join(deploy, "config", "model", "roles.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	dir := installation(t)
	for _, file := range []string{"tenure.yaml", "cluster/policy.yaml"} {
		s, err := settings.Load(filepath.Join(dir, "config", file))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, app := range s.Applications {
			names = append(names, app.Name)
		}
		if _, err := model.Load([]model.File{{Name: "roles.yaml", Content: roles}}, names); err != nil {
			t.Errorf("the example model does not fit the applications of %s: %v", file, err)
		}
	}
}

func TestTheExampleShowsEveryKey(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(deploy, "config", "tenure.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys(reflect.TypeFor[settings.Settings]()) {
		if !strings.Contains(string(text), key+":") {
			t.Errorf("deploy/config/tenure.yaml does not tell of the key %s", key)
		}
	}
}

// keys are the names of all keys of a configuration type, except those of later releases.
func keys(of reflect.Type) []string {
	if of.Kind() == reflect.Slice {
		of = of.Elem()
	}
	if of.Kind() != reflect.Struct || of.PkgPath() == reflect.TypeFor[config.Section]().PkgPath() {
		return nil
	}
	var all []string
	for i := range of.NumField() {
		field := of.Field(i)
		if key := field.Tag.Get("yaml"); key != "" && field.Type != reflect.TypeFor[config.Section]() {
			all = append(append(all, key), keys(field.Type)...)
		}
	}
	return all
}
