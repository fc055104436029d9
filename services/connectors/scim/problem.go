package scim

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tenurehq/tenure/pkg/connector"
)

// longestPause bounds what an application may ask for: who waits for a day takes nobody's access away.
const longestPause = time.Hour

// problem explains an answer that is none of 2xx. A status of 5xx leaves it open whether a write was done.
func (a answer) problem() *connector.Problem {
	reason := "http." + strconv.Itoa(a.status)
	if kind := a.scimType(); kind != "" {
		reason = "scim." + kind
	}
	said := a.where() + ": " + strings.TrimSpace(strconv.Itoa(a.status)+" "+http.StatusText(a.status))
	if detail := a.body.text("detail"); detail != "" {
		said += ": " + detail
	}
	switch status := a.status; {
	case status == http.StatusTooManyRequests:
		p := connector.RateLimited(a.retryAfter(time.Now()), reason, "%s", said)
		if a.pace != nil {
			return a.pace.scoped(p)
		}
		return p
	case status == http.StatusServiceUnavailable && !a.writes() && a.header.Get("Retry-After") != "":
		return connector.RateLimited(a.retryAfter(time.Now()), reason, "%s", said)
	case status == http.StatusNotImplemented, status == http.StatusMethodNotAllowed:
		return connector.Unsupported(reason, "%s", said)
	case status >= 500 && a.writes(), status == http.StatusRequestTimeout && a.writes():
		return connector.Unknown(reason, "%s", said)
	case status == http.StatusInternalServerError, status == http.StatusRequestTimeout:
		p := connector.Unavailable(reason, "%s", said)
		p.Scope = 0 // of this request: the application as a whole answers
		return p
	case status >= 500:
		return connector.Unavailable(reason, "%s", said)
	case status < 400:
		return connector.Precondition(reason, "%s: it leads to %s, which is not followed: does url name the service itself?", said, host(a.header)).Instance()
	}
	return a.refusal(reason, said)
}

// refusal explains a status of 4xx: nothing was done.
func (a answer) refusal(reason, said string) *connector.Problem {
	switch a.status {
	case http.StatusUnauthorized:
		return connector.Auth(reason, "%s", said)
	case http.StatusForbidden:
		return connector.Denied(reason, "%s", said)
	case http.StatusNotFound, http.StatusGone:
		return connector.NotFound(reason, "%s", said)
	case http.StatusConflict:
		return connector.AlreadyExists("", reason, "%s", said)
	case http.StatusPreconditionFailed:
		return connector.Conflict(reason, "%s", said)
	case http.StatusUnsupportedMediaType:
		return connector.Precondition(reason, "%s: try another content_type", said).Instance()
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		if a.scimType() == "uniqueness" {
			return connector.AlreadyExists("", reason, "%s", said)
		}
		return connector.Invalid(nil, reason, "%s", said)
	}
	return connector.Precondition(reason, "%s", said)
}

// scimType is the detail error keyword of RFC 7644, section 3.12.
func (a answer) scimType() string {
	kind := a.body.text("scimType")
	if len(kind) > 30 || strings.ContainsFunc(kind, func(r rune) bool { return r < 'A' || r > 'z' }) {
		return "" // not one that could be counted by
	}
	return kind
}

// retryAfter reads Retry-After: seconds, or a date by the application's own clock.
func (a answer) retryAfter(now time.Time) time.Duration {
	text := strings.TrimSpace(a.header.Get("Retry-After"))
	var wait time.Duration
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		if theirs, err := http.ParseTime(a.header.Get("Date")); err == nil {
			now = theirs
		}
		wait = at.Sub(now)
	}
	return min(max(wait, 0), longestPause)
}

// host is where a redirect leads, without its path, which may hold anything.
func host(header http.Header) string {
	_, rest, ok := strings.Cut(header.Get("Location"), "://")
	if !ok {
		return "another path"
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}
