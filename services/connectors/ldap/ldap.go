// Package ldap brings an OpenLDAP directory under Tenure: an inetOrgPerson is an account, a groupOfNames an entitlement, a
// password its one credential.
//
// An account's id is its entryUUID: DNs move. Each change names the entry by its DN and asserts the entryUUID with it (RFC 4528),
// so that it never reaches another entry that took the DN's place. An account is disabled by the lock of the overlay ppolicy, which a
// server without a fitting policy takes and does not heed: so the lock is only claimed where a probe has shown that it
// keeps people out. Sessions can neither be seen nor ended in LDAP, and the connector does not pretend so.
package ldap

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/connector"
)

// Directory is the connector. It implements every interface of the SDK but SessionKiller and Poller.
type Directory struct {
	cfg       Config
	correlate string // as the attribute is spelled in Describe
	places    chan struct{}
	idle      chan *conn
	proofs    proofs
}

// Open prepares the connector. It does not contact the server.
func Open(cfg Config) (*Directory, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	d := &Directory{cfg: cfg, places: make(chan struct{}, cfg.Connections), idle: make(chan *conn, cfg.Connections)}
	for _, a := range attributes {
		if strings.EqualFold(a.Name, cfg.CorrelateBy) {
			d.correlate = a.Name
		}
	}
	return d, nil
}

// Secrets implements connector.SecretHolder.
func (d *Directory) Secrets() []string {
	// One that cannot be read was never used either.
	if secret, err := config.ReadSecret(d.cfg.PasswordFile); err == nil {
		return []string{string(secret.Reveal())}
	}
	return nil
}

// Describe implements connector.Connector.
func (d *Directory) Describe() connector.Description {
	return connector.Description{
		Type: "ldap", Version: "1", ConfigSchema: configSchema,
		CredentialKinds: []string{connector.KindPassword},
		Attributes:      attributes,
	}
}

// Check implements connector.Connector. Two bases of one server are two applications: so the identity is the people's base,
// by its entryUUID, which replicas share.
func (d *Directory) Check(ctx context.Context) (out connector.Identity, err error) {
	c, done, err := d.acquire(ctx)
	if err != nil {
		return connector.Identity{}, err
	}
	defer done(&err)
	root, err := c.Search(ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false,
		"(objectClass=*)", []string{"vendorName", "vendorVersion", "structuralObjectClass", "supportedControl"}, nil))
	switch {
	case err != nil:
		return connector.Identity{}, notDone(inTime(ctx, err))
	case len(root.Entries) != 1:
		return connector.Identity{}, connector.Denied("ldap.root_dse", "the connector may not see what the server is (the root DSE)").Instance()
	}
	out.Product = product(root.Entries[0])
	missing := func(p *connector.Problem) { out.Problems = append(out.Problems, p.Instance()) }
	if !slices.Contains(root.Entries[0].GetEqualFoldAttributeValues("supportedControl"), assertionOID) {
		missing(connector.Unsupported("ldap.assertion", "the server cannot assert what it changes (RFC 4528)"))
	}
	for _, base := range []struct{ key, dn string }{{"people_base", d.cfg.PeopleBase}, {"groups_base", d.cfg.GroupsBase}} {
		e, ok, err := c.entry(base.dn, "(objectClass=*)", attrUUID)
		switch {
		case err != nil:
			return connector.Identity{}, notDone(inTime(ctx, err))
		case !ok:
			missing(connector.NotFound("ldap."+base.key, "%s: there is no %s, or the connector may not see it", base.key, base.dn))
		case base.key == "people_base":
			out.Target = "ldap:" + e.GetEqualFoldAttributeValue(attrUUID)
		}
	}
	if len(out.Problems) > 0 {
		return out, nil
	}
	if err := errors.Join(d.whole(c, d.cfg.PeopleBase), d.whole(c, d.cfg.GroupsBase), d.sweep(c)); err != nil {
		return connector.Identity{}, notDone(inTime(ctx, err))
	}
	switch p, err := d.probe(ctx, c, ""); {
	case err != nil:
		return connector.Identity{}, err
	case p != nil:
		missing(p)
	}
	return out, nil
}

func product(root *ldap.Entry) string {
	name := root.GetEqualFoldAttributeValue("vendorName")
	if name == "" && root.GetEqualFoldAttributeValue("structuralObjectClass") == "OpenLDAProotDSE" {
		name = "OpenLDAP"
	}
	return strings.TrimSpace(name + " " + root.GetEqualFoldAttributeValue("vendorVersion"))
}
