package e2e

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
)

// What it looks into are the applications, not Tenure.
func TestHistoryEndsInExactlyTheAccessOfTheModel(t *testing.T) {
	if testing.Short() {
		t.Skip("1,771 webhooks, twice")
	}
	t.Parallel()
	c := readCompany(t)
	seed := seed(t)
	for _, engine := range []string{sqldb.SQLite, sqldb.Postgres} {
		for _, order := range []string{"in order of date", "shuffled, each delivery twice"} {
			if (engine == sqldb.SQLite) != (order == "in order of date") && !whole() {
				continue // each engine and each order once
			}
			t.Run(engine+", "+order, func(t *testing.T) {
				t.Parallel()
				h := newHistory(t, c, engine)
				if order == "in order of date" {
					h.inOrder(t, 3)
				} else {
					t.Logf("the seed of the order is %d", seed)
					h.post(t, c.shuffledTwice(seed), false)
					h.check(t, len(c.postings))
				}
				h.tryLogins(t, order == "in order of date")
				h.audited(t, 150)
				h.stop(t)
			})
		}
	}
}

// history is a Tenure that has a company's history, with a wiki and a warehouse.
type history struct {
	*tenure
	company   company
	engine    string
	database  string // the superuser's DSN of Tenure's own; empty: SQLite
	wiki      wiki
	warehouse *warehouse

	active, left map[string]string // logins by external id, as last looked at
}

func newHistory(t *testing.T, c company, engine string) *history {
	t.Helper()
	h := &history{company: c, engine: engine, wiki: wiki{freeAddresses(t, 1)[0]}, warehouse: newWarehouse(t, warehouseRoles())}
	p := plan{applications: demoApplication("wiki", h.wiki.address, groups(), "") + h.warehouse.application(t), logLevel: "warn"}
	if engine == sqldb.Postgres {
		p.database = sqltest.PostgresServer(t)
	}
	h.database, h.tenure = p.database, serve(t, p)
	h.applyModel(t, roles)
	return h
}

// inOrder posts the history in several stretches and looks after each: otherwise most people would have left before
// their accounts were made, which is right and shows less.
func (h *history) inOrder(t *testing.T, stretches int) {
	t.Helper()
	for n := range stretches {
		from, to := len(h.company.postings)*n/stretches, len(h.company.postings)*(n+1)/stretches
		h.post(t, h.company.postings[from:to], true)
		h.check(t, to)
		if n == 0 {
			defer h.stayLoggedIn(t)()
		}
	}
}

// stayLoggedIn logs some people in to the warehouse who will have left at the end, and returns what then looks whether
// their sessions have ended, too.
func (h *history) stayLoggedIn(t *testing.T) (look func()) {
	t.Helper()
	const some = 5
	sessions := map[string]*pgx.Conn{}
	for id, r := range h.company.after(len(h.company.postings)) {
		name, now := h.active[id]
		if r.Status == "active" || !now || len(sessions) == some {
			continue
		}
		h.warehouse.setPassword(t, name, "of one's own")
		conn, err := h.warehouse.login(t, name, "of one's own")
		if err != nil {
			t.Fatalf("%s is active and cannot log in: %v", name, err)
		}
		sessions[name] = conn
	}
	return func() {
		t.Helper()
		if len(sessions) < some {
			t.Errorf("only %d people were logged in", len(sessions))
		}
		for name, conn := range sessions {
			if conn.Ping(t.Context()) == nil {
				t.Errorf("%s left and is still logged in", name)
			}
			_ = conn.Close(t.Context())
			if again, err := h.warehouse.login(t, name, "of one's own"); err == nil {
				_ = again.Close(t.Context())
				t.Errorf("%s left and can log in with the password of then", name)
			}
		}
	}
}

// post posts and waits until everything is read back.
func (h *history) post(t *testing.T, postings []posting, perPerson bool) {
	t.Helper()
	began := time.Now()
	h.hr(t).postAll(t, postings, perPerson)
	posted := time.Now()
	h.settle(t)
	t.Logf("%d webhooks posted in %s, settled %s later", len(postings), posted.Sub(began).Round(time.Millisecond), time.Since(posted).Round(time.Millisecond))
}

// check reads both applications and compares everybody with the model, as it is after the first n events.
func (h *history) check(t *testing.T, n int) {
	t.Helper()
	h.active, h.left = map[string]string{}, map[string]string{}
	accounts, logins := h.wiki.accounts(t), h.warehouse.logins(t, warehouseRoles())
	for id, r := range h.company.after(n) {
		account, known := accounts[r.Email]
		delete(accounts, r.Email)
		l := logins[account.Login]
		delete(logins, account.Login)
		if r.Status != "active" {
			if account.Status == "enabled" || len(account.Entitlements) > 0 || account.Sessions+account.Keys > 0 {
				t.Errorf("%s left and still has %+v in the wiki", id, account)
			}
			if l != nil && (l.canLogin || l.limit != 0 || len(l.memberOf) > 0) {
				t.Errorf("%s left and still has %+v in the warehouse", id, *l)
			}
			if l != nil {
				h.left[id] = account.Login
			}
			continue
		}
		if !known || l == nil {
			t.Errorf("%s has no account: wiki %v, warehouse %v", id, known, l != nil)
			continue
		}
		h.active[id] = account.Login
		if !userName(r).MatchString(account.Login) {
			t.Errorf("%s has the account of %s", id, account.Login)
		}
		wantGroups, wantRoles := should(r)
		if account.Status != "enabled" {
			t.Errorf("%s cannot log in to the wiki", id)
		}
		slices.Sort(account.Entitlements)
		if diff := cmp.Diff(wantGroups, account.Entitlements); diff != "" {
			t.Errorf("%s in the wiki (-model +has):\n%s", id, diff)
		}
		if !l.canLogin || l.limit == 0 {
			t.Errorf("%s cannot log in to the warehouse: %+v", id, *l)
		}
		if diff := cmp.Diff(wantRoles, l.memberOf); diff != "" {
			t.Errorf("%s in the warehouse (-model +has):\n%s", id, diff)
		}
	}
	if len(accounts) > 0 {
		t.Errorf("the wiki has accounts of nobody: %v", slices.Collect(maps.Keys(accounts)))
	}
	for name, l := range logins {
		// Who left before the wiki had made an account may have had one in the warehouse.
		if !h.isLeaver(n, name) || l.canLogin || l.limit != 0 || len(l.memberOf) > 0 {
			t.Errorf("the warehouse has the login %s of nobody: %+v", name, *l)
		}
	}
	t.Logf("after %d events %d active people have exactly what the model says; %d who left have what is left of an account", n, len(h.active), len(h.left))
}

// isLeaver says whether that can be the user name of somebody who left, after the first n events.
func (h *history) isLeaver(n int, name string) bool {
	for _, r := range h.company.after(n) {
		if r.Status != "active" && userName(r).MatchString(name) {
			return true
		}
	}
	return false
}

// userName matches what a person's user name can be.
func userName(r record) *regexp.Regexp {
	given, family := regexp.QuoteMeta(strings.ToLower(r.GivenName)), regexp.QuoteMeta(strings.ToLower(r.FamilyName))
	return regexp.MustCompile(`^(` + given[:1] + family + `|` + given + `\.` + family + `)\d*$`)
}

// tryLogins logs in, for some of each: even with a password known, who left is not let in. someLeft: there must be such people;
// where words come in any order they may all have been known to have left before they got an account.
func (h *history) tryLogins(t *testing.T, someLeft bool) {
	t.Helper()
	const some = 20
	if len(h.active) != 802 || someLeft && len(h.left) == 0 {
		t.Errorf("%d people are active, want 802; %d who left have what is left of an account", len(h.active), len(h.left))
	}
	for who, may := range map[*map[string]string]bool{&h.active: true, &h.left: false} {
		ids := slices.Sorted(maps.Keys(*who))
		for _, id := range ids[:min(some, len(ids))] {
			name := (*who)[id]
			if conn, err := h.warehouse.login(t, name, ""); err == nil {
				_ = conn.Close(t.Context())
				t.Errorf("%s is let in without a password", name)
			}
			h.warehouse.setPassword(t, name, "set behind its back")
			conn, err := h.warehouse.login(t, name, "set behind its back")
			if err == nil {
				_ = conn.Close(t.Context())
			}
			if (err == nil) != may {
				t.Errorf("%s (active: %v) logs in: %v", name, may, err)
			}
		}
	}
}
