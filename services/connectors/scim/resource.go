package scim

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tenurehq/tenure/pkg/connector"
)

// The schemas of RFC 7643 and RFC 7644.
const (
	userSchema       = "urn:ietf:params:scim:schemas:core:2.0:User"
	enterpriseSchema = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
	patchSchema      = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
)

// resource is a JSON object as it came. Names of attributes differ in case between servers and mean the same.
type resource map[string]any

// get returns an attribute; nil when it is absent.
func (r resource) get(name string) any {
	if v, ok := r[name]; ok {
		return v
	}
	for _, key := range slices.Sorted(maps.Keys(r)) {
		if strings.EqualFold(key, name) {
			return r[key]
		}
	}
	return nil
}

// put sets an attribute under the name that it has there.
func (r resource) put(name string, value any) {
	r.drop(name)
	r[name] = value
}

func (r resource) drop(name string) {
	maps.DeleteFunc(r, func(key string, _ any) bool { return strings.EqualFold(key, name) })
}

func (r resource) text(name string) string { return textOf(r.get(name)) }

func (r resource) object(name string) resource { return objectOf(r.get(name)) }

// objects are the elements of a multi-valued attribute. One that came alone counts as a list of one.
func (r resource) objects(name string) []resource {
	switch v := r.get(name).(type) {
	case []any:
		var all []resource
		for _, element := range v {
			if o := objectOf(element); o != nil {
				all = append(all, o)
			}
		}
		return all
	case map[string]any:
		return []resource{v}
	}
	return nil
}

func (r resource) id() connector.AccountID { return connector.AccountID(r.text("id")) }

// version is empty where the application has none.
func (r resource) version() string { return r.object("meta").text("version") }

// status reads `active`, which some send as text.
func (r resource) status() connector.Status {
	switch strings.ToLower(r.text("active")) {
	case "true":
		return connector.Enabled
	case "false":
		return connector.Disabled
	}
	return connector.StatusUnknown
}

// has says whether a group lists the member.
func (r resource) has(member connector.AccountID) bool {
	return slices.ContainsFunc(r.objects("members"), func(m resource) bool { return m.text("value") == string(member) })
}

// copied returns a copy that shares nothing with r.
func (r resource) copied() resource {
	copied, _ := copyOf(map[string]any(r)).(map[string]any)
	return copied
}

func copyOf(v any) any {
	switch v := v.(type) {
	case map[string]any:
		copied := make(map[string]any, len(v))
		for key, value := range v {
			if value != nil { // null says the same as absent, and some servers refuse it
				copied[key] = copyOf(value)
			}
		}
		return copied
	case []any:
		copied := make([]any, len(v))
		for i, value := range v {
			copied[i] = copyOf(value)
		}
		return copied
	}
	return v
}

func objectOf(v any) resource {
	o, _ := v.(map[string]any)
	return o
}

// textOf is a simple value in the form in which Update would take it.
func textOf(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case json.Number:
		return v.String()
	}
	return ""
}

// quoted is a value within a filter: a JSON string (RFC 7644, section 3.4.2.2).
func quoted(value string) string {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(value) // a string always encodes
	return strings.TrimSuffix(b.String(), "\n")
}
