package scim

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// path names one simple value of a user, as in a PATCH: userName, name.givenName, emails[type eq "work"].value, and with the
// URN of an extension before it.
type path struct {
	schema    string // URN of an extension; empty: the user's own schema
	attribute string
	choose    string // for multi-valued attributes: type or primary
	chosen    string // the type
	sub       string
}

var pathForm = regexp.MustCompile(`^(?:(urn:[A-Za-z0-9._:-]+):)?([A-Za-z][A-Za-z0-9_-]*)` +
	`(?:\[(?:type eq "([^"\\]+)"|(primary) eq true)\])?(?:\.([A-Za-z][A-Za-z0-9_-]*))?$`)

// notSettable are attributes that mean something to the connector, or that nobody may set.
var notSettable = []string{"id", "schemas", "meta", "externalId", "active", "groups", "password"}

func parsePath(text string) (path, error) {
	m := pathForm.FindStringSubmatch(text)
	if m == nil {
		return path{}, fmt.Errorf("%q is no path like title, name.givenName or emails[type eq \"work\"].value", text)
	}
	p := path{schema: m[1], attribute: m[2], chosen: m[3], choose: m[4], sub: m[5]}
	if p.schema == userSchema {
		p.schema = ""
	}
	if p.chosen != "" {
		p.choose = "type"
	}
	if p.choose != "" && p.sub == "" {
		return path{}, errors.New("an element of " + p.attribute + " is chosen, and none of its values: add .value")
	}
	if p.schema == "" && slices.ContainsFunc(notSettable, func(name string) bool { return strings.EqualFold(name, p.attribute) }) {
		return path{}, fmt.Errorf("%s is not for setting", p.attribute)
	}
	return p, nil
}

// simple is the path of a plain attribute.
func simple(attribute string) path { return path{attribute: attribute} }

func (p path) String() string {
	text := p.element()
	if p.sub != "" {
		text += "." + p.sub
	}
	return text
}

// list is the path of the whole attribute.
func (p path) list() string {
	if p.schema != "" {
		return p.schema + ":" + p.attribute
	}
	return p.attribute
}

// element is the path of what holds the value.
func (p path) element() string {
	switch p.choose {
	case "type":
		return p.list() + `[type eq ` + quoted(p.chosen) + `]`
	case "primary":
		return p.list() + `[primary eq true]`
	}
	return p.list()
}

// searched is the path within a filter. Few servers know more than attribute.value there.
func (p path) searched() string {
	if p.choose == "" {
		return p.String()
	}
	return p.list() + "." + p.sub
}

// of is the part of a user in which the attribute lies; nil when it is absent.
func (p path) of(user resource) resource {
	if p.schema == "" {
		return user
	}
	return user.object(p.schema)
}

func (p path) chooses(element resource) bool {
	if p.choose == "primary" {
		return element.text("primary") == "true"
	}
	return strings.EqualFold(element.text("type"), p.chosen)
}

// get returns the value; empty when it is absent.
func (p path) get(user resource) string {
	at := p.of(user)
	switch {
	case p.choose != "":
		for _, element := range at.objects(p.attribute) {
			if p.chooses(element) {
				return element.text(p.sub)
			}
		}
		return ""
	case p.sub != "":
		return at.object(p.attribute).text(p.sub)
	}
	return at.text(p.attribute)
}

// found says whether a search by the path finds a user: any of a list's values counts, not only the chosen one's.
func (p path) found(user resource, value string) bool {
	if p.choose == "" {
		return strings.EqualFold(p.get(user), value)
	}
	return slices.ContainsFunc(p.of(user).objects(p.attribute), func(element resource) bool {
		return strings.EqualFold(element.text(p.sub), value)
	})
}

// set changes a user who is to be sent whole; nil clears.
func (p path) set(user resource, value any) {
	at := p.of(user)
	if at == nil {
		if value == nil {
			return
		}
		at = resource{}
		user.put(p.schema, map[string]any(at))
		if named, ok := user.get("schemas").([]any); ok && !slices.Contains(named, any(p.schema)) {
			user.put("schemas", append(named, p.schema))
		}
	}
	switch {
	case p.choose != "":
		p.setElement(at, value)
	case p.sub != "":
		o := at.object(p.attribute)
		if o == nil {
			o = resource{}
		}
		if o.drop(p.sub); value != nil {
			o[p.sub] = value
		}
		if at.drop(p.attribute); len(o) > 0 {
			at[p.attribute] = map[string]any(o)
		}
	case value == nil:
		at.drop(p.attribute)
	default:
		at.put(p.attribute, value)
	}
}

func (p path) setElement(at resource, value any) {
	var all []any
	found := false
	for _, element := range at.objects(p.attribute) {
		if p.chooses(element) {
			if value == nil {
				continue
			}
			found = true
			element.put(p.sub, value)
		}
		all = append(all, map[string]any(element))
	}
	if !found && value != nil {
		all = append(all, p.newElement(at, value))
	}
	if at.drop(p.attribute); len(all) > 0 {
		at[p.attribute] = all
	}
}

// newElement is one with the value. The first of its kind is the primary one.
func (p path) newElement(at resource, value any) map[string]any {
	element := map[string]any{p.sub: value}
	if p.choose == "type" {
		element["type"] = p.chosen
	}
	others := at.objects(p.attribute)
	if p.choose == "primary" || !slices.ContainsFunc(others, func(o resource) bool { return o.text("primary") == "true" }) {
		element["primary"] = true
	}
	return element
}

// operation is one of a PATCH (RFC 7644, section 3.5.2). The verbs are lower case: the RFC takes any, some servers do not.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path,omitempty"`
	Value any    `json:"value,omitempty"`
}

// operation changes the value of a user as last read; nil clears. An element that is not there yet is added to the others,
// because servers disagree on what replacing nothing means.
func (p path) operation(user resource, value any) operation {
	at := p.of(user)
	switch {
	case value == nil && p.choose != "":
		return operation{Op: "remove", Path: p.element()}
	case value == nil:
		return operation{Op: "remove", Path: p.String()}
	case p.choose != "" && !slices.ContainsFunc(at.objects(p.attribute), p.chooses):
		return operation{Op: "add", Path: p.list(), Value: []any{p.newElement(at, value)}}
	}
	return operation{Op: "replace", Path: p.String(), Value: value}
}
