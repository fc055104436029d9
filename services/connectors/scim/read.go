package scim

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/tenurehq/tenure/pkg/connector"
)

// account is a user as read; its grants are read elsewhere.
func (a *Application) account(u resource) connector.Account {
	out := connector.Account{
		ID: u.id(), Name: u.text(attrUserName), CorrelationKey: a.correlate.get(u), Status: u.status(),
		Marker: u.text(attrExternalID), Version: u.version(), Attributes: map[string]string{},
	}
	for name, p := range a.paths {
		if value := p.get(u); value != "" {
			out.Attributes[name] = value
		}
	}
	return out
}

func (a *Application) entitlement(g resource) connector.Entitlement {
	name := g.text(attrDisplayName)
	return connector.Entitlement{ID: groupPrefix + name, Type: "group", DisplayName: name, Assignable: true}
}

// Read implements connector.Connector.
func (a *Application) Read(ctx context.Context, q connector.Query) (connector.Found, error) {
	var (
		found []resource
		err   error
	)
	switch q.By {
	case connector.ByID:
		return a.readByID(ctx, connector.AccountID(q.Value))
	case connector.ByName:
		found, err = a.byName(ctx, q.Value)
	case connector.ByCorrelationKey:
		found, err = a.byKey(ctx, q.Value)
	case connector.ByMarker:
		found, err = a.byMarker(ctx, q.Value)
	case connector.ByEntitlement:
		return a.readMembers(ctx, q.Value)
	}
	if err != nil {
		return connector.Found{}, err
	}
	return a.withGrants(ctx, found...)
}

// readByID answers for an id that the worker has on record. Where a user who is disabled cannot be seen, one that is not
// there is disabled as far as anybody can know: nothing but the id is known of it, and nobody logs in by it.
func (a *Application) readByID(ctx context.Context, id connector.AccountID) (connector.Found, error) {
	u, err := a.fetch(ctx, id)
	switch {
	case err != nil:
		return connector.Found{}, err
	case u == nil && a.profile.DisabledIs == isGone:
		return connector.Found{Accounts: []connector.Account{{ID: id, Status: connector.Disabled}}}, nil
	case u == nil:
		return connector.Found{}, nil
	}
	return a.withGrants(ctx, u)
}

// fetch reads one user; nil: there is none.
func (a *Application) fetch(ctx context.Context, id connector.AccountID) (resource, error) {
	return a.fetchAt(ctx, user(id), string(id))
}

func (a *Application) fetchAt(ctx context.Context, path, id string) (resource, error) {
	got, err := a.client.get(ctx, path, nil)
	switch {
	case err != nil:
		return nil, err
	case got.status == http.StatusNotFound, got.status == http.StatusGone:
		return nil, nil
	case !got.ok():
		return nil, got.problem()
	case got.body.text("id") != id:
		return nil, connector.Inconsistent("GET %s: a resource with another id than was asked for", path)
	}
	return got.body, nil
}

func (a *Application) withGrants(ctx context.Context, found ...resource) (connector.Found, error) {
	var out connector.Found
	for _, u := range found {
		account := a.account(u)
		list, complete, err := a.memberOf(ctx, u)
		if err != nil {
			return connector.Found{}, err
		}
		account.GrantsComplete = complete
		for _, m := range list {
			account.Grants = append(account.Grants, connector.Grant{Entitlement: groupPrefix + m.name, Inherited: m.indirect})
		}
		out.Accounts = append(out.Accounts, account)
	}
	return out, nil
}

// readMembers tells of a group's members their ids alone: to read each of a thousand is not what a group is asked for.
func (a *Application) readMembers(ctx context.Context, entitlement string) (connector.Found, error) {
	g, err := a.groupOf(ctx, entitlement)
	if err != nil || g == nil {
		return connector.Found{}, err
	}
	if a.profile.Memberships == askQuery {
		return connector.Found{}, connector.Unsupported("scim.members", "the application does not show the members of a group")
	}
	whole, err := a.fetchAt(ctx, group(g.text("id")), g.text("id"))
	if err != nil || whole == nil {
		return connector.Found{}, err
	}
	e := a.entitlement(whole)
	out := connector.Found{Entitlement: &e}
	for _, id := range members(whole) {
		out.Accounts = append(out.Accounts, connector.Account{ID: id})
	}
	return out, nil
}

// members are the users among a group's members, each once.
func members(g resource) []connector.AccountID {
	var ids []connector.AccountID
	for _, m := range g.objects("members") {
		id := connector.AccountID(m.text("value"))
		if id != "" && !strings.EqualFold(m.text("type"), "Group") && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// List implements connector.Lister: users, then groups, then who is in which, by what the profile says.
func (a *Application) List(ctx context.Context, cursor string, out *connector.Listing) error {
	if cursor != "" {
		return connector.CursorExpired("users are listed from the beginning only")
	}
	own := map[connector.AccountID][]membership{} // of every user
	err := a.pages(ctx, users, nil, func(u resource) error {
		own[u.id()] = nil
		if a.profile.Memberships == askGroups {
			for _, g := range u.objects("groups") {
				m := membership{group: g.text("value"), indirect: strings.EqualFold(g.text("type"), "indirect")}
				own[u.id()] = append(own[u.id()], m)
			}
		}
		return out.Account(a.account(u))
	})
	if err != nil {
		return err
	}
	names := map[string]string{}
	err = a.pages(ctx, groups, nil, func(g resource) error {
		e := a.entitlement(g)
		names[g.text("id")] = e.DisplayName
		if err := out.Entitlement(e); err != nil || a.profile.Memberships != askMembers {
			return err
		}
		for _, id := range members(g) {
			if _, known := own[id]; !known {
				continue
			}
			if err := out.Membership(connector.Membership{Account: id, Entitlement: e.ID}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || a.profile.Memberships == askMembers {
		return err
	}
	return a.listMemberships(ctx, own, names, out)
}

// listMemberships sends those that groups do not show.
func (a *Application) listMemberships(
	ctx context.Context, own map[connector.AccountID][]membership, names map[string]string, out *connector.Listing,
) error {
	for id, list := range own {
		if a.profile.Memberships == askQuery {
			asked, complete, err := a.memberOf(ctx, resource{"id": string(id)})
			switch {
			case err != nil:
				return err
			case !complete:
				return connector.Inconsistent("the application did not say which groups a user is in")
			}
			list = asked
		}
		for _, m := range list {
			e := groupPrefix + names[m.group]
			if err := out.Membership(connector.Membership{Account: id, Entitlement: e, Inherited: m.indirect}); err != nil {
				return err
			}
		}
	}
	return nil
}
