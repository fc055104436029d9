package ldap_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	goldap "github.com/go-ldap/ldap/v3"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenurehq/tenure/pkg/connector/connectortest"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	"github.com/tenurehq/tenure/services/connectors/ldap"
	"github.com/tenurehq/tenure/services/connectors/ldap/ldaptest"
)

// A server that takes a lock and lets people in all the same must never be believed.
func TestALockThatKeepsNobodyOutIsNoDisable(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]ldaptest.Config{
		"the overlay has no policy":     {WithoutPolicy: true},
		"the policy says lockout FALSE": {WithoutLockout: true},
		"there is no overlay":           {WithoutPPolicy: true},
		"nobody may try a password":     {Lines: "access to attrs=userPassword by * none\naccess to * by * read"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, cfg)
			s.Add(t, "uid=ann,"+ldaptest.PeopleBase, map[string][]string{
				"objectClass": {"inetOrgPerson"}, "cn": {"Ann"}, "sn": {"A"}, "uid": {"ann"}, "userPassword": {"open sesame"},
			})
			id := only(t, s.client.Found(t, byName("ann"))).GetId()
			p := wantProblem(t, s.client, id, "p:ann", step(opDisable, ""), connectorv1.Code_CODE_PRECONDITION, "ldap.lock")
			if !strings.Contains(p.GetMessage(), "keeps") && !strings.Contains(p.GetMessage(), "ppolicy") {
				t.Errorf("it does not say what to do: %s", p.GetMessage())
			}
			if a := only(t, s.client.Found(t, byID(id))); a.GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_ENABLED {
				t.Error("the account reads as disabled: nobody would try again")
			}
			if !cfg.WithoutPPolicy { // somebody else locks her
				lock := goldap.NewModifyRequest("uid=ann,"+ldaptest.PeopleBase, nil)
				lock.Replace("pwdAccountLockedTime", []string{"000001010000Z"})
				s.Modify(t, lock)
				if a := only(t, s.client.Found(t, byID(id))); a.GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_ENABLED {
					t.Error("locked by somebody else the account reads as disabled: nobody would try whether that is so")
				}
				if listed := s.client.Listed(t)[0].GetAccount(); listed.GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_ENABLED {
					t.Errorf("it is listed as %v", listed)
				}
			}
			if cfg.Lines == "" {
				if err := s.Bind(t, "ann", "open sesame"); err != nil {
					t.Errorf("the password was touched: %v", err)
				}
			}
			checked, err := s.client.Check(t.Context(), &connectorv1.CheckRequest{})
			if err != nil || len(checked.GetProblems()) != 1 || checked.GetProblems()[0].GetReason() != "ldap.lock" {
				t.Errorf("Check: %v, %v", checked, err)
			}
			if left := s.Search(t, "(cn=tenure-lock-probe-*)"); len(left) > 0 {
				t.Errorf("a probe was left: %v", left[0].DN)
			}
		})
	}
}

func TestCheckSaysWhichDirectoryAndWhatIsMissing(t *testing.T) {
	t.Parallel()
	s := start(t, ldaptest.Config{})
	checked, err := s.client.Check(t.Context(), &connectorv1.CheckRequest{})
	if err != nil || len(checked.GetProblems()) != 0 || checked.GetProduct() != "OpenLDAP" || !strings.HasPrefix(checked.GetTargetIdentity(), "ldap:") {
		t.Errorf("%v, %v", checked, err)
	}
	cfg := s.config(t)
	cfg.PeopleBase, cfg.GroupsBase = "ou=nowhere,"+ldaptest.Base, "ou=nothing,"+ldaptest.Base
	lost := open(t, cfg)
	checked, err = lost.Check(t.Context(), &connectorv1.CheckRequest{})
	if err != nil || len(checked.GetProblems()) != 2 {
		t.Errorf("%v, %v", checked, err)
	}
	wantProblem(t, lost, "", "p:lost", named("lost"), connectorv1.Code_CODE_NOT_FOUND, "ldap.32")
	wrong := s.config(t)
	wrong.PasswordFile = file(t, "canary-secret")
	away := s.config(t)
	away.URL = "ldap://127.0.0.1:1"
	for code, cfg := range map[connectorv1.Code]ldap.Config{
		connectorv1.Code_CODE_AUTH: wrong, connectorv1.Code_CODE_TARGET_UNAVAILABLE: away,
	} {
		client := open(t, cfg)
		p := wantFailure(t, client, code)
		if strings.Contains(p.String(), "canary") || p.GetScope() != connectorv1.Scope_SCOPE_INSTANCE {
			t.Errorf("%v", p)
		}
	}
}

// wantFailure creates an account, which fails for this reason.
func wantFailure(t *testing.T, client connectortest.Client, code connectorv1.Code) *connectorv1.Problem {
	t.Helper()
	p := client.Want(t, "", "p:x", "F", named("x")).GetResults()[0].GetProblem()
	if p.GetCode() != code {
		t.Errorf("%v, want %s", p, code)
	}
	return p
}

func TestProbesOfKilledProcessesAreSwept(t *testing.T) {
	t.Parallel()
	s := start(t, ldaptest.Config{})
	c := s.admin(t)
	for name, made := range map[string]string{"OLD": "20260101000000Z", "NEW": ""} {
		relax := goldap.NewControlString("1.3.6.1.4.1.4203.666.5.12", true, "") // the administrator may set what only the server does
		entry := goldap.NewAddRequest("cn=tenure-lock-probe-"+name+","+ldaptest.PeopleBase, []goldap.Control{relax})
		entry.Attribute("objectClass", []string{"organizationalRole", "simpleSecurityObject"})
		entry.Attribute("cn", []string{"tenure-lock-probe-" + name})
		entry.Attribute("userPassword", []string{"x"})
		if made != "" {
			entry.Attribute("createTimestamp", []string{made})
		}
		if err := c.Add(entry); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.client.Check(t.Context(), &connectorv1.CheckRequest{}); err != nil {
		t.Fatal(err)
	}
	if left := s.Search(t, "(cn=tenure-lock-probe-*)", "cn"); len(left) != 1 || left[0].GetAttributeValue("cn") != "tenure-lock-probe-NEW" {
		t.Errorf("%v are left, want that of another process, under way", left)
	}
}

// Without the overlays nobody but the connector cleans up, and a namesake of somebody who left must not inherit anything.
func TestWithoutRefintGroupsFollowAllTheSame(t *testing.T) {
	t.Parallel()
	s := start(t, ldaptest.Config{WithoutRefint: true})
	s.AddGroups(t, "staff", "admins")
	id := account(t, s.client, "ann")
	s.client.Want(t, id, "p:ann", "CC", step(opGrant, group("staff")), set(opUpdate, map[string]string{"uid": "beth"}))
	if a := only(t, s.client.Found(t, byID(id))); len(a.GetGrants()) != 1 {
		t.Errorf("renamed, and no member any more: %v", a)
	}
	s.client.Want(t, id, "p:ann", "C", step(opDelete, ""))
	stale := goldap.NewModifyRequest(group("admins"), nil)
	stale.Add("member", []string{"uid=beth," + ldaptest.PeopleBase})
	s.Modify(t, stale)
	namesake := s.client.Want(t, "", "p:beth", "C", named("beth"))
	if got := namesake.GetObserved().GetGrants(); len(got) != 0 {
		t.Errorf("a new account begins with %v", got)
	}
	if got := s.Search(t, "(cn=staff)", "member")[0].GetAttributeValues("member"); !slices.Equal(got, []string{s.EmptyGroupMember()}) {
		t.Errorf("the group still has %v", got)
	}

	// Nor where the answer to the creation is lost: who is found then is not made, and nobody would look again.
	s.client.Want(t, namesake.GetAccountId(), "p:beth", "C", step(opDelete, ""))
	s.Modify(t, stale)
	way := pass(t, s.Address())
	cfg := s.config(t)
	cfg.URL = "ldap://" + way.address
	client := open(t, cfg)
	client.Found(t, byName("beth")) // it is connected
	way.lose(6, 1)                  // nobody has the marker, the name or the DN; a group that names it, and that it does no more
	if got := applySoon(t, client, "", "p:beth again", named("beth")); outcomes(got) != "?" {
		t.Fatalf("%v, want UNKNOWN: it was sent", got.GetResults())
	}
	again := s.client.Want(t, "", "p:beth again", "U", named("beth"))
	if got := again.GetObserved().GetGrants(); len(got) != 0 {
		t.Errorf("a new account whose creation was not answered begins with %v", got)
	}
}

func TestAListingIsPagedAndEqualsItsReads(t *testing.T) {
	t.Parallel()
	s := start(t, ldaptest.Config{Lines: "limits dn.exact=\"cn=reader,dc=acme,dc=example\" size.soft=500 size.hard=500 size.pr=100 size.prtotal=unlimited"})
	const people = 1234
	members := []string{s.EmptyGroupMember(), "uid=gone," + ldaptest.PeopleBase}
	fill(t, s, people, func(n int) { members = append(members, fmt.Sprintf("UID=p%d, %s", n, ldaptest.PeopleBase)) })
	s.Add(t, group("all"), map[string][]string{"objectClass": {"groupOfNames"}, "cn": {"all"}, "member": members})
	s.Add(t, "cn=reader,"+ldaptest.Base, map[string][]string{
		"objectClass": {"organizationalRole", "simpleSecurityObject"}, "cn": {"reader"}, "userPassword": {"reads only"},
	})
	cfg := s.config(t)
	cfg.PageSize, cfg.BindDN, cfg.PasswordFile = 100, "cn=reader,"+ldaptest.Base, file(t, "reads only")
	client := open(t, cfg)
	accounts, member := map[string]*connectorv1.Account{}, map[string]bool{}
	for _, item := range client.Listed(t) {
		if a := item.GetAccount(); a != nil {
			accounts[a.GetId()] = a
		}
		if m := item.GetMembership(); m != nil {
			if m.GetEntitlementId() != group("all") || member[m.GetAccountId()] {
				t.Errorf("%v", m)
			}
			member[m.GetAccountId()] = true
		}
	}
	if len(accounts) != people || len(member) != people {
		t.Fatalf("%d accounts and %d members, want %d", len(accounts), len(member), people)
	}
	for id, a := range accounts {
		if got := only(t, client.Found(t, byID(id))); got.GetName() != a.GetName() || len(got.GetGrants()) != 1 {
			t.Errorf("listed %v, read %v", a, got)
		}
		break // one of them will do
	}
	cfg.PageSize = 0 // 500 are more than this server gives at once
	if _, end := open(t, cfg).Listing(t); end.GetComplete() || end.GetProblem().GetReason() != "ldap.page_size" {
		t.Errorf("a listing that was cut off ends with %v", end)
	}
}

// What is not here cannot be seen, and so nothing is said of who is not there.
func TestAPartAtAnotherServerIsSaidAndNotOverlooked(t *testing.T) {
	t.Parallel()
	s := start(t, ldaptest.Config{})
	account(t, s.client, "ann")
	s.Add(t, "ou=branch,"+ldaptest.PeopleBase, map[string][]string{
		"objectClass": {"referral", "extensibleObject"}, "ou": {"branch"}, "ref": {"ldap://127.0.0.1:1/ou=branch," + ldaptest.PeopleBase},
	})
	checked, err := s.client.Check(t.Context(), &connectorv1.CheckRequest{})
	if err != nil || len(checked.GetProblems()) != 1 || checked.GetProblems()[0].GetCode() != connectorv1.Code_CODE_INCONSISTENT {
		t.Errorf("Check: %v, %v", checked, err)
	}
	wantFailure(t, s.client, connectorv1.Code_CODE_INCONSISTENT)
	if got, err := s.client.Read(t.Context(), byName("ann")); err != nil || got.GetProblem().GetCode() != connectorv1.Code_CODE_INCONSISTENT {
		t.Errorf("a read says %v, %v", got, err)
	}
	if _, end := s.client.Listing(t); end.GetComplete() {
		t.Error("the listing counts as complete")
	}
}

// admin is the administrator's own connection.
func (s server) admin(t *testing.T) *goldap.Conn {
	t.Helper()
	c, err := goldap.DialURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Bind(s.AdminDN(), s.AdminPassword()); err != nil {
		t.Fatal(err)
	}
	return c
}

// fill makes so many people on one connection.
func fill(t *testing.T, s server, people int, each func(n int)) {
	t.Helper()
	c := s.admin(t)
	for n := range people {
		name := fmt.Sprintf("p%d", n)
		entry := goldap.NewAddRequest("uid="+name+","+ldaptest.PeopleBase, nil)
		entry.Attribute("objectClass", []string{"inetOrgPerson"})
		for _, attribute := range []string{"uid", "cn", "sn"} {
			entry.Attribute(attribute, []string{name})
		}
		if err := c.Add(entry); err != nil {
			t.Fatal(err)
		}
		each(n)
	}
}

func TestEncryptedBothWays(t *testing.T) {
	t.Parallel()
	certificate, key := selfSigned(t)
	s := start(t, ldaptest.Config{CertFile: certificate, KeyFile: key})
	for name, c := range map[string]struct {
		change func(*ldap.Config)
		reason string // of the failure; empty: none
	}{
		"LDAPS":                     {func(c *ldap.Config) { c.URL, c.CAFile = s.SecureURL(), certificate }, ""},
		"StartTLS":                  {func(c *ldap.Config) { c.StartTLS, c.CAFile = true, certificate }, ""},
		"LDAPS of a stranger":       {func(c *ldap.Config) { c.URL = s.SecureURL() }, "ldap.tls"},
		"StartTLS with a stranger":  {func(c *ldap.Config) { c.StartTLS = true }, "ldap.tls"},
		"LDAPS where LDAP is known": {func(c *ldap.Config) { c.URL = "ldaps://" + s.Address() }, "ldap.tls"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := s.config(t)
			c.change(&cfg)
			client := open(t, cfg)
			login := strings.ReplaceAll(name, " ", "_")
			if c.reason != "" {
				got := client.Want(t, "", marker(login), "F", named(login))
				if p := got.GetResults()[0].GetProblem(); p.GetReason() != c.reason || p.GetScope() != connectorv1.Scope_SCOPE_INSTANCE {
					t.Errorf("%v, want %s", p, c.reason)
				}
				return
			}
			id := account(t, client, login)
			client.Want(t, id, marker(login), "CCU", client.Rotation(t, "password", "secret"), step(opDisable, ""), step(opDisable, ""))
		})
	}
}

func selfSigned(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ldap"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return file(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		file(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
}

// What was sent and not answered may have been done; what was never sent was not.
func TestALostReplyIsUnknownAndASilentServerEndsInTime(t *testing.T) {
	t.Parallel()
	s := start(t, ldaptest.Config{})
	id := account(t, s.client, "ann")
	way := pass(t, s.Address())
	cfg := s.config(t)
	cfg.URL = "ldap://" + way.address
	client := open(t, cfg)
	client.Want(t, id, "p:ann", "U", step(opEnable, ""))
	soon := func(st *connectorv1.Step) *connectorv1.ApplyResponse { return applySoon(t, client, id, "p:ann", st) }
	way.lose(2, 1) // the entry and the end of the search for it come; the answer to the change does not
	got := soon(set(opUpdate, map[string]string{"title": "Dr"}))
	if outcomes(got) != "?" || got.GetResults()[0].GetProblem().GetCode() != connectorv1.Code_CODE_OUTCOME_UNKNOWN {
		t.Errorf("%v, want UNKNOWN: it was sent, and was done", got.GetResults())
	}
	client.Want(t, id, "p:ann", "U", set(opUpdate, map[string]string{"title": "Dr"}))
	way.lose(0, 2)
	if got := soon(step(opDisable, "")); outcomes(got) != "F" {
		t.Errorf("%v, want FAILED: nothing but a question was sent", got.GetResults())
	}
}

// applySoon runs a step that is given up when it is not answered at once.
func applySoon(t *testing.T, client connectortest.Client, id, mark string, st *connectorv1.Step) *connectorv1.ApplyResponse {
	t.Helper()
	got, err := client.Apply(t.Context(), &connectorv1.ApplyRequest{
		AccountId: id, Marker: mark, NotAfter: timestamppb.New(time.Now().Add(time.Second)), Steps: []*connectorv1.Step{st},
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// Whoever answers may send for ever: before StartTLS it may be anybody.
func TestAnAnswerWithoutEndIsNotRead(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			// Only once it was asked: a client that is answered before it asks finds its connection closed instead.
			_, _ = conn.Read(make([]byte, 1))
			_, _ = conn.Write([]byte{0x30, 0x84, 0x40, 0, 0, 0}) // a message of a gigabyte, of which nothing follows
		}
	}()
	client := open(t, ldap.Config{
		URL: "ldap://" + listener.Addr().String(), StartTLS: true, BindDN: "cn=x", PasswordFile: file(t, "secret"),
		PeopleBase: ldaptest.PeopleBase, GroupsBase: ldaptest.GroupsBase,
	})
	got, err := client.Read(t.Context(), byName("ann"))
	if err != nil || got.GetProblem().GetReason() != "ldap.tls" || !strings.Contains(got.GetProblem().GetMessage(), "maximum") {
		t.Errorf("%v, %v", got, err)
	}
}

// way passes a connector's connections on, and loses some of what is answered.
type way struct {
	address string

	mu         sync.Mutex
	pass, lost int // answers still to be passed on, and then to be lost
}

func (w *way) lose(behind, answers int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pass, w.lost = behind, answers
}

// passes says whether the next answer does.
func (w *way) passes() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.lost > 0 && w.pass > 0:
		w.pass--
	case w.lost > 0:
		w.lost--
		return false
	}
	return true
}

func pass(t *testing.T, to string) *way {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &way{address: listener.Addr().String()}
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := new(net.Dialer).DialContext(t.Context(), "tcp", to)
			if err != nil {
				_ = client.Close()
				return
			}
			passing.Go(func() {
				_, _ = io.Copy(server, client)
				_ = server.Close()
			})
			passing.Go(func() {
				defer client.Close()
				for {
					answer, err := ber.ReadPacket(server)
					if err != nil {
						return
					}
					if w.passes() {
						_, _ = client.Write(answer.Bytes())
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		passing.Wait()
	})
	return w
}
