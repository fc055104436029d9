package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tenurehq/tenure/pkg/connector"
)

// web shows the application to people and tests, without Tenure in between:
//
//	GET  /accounts      [{"id", "login", "status", "marker", "attributes", "entitlements", "sessions", "keys"}]
//	GET  /entitlements  [{"id", "members": [login]}]
//	GET  /journal       one entry a line; ?after=SEQ
//	POST /login         {"login"}: 201 {"session": token}; 403 when disabled, 404 when there is none
//	POST /keys          {"login"}: 201 {"id", "key": token}; likewise
//	GET  /whoami        Authorization: Bearer token: 200 {"login"}, or 401
//
// It has no temper and asks nobody who they are.
type web struct {
	url    string
	server *http.Server
	served chan error
}

func startWeb(ctx context.Context, address string, a *Application) (*web, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for the listing: %w", err)
	}
	w := &web{url: "http://" + listener.Addr().String(), served: make(chan error, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /accounts", a.serveAccounts)
	mux.HandleFunc("GET /entitlements", a.serveEntitlements)
	mux.HandleFunc("GET /journal", a.serveJournal)
	mux.HandleFunc("POST /login", a.serveLogin)
	mux.HandleFunc("POST /keys", a.serveKeys)
	mux.HandleFunc("GET /whoami", a.serveWhoami)
	w.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { w.served <- w.server.Serve(listener) }()
	return w, nil
}

// Close cuts what is under way: a reader of the journal must not keep the process.
func (w *web) Close() error {
	err := w.server.Close()
	if served := <-w.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// shown is one account in the listing.
type shown struct {
	ID           string            `json:"id"`
	Login        string            `json:"login"`
	Status       string            `json:"status"` // enabled or disabled
	Marker       string            `json:"marker,omitempty"`
	Attributes   map[string]string `json:"attributes"`
	Entitlements []string          `json:"entitlements"`
	Sessions     int               `json:"sessions"`
	Keys         int               `json:"keys"`
}

func (a *Application) serveAccounts(w http.ResponseWriter, _ *http.Request) {
	out := []shown{}
	for _, account := range a.store.all() {
		sessions, _ := account.LiveSessions.Get()
		s := shown{
			ID: string(account.ID), Login: account.Name, Status: "disabled", Marker: account.Marker, Attributes: account.Attributes,
			Entitlements: []string{}, Sessions: sessions, Keys: len(account.Credentials),
		}
		if account.Status == connector.Enabled {
			s.Status = "enabled"
		}
		for _, g := range account.Grants {
			s.Entitlements = append(s.Entitlements, g.Entitlement)
		}
		out = append(out, s)
	}
	answer(w, http.StatusOK, out)
}

func (a *Application) serveEntitlements(w http.ResponseWriter, _ *http.Request) {
	type members struct {
		ID      string   `json:"id"`
		Members []string `json:"members"`
	}
	out := []members{}
	for _, id := range a.cfg.Entitlements {
		m := members{ID: id, Members: []string{}}
		for _, account := range a.store.find(connector.ByEntitlement, id) {
			m.Members = append(m.Members, account.Name)
		}
		out = append(out, m)
	}
	answer(w, http.StatusOK, out)
}

func (a *Application) serveJournal(w http.ResponseWriter, r *http.Request) {
	after, err := strconv.ParseUint("0"+r.URL.Query().Get("after"), 10, 64)
	if err != nil {
		answer(w, http.StatusBadRequest, map[string]string{"error": "after: not a number"})
		return
	}
	file, err := a.store.journal.open()
	if err != nil {
		answer(w, http.StatusInternalServerError, map[string]string{"error": "the journal cannot be read"})
		return
	}
	defer file.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines := bufio.NewReaderSize(file, 1<<20)
	for seq := uint64(1); ; seq++ {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return // its end, or half a line that is being written
		}
		if seq <= after {
			continue
		}
		if _, err := w.Write(line); err != nil {
			return
		}
	}
}

func (a *Application) serveLogin(w http.ResponseWriter, r *http.Request) {
	if _, secret, ok := a.enter(w, r, opOpenSession); ok {
		answer(w, http.StatusCreated, map[string]string{"session": secret})
	}
}

func (a *Application) serveKeys(w http.ResponseWriter, r *http.Request) {
	if id, secret, ok := a.enter(w, r, opIssueKey); ok {
		answer(w, http.StatusCreated, map[string]string{"id": id, "key": secret})
	}
}

// enter gives an enabled account a new session or key, or answers why not.
func (a *Application) enter(w http.ResponseWriter, r *http.Request, op string) (id, secret string, ok bool) {
	var body struct {
		Login string `json:"login"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<16)).Decode(&body); err != nil {
		answer(w, http.StatusBadRequest, map[string]string{"error": "not JSON"})
		return "", "", false
	}
	found := a.store.find(connector.ByName, body.Login)
	if len(found) != 1 {
		answer(w, http.StatusNotFound, map[string]string{"error": "no such account"})
		return "", "", false
	}
	secret = newToken()
	_, err := a.store.mutate(string(found[0].ID), func(u *user) ([]entry, error) {
		if !u.enabled {
			return nil, connector.Precondition("demo.403", "disabled")
		}
		a.store.use(u.id)
		e := a.store.issue(u, op, secret)
		id = e.Credential
		return []entry{e}, nil
	})
	if err != nil {
		answer(w, http.StatusForbidden, map[string]string{"error": err.Error()})
		return "", "", false
	}
	return id, secret, true
}

func (a *Application) serveWhoami(w http.ResponseWriter, r *http.Request) {
	secret, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if login, ok := a.store.who(secret); ok {
		answer(w, http.StatusOK, map[string]string{"login": login})
		return
	}
	answer(w, http.StatusUnauthorized, map[string]string{"error": "not known"})
}

// who returns whose token secret is.
func (s *store) who(secret string) (login string, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t, ok := s.tokens[hash(secret)]
	if !ok {
		return "", false
	}
	u, _ := s.user(t.user)
	if !t.session && !u.keys[t.id].live(time.Now()) {
		return "", false
	}
	return u.login(), true
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the reader went away
}
