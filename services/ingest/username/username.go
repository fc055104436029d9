// Package username proposes user names for people.
//
// It promises names that every application takes: [a-z0-9._-], beginning with a letter, 1 to MaxLength long, and none that a
// system keeps for itself. Which of them are free is for the caller to know.
package username

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"golang.org/x/text/unicode/norm"

	"github.com/tenurehq/tenure/services/ingest/timeline"
)

const (
	// MaxLength of a user name, in bytes; what Linux takes.
	MaxLength = 32

	// costLimit of one candidate for one person, in CEL's units; an ordinary one takes less than ten.
	costLimit = 10_000
)

// Rule is the compiled candidates of people.user_name. Safe for concurrent use.
type Rule struct {
	candidates []cel.Program
}

// Compile reads CEL candidates, best first. They have given, family, email and external_id, all strings; x[0] of a
// string is its first letter, or "" when there is none. An error says which candidate is wrong and how.
func Compile(candidates []string) (*Rule, error) {
	if len(candidates) == 0 {
		return nil, errors.New("user_name: no candidate")
	}
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("user_name: %w", err)
	}
	r := &Rule{candidates: make([]cel.Program, len(candidates))}
	for i, text := range candidates {
		if r.candidates[i], err = compile(env, text); err != nil {
			return nil, fmt.Errorf("user_name[%d]: %w", i, err)
		}
	}
	return r, nil
}

// Candidates proposes names for a person, best first, each once, at least one. A candidate that errs, comes out empty or is
// kept by a system is skipped; when none is left the external id stands in.
func (r *Rule) Candidates(record timeline.Record) []string {
	in := map[string]any{
		// Composed, so that a letter and its accent are one letter to x[0].
		"given":       norm.NFC.String(record.GivenName),
		"family":      norm.NFC.String(record.FamilyName),
		"email":       record.Email,
		"external_id": record.ExternalID,
	}
	var out []string
	for _, candidate := range r.candidates {
		value, _, err := candidate.Eval(in)
		text, ok := value.(types.String)
		if err != nil || !ok {
			continue
		}
		if name := clean(string(text)); name != "" && !reserved(name) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	if len(out) == 0 {
		name := clean("u" + record.ExternalID)
		if reserved(name) {
			name = Numbered(name, 1)
		}
		out = append(out, name)
	}
	return out
}

// Numbered is the candidate's n-th name, for when all candidates are taken: n counts from 2.
func Numbered(candidate string, n int) string {
	number := strconv.Itoa(n)
	return cut(candidate, MaxLength-len(number)) + number
}

// clean makes a user name of any text; "" when nothing of it can be in one.
func clean(text string) string {
	var b strings.Builder
	for _, c := range []byte(ascii(text)) {
		isLetter := 'a' <= c && c <= 'z'
		isSeparator := c == '.' || c == '_' || c == '-'
		switch {
		case b.Len() == 0 && !isLetter: // a name begins with a letter
		case isSeparator && strings.ContainsRune(separators, rune(b.String()[b.Len()-1])): // and has no two separators in a row
		case isLetter || isSeparator || '0' <= c && c <= '9':
			b.WriteByte(c)
		}
	}
	return cut(b.String(), MaxLength)
}

const separators = "._-"

// cut shortens an ASCII name; it does not end in a separator.
func cut(name string, limit int) string {
	return strings.TrimRight(name[:min(len(name), limit)], separators)
}

// reserved tells whether systems keep the name for themselves: accounts of operating systems and databases, and the
// mailboxes of RFC 2142. Who is called Root gets another candidate.
func reserved(name string) bool {
	switch name {
	case "abuse", "adm", "admin", "administrator", "backup", "bin", "current_role", "current_user", "daemon", "ftp", "games", "guest",
		"hostmaster", "info", "irc", "lp", "mail", "man", "news", "no-reply", "nobody", "none", "noreply", "operator", "postgres", "postmaster",
		"proxy", "public", "root", "security", "session_user", "sshd", "support", "sync", "sys", "system", "tenure", "usenet", "user", "uucp",
		"webmaster", "www", "www-data":
		return true
	}
	return strings.HasPrefix(name, "pg_") || strings.HasPrefix(name, "systemd-")
}
