package ldap

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"github.com/tenurehq/tenure/pkg/connector"
)

// change does what has to be done with an account. Its errors are those of what was sent to change something.
type change func(c *conn, p person) (connector.Change, error)

// mutate finds the account, makes sure that it may be touched and changes it.
func (d *Directory) mutate(ctx context.Context, ref connector.Ref, do change) (made connector.Change, err error) {
	c, done, err := d.acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer done(&err)
	p, ok, err := d.byID(c, ref.ID)
	switch {
	case err != nil:
		return 0, notDone(inTime(ctx, err))
	case !ok:
		return 0, connector.NoAccount(ref.ID)
	case ref.IfVersion != "" && ref.IfVersion != p.csn:
		return 0, connector.Conflict("ldap.version", "%s was changed since it was read", spell(p.dn))
	}
	if problem := d.untouchable(p, ref); problem != nil {
		return 0, problem
	}
	made, err = do(c, p)
	if err != nil {
		return 0, maybeDone(inTime(ctx, err))
	}
	return made, nil
}

// still is true of the entry only while it is the account, and unchanged where that was asked for.
func still(p person, version string) ([]ldap.Control, error) {
	filter := equals(attrUUID, string(p.id))
	if version != "" {
		filter = "(&" + filter + equals(attrCSN, version) + ")"
	}
	return assert(filter)
}

// modify sends changes of the account's entry; none is Unchanged.
func modify(c *conn, p person, version string, changes ...ldap.Change) (connector.Change, error) {
	if len(changes) == 0 {
		return connector.Unchanged, nil
	}
	controls, err := still(p, version)
	if err != nil {
		return 0, err
	}
	if err := c.Modify(&ldap.ModifyRequest{DN: p.dn, Changes: changes, Controls: controls}); err != nil {
		return 0, gone(p, err)
	}
	return connector.Changed, nil
}

func changeOf(operation uint, name string, values ...string) ldap.Change {
	return ldap.Change{Operation: operation, Modification: ldap.PartialAttribute{Type: name, Vals: values}}
}

// gone turns a DN that leads nowhere any more into what it means for the account.
func gone(p person, err error) error {
	if is(err, ldap.LDAPResultNoSuchObject) {
		return connector.Conflict("ldap.renamed", "%s was renamed or removed at this moment", spell(p.dn))
	}
	return err
}

// Create implements connector.Creator. The entry is locked until it is enabled, and has no password.
func (d *Directory) Create(ctx context.Context, account connector.NewAccount) (id connector.AccountID, made connector.Change, err error) {
	if err := errors.Join(checkMarker(account.Marker), checkAttributes(account.Attributes, true)); err != nil {
		return "", 0, err
	}
	c, done, err := d.acquire(ctx)
	if err != nil {
		return "", 0, err
	}
	defer done(&err)
	found, err := d.byMarker(c, account.Marker)
	switch {
	case err != nil:
		return "", 0, notDone(inTime(ctx, err))
	case len(found) > 0:
		return found[0].id, connector.Unchanged, nil
	}
	login := account.Attributes[attrUID]
	taken, err := d.people(c, equals(attrUID, login), func(person) bool { return true })
	switch {
	case err != nil:
		return "", 0, notDone(inTime(ctx, err))
	case len(taken) > 0:
		return d.taken(taken[0], account.Marker)
	}
	entry := ldap.NewAddRequest("uid="+escape(login)+","+d.cfg.PeopleBase, nil)
	entry.Attribute("objectClass", []string{"top", "person", "organizationalPerson", "inetOrgPerson"})
	for _, name := range slices.Sorted(maps.Keys(account.Attributes)) {
		if value := account.Attributes[name]; value != "" {
			entry.Attribute(name, []string{value})
		}
	}
	entry.Attribute(d.cfg.MarkerAttribute, []string{markerLine + account.Marker})
	entry.Attribute(attrLocked, []string{lockedForEver})
	// What still names this DN means somebody of before. It goes first: whoever finds the entry made does not look again.
	if err := d.vacate(c, entry.DN); err != nil {
		return "", 0, maybeDone(inTime(ctx, err))
	}
	added := c.Add(entry)
	if added != nil && !is(added, ldap.LDAPResultEntryAlreadyExists) {
		return "", 0, maybeDone(inTime(ctx, missingBase(added, d.cfg.PeopleBase)))
	}
	e, ok, err := c.entry(entry.DN, "(objectClass=*)", d.personAttributes()...)
	switch {
	case err != nil:
		return "", 0, maybeDone(inTime(ctx, err))
	case !ok:
		return "", 0, connector.Unknown("ldap.32", "the entry that was made cannot be read back")
	}
	p := d.readPerson(e)
	if added != nil {
		return d.taken(p, account.Marker)
	}
	return p.id, connector.Changed, nil
}

// taken says whose a name is that could not be had: a repetition of ours that was faster has made just what we want.
func (d *Directory) taken(by person, marker string) (connector.AccountID, connector.Change, error) {
	if slices.Contains(by.markers, marker) {
		return by.id, connector.Unchanged, nil
	}
	return "", 0, connector.AlreadyExists(by.id, "ldap.68", "there is an account %s", spell(by.dn))
}

func missingBase(err error, base string) error {
	if is(err, ldap.LDAPResultNoSuchObject) {
		return connector.NotFound("ldap.people_base", "people_base: there is no %s", base)
	}
	return err
}

// free says whose a login is that somebody else than self has.
func (d *Directory) free(c *conn, login string, self connector.AccountID) error {
	found, err := d.people(c, equals(attrUID, login), func(p person) bool { return p.id != self })
	if err == nil && len(found) > 0 {
		_, _, err = d.taken(found[0], "")
	}
	return err
}

// Update implements connector.Updater. What names the entry is changed by renaming it.
func (d *Directory) Update(ctx context.Context, ref connector.Ref, set map[string]string, empty []string) (connector.Change, error) {
	set = maps.Clone(set)
	if set == nil {
		set = map[string]string{}
	}
	for _, name := range empty {
		set[name] = ""
	}
	if err := errors.Join(checkMarker(ref.Marker), checkAttributes(set, false)); err != nil {
		return 0, err
	}
	return d.mutate(ctx, ref, func(c *conn, p person) (connector.Change, error) {
		if login, ok := set[attrUID]; ok && !slices.Contains(p.values[attrUID], login) {
			if err := d.free(c, login, p.id); err != nil {
				return 0, notDone(inTime(ctx, err))
			}
		}
		version := ref.IfVersion
		moved, renames, err := d.rename(c, p, version, set)
		if err != nil {
			return 0, err
		}
		if renames {
			p, version = moved, ""
		}
		made, err := modify(c, p, version, d.changes(p, ref, set)...)
		if err == nil && renames {
			made = connector.Changed
		}
		return made, err
	})
}

// changes are those that set asks for and that are not so yet.
func (d *Directory) changes(p person, ref connector.Ref, set map[string]string) (out []ldap.Change) {
	for _, name := range slices.Sorted(maps.Keys(set)) {
		switch value, has := set[name], p.values[name]; {
		case value == "" && len(has) > 0:
			out = append(out, changeOf(ldap.ReplaceAttribute, name))
		case value != "" && !slices.Equal(has, []string{value}):
			out = append(out, changeOf(ldap.ReplaceAttribute, name, value))
		}
	}
	if len(p.markers) == 0 && ref.Marker != "" {
		out = append(out, changeOf(ldap.AddAttribute, d.cfg.MarkerAttribute, markerLine+ref.Marker))
	}
	return out
}

// rename gives the entry the name that set says, and tells the groups, where the overlay refint did not.
func (d *Directory) rename(c *conn, p person, version string, set map[string]string) (moved person, is bool, err error) {
	rdn, changes, err := renamed(p.dn, set)
	if err != nil || !changes {
		return p, false, err
	}
	if strings.Contains(rdn, "=+") || strings.HasSuffix(rdn, "=") {
		return p, false, connector.Invalid(nil, "ldap.naming", "an attribute that names %s cannot be emptied", spell(p.dn))
	}
	controls, err := still(p, version)
	if err != nil {
		return p, false, err
	}
	if err := c.ModifyDN(ldap.NewModifyDNWithControlsRequest(p.dn, rdn, true, "", controls)); err != nil {
		return p, false, gone(p, err)
	}
	moved, ok, err := d.byID(c, p.id)
	switch {
	case err != nil:
		return p, true, err
	case !ok:
		return p, true, connector.Unknown("ldap.32", "the entry that was renamed cannot be read back")
	case same(moved.dn) == same(p.dn):
		return moved, true, nil
	}
	groups, err := d.groupsOf(c, p.dn)
	if err != nil {
		return p, true, err
	}
	for _, g := range groups {
		// Each for itself: refint does the same behind its answer.
		for _, one := range []ldap.Change{changeOf(ldap.AddAttribute, attrMember, moved.dn), changeOf(ldap.DeleteAttribute, attrMember, p.dn)} {
			if _, err := membership(d.member(c, g, one)); err != nil {
				return p, true, err
			}
		}
	}
	return moved, true, nil
}

// checkAttributes refuses what the directory would refuse late, or store as something else.
func checkAttributes(set map[string]string, whole bool) error {
	for _, a := range attributes {
		value, ok := set[a.Name]
		if a.Required && value == "" && (ok || whole) {
			return connector.Invalid([]string{a.Name}, "ldap.required", "%s is required", a.Name)
		}
		if strings.ContainsRune(value, 0) {
			return connector.Invalid([]string{a.Name}, "ldap.text", "%s is not text", a.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if !slices.ContainsFunc(attributes, func(a connector.Attribute) bool { return a.Name == name }) {
			return connector.Invalid([]string{name}, "ldap.attribute", "an account has no attribute %q", name)
		}
	}
	return nil
}

func checkMarker(marker string) error {
	if strings.ContainsAny(marker, "\n\r\x00") {
		return connector.Invalid(nil, "ldap.marker", "a marker is one line")
	}
	return nil
}

// Enable implements connector.Enabler. A lock of the server's own, after wrong passwords, stays: it is not Tenure's.
func (d *Directory) Enable(ctx context.Context, ref connector.Ref) (connector.Change, error) {
	return d.mutate(ctx, ref, func(c *conn, p person) (connector.Change, error) {
		if !p.locked {
			return connector.Unchanged, nil
		}
		made, err := modify(c, p, ref.IfVersion, changeOf(ldap.DeleteAttribute, attrLocked, lockedForEver))
		if is(err, ldap.LDAPResultNoSuchAttribute) {
			return connector.Unchanged, nil
		}
		return made, err
	})
}

// Disable implements connector.Enabler. It claims nothing, and locks nothing, where a lock would not keep anybody out.
func (d *Directory) Disable(ctx context.Context, ref connector.Ref) (connector.Change, error) {
	return d.mutate(ctx, ref, func(c *conn, p person) (connector.Change, error) {
		if err := d.prove(ctx, c, p.policy); err != nil {
			return 0, err
		}
		if p.locked {
			return connector.Unchanged, nil
		}
		return modify(c, p, ref.IfVersion, changeOf(ldap.ReplaceAttribute, attrLocked, lockedForEver))
	})
}

// Delete implements connector.Deleter. The groups forget the entry first: who gets its name later must not be in them.
func (d *Directory) Delete(ctx context.Context, ref connector.Ref) (connector.Change, error) {
	return d.mutate(ctx, ref, func(c *conn, p person) (connector.Change, error) {
		controls, err := still(p, ref.IfVersion)
		if err != nil {
			return 0, err
		}
		if err := d.forget(c, p.dn); err != nil {
			return 0, err
		}
		if err := c.Del(ldap.NewDelRequest(p.dn, controls)); err != nil {
			return 0, gone(p, err)
		}
		return connector.Changed, nil
	})
}

// RevokeCredential implements connector.CredentialManager: without a password, no bind. The overlay ppolicy takes a
// lock away with the password, so it is set again in the same change.
func (d *Directory) RevokeCredential(ctx context.Context, ref connector.Ref, target string) (connector.Change, connector.Count, error) {
	if target != "" && target != connector.KindPassword {
		return connector.Unchanged, connector.Counted(0), nil // an entry has no other kind
	}
	made, err := d.mutate(ctx, ref, func(c *conn, p person) (connector.Change, error) {
		changes := []ldap.Change{changeOf(ldap.DeleteAttribute, attrPassword)}
		if p.locked {
			// Only one that says itself what becomes of the lock is left alone by ppolicy, and a replacement says nothing to it.
			changes = append(changes, changeOf(ldap.DeleteAttribute, attrLocked), changeOf(ldap.AddAttribute, attrLocked, lockedForEver))
		}
		made, err := modify(c, p, ref.IfVersion, changes...)
		if is(err, ldap.LDAPResultNoSuchAttribute) {
			return connector.Unchanged, nil
		}
		return made, err
	})
	if err != nil {
		return 0, connector.Count{}, err
	}
	return made, connector.Counted(0), nil
}

// RotateCredential implements connector.CredentialRotator. The server hashes the password as it is told to (RFC 3062).
func (d *Directory) RotateCredential(ctx context.Context, ref connector.Ref, rotation connector.Rotation) (connector.Rotated, error) {
	switch {
	case rotation.Target != connector.KindPassword:
		return connector.Rotated{}, connector.NotFound("ldap.credential", "an entry has only a password")
	case rotation.Secret == "":
		return connector.Rotated{}, connector.Unsupported("ldap.secret", "the directory makes no passwords worth the name: secret_in is needed")
	case rotation.Overlap > 0:
		return connector.Rotated{}, connector.Unsupported("ldap.overlap", "an entry has one password: the old one ends at once")
	}
	_, err := d.mutate(ctx, ref, func(c *conn, p person) (connector.Change, error) {
		if _, err := c.PasswordModify(ldap.NewPasswordModifyRequest(p.dn, "", rotation.Secret)); err != nil {
			return 0, gone(p, err)
		}
		if !p.locked {
			return connector.Changed, nil
		}
		// A new password takes a lock away. Nobody has been given it yet.
		return modify(c, p, "", changeOf(ldap.ReplaceAttribute, attrLocked, lockedForEver))
	})
	return connector.Rotated{ID: connector.KindPassword}, err
}
