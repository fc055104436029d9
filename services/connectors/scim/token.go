package scim

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	me = "/Me" // RFC 7644, section 3.11
	// expiryHeader is GitHub's; no other application is known to say it.
	expiryHeader = "Github-Authentication-Token-Expiration"
)

// claims are what a token says of itself, where it is a JWT. Nobody verifies it: an alarm is all that comes of it.
func claims(token string) jwt.Claims {
	var out jwt.Claims
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{
		jose.HS256, jose.HS384, jose.HS512, jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
		jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
	})
	if err != nil || parsed.UnsafeClaimsWithoutVerification(&out) != nil {
		return jwt.Claims{} // most tokens are none
	}
	return out
}

// expiry is when a token ends, by the earliest of what is said of it: by itself, by the application's answers, by the operator.
// Zero: nobody says.
func expiry(token string, header http.Header, said string) time.Time {
	var all []time.Time
	if exp := claims(token).Expiry; exp != nil {
		all = append(all, exp.Time())
	}
	for _, layout := range []string{"2006-01-02 15:04:05 MST", "2006-01-02 15:04:05 -0700"} {
		if t, err := time.Parse(layout, header.Get(expiryHeader)); err == nil {
			all = append(all, t)
			break
		}
	}
	if t, err := parseDate(said); err == nil {
		all = append(all, t)
	}
	var first time.Time
	for _, t := range all {
		if first.IsZero() || t.Before(first) {
			first = t
		}
	}
	return first.UTC()
}

// parseDate reads a day, which begins in UTC, or an instant.
func parseDate(text string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errors.New("want a day like 2027-03-31")
}

// owner is whose token it is, as the application tells or the token itself; else why that is not known.
func (a *Application) owner(ctx context.Context, token string) (name, unknown string) {
	got, err := a.client.get(ctx, me, nil)
	switch {
	case err != nil:
		unknown = problemOf(err).Message
	case !got.ok():
		unknown = got.where() + ": " + strconv.Itoa(got.status) + " " + http.StatusText(got.status)
	case got.body.text(attrUserName) == "":
		unknown = got.where() + ": no user"
	default:
		return got.body.text(attrUserName), ""
	}
	if subject := claims(token).Subject; subject != "" {
		return subject, ""
	}
	return "", fmt.Sprintf("whose token it is is not known: %s", unknown)
}
