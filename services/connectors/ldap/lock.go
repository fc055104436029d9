package ldap

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/tenurehq/tenure/pkg/connector"
)

const (
	// proofLasts is how long a probe speaks for the policy that it was made under.
	proofLasts = time.Minute
	// leftOver is the age from which on a probe is nobody's any more: its process was killed.
	leftOver = 10 * time.Minute

	// noLock is the reason that a lock keeps nobody out.
	noLock = "ldap.lock"

	probeName = "tenure-lock-probe-"
	isProbe   = "(&(objectClass=simpleSecurityObject)(cn=" + probeName + "*)"
)

// proofs are the policies under which a lock was shown to keep people out, and when.
type proofs struct {
	mu sync.Mutex // held during a probe: one is enough for all who wait for it
	at map[string]time.Time
}

// prove makes sure that a lock keeps out those who are under this policy, before anybody is told so. Without the overlay
// ppolicy, without a policy, or with one that does not say pwdLockout TRUE, the server takes the lock and lets them in.
//
// Nobody's password is known nor may be touched. So it is tried on an entry made for that: not a person, among the accounts,
// under the same policy, with a password of its own, which opens before the lock and must not after it. It is gone
// before the answer.
func (d *Directory) prove(ctx context.Context, c *conn, policy string) error {
	d.proofs.mu.Lock()
	defer d.proofs.mu.Unlock()
	if at, ok := d.proofs.at[same(policy)]; ok && time.Since(at) < proofLasts {
		return nil
	}
	switch p, err := d.probe(ctx, c, policy); {
	case err != nil:
		return err
	case p != nil:
		return p
	}
	if d.proofs.at == nil {
		d.proofs.at = map[string]time.Time{}
	}
	d.proofs.at[same(policy)] = time.Now()
	return nil
}

// status is whether somebody can get in. A lock that keeps nobody out disables nobody, whoever set it and however long ago.
func (d *Directory) status(ctx context.Context, c *conn, p person) (connector.Status, error) {
	if !p.locked {
		return connector.Enabled, nil
	}
	err := d.prove(ctx, c, p.policy)
	if why := (*connector.Problem)(nil); errors.As(err, &why) && why.Reason == noLock {
		return connector.Enabled, nil
	}
	return connector.Disabled, err
}

// probe says why a lock would not keep people out; nil when it does. An error means that it could not be found out.
func (d *Directory) probe(ctx context.Context, c *conn, policy string) (ineffective *connector.Problem, err error) {
	password := rand.Text() + "-a0" // what policies ask of passwords
	name := probeName + rand.Text()
	dn := "cn=" + name + "," + d.cfg.PeopleBase
	entry := ldap.NewAddRequest(dn, nil)
	entry.Attribute("objectClass", []string{"organizationalRole", "simpleSecurityObject"})
	entry.Attribute(attrCN, []string{name})
	entry.Attribute("description", []string{"Tenure tries here whether a lock keeps people out"})
	entry.Attribute(attrPassword, []string{password})
	if policy != "" {
		entry.Attribute(attrPolicy, []string{policy})
	}
	if err := c.Add(entry); err != nil {
		return nil, unproven(inTime(ctx, err), "an entry to try it on could not be made")
	}
	defer func() {
		if left := c.Del(ldap.NewDelRequest(dn, nil)); left != nil && err == nil && ineffective == nil {
			err = unproven(inTime(ctx, left), "the entry that it was tried on could not be removed")
		}
	}()
	switch opens, err := d.opens(ctx, dn, password); {
	case err != nil:
		return nil, err
	case !opens:
		return connector.Precondition(noLock, "whether a lock keeps people out cannot be told: an entry below people_base with a "+
			"right password cannot bind even without one (an access rule that gives no auth on userPassword?)"), nil
	}
	lock := ldap.NewModifyRequest(dn, nil)
	lock.Replace(attrLocked, []string{lockedForEver})
	switch err := c.Modify(lock); {
	case is(err, ldap.LDAPResultUndefinedAttributeType, ldap.LDAPResultNoSuchAttribute):
		return connector.Precondition(noLock, "the server knows no locks: load the overlay ppolicy, with a default policy that says pwdLockout TRUE"), nil
	case err != nil:
		return nil, unproven(inTime(ctx, err), "a lock could not be set")
	}
	switch opens, err := d.opens(ctx, dn, password); {
	case err != nil:
		return nil, err
	case opens && policy != "":
		return connector.Precondition(noLock, "a lock keeps nobody out under the policy %s: it needs pwdLockout TRUE", spell(policy)), nil
	case opens:
		return connector.Precondition(noLock, "a lock keeps nobody out: the overlay ppolicy needs a default policy that says pwdLockout TRUE"), nil
	}
	return nil, nil
}

// unproven explains why a lock could not be tried. The account was not touched, whatever became of the probe.
func unproven(err error, what string) error {
	if e, ok := said(err); ok {
		if p := fromServer(e); p != nil {
			p.Message = "whether a lock keeps people out cannot be told: " + what + ": " + p.Message
			return p
		}
	}
	return notDone(err)
}

// opens says whether a password lets in, on a connection of its own.
func (d *Directory) opens(ctx context.Context, dn, password string) (bool, error) {
	c, err := d.dial(ctx)
	if err != nil {
		return false, err
	}
	defer c.Close()
	defer c.until(ctx)()
	switch err := c.Bind(dn, password); {
	case is(err, ldap.LDAPResultInvalidCredentials):
		return false, nil
	case err != nil:
		return false, notDone(inTime(ctx, err))
	}
	return true, nil
}

// sweep removes the probes of processes that were killed.
func (d *Directory) sweep(c *conn) error {
	old := time.Now().Add(-leftOver).UTC().Format("20060102150405Z")
	found, err := c.Search(ldap.NewSearchRequest(d.cfg.PeopleBase, ldap.ScopeSingleLevel, ldap.NeverDerefAliases, 0, 0, false,
		isProbe+"(createTimestamp<="+old+"))", []string{"1.1"}, nil))
	if err != nil {
		return err
	}
	for _, e := range found.Entries {
		if err := c.Del(ldap.NewDelRequest(e.DN, nil)); err != nil && !is(err, ldap.LDAPResultNoSuchObject) {
			return err
		}
	}
	return nil
}
