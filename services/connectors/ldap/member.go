package ldap

import (
	"context"

	"github.com/go-ldap/ldap/v3"

	"github.com/tenurehq/tenure/pkg/connector"
)

// Grant implements connector.Granter: one value is added to the group.
func (d *Directory) Grant(ctx context.Context, ref connector.Ref, id string) (connector.Change, error) {
	return d.mutate(ctx, ref, func(c *conn, p person) (connector.Change, error) {
		g, err := d.group(c, id, "1.1")
		switch {
		case err != nil:
			return 0, notDone(inTime(ctx, err))
		case g == nil:
			return 0, connector.NoEntitlement(id)
		case spell(g.DN) != id:
			// It would be read back under its own spelling, and taken away again as something that nobody wants.
			return 0, connector.Invalid(nil, "ldap.spelling", "write the group %q as %q", id, spell(g.DN))
		}
		return membership(d.member(c, g.DN, changeOf(ldap.AddAttribute, attrMember, p.dn)))
	})
}

// Revoke implements connector.Granter: one value is taken out of the group, whoever put it there.
func (d *Directory) Revoke(ctx context.Context, ref connector.Ref, id string) (connector.Change, error) {
	return d.mutate(ctx, ref, func(c *conn, p person) (connector.Change, error) {
		g, err := d.group(c, id, "1.1")
		switch {
		case err != nil:
			return 0, notDone(inTime(ctx, err))
		case g == nil:
			return connector.Unchanged, nil
		}
		return membership(d.member(c, g.DN, changeOf(ldap.DeleteAttribute, attrMember, p.dn)))
	})
}

// membership is what became of adding or taking out one value.
func membership(err error) (connector.Change, error) {
	switch {
	case is(err, ldap.LDAPResultAttributeOrValueExists, ldap.LDAPResultNoSuchAttribute):
		return connector.Unchanged, nil
	case err != nil:
		return 0, err
	}
	return connector.Changed, nil
}

// member adds one member to a group, or takes one out. A groupOfNames must have one: where the last would go,
// empty_group_member comes in the same change, and stays.
func (d *Directory) member(c *conn, group string, one ldap.Change) error {
	err := c.Modify(&ldap.ModifyRequest{DN: group, Changes: []ldap.Change{one}})
	if d.cfg.EmptyGroupMember == "" || !is(err, ldap.LDAPResultObjectClassViolation) {
		return err
	}
	nobody := changeOf(ldap.AddAttribute, attrMember, d.cfg.EmptyGroupMember)
	err = c.Modify(&ldap.ModifyRequest{DN: group, Changes: []ldap.Change{nobody, one}})
	if !is(err, ldap.LDAPResultAttributeOrValueExists) {
		return err
	}
	// Somebody else has just brought it in.
	return c.Modify(&ldap.ModifyRequest{DN: group, Changes: []ldap.Change{one}})
}

// forget takes dn out of every group.
func (d *Directory) forget(c *conn, dn string) error {
	groups, err := d.groupsOf(c, dn)
	if err != nil {
		return err
	}
	for _, g := range groups {
		if _, err := membership(d.member(c, g, changeOf(ldap.DeleteAttribute, attrMember, dn))); err != nil {
			return err
		}
	}
	return nil
}

// vacate takes a DN out of every group, unless an entry has it.
func (d *Directory) vacate(c *conn, dn string) error {
	if _, taken, err := c.entry(dn, "(objectClass=*)", "1.1"); taken || err != nil {
		return err
	}
	return d.forget(c, dn)
}
