package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// wiki is a demo application, asked by its own listing.
type wiki struct{ address string }

// demoApplication is a demo application as the configuration has it; entitlements are all it knows.
func demoApplication(name, listen string, entitlements []string, more string) string {
	return fmt.Sprintf(`
  - name: %s
    connector: demo
    environment: prod
    owner: team-%s
    enforce: full
    config: {temper: plain, listen: %q, entitlements: ["%s"]}
    account: {login: person.user_name, email: person.email%s}
`, name, name, listen, strings.Join(entitlements, `", "`), more)
}

// wikiAccount is an account as the application itself shows it.
type wikiAccount struct {
	Login        string            `json:"login"`
	Status       string            `json:"status"`
	Attributes   map[string]string `json:"attributes"`
	Entitlements []string          `json:"entitlements"`
	Sessions     int               `json:"sessions"`
	Keys         int               `json:"keys"`
}

func (w wiki) fetch(t *testing.T, path string) []byte {
	t.Helper()
	status, body, err := get(t.Context(), "http://"+w.address+path)
	if err != nil || status != http.StatusOK {
		t.Fatalf("%s of the application: %d %v", path, status, err)
	}
	return body
}

// list are all accounts, with their entitlements in order.
func (w wiki) list(t *testing.T) (all []wikiAccount) {
	t.Helper()
	if err := json.Unmarshal(w.fetch(t, "/accounts"), &all); err != nil {
		t.Fatal(err)
	}
	for _, account := range all {
		slices.Sort(account.Entitlements)
	}
	return all
}

// await waits until this is what all accounts have: "login status[entitlements]", in order of login.
func (w wiki) await(t *testing.T, want string) {
	t.Helper()
	await(t, want, func() (bool, string) {
		var all []string
		for _, a := range w.list(t) {
			all = append(all, fmt.Sprint(a.Login, " ", a.Status, a.Entitlements))
		}
		slices.Sort(all)
		seen := strings.Join(all, ", ")
		return seen == want, seen
	})
}

// accounts are all accounts by e-mail. No two may have the same.
func (w wiki) accounts(t *testing.T) map[string]wikiAccount {
	t.Helper()
	byEmail := map[string]wikiAccount{}
	for _, account := range w.list(t) {
		email := account.Attributes["email"]
		if _, twice := byEmail[email]; twice {
			t.Errorf("two accounts for %s", email)
		}
		byEmail[email] = account
	}
	return byEmail
}

// account is the one of that e-mail; none: its zero value.
func (w wiki) account(t *testing.T, email string) wikiAccount {
	t.Helper()
	return w.accounts(t)[email]
}

// demoJournal reads the effects that a demo application's journal tells; accounts are known by their e-mail.
func demoJournal(t *testing.T, w wiki) (journal []effect) {
	t.Helper()
	var lines []byte
	await(t, "the application's journal", func() (bool, string) { // it may be in a process that has just died
		status, body, err := get(t.Context(), "http://"+w.address+"/journal")
		lines = body
		return err == nil && status == http.StatusOK, fmt.Sprint(status, err)
	})
	emails := map[string]string{}
	for line := range strings.Lines(string(lines)) {
		var e struct {
			Op, Account, Entitlement string
			Attributes               map[string]string
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if email := e.Attributes["email"]; email != "" {
			emails[e.Account] = email
		}
		switch e.Op {
		case "create", "enable", "disable", "delete", "grant", "revoke":
			journal = append(journal, effect{emails[e.Account], e.Op, e.Entitlement})
		}
	}
	return journal
}
