package ldap

import (
	"context"
	"slices"

	"github.com/go-ldap/ldap/v3"

	"github.com/tenurehq/tenure/pkg/connector"
)

// search calls each for everything below base that fits, page by page.
func (d *Directory) search(c *conn, base, filter string, names []string, each func(*ldap.Entry) error) error {
	paging := ldap.NewControlPaging(uint32(d.cfg.PageSize)) //nolint:gosec // G115: at most maxPageSize
	for {
		page, err := c.Search(ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, filter, names, []ldap.Control{paging}))
		switch {
		case is(err, ldap.LDAPResultSizeLimitExceeded, ldap.LDAPResultAdminLimitExceeded):
			return connector.Precondition("ldap.page_size", "the server gives fewer entries at once than page_size, or fewer in all than there are: %v", err).Instance()
		case err != nil:
			return err
		}
		if len(page.Referrals) > 0 { // not followed: the credentials are not for whomever it names
			return connector.Inconsistent("a part of %s is at another server: name that one in url, or a base that is whole here", base)
		}
		for _, e := range page.Entries {
			if err := each(e); err != nil {
				return err
			}
		}
		next, ok := ldap.FindControl(page.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging)
		if !ok || len(next.Cookie) == 0 {
			return nil
		}
		paging.SetCookie(next.Cookie)
	}
}

// whole fails where a part of what is below base is elsewhere.
func (d *Directory) whole(c *conn, base string) error {
	return d.search(c, base, "(objectClass=referral)", []string{"1.1"}, func(*ldap.Entry) error { return nil })
}

// entry returns the one entry with this DN, if it fits.
func (c *conn) entry(dn, filter string, names ...string) (*ldap.Entry, bool, error) {
	found, err := c.Search(ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false, filter, names, nil))
	switch {
	case is(err, ldap.LDAPResultNoSuchObject, ldap.LDAPResultInvalidDNSyntax):
		return nil, false, nil
	case err != nil || len(found.Entries) == 0:
		return nil, false, err
	}
	return found.Entries[0], true, nil
}

// people returns the accounts that fit a filter and, since the directory compares more loosely than we do, which also keep says fit.
func (d *Directory) people(c *conn, filter string, keep func(person) bool) (found []person, err error) {
	err = d.search(c, d.cfg.PeopleBase, "(&"+isPerson+filter+")", d.personAttributes(), func(e *ldap.Entry) error {
		if p := d.readPerson(e); p.id != "" && keep(p) {
			found = append(found, p)
		}
		return nil
	})
	return found, err
}

func (d *Directory) byID(c *conn, id connector.AccountID) (person, bool, error) {
	if !uuid.MatchString(string(id)) {
		return person{}, false, nil
	}
	found, err := d.people(c, equals(attrUUID, string(id)), func(p person) bool { return p.id == id })
	if err != nil || len(found) == 0 {
		return person{}, false, err
	}
	return found[0], true, nil
}

func (d *Directory) byMarker(c *conn, marker string) ([]person, error) {
	return d.people(c, equals(d.cfg.MarkerAttribute, markerLine+marker), func(p person) bool { return slices.Contains(p.markers, marker) })
}

// Read implements connector.Connector.
func (d *Directory) Read(ctx context.Context, q connector.Query) (out connector.Found, err error) {
	c, done, err := d.acquire(ctx)
	if err != nil {
		return connector.Found{}, err
	}
	defer done(&err)
	out, err = d.find(ctx, c, q)
	if err != nil {
		return connector.Found{}, notDone(inTime(ctx, err))
	}
	return out, nil
}

func (d *Directory) find(ctx context.Context, c *conn, q connector.Query) (out connector.Found, err error) {
	var matches []person
	switch q.By {
	case connector.ByID:
		var p person
		var ok bool
		if p, ok, err = d.byID(c, connector.AccountID(q.Value)); ok {
			matches = append(matches, p)
		}
	case connector.ByName:
		matches, err = d.people(c, equals(attrUID, q.Value), d.has(attrUID, q.Value))
	case connector.ByCorrelationKey:
		matches, err = d.people(c, equals(d.correlate, q.Value), d.has(d.correlate, q.Value))
	case connector.ByMarker:
		matches, err = d.byMarker(c, q.Value)
	case connector.ByEntitlement:
		var g *ldap.Entry
		if g, err = d.group(c, q.Value, attrCN, attrMember); g != nil {
			e := d.entitlement(g)
			out.Entitlement = &e
			matches, err = d.members(c, g)
		}
	}
	if err != nil {
		return connector.Found{}, err
	}
	for _, p := range matches {
		status, err := d.status(ctx, c, p)
		if err != nil {
			return connector.Found{}, err
		}
		a := d.account(p, status)
		if err := d.addGrants(c, p, &a); err != nil {
			return connector.Found{}, err
		}
		if q.Credentials {
			if err := addCredentials(c, p, &a); err != nil {
				return connector.Found{}, err
			}
		}
		out.Accounts = append(out.Accounts, a)
	}
	return out, nil
}

func (d *Directory) has(name, value string) func(person) bool {
	return func(p person) bool { return slices.Contains(p.values[name], value) }
}

// addGrants asks the groups, which hold the truth; memberOf is a copy that not every server keeps.
func (d *Directory) addGrants(c *conn, p person, a *connector.Account) error {
	groups, err := d.groupsOf(c, p.dn)
	for _, g := range groups {
		a.Grants = append(a.Grants, connector.Grant{Entitlement: spell(g)})
	}
	a.GrantsComplete = err == nil
	return err
}

// groupsOf returns the DNs of the groups that name dn.
func (d *Directory) groupsOf(c *conn, dn string) (groups []string, err error) {
	err = d.search(c, d.cfg.GroupsBase, "(&"+isGroup+equals(attrMember, dn)+")", []string{"1.1"}, func(e *ldap.Entry) error {
		groups = append(groups, e.DN)
		return nil
	})
	return groups, err
}

// addCredentials asks whether there is a password, and not for it. That none is seen proves nothing: an access rule may hide it.
func addCredentials(c *conn, p person, a *connector.Account) error {
	found, err := c.Search(ldap.NewSearchRequest(p.dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, true,
		equals(attrUUID, string(p.id)), []string{attrPassword}, nil))
	if is(err, ldap.LDAPResultNoSuchObject) {
		return nil
	}
	if err != nil || len(found.Entries) == 0 || len(found.Entries[0].Attributes) == 0 {
		return err
	}
	a.Credentials = []connector.Credential{{ID: connector.KindPassword, Kind: connector.KindPassword}}
	a.CredentialsComplete = true
	return nil
}

// group returns the group with this DN, however it is spelled; nil when there is none below groups_base.
func (d *Directory) group(c *conn, dn string, names ...string) (*ldap.Entry, error) {
	if _, err := parseDN(dn); err != nil || !below(dn, d.cfg.GroupsBase) {
		return nil, nil //nolint:nilerr // what is no DN names no group
	}
	e, ok, err := c.entry(dn, isGroup, names...)
	if err != nil || !ok {
		return nil, err
	}
	return e, nil
}

func (d *Directory) entitlement(g *ldap.Entry) connector.Entitlement {
	e := connector.Entitlement{ID: spell(g.DN), Type: "group", DisplayName: g.GetEqualFoldAttributeValue(attrCN), Assignable: true}
	if d.cfg.EmptyGroupMember == "" {
		e.MinMembers = 1
	}
	return e
}

func (d *Directory) members(c *conn, g *ldap.Entry) (found []person, err error) {
	for _, dn := range g.GetEqualFoldAttributeValues(attrMember) {
		if !below(dn, d.cfg.PeopleBase) {
			continue
		}
		e, ok, err := c.entry(dn, isPerson, d.personAttributes()...)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, d.readPerson(e))
		}
	}
	return found, nil
}

// List implements connector.Lister. LDAP has no snapshots: what changes meanwhile is in it or not.
func (d *Directory) List(ctx context.Context, cursor string, out *connector.Listing) (err error) {
	if cursor != "" {
		return connector.CursorExpired("entries are listed from the beginning only")
	}
	c, done, err := d.acquire(ctx)
	if err != nil {
		return err
	}
	defer done(&err)
	ids := map[string]connector.AccountID{}
	var locked []person // come last: nothing is tried in the midst of a search
	err = d.search(c, d.cfg.PeopleBase, isPerson, d.personAttributes(), func(e *ldap.Entry) error {
		p := d.readPerson(e)
		if p.id == "" {
			return connector.Inconsistent("%s shows no entryUUID", spell(p.dn))
		}
		ids[same(p.dn)] = p.id
		if p.locked {
			locked = append(locked, p)
			return nil
		}
		return out.Account(d.account(p, connector.Enabled))
	})
	if err == nil {
		err = d.listLocked(ctx, c, locked, out)
	}
	if err == nil {
		err = d.search(c, d.cfg.GroupsBase, isGroup, []string{attrCN, attrMember}, func(g *ldap.Entry) error { return d.listGroup(c, g, ids, out) })
	}
	if err != nil {
		return notDone(inTime(ctx, err))
	}
	return nil
}

// listLocked sends those who are locked, as enabled if that keeps them from nothing.
func (d *Directory) listLocked(ctx context.Context, c *conn, locked []person, out *connector.Listing) error {
	for _, p := range locked {
		status, err := d.status(ctx, c, p)
		if err == nil {
			err = out.Account(d.account(p, status))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *Directory) listGroup(c *conn, g *ldap.Entry, ids map[string]connector.AccountID, out *connector.Listing) error {
	e := d.entitlement(g)
	if err := out.Entitlement(e); err != nil {
		return err
	}
	for _, dn := range g.GetEqualFoldAttributeValues(attrMember) {
		id, ok := ids[same(dn)]
		if !ok && below(dn, d.cfg.PeopleBase) {
			// Renamed since it was listed, or spelled as only the server can compare.
			found, there, err := c.entry(dn, isPerson, attrUUID)
			if err != nil {
				return err
			}
			if there {
				id, ok = connector.AccountID(found.GetEqualFoldAttributeValue(attrUUID)), true
				ids[same(dn)] = id
			}
		}
		if ok {
			if err := out.Membership(connector.Membership{Account: id, Entitlement: e.ID}); err != nil {
				return err
			}
		}
	}
	return nil
}
