package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// gate is the way to an application that speaks HTTP, where it can be made to misbehave: each request goes to handler, which
// answers it, or lets it through.
type gate struct {
	address string
	through http.Handler // to the application

	mu      sync.Mutex
	temper  temper
	touched int // requests that a temper answered
}

// temper answers a request in the application's way; false: it is let through.
type temper func(g *gate, w http.ResponseWriter, r *http.Request) bool

// newGate begins to pass on what comes to a port of its own.
func newGate(t *testing.T, backend string) *gate {
	t.Helper()
	g := &gate{address: freeAddresses(t, 1)[0], through: httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: backend})}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: g}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return g
}

// set changes the temper; nil: every request is let through.
func (g *gate) set(misbehaves temper) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.temper = misbehaves
}

// count is how many requests a temper has answered.
func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.touched
}

// ServeHTTP implements http.Handler.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	misbehaves := g.temper
	g.mu.Unlock()
	answered := false
	if misbehaves != nil {
		defer func() { // also of one that ends in a panic, which cuts the connection
			if aborts := recover(); answered || aborts != nil {
				g.mu.Lock()
				g.touched++
				g.mu.Unlock()
				if aborts != nil {
					panic(aborts)
				}
			}
		}()
		answered = misbehaves(g, w, r)
	}
	if !answered {
		g.through.ServeHTTP(w, r)
	}
}

func writes(r *http.Request) bool { return r.Method != http.MethodGet }

// throttles says that it is asked too often.
func throttles(_ *gate, w http.ResponseWriter, _ *http.Request) bool {
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(http.StatusTooManyRequests)
	return true
}

// hangs says nothing until the caller has gone.
func hangs(_ *gate, _ http.ResponseWriter, r *http.Request) bool {
	_, _ = io.Copy(io.Discard, r.Body) // only then is it seen that the caller goes
	<-r.Context().Done()
	return true
}

// resets answers with a reset of the connection.
func resets(_ *gate, w http.ResponseWriter, _ *http.Request) bool {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return false
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
	return true
}

// losesReplies does what changes something, and cuts the connection instead of saying so.
func losesReplies(g *gate, _ http.ResponseWriter, r *http.Request) bool {
	if !writes(r) {
		return false
	}
	g.through.ServeHTTP(unread{http.Header{}}, r)
	panic(http.ErrAbortHandler)
}

// losesAndForgets loses replies, and what it made is not found by a search: what makes a second account of one.
func losesAndForgets(t *testing.T) temper {
	t.Helper()
	forgets := stale(t)
	return func(g *gate, w http.ResponseWriter, r *http.Request) bool {
		return forgets(g, w, r) || losesReplies(g, w, r)
	}
}

// unread takes an answer that nobody reads.
type unread struct{ header http.Header }

func (u unread) Header() http.Header         { return u.header }
func (u unread) Write(p []byte) (int, error) { return len(p), nil }
func (u unread) WriteHeader(int)             {}

// lies says that what changes something was done, and does nothing.
func lies(_ *gate, w http.ResponseWriter, r *http.Request) bool {
	if !writes(r) {
		return false
	}
	var said map[string]any
	if json.NewDecoder(r.Body).Decode(&said) != nil || r.Method != http.MethodPost {
		w.WriteHeader(http.StatusNoContent)
		return true
	}
	said["id"] = rand.Text()
	w.Header().Set("Content-Type", "application/scim+json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(said) // who does not read it has gone
	return true
}

// stale answers searches as they were answered first, and with nobody where they were not asked before. One user, and one group, by its
// id is shown as it is.
func stale(t *testing.T) temper {
	t.Helper()
	var mu sync.Mutex
	known := map[string]*kept{}
	return func(g *gate, w http.ResponseWriter, r *http.Request) bool {
		searches := !writes(r) && (strings.HasSuffix(r.URL.Path, "/Users") || strings.HasSuffix(r.URL.Path, "/Groups"))
		if !searches {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		before := known[r.URL.String()]
		if before == nil {
			before = &kept{header: http.Header{}, status: http.StatusOK}
			g.through.ServeHTTP(before, r)
			known[r.URL.String()] = before
		}
		for name, values := range before.header {
			w.Header()[name] = values
		}
		w.WriteHeader(before.status)
		_, _ = w.Write(before.body.Bytes()) // who does not read it has gone
		return true
	}
}

// kept is an answer that is given again.
type kept struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (k *kept) Header() http.Header         { return k.header }
func (k *kept) Write(p []byte) (int, error) { return k.body.Write(p) }
func (k *kept) WriteHeader(status int)      { k.status = status }
