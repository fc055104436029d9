package connector

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
)

const (
	maxMessage = 1 << 10 // bytes, by contract
	maxReason  = 128
	redacted   = "[REDACTED]"
	// minSecret is what can be looked for without blotting out ordinary text.
	minSecret = 4
)

// redactor takes secrets, in every form in which drivers and servers like to quote them, out of what leaves.
type redactor struct{ replace *strings.Replacer }

func newRedactor(secrets []string) redactor {
	var forms []string
	for _, secret := range secrets {
		// Also without the line end that files have.
		for _, s := range []string{secret, strings.TrimSpace(secret)} {
			if len(s) < minSecret {
				continue
			}
			inJSON, _ := json.Marshal(s) // a string always encodes
			forms = append(forms, s, strings.Trim(string(inJSON), `"`), url.QueryEscape(s), url.PathEscape(s),
				base64.StdEncoding.EncodeToString([]byte(s)), base64.URLEncoding.EncodeToString([]byte(s)),
				strings.ReplaceAll(s, "'", "''"))
		}
	}
	// The longest first: a secret that holds another one must not be left with its ends showing.
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) })
	pairs := make([]string, 0, 2*len(forms))
	for _, form := range slices.Compact(forms) {
		pairs = append(pairs, form, redacted)
	}
	return redactor{strings.NewReplacer(pairs...)}
}

func (r redactor) text(s string, limit int) string {
	s = strings.ToValidUTF8(r.replace.Replace(s), "\uFFFD")
	if len(s) <= limit {
		return s
	}
	const more = "…"
	cut := limit - len(more)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + more
}

// proto is the only way from a Problem to the wire.
func (r redactor) proto(p *Problem) *connectorv1.Problem {
	if p == nil {
		return nil
	}
	out := &connectorv1.Problem{
		Code: p.Code, Reason: r.text(p.Reason, maxReason), Message: r.text(p.Message, maxMessage),
		RetryAfter: durationProto(p.RetryAfter), Scope: p.Scope, ExistingAccountId: string(p.Existing),
	}
	for _, field := range p.Fields {
		out.Fields = append(out.Fields, r.text(field, maxReason))
	}
	return out
}
