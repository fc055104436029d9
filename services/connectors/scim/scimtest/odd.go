package scimtest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Quirks are the ways in which an application departs from RFC 7643 and RFC 7644, or makes use of what they leave open. The
// zero Quirks are an application that does neither.
type Quirks struct {
	DuplicateIs      int    // status for a user who exists; default 409
	NoScimType       bool   // and no word why
	IgnoresFilters   bool   // answers every search with everybody
	NobodyIs404      bool   // instead of an empty list
	NoSearchBy       string // an attribute that a filter may not name: 400
	ForgetsSearches  int    // so many searches do not show the newest user yet
	Patch            string // path, pathless: the other is 400; none: 501
	Active           string // string, boolean: the other is 400
	RemoveMember     string // filter, value: the other is 400
	RefusesTwice     bool   // a member who is one already is 409
	KeepsTwice       bool   // a member who is one already is there twice
	HidesMembers     bool   // groups show none
	ShowsGroups      bool   // users show theirs
	HidesDisabled    bool   // a user who is not active is 404
	DeleteDisables   bool
	NoDisabledUsers  bool   // none can be made: 400
	EmptyAnswers     bool   // writes are answered without a body
	PageLimit        int    // shows no more at once
	Overlap          int    // each page begins so many resources early
	WrongTotal       int    // added to totalResults
	BeginsAgain      bool   // behind the end the first page comes again
	Cursors          bool   // RFC 9865, and nothing else
	Versions         bool   // meta.version, and If-Match counts
	ContentType      string // anything else is 415
	RetryAfter       string // what a 429 says
	RedirectTo       string // everything leads there
	AnswersHTML      int    // a page for people, with this status
	OddSpelling      bool   // names of attributes in another case, and null for what is absent
	NoUserAgentIs403 bool
	Publishes        string // as its ServiceProviderConfig, whatever it is; default 404
	Token            string // what it lets in; default an opaque one
	Me               string // whose token it is; default 404
	TokenExpires     string // as every answer says in GitHub's header
}

// Odd is an application with quirks, in this process.
type Odd struct {
	tb  testing.TB
	url string

	mu        sync.Mutex
	quirks    Quirks
	users     []resource // in the order in which they were made
	groups    []resource
	last      int // the number of the newest resource
	forgets   int
	throttled int
	slowed    int // so many writes are answered 429
	lost      int // so many writes are done and not answered
	failing   int // so many writes are done and answered 500
	refused   int // so many writes are not done and answered 500
	requests  []string
	published int // how often it was asked for what it publishes
}

type resource = map[string]any

// oddToken is the token of an Odd that has no other.
const oddToken = "odd-canary-token"

// StartOdd starts one. It ends with the test.
func StartOdd(tb testing.TB, q Quirks) *Odd {
	tb.Helper()
	o := &Odd{tb: tb, quirks: q}
	server := httptest.NewServer(o)
	tb.Cleanup(server.Close)
	o.url = server.URL + "/base"
	return o
}

// URL is the base URL.
func (o *Odd) URL() string { return o.url }

// Token is the bearer token.
func (o *Odd) Token() string { return cmp.Or(o.quirks.Token, oddToken) }

// AddGroup makes a group.
func (o *Odd) AddGroup(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.groups = append(o.groups, resource{"id": o.newID("g"), "displayName": name})
}

// AddUser makes a user with these attributes and returns the id.
func (o *Odd) AddUser(attributes map[string]any) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	u := resource{"active": true}
	for name, value := range attributes {
		u[name] = value
	}
	u["id"] = o.newID("u")
	o.users = append(o.users, u)
	return u["id"].(string)
}

// User returns a user as the application keeps it; nil: there is none.
func (o *Odd) User(id string) map[string]any {
	o.mu.Lock()
	defer o.mu.Unlock()
	return copied(find(o.users, id))
}

// Users is how many there are.
func (o *Odd) Users() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.users)
}

// Members are the ids in a group, those twice that are there twice.
func (o *Odd) Members(name string) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var ids []string
	for _, g := range o.groups {
		if g["displayName"] == name {
			ids = append(ids, memberIDs(g)...)
		}
	}
	return ids
}

// Throttle lets the next n requests be answered 429.
func (o *Odd) Throttle(n int) { o.set(&o.throttled, n) }

// ThrottleWrites lets the next n writes be answered 429.
func (o *Odd) ThrottleWrites(n int) { o.set(&o.slowed, n) }

// Publish is what it answers from now on to who asks for its ServiceProviderConfig.
func (o *Odd) Publish(document string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.quirks.Publishes = document
}

// Published is how often somebody has asked for it.
func (o *Odd) Published() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.published
}

// LoseReplies lets the next n writes be done and not answered.
func (o *Odd) LoseReplies(n int) { o.set(&o.lost, n) }

// Fail lets the next n writes be done and answered 500.
func (o *Odd) Fail(n int) { o.set(&o.failing, n) }

// Refuse lets the next n writes be answered 500 and not done.
func (o *Odd) Refuse(n int) { o.set(&o.refused, n) }

func (o *Odd) set(what *int, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	*what = n
}

// Requests are those that changed something or tried to, as "PATCH /Users/u1 {…}".
func (o *Odd) Requests() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.requests)
}

func (o *Odd) newID(kind string) string {
	o.last++
	return kind + strconv.Itoa(o.last)
}

// refusal is an answer with an error.
type refusal struct {
	status   int
	scimType string
}

func (r refusal) Error() string { return strconv.Itoa(r.status) }

// ServeHTTP implements http.Handler.
func (o *Odd) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	q := o.quirks
	writes := r.Method != http.MethodGet
	switch {
	case q.RedirectTo != "":
		http.Redirect(w, r, q.RedirectTo+r.URL.Path, http.StatusTemporaryRedirect) //nolint:gosec // it is the quirk
		return
	case o.throttled > 0:
		o.throttled--
		w.Header().Set("Retry-After", q.RetryAfter)
		w.WriteHeader(http.StatusTooManyRequests)
		return
	case writes && o.slowed > 0:
		o.slowed--
		w.Header().Set("Retry-After", q.RetryAfter)
		w.WriteHeader(http.StatusTooManyRequests)
		return
	case q.AnswersHTML != 0:
		w.WriteHeader(q.AnswersHTML)
		fmt.Fprint(w, "<html>Please log in</html>")
		return
	case writes && o.refused > 0:
		o.refused--
		answer(w, http.StatusInternalServerError, nil)
		return
	}
	if q.TokenExpires != "" {
		w.Header().Set("GitHub-Authentication-Token-Expiration", q.TokenExpires)
	}
	if r.URL.Path == "/base/ServiceProviderConfig" {
		o.published++
		if q.Publishes != "" {
			fmt.Fprint(w, q.Publishes)
			return
		}
	}
	status, body, err := o.handle(r)
	if writes && (o.lost > 0 || o.failing > 0) && err == nil {
		if o.failing > 0 {
			o.failing--
			answer(w, http.StatusInternalServerError, nil)
			return
		}
		o.lost--
		panic(http.ErrAbortHandler) // done, and the connection ends
	}
	if err != nil {
		var why refusal
		if why, _ = err.(refusal); why.status == 0 { //nolint:errorlint // never wrapped
			o.tb.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
			why.status = http.StatusInternalServerError
		}
		said := resource{
			"schemas": []any{"urn:ietf:params:scim:api:messages:2.0:Error"}, "status": strconv.Itoa(why.status),
			"detail": "refused; the request had " + r.Header.Get("Authorization"),
		} // as some servers do
		if why.scimType != "" {
			said["scimType"] = why.scimType
		}
		answer(w, why.status, said)
		return
	}
	if writes && q.EmptyAnswers {
		body = nil
		if status == http.StatusOK {
			status = http.StatusNoContent
		}
	}
	answer(w, status, body)
}

func answer(w http.ResponseWriter, status int, body resource) {
	w.Header().Set("Content-Type", "application/scim+json")
	w.WriteHeader(status)
	if body != nil {
		_ = json.NewEncoder(w).Encode(body) // who does not read it has gone
	}
}

// handle answers a request as the quirks say.
func (o *Odd) handle(r *http.Request) (int, resource, error) {
	q := o.quirks
	endpoint, ok := strings.CutPrefix(r.URL.Path, "/base/")
	kind, id, one := strings.Cut(endpoint, "/")
	switch {
	case r.Header.Get("Authorization") != "Bearer "+o.Token():
		return 0, nil, refusal{status: http.StatusUnauthorized}
	case q.NoUserAgentIs403 && strings.HasPrefix(r.UserAgent(), "Go-http-client"), q.NoUserAgentIs403 && r.UserAgent() == "":
		return 0, nil, refusal{status: http.StatusForbidden}
	case endpoint == "Me" && q.Me != "":
		return http.StatusOK, resource{"id": "me", "userName": q.Me}, nil
	case !ok || kind != "Users" && kind != "Groups":
		return 0, nil, refusal{status: http.StatusNotFound}
	}
	all := &o.users
	if kind == "Groups" {
		all = &o.groups
	}
	if r.Method == http.MethodGet && !one {
		list, err := o.list(kind, *all, r.URL.Query())
		return http.StatusOK, list, err
	}
	var body resource
	if r.Method != http.MethodGet {
		if r.Method != http.MethodDelete {
			if q.ContentType != "" && r.Header.Get("Content-Type") != q.ContentType {
				return 0, nil, refusal{status: http.StatusUnsupportedMediaType}
			}
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
				return 0, nil, refusal{http.StatusBadRequest, "invalidSyntax"}
			}
		}
		text, _ := json.Marshal(body) // it was JSON
		o.requests = append(o.requests, strings.TrimSuffix(r.Method+" /"+endpoint+" "+string(text), " null"))
	}
	if r.Method == http.MethodPost {
		return o.create(body)
	}
	found := find(*all, id)
	activates := r.Method == http.MethodPatch && strings.Contains(fmt.Sprint(body), "active")
	switch {
	case found == nil, q.HidesDisabled && kind == "Users" && found["active"] != true && !activates:
		return 0, nil, refusal{status: http.StatusNotFound}
	case r.Method == http.MethodGet:
		return http.StatusOK, o.shown(kind, found), nil
	case q.Versions && r.Header.Get("If-Match") != "" && r.Header.Get("If-Match") != version(found):
		return 0, nil, refusal{status: http.StatusPreconditionFailed}
	}
	return o.write(r.Method, kind, all, found, body)
}

func (o *Odd) write(method, kind string, all *[]resource, found, body resource) (int, resource, error) {
	after := copied(found)
	switch method {
	case http.MethodPatch:
		if err := o.patch(after, body); err != nil {
			return 0, nil, err
		}
	case http.MethodPut:
		body["id"] = found["id"]
		after = body
	case http.MethodDelete:
		if o.quirks.DeleteDisables {
			found["active"] = false
		} else {
			*all = slices.DeleteFunc(*all, func(r resource) bool { return r["id"] == found["id"] })
		}
		return http.StatusNoContent, nil, nil
	}
	if kind == "Users" && o.named(after) {
		return 0, nil, refusal{http.StatusConflict, "uniqueness"}
	}
	changes, _ := found["changes"].(int)
	after["changes"] = changes + 1
	clear(found)
	for name, value := range after {
		found[name] = value
	}
	return http.StatusOK, o.shown(kind, found), nil
}

func (o *Odd) create(body resource) (int, resource, error) {
	if o.named(body) {
		why := refusal{status: http.StatusConflict, scimType: "uniqueness"}
		if o.quirks.DuplicateIs != 0 {
			why.status = o.quirks.DuplicateIs
		}
		if o.quirks.NoScimType {
			why.scimType = ""
		}
		return 0, nil, why
	}
	if o.quirks.NoDisabledUsers && body["active"] != true {
		return 0, nil, refusal{http.StatusBadRequest, "invalidValue"}
	}
	if err := o.checkActive(body["active"]); err != nil {
		return 0, nil, err
	}
	if body["active"] == "True" || body["active"] == "False" {
		body["active"] = body["active"] == "True"
	}
	body["id"] = o.newID("u")
	o.users = append(o.users, body)
	o.forgets = o.quirks.ForgetsSearches
	return http.StatusCreated, o.shown("Users", body), nil
}

// named says whether somebody else has the name.
func (o *Odd) named(u resource) bool {
	name, _ := u["userName"].(string)
	return slices.ContainsFunc(o.users, func(other resource) bool {
		others, _ := other["userName"].(string)
		return other["id"] != u["id"] && strings.EqualFold(name, others)
	})
}

func find(all []resource, id string) resource {
	for _, r := range all {
		if r["id"] == id {
			return r
		}
	}
	return nil
}

func version(r resource) string {
	changes, _ := r["changes"].(int)
	return fmt.Sprintf(`W/"%d"`, changes)
}

// copied is a deep copy. Numbers of changes are the only ones kept as such.
func copied(r resource) resource {
	if r == nil {
		return nil
	}
	text, _ := json.Marshal(r) // it was JSON
	var out resource
	_ = json.Unmarshal(text, &out)
	if changes, ok := r["changes"]; ok {
		out["changes"] = changes
	}
	return out
}
