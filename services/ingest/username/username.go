// Package username proposes user names for people.
//
// It promises names that every application takes: [a-z0-9._-], beginning with a letter, 1 to MaxLength long, and none that a
// system keeps for itself. Which of them are free is for the caller to know.
package username

import "github.com/tenurehq/tenure/services/ingest/timeline"

// MaxLength of a user name, in bytes; what Linux takes.
const MaxLength = 32

// Rule is the compiled candidates of people.user_name. Safe for concurrent use.
type Rule struct{}

// Compile reads CEL candidates, best first. An error says which of them is wrong and how.
func Compile(candidates []string) (*Rule, error) { return &Rule{}, nil }

// Candidates proposes names for a person, best first, each once, at least one. A candidate that errs or comes out empty is
// skipped; when none is left the external id stands in.
func (r *Rule) Candidates(record timeline.Record) []string { return nil }

// Numbered is the candidate's n-th name, for when all candidates are taken: n counts from 2.
func Numbered(candidate string, n int) string { return candidate }
