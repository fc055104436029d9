package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tenurehq/tenure/services/connectors/ldap/ldaptest"
	"github.com/tenurehq/tenure/services/connectors/scim/scimtest"
)

// mix is a company's real applications: an OpenLDAP directory, a SCIM application of somebody else's and a PostgreSQL. Tenure
// reaches each of them over a wire; the tests look into them by their own programs, and not over it.
type mix struct {
	directory *ldaptest.Server
	suite     *scimtest.Server
	warehouse *warehouse

	toDirectory, toSuite, toWarehouse *wire
}

const (
	base       = "dc=acme,dc=example"
	peopleBase = "ou=people," + base
	groupsBase = "ou=groups," + base
)

func newMix(t *testing.T) *mix {
	t.Helper()
	m := &mix{directory: ldaptest.Start(t), suite: scimtest.Start(t), warehouse: newWarehouse(t, mixRoles())}
	groups := []string{"staff"}
	m.directory.AddGroups(t, append(groups, departments...)...)
	for _, title := range mixTitles {
		m.suite.AddGroup(t, title)
	}
	m.toDirectory = newWire(t, m.directory.Address())
	m.toDirectory.speaksLDAP()
	m.toSuite = newWire(t, m.suite.Address())
	m.toWarehouse = newWire(t, m.warehouse.admin.Host)
	return m
}

// mixTitles are all titles that the company gives.
var mixTitles = []string{"Assistant Engineer", "Engineer", "Senior Engineer", "Senior Staff", "Staff", "Technique Leader"}

// mixRoles are the warehouse's: of the departments that work with it.
func mixRoles() []string { return []string{"dept_d005", "dept_d008"} }

// applications are the three as the configuration has them. Passwords are kept in files.
func (m *mix) applications(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "directory"), m.directory.AdminPassword())
	write(t, filepath.Join(dir, "suite"), m.suite.Token())
	return fmt.Sprintf(`
  - name: directory
    connector: ldap
    environment: prod
    owner: team-directory
    enforce: full
    config:
      url: "ldap://%s"
      bind_dn: %q
      password_file: %q
      people_base: %q
      groups_base: %q
      empty_group_member: %q
    account:
      uid: person.user_name
      givenName: person.given_name
      sn: person.family_name
      cn: person.given_name + " " + person.family_name
      mail: person.email
      employeeNumber: person.external_id
    limits: {timeout: 5s}
  - name: suite
    connector: scim
    environment: prod
    owner: team-suite
    enforce: full
    config:
      url: "http://%s%s"
      token_file: %q
    account:
      userName: person.user_name
      name.givenName: person.given_name
      name.familyName: person.family_name
      emails[type eq "work"].value: person.email
    limits: {timeout: 5s}
`, m.toDirectory.address, m.directory.AdminDN(), filepath.Join(dir, "directory"), peopleBase, groupsBase, m.directory.EmptyGroupMember(),
		m.toSuite.address, m.suite.Path(), filepath.Join(dir, "suite")) + m.warehouse.applicationAt(t, m.toWarehouse.address) +
		"    limits: {timeout: 5s}\n" // how long it is waited, after a lost reply, for what may still come of the call
}

// mixModel gives every active person a directory entry with a group for everybody and one per department, a SCIM account
// with a group per title, and a database role to those of two departments.
const mixModel = `
roles:
  - name: everybody
    members: person.status == "active"
    grants:
      - {app: directory, entitlement: "cn=staff,ou=groups,dc=acme,dc=example"}
  - name: department
    for_each: {d: "[person.department]"}
    members: d != ""
    grants:
      - {app: directory, entitlement: "cn=${d},ou=groups,dc=acme,dc=example"}
  - name: title
    for_each: {t: "[person.title]"}
    members: t != ""
    grants:
      - {app: suite, entitlement: "group:${t}"}
  - name: database
    for_each: {d: "[person.department]"}
    members: d in ["d005", "d008"]
    grants:
      - {app: warehouse, entitlement: "role:dept_${d}"}
tests:
  - given: {department: d005, title: Senior Engineer}
    expect:
      directory: ["cn=staff,ou=groups,dc=acme,dc=example", "cn=d005,ou=groups,dc=acme,dc=example"]
      suite: ["group:Senior Engineer"]
      warehouse: ["role:dept_d005"]
`

// wishes are what the model gives a person, by application, worked out here and not by Tenure.
var wishes = map[string]func(record) wish{
	"directory": func(r record) wish { return wish{true, []string{r.Department, "staff"}} },
	"suite":     func(r record) wish { return wish{true, []string{r.Title}} },
	"warehouse": func(r record) wish {
		if slices.Contains(mixRoles(), "dept_"+r.Department) {
			return wish{true, []string{"dept_" + r.Department}}
		}
		return wish{}
	},
}

// holdings are all accounts of all applications, by login.
func (m *mix) holdings(t *testing.T) map[string]map[string]holding {
	t.Helper()
	return map[string]map[string]holding{"directory": m.inDirectory(t), "suite": m.inSuite(t), "warehouse": m.inWarehouse(t)}
}

// output runs one of the applications' own programs.
func output(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, problems.String())
	}
	return out
}

// search asks ldapsearch.
func (m *mix) search(t *testing.T, under, filter string, attributes ...string) []byte {
	t.Helper()
	password := filepath.Join(t.TempDir(), "password")
	write(t, password, m.directory.AdminPassword())
	args := []string{"-x", "-LLL", "-o", "ldif-wrap=no", "-H", m.directory.URL(), "-D", m.directory.AdminDN(), "-y", password, "-b", under, filter}
	return output(t, "ldapsearch", append(args, attributes...)...)
}

// inDirectory asks ldapsearch for everybody and for every group.
func (m *mix) inDirectory(t *testing.T) map[string]holding {
	t.Helper()
	search := func(under, filter string, attributes ...string) []entry {
		return ldif(t, m.search(t, under, filter, attributes...))
	}
	memberships := map[string][]string{}
	for _, group := range search(groupsBase, "(objectClass=groupOfNames)", "cn", "member") {
		for _, member := range group["member"] {
			memberships[member] = append(memberships[member], group["cn"][0])
		}
	}
	all := map[string]holding{}
	for _, person := range search(peopleBase, "(objectClass=inetOrgPerson)", "uid", "pwdAccountLockedTime") {
		uid := person["uid"][0]
		if _, twice := all[uid]; twice {
			t.Errorf("the directory has %s twice", uid)
		}
		grants := memberships[person["dn"][0]]
		slices.Sort(grants)
		all[uid] = holding{enabled: len(person["pwdAccountLockedTime"]) == 0, grants: grants}
	}
	return all
}

// entry is one of LDIF.
type entry map[string][]string

// ldif reads what ldapsearch prints: unfolded lines, base64 where a value needs it.
func ldif(t *testing.T, text []byte) (all []entry) {
	t.Helper()
	for block := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
		e := entry{}
		for line := range strings.SplitSeq(block, "\n") {
			name, value, _ := strings.Cut(line, ":")
			if encoded, ok := strings.CutPrefix(value, ": "); ok {
				plain, err := base64.StdEncoding.DecodeString(encoded)
				if err != nil {
					t.Fatalf("ldapsearch printed %q: %v", line, err)
				}
				value = " " + string(plain)
			}
			e[name] = append(e[name], strings.TrimPrefix(value, " "))
		}
		if len(e["dn"]) > 0 {
			all = append(all, e)
		}
	}
	return all
}

// inSuite asks curl for every user and every group.
func (m *mix) inSuite(t *testing.T) map[string]holding {
	t.Helper()
	type resource struct {
		ID          string                   `json:"id"`
		UserName    string                   `json:"userName"`
		DisplayName string                   `json:"displayName"`
		Active      bool                     `json:"active"`
		Members     []struct{ Value string } `json:"members"`
	}
	header := filepath.Join(t.TempDir(), "header")
	write(t, header, "Authorization: Bearer "+m.suite.Token()+"\n")
	listed := func(kind string) (all []resource) {
		for {
			url := fmt.Sprintf("%s/%s?startIndex=%d&count=200", m.suite.URL(), kind, len(all)+1)
			var page struct {
				TotalResults int        `json:"totalResults"`
				Resources    []resource `json:"Resources"`
			}
			if err := json.Unmarshal(output(t, "curl", "--silent", "--show-error", "--fail", "--header", "@"+header, url), &page); err != nil {
				t.Fatal(err)
			}
			if all = append(all, page.Resources...); len(all) >= page.TotalResults || len(page.Resources) == 0 {
				return all
			}
		}
	}
	memberships := map[string][]string{}
	for _, group := range listed("Groups") {
		for _, member := range group.Members {
			memberships[member.Value] = append(memberships[member.Value], group.DisplayName)
		}
	}
	all := map[string]holding{}
	for _, user := range listed("Users") {
		if _, twice := all[user.UserName]; twice {
			t.Errorf("the suite has %s twice", user.UserName)
		}
		grants := memberships[user.ID]
		slices.Sort(grants)
		all[user.UserName] = holding{enabled: user.Active, grants: grants}
	}
	return all
}

// inWarehouse asks psql for every role that people made, but Tenure's own and those that are there to be granted.
func (m *mix) inWarehouse(t *testing.T) map[string]holding {
	t.Helper()
	rows := output(t, "psql", "--no-psqlrc", "--tuples-only", "--no-align", "--dbname", m.warehouse.admin.String(), "--command",
		`SELECT m.rolname, m.rolcanlogin AND m.rolconnlimit <> 0, coalesce(string_agg(r.rolname, ',' ORDER BY r.rolname COLLATE "C"), '')
		FROM pg_roles m LEFT JOIN pg_auth_members a ON a.member = m.oid LEFT JOIN pg_roles r ON r.oid = a.roleid
		WHERE NOT m.rolsuper AND m.oid >= 16384 GROUP BY m.oid, m.rolname, m.rolcanlogin, m.rolconnlimit`)
	all := map[string]holding{}
	for line := range strings.Lines(string(rows)) {
		column := strings.Split(strings.TrimSpace(line), "|")
		if len(column) != 3 || column[0] == m.warehouse.owner || slices.Contains(mixRoles(), column[0]) {
			continue
		}
		h := holding{enabled: column[1] == "t"}
		if column[2] != "" {
			h.grants = strings.Split(column[2], ",")
		}
		all[column[0]] = h
	}
	return all
}
