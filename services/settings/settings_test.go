package settings_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/services/ingest/roster"
	"github.com/tenurehq/tenure/services/settings"
)

// folder is a configuration file's, with secrets and certificates that are in order.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ingest"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, content := range map[string][]byte{
		"tls/tls.crt": certPEM, "tls/ca.crt": certPEM, "tls/tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		"secrets/acme-hr":      []byte("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n"),
		"secrets/warehouse":    []byte("hunter2\n"),
		"secrets/database-url": []byte("postgres://tenure:hunter2@postgres/tenure\n"),
		"secrets/not-a-secret": []byte("hunter2\n"),
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// app and src are an application and a source to which one more key is added.
const (
	app    = "applications:\n  - {name: wiki, connector: demo, owner: o}\n  - name: code\n    owner: o\n    connector: demo\n    "
	src    = "sources:\n  - {name: a, kind: manual}\n  - name: b\n    "
	bamboo = src + "kind: bamboohr\n    secret_file: secrets/acme-hr\n    api:\n      url: https://acme.bamboohr.com/api/v1\n"
	tls    = "tls: {cert_file: tls/tls.crt, key_file: tls/tls.key, client_ca_file: tls/ca.crt}\n"
	sum    = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
)

func TestRefusalsNameFileLineAndKey(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	for _, c := range []struct{ content, want string }{
		// Of later releases.
		{src + "kind: scim", "4:sources[1].kind: scim: not built yet"},
		{src + "kind: csv\n    roster: {}", "5:sources[1].roster: not built yet"},
		{"applications:\n- {name: a, owner: o, connector: ldap, config: {url: \"ldap://ldap.example\"}}", "2:applications[0].config"},

		// Slips of the pen.
		{"data_dri: d", "1:data_dri: unknown key; there are applications, audit, "},
		{"data_dir: d\nlisten:\n  htpp: 127.0.0.1:1", "3:listen.htpp: unknown key; there are grpc, http, metrics"},
		{"data_dir: d\ndata_dir: e", "2:data_dir: the key stands in line 1 already"},
		{app + "enforce: [full]", "6:applications[1].enforce: want text, not a list"},
		{src + "kind: csv\n    raw_retention: 30d", `5:sources[1].raw_retention: "30d" is no duration`},
		{"brake:\n  per_hour: some", `2:brake.per_hour: "some" is no limit: want a number, a percentage, min(…) or max(…) at character 5`},
		{"brake:\n  per_day: max(5,101%)", `2:brake.per_day: "max(5,101%)" is no limit: want at most 100%`},
		{"brake: {per_app_day: ''}", `1:brake.per_app_day: "" is no limit`},
		{"brake: {privileged_per_day: a few}", `1:brake.privileged_per_day: "a few" is no limit`},
		{"brake:\n  per_week: 5", "2:brake.per_week: unknown key; there are per_app_day, per_day, per_hour, privileged_per_day"},
		{"log_level: loud", `1:log_level: "loud" is none of debug, info, warn, error`},

		// Names.
		{"sources: [{name: Acme, kind: csv}]", `1:sources[0].name: "Acme" is not of the form [a-z0-9-]{1,40}`},
		{"sources:\n- {name: a, kind: csv}\n- {name: a, kind: csv}", "3:sources[1].name: a is there twice"},
		{"applications: [{name: " + strings.Repeat("a", 41) + ", owner: o, connector: demo}]", "1:applications[0].name: "},
		{"applications: [{owner: o, connector: demo}]", `1:applications[0].name: "" is not of the form`},
		{"applications:\n- {name: a, owner: o, connector: demo}\n- {name: a, owner: o, connector: demo}", "3:applications[1].name: a is there twice"},

		// Sources.
		{src + "kind: csw", `4:sources[1].kind: "csw" is none of standard-webhooks, bamboohr, hibob, csv, manual`},
		{src + "kind: manual", "4:sources[1].kind: a is of kind manual already"},
		{src + "kind: standard-webhooks", "3:sources[1].secret_file: needed: deliveries are signed"},
		{src + "kind: standard-webhooks\n    secret_file: secrets/gone", "5:sources[1].secret_file: read secret: open DIR/secrets/gone: no such file"},
		{src + "kind: standard-webhooks\n    secret_file: secrets/not-a-secret", "5:sources[1].secret_file: line 1: a secret begins with whsec_"},
		{src + "kind: csv\n    secret_file: secrets/acme-hr", "5:sources[1].secret_file: kind csv has no signed deliveries"},
		{"sources:\n  - name: b\n    kind: manual\n    secret_file: secrets/acme-hr", "4:sources[0].secret_file: kind manual has no signed deliveries"},
		{"sources:\n  - name: b\n    kind: manual\n    mapping: mapping.yaml", "4:sources[0].mapping: operators' own words need none"},
		{src + "kind: bamboohr", "3:sources[1].secret_file: needed: deliveries are signed"},
		{bamboo, "6:sources[1].api.token_file: needed: what a webhook says is read from the API"},
		{bamboo + "      token_file: secrets/gone", "8:sources[1].api.token_file: read secret: open DIR/secrets/gone: no such file"},
		{bamboo + "      token_file: secrets/acme-hr\n      user: ada", "9:sources[1].api.user: BambooHR takes the API key alone"},
		{bamboo + "      token_file: secrets/acme-hr\n      fields: [division]", "9:sources[1].api.fields: the default mapping reads none of them: set mapping"},
		{bamboo + "      token_file: secrets/acme-hr\n      fields: [\"a,b\"]\n    mapping: m.yaml", `9:sources[1].api.fields[0]: "a,b" is no field's name`},
		{bamboo + "      token_file: secrets/acme-hr\n      timeout: -1s", "9:sources[1].api.timeout: less than nothing"},
		{strings.Replace(bamboo, "https:", "http:", 1) + "      token_file: secrets/acme-hr", "7:sources[1].api.url: must begin with https://, or be on loopback"},
		{strings.Replace(bamboo, "acme-hr", "warehouse", 1) + "      token_file: secrets/acme-hr", "5:sources[1].secret_file: line 1: the key has 7 bytes, it must have 8 to 512"},
		{src + "kind: bamboohr\n    secret_file: secrets/acme-hr\n    api: {token_file: secrets/acme-hr}", "6:sources[1].api.url: needed: https://COMPANY.bamboohr.com/api/v1"},
		{src + "kind: hibob\n    secret_file: secrets/acme-hr\n    api: {token_file: secrets/acme-hr}", "6:sources[1].api.user: needed: the id of the service user"},
		{src + "kind: csv\n    api: {timeout: 1s}", "5:sources[1].api: only sources of kind bamboohr and hibob are read back"},
		{src + "kind: csv\n    time_zone: Berlin", `5:sources[1].time_zone: "Berlin" is no IANA time zone`},
		{src + "kind: csv\n    raw_retention: -1h", "5:sources[1].raw_retention: less than nothing"},
		{src + "kind: csv\n    mapping: gone.yaml", "5:sources[1].mapping: open DIR/gone.yaml: no such file"},

		// Contracts.
		{src + "kind: csv\n    contract: {min_row: 1}", "5:sources[1].contract.min_row: unknown key; there are freshness, key_stability, max_rows, min_rows, null_rate"},
		{src + "kind: csv\n    contract:\n      min_rows: many", "6:sources[1].contract.min_rows: many is neither a whole number up to 10000000 nor a share like 80%"},
		{src + "kind: csv\n    contract:\n      max_rows: 1.5", "6:sources[1].contract.max_rows: 1.5 is neither a whole number"},
		{src + "kind: csv\n    contract:\n      max_rows: 1.234%", "6:sources[1].contract.max_rows: 1.234% is not a share like 80% or 0.5%"},
		{src + "kind: csv\n    contract:\n      key_stability: 80", "6:sources[1].contract.key_stability: 80 is not a share like 80% or 0.5%"},
		{src + "kind: csv\n    contract:\n      key_stability: 101%", "6:sources[1].contract.key_stability: more than all"},
		{src + "kind: csv\n    contract:\n      null_rate:\n        dept: 2%", "7:sources[1].contract.null_rate.dept: no field of a record: there are external_id, status, "},
		{src + "kind: csv\n    contract:\n      null_rate:\n        department: 200%", "7:sources[1].contract.null_rate.department: more than all"},
		{src + "kind: csv\n    contract:\n      freshness: -1h", "6:sources[1].contract.freshness: less than nothing"},
		{src + "kind: csv\n    contract:\n      freshness: 1d", `6:sources[1].contract.freshness: "1d" is no duration`},
		{"sources:\n  - name: b\n    kind: manual\n    contract: {min_rows: 1}", "4:sources[0].contract: operators' own words are no roster"},

		// Applications.
		{app + "enforce: ful", `6:applications[1].enforce: "ful" is none of observe, add, own, full`},
		{app + "adopt: always", `6:applications[1].adopt: "always" is none of never, correlated`},
		{app + "when_rehired: ask", `6:applications[1].when_rehired: "ask" is none of old, new`},
		{app + "adopt: correlated", "3:applications[1].correlate: needed with adopt: correlated"},
		{app + "correlate: mail", "6:applications[1].correlate: mail is no attribute of account"},
		{app + "environment: 7", "6:applications[1].environment: want text, not a number: quote it"},
		{app + "environment: a b", `6:applications[1].environment: "a b" is not of the form [a-z0-9-]{1,40}`},
		{app + "when_unwanted: {disable: later}", `6:applications[1].when_unwanted.disable: "later" is none of now`},
		{app + "when_unwanted: {delete_after: -1h}", "6:applications[1].when_unwanted.delete_after: less than nothing"},
		{app + "look_again: -1h", "6:applications[1].look_again: less than nothing"},
		{app + "limits: {concurrency: -1}", "6:applications[1].limits.concurrency: less than nothing"},
		{app + "limits: {per_minute: -1}", "6:applications[1].limits.per_minute: less than nothing"},
		{app + "limits: {timeout: -1s}", "6:applications[1].limits.timeout: less than nothing"},
		{app + "address: unix:/run/a.sock", "6:applications[1].address: only a remote connector has one"},
		{app + "config: {temper: hot}", `6:applications[1].config.temper: "hot" is none of plain, slow, throttling`},
		{app + "account:\n      login: person.user_name\n      email: person.mail", "8:applications[1].account.email: "},
		{app + "account: {login: \"\"}", `6:applications[1].account.login: an expression is needed`},
		{"applications: [{name: a, connector: demo}]", "1:applications[0].owner: needed: who gets what is stuck"},
		{"applications: [{name: a, owner: o}]", `1:applications[0].connector: "" is none of postgres, ldap, scim, demo, remote`},
		{"applications: [{name: a, owner: o, connector: remote}]", "1:applications[0].address: needed"},
		{"applications: [{name: a, owner: o, connector: remote, address: \"host:1\"}]", "1:applications[0].address: host:1: over TCP a connector needs the certificates of tls"},
		{"applications:\n- name: a\n  owner: o\n  connector: postgres\n  config:\n    url: postgres://h/d\n    password_file: secrets/gone", "7:applications[0].config.password_file: read secret: open DIR/secrets/gone: no such file"},
		{"applications:\n- name: a\n  owner: o\n  connector: scim\n  config: {url: \"http://scim.example/v2\"}", "5:applications[0].config.url: must begin with https://"},
		{"applications:\n- name: a\n  owner: o\n  connector: postgres\n  config: {user: u}", "5:applications[0].config"},

		// Operators.
		{"operators: [{name: ada, role: admin}]", "1:operators[0]: needs token_sha256 or cert"},
		{"operators: [{name: a b, role: admin}]", `1:operators[0].name: "a b" is not of the form`},
		{"operators:\n- {name: ada, role: root, token_sha256: " + sum + "}", `2:operators[0].role: "root" is none of viewer, operator, approver, admin`},
		{"operators:\n- {name: ada, role: admin, token_sha256: abc}", "2:operators[0].token_sha256: not 64 hexadecimal digits"},
		{"operators:\n- {name: ada, role: admin, token_sha256: " + sum + "}\n- {name: ada, role: admin, cert: CN=x}", "3:operators[1].name: ada is there twice"},
		{"operators:\n- {name: ada, role: admin, token_sha256: " + sum + "}\n- {name: bob, role: admin, token_sha256: " + strings.ToUpper(sum) + "}", "3:operators[1].token_sha256: another operator has the same token"},
		{tls + "operators:\n- {name: ada, role: admin, cert: CN=x}\n- {name: bob, role: admin, cert: CN=x}", "4:operators[1].cert: another operator has the same certificate"},
		{tls + "operators:\n- {name: ada, role: admin, cert: ada}", `3:operators[0].cert: "ada" is not a subject like CN=ada`},
		{tls + "operators:\n- {name: ada, role: admin, cert: CN=policy}", "3:operators[0].cert: CN=policy is a service's certificate"},
		{"operators:\n- {name: ada, role: admin, cert: CN=ada}", "2:operators[0].cert: needs tls.client_ca_file"},

		// The network.
		{"listen:\n  http: 0.0.0.0:8080", "2:listen.http: 0.0.0.0:8080 is not loopback: set tls.cert_file and tls.key_file"},
		{"listen:\n  grpc: \":8081\"", "2:listen.grpc: :8081 is not loopback"},
		{"listen:\n  grpc: localhost", `2:listen.grpc: "localhost" is not host:port`},
		{"peers:\n  policy: policy:1", "2:peers.policy: services know each other by certificate"},
		{tls + "peers:\n  policy: policy", `3:peers.policy: "policy" is not host:port`},
		{"tls:\n  cert_file: tls/tls.crt", "1:tls: cert_file and key_file go together"},
		{"tls:\n  cert_file: tls/gone.crt\n  key_file: tls/tls.key", "2:tls.cert_file: "},
		{"tls:\n  client_ca_file: tls/tls.key", "2:tls.client_ca_file: DIR/tls/tls.key holds no certificate"},
		{"nats:\n  listen: 127.0.0.1:4222", "2:nats.listen: its users prove who they are by certificate"},
		{"nats:\n  url: nats://n:4222\n  listen: 127.0.0.1:4222", "3:nats.listen: only the embedded server listens"},
		{"nats: {sync: -1s}", "1:nats.sync: less than nothing"},
		{"nats: {replicas: 7}", "1:nats.replicas: "},
		{"nats: {max_bytes: -1}", "1:nats.max_bytes: less than nothing"},
		{"database:\n  url: mysql://h/d", "2:database.url: not a postgres:// URL"},
		{"database:\n  url: postgres://u:hunter2@h/d", "2:database.url: holds a password: put the URL into a file"},
		{"database:\n  url: postgres://u@h/d\n  url_file: secrets/database-url", "3:database.url_file: database.url says the same"},

		// The rest.
		{"audit:\n  checkpoint_every: 61s", "2:audit.checkpoint_every: 1m1s is not between 1s and 60s"},
		{"audit:\n  max_behind: 1ms", "2:audit.max_behind: 1ms is less than a second"},
		{"audit:\n  origin: a b", "2:audit.origin: must have no space and no plus sign"},
		{"people:\n  user_name: []", "2:people.user_name: at least one candidate is needed"},
		{"people:\n  user_name:\n  - given\n  - given +", "4:people.user_name[1]: "},
	} {
		path := filepath.Join(dir, "tenure.yaml")
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := settings.Command("ingest", []string{"-c", path, "--check"}, nil)
		if err == nil {
			t.Errorf("accepted, want FILE:%s\n%s", c.want, c.content)
			continue
		}
		got := strings.TrimPrefix(err.Error(), path+":")
		if !strings.HasPrefix(got, strings.ReplaceAll(c.want, "DIR", dir)) || strings.Contains(got, "\n") {
			t.Errorf("%s\n got FILE:%s\nwant FILE:%s", c.content, got, c.want)
		}
		if strings.Contains(got, "hunter2") {
			t.Errorf("a secret is shown: %s", got)
		}
		if fault.ExitCode(err) != 1 {
			t.Errorf("%s: exit code %d, want 1", got, fault.ExitCode(err))
		}
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	s, err := settings.Parse("/etc/tenure/tenure.yaml", []byte("sources: [{name: a, kind: csv}]\napplications: [{name: b, owner: o, connector: demo, config: {file: f, key_file: k}}]"))
	if err != nil {
		t.Fatal(err)
	}
	if s.Listen.HTTP != "127.0.0.1:8080" || s.Listen.GRPC != "127.0.0.1:8081" || s.Listen.Metrics != "127.0.0.1:8082" {
		t.Errorf("listen %+v", s.Listen)
	}
	if s.DataDir != "/etc/tenure/data" || s.SQL("ingest").SQLite != "/etc/tenure/data/ingest.db" {
		t.Errorf("data_dir %s, database %s; want them beside the file", s.DataDir, s.SQL("ingest").SQLite)
	}
	if s.Audit.MaxBehind != 5*time.Minute || s.Audit.CheckpointEvery != time.Minute {
		t.Errorf("audit %+v", s.Audit)
	}
	if got := s.Sources[0]; got.RawRetention != 720*time.Hour || got.TimeZone != "UTC" {
		t.Errorf("source %+v", got)
	}
	got := s.Applications[0]
	if got.Enforce != "observe" || got.Adopt != "never" || got.WhenUnwanted.Disable != "now" || got.WhenUnwanted.DeleteAfter != 0 {
		t.Errorf("application %+v: nothing may be taken away unless configured", got)
	}
	if got.Config["key_file"] != "/etc/tenure/k" || got.Config["file"] != "f" {
		t.Errorf("files of a connector: %v, want *_file relative to the configuration file", got.Config)
	}
}

func TestPartsAreTakenAsConfigured(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	path := filepath.Join(dir, "tenure.yaml")
	content := tls + `database: {url_file: secrets/database-url}
nats: {url: "tls://n:4222", replicas: 3}
peers: {ingest: "i:1"}
operators:
- {name: ada, role: admin, token_sha256: ` + sum + `}
- {name: bob, role: viewer, cert: "CN=bob"}
applications:
- {name: data-lake, owner: o, connector: demo, limits: {concurrency: 3, per_minute: 4, timeout: 5s}, look_again: 6h, when_unwanted: {delete_after: 1h}}
`
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := settings.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if sql := s.SQL("provision_data-lake"); sql.Schema != "provision_data_lake" || sql.SQLite != "" || string(sql.Postgres.Reveal()) != "postgres://tenure:hunter2@postgres/tenure" {
		t.Errorf("database %+v", sql)
	}
	if b := s.Bus("policy", nil); b.Service != "policy" || b.URL != "tls://n:4222" || b.Replicas != 3 || b.TLS.CertFile != filepath.Join(dir, "tls/tls.crt") {
		t.Errorf("bus %+v", b)
	}
	if _, embedded := s.Embedded(); embedded {
		t.Error("an embedded server beside nats.url")
	}
	if peer, ok := s.Peer("ingest"); !ok || peer.Address != "i:1" || peer.ServerName != "ingest" || peer.TLS.CAFile != filepath.Join(dir, "tls/ca.crt") {
		t.Errorf("peer %+v", peer)
	}
	if _, ok := s.Peer("audit"); ok {
		t.Error("a peer without an address is elsewhere")
	}
	if o := s.Callers(); len(o) != 2 || o[0].Name != "ada" || o[0].Role != 4 || o[0].TokenSHA256[0] != 0x2c || o[1].Cert != "CN=bob" || o[1].TokenSHA256 != [32]byte{} {
		t.Errorf("operators %+v", o)
	}
	p, err := s.Provision()
	if err != nil {
		t.Fatal(err)
	}
	if l := p.Applications[0].Limits; l.Concurrency != 3 || l.PerMinute != 4 || l.Timeout != 5*time.Second || p.Applications[0].WhenUnwanted.DeleteAfter != time.Hour || p.Applications[0].LookAgain != 6*time.Hour {
		t.Errorf("application %+v", p.Applications[0])
	}
	if _, err := s.Provision("elsewhere"); err == nil {
		t.Error("an application that does not exist was taken")
	}
	if err := s.Errorf("applications[0].account.mail", "no such field"); err.Error() != path+":9:applications[0].account.mail: no such field" {
		t.Errorf("pointing at a key: %v", err)
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	path := filepath.Join(dir, "tenure.yaml")
	if err := os.WriteFile(path, []byte("data_dir: d\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var only string
	s, check, err := settings.Command("provision", []string{"-c", path, "--app", "wiki"}, func(f *flag.FlagSet) { f.StringVar(&only, "app", "", "") })
	if err != nil || check || only != "wiki" || s.File() != path {
		t.Errorf("got %v, %v, %q, %v", s.File(), check, only, err)
	}
	if _, check, err := settings.Command("ingest", []string{"-c", path, "-check"}, nil); err != nil || !check {
		t.Errorf("--check: %v, %v", check, err)
	}
	for _, args := range [][]string{{"-x"}, {"-c", path, "extra"}, {"-c"}, {"-h"}} {
		if _, _, err := settings.Command("ingest", args, nil); fault.ExitCode(err) != 2 {
			t.Errorf("%v: %v, want exit 2", args, err)
		}
	}
	if _, _, err := settings.Command("ingest", []string{"-c", filepath.Join(dir, "gone.yaml")}, nil); !errors.Is(err, os.ErrNotExist) || fault.ExitCode(err) != 1 {
		t.Errorf("a file that is not there: %v", err)
	}
}

// A process that starts takes its part only; what is wrong with it must be named as --check names it.
func TestWhoTakesAPartIsToldWhichKeyIsWrong(t *testing.T) {
	t.Parallel()
	const file = "people:\n  user_name: [nobody]\napplications:\n- name: wiki\n  owner: o\n  connector: demo\n  config: {temper: hot}\n  account: {login: person.mail}\n"
	s, err := settings.Parse("t.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	_, ingest := s.Ingest()
	_, policy := s.Policy()
	_, connector := s.Connector(0)
	for want, err := range map[string]error{
		"t.yaml:2:people.user_name[0]: ":           ingest,
		"t.yaml:8:applications[0].account.login: ": policy,
		"t.yaml:7:applications[0].config.temper: ": connector,
	} {
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s…", err, want)
		}
	}
}

func TestWhatAContractLeavesOutIsAsWithoutOne(t *testing.T) {
	t.Parallel()
	ingest := func(contract string) *roster.Contract {
		t.Helper()
		s, err := settings.Parse("tenure.yaml", []byte("sources:\n  - name: a\n    kind: csv\n"+contract))
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := s.Ingest()
		if err != nil {
			t.Fatal(err)
		}
		return cfg.Sources[0].Contract
	}
	if got := ingest(""); got != nil {
		t.Errorf("a source without a contract has %+v", got)
	}
	const percent = roster.Percent
	whole := roster.Contract{
		MinRows: roster.Bound{Rows: 500}, MaxRows: roster.Bound{Share: 120 * percent}, KeyStability: 95*percent + 50,
		NullRate: map[string]roster.Share{"department": 2 * percent, "attributes.cost_center": 0}, Freshness: 26 * time.Hour,
	}
	for contract, want := range map[string]roster.Contract{
		"    contract: {freshness: 26h}":                 {MinRows: roster.Bound{Share: 80 * percent}, KeyStability: 80 * percent, Freshness: 26 * time.Hour},
		"    contract: {min_rows: 0, key_stability: 0%}": {},
		`    contract: {min_rows: 500, max_rows: 120%, key_stability: 95.5%, null_rate: {department: 2%, attributes.cost_center: 0%}, freshness: 26h}`: whole,
	} {
		if diff := cmp.Diff(want, *ingest(contract)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", contract, diff)
		}
	}
}
