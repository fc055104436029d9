package scim

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/tenurehq/tenure/pkg/connector"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
)

// edit is a value that is to be another one; nil: none.
type edit struct {
	path  path
	value any
}

// ours reads the user of a step, who may be touched. Nil: there is none.
func (a *Application) ours(ctx context.Context, ref connector.Ref) (resource, error) {
	u, err := a.fetch(ctx, ref.ID)
	if err != nil || u == nil {
		return nil, err
	}
	isProtected := func(name string) bool { return strings.EqualFold(name, u.text(attrUserName)) }
	switch marker := u.text(attrExternalID); {
	case marker != "" && marker != ref.Marker:
		return nil, connector.Denied("scim.external_id", "the user carries another externalId: it is another system's")
	case slices.ContainsFunc(a.cfg.Protected, isProtected):
		return nil, connector.Denied("scim.protected", "the user is protected")
	case ref.IfVersion != "" && u.version() != "" && ref.IfVersion != u.version():
		return nil, connector.Conflict("scim.version", "the user was changed in between")
	}
	return u, nil
}

// send makes the edits to a resource as last read.
func (a *Application) send(ctx context.Context, path string, u resource, edits []edit) (answer, error) {
	r := request{method: http.MethodPatch, path: path, version: u.version()}
	switch a.speaks(ctx).Patch {
	case patchPath:
		var ops []operation
		for _, e := range edits {
			ops = append(ops, e.path.operation(u, e.value))
		}
		r.body = patch(ops...)
	case patchPathless:
		r.body = patch(pathless(u, edits)...)
	case patchNone:
		r.method, r.body = http.MethodPut, whole(u, edits)
	}
	return a.client.do(ctx, r)
}

func patch(ops ...operation) any {
	return map[string]any{"schemas": []string{patchSchema}, "Operations": ops}
}

// pathless are operations that name no path. What is set stands there with all of its attribute, because some servers replace
// that as a whole; what is cleared needs its path all the same.
func pathless(u resource, edits []edit) []operation {
	after, value := u.copied(), resource{}
	var ops []operation
	for _, e := range edits {
		if e.value == nil {
			ops = append(ops, e.path.operation(u, nil))
			continue
		}
		e.path.set(after, e.value)
		into := value
		if e.path.schema != "" {
			if into = value.object(e.path.schema); into == nil {
				into = resource{}
				value[e.path.schema] = map[string]any(into)
			}
		}
		into[e.path.attribute] = e.path.of(after).get(e.path.attribute)
	}
	if len(value) > 0 {
		ops = append(ops, operation{Op: "replace", Value: value})
	}
	return ops
}

// whole is the resource with the edits in it, for a server that knows nothing but PUT.
func whole(u resource, edits []edit) resource {
	after := u.copied()
	after.drop("meta")
	after.drop("groups") // not ours to write there (RFC 7643, section 4.1.2)
	for _, e := range edits {
		e.path.set(after, e.value)
	}
	return after
}

func (a *Application) activity(active bool) edit {
	e := edit{path: simple("active"), value: active}
	if a.profile.Active == activeString {
		e.value = map[bool]string{true: "True", false: "False"}[active]
	}
	return e
}

// wanted are the edits for attributes that a user does not have as they should be.
func (a *Application) wanted(u resource, set map[string]string, empty []string) ([]edit, error) {
	var edits []edit
	for _, name := range slices.Sorted(maps.Keys(set)) {
		p, ok := a.paths[name]
		switch {
		case !ok:
			return nil, connector.Invalid([]string{name}, "scim.attribute", "%q is none of the connector's attributes: add it to config.attributes", name)
		case set[name] == "" && name == attrUserName:
			return nil, connector.Invalid([]string{name}, "scim.user_name", "userName is required")
		case set[name] == "":
			empty = append(slices.Clone(empty), name)
		case p.get(u) != set[name]:
			edits = append(edits, edit{p, set[name]})
		}
	}
	for _, name := range empty {
		p, ok := a.paths[name]
		switch {
		case !ok:
			return nil, connector.Invalid([]string{name}, "scim.attribute", "%q is none of the connector's attributes", name)
		case name == attrUserName:
			return nil, connector.Invalid([]string{name}, "scim.user_name", "userName is required")
		case p.get(u) != "":
			edits = append(edits, edit{path: p})
		}
	}
	return edits, nil
}

// Create implements connector.Creator. Whatever a POST is answered, the application is searched before anything is said: a
// refusal may mean that the user exists, and no answer that it was made.
func (a *Application) Create(ctx context.Context, account connector.NewAccount) (connector.AccountID, connector.Change, error) {
	name := account.Attributes[attrUserName]
	if name == "" {
		return "", 0, connector.Invalid([]string{attrUserName}, "scim.user_name", "userName is required")
	}
	edits, err := a.wanted(resource{}, account.Attributes, nil)
	if err != nil {
		return "", 0, err
	}
	if id, err := a.marked(ctx, account.Marker); id != "" || err != nil {
		return id, connector.Unchanged, err
	}
	got, err := a.client.do(ctx, request{method: http.MethodPost, path: users, body: a.newUser(account.Marker, edits)})
	switch {
	case err != nil:
		return a.afterPOST(ctx, account, problemOf(err))
	case !got.ok():
		return a.afterPOST(ctx, account, got.problem())
	case got.body.id() != "":
		return got.body.id(), connector.Changed, nil
	}
	// The body is a hint, and there was none.
	if id, err := a.marked(ctx, account.Marker); id != "" || err != nil {
		return id, connector.Changed, err
	}
	return "", 0, connector.Unknown("scim.no_id", "POST %s: %d without an id, and the user cannot be found yet", users, got.status)
}

func (a *Application) newUser(marker string, edits []edit) resource {
	u := resource{"schemas": []any{userSchema}, attrExternalID: marker}
	for _, e := range append(edits, a.activity(a.profile.CreateAs == isEnabled)) {
		e.path.set(u, e.value)
	}
	return u
}

// marked returns the user that carries the marker already; empty: none does, or it cannot be searched for.
func (a *Application) marked(ctx context.Context, marker string) (connector.AccountID, error) {
	found, err := a.byMarker(ctx, marker)
	switch p := problemOf(err); {
	case p != nil && p.Code == connectorv1.Code_CODE_UNSUPPORTED:
		return "", nil
	case p != nil:
		return "", p
	case len(found) > 1:
		return "", connector.Precondition("scim.ambiguous", "%d users carry the same externalId", len(found))
	case len(found) == 0:
		return "", nil
	}
	return found[0].id(), nil
}

// afterPOST says what became of a POST that did not end well.
func (a *Application) afterPOST(ctx context.Context, account connector.NewAccount, cause *connector.Problem) (connector.AccountID, connector.Change, error) {
	if notOfUser(cause) || ctx.Err() != nil {
		return "", 0, cause // throttled, not let in, not reached: about this user nothing was said
	}
	made := connector.Unchanged
	if cause.Code == connectorv1.Code_CODE_OUTCOME_UNKNOWN {
		made = connector.Changed // it was not there before
	}
	if id, err := a.marked(ctx, account.Marker); err == nil && id != "" {
		return id, made, nil
	}
	named, err := a.byName(ctx, account.Attributes[attrUserName])
	if err != nil || len(named) == 0 {
		return "", 0, cause
	}
	for _, u := range named {
		if u.text(attrExternalID) == account.Marker {
			return u.id(), made, nil
		}
	}
	return "", 0, taken(named[0], cause)
}

// notOfUser says that a refusal tells nothing of the user that it was about.
func notOfUser(p *connector.Problem) bool {
	return p.Scope == connectorv1.Scope_SCOPE_INSTANCE || p.Code == connectorv1.Code_CODE_RATE_LIMITED
}

// taken says whose a name is that could not be had.
func taken(by resource, cause *connector.Problem) *connector.Problem {
	return connector.AlreadyExists(by.id(), cause.Reason, "another user has this userName: %s", cause.Message)
}

// Update implements connector.Updater.
func (a *Application) Update(ctx context.Context, ref connector.Ref, set map[string]string, empty []string) (connector.Change, error) {
	u, err := a.ours(ctx, ref)
	switch {
	case err != nil:
		return 0, err
	case u == nil:
		return 0, connector.NoAccount(ref.ID)
	}
	edits, err := a.wanted(u, set, empty)
	if err != nil {
		return 0, err
	}
	if u.text(attrExternalID) == "" && ref.Marker != "" {
		edits = append(edits, edit{simple(attrExternalID), ref.Marker})
	}
	made, err := a.change(ctx, ref, u, edits)
	if err == nil || set[attrUserName] == "" || set[attrUserName] == u.text(attrUserName) {
		return made, err
	}
	// A refusal may mean that somebody has the name, whatever its status.
	cause := problemOf(err)
	if cause.Code == connectorv1.Code_CODE_OUTCOME_UNKNOWN || notOfUser(cause) {
		return 0, cause
	}
	named, err := a.byName(ctx, set[attrUserName])
	if err != nil {
		return 0, cause
	}
	for _, other := range named {
		if other.id() != ref.ID {
			return 0, taken(other, cause)
		}
	}
	return 0, cause
}

// change sends what differs.
func (a *Application) change(ctx context.Context, ref connector.Ref, u resource, edits []edit) (connector.Change, error) {
	if len(edits) == 0 {
		return connector.Unchanged, nil
	}
	got, err := a.send(ctx, user(ref.ID), u, edits)
	switch {
	case err != nil:
		return 0, err
	case got.status == http.StatusNotFound:
		return 0, connector.NoAccount(ref.ID)
	case !got.ok():
		return 0, a.patchProblem(got)
	}
	return connector.Changed, nil
}

// patchProblem adds what an operator can do about a server that knows no PATCH.
func (a *Application) patchProblem(got answer) *connector.Problem {
	p := got.problem()
	if p.Code == connectorv1.Code_CODE_UNSUPPORTED && got.method == http.MethodPatch {
		p.Message += ": with patch: none it is sent PUT"
	}
	return p
}

// Enable implements connector.Enabler.
func (a *Application) Enable(ctx context.Context, ref connector.Ref) (connector.Change, error) {
	u, err := a.ours(ctx, ref)
	switch {
	case err != nil:
		return 0, err
	case u == nil && a.profile.DisabledIs == isGone && a.speaks(ctx).Patch != patchNone:
		return a.change(ctx, ref, resource{}, []edit{a.activity(true)}) // whom nobody sees can be let in all the same
	}
	return a.setActive(ctx, ref, u, true)
}

// Disable implements connector.Enabler. Live sessions may go on.
func (a *Application) Disable(ctx context.Context, ref connector.Ref) (connector.Change, error) {
	u, err := a.ours(ctx, ref)
	switch {
	case err != nil:
		return 0, err
	case u == nil && a.profile.DisabledIs == isGone:
		return connector.Unchanged, nil
	}
	return a.setActive(ctx, ref, u, false)
}

func (a *Application) setActive(ctx context.Context, ref connector.Ref, u resource, active bool) (connector.Change, error) {
	is := map[bool]connector.Status{true: connector.Enabled, false: connector.Disabled}[active]
	switch {
	case u == nil:
		return 0, connector.NoAccount(ref.ID)
	case u.status() == is:
		return connector.Unchanged, nil
	}
	return a.change(ctx, ref, u, []edit{a.activity(active)})
}

// deleter is an Application in which DELETE deletes.
type deleter struct{ *Application }

// Delete implements connector.Deleter.
func (d deleter) Delete(ctx context.Context, ref connector.Ref) (connector.Change, error) {
	u, err := d.ours(ctx, ref)
	switch {
	case err != nil:
		return 0, err
	case u == nil:
		return connector.Unchanged, nil
	}
	got, err := d.client.do(ctx, request{method: http.MethodDelete, path: user(ref.ID), version: u.version()})
	switch {
	case err != nil:
		return 0, err
	case got.status == http.StatusNotFound:
		return connector.Unchanged, nil
	case !got.ok():
		return 0, got.problem()
	}
	return connector.Changed, nil
}
