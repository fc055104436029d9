package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const smallRoles = `
roles:
  - name: everybody
    members: person.status == "active"
    grants:
      - {app: wiki, entitlement: "group:staff"}
  - name: developers
    members: person.department == "d005"
    grants:
      - {app: wiki, entitlement: "group:developers"}
`

var smallGroups = []string{"group:staff", "group:developers", "group:rota"}

// small starts a Tenure with a wiki and one person of department d005.
func small(t *testing.T) (*tenure, wiki, record) {
	t.Helper()
	return smallWith(t, "")
}

// smallWith is small with a brake.
func smallWith(t *testing.T, brake string) (*tenure, wiki, record) {
	t.Helper()
	w := wiki{freeAddresses(t, 1)[0]}
	tn := serve(t, plan{applications: demoApplication("wiki", w.address, smallGroups, ""), brake: brake})
	tn.applyModel(t, smallRoles)
	ann := record{ExternalID: "1", Status: "active", GivenName: "Ann", FamilyName: "Lee", Email: "ann.lee@acme.example", Department: "d005", Title: "Engineer"}
	tn.hr(t).tell(t, "joins", ann)
	tn.settle(t)
	return tn, w, ann
}

// commands are all commands there are, as the program's own help lists them.
func commands(t *testing.T, tn *tenure, path ...string) (all []string) {
	t.Helper()
	help := tn.cli(t, append(path, "--help")...).want(t, 0).stdout
	_, list, found := strings.Cut(help, "Available Commands:\n")
	if !found {
		return []string{strings.Join(path, " ")}
	}
	list, _, _ = strings.Cut(list, "\n\n")
	for line := range strings.Lines(list) {
		name := strings.Fields(line)[0]
		if len(path) == 0 && (name == "help" || name == "completion" || name == "dev" || name == "serve") {
			continue
		}
		all = append(all, commands(t, tn, append(path[:len(path):len(path)], name)...)...)
	}
	return all
}

func TestEveryCommandAnswersInJSON(t *testing.T) {
	t.Parallel()
	tn, _, _ := smallWith(t, `{per_hour: "0", per_day: "0", per_app_day: "0"}`)
	gone := record{ExternalID: "2", Status: "active", GivenName: "Ed", FamilyName: "Fox", Email: "ed.fox@acme.example"}
	tn.hr(t).tell(t, "ed-joins", gone)
	tn.settle(t)
	gone.Status = "terminated"
	tn.hr(t).tell(t, "ed-leaves", gone)
	hold := tn.awaitHold(t, 1)
	bad := says(t, "bad", time.Now(), record{ExternalID: "9", Status: "active", EffectiveDate: "soon"})
	_, answer, err := tn.hr(t).deliver(t, bad)
	if err != nil {
		t.Fatal(err)
	}
	var held accepted
	if err := json.Unmarshal(answer, &held); err != nil || held.Held == nil {
		t.Fatalf("%s: %v", answer, err)
	}
	write(t, filepath.Join(tn.dir, "people.csv"), "external_id,status,given_name,family_name,attributes.desk\n7,active,Bo,Ek,12\n")
	write(t, filepath.Join(tn.dir, "joiner.json"), string(says(t, "x", time.Now(), record{ExternalID: "3", Status: "active", GivenName: "Cy", FamilyName: "Ng"}).body))
	write(t, filepath.Join(tn.dir, "nobody.csv"), "external_id,status\n")
	var nobody struct{ Roster struct{ ID string } }
	if err := json.Unmarshal([]byte(tn.cli(t, "import", "files", "nobody.csv", "--roster", "-o", "json").want(t, 4).stdout), &nobody); err != nil {
		t.Fatal(err)
	}
	send := "hr joiner.json --url http://" + tn.http + " --secret-file secrets/hr"
	arguments := map[string]string{
		"people list": "", "people show": "1", "people timeline": "1", "people set": "1 title=Chief",
		"people cut": "1 --reason x", "people lift": "1 --reason x",
		"access show": "1", "access why": "1 wiki group:staff", "access who": "--app wiki",
		"apps list": "", "apps show": "wiki", "apps plan": "wiki", "apps stuck": "", "apps retry": "wiki 1",
		"holds list": "", "holds show": hold, "holds release": hold, "holds reject": hold,
		"people merge": "1 7", "people split": "1 files:7", "people findings": "", "rosters list": "", "rosters show": "files " + nobody.Roster.ID, "rosters accept": "files " + nobody.Roster.ID,
		"deliveries list": "", "deliveries show": held.Delivery, "deliveries replay": held.Delivery,
		"send": send, "import": "files people.csv", "events tail": "--since 1h --no-follow", "events parked": "",
		"model check": "model", "model test": "model", "model diff": "model", "model apply": "model --yes", "model show": "",
		"audit log": "", "audit proof": "0", "audit checkpoint": "", "audit export": "evidence", "audit verify": "",
	}
	for _, command := range commands(t, tn) {
		args, known := arguments[command]
		if !known {
			t.Errorf("tenure %s is not tried here", command)
			continue
		}
		line := append(strings.Fields(command), strings.Fields(args)...)
		r := tn.cli(t, append(line, "-o", "json")...).want(t, 0)
		n := documents(t, r)
		streams := command == "events tail" || command == "audit log" || command == "apps plan"
		if n == 0 || (n > 1 && !streams) {
			t.Errorf("%s prints %d documents:\n%s", r.line, n, r.stdout)
		}
		if r.stderr != "" {
			t.Errorf("%s on a pipe also says %q", r.line, r.stderr)
		}
	}
	if n := documents(t, tn.cli(t, append(strings.Fields("send "+send), "--follow", "-o", "json")...).want(t, 0)); n < 2 {
		t.Errorf("send --follow prints %d documents, want the answer and what became of the person", n)
	}
}

// documents counts the JSON documents that a command printed; anything else is an error.
func documents(t *testing.T, r ran) (n int) {
	t.Helper()
	for in := json.NewDecoder(strings.NewReader(r.stdout)); in.More(); n++ {
		var document map[string]any
		if err := in.Decode(&document); err != nil {
			t.Errorf("%s: %v\n%s", r.line, err, r.stdout)
			return n
		}
	}
	return n
}

func TestExitCodesTellHowACommandEnded(t *testing.T) {
	t.Parallel()
	tn, _, _ := small(t)
	write(t, filepath.Join(tn.dir, "broken", "roles.yaml"), "roles: [{name: x, members: person.height > 2}]\n")
	write(t, filepath.Join(tn.dir, "joiner.json"), `{"type": "person.changed", "data": {"external_id": "3", "status": "active"}}`)
	write(t, filepath.Join(tn.dir, "no.csv"), "")
	for line, code := range map[string]int{
		"people show 1":                      0,
		"people show ann.lee@acme.example":   0,
		"people show alee":                   0,
		"model check broken":                 1,
		"import files no.csv":                1,
		"people show 1 --server 127.0.0.1:1": 1,
		"send hr joiner.json --url http://127.0.0.1:1 --secret-file secrets/hr": 1,
		"people":                       0,
		"people shwo 1":                2,
		"people set 1 title":           2,
		"people cut 1":                 2,
		"people cut nobody --reason x": 3,
		"people lift 1 --reason x":     4, // who was never cut
		"people set 1 shoesize=44":     1,
		"model apply nowhere":          2,
		"-o yaml people list":          2,
		"import files nowhere.csv":     2,
		"import nowhere model/x.csv":   2,
		"people show nobody":           3,
		"access show nobody":           3,
		"apps show nowhere":            3,
		"apps retry nowhere 1":         3,
		"access why 1 nowhere":         3,
		"deliveries show 01a2056f-5edd-7ca9-9040-66acaaaffa85": 3,
		"audit proof 99999999":                                 3,
		"model apply model":                                    4, // nobody to ask
		"send nowhere joiner.json --url http://" + tn.http + " --secret-file secrets/hr": 4,
		"people list --token-file nowhere":                                               4,
	} {
		if r := tn.cli(t, strings.Fields(line)...); r.code != code {
			t.Errorf("tenure %s: exit %d, want %d\n%s%s", line, r.code, code, r.stdout, r.stderr)
		} else if code != 0 && (!strings.HasPrefix(r.stderr, "error: ") || strings.Contains(r.stderr, "rpc error")) {
			t.Errorf("tenure %s says %q", line, r.stderr)
		}
	}
	// Whose role does not reach is told so, and nothing happens.
	for line, least := range map[string]string{"people list": "vic", "people set 1 title=Boss": "olga", "apps retry wiki 1": "olga", "model apply model --yes": "ada"} {
		allowed := false
		for _, operator := range []string{"vic", "olga", "bob", "ada"} {
			allowed = allowed || operator == least
			code := 4
			if allowed {
				code = 0
			}
			tn.cliAs(t, operator, strings.Fields(line)...).want(t, code)
		}
	}
}

func TestWhatIsNotBuiltYetIsRefusedByName(t *testing.T) {
	t.Parallel()
	for line, name := range map[string]string{
		"apps reconcile wiki": "apps reconcile", "connector conform x --fixture y": "connector",
	} {
		if r := execute(t, t.TempDir(), "tenure", strings.Fields(line)...).want(t, 2); !strings.Contains(r.stderr, name+": not built yet") {
			t.Errorf("%s: %s", r.line, r.stderr)
		}
	}
}

func TestAFileImportedTwiceHasOneEffect(t *testing.T) {
	t.Parallel()
	tn, w, _ := small(t)
	var text strings.Builder
	text.WriteString("external_id,status,given_name,family_name,email,department,start_date\n")
	for n := range 1200 { // more than one batch
		fmt.Fprintf(&text, "c%d,active,Given%d,Family%d,c%d@acme.example,d00%d,2020-01-01\n", n, n, n, n, n%9+1)
	}
	text.WriteString("bad,active,Given,Family,bad@acme.example,d001,soon\n")
	write(t, filepath.Join(tn.dir, "people.csv"), text.String())
	first := tn.cli(t, "import", "files", "people.csv").want(t, 0).stdout
	if !strings.Contains(first, "1200 rows taken, 1 held") || !strings.Contains(first, "row 1201 (bad)") {
		t.Errorf("the first time: %s", first)
	}
	tn.settle(t)
	journal := string(w.fetch(t, "/journal"))
	versions := tn.cli(t, "people", "list", "-o", "json").want(t, 0).stdout
	if second := tn.cli(t, "import", "files", "people.csv").want(t, 0).stdout; second != first {
		t.Errorf("the second time: %s", second)
	}
	tn.settle(t)
	if again := string(w.fetch(t, "/journal")); again != journal {
		t.Errorf("the second import did something in the wiki:\n%s", strings.TrimPrefix(again, journal))
	}
	if again := tn.cli(t, "people", "list", "-o", "json").want(t, 0).stdout; again != versions {
		t.Error("the second import changed people")
	}
	if accounts := w.accounts(t); len(accounts) != 1201 {
		t.Errorf("%d accounts, want 1201", len(accounts))
	}
	if _, held := w.accounts(t)["bad@acme.example"]; held {
		t.Error("a row that was held has an account")
	}
}

func TestSendFollowsToTheLastReadBack(t *testing.T) {
	t.Parallel()
	tn, w, ann := small(t)
	ann.Department = "d001"
	write(t, filepath.Join(tn.dir, "mover.json"), string(says(t, "x", time.Now(), ann).body))
	r := tn.cli(t, "send", "hr", "mover.json", "--url", "http://"+tn.http, "--secret-file", "secrets/hr", "--follow").want(t, 0)
	if !regexp.MustCompile(`(?s)accepted as delivery .* wiki +settled .*all read back`).MatchString(r.stdout) {
		t.Errorf("it says:\n%s", r.stdout)
	}
	// The same once more changes nothing, and what is said of a later day changes nothing yet.
	write(t, filepath.Join(tn.dir, "again.json"), string(says(t, "x", time.Now(), ann).body))
	later := ann
	later.Department, later.EffectiveDate = "d005", "2040-01-01"
	write(t, filepath.Join(tn.dir, "later.json"), string(says(t, "x", time.Now(), later).body))
	for file, words := range map[string]string{"again.json": "all read back", "later.json": "2040-01-01"} {
		r := tn.cli(t, "send", "hr", file, "--url", "http://"+tn.http, "--secret-file", "secrets/hr", "--follow").want(t, 0)
		if !strings.Contains(r.stdout, words) {
			t.Errorf("%s: %s", file, r.stdout)
		}
	}
	if account := w.account(t, ann.Email); strings.Join(account.Entitlements, " ") != "group:staff" {
		t.Errorf("it says all is read back, and the wiki has %+v", account)
	}
}
