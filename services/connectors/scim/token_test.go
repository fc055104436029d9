package scim_test

import (
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/tenurehq/tenure/services/connectors/scim"
	"github.com/tenurehq/tenure/services/connectors/scim/scimtest"
)

// jwtOf is a token that says this of itself.
func jwtOf(t *testing.T, subject string, expires time.Time) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte("nobody needs to know this canary")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(jwt.Claims{Subject: subject, Expiry: jwt.NewNumericDate(expires)}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestCheckNamesTheTokensOwnerAndItsEnd(t *testing.T) {
	t.Parallel()
	march := time.Date(2031, time.March, 1, 0, 0, 0, 0, time.UTC)
	april := march.AddDate(0, 1, 0)
	for name, c := range map[string]struct {
		quirks scimtest.Quirks
		said   string
		owner  string
		ends   time.Time
	}{
		"nobody says":                {},
		"the application says whose": {quirks: scimtest.Quirks{Me: "eve"}, owner: "eve"},
		"the token says both":        {quirks: scimtest.Quirks{Token: jwtOf(t, "svc-tenure", april)}, owner: "svc-tenure", ends: april},
		"both say whose":             {quirks: scimtest.Quirks{Token: jwtOf(t, "svc-tenure", april), Me: "eve"}, owner: "eve", ends: april},
		"the application says when":  {quirks: scimtest.Quirks{TokenExpires: "2031-03-01 00:00:00 UTC"}, ends: march},
		"with its own time zone":     {quirks: scimtest.Quirks{TokenExpires: "2031-02-28 19:00:00 -0500"}, ends: march},
		"it says nonsense":           {quirks: scimtest.Quirks{TokenExpires: "soon"}},
		"the operator says when":     {said: "2031-04-01", ends: april},
		"and to the second":          {said: "2031-04-01T02:00:00+02:00", ends: april},
		"the earliest counts": {
			quirks: scimtest.Quirks{Token: jwtOf(t, "", april), TokenExpires: "2031-03-01 00:00:00 UTC"}, said: "2031-05-01", ends: march,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, client := odd(t, c.quirks, scim.Config{TokenExpires: c.said})
			got := checked(t, client)
			var ends time.Time
			if at := got.GetCredentialExpiresAt(); at != nil {
				ends = at.AsTime()
			}
			if got.GetCredentialOwner() != c.owner || !ends.Equal(c.ends) || len(got.GetProblems()) > 0 {
				t.Errorf("%v, want owner %q and end %s", got, c.owner, c.ends)
			}
			unknown := strings.Contains(strings.Join(got.GetNotes(), "\n"), "whose token it is is not known: GET /Me: 404")
			if unknown != (c.owner == "") {
				t.Errorf("the notes are %q", got.GetNotes())
			}
		})
	}
}
