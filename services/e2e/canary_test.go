package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tenurehq/tenure/pkg/connector"
)

// canary is in everything that must not be where it is looked for.
const canary = "kanari"

// forms are what canary looks like, also as a part of bytes that were written as base64.
func forms() [][]byte {
	all := [][]byte{[]byte(canary)}
	for _, word := range []string{canary, strings.ToUpper(canary[:1]) + canary[1:], strings.ToUpper(canary)} {
		for offset := range 3 {
			encoded := base64.StdEncoding.EncodeToString(append(make([]byte, offset), word...))
			// The first and the last quantum hold bits of what stands around it.
			all = append(all, []byte(strings.TrimRight(encoded, "=")[(offset*8+5)/6:(offset+len(word))*8/6]))
		}
	}
	return all
}

// sightings are the places under a file or folder where a canary is, each with what stands around it.
func sightings(t *testing.T, path string) (found []string) {
	t.Helper()
	read := 0
	err := filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		read += len(content)
		lower := bytes.ToLower(content)
		for n, form := range forms() {
			in := content
			if n == 0 { // base64 has a meaning in its case
				in = lower
			}
			if at := bytes.Index(in, form); at >= 0 {
				found = append(found, fmt.Sprintf("%s: %q", name, content[max(0, at-60):min(len(content), at+60)]))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if read == 0 {
		t.Errorf("%s is empty: there is nothing to be found in it", path)
	}
	return found
}

// talkative is an application that says too much when something goes wrong, and something always does.
type talkative struct{}

func (talkative) Describe() connector.Description {
	return connector.Description{Type: "talkative", Version: "1", Attributes: []connector.Attribute{{Name: "login", Type: "string", Writable: true}}}
}

func (talkative) Check(context.Context) (connector.Identity, error) {
	return connector.Identity{Target: "talkative:1", Product: "Talkative"}, nil
}

func (talkative) Read(context.Context, connector.Query) (connector.Found, error) {
	return connector.Found{}, nil
}

func (talkative) Create(_ context.Context, account connector.NewAccount) (connector.AccountID, connector.Change, error) {
	login := account.Attributes["login"]
	if strings.HasPrefix(login, "second") {
		return "", 0, status.Error(codes.PermissionDenied, "Kanaristatus: "+login+" is already on fire") //nolint:wrapcheck // as a careless author has it
	}
	return "", 0, connector.Invalid([]string{"login"}, "kanarireason", "Kanarierror: the login %s is not to our taste", login)
}

func (talkative) Enable(context.Context, connector.Ref) (connector.Change, error) {
	return connector.Unchanged, nil
}

func (talkative) Disable(context.Context, connector.Ref) (connector.Change, error) {
	return connector.Unchanged, nil
}

// startTalkative serves it as a platform team would, and returns its address.
func startTalkative(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tenure-e2e-") //nolint:usetesting // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	address := "unix:" + filepath.Join(dir, "talkative")
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- connector.Serve(ctx, address, talkative{}, nil) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the remote connector: %v", err)
		}
		_ = os.RemoveAll(dir)
	})
	return address
}

const canaryRoles = `
roles:
  - name: everybody
    members: person.status in ["active", "on_leave"]
    grants:
      - {app: wiki, entitlement: "group:staff"}
      - {app: talkative}
      - {app: warehouse, entitlement: "role:dept_d005"}
  - name: special
    for_each: {x: "[person.attributes[?'special'].orValue('')]"}
    members: x != ""
    grants:
      - {app: warehouse, entitlement: "role:${x}"}
`

func TestStreamLogsAndAuditHoldNothingPersonal(t *testing.T) {
	t.Parallel()
	w, db := wiki{freeAddresses(t, 1)[0]}, newWarehouse(t, []string{"dept_d005"})
	db.sql(t, `CREATE ROLE kkanarifamily LOGIN`) // somebody else's: PostgreSQL will say so by name
	tn := serve(t, plan{
		logLevel: "debug",
		applications: demoApplication("wiki", w.address, []string{"group:staff"}, ", display_name: person.given_name + ' ' + person.family_name") +
			db.application(t) + fmt.Sprintf(`
  - name: talkative
    connector: remote
    address: %q
    owner: team-talkative
    enforce: full
    account:
      login: person.attributes["word"] + person.user_name
`, startTalkative(t)),
	})
	tn.applyModel(t, canaryRoles)
	hr := tn.hr(t)
	one := record{
		ExternalID: "1", Status: "active", GivenName: "Kanarigiven", FamilyName: "Kanarifamily", Email: "kanarimail@kanarihost.example",
		Department: "kanaridepartment", Title: "Kanarititle", Attributes: map[string]string{"word": "first", "special": "", "plate": "KANARI 1"},
	}
	two := one
	two.ExternalID, two.FamilyName, two.Email = "2", "Kanarisecond", "kanari.second@kanarihost.example"
	two.Attributes = map[string]string{"word": "second", "special": "kanarirole"} // there is no such role
	hr.tell(t, "one", one)
	hr.tell(t, "two", two)

	// What is not understood, and what is not let in.
	bad := one
	bad.ExternalID, bad.EffectiveDate = "3", "Kanaridate"
	if status, body, err := hr.deliver(t, says(t, "bad", time.Now(), bad)); err != nil || status != http.StatusAccepted || !strings.Contains(string(body), `"held":"`) {
		t.Errorf("a record with a bad date: %d %s %v", status, body, err)
	}
	for id, body := range map[string]string{"key": `{"type": "person.changed", "kanarikey": "Kanarivalue"}`, "json": `{"Kanari`} {
		if status, _, err := hr.deliver(t, posting{id: id, body: []byte(body)}); err != nil || status != http.StatusBadRequest {
			t.Errorf("%s: %d %v, want 400", body, status, err)
		}
	}
	stranger := newHR(t, "http://"+tn.http+"/v1/webhooks/kanarisource", "whsec_"+token(), &http.Transport{})
	if status, _, err := stranger.deliver(t, posting{id: "kanariid", body: []byte(`{"kanari": 1}`)}); err != nil || status != http.StatusUnauthorized {
		t.Errorf("an unknown source: %d %v", status, err)
	}
	write(t, filepath.Join(tn.dir, "people.csv"), "external_id,status,given_name,family_name,start_date\n4,active,Kanaricsv,Kanarirow,\n5,Kanaristatus,Kanaricsv,Kanarirow,\n")
	tn.cli(t, "import", "files", "people.csv")
	tn.cli(t, "people", "show", "kanarinobody@kanarihost.example").want(t, 3)
	tn.cli(t, "people", "set", "1", "title=Kanariset").want(t, 0)
	tn.cli(t, "people", "set", "1", "start_date=Kanaridate")

	// Both are stuck with their applications' words, which operators may read.
	stuck := ""
	await(t, "what is stuck to be known", func() (bool, string) {
		stuck = tn.cli(t, "apps", "stuck", "-o", "json").want(t, 0).stdout
		for _, word := range []string{"Kanarierror", "Kanaristatus", "kkanarifamily", "kanarirole"} {
			if !strings.Contains(stuck, word) {
				return false, stuck
			}
		}
		return true, ""
	})
	one.Status = "terminated"
	hr.tell(t, "one-leaves", one)
	tn.cli(t, "people", "cut", "2", "--reason", "Kanaricut").want(t, 0)
	await(t, "the leaver's account to be disabled", func() (bool, string) {
		account := w.account(t, one.Email)
		return account.Status == "disabled", account.Status
	})
	person := ask[struct{ ID string }](t, tn, "people", "show", "1").ID
	await(t, "everything to be recorded", func() (bool, string) {
		_, figures, err := get(t.Context(), "http://"+tn.metrics+"/metrics")
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(tn.dir, "metrics"), string(figures))
		for line := range strings.Lines(string(figures)) {
			if strings.HasPrefix(line, "tenure_outbox_oldest_seconds{") && !strings.HasSuffix(line, " 0\n") {
				return false, line
			}
		}
		return true, ""
	})
	export := filepath.Join(tn.dir, "export")
	tn.cli(t, "audit", "export", export).want(t, 0)
	tn.cli(t, "audit", "verify").want(t, 0)
	tn.stop(t)

	data := filepath.Join(tn.dir, "data")
	for _, place := range []string{
		filepath.Join(data, "jetstream"), filepath.Join(data, "audit.db"), export, tn.stderr, filepath.Join(tn.dir, "metrics"),
	} {
		for _, seen := range sightings(t, place) {
			t.Errorf("a canary is in %s", seen)
		}
	}
	for _, more := range []string{"audit.db-wal", "audit.db-shm"} {
		if name := filepath.Join(data, more); exists(name) {
			for _, seen := range sightings(t, name) {
				t.Errorf("a canary is in %s", seen)
			}
		}
	}
	// And they can be found, and the places hold what they should: what is looked for is not elsewhere.
	for _, place := range []string{"ingest.db", "policy.db", "provision_warehouse.db", "provision_talkative.db"} {
		if len(sightings(t, filepath.Join(data, place))) == 0 {
			t.Errorf("there is no canary in %s, which knows them all: the scan finds nothing anywhere", place)
		}
	}
	for _, place := range []string{filepath.Join(data, "jetstream"), filepath.Join(data, "audit.db"), filepath.Join(export, "leaves")} {
		if !contains(t, place, person) {
			t.Errorf("%s says nothing of the person %s", place, person)
		}
	}
	encoded := filepath.Join(t.TempDir(), "encoded")
	for n := range 3 {
		write(t, encoded, base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", n)+"Kanari and more")))
		if len(sightings(t, encoded)) == 0 {
			t.Errorf("a canary as base64 is not found when %d bytes stand before it", n)
		}
	}
}

// contains says whether text is in a file, or in a file of a folder.
func contains(t *testing.T, path, text string) bool {
	t.Helper()
	found := false
	err := filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(name)
		found = found || bytes.Contains(content, []byte(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
