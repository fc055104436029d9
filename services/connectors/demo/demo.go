// Package demo is a small application of its own, with a connector to it: accounts, entitlements, sessions and API keys,
// kept in one append-only journal. It stands in for real applications in demonstrations, tests and measurements,
// in three tempers: plain, slow, and throttling.
//
// What it promises a test: everything is there after a kill; the journal holds every mutation that had an effect and no
// other; and its HTTP listing shows accounts, journal and logins without Tenure in between. Like most real
// servers it lets live sessions and API keys work on after DISABLE.
package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/tenurehq/tenure/pkg/connector"
)

// The tempers.
const (
	Plain      = "plain"      // answers at once
	Slow       = "slow"       // takes 50 to 150 ms for each call
	Throttling = "throttling" // refuses more than CallsPerSecond
)

const defaultCallsPerSecond = 50

// Config is the operator's part.
type Config struct {
	Temper         string   `json:"temper"`           // default plain
	CallsPerSecond float64  `json:"calls_per_second"` // throttling only; default 50
	Entitlements   []string `json:"entitlements"`     // all that can be granted
	File           string   `json:"file"`             // the journal
	Listen         string   `json:"listen"`           // host:port of the HTTP listing, loopback only; empty: none
}

// Validate says what is wrong, naming the key.
func (c Config) Validate() error {
	switch c.Temper {
	case "", Plain, Slow, Throttling:
	default:
		return fmt.Errorf("temper: %q is none of plain, slow, throttling", c.Temper)
	}
	if c.CallsPerSecond < 0 {
		return errors.New("calls_per_second: must not be negative")
	}
	if c.File == "" {
		return errors.New("file: missing")
	}
	for i, id := range c.Entitlements {
		if id == "" || slices.Contains(c.Entitlements[:i], id) {
			return fmt.Errorf("entitlements[%d]: empty or repeated", i)
		}
	}
	if c.Listen == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("listen: %s is not a loopback address, and the listing asks nobody who they are", c.Listen)
	}
	return nil
}

// Application is the demo application and its connector. It implements every interface of the SDK but Poller.
type Application struct {
	cfg     Config
	store   *store
	limiter *rate.Limiter // nil: never throttles
	web     *web          // nil: no listing
}

// Open starts the application from its journal, which one process at a time may hold.
func Open(ctx context.Context, cfg Config) (*Application, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	store, err := openStore(cfg.File)
	if err != nil {
		return nil, err
	}
	a := &Application{cfg: cfg, store: store}
	if cfg.Temper == Throttling {
		perSecond := cfg.CallsPerSecond
		if perSecond == 0 {
			perSecond = defaultCallsPerSecond
		}
		a.limiter = rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond)))
	}
	if cfg.Listen != "" {
		if a.web, err = startWeb(ctx, cfg.Listen, a); err != nil {
			return nil, errors.Join(err, store.Close())
		}
	}
	return a, nil
}

// Close stops the listing and closes the journal.
func (a *Application) Close() error {
	var err error
	if a.web != nil {
		err = a.web.Close()
	}
	return errors.Join(err, a.store.Close())
}

// URL is where the listing is; empty without one.
func (a *Application) URL() string {
	if a.web == nil {
		return ""
	}
	return a.web.url
}

// call is what each call of Tenure's goes through before it has any effect.
func (a *Application) call(ctx context.Context) error {
	if a.limiter != nil {
		r := a.limiter.Reserve()
		if wait := r.Delay(); wait > 0 {
			r.Cancel()
			return connector.RateLimited(wait, "demo.429", "more than %g calls a second", float64(a.limiter.Limit()))
		}
	}
	if a.cfg.Temper == Slow {
		delay := time.NewTimer(50*time.Millisecond + rand.N(100*time.Millisecond)) //nolint:gosec // not a secret
		defer delay.Stop()
		select {
		case <-delay.C:
		case <-ctx.Done():
			return connector.Unavailable("demo.gave_up", "the caller gave up before anything was done")
		}
	}
	return nil
}

// Describe implements connector.Connector.
func (a *Application) Describe() connector.Description {
	d := connector.Description{
		Type: "demo", Version: "1", ConfigSchema: configSchema, NativeIdempotent: true,
		CredentialKinds: []string{connector.KindAPIKey}, DeleteCutsSessions: true,
	}
	for _, name := range attributeNames {
		d.Attributes = append(d.Attributes, connector.Attribute{
			Name: name, Type: "string", Required: name == attrLogin, Writable: true, Unique: name == attrLogin, CaseExact: true,
		})
	}
	return d
}

// Check implements connector.Connector.
func (a *Application) Check(ctx context.Context) (connector.Identity, error) {
	if err := a.call(ctx); err != nil {
		return connector.Identity{}, err
	}
	temper := a.cfg.Temper
	if temper == "" {
		temper = Plain
	}
	product := "Tenure demo, " + temper
	if a.web != nil {
		product += ", listing at " + a.web.url
	}
	return connector.Identity{Target: "demo:" + a.store.identity(), Product: product}, nil
}

// Read implements connector.Connector.
func (a *Application) Read(ctx context.Context, q connector.Query) (connector.Found, error) {
	if err := a.call(ctx); err != nil {
		return connector.Found{}, err
	}
	var found connector.Found
	if q.By == connector.ByEntitlement && slices.Contains(a.cfg.Entitlements, q.Value) {
		e := entitlement(q.Value)
		found.Entitlement = &e
	}
	found.Accounts = a.store.find(q.By, q.Value)
	return found, nil
}

// List implements connector.Lister.
func (a *Application) List(ctx context.Context, cursor string, out *connector.Listing) error {
	if err := a.call(ctx); err != nil {
		return err
	}
	if cursor != "" {
		return connector.CursorExpired("this application lists from the beginning only")
	}
	for _, id := range a.cfg.Entitlements {
		if err := out.Entitlement(entitlement(id)); err != nil {
			return err
		}
	}
	accounts := a.store.all()
	for _, account := range accounts {
		if err := out.Account(account); err != nil {
			return err
		}
	}
	for _, account := range accounts {
		for _, g := range account.Grants {
			if err := out.Membership(connector.Membership{Account: account.ID, Entitlement: g.Entitlement}); err != nil {
				return err
			}
		}
	}
	return nil
}

func entitlement(id string) connector.Entitlement {
	kind, _, _ := strings.Cut(id, ":")
	return connector.Entitlement{ID: id, Type: kind, DisplayName: id, Assignable: true}
}

// Create implements connector.Creator.
func (a *Application) Create(ctx context.Context, account connector.NewAccount) (connector.AccountID, connector.Change, error) {
	if err := a.call(ctx); err != nil {
		return "", 0, err
	}
	if account.Attributes[attrLogin] == "" {
		return "", 0, connector.Invalid([]string{attrLogin}, "demo.400", "login is required")
	}
	return a.store.create(account)
}

// Update implements connector.Updater.
func (a *Application) Update(ctx context.Context, ref connector.Ref, set map[string]string, clear []string) (connector.Change, error) {
	return a.mutate(ctx, ref, func(u *user) ([]entry, error) { return a.store.update(u, ref.Marker, set, clear) })
}

// Enable implements connector.Enabler.
func (a *Application) Enable(ctx context.Context, ref connector.Ref) (connector.Change, error) {
	return a.mutate(ctx, ref, func(u *user) ([]entry, error) {
		if u.enabled {
			return nil, nil
		}
		return []entry{{Op: opEnable, Account: u.id}}, nil
	})
}

// Disable implements connector.Enabler.
func (a *Application) Disable(ctx context.Context, ref connector.Ref) (connector.Change, error) {
	return a.mutate(ctx, ref, func(u *user) ([]entry, error) {
		if !u.enabled {
			return nil, nil
		}
		return []entry{{Op: opDisable, Account: u.id}}, nil
	})
}

// Delete implements connector.Deleter.
func (a *Application) Delete(ctx context.Context, ref connector.Ref) (connector.Change, error) {
	return a.mutate(ctx, ref, func(u *user) ([]entry, error) { return []entry{{Op: opDelete, Account: u.id}}, nil })
}

// Grant implements connector.Granter.
func (a *Application) Grant(ctx context.Context, ref connector.Ref, id string) (connector.Change, error) {
	return a.mutate(ctx, ref, func(u *user) ([]entry, error) {
		switch {
		case !slices.Contains(a.cfg.Entitlements, id):
			return nil, connector.NoEntitlement(id)
		case u.has(id):
			return nil, nil
		}
		return []entry{{Op: opGrant, Account: u.id, Entitlement: id}}, nil
	})
}

// Revoke implements connector.Granter.
func (a *Application) Revoke(ctx context.Context, ref connector.Ref, id string) (connector.Change, error) {
	return a.mutate(ctx, ref, func(u *user) ([]entry, error) {
		if !u.has(id) {
			return nil, nil
		}
		return []entry{{Op: opRevoke, Account: u.id, Entitlement: id}}, nil
	})
}

// KillSessions implements connector.SessionKiller.
func (a *Application) KillSessions(ctx context.Context, ref connector.Ref) (connector.Change, connector.Count, error) {
	change, err := a.mutate(ctx, ref, func(u *user) ([]entry, error) {
		var out []entry
		for id := range u.sessions {
			out = append(out, entry{Op: opEndSession, Account: u.id, Credential: id})
		}
		return out, nil
	})
	return change, left(err), err
}

// RevokeCredential implements connector.CredentialManager.
func (a *Application) RevokeCredential(ctx context.Context, ref connector.Ref, target string) (connector.Change, connector.Count, error) {
	change, err := a.mutate(ctx, ref, func(u *user) ([]entry, error) {
		var out []entry
		for id := range u.keys {
			if target == "" || target == connector.KindAPIKey || target == id {
				out = append(out, entry{Op: opRevokeKey, Account: u.id, Credential: id})
			}
		}
		return out, nil
	})
	return change, left(err), err
}

// RotateCredential implements connector.CredentialRotator.
func (a *Application) RotateCredential(ctx context.Context, ref connector.Ref, rotation connector.Rotation) (connector.Rotated, error) {
	var out connector.Rotated
	_, err := a.mutate(ctx, ref, func(u *user) ([]entry, error) {
		if _, known := u.keys[rotation.Target]; !known && rotation.Target != connector.KindAPIKey {
			return nil, connector.NotFound("demo.404", "no such key")
		}
		secret := rotation.Secret
		if secret == "" {
			secret = newToken()
			out.Secret = secret
		}
		issue := a.store.issue(u, opIssueKey, secret)
		out.ID = issue.Credential
		entries := []entry{issue}
		for id := range u.keys {
			if rotation.Target != connector.KindAPIKey && rotation.Target != id {
				continue
			}
			if rotation.Overlap > 0 {
				expires := time.Now().Add(rotation.Overlap).UTC()
				entries = append(entries, entry{Op: opExpireKey, Account: u.id, Credential: id, Expires: &expires})
			} else {
				entries = append(entries, entry{Op: opRevokeKey, Account: u.id, Credential: id})
			}
		}
		return entries, nil
	})
	return out, err
}

// left is none, once everything there was is gone.
func left(err error) connector.Count {
	if err != nil {
		return connector.Count{}
	}
	return connector.Counted(0)
}

// mutate makes what decide wants so of the account that ref means, in one piece.
func (a *Application) mutate(ctx context.Context, ref connector.Ref, decide func(*user) ([]entry, error)) (connector.Change, error) {
	if err := a.call(ctx); err != nil {
		return 0, err
	}
	return a.store.mutate(string(ref.ID), func(u *user) ([]entry, error) {
		if u.marker != "" && u.marker != ref.Marker {
			return nil, connector.Denied("demo.403", "the account carries another marker")
		}
		return decide(u)
	})
}
