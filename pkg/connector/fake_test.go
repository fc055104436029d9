package connector_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenurehq/tenure/pkg/connector"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a connector of everything to an application in memory. fail, when set, answers instead of a call.
type fake struct {
	description connector.Description
	secrets     []string
	fail        func(ctx context.Context, call string) error

	mu       sync.Mutex
	calls    []string
	accounts map[connector.AccountID]*connector.Account
	rotated  []connector.Rotation
	versions []string // ref.IfVersion of each mutating call
}

func newFake(accounts ...connector.Account) *fake {
	f := &fake{accounts: map[connector.AccountID]*connector.Account{}, description: connector.Description{Type: "fake", Version: "1"}}
	for _, a := range accounts {
		f.accounts[a.ID] = &a
	}
	return f
}

// mutations are the calls that may change something, in order.
func (f *fake) mutations() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string{}, f.calls...)
}

func (f *fake) call(ctx context.Context, ref connector.Ref, call string) (*connector.Account, error) {
	f.calls = append(f.calls, call)
	f.versions = append(f.versions, ref.IfVersion)
	if f.fail != nil {
		if err := f.fail(ctx, call); err != nil {
			return nil, err
		}
	}
	a, ok := f.accounts[ref.ID]
	if !ok {
		return nil, connector.NoAccount(ref.ID)
	}
	return a, nil
}

func changed(is bool) connector.Change {
	if is {
		return connector.Changed
	}
	return connector.Unchanged
}

func (f *fake) Describe() connector.Description { return f.description }
func (f *fake) Secrets() []string               { return f.secrets }

func (f *fake) Check(ctx context.Context) (connector.Identity, error) {
	if f.fail != nil {
		if err := f.fail(ctx, "check"); err != nil {
			return connector.Identity{Owner: err.Error(), Notes: []string{err.Error()}}, err
		}
	}
	return connector.Identity{Target: "fake:1", Product: "Fake 1"}, nil
}

func (f *fake) Read(ctx context.Context, q connector.Query) (connector.Found, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		if err := f.fail(ctx, "read"); err != nil {
			return connector.Found{}, err
		}
	}
	var found connector.Found
	for _, a := range f.accounts {
		match := map[connector.By]string{
			connector.ByID: string(a.ID), connector.ByName: a.Name, connector.ByMarker: a.Marker, connector.ByCorrelationKey: a.CorrelationKey,
		}
		if match[q.By] == q.Value {
			found.Accounts = append(found.Accounts, *a)
		}
	}
	if q.By == connector.ByEntitlement && q.Value == "group:a" {
		found.Entitlement = &connector.Entitlement{ID: "group:a", Assignable: true, MinMembers: 1}
	}
	return found, nil
}

func (f *fake) List(ctx context.Context, cursor string, out *connector.Listing) error {
	if cursor != "" {
		return connector.CursorExpired("too old")
	}
	for _, a := range f.accounts {
		if err := out.Account(*a); err != nil {
			return err
		}
	}
	if err := out.Entitlement(connector.Entitlement{ID: "group:a"}); err != nil {
		return err
	}
	if err := out.Checkpoint("1"); err != nil {
		return err
	}
	if f.fail != nil {
		if err := f.fail(ctx, "list"); err != nil {
			return err
		}
	}
	return out.Membership(connector.Membership{Account: "1", Entitlement: "group:a"})
}

func (f *fake) Create(ctx context.Context, account connector.NewAccount) (connector.AccountID, connector.Change, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.accounts {
		if a.Marker == account.Marker {
			return a.ID, connector.Unchanged, nil
		}
	}
	id := connector.AccountID(fmt.Sprint(len(f.accounts) + 1))
	f.accounts[id] = &connector.Account{ID: id, Marker: account.Marker, Attributes: account.Attributes, Status: connector.Disabled}
	if _, err := f.call(ctx, connector.Ref{ID: id}, "create"); err != nil {
		return id, 0, err
	}
	return id, connector.Changed, nil
}

func (f *fake) Update(ctx context.Context, ref connector.Ref, set map[string]string, empty []string) (connector.Change, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, err := f.call(ctx, ref, "update")
	if err != nil {
		return 0, err
	}
	before := fmt.Sprint(a.Attributes)
	for name, value := range set {
		a.Attributes[name] = value
	}
	for _, name := range empty {
		delete(a.Attributes, name)
	}
	return changed(before != fmt.Sprint(a.Attributes)), nil
}

func (f *fake) status(ctx context.Context, ref connector.Ref, call string, want connector.Status) (connector.Change, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, err := f.call(ctx, ref, call)
	if err != nil {
		return 0, err
	}
	was := a.Status
	a.Status = want
	return changed(was != want), nil
}

func (f *fake) Enable(ctx context.Context, ref connector.Ref) (connector.Change, error) {
	return f.status(ctx, ref, "enable", connector.Enabled)
}

func (f *fake) Disable(ctx context.Context, ref connector.Ref) (connector.Change, error) {
	return f.status(ctx, ref, "disable", connector.Disabled)
}

func (f *fake) Delete(ctx context.Context, ref connector.Ref) (connector.Change, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.call(ctx, ref, "delete"); err != nil {
		return 0, err
	}
	delete(f.accounts, ref.ID)
	return connector.Changed, nil
}

func (f *fake) member(ctx context.Context, ref connector.Ref, call, entitlement string, want bool) (connector.Change, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, err := f.call(ctx, ref, call+" "+entitlement)
	if err != nil {
		return 0, err
	}
	var kept []connector.Grant
	was := false
	for _, g := range a.Grants {
		if g.Entitlement == entitlement {
			was = true
		} else {
			kept = append(kept, g)
		}
	}
	if want {
		kept = append(kept, connector.Grant{Entitlement: entitlement})
	}
	a.Grants = kept
	return changed(was != want), nil
}

func (f *fake) Grant(ctx context.Context, ref connector.Ref, entitlement string) (connector.Change, error) {
	return f.member(ctx, ref, "grant", entitlement, true)
}

func (f *fake) Revoke(ctx context.Context, ref connector.Ref, entitlement string) (connector.Change, error) {
	return f.member(ctx, ref, "revoke", entitlement, false)
}

func (f *fake) KillSessions(ctx context.Context, ref connector.Ref) (connector.Change, connector.Count, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, err := f.call(ctx, ref, "kill")
	if err != nil {
		return 0, connector.Count{}, err
	}
	n, _ := a.LiveSessions.Get()
	a.LiveSessions = connector.Counted(0)
	return changed(n > 0), connector.Counted(0), nil
}

func (f *fake) RevokeCredential(ctx context.Context, ref connector.Ref, target string) (connector.Change, connector.Count, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, err := f.call(ctx, ref, "revoke-credential "+target)
	if err != nil {
		return 0, connector.Count{}, err
	}
	had := len(a.Credentials) > 0
	a.Credentials = nil
	return changed(had), connector.Counted(0), nil
}

func (f *fake) RotateCredential(ctx context.Context, ref connector.Ref, rotation connector.Rotation) (connector.Rotated, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rotated = append(f.rotated, rotation)
	if _, err := f.call(ctx, ref, "rotate"); err != nil {
		return connector.Rotated{}, err
	}
	if rotation.Secret != "" {
		return connector.Rotated{ID: "k1"}, nil
	}
	return connector.Rotated{ID: "k2", Secret: "made-by-the-application"}, nil
}

func dial(t *testing.T, impl connector.Connector, options ...connector.Option) connectorv1.ConnectorClient {
	t.Helper()
	client, stop, err := connector.InProcess(impl, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return client
}

func apply(t *testing.T, client connectorv1.ConnectorClient, req *connectorv1.ApplyRequest) *connectorv1.ApplyResponse {
	t.Helper()
	if req.GetNotAfter() == nil {
		req.NotAfter = timestamppb.New(time.Now().Add(time.Minute))
	}
	for i, s := range req.GetSteps() {
		s.Index = uint32(i) + 7 // any numbering of the worker's must come back
	}
	got, err := client.Apply(t.Context(), req)
	if err != nil {
		t.Fatalf("Apply must answer OK and say in its results what failed: %v", err)
	}
	if len(got.GetResults()) != len(req.GetSteps()) {
		t.Fatalf("%d results for %d steps", len(got.GetResults()), len(req.GetSteps()))
	}
	for i, r := range got.GetResults() {
		if r.GetIndex() != req.GetSteps()[i].GetIndex() {
			t.Fatalf("result %d has index %d, its step %d", i, r.GetIndex(), req.GetSteps()[i].GetIndex())
		}
	}
	return got
}

func step(op eventv1.Op, target string) *connectorv1.Step {
	return &connectorv1.Step{Op: op, Target: target, Attributes: map[string]string{"login": "ann"}}
}
