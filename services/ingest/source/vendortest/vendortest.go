// Package vendortest has servers that answer like the APIs of HR systems, in the shapes that these document, and that can
// misbehave as such APIs do: deny, throttle, fail, be slow, and go on answering with what held before. It is for tests.
package vendortest

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"time"
)

// Fields are an employee's, by the vendor's names of them.
type Fields map[string]any

// Server is an HR system with employees. Safe for concurrent use.
type Server struct {
	*httptest.Server

	user, password string

	mu       sync.Mutex
	people   map[string]Fields
	frozen   map[string]Fields // answered instead, while there is one
	reads    map[string]int    // by employee, answered or not there
	requests int
	failing  int // requests still to fail
	status   int
	header   http.Header
	refused  map[string]int // statuses, by employee
	wait     chan struct{}  // answers wait until it is closed
	waiting  chan struct{}  // has an element for each that does
}

func serve(user, password string, answer func(s *Server, w http.ResponseWriter, r *http.Request)) *Server {
	s := &Server{user: user, password: password, people: map[string]Fields{}, reads: map[string]int{}, refused: map[string]int{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.admit(w, r) {
			answer(s, w, r)
		}
	}))
	return s
}

// Set makes an employee what fields say, all of them.
func (s *Server) Set(id string, fields Fields) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.people[id] = maps.Clone(fields)
}

// Change sets some fields of an employee.
func (s *Server) Change(id string, fields Fields) {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := maps.Clone(s.people[id])
	maps.Copy(changed, fields)
	s.people[id] = changed
}

// Delete makes an employee unknown.
func (s *Server) Delete(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.people, id)
}

// Freeze makes the API answer with what holds now, whatever changes; Thaw ends it.
func (s *Server) Freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = maps.Clone(s.people)
}

// Thaw lets the API answer with what holds.
func (s *Server) Thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = nil
}

// Fail answers the next n requests with a status and these headers, given by name and value; n < 0: all, until told
// otherwise.
func (s *Server) Fail(n, status int, headers ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing, s.status, s.header = n, status, http.Header{}
	for i := 0; i+1 < len(headers); i += 2 {
		s.header.Set(headers[i], headers[i+1])
	}
}

// Throttle answers the next n requests as an API does that wants to be left alone.
func (s *Server) Throttle(n int, after time.Duration) {
	s.Fail(n, http.StatusTooManyRequests, "Retry-After", strconv.Itoa(int(after.Seconds())))
}

// Hang lets answers wait until release is called; begun has an element for each request that does.
func (s *Server) Hang() (begun <-chan struct{}, release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait, waiting := make(chan struct{}), make(chan struct{}, 1000)
	s.wait, s.waiting = wait, waiting
	return waiting, sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.wait = nil
		close(wait)
	})
}

// Refuse answers every request about one employee with a status; 0: no more.
func (s *Server) Refuse(id string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if status == 0 {
		delete(s.refused, id)
		return
	}
	s.refused[id] = status
}

// Requests is how many requests came, of whatever kind.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// Reads is how often the API was asked about an employee and answered.
func (s *Server) Reads(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads[id]
}

// admit tells whether a request gets an answer of the API; else it has had one.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) bool {
	s.mu.Lock()
	s.requests++
	wait, waiting, failing := s.wait, s.waiting, s.failing != 0
	status, header := s.status, s.header
	if s.failing > 0 {
		s.failing--
	}
	s.mu.Unlock()
	if failing {
		maps.Copy(w.Header(), header)
		w.WriteHeader(status)
		return false
	}
	if user, password, ok := r.BasicAuth(); !ok || user != s.user || (s.password != "" && password != s.password) {
		w.WriteHeader(http.StatusUnauthorized)
		return false
	}
	if wait != nil {
		waiting <- struct{}{}
		select {
		case <-wait:
		case <-r.Context().Done():
			return false
		}
	}
	return true
}

// read is what the API says about an employee; false: it has none.
func (s *Server) read(id string) (Fields, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads[id]++
	people := s.people
	if s.frozen != nil {
		people = s.frozen
	}
	fields, ok := people[id]
	return fields, ok
}

// refuses tells whether a request about an employee is refused; then it has been.
func (s *Server) refuses(w http.ResponseWriter, id string) bool {
	s.mu.Lock()
	status := s.refused[id]
	s.mu.Unlock()
	if status != 0 {
		w.WriteHeader(status)
	}
	return status != 0
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}
