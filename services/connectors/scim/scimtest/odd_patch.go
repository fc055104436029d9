package scimtest

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
)

var (
	memberPath  = regexp.MustCompile(`^members\[value eq "([^"]+)"\]$`)
	elementPath = regexp.MustCompile(`^([A-Za-z]+)\[type eq "([^"]+)"\](\.value)?$`)
)

// patch applies a PATCH, or says why not. It knows just the forms that the tests need.
func (o *Odd) patch(r, body resource) error {
	if o.quirks.Patch == "none" {
		return refusal{status: http.StatusNotImplemented}
	}
	for _, op := range elements(body["Operations"]) {
		verb, _ := op["op"].(string)
		path, _ := op["path"].(string)
		values, whole := op["value"].(resource)
		switch {
		case verb != strings.ToLower(verb):
			return refusal{http.StatusBadRequest, "invalidSyntax"}
		case path == "" && o.quirks.Patch == "path", path != "" && verb != "remove" && o.quirks.Patch == "pathless":
			return refusal{http.StatusBadRequest, "invalidPath"}
		case path != "":
			if err := o.at(r, verb, path, op["value"]); err != nil {
				return err
			}
		case !whole:
			return refusal{http.StatusBadRequest, "invalidValue"}
		}
		for name, value := range values {
			if path != "" {
				break
			}
			if err := o.at(r, verb, name, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// at applies one operation at a path.
func (o *Odd) at(r resource, verb, path string, value any) error {
	if path == "active" {
		if err := o.checkActive(value); err != nil {
			return err
		}
		if text, ok := value.(string); ok {
			value = text == "True"
		}
	}
	if m := memberPath.FindStringSubmatch(path); m != nil || path == "members" {
		return o.member(r, verb, m, value)
	}
	if m := elementPath.FindStringSubmatch(path); m != nil {
		return element(r, verb, m, value)
	}
	if path == "emails" && verb == "add" {
		old, _ := r[path].([]any)
		value = append(old, value.([]any)...)
	}
	if urn, name, ok := cutURN(path); ok {
		extension, _ := r[urn].(resource)
		if extension == nil {
			extension = resource{}
			r[urn] = extension
		}
		r, path = extension, name
	}
	if parent, sub, nested := strings.Cut(path, "."); nested && !strings.Contains(path, ":") {
		inner, _ := r[parent].(resource)
		if inner == nil {
			inner = resource{}
			r[parent] = inner
		}
		r, path = inner, sub
	}
	if verb == "remove" {
		delete(r, path)
	} else {
		r[path] = value
	}
	return nil
}

func cutURN(path string) (urn, name string, ok bool) {
	if !strings.HasPrefix(path, "urn:") || strings.HasSuffix(path, ":User") {
		return "", "", false
	}
	at := strings.LastIndex(path, ":")
	return path[:at], path[at+1:], true
}

func (o *Odd) checkActive(value any) error {
	_, isText := value.(string)
	if o.quirks.Active == "string" && !isText || o.quirks.Active == "boolean" && isText {
		return refusal{http.StatusBadRequest, "invalidValue"}
	}
	return nil
}

// element changes one of a list by its type. What is not there cannot be replaced, as with many servers.
func element(r resource, verb string, m []string, value any) error {
	list := elements(r[m[1]])
	at := slices.IndexFunc(list, func(e resource) bool { return e["type"] == m[2] })
	switch {
	case at < 0:
		return refusal{http.StatusBadRequest, "noTarget"}
	case verb == "remove":
		var left []any
		for i, e := range list {
			if i != at {
				left = append(left, e)
			}
		}
		r[m[1]] = left
	default:
		list[at]["value"] = value
	}
	return nil
}

func (o *Odd) member(g resource, verb string, filter []string, value any) error {
	old, _ := g["members"].([]any)
	switch verb {
	case "replace":
		return refusal{http.StatusBadRequest, "invalidValue"}
	case "add":
		for _, m := range elements(value) {
			id, _ := m["value"].(string)
			has := slices.Contains(memberIDs(g), id)
			switch {
			case has && o.quirks.RefusesTwice:
				return refusal{http.StatusConflict, ""}
			case !has || o.quirks.KeepsTwice:
				old = append(old, m)
			}
		}
		g["members"] = old
		return nil
	}
	byFilter := filter != nil
	if byFilter && o.quirks.RemoveMember == "value" || !byFilter && o.quirks.RemoveMember == "filter" {
		return refusal{http.StatusBadRequest, "invalidPath"}
	}
	var ids []string
	if byFilter {
		ids = filter[1:]
	} else {
		ids = memberIDs(resource{"members": value})
	}
	var left []any
	for _, m := range elements(old) {
		if id, _ := m["value"].(string); len(ids) > 0 && !slices.Contains(ids, id) {
			left = append(left, m)
		}
	}
	g["members"] = left
	return nil
}
