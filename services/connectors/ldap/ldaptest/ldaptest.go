// Package ldaptest starts a real OpenLDAP server for a test: a process of its own, on a free loopback port, with its
// database in a temporary folder and a journal of every change that had an effect.
package ldaptest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// What is in every directory of a test.
const (
	Base       = "dc=acme,dc=example"
	PeopleBase = "ou=people," + Base
	GroupsBase = "ou=groups," + Base

	adminDN  = "cn=admin," + Base
	policyDN = "cn=default,ou=policies," + Base
	nobodyDN = "cn=nobody," + Base

	startTime     = 30 * time.Second
	startAttempts = 3
)

// Config is how a server differs from the usual one.
type Config struct {
	WithoutPPolicy bool   // the overlay is not loaded
	WithoutPolicy  bool   // it is, and there is no default policy
	WithoutLockout bool   // there is one, and it says pwdLockout FALSE
	WithoutRefint  bool   // nobody cleans groups up after a rename or a deletion
	Lines          string // for the database's section of slapd.conf
	CertFile       string // for ldaps:// and StartTLS
	KeyFile        string
}

// Server is a running slapd.
type Server struct {
	dir, port, securePort string
	password              string
}

// Start starts a server that ends with the test: overlays memberof, refint and ppolicy with a default policy under which a
// lock is effective. Without an installed slapd the test is skipped, or fails where CI is set.
func Start(tb testing.TB) *Server {
	tb.Helper()
	return StartWith(tb, Config{})
}

// StartWith starts a server that is not the usual one.
func StartWith(tb testing.TB, cfg Config) *Server {
	tb.Helper()
	binary, err := slapd()
	switch {
	case err != nil && os.Getenv("CI") == "":
		tb.Skip(err)
	case err != nil:
		tb.Fatal(err)
	}
	for attempt := 1; ; attempt++ {
		s := &Server{dir: tb.TempDir(), password: rand.Text(), port: freePort(tb), securePort: freePort(tb)}
		s.configure(tb, cfg)
		err := s.run(tb, binary, cfg)
		if err == nil {
			s.fill(tb, cfg)
			return s
		}
		if !errors.Is(err, errEnded) || attempt == startAttempts {
			tb.Fatal(err)
		}
	}
}

func slapd() (string, error) {
	for _, path := range []string{"/usr/sbin/slapd", "/usr/lib/openldap/slapd", "/usr/libexec/slapd", "/usr/local/libexec/slapd"} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath("slapd")
	if err != nil {
		return "", errors.New("no OpenLDAP for tests: install its server, slapd")
	}
	return path, nil
}

func freePort(tb testing.TB) string {
	tb.Helper()
	listener, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	return port
}

var conf = template.Must(template.New("slapd.conf").Parse(`
{{- range .Schemas}}include "{{.}}"
{{end}}
{{- with .Modules}}modulepath "{{.}}"
moduleload back_mdb
moduleload memberof
moduleload refint
moduleload ppolicy
moduleload auditlog
{{end}}
{{- with .CertFile}}TLSCertificateFile "{{.}}"
{{end}}
{{- with .KeyFile}}TLSCertificateKeyFile "{{.}}"
{{end}}
pidfile "{{.Dir}}/pid"
sizelimit 500
database mdb
suffix "dc=acme,dc=example"
rootdn "cn=admin,dc=acme,dc=example"
rootpw "{{.Password}}"
directory "{{.Dir}}/db"
maxsize 268435456
dbnosync
index objectClass,entryUUID,entryCSN,uid,mail,cn,member,description eq
{{.Lines}}
overlay memberof
{{if not .WithoutRefint -}}
overlay refint
refint_attributes member
refint_nothing "cn=nobody,dc=acme,dc=example"
{{end}}
{{- if not .WithoutPPolicy}}overlay ppolicy
{{if not .WithoutPolicy}}ppolicy_default "cn=default,ou=policies,dc=acme,dc=example"
{{end}}{{end}}
overlay auditlog
auditlog "{{.Dir}}/journal.ldif"
`))

func (s *Server) configure(tb testing.TB, cfg Config) {
	tb.Helper()
	if err := os.Mkdir(filepath.Join(s.dir, "db"), 0o700); err != nil {
		tb.Fatal(err)
	}
	values := struct {
		Config
		Dir, Password, Modules string
		Schemas                []string
	}{Config: cfg, Dir: s.dir, Password: s.password}
	for _, dir := range []string{"/etc/ldap/schema", "/etc/openldap/schema", "/usr/local/etc/openldap/schema"} {
		if _, err := os.Stat(filepath.Join(dir, "core.schema")); err == nil {
			for _, name := range []string{"core", "cosine", "inetorgperson"} {
				values.Schemas = append(values.Schemas, filepath.Join(dir, name+".schema"))
			}
			break
		}
	}
	for _, dir := range []string{"/usr/lib/ldap", "/usr/lib/openldap", "/usr/lib64/openldap"} {
		if _, err := os.Stat(filepath.Join(dir, "back_mdb.la")); err == nil {
			values.Modules = dir
			break
		}
	}
	var text bytes.Buffer
	if err := conf.Execute(&text, values); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "slapd.conf"), text.Bytes(), 0o600); err != nil {
		tb.Fatal(err)
	}
}

// errEnded is a server that did not stay: somebody was faster to take its port.
var errEnded = errors.New("slapd ended")

// run starts the server and waits until it answers.
func (s *Server) run(tb testing.TB, binary string, cfg Config) error {
	tb.Helper()
	listen := "ldap://" + s.Address()
	if cfg.CertFile != "" {
		listen += " ldaps://127.0.0.1:" + s.securePort
	}
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		return err
	}
	// -d keeps it in the foreground. Not the test's context, which ends before its cleanups.
	cmd := exec.CommandContext(context.WithoutCancel(tb.Context()), binary, "-f", filepath.Join(s.dir, "slapd.conf"), "-h", listen, "-d", "0") //nolint:gosec // G204: an installed binary
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return errors.Join(err, log.Close())
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		_ = log.Close()
	})
	for deadline := time.Now().Add(startTime); ; {
		conn, err := s.dial()
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ended:
			said, _ := os.ReadFile(log.Name())
			return fmt.Errorf("%w:\n%s", errEnded, said)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("slapd does not answer: %w", err)
		}
	}
}

func (s *Server) fill(tb testing.TB, cfg Config) {
	tb.Helper()
	s.Add(tb, Base, map[string][]string{"objectClass": {"dcObject", "organization"}, "dc": {"acme"}, "o": {"Acme"}})
	for _, ou := range []string{"people", "groups", "policies"} {
		s.Add(tb, "ou="+ou+","+Base, map[string][]string{"objectClass": {"organizationalUnit"}, "ou": {ou}})
	}
	if cfg.WithoutPPolicy || cfg.WithoutPolicy {
		return
	}
	lockout := "TRUE"
	if cfg.WithoutLockout {
		lockout = "FALSE"
	}
	s.AddPolicy(tb, policyDN, lockout)
}

// AddPolicy makes a password policy.
func (s *Server) AddPolicy(tb testing.TB, dn, lockout string) {
	tb.Helper()
	name, _, _ := strings.Cut(strings.TrimPrefix(dn, "cn="), ",")
	s.Add(tb, dn, map[string][]string{
		"objectClass": {"applicationProcess", "pwdPolicy"}, "cn": {name}, "pwdAttribute": {"userPassword"}, "pwdLockout": {lockout},
	})
}

// Address is where it listens.
func (s *Server) Address() string { return "127.0.0.1:" + s.port }

// URL is how it is reached in the clear, and with StartTLS.
func (s *Server) URL() string { return "ldap://" + s.Address() }

// SecureURL is how it is reached by LDAPS, where it has a certificate.
func (s *Server) SecureURL() string { return "ldaps://127.0.0.1:" + s.securePort }

// AdminDN may do everything.
func (s *Server) AdminDN() string { return adminDN }

// AdminPassword is the administrator's.
func (s *Server) AdminPassword() string { return s.password }

// EmptyGroupMember is nobody, and the member of groups that have no other.
func (s *Server) EmptyGroupMember() string { return nobodyDN }

// AddGroups makes groups of nobody.
func (s *Server) AddGroups(tb testing.TB, names ...string) {
	tb.Helper()
	for _, name := range names {
		rdn := ldap.RelativeDN{Attributes: []*ldap.AttributeTypeAndValue{{Type: "cn", Value: name}}}
		s.Add(tb, rdn.String()+","+GroupsBase, map[string][]string{"objectClass": {"groupOfNames"}, "cn": {name}, "member": {nobodyDN}})
	}
}

// Add makes an entry.
func (s *Server) Add(tb testing.TB, dn string, attributes map[string][]string) {
	tb.Helper()
	request := ldap.NewAddRequest(dn, nil)
	for name, values := range attributes {
		request.Attribute(name, values)
	}
	s.do(tb, dn, func(c *ldap.Conn) error { return c.Add(request) })
}

// Modify changes an entry.
func (s *Server) Modify(tb testing.TB, request *ldap.ModifyRequest) {
	tb.Helper()
	s.do(tb, request.DN, func(c *ldap.Conn) error { return c.Modify(request) })
}

// Rename gives an entry another first part of its DN.
func (s *Server) Rename(tb testing.TB, dn, rdn string) {
	tb.Helper()
	s.do(tb, dn, func(c *ldap.Conn) error { return c.ModifyDN(ldap.NewModifyDNRequest(dn, rdn, true, "")) })
}

// Delete removes an entry.
func (s *Server) Delete(tb testing.TB, dn string) {
	tb.Helper()
	s.do(tb, dn, func(c *ldap.Conn) error { return c.Del(ldap.NewDelRequest(dn, nil)) })
}

// Search returns the entries below the base that fit.
func (s *Server) Search(tb testing.TB, filter string, attributes ...string) (found []*ldap.Entry) {
	tb.Helper()
	s.do(tb, filter, func(c *ldap.Conn) error {
		got, err := c.Search(ldap.NewSearchRequest(Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, filter, attributes, nil))
		if err == nil {
			found = got.Entries
		}
		return err
	})
	return found
}

// SetPassword gives a person a password. A lock stays: the server would take it away with the old password.
func (s *Server) SetPassword(tb testing.TB, login, password string) {
	tb.Helper()
	e := s.person(tb, login)
	request := ldap.NewModifyRequest(e.DN, nil)
	request.Replace("userPassword", []string{password})
	if lock := e.GetAttributeValues("pwdAccountLockedTime"); len(lock) > 0 {
		request.Delete("pwdAccountLockedTime", nil)
		request.Add("pwdAccountLockedTime", lock)
	}
	s.Modify(tb, request)
}

// Bind tries to log in as a person would, and returns what the server answers.
func (s *Server) Bind(tb testing.TB, login, password string) error {
	tb.Helper()
	dn := s.person(tb, login).DN
	c, err := s.dial()
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	return c.Bind(dn, password)
}

func (s *Server) person(tb testing.TB, login string) *ldap.Entry {
	tb.Helper()
	found := s.Search(tb, "(&(objectClass=inetOrgPerson)(uid="+ldap.EscapeFilter(login)+"))", "pwdAccountLockedTime")
	if len(found) != 1 {
		tb.Fatalf("%d people have the uid %q", len(found), login)
	}
	return found[0]
}

func (s *Server) dial() (*ldap.Conn, error) {
	c, err := ldap.DialURL(s.URL(), ldap.DialWithDialer(&net.Dialer{Timeout: startTime}))
	if err == nil {
		c.SetTimeout(startTime)
	}
	return c, err
}

// do does something as the administrator.
func (s *Server) do(tb testing.TB, what string, f func(*ldap.Conn) error) {
	tb.Helper()
	c, err := s.dial()
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	if err := errors.Join(c.Bind(adminDN, s.password), f(c)); err != nil {
		tb.Fatalf("%s: %v", what, err)
	}
}

// Change is one that had an effect, by the server's own journal.
type Change struct {
	DN   string
	Type string // add, modify, modrdn or delete
	// Lines are those of the LDIF behind changetype, decoded: "add: member", "member: cn=…", "-".
	Lines []string
}

// Journal is every change since the start, in order; also those of the test's own hand.
func (s *Server) Journal(tb testing.TB) (all []Change) {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "journal.ldif"))
	if err != nil {
		tb.Fatal(err)
	}
	for block := range strings.SplitSeq(strings.ReplaceAll(string(text), "\n ", ""), "\n\n") {
		var c Change
		for line := range strings.Lines(block) {
			name, value := field(tb, strings.TrimSuffix(line, "\n"))
			switch {
			case strings.HasPrefix(line, "#"):
			case name == "dn":
				c.DN = value
			case name == "changetype":
				c.Type = value
			case c.Type != "" && value == "":
				c.Lines = append(c.Lines, name)
			case c.Type != "":
				c.Lines = append(c.Lines, name+": "+value)
			}
		}
		if c.Type != "" {
			all = append(all, c)
		}
	}
	return all
}

// field reads a line of LDIF.
func field(tb testing.TB, line string) (name, value string) {
	tb.Helper()
	name, value, _ = strings.Cut(line, ":")
	encoded, ok := strings.CutPrefix(value, ":")
	if !ok {
		return name, strings.TrimPrefix(value, " ")
	}
	plain, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil {
		tb.Fatalf("the journal has %q: %v", line, err)
	}
	return name, string(plain)
}
