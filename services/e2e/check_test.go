package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// oneLine is how a refused configuration is told.
var oneLine = regexp.MustCompile(`^error: (\S+\.yaml):(\d+):([a-z_0-9.\[\]]+): .+\n$`)

func TestEveryProcessRefusesABrokenConfigurationInOneLine(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]struct{ from, to, key string }{
		"unknown key":      {"data_dir: data", "data_dri: data", "data_dri"},
		"impossible value": {"log_level: info", "log_level: loud", "log_level"},
		"no such file":     {"secret_file: hr.secret", "secret_file: gone", "sources[0].secret_file"},
		"later kind":       {"kind: csv", "kind: scim", "sources[1].kind"},
		"impossible limit": {"data_dir: data", "data_dir: data\nbrake: {per_hour: ten}", "brake.per_hour"},
		"later connector":  {"connector: demo", "connector: kerberos", "applications[0].connector"},
		"bad expression":   {"login: person.user_name", "login: person.nickname", "applications[0].account.login"},
		"wrong type":       {"checkpoint_every: 60s", "checkpoint_every: often", "audit.checkpoint_every"},
		"connector's own":  {"temper: plain", "temper: bad", "applications[0].config.temper"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, filepath.Join(dir, "hr.secret"), "whsec_"+token()+"\n")
			at := freeAddresses(t, 3) // what is found wrong late is found after listening
			good := fmt.Sprintf("listen: {http: %q, grpc: %q, metrics: %q}\n", at[0], at[1], at[2]) + `data_dir: data
log_level: info
audit: {checkpoint_every: 60s}
sources:
  - {name: hr, kind: standard-webhooks, secret_file: hr.secret}
  - {name: files, kind: csv}
applications:
  - name: wiki
    connector: demo
    owner: team-wiki
    config: {temper: plain, entitlements: ["group:staff"]}
    account: {login: person.user_name}
`
			write(t, filepath.Join(dir, "tenure.yaml"), good)
			broken := strings.Replace(good, change.from, change.to, 1)
			if broken == good {
				t.Fatalf("there is no %q", change.from)
			}
			write(t, filepath.Join(dir, "broken.yaml"), broken)
			for _, program := range programs {
				args := []string{"--check", "-c"}
				if program == "tenure" {
					args = append([]string{"serve"}, args...)
				}
				if r := execute(t, dir, program, append(args, "tenure.yaml")...).want(t, 0); r.stdout+r.stderr != "" {
					t.Errorf("%s has something to say about what is right: %s%s", program, r.stdout, r.stderr)
				}
				r := execute(t, dir, program, append(args, "broken.yaml")...).want(t, 1)
				if told := oneLine.FindStringSubmatch(r.stderr); told == nil || told[3] != change.key || r.stdout != "" {
					t.Errorf("%s: %q, want one line that names %s", r.line, r.stdout+r.stderr, change.key)
				}
				// Without --check, too: it must not start.
				if r := execute(t, dir, program, append(args[:len(args)-2], "-c", "broken.yaml")...); r.code != 1 || !oneLine.MatchString(r.stderr) {
					t.Errorf("%s: exit %d, %q", r.line, r.code, r.stderr)
				}
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) > 4 {
				t.Errorf("checking left something: %v %v", entries, err)
			}
		})
	}
}

// programs are all that a configuration is for.
var programs = []string{"hr-ingest", "policy", "connector-worker", "audit-sink", "console", "tenure"}

func TestEveryProcessTellsWhatItIsUsedWrongly(t *testing.T) {
	t.Parallel()
	for _, program := range programs {
		r := execute(t, t.TempDir(), program, "--no-such-flag").want(t, 2)
		if !strings.Contains(r.stderr, "no-such-flag") {
			t.Errorf("%s: %q", r.line, r.stderr)
		}
	}
	execute(t, t.TempDir(), "hr-ingest", "serve").want(t, 2)
	execute(t, t.TempDir(), "tenure", "nonsense").want(t, 2)
	execute(t, t.TempDir(), "tenure", "serve", "-c", "there-is-none.yaml").want(t, 1)
}
