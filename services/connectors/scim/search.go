package scim

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/tenurehq/tenure/pkg/connector"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
)

// What is searched for, besides userName.
const (
	attrExternalID  = "externalId"
	attrDisplayName = "displayName"
	attrMember      = "members.value"
)

// search asks for the resources whose attribute equals a value. Some answer 404 where there are none.
func (a *Application) search(ctx context.Context, path, attribute, value string) ([]resource, error) {
	return a.searchWith(ctx, path, filtered(attribute, value))
}

func (a *Application) searchWith(ctx context.Context, path string, query url.Values) ([]resource, error) {
	got, err := a.client.get(ctx, path, query)
	switch {
	case err != nil:
		return nil, err
	case got.status == http.StatusNotFound:
		return nil, nil
	case !got.ok():
		return nil, got.problem()
	}
	rows := got.body.objects("Resources")
	if slices.ContainsFunc(rows, func(r resource) bool { return r.id() == "" }) {
		return nil, connector.Inconsistent("GET %s: a resource without an id", path)
	}
	if total := got.body.text("totalResults"); len(rows) == 0 && total != "" && total != "0" {
		return nil, connector.Inconsistent("GET %s: %s results, of which none is shown", path, total)
	}
	return rows, nil
}

// ignored says that a search answered what was not asked for.
func ignored(attribute string) *connector.Problem {
	return connector.Precondition("scim.filter_ignored", "a search by %s answers with others, too: nobody can be told apart", attribute)
}

// equal narrows to the rows whose attribute has the value, by the connector's own comparison. What differs in case alone is
// what a server may answer; anything else it was not asked for.
func equal(rows []resource, attribute, value string, exact bool, of func(resource) string) ([]resource, error) {
	var found []resource
	for _, row := range rows {
		got := of(row)
		switch {
		case got == value, !exact && strings.EqualFold(got, value):
			found = append(found, row)
		case !strings.EqualFold(got, value):
			return nil, ignored(attribute)
		}
	}
	return found, nil
}

func text(attribute string) func(resource) string {
	return func(r resource) string { return r.text(attribute) }
}

// find searches for users. A search that the application refuses, of the attribute or of just this value, is one that cannot be
// made: Unsupported.
func (a *Application) find(ctx context.Context, attribute, value string) ([]resource, error) {
	rows, err := a.search(ctx, users, attribute, value)
	if p := problemOf(err); p != nil && unsearchable(p) {
		return nil, connector.Unsupported("scim.search", "the application does not search like this: %s", p.Message)
	}
	return rows, err
}

// byName finds users by userName, which is the same name in any case (RFC 7643, section 4.1.1).
func (a *Application) byName(ctx context.Context, name string) ([]resource, error) {
	rows, err := a.find(ctx, attrUserName, name)
	if err != nil {
		return nil, err
	}
	return equal(rows, attrUserName, name, false, text(attrUserName))
}

// byMarker finds users by externalId, which is case-exact.
func (a *Application) byMarker(ctx context.Context, marker string) ([]resource, error) {
	rows, err := a.find(ctx, attrExternalID, marker)
	if err != nil {
		return nil, err
	}
	return equal(rows, attrExternalID, marker, true, text(attrExternalID))
}

func (a *Application) byKey(ctx context.Context, key string) ([]resource, error) {
	rows, err := a.find(ctx, a.correlate.searched(), key)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(rows, func(r resource) bool { return !a.correlate.found(r, key) }) {
		return nil, ignored(a.correlate.searched())
	}
	// Another of the user's addresses may be what matched.
	return slices.DeleteFunc(rows, func(r resource) bool { return !strings.EqualFold(a.correlate.get(r), key) }), nil
}

// unsearchable says that the application refused a filter, and not that it could not be asked.
func unsearchable(p *connector.Problem) bool {
	return p.Code == connectorv1.Code_CODE_INVALID || p.Code == connectorv1.Code_CODE_UNSUPPORTED
}

const groupPrefix = "group:"

// groupOf is the group that an entitlement names; nil when there is none. Without its members, where they are not needed and
// that can be asked for.
func (a *Application) groupOf(ctx context.Context, entitlement string) (resource, error) {
	name, ok := strings.CutPrefix(entitlement, groupPrefix)
	if !ok {
		return nil, nil
	}
	query := filtered(attrDisplayName, name)
	if a.profile.Memberships == askGroups && a.profile.Patch != patchNone {
		query.Set("excludedAttributes", "members")
	}
	rows, err := a.searchWith(ctx, groups, query)
	if err != nil {
		return nil, err
	}
	found, err := equal(rows, attrDisplayName, name, true, text(attrDisplayName))
	switch {
	case err != nil:
		return nil, err
	case len(found) > 1:
		return nil, connector.Precondition("scim.ambiguous", "%d groups have the name %q: rename all but one", len(found), name)
	case len(found) == 0:
		return nil, nil
	}
	return found[0], nil
}

// membership is a group that a user is in.
type membership struct {
	group    string // its id
	name     string
	indirect bool
}

// memberOf are the groups of a user; false: there may be more.
func (a *Application) memberOf(ctx context.Context, u resource) ([]membership, bool, error) {
	if a.profile.Memberships == askGroups {
		list, err := a.ownGroups(ctx, u)
		return list, err == nil, err
	}
	var list []membership
	proved := true
	err := a.pages(ctx, groups, filtered(attrMember, string(u.id())), func(g resource) error {
		if a.profile.Memberships == askMembers && !g.has(u.id()) {
			proved = false // the filter was ignored, or members are not shown
			return nil
		}
		list = append(list, membership{group: string(g.id()), name: g.text(attrDisplayName)})
		return nil
	})
	if p := problemOf(err); p != nil && unsearchable(p) {
		list, err = a.ownGroups(ctx, u)
		return list, false, err
	}
	return list, proved && err == nil, err
}

// ownGroups are those that the user's own attribute names.
func (a *Application) ownGroups(ctx context.Context, u resource) ([]membership, error) {
	var list []membership
	for _, g := range u.objects("groups") {
		m := membership{group: g.text("value"), name: g.text("display"), indirect: strings.EqualFold(g.text("type"), "indirect")}
		if m.name == "" {
			got, err := a.client.get(ctx, group(m.group), nil)
			switch {
			case err != nil:
				return nil, err
			case got.status == http.StatusNotFound:
				continue
			case !got.ok():
				return nil, got.problem()
			}
			m.name = got.body.text(attrDisplayName)
		}
		list = append(list, m)
	}
	return list, nil
}

// problemOf is what an error says; nil for nil.
func problemOf(err error) *connector.Problem {
	var p *connector.Problem
	switch {
	case err == nil:
		return nil
	case errors.As(err, &p):
		return p
	}
	return connector.Unknown("", "%v", err)
}
