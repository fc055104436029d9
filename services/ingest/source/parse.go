package source

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tenurehq/tenure/services/ingest/timeline"
)

// maxDepth of nested objects and arrays; deeper bodies are attacks, not people.
const maxDepth = 32

// Parse reads a body. An error is an *Error. What is well-formed and cannot be understood has Envelope.Held set.
func Parse(body []byte, form Form) (Envelope, error) {
	if err := check(body); err != nil {
		return Envelope{}, err
	}
	top, ok := members(body)
	if !ok {
		return Envelope{}, &Error{Problem: "not a JSON object"}
	}
	if form == Own {
		return own(body, top), nil
	}
	for _, m := range top {
		switch m.key {
		case "type", "timestamp", "data":
		default:
			return Envelope{}, &Error{Pointer: pointer(jsontext.Pointer("").AppendToken(m.key)), Problem: "unknown key"}
		}
	}
	return generic(top), nil
}

// check reads the whole of a body for its grammar: one JSON value in UTF-8, no key twice in an object, not too deep.
func check(body []byte) error {
	dec := jsontext.NewDecoder(bytes.NewReader(body))
	for {
		_, err := dec.ReadToken()
		var syntax *jsontext.SyntacticError
		switch {
		case errors.Is(err, io.EOF) && dec.StackDepth() == 0 && dec.InputOffset() > 0:
			return nil
		case errors.Is(err, jsontext.ErrDuplicateName) && errors.As(err, &syntax):
			return &Error{Pointer: pointer(syntax.JSONPointer), Problem: "duplicate key"}
		case errors.As(err, &syntax):
			return &Error{Pointer: pointer(syntax.JSONPointer), Problem: "not JSON at byte " + strconv.FormatInt(syntax.ByteOffset, 10)}
		case err != nil:
			return &Error{Problem: "not JSON"}
		case dec.StackDepth() > maxDepth:
			return &Error{Pointer: pointer(dec.StackPointer()), Problem: "nested deeper than " + strconv.Itoa(maxDepth)}
		case dec.StackDepth() == 0 && trailing(body[dec.InputOffset():]):
			return &Error{Problem: "text after the end at byte " + strconv.FormatInt(dec.InputOffset(), 10)}
		}
	}
}

func trailing(rest []byte) bool { return len(bytes.Trim(rest, " \t\r\n")) > 0 }

// pointer bounds what an answer shows of a body's own keys.
func pointer(p jsontext.Pointer) string {
	const limit = 200
	if len(p) > limit {
		return strings.ToValidUTF8(string(p[:limit]), "") + "…"
	}
	return string(p)
}

// member of a JSON object.
type member struct {
	key   string
	value jsontext.Value
}

// members of an object that check has accepted, in their order; false: it is no object.
func members(object []byte) ([]member, bool) {
	dec := jsontext.NewDecoder(bytes.NewReader(object))
	if dec.PeekKind() != jsontext.KindBeginObject {
		return nil, false
	}
	_, err := dec.ReadToken()
	var out []member
	for err == nil && dec.PeekKind() != jsontext.KindEndObject {
		var key jsontext.Token
		if key, err = dec.ReadToken(); err != nil {
			break
		}
		m := member{key: key.String()}
		m.value, err = dec.ReadValue()
		m.value = bytes.Clone(m.value) // the decoder reuses its buffer
		out = append(out, m)
	}
	return out, err == nil
}

// elements of an array that check has accepted; false: it is no array.
func elements(array []byte) ([][]byte, bool) {
	dec := jsontext.NewDecoder(bytes.NewReader(array))
	if dec.PeekKind() != jsontext.KindBeginArray {
		return nil, false
	}
	_, err := dec.ReadToken()
	var out [][]byte
	for err == nil && dec.PeekKind() != jsontext.KindEndArray {
		var value jsontext.Value
		value, err = dec.ReadValue()
		out = append(out, bytes.Clone(value))
	}
	return out, err == nil
}

// value of a key; nil when it is absent or null.
func value(of []member, key string) jsontext.Value {
	for _, m := range of {
		if m.key == key && m.value.Kind() != jsontext.KindNull {
			return m.value
		}
	}
	return nil
}

// text is a JSON string's; false: it is none.
func text(v jsontext.Value) (string, bool) {
	if v.Kind() != jsontext.KindString {
		return "", false
	}
	out, err := jsontext.AppendUnquote(nil, v)
	return string(out), err == nil
}

// generic reads the prescribed form.
func generic(top []member) Envelope {
	var e Envelope
	e.Timestamp, e.Held = timestamp(top)
	e.Type, _ = text(value(top, "type"))
	data := value(top, "data")
	switch {
	case e.Held != "":
	case e.Type != TypeChanged && e.Type != TypeBatch:
		e.Held = "type: neither " + TypeChanged + " nor " + TypeBatch
	case data.Kind() != jsontext.KindBeginObject:
		e.Held = "data: not an object"
	case e.Type == TypeChanged:
		e.Items = [][]byte{data}
	default:
		e.batch(data)
	}
	return e
}

// own reads what another system sends, as far as it looks like the prescribed form.
func own(body []byte, top []member) Envelope {
	var e Envelope
	e.Timestamp, e.Held = timestamp(top)
	e.Type, _ = text(value(top, "type"))
	data := value(top, "data")
	switch {
	case e.Held != "":
	case data == nil:
		e.Items = [][]byte{bytes.Clone(body)}
	case data.Kind() != jsontext.KindBeginObject:
		e.Held = "data: not an object"
	case e.Type == TypeBatch:
		e.batch(data)
	default:
		e.Items = [][]byte{data}
	}
	return e
}

// timestamp of the envelope; zero when there is none.
func timestamp(top []member) (at time.Time, held string) {
	v := value(top, "timestamp")
	if v == nil {
		return time.Time{}, ""
	}
	said, ok := text(v)
	if ok && strings.ContainsRune(said, 'T') { // a date alone would do for Instant
		var err error
		if at, err = timeline.Instant(said, time.UTC); err == nil {
			return at, ""
		}
	}
	return time.Time{}, "timestamp: not an RFC 3339 instant"
}

// batch reads the data of a batch.
func (e *Envelope) batch(data []byte) {
	in, _ := members(data)
	for _, m := range in {
		switch m.key {
		case "people", "roster":
		default:
			e.Held = "data: unknown key " + Key(m.key)
			return
		}
	}
	part, held := roster(value(in, "roster"))
	items, ok := elements(value(in, "people"))
	switch {
	case held != "":
		e.Held = "roster: " + held
	case !ok:
		e.Held = "people: not an array"
	case len(items) == 0 && (part == nil || part.Total > 0):
		e.Held = "people: empty"
	case len(items) > MaxItems:
		e.Held = "people: more than " + strconv.Itoa(MaxItems)
	default:
		e.Items, e.Roster = items, part
	}
}

// Key quotes a body's key for a reason that people read: not long, and nothing unprintable.
func Key(key string) string {
	const limit = 60
	if len(key) > limit {
		key = key[:limit] + "…"
	}
	return strconv.QuoteToASCII(key)
}
