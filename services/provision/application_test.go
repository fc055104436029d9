package provision_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/tenurehq/tenure/pkg/connector"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
)

// memory is an application in memory, with a journal of every effect. before and wrap let a test make it misbehave.
type memory struct {
	mu           sync.Mutex
	accounts     []*connector.Account
	entitlements []string
	effects      []string // "CREATE ann", "GRANT ann a", …
	made         int

	// before is called before each operation, without the lock: op is READ, CHECK or an operation's name.
	before func(ctx context.Context, op string) error
	limits connector.Limits
	ends   time.Time // when the credential for it does
	// pretend names operations that are called done and have no effect.
	pretend []string
	stale   bool // searches do not show accounts
}

func newMemory(entitlements ...string) *memory { return &memory{entitlements: entitlements} }

func (m *memory) Describe() connector.Description {
	return connector.Description{
		Type: "memory", Version: "1", Limits: m.limits, CredentialKinds: []string{connector.KindPassword},
		Attributes: []connector.Attribute{
			{Name: "login", Type: "string", Required: true, Unique: true, Writable: true, CaseExact: true},
			{Name: "mail", Type: "string", Writable: true},
		},
	}
}

func (m *memory) Check(ctx context.Context) (connector.Identity, error) {
	err := m.ask(ctx, "CHECK")
	m.mu.Lock()
	defer m.mu.Unlock()
	return connector.Identity{Target: "memory", Owner: "svc-tenure", Expires: m.ends}, err
}

// end sets when the credential for it ends.
func (m *memory) end(at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ends = at
}

func (m *memory) ask(ctx context.Context, op string) error {
	m.mu.Lock()
	before := m.before
	m.mu.Unlock()
	if before == nil {
		return nil
	}
	return before(ctx, op)
}

// misbehave sets what is called before each operation.
func (m *memory) misbehave(before func(ctx context.Context, op string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before = before
}

func (m *memory) Read(ctx context.Context, q connector.Query) (connector.Found, error) {
	if err := m.ask(ctx, "READ"); err != nil {
		return connector.Found{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var found connector.Found
	for _, a := range m.accounts {
		if m.stale && q.By != connector.ByID {
			break
		}
		if q.By == connector.ByID && string(a.ID) == q.Value || q.By == connector.ByName && a.Name == q.Value ||
			q.By == connector.ByMarker && a.Marker == q.Value || q.By == connector.ByCorrelationKey && a.CorrelationKey == q.Value {
			found.Accounts = append(found.Accounts, m.shown(a))
		}
	}
	if q.By == connector.ByEntitlement && slices.Contains(m.entitlements, q.Value) {
		found.Entitlement = &connector.Entitlement{ID: q.Value, Assignable: true}
	}
	return found, nil
}

func (m *memory) shown(a *connector.Account) connector.Account {
	out := *a
	out.Grants = slices.Clone(a.Grants)
	out.Credentials = slices.Clone(a.Credentials)
	return out
}

func (m *memory) Create(ctx context.Context, n connector.NewAccount) (connector.AccountID, connector.Change, error) {
	if err := m.ask(ctx, "CREATE"); err != nil {
		return "", 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.accounts {
		if a.Marker == n.Marker {
			return a.ID, connector.Unchanged, nil
		}
		if a.Name == n.Attributes["login"] {
			return "", 0, connector.AlreadyExists(a.ID, "memory.409", "taken")
		}
	}
	if slices.Contains(m.pretend, "CREATE") {
		return "id-0", connector.Changed, nil
	}
	a := m.add(n.Attributes["login"], n.Attributes["mail"], n.Marker)
	a.Status = connector.Disabled
	m.effects = append(m.effects, "CREATE "+a.Name)
	return a.ID, connector.Changed, nil
}

// add makes an account; the lock is held.
func (m *memory) add(login, mail, marker string) *connector.Account {
	m.made++
	a := &connector.Account{
		ID: connector.AccountID(fmt.Sprintf("id-%d", m.made)), Name: login, CorrelationKey: mail, Marker: marker, Status: connector.Enabled,
		Attributes: map[string]string{"login": login, "mail": mail}, GrantsComplete: true, CredentialsComplete: true,
		LiveSessions: connector.Counted(0), Credentials: []connector.Credential{{ID: "pw", Kind: connector.KindPassword}},
	}
	m.accounts = append(m.accounts, a)
	return a
}

// change runs f on an account and journals it when it has an effect.
func (m *memory) change(ctx context.Context, op string, ref connector.Ref, what string, f func(*connector.Account) bool) (connector.Change, error) {
	if err := m.ask(ctx, op); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.Contains(m.pretend, op) {
		return connector.Changed, nil
	}
	for _, a := range m.accounts {
		if a.ID == ref.ID {
			if !f(a) {
				return connector.Unchanged, nil
			}
			effect := op + " " + a.Name
			if what != "" {
				effect += " " + what
			}
			m.effects = append(m.effects, effect)
			return connector.Changed, nil
		}
	}
	return 0, connector.NoAccount(ref.ID)
}

func (m *memory) Update(ctx context.Context, ref connector.Ref, set map[string]string, _ []string) (connector.Change, error) {
	m.mu.Lock()
	for _, a := range m.accounts {
		if a.Name == set["login"] && a.ID != ref.ID {
			m.mu.Unlock()
			return 0, connector.AlreadyExists(a.ID, "memory.409", "taken")
		}
	}
	m.mu.Unlock()
	return m.change(ctx, "UPDATE", ref, set["login"], func(a *connector.Account) bool {
		changed := a.Marker == ""
		if changed {
			a.Marker = ref.Marker
		}
		for k, v := range set {
			changed = changed || a.Attributes[k] != v
			a.Attributes[k] = v
		}
		a.Name = a.Attributes["login"]
		return changed
	})
}

func (m *memory) status(ctx context.Context, op string, ref connector.Ref, want connector.Status) (connector.Change, error) {
	return m.change(ctx, op, ref, "", func(a *connector.Account) bool {
		changed := a.Status != want
		a.Status = want
		return changed
	})
}

func (m *memory) Enable(ctx context.Context, ref connector.Ref) (connector.Change, error) {
	return m.status(ctx, "ENABLE", ref, connector.Enabled)
}

func (m *memory) Disable(ctx context.Context, ref connector.Ref) (connector.Change, error) {
	return m.status(ctx, "DISABLE", ref, connector.Disabled)
}

func (m *memory) Delete(ctx context.Context, ref connector.Ref) (connector.Change, error) {
	return m.change(ctx, "DELETE", ref, "", func(a *connector.Account) bool {
		m.accounts = slices.DeleteFunc(m.accounts, func(b *connector.Account) bool { return b == a })
		return true
	})
}

func (m *memory) Grant(ctx context.Context, ref connector.Ref, e string) (connector.Change, error) {
	m.mu.Lock()
	known := slices.Contains(m.entitlements, e)
	m.mu.Unlock()
	if !known {
		return 0, connector.NoEntitlement(e)
	}
	return m.change(ctx, "GRANT", ref, e, func(a *connector.Account) bool {
		if slices.ContainsFunc(a.Grants, func(g connector.Grant) bool { return g.Entitlement == e }) {
			return false
		}
		a.Grants = append(a.Grants, connector.Grant{Entitlement: e})
		return true
	})
}

func (m *memory) Revoke(ctx context.Context, ref connector.Ref, e string) (connector.Change, error) {
	return m.change(ctx, "REVOKE", ref, e, func(a *connector.Account) bool {
		n := len(a.Grants)
		a.Grants = slices.DeleteFunc(a.Grants, func(g connector.Grant) bool { return g.Entitlement == e })
		return len(a.Grants) < n
	})
}

func (m *memory) KillSessions(ctx context.Context, ref connector.Ref) (connector.Change, connector.Count, error) {
	c, err := m.change(ctx, "KILL_SESSIONS", ref, "", func(a *connector.Account) bool {
		n, _ := a.LiveSessions.Get()
		a.LiveSessions = connector.Counted(0)
		return n > 0
	})
	return c, connector.Counted(0), err
}

func (m *memory) RevokeCredential(ctx context.Context, ref connector.Ref, target string) (connector.Change, connector.Count, error) {
	c, err := m.change(ctx, "REVOKE_CREDENTIAL", ref, target, func(a *connector.Account) bool {
		n := len(a.Credentials)
		a.Credentials = slices.DeleteFunc(a.Credentials, func(c connector.Credential) bool { return c.Kind == target })
		return len(a.Credentials) < n
	})
	return c, connector.Counted(0), err
}

// journal returns the effects so far.
func (m *memory) journal() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.effects)
}

// only returns the one account there is.
func (m *memory) only(t *testing.T) connector.Account {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.accounts) != 1 {
		t.Fatalf("%d accounts, want one", len(m.accounts))
	}
	return m.shown(m.accounts[0])
}

// lossy is a connection on which a test decides what happens to Apply.
type lossy struct {
	connectorv1.ConnectorClient
	mu    sync.Mutex
	apply func(ctx context.Context, req *connectorv1.ApplyRequest, next func() (*connectorv1.ApplyResponse, error)) (*connectorv1.ApplyResponse, error)
}

func (l *lossy) Apply(ctx context.Context, req *connectorv1.ApplyRequest, opts ...grpc.CallOption) (*connectorv1.ApplyResponse, error) {
	next := func() (*connectorv1.ApplyResponse, error) { return l.ConnectorClient.Apply(ctx, req, opts...) }
	l.mu.Lock()
	apply := l.apply
	l.mu.Unlock()
	if apply == nil {
		return next()
	}
	return apply(ctx, req, next)
}

func (l *lossy) onApply(f func(ctx context.Context, req *connectorv1.ApplyRequest, next func() (*connectorv1.ApplyResponse, error)) (*connectorv1.ApplyResponse, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.apply = f
}
