package ingest_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/policy/decide"
	"github.com/tenurehq/tenure/services/policy/model"
)

var updateCompany = flag.Bool("update", false, "write what people come to now as what is wanted")

// companyModel is what the second company gives its people.
const companyModel = `
roles:
  - {name: everyone, members: 'person.status in ["active", "on_leave"]', grants: [{app: directory, entitlement: staff}]}
  - {name: per-department, for_each: {d: "[person.department]"}, members: d != "", grants: [{app: directory, entitlement: "dept-${d}"}]}
  - {name: at-work, members: person.status == "active", grants: [{app: badge, entitlement: doors}]}
`

// companyCase is somebody of the second company: its file's name is the rule that they are there for. Everything is heard
// at noon on 22 November 2026, in any order.
type companyCase struct {
	Said []struct {
		At   string // when the source made the record
		Key  string // webhook-id, without the name of the case
		Data data
	}
	Want companyPerson
}

// companyPerson is what somebody comes to.
type companyPerson struct {
	Name        string   `yaml:"name"`
	UserName    string   `yaml:"user_name,omitempty"` // looked at where it is wanted: else it goes by who came first
	Status      string   `yaml:"status"`
	Title       string   `yaml:"title,omitempty"`
	Started     string   `yaml:"started,omitempty"`
	Ended       string   `yaml:"ended,omitempty"`
	Next        string   `yaml:"next,omitempty"`
	Employments []string `yaml:"employments"`
	Access      []string `yaml:"access,omitempty"`
}

// saying is one webhook of the company.
type saying struct{ key, body string }

func loadCompany(t *testing.T) (cases map[string]*companyCase, all []saying) {
	t.Helper()
	files, err := filepath.Glob("testdata/company/*.yaml")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d people, %v", len(files), err)
	}
	cases = make(map[string]*companyCase, len(files))
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c := &companyCase{}
		if err := yaml.UnmarshalWithOptions(content, c, yaml.Strict()); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		cases[file] = c
		for i, s := range c.Said {
			at, err := time.Parse(time.RFC3339, s.At)
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			key := s.Key
			if key == "" {
				key = fmt.Sprint("msg-", i)
			}
			all = append(all, saying{filepath.Base(file) + "-" + key, changedAt(at, s.Data)})
		}
	}
	return cases, all
}

// come is what the person of an external id came to.
func (w *world) come(t *testing.T, rules decide.Rules, id string) companyPerson {
	t.Helper()
	p := w.find(id)
	got := companyPerson{
		Name:     p.GetRecord().GetGivenName() + " " + p.GetRecord().GetFamilyName(),
		UserName: p.GetUserName(), Status: status(p.GetStatus()), Title: p.GetRecord().GetTitle(), Employments: stands(p),
	}
	for at, into := range map[interface{ AsTime() time.Time }]*string{p.GetStartedAt(): &got.Started, p.GetEndedAt(): &got.Ended, p.GetNextDue(): &got.Next} {
		if instant := at.AsTime(); instant.Unix() != 0 {
			*into = instant.Format("2006-01-02 15:04")
		}
	}
	var employments []*model.Person
	for _, e := range p.GetEmployments() {
		employments = append(employments, &model.Person{Status: status(e.GetStatus()), Department: e.GetRecord().GetDepartment(), UserName: p.GetUserName()})
	}
	decided := decide.Decide(rules, employments[0], nil, employments[1:]...)
	for _, app := range rules.Accounts.Applications() {
		if a := decided.Access[app]; a.State != decide.None {
			state := map[decide.State]string{decide.Enabled: "enabled", decide.Disabled: "disabled"}[a.State]
			got.Access = append(got.Access, fmt.Sprintf("%s %s: %s", app, state, strings.Join(a.Entitlements, ", ")))
		}
	}
	return got
}

func status(s peoplev1.PersonStatus) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "PERSON_STATUS_"))
}

func TestASecondCompanyComesToTheSameInAnyOrderAndTwice(t *testing.T) {
	t.Parallel()
	cases, said := loadCompany(t)
	m, err := model.Load([]model.File{{Name: "roles.yaml", Content: []byte(companyModel)}}, []string{"directory", "badge"})
	if err != nil {
		t.Fatal(err)
	}
	accounts, err := model.NewAccountMapping([]model.Application{{Name: "directory"}, {Name: "badge"}})
	if err != nil {
		t.Fatal(err)
	}
	rules := decide.Rules{Model: m, Accounts: accounts}
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("order ", seed), func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, w *world) {
				order := make([]int, 2*len(said)) // everything twice
				for i := range order {
					order[i] = i % len(said)
				}
				if seed > 0 {
					shuffle := rand.New(rand.NewPCG(seed, 0)) // the same order each time
					shuffle.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
				}
				for _, i := range order {
					w.deliver(said[i].key, said[i].body)
				}
				for file, c := range cases {
					id, _ := c.Said[0].Data["external_id"].(string)
					got := w.come(t, rules, id)
					if c.Want.UserName == "" {
						got.UserName = ""
					}
					if *updateCompany && seed == 0 {
						c.Want = got
						writeCompany(t, file, c)
						continue
					}
					if diff := cmp.Diff(c.Want, got); diff != "" {
						t.Errorf("%s is not so (-want +got):\n%s", strings.TrimSuffix(filepath.Base(file), ".yaml"), diff)
					}
				}
			})
		})
	}
}

// writeCompany puts what is wanted in place of what was, and leaves the rest of the file as it is.
func writeCompany(t *testing.T, file string, c *companyCase) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	said, _, _ := strings.Cut(string(content), "want:")
	want, err := yaml.Marshal(map[string]companyPerson{"want": c.Want})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append([]byte(said), want...), 0o600); err != nil {
		t.Fatal(err)
	}
}
