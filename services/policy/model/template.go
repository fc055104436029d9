package model

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// template is the entitlement of a grant: text with ${name} for the values of for_each.
type template struct {
	texts     []string // one more than variables: text, variable, text, …
	variables []int    // positions in the role's for_each
	pattern   *regexp.Regexp
}

// parseTemplate returns what is wrong, empty: nothing.
func parseTemplate(s string, names []string) (template, string) {
	var t template
	for {
		before, rest, found := strings.Cut(s, "${")
		t.texts = append(t.texts, before)
		if !found {
			break
		}
		name, after, closed := strings.Cut(rest, "}")
		i := slices.Index(names, name)
		switch {
		case !closed:
			return t, "has ${ without }"
		case i < 0 && len(names) == 0:
			return t, fmt.Sprintf("has ${%s}, and the role has no for_each", name)
		case i < 0:
			return t, fmt.Sprintf("has ${%s}; known are %s", name, strings.Join(names, ", "))
		}
		t.variables = append(t.variables, i)
		s = after
	}
	if len(t.variables) > 0 {
		quoted := make([]string, len(t.texts))
		for i, text := range t.texts {
			quoted[i] = regexp.QuoteMeta(text)
		}
		t.pattern = regexp.MustCompile(`(?s)^` + strings.Join(quoted, `.+`) + `$`)
	}
	return t, ""
}

// literal returns the text of a template without variables; empty when it has some.
func (t *template) literal() string {
	if len(t.variables) > 0 {
		return ""
	}
	return t.texts[0]
}

// canGive says whether some values would make the template this text.
func (t *template) canGive(s string) bool {
	if t.pattern == nil {
		return t.texts[0] == s
	}
	return t.pattern.MatchString(s)
}

// fill puts the values in. Values come from HR and must not be able to make the entitlement mean another one: in
// cn=${d},ou=groups a department called "x,ou=admins" would.
func (t *template) fill(values []string) (string, *Failure) {
	if len(t.variables) == 0 {
		return t.texts[0], nil
	}
	var b strings.Builder
	for i, text := range t.texts {
		b.WriteString(text)
		if i == len(t.variables) {
			break
		}
		value := values[t.variables[i]]
		if !safeValue(value) {
			return "", &Failure{Code: "unsafe_value", In: t.String()}
		}
		b.WriteString(value)
	}
	s := b.String()
	if checkEntitlement(s) != "" {
		return "", &Failure{Code: "unsafe_value", In: t.String()}
	}
	return s, nil
}

func (t *template) String() string {
	if len(t.variables) == 0 {
		return t.texts[0]
	}
	return strings.Join(t.texts, "${…}")
}

// safeValue refuses what separates, quotes or matches anything in names of the applications we know: distinguished
// names, paths, filters, SQL identifiers.
func safeValue(s string) bool {
	if s == "" || strings.TrimSpace(s) != s || s[0] == '#' {
		return false
	}
	return !strings.ContainsAny(s, `,+"\<>;=*`) && !strings.ContainsFunc(s, unicode.IsControl)
}
