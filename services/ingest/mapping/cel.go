package mapping

import (
	"bytes"
	"errors"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tenurehq/tenure/services/ingest/timeline"
)

const (
	// costLimit of one field of one person, in CEL's units; an ordinary field takes less than a hundred.
	costLimit = 100_000
	// sizeLimit of an expression, in characters.
	sizeLimit = 8 << 10
)

// expression is a field with how to get it.
type expression struct {
	field   string
	program cel.Program
}

// environment is what expressions of a mapping may use.
func environment() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable("data", cel.DynType),
		cel.Variable("event.type", cel.StringType),
		cel.Variable("event.timestamp", cel.TimestampType),
		cel.OptionalTypes(),
		ext.Strings(),
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.ParserExpressionSizeLimit(sizeLimit),
		cel.ParserRecursionLimit(64),
	)
}

// evaluate gets a record out of a source's own JSON. An error is a *Held; then the record has what was got before.
func (m *Mapping) evaluate(item []byte, event Event) (timeline.Record, error) {
	var r timeline.Record
	data, err := value(jsontext.NewDecoder(bytes.NewReader(item)))
	if err != nil {
		return r, errJSON
	}
	in := map[string]any{"data": data, "event.type": event.Type, "event.timestamp": event.Timestamp}
	for _, f := range m.fields {
		out, _, err := f.program.Eval(in)
		if err != nil {
			return r, hold(f.field, problem(err))
		}
		text, err := textOf(out)
		if err != nil {
			return r, hold(f.field, err.Error())
		}
		r.Set(f.field, text)
	}
	return r, nil
}

// problem says why an expression failed. CEL's own words may quote a value, so they are not passed on.
func problem(err error) string {
	switch text := err.Error(); {
	case strings.Contains(text, "cost limit"):
		return "the mapping's expression takes too long"
	case strings.HasPrefix(text, "no such key"):
		return "a key that the mapping reads is missing"
	}
	return "the mapping's expression failed"
}

// textOf is the text that an expression gave. Null and an empty optional are none.
func textOf(v ref.Val) (string, error) {
	if o, ok := v.(*types.Optional); ok {
		if !o.HasValue() {
			return "", nil
		}
		v = o.GetValue()
	}
	switch v := v.(type) {
	case types.String:
		return string(v), nil
	case types.Null:
		return "", nil
	}
	return "", errors.New("the mapping gave " + v.Type().TypeName() + ", must give string")
}

// value reads a JSON value for CEL. Whole numbers stay whole as far as CEL has them, so that string(data.id) is what
// was sent; others are doubles.
func value(dec *jsontext.Decoder) (any, error) {
	token, err := dec.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case jsontext.KindString:
		return token.String(), nil
	case jsontext.KindNumber:
		return number(token.String())
	case jsontext.KindTrue, jsontext.KindFalse:
		return token.Bool(), nil
	case jsontext.KindBeginObject:
		out := map[string]any{}
		for dec.PeekKind() != jsontext.KindEndObject {
			key, err := dec.ReadToken()
			if err != nil {
				return nil, err
			}
			name := key.String() // a token is void after the next read
			if out[name], err = value(dec); err != nil {
				return nil, err
			}
		}
		_, err = dec.ReadToken()
		return out, err
	case jsontext.KindBeginArray:
		out := []any{}
		for dec.PeekKind() != jsontext.KindEndArray {
			element, err := value(dec)
			if err != nil {
				return nil, err
			}
			out = append(out, element)
		}
		_, err = dec.ReadToken()
		return out, err
	default:
		return nil, nil // JSON's null
	}
}

func number(text string) (any, error) {
	if i, err := strconv.ParseInt(text, 10, 64); err == nil {
		return i, nil
	}
	if u, err := strconv.ParseUint(text, 10, 64); err == nil {
		return u, nil
	}
	return strconv.ParseFloat(text, 64)
}
