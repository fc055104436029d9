// Package scim brings an application under Tenure that others provision over SCIM 2.0 (RFC 7643 and RFC 7644): a User is an
// account, membership in a Group an entitlement.
//
// An account's id is the SCIM id, its marker the externalId. How the application differs from the RFCs is data: a [Profile].
// What a search answers is compared again, and one that answers what was not asked for is refused, because it was ignored. An
// account with another externalId belongs to another system and is never altered. Groups are never created. SCIM knows neither
// sessions nor credentials: that they are not known is said, not that there are none.
package scim

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/tenurehq/tenure/pkg/connector"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
)

// Application is the connector.
type Application struct {
	cfg        Config
	profile    Profile // by the configuration alone; see speaks
	discovered discovery
	client     *client
	attributes []connector.Attribute
	paths      map[string]path // by attribute
	correlate  path
	whole      chan struct{} // full while the members of a group are written as a whole
}

// Open prepares the connector. It does not contact the application.
func Open(cfg Config) (*Application, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	profile, err := cfg.profile()
	if err != nil {
		return nil, err
	}
	a := &Application{
		cfg: cfg, profile: profile, client: newClient(cfg, profile), paths: map[string]path{}, correlate: simple(attrUserName),
		whole: make(chan struct{}, 1),
	}
	a.discovered.profile = profile
	if cfg.CorrelatedBy != "" {
		if a.correlate, err = parsePath(cfg.CorrelatedBy); err != nil {
			return nil, fmt.Errorf("correlated_by: %w", err)
		}
	}
	a.attributes = slices.Clone(usual)
	for _, name := range cfg.Attributes {
		if !slices.ContainsFunc(usual, func(known connector.Attribute) bool { return known.Name == name }) {
			a.attributes = append(a.attributes, connector.Attribute{Name: name, Type: "string", Writable: true, CaseExact: true})
		}
	}
	for _, attribute := range a.attributes {
		if a.paths[attribute.Name], err = parsePath(attribute.Name); err != nil {
			return nil, fmt.Errorf("attributes: %w", err)
		}
	}
	return a, nil
}

// Connector is what the application can do by its profile.
func (a *Application) Connector() connector.Connector {
	if a.profile.DeleteIs == isDelete {
		return deleter{a}
	}
	return a
}

// Close closes the connections.
func (a *Application) Close() error {
	a.client.http.CloseIdleConnections()
	return nil
}

// Secrets implements connector.SecretHolder.
func (a *Application) Secrets() []string {
	token, err := readToken(a.cfg.TokenFile)
	if err != nil { // one that cannot be read was never used either
		return nil
	}
	return []string{token}
}

// Describe implements connector.Connector.
func (a *Application) Describe() connector.Description {
	return connector.Description{Type: "scim", Version: "1", ConfigSchema: configSchema, Attributes: a.attributes}
}

// Check implements connector.Connector. It searches for what cannot be there: a server that ignores filters answers with
// somebody. Whether the token may write only a write could tell. It reads anew what the application publishes of itself, and says
// whose the token is and when it ends, as far as anybody says so.
func (a *Application) Check(ctx context.Context) (connector.Identity, error) {
	u, err := url.Parse(a.cfg.URL)
	if err != nil {
		return connector.Identity{}, fmt.Errorf("url: not a URL")
	}
	out := connector.Identity{Target: "scim:" + strings.ToLower(u.Host) + strings.TrimSuffix(u.Path, "/"), Product: "SCIM 2.0"}
	got, err := a.client.get(ctx, users, url.Values{"count": {"1"}})
	switch {
	case err != nil:
		return connector.Identity{}, err
	case got.status == http.StatusNotFound: // a search may answer so, a list may not
		return connector.Identity{}, connector.Precondition("scim.no_users", "GET %s: 404: does url name a SCIM 2.0 service?", users).Instance()
	case !got.ok():
		return connector.Identity{}, got.problem()
	}
	out.Notes = a.rediscover(ctx)
	if token, err := readToken(a.cfg.TokenFile); err == nil { // it was read a moment ago
		out.Expires = expiry(token, got.header, a.cfg.TokenExpires)
		var unknown string
		if out.Owner, unknown = a.owner(ctx, token); unknown != "" {
			out.Notes = append(out.Notes, unknown)
		}
	}
	nobody := "tenure-check-" + rand.Text()
	type probe struct{ path, attribute string }
	probes := []probe{{users, attrUserName}, {users, attrExternalID}, {groups, attrDisplayName}}
	if key := a.correlate.searched(); key != attrUserName {
		probes = append(probes, probe{users, key})
	}
	if a.profile.Memberships != askGroups {
		probes = append(probes, probe{groups, attrMember})
	}
	for _, probe := range probes {
		rows, err := a.search(ctx, probe.path, probe.attribute, nobody)
		switch p := problemOf(err); {
		case p == nil && len(rows) > 0:
			out.Problems = append(out.Problems, ignored(probe.attribute).Instance())
		case p != nil && (probe.attribute == attrUserName || p.Scope == connectorv1.Scope_SCOPE_INSTANCE):
			return connector.Identity{}, p // nothing works without it
		case p != nil && !unsearchable(p):
			out.Problems = append(out.Problems, p.Instance())
		}
	}
	return out, nil
}
