// Package scimtest starts SCIM applications for tests: a real one of somebody else's, and one that misbehaves as is wished.
package scimtest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// folder is where the application lies in the repository.
const folder = "services/connectors/scim/testdata/scimmy"

// Server is a scimmy of its own in a process of its own.
type Server struct {
	tb      testing.TB
	address string
	token   string
}

// Start starts one on a free port of the loopback, with options as its server.mjs tells. It ends with the test. Without node, or the packages that scripts/servers.sh
// installs, the test is skipped, and fails where CI is set.
func Start(tb testing.TB, options ...string) *Server {
	tb.Helper()
	dir := application(tb)
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); errors.Is(err, fs.ErrNotExist) {
		missing(tb, "the packages of "+folder+": run scripts/servers.sh")
	}
	node, err := exec.LookPath("node")
	if err != nil {
		missing(tb, "node")
	}
	s := &Server{tb: tb, token: rand.Text()}
	// The context of the test ends before its cleanups, which may still ask the server.
	cmd := exec.CommandContext(context.WithoutCancel(tb.Context()), node, append([]string{"server.mjs", s.token}, options...)...) //nolint:gosec // ours
	cmd.Dir = dir
	said := &output{}
	cmd.Stderr = said
	in, err := cmd.StdinPipe() // its end is the server's
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			tb.Errorf("the SCIM server ended with %v\n%s", err, said)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		tb.Fatalf("the SCIM server did not start: %v\n%s", err, said)
	}
	s.address = strings.TrimSpace(line)
	return s
}

func missing(tb testing.TB, what string) {
	tb.Helper()
	if os.Getenv("CI") != "" {
		tb.Fatalf("no SCIM server to test against, for want of %s", what)
	}
	tb.Skipf("no SCIM server to test against, for want of %s", what)
}

// application looks for the repository above the folder of the test.
func application(tb testing.TB) string {
	tb.Helper()
	at, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		dir := filepath.Join(at, folder)
		if _, err := os.Stat(dir); err == nil {
			return dir
		}
		if at == filepath.Dir(at) {
			tb.Fatalf("no folder above this test holds %s", folder)
		}
		at = filepath.Dir(at)
	}
}

// output is what a process says; it is written and read at once.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Address is the server's host:port.
func (s *Server) Address() string { return s.address }

// Path is what stands between the address and the endpoints.
func (s *Server) Path() string { return "/scim/v2" }

// URL is the base URL.
func (s *Server) URL() string { return "http://" + s.address + s.Path() }

// Token is the bearer token.
func (s *Server) Token() string { return s.token }

// AddGroup makes a group, as an administrator of the application would.
func (s *Server) AddGroup(tb testing.TB, name string) {
	tb.Helper()
	s.AddResource(tb, "/Groups", map[string]any{"schemas": []string{"urn:ietf:params:scim:schemas:core:2.0:Group"}, "displayName": name})
}

// AddResource makes a user or group over SCIM, without the connector, and returns its id.
func (s *Server) AddResource(tb testing.TB, endpoint string, body map[string]any) (id string) {
	tb.Helper()
	content, err := json.Marshal(body)
	if err != nil {
		tb.Fatal(err)
	}
	var made struct {
		ID string `json:"id"`
	}
	s.call(tb, http.MethodPost, s.URL()+endpoint, content, http.StatusCreated, &made)
	return made.ID
}

// Read reads a user, group or list over SCIM, without the connector.
func (s *Server) Read(tb testing.TB, path string, into any) {
	tb.Helper()
	s.call(tb, http.MethodGet, s.URL()+path, nil, http.StatusOK, into)
}

// Throttle lets the next n requests be answered 429.
func (s *Server) Throttle(n int) {
	s.call(s.tb, http.MethodPost, "http://"+s.address+"/throttle?n="+strconv.Itoa(n), nil, http.StatusNoContent, nil)
}

// Belongs makes the token that of a user.
func (s *Server) Belongs(tb testing.TB, id string) {
	tb.Helper()
	s.call(tb, http.MethodPost, "http://"+s.address+"/owner?id="+id, nil, http.StatusNoContent, nil)
}

// Change is one line of the server's journal: something that was not so before.
type Change struct {
	Op    string // create, enable, disable, delete, grant, revoke
	ID    string // the user's
	Login string // the user's name at that time
	Group string // of grant and revoke
}

// Journal is all that changed, in its order.
func (s *Server) Journal(tb testing.TB) (journal []Change) {
	tb.Helper()
	s.call(tb, http.MethodGet, "http://"+s.address+"/journal", nil, http.StatusOK, &journal)
	return journal
}

func (s *Server) call(tb testing.TB, method, url string, body []byte, want int, into any) {
	tb.Helper()
	req, err := http.NewRequestWithContext(context.WithoutCancel(tb.Context()), method, url, bytes.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	req.Header.Set("Content-Type", "application/scim+json")
	response, err := http.DefaultClient.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != want {
		tb.Fatalf("%s %s: %s, want %d", method, url, response.Status, want)
	}
	if into == nil {
		return
	}
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		tb.Fatalf("%s %s: %v", method, url, err)
	}
}
