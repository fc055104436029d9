package scim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tenurehq/tenure/pkg/connector"
)

const (
	userAgent = "Tenure-SCIM/1" // GitHub answers nobody without one
	accepted  = scimJSON + ", " + plainJSON
	// maxBody bounds an answer: a group of a hundred thousand members, or nonsense.
	maxBody        = 32 << 20
	maxRedirects   = 3
	connectTimeout = 5 * time.Second
)

// client makes one request at a time and says what is known of each. It retries nothing; net/http repeats a GET whose connection,
// kept from before, turns out to be closed.
type client struct {
	http        *http.Client
	base        string // as the operator wrote it, but for a slash at its end
	tokenFile   string
	contentType string
	paces       map[string]*pace // by class, of those that have a rate
}

func newClient(cfg Config, profile Profile) *client {
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: connectTimeout}).DialContext,
		TLSHandshakeTimeout: connectTimeout,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     30 * time.Second,
	}
	return &client{
		http:        &http.Client{Transport: transport, CheckRedirect: sameRequest},
		base:        strings.TrimSuffix(cfg.URL, "/"),
		tokenFile:   cfg.TokenFile,
		contentType: profile.ContentType,
		paces:       newPaces(profile.Rates),
	}
}

// sameRequest lets a redirect be followed that repeats the request at the same host: anything else would send the token, or
// somebody's data, where the operator did not say.
func sameRequest(req *http.Request, via []*http.Request) error {
	first := via[0]
	if len(via) > maxRedirects || req.Method != first.Method || req.URL.Scheme != first.URL.Scheme || req.URL.Host != first.URL.Host {
		return http.ErrUseLastResponse
	}
	return nil
}

// request is one to the application.
type request struct {
	method  string
	path    string // below the base URL, escaped
	query   url.Values
	body    any
	version string // for If-Match
}

func (r request) writes() bool { return r.method != http.MethodGet }

// where is what a message says of the request: no query, which may hold a person's name.
func (r request) where() string { return r.method + " " + r.path }

// answer is what came back.
type answer struct {
	request
	status int
	header http.Header
	body   resource // nil when it was empty or no JSON object
	pace   *pace    // of its class; nil: that has none
}

func (a answer) ok() bool { return a.status >= 200 && a.status < 300 }

// do sends a request, when its class has its turn. An error says that no answer came; any status is an answer.
func (c *client) do(ctx context.Context, r request) (answer, error) {
	token, err := readToken(c.tokenFile)
	if err != nil {
		return answer{}, connector.Auth("scim.token_file", "%v", err)
	}
	pace := c.paces[r.class()]
	if pace != nil {
		if p := pace.turn(ctx); p != nil {
			return answer{}, p
		}
	}
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	req, err := c.newRequest(ctx, r, token)
	if err != nil {
		return answer{}, connector.Invalid(nil, "scim.request", "%s: %v", r.where(), err)
	}
	response, err := c.http.Do(req)
	if err != nil {
		return answer{}, lost(ctx, r, err, connected.Load())
	}
	defer response.Body.Close()
	a := answer{request: r, status: response.StatusCode, header: response.Header, pace: pace}
	if pace != nil && a.status == http.StatusTooManyRequests {
		pace.throttled(a.retryAfter(time.Now()))
	}
	content, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	switch {
	case err != nil && !r.writes():
		return answer{}, lost(ctx, r, err, true)
	case len(content) > maxBody && !r.writes():
		return answer{}, connector.Precondition("scim.too_large", "%s: the answer is longer than %d MiB", r.where(), maxBody>>20)
	}
	a.body = decode(content) // of a write it is a hint only: that it was done is known by the status
	silent := a.status == http.StatusNotFound && len(content) == 0
	if !r.writes() && a.body == nil && (a.ok() || a.status == http.StatusNotFound) && !silent {
		// Neither an answer nor evidence that there is nobody: a page for people, of a proxy or under another URL.
		return answer{}, connector.Precondition("scim.no_json", "%s: status %d with something that is no JSON object: does url name a SCIM 2.0 service?",
			r.where(), a.status).Instance()
	}
	return a, nil
}

func (c *client) newRequest(ctx context.Context, r request, token string) (*http.Request, error) {
	var body io.Reader
	if r.body != nil {
		content, err := json.Marshal(r.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(content)
	}
	target := c.base + r.path
	if len(r.query) > 0 {
		target += "?" + strings.ReplaceAll(r.query.Encode(), "+", "%20") // a plus is a blank in forms only
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Accept", accepted)
	req.Header.Set("User-Agent", userAgent)
	if r.body != nil {
		req.Header.Set("Content-Type", c.contentType)
	}
	if r.version != "" {
		req.Header.Set("If-Match", r.version)
	}
	return req, nil
}

func decode(content []byte) resource {
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber()
	var body map[string]any
	if decoder.Decode(&body) != nil {
		return nil
	}
	return body
}

// lost explains that no answer came. What was certainly not sent, and what changes nothing, was not done.
func lost(ctx context.Context, r request, err error, connected bool) error {
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		err = wrapped.Err // without the URL
	}
	if r.writes() && connected {
		return connector.Unknown("scim.connection", "%s: no answer: %v", r.where(), err)
	}
	p := connector.Unavailable("scim.connection", "%s: %v; nothing was done", r.where(), err)
	if connected || ctx.Err() != nil {
		p.Scope = 0 // one lost or slow answer is not the whole application
	}
	return p
}

// user is the path of a user.
func user(id connector.AccountID) string { return users + "/" + url.PathEscape(string(id)) }

func group(id string) string { return groups + "/" + url.PathEscape(id) }

// The endpoints of RFC 7644, section 3.2. Some servers tell their case apart.
const (
	users  = "/Users"
	groups = "/Groups"
)

func (c *client) get(ctx context.Context, path string, query url.Values) (answer, error) {
	return c.do(ctx, request{method: http.MethodGet, path: path, query: query})
}

// filtered is the query for one comparison. Two of them joined are more than many servers understand.
func filtered(attribute, value string) url.Values {
	return url.Values{"filter": {fmt.Sprintf("%s eq %s", attribute, quoted(value))}}
}
