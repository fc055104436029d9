// Package vendorapi is what the clients of HR systems' APIs have in common: one fixed address, a user with a password,
// and distrust of what is answered. It follows no redirect, so that credentials go nowhere else; it reads no answer
// beyond a limit and waits for none beyond a time.
package vendorapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tenurehq/tenure/pkg/config"
)

const (
	// MaxAnswer is the greatest answer read, in bytes.
	MaxAnswer = 8 << 20
	// DefaultTimeout of a whole request when Config has none.
	DefaultTimeout = 15 * time.Second
	// maxRetryAfter bounds what an API can ask of us: a mistyped date must not silence a source for years.
	maxRetryAfter = time.Hour
	// userAgent tells the HR system's people who reads.
	userAgent = "tenure-ingest"
)

// Config is where the API is and who reads.
type Config struct {
	URL      string // up to and with the version, https; http only on loopback
	User     string
	Password config.Secret
	Timeout  time.Duration // of a whole request; 0: DefaultTimeout
}

// Client asks one API. Safe for concurrent use.
type Client struct {
	base     *url.URL
	user     string
	password config.Secret
	http     *http.Client
}

// ErrAbsent says that the API does not have what was asked for. It is no evidence of anything but that.
var ErrAbsent = errors.New("the API has no such employee")

// Error is an answer that was none, or no answer. Its text holds nothing of the answer's body.
type Error struct {
	Status     int           // 0: none came
	RetryAfter time.Duration // what the API asked for; 0: nothing
	Problem    string
}

func (e *Error) Error() string { return e.Problem }

// Whole tells whether the API as a whole does not answer, and not only about one employee: it cannot be reached, is
// overloaded, asks for patience, or does not take our credentials.
func (e *Error) Whole() bool {
	switch e.Status {
	case 0, http.StatusUnauthorized, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable,
		http.StatusGatewayTimeout:
		return true
	}
	return e.RetryAfter > 0
}

// New checks the address; it contacts nothing.
func New(cfg Config) (*Client, error) {
	base, err := url.Parse(cfg.URL)
	switch {
	case err != nil || base.Host == "" || base.User != nil || base.RawQuery != "" || base.Fragment != "":
		return nil, errors.New("url: must be an address like https://api.example.com/v1, without user, query and fragment")
	case base.Scheme != "https" && (base.Scheme != "http" || !loopback(base.Hostname())):
		return nil, errors.New("url: must begin with https://, or be on loopback")
	case cfg.User == "":
		return nil, errors.New("user: missing")
	case cfg.Password.Empty():
		return nil, errors.New("password: missing")
	case cfg.Timeout < 0:
		return nil, errors.New("timeout: less than nothing")
	case cfg.Timeout == 0:
		cfg.Timeout = DefaultTimeout
	}
	return &Client{base: base, user: cfg.User, password: cfg.Password, http: &http.Client{
		Timeout:       cfg.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout:    5 * time.Second,
			IdleConnTimeout:        time.Minute,
			MaxIdleConnsPerHost:    8,
			MaxResponseHeaderBytes: 64 << 10,
			ForceAttemptHTTP2:      true,
		},
	}}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Ask sends a request to the path below the address and returns the JSON that came with 200. An error is ErrAbsent for
// 404, the context's, or an *Error. now is only for dates in Retry-After.
func (c *Client) Ask(ctx context.Context, now time.Time, method, path string, query url.Values, body []byte) ([]byte, error) {
	at := c.base.JoinPath(path)
	at.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, at.String(), bytes.NewReader(body))
	if err != nil {
		return nil, &Error{Problem: "the request cannot be made"}
	}
	req.SetBasicAuth(c.user, string(c.password.Reveal()))
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", userAgent)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &Error{Problem: "the API could not be reached"} // the error itself would show the whole URL
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, MaxAnswer+1))
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return nil, ErrAbsent
	case resp.StatusCode != http.StatusOK:
		return nil, &Error{
			Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header, now),
			Problem: fmt.Sprintf("the API answered %d", resp.StatusCode),
		}
	case err != nil:
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &Error{Problem: "the API's answer broke off"}
	case len(answer) > MaxAnswer:
		return nil, &Error{Status: resp.StatusCode, Problem: fmt.Sprintf("the API's answer is over %d bytes", MaxAnswer)}
	}
	return answer, nil
}

// retryAfter is how long the API asks to be left alone: Retry-After as seconds or a date, else the instant in
// X-RateLimit-Reset.
func retryAfter(h http.Header, now time.Time) time.Duration {
	var wait time.Duration
	said := strings.TrimSpace(h.Get("Retry-After"))
	if seconds, err := strconv.ParseInt(said, 10, 32); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(said); err == nil {
		wait = at.Sub(now)
	} else if reset, err := strconv.ParseInt(h.Get("X-RateLimit-Reset"), 10, 64); err == nil && h.Get("X-RateLimit-Remaining") == "0" {
		wait = time.Unix(reset, 0).Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}
