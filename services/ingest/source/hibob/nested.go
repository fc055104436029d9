package hibob

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tenurehq/tenure/services/ingest/source/vendorapi"
)

// humanReadable is the member with values as people read them, in either form itself.
const humanReadable = "humanReadable"

// nested brings an employee into one form. HiBob answers fields nested ("work": {"site": …}), flat
// ("/work/site": {"value": …}) or both ways at once; here they are all nested, and those of root at the top. Where both
// are there, what is nested stands.
func nested(employee jsontext.Value) (id string, data []byte, err error) {
	var in map[string]jsontext.Value
	if err := json.Unmarshal(employee, &in); err != nil || in == nil {
		return "", nil, errNotAnEmployee
	}
	out, err := unflatten(in)
	if err != nil {
		return "", nil, err
	}
	if human, ok := in[humanReadable]; ok && human.Kind() == jsontext.KindBeginObject {
		var flat map[string]jsontext.Value
		if err := json.Unmarshal(human, &flat); err != nil {
			return "", nil, errNotAnEmployee
		}
		if out[humanReadable], err = unflatten(flat); err != nil {
			return "", nil, err
		}
	}
	value, _ := out["id"].(jsontext.Value)
	if id, _ = vendorapi.Text(value); id == "" {
		return "", nil, errNotAnEmployee
	}
	data, err = json.Marshal(out, json.Deterministic(true)) // the same employee reads the same each time
	return id, data, err
}

var errNotAnEmployee = errors.New("not the JSON of an employee")

// unflatten is the object with its flat members put in their places.
func unflatten(in map[string]jsontext.Value) (map[string]any, error) {
	out := make(map[string]any, len(in))
	for name, value := range in {
		if strings.HasPrefix(name, "/") {
			continue
		}
		var object map[string]any
		if value.Kind() == jsontext.KindBeginObject {
			if err := json.Unmarshal(value, &object, json.WithUnmarshalers(keepNumbers)); err != nil {
				return nil, errNotAnEmployee
			}
			out[name] = object
			continue
		}
		out[name] = value
	}
	for _, name := range slices.Sorted(maps.Keys(in)) { // what is above comes before what is below
		if strings.HasPrefix(name, "/") {
			place(out, strings.Split(strings.TrimPrefix(name[1:], "root/"), "/"), unwrapped(in[name]))
		}
	}
	return out, nil
}

// keepNumbers keeps numbers as they are written: a float64 has not the digits of an employee's id.
var keepNumbers = json.UnmarshalFromFunc(func(dec *jsontext.Decoder, v *any) error {
	if dec.PeekKind() != jsontext.KindNumber {
		return errors.ErrUnsupported
	}
	number, err := dec.ReadValue()
	*v = number.Clone()
	return err
})

// unwrapped is what a flat member holds: {"value": v} or v itself.
func unwrapped(v jsontext.Value) jsontext.Value {
	var wrapped map[string]jsontext.Value
	if v.Kind() == jsontext.KindBeginObject && json.Unmarshal(v, &wrapped) == nil {
		if inner, ok := wrapped["value"]; ok {
			return inner
		}
	}
	return v
}

// place puts a value where path says, unless something is there or in the way.
func place(in map[string]any, path []string, value jsontext.Value) {
	for _, step := range path[:len(path)-1] {
		below, ok := in[step].(map[string]any)
		if !ok {
			if known, there := in[step]; there && !isNull(known) {
				return
			}
			below = map[string]any{}
			in[step] = below
		}
		in = below
	}
	last := path[len(path)-1]
	if _, there := in[last]; !there {
		in[last] = value
	}
}

func isNull(v any) bool {
	raw, ok := v.(jsontext.Value)
	return v == nil || ok && raw.Kind() == jsontext.KindNull
}
