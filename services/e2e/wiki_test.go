package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
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

// accounts are all accounts by e-mail. No two may have the same.
func (w wiki) accounts(t *testing.T) map[string]wikiAccount {
	t.Helper()
	var all []wikiAccount
	if err := json.Unmarshal(w.fetch(t, "/accounts"), &all); err != nil {
		t.Fatal(err)
	}
	byEmail := map[string]wikiAccount{}
	for _, account := range all {
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
