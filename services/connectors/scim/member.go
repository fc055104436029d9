package scim

import (
	"context"
	"net/http"
	"slices"

	"github.com/tenurehq/tenure/pkg/connector"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
)

// Grant implements connector.Granter. A membership that exists is not sent again: some servers would keep it twice.
func (a *Application) Grant(ctx context.Context, ref connector.Ref, entitlement string) (connector.Change, error) {
	u, err := a.ours(ctx, ref)
	switch {
	case err != nil:
		return 0, err
	case u == nil:
		return 0, connector.NoAccount(ref.ID)
	}
	g, err := a.groupOf(ctx, entitlement)
	switch {
	case err != nil:
		return 0, err
	case g == nil:
		return 0, connector.NoEntitlement(entitlement)
	}
	if in, err := a.isIn(ctx, u, g); in || err != nil {
		return connector.Unchanged, err
	}
	member := []any{map[string]any{"value": string(ref.ID)}}
	op := operation{Op: "add", Path: "members", Value: member}
	if a.profile.Patch == patchPathless {
		op = operation{Op: "add", Value: map[string]any{"members": member}}
	}
	got, err := a.sendMember(ctx, g, op, func(all []any) []any { return append(all, member...) })
	switch {
	case err != nil:
		return 0, err
	case got.ok():
		return connector.Changed, nil
	case got.status == http.StatusNotFound:
		return 0, connector.NoEntitlement(entitlement) // it went at this moment
	}
	return a.verified(ctx, u, g, true, got)
}

// Revoke implements connector.Granter. What is no member is not taken out: some servers call that an error.
func (a *Application) Revoke(ctx context.Context, ref connector.Ref, entitlement string) (connector.Change, error) {
	u, err := a.ours(ctx, ref)
	switch {
	case err != nil:
		return 0, err
	case u == nil && a.profile.DisabledIs == isGone:
		u = resource{"id": string(ref.ID)} // nobody sees who is disabled, and the group may list them still
	case u == nil:
		return 0, connector.NoAccount(ref.ID)
	}
	g, err := a.groupOf(ctx, entitlement)
	if err != nil || g == nil {
		return connector.Unchanged, err
	}
	if in, err := a.isIn(ctx, u, g); !in || err != nil {
		return connector.Unchanged, err
	}
	op := operation{Op: "remove", Path: "members[value eq " + quoted(string(ref.ID)) + "]"}
	if a.profile.RemoveMember == removeByValue {
		op = operation{Op: "remove", Path: "members", Value: []any{map[string]any{"value": string(ref.ID)}}}
	}
	got, err := a.sendMember(ctx, g, op, func(all []any) []any {
		return slices.DeleteFunc(all, func(m any) bool { return objectOf(m).text("value") == string(ref.ID) })
	})
	switch {
	case err != nil:
		return 0, err
	case got.ok():
		return connector.Changed, nil
	}
	return a.verified(ctx, u, g, false, got)
}

// isIn says whether a user is a member of a group, directly.
func (a *Application) isIn(ctx context.Context, u, g resource) (bool, error) {
	id := g.text("id")
	if a.profile.Memberships == askMembers || u.get(attrUserName) == nil && a.profile.Memberships == askGroups {
		whole, err := a.fetchAt(ctx, group(id), id)
		return whole.has(u.id()), err
	}
	list, _, err := a.memberOf(ctx, u)
	return slices.ContainsFunc(list, func(m membership) bool { return m.group == id && !m.indirect }), err
}

// verified looks whether what a server refused is so all the same.
func (a *Application) verified(ctx context.Context, u, g resource, want bool, got answer) (connector.Change, error) {
	p := a.patchProblem(got)
	switch p.Code {
	case connectorv1.Code_CODE_ALREADY_EXISTS, connectorv1.Code_CODE_INVALID, connectorv1.Code_CODE_NOT_FOUND:
	default:
		return 0, p
	}
	if a.profile.Memberships == askGroups {
		again, err := a.fetch(ctx, u.id())
		if err != nil || again == nil {
			return 0, p
		}
		u = again
	}
	if in, err := a.isIn(ctx, u, g); err == nil && in == want {
		return connector.Unchanged, nil
	}
	if p.Code == connectorv1.Code_CODE_ALREADY_EXISTS { // 409, and it is not so: somebody else was faster
		return 0, connector.Conflict(p.Reason, "%s", p.Message)
	}
	return 0, p
}

// sendMember changes one membership. Only where there is nothing but PUT are all members written, and then only over the
// version that was read, one change at a time: who writes over a version that another has read would lose its member.
func (a *Application) sendMember(ctx context.Context, g resource, op operation, apply func([]any) []any) (answer, error) {
	path := group(g.text("id"))
	if a.speaks(ctx).Patch != patchNone {
		return a.client.do(ctx, request{method: http.MethodPatch, path: path, body: patch(op)})
	}
	select {
	case a.whole <- struct{}{}:
		defer func() { <-a.whole }()
	case <-ctx.Done():
		return answer{}, connector.Conflict("scim.busy", "other members of groups were being written all the time")
	}
	read, err := a.fetchAt(ctx, path, g.text("id"))
	switch {
	case err != nil:
		return answer{}, err
	case read == nil:
		return answer{}, connector.Conflict("scim.gone", "the group went at this moment")
	}
	after := whole(read, nil)
	all, _ := after.get("members").([]any)
	after.put("members", apply(all))
	return a.client.do(ctx, request{method: http.MethodPut, path: path, body: after, version: read.version()})
}
