package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/rpc"
)

// cluster is Tenure as docker-compose.yml has it: five processes with their example configurations, over NATS and
// PostgreSQL with theirs; only addresses and places differ.
type cluster struct {
	dir     string
	certs   string
	secret  string              // of the source acme-hr
	at      map[string][]string // addresses of each service: http, grpc, metrics
	apps    map[string]wiki     // the demo applications
	running map[string]*process // by service
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	made := filepath.Join(installation(t), "deploy")
	certs := filepath.Join(made, "certs")
	return newClusterOn(t, made, natsServer(t, certs), postgresServer(t, certs))
}

// newClusterOn is newCluster with the secrets that were made, and NATS and PostgreSQL elsewhere.
func newClusterOn(t *testing.T, made, nats, postgres string) *cluster {
	t.Helper()
	c := &cluster{
		dir: t.TempDir(), certs: filepath.Join(made, "certs"), secret: read(t, filepath.Join(made, "secrets", "acme-hr")),
		at: map[string][]string{}, apps: map[string]wiki{}, running: map[string]*process{},
	}
	for service := range processes {
		c.at[service] = freeAddresses(t, 3)
	}
	for _, app := range []string{"wiki", "code", "warehouse"} {
		c.apps[app] = wiki{freeAddresses(t, 1)[0]}
	}
	changes := []string{
		"tls://nats:4222", nats,
		"@postgres:5432", "@" + postgres,
		"/etc/tenure/certs", c.certs, "../../certs", c.certs, "../../secrets", filepath.Join(made, "secrets"), "/var/lib/tenure", "data",
	}
	for service, at := range c.at {
		changes = append(changes, " "+service+":8081", " "+at[1])
	}
	for service := range processes {
		text := strings.NewReplacer(append(changes,
			"0.0.0.0:8080", c.at[service][0], "0.0.0.0:8081", c.at[service][1], "0.0.0.0:8082", c.at[service][2],
		)...).Replace(read(t, filepath.Join(root, "deploy", "config", "cluster", service+".yaml")))
		for app, listing := range c.apps { // so that a test can look into them
			before, after, found := strings.Cut(text, "- name: "+app+"\n")
			if !found {
				continue
			}
			listen := "listen: \"" + listing.address + "\""
			header, config, _ := strings.Cut(after, "    config:")
			if inBraces, ok := strings.CutPrefix(config, " {"); ok {
				config = " {" + listen + ", " + inBraces
			} else {
				config = "\n      " + listen + config
			}
			text = before + "- name: " + app + "\n" + header + "    config:" + config
		}
		if service == "console" {
			secret := token()
			write(t, filepath.Join(c.dir, "bob.token"), secret)
			sum := sha256.Sum256([]byte(secret))
			text += "  - {name: bob, role: approver, token_sha256: " + hex.EncodeToString(sum[:]) + "}\n"
		}
		write(t, filepath.Join(c.dir, service, "tenure.yaml"), text)
	}
	return c
}

func (c *cluster) launch(t *testing.T, service string) {
	t.Helper()
	c.running[service] = launch(t, filepath.Join(c.dir, service), processes[service], "-c", "tenure.yaml")
}

// ada runs the command line with a certificate, bob with a token.
func (c *cluster) ada(t *testing.T, args ...string) ran {
	t.Helper()
	return c.by(t, "ada", args...)
}

func (c *cluster) by(t *testing.T, certificate string, args ...string) ran {
	t.Helper()
	base := filepath.Join(c.certs, certificate)
	return c.cli(t, append([]string{"--cert-file", base + ".crt", "--key-file", base + ".key"}, args...)...)
}

func (c *cluster) bob(t *testing.T, args ...string) ran {
	t.Helper()
	return c.cli(t, append([]string{"--token-file", "bob.token"}, args...)...)
}

func (c *cluster) cli(t *testing.T, args ...string) ran {
	t.Helper()
	return execute(t, c.dir, "tenure", append([]string{"--server", c.at["console"][1], "--ca-file", filepath.Join(c.certs, "ca.crt")}, args...)...)
}

func (c *cluster) settle(t *testing.T) {
	t.Helper()
	c.door(t).settle(t)
}

// door is the console, to an operator with a certificate.
func (c *cluster) door(t *testing.T) operators {
	t.Helper()
	all := make([]*process, 0, len(c.running))
	for _, p := range c.running {
		all = append(all, p)
	}
	base := filepath.Join(c.certs, "ada")
	return dial(t, rpc.PeerConfig{
		Address: c.at["console"][1], TLS: rpc.TLS{CertFile: base + ".crt", KeyFile: base + ".key", CAFile: filepath.Join(c.certs, "ca.crt")},
	}, all...)
}

// hr is the HR system behind the source acme-hr.
func (c *cluster) hr(t *testing.T) *hr {
	t.Helper()
	trusted, err := (rpc.TLS{CAFile: filepath.Join(c.certs, "ca.crt")}).Client("ingest")
	if err != nil {
		t.Fatal(err)
	}
	return newHR(t, "https://"+c.at["ingest"][0]+"/v1/webhooks/acme-hr", c.secret, &http.Transport{TLSClientConfig: trusted})
}

// replaceApplications gives every service these applications in place of the example's.
func (c *cluster) replaceApplications(t *testing.T, applications string) {
	t.Helper()
	for service := range processes {
		file := filepath.Join(c.dir, service, "tenure.yaml")
		if before, _, found := strings.Cut(read(t, file), "\napplications:"); found { // the last key
			write(t, file, before+"\napplications:\n"+applications)
		}
	}
}

// openBrake lets everybody lose access at once.
func (c *cluster) openBrake(t *testing.T) {
	t.Helper()
	file := filepath.Join(c.dir, "policy", "tenure.yaml")
	text := read(t, file)
	for _, limit := range []string{"max(5,min(50,5%))", "10%", "20%"} {
		text = strings.Replace(text, ": "+limit+"\n", ": 100%\n", 1)
	}
	write(t, file, text)
}

// has is what a person has in the applications, by their own word: "wiki group:staff, …".
func (c *cluster) has(t *testing.T, email string) map[string]string {
	t.Helper()
	has := map[string]string{}
	for name, app := range c.apps {
		account := app.account(t, email)
		if account.Login != "" {
			has[name] = strings.TrimSpace(account.Status + " " + strings.Join(account.Entitlements, " "))
		}
	}
	return has
}

func TestFiveProcessesOverNATSAndPostgreSQLGiveMoveAndTakeAccess(t *testing.T) {
	if testing.Short() {
		t.Skip("five processes and two servers")
	}
	t.Parallel()
	c := newCluster(t)
	for service := range processes {
		c.launch(t, service)
	}
	for service, p := range c.running {
		p.awaitReady(t, c.at[service][2])
	}
	model, err := filepath.Abs(filepath.Join(root, "deploy", "config", "model"))
	if err != nil {
		t.Fatal(err)
	}
	c.ada(t, "model", "apply", model, "--yes").want(t, 0)

	hr := c.hr(t)
	person := record{
		ExternalID: "10001", Status: "active", GivenName: "Georgi", FamilyName: "Facello", Department: "d005", Title: "Engineer",
		Attributes: map[string]string{}, StartDate: "2020-01-01",
	}
	// The warehouse's accounts have no e-mail, so the wiki's login is what finds them.
	person.Email = "georgi.facello@acme.example"
	expect := func(want map[string]string) {
		t.Helper()
		c.settle(t)
		got := c.has(t, person.Email)
		for _, account := range c.apps["warehouse"].accounts(t) {
			if account.Login != "gfacello" {
				t.Errorf("the warehouse has the account %s", account.Login)
			}
			got["warehouse"] = strings.TrimSpace(account.Status + " " + strings.Join(account.Entitlements, " "))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s %s %s has (-model +has):\n%s", person.Status, person.Department, person.Title, diff)
		}
	}

	hr.tell(t, "joins", person)
	expect(map[string]string{"wiki": "enabled group:dept-d005 group:staff", "code": "enabled group:developers", "warehouse": "enabled role:readonly"})

	person.Department, person.Title = "d007", "Manager"
	hr.tell(t, "moves", person)
	expect(map[string]string{"wiki": "enabled group:dept-d007 group:staff", "code": "disabled", "warehouse": "enabled role:reporting"})

	// Whoever decides is away while somebody orders that the person has nothing.
	c.running["policy"].stop(t)
	c.ada(t, "people", "cut", "10001", "--reason", "seen at the gate").want(t, 0)
	await(t, "the cut to be carried out without policy", func() (bool, string) {
		got := c.has(t, person.Email)
		for _, account := range c.apps["warehouse"].accounts(t) {
			got["warehouse"] = strings.TrimSpace(account.Status + " " + strings.Join(account.Entitlements, " "))
		}
		return maps.Equal(got, map[string]string{"wiki": "disabled", "code": "disabled", "warehouse": "disabled"}), fmt.Sprint(got)
	})
	c.launch(t, "policy")
	c.running["policy"].awaitReady(t, c.at["policy"][2])
	c.bob(t, "people", "lift", "10001", "--reason", "it was somebody else").want(t, 0)
	expect(map[string]string{"wiki": "enabled group:dept-d007 group:staff", "code": "disabled", "warehouse": "enabled role:reporting"})

	// And away while HR says that the person leaves.
	c.running["policy"].stop(t)
	person.Status = "terminated"
	hr.tell(t, "leaves", person)
	c.launch(t, "policy")
	c.running["policy"].awaitReady(t, c.at["policy"][2])
	expect(map[string]string{"wiki": "disabled", "code": "disabled", "warehouse": "disabled"})

	c.doors(t, model)
	for service, p := range c.running {
		p.stop(t)
		if log := tail(p.stderr); strings.Contains(log, `"level":"error"`) {
			t.Errorf("%s logged errors:\n%s", service, log)
		}
	}
}

// doors tries who is let in by the front door, and to what.
func (c *cluster) doors(t *testing.T, model string) {
	t.Helper()
	for _, r := range []ran{c.ada(t, "people", "list"), c.bob(t, "people", "list")} {
		if !strings.Contains(r.want(t, 0).stdout, "gfacello") {
			t.Errorf("%s: %s", r.line, r.stdout)
		}
	}
	if why := c.bob(t, "access", "why", "10001", "wiki").want(t, 0); !strings.Contains(why.stdout, "leaver") {
		t.Errorf("why a leaver has nothing: %s", why.stdout)
	}
	c.ada(t, "audit", "verify").want(t, 0)
	c.bob(t, "model", "apply", model, "--yes").want(t, 4) // an approver applies no model
	c.by(t, "policy", "people", "list").want(t, 4)        // a service is no operator
	c.by(t, "postgres", "people", "list").want(t, 4)      // nor is anybody else with a certificate
	write(t, filepath.Join(c.dir, "stranger.token"), token())
	c.cli(t, "--token-file", "stranger.token", "people", "list").want(t, 4)
	if r := execute(t, c.dir, "tenure", "--server", c.at["console"][1], "--token-file", "bob.token", "people", "list"); r.code == 0 {
		t.Error("a server is trusted whose certificate nobody vouches for")
	}
	// The services' own listeners are for services.
	base := filepath.Join(c.certs, "ada")
	execute(t, c.dir, "tenure", "--server", c.at["ingest"][1], "--ca-file", filepath.Join(c.certs, "ca.crt"),
		"--cert-file", base+".crt", "--key-file", base+".key", "people", "list").want(t, 4)
}
