package scimtest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// shown is a resource as a reader sees it.
func (o *Odd) shown(kind string, r resource) resource {
	out := copied(r)
	delete(out, "changes")
	if o.quirks.Versions {
		out["meta"] = resource{"version": version(r)}
	}
	if kind == "Groups" && o.quirks.HidesMembers {
		out["members"] = []any{}
	}
	if kind == "Users" && o.quirks.ShowsGroups {
		var in []any
		for _, g := range o.groups {
			if slices.Contains(memberIDs(g), r["id"].(string)) {
				in = append(in, resource{"value": g["id"], "display": g["displayName"], "type": "direct"})
			}
		}
		if in != nil {
			out["groups"] = in
		}
	}
	if !o.quirks.OddSpelling {
		return out
	}
	odd := resource{"ID": out["id"], "nickName": nil, "emails": nil}
	for name, value := range out {
		if name != "id" {
			delete(odd, name)
			odd[strings.ToUpper(name[:1])+name[1:]] = value
		}
	}
	return odd
}

var comparison = regexp.MustCompile(`^([A-Za-z.]+) eq ("(?:[^"\\]|\\.)*")$`)

// list answers a search or a page.
func (o *Odd) list(kind string, all []resource, query url.Values) (resource, error) {
	if kind == "Users" && o.quirks.HidesDisabled {
		all = slices.DeleteFunc(slices.Clone(all), func(u resource) bool { return u["active"] != true })
	}
	if filter := query.Get("filter"); filter != "" && !o.quirks.IgnoresFilters {
		m := comparison.FindStringSubmatch(filter)
		if m == nil || m[1] == o.quirks.NoSearchBy {
			return nil, refusal{http.StatusBadRequest, "invalidFilter"}
		}
		var value string
		if json.Unmarshal([]byte(m[2]), &value) != nil {
			return nil, refusal{http.StatusBadRequest, "invalidFilter"}
		}
		if kind == "Users" && o.forgets > 0 && len(all) > 0 {
			o.forgets--
			all = all[:len(all)-1]
		}
		all = slices.DeleteFunc(slices.Clone(all), func(r resource) bool { return !matches(r, m[1], value) })
		if o.quirks.NobodyIs404 && len(all) == 0 {
			return nil, refusal{status: http.StatusNotFound}
		}
	}
	return o.page(kind, all, query)
}

func matches(r resource, attribute, value string) bool {
	switch attribute {
	case "members.value":
		return slices.Contains(memberIDs(r), value)
	case "emails.value":
		return slices.ContainsFunc(elements(r["emails"]), func(e resource) bool { return e["value"] == value })
	case "userName":
		name, _ := r[attribute].(string)
		return strings.EqualFold(name, value)
	}
	return r[attribute] == value
}

func (o *Odd) page(kind string, all []resource, query url.Values) (resource, error) {
	q := o.quirks
	size, err := strconv.Atoi(query.Get("count"))
	if err != nil {
		size = 100
	}
	if q.PageLimit > 0 {
		size = min(size, q.PageLimit)
	}
	out := resource{"schemas": []any{"urn:ietf:params:scim:api:messages:2.0:ListResponse"}, "itemsPerPage": size}
	at, _ := strconv.Atoi(query.Get("startIndex"))
	at = max(at, 1) - 1
	if q.Cursors {
		at, _ = strconv.Atoi(query.Get("cursor"))
		if at+size < len(all) {
			out["nextCursor"] = strconv.Itoa(at + size)
		}
	} else {
		out["totalResults"], out["startIndex"] = max(0, len(all)+q.WrongTotal), at+1
		if at > 0 {
			at = max(0, at-q.Overlap)
		}
	}
	if at >= len(all) && q.BeginsAgain {
		at = 0
	}
	shown := []any{}
	for _, r := range all[min(at, len(all)):min(at+size, len(all))] {
		shown = append(shown, o.shown(kind, r))
	}
	out["Resources"] = shown
	return out, nil
}

func memberIDs(g resource) []string {
	var ids []string
	for _, m := range elements(g["members"]) {
		id, _ := m["value"].(string)
		ids = append(ids, id)
	}
	return ids
}

// elements are the objects of a list.
func elements(v any) []resource {
	list, _ := v.([]any)
	var all []resource
	for _, element := range list {
		if o, ok := element.(resource); ok {
			all = append(all, o)
		}
	}
	return all
}
