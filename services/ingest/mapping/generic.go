package mapping

import (
	"bytes"
	"errors"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tenurehq/tenure/services/ingest/source"
	"github.com/tenurehq/tenure/services/ingest/timeline"
)

// errJSON stands for any error of the decoder, whose own words may quote the text.
var errJSON = &Held{Reason: "not JSON, or a key twice"}

// decode reads the generic form, strictly: every key is known, every value is a text or null.
func decode(item []byte) (timeline.Record, error) {
	var r timeline.Record
	dec := jsontext.NewDecoder(bytes.NewReader(item))
	err := object(dec, func(key string) error {
		if key == "attributes" {
			return attributes(dec, &r)
		}
		return text(dec, &r, key, key)
	})
	return r, err
}

// attributes reads the object of own attributes, or null.
func attributes(dec *jsontext.Decoder, r *timeline.Record) error {
	switch dec.PeekKind() {
	case jsontext.KindNull:
		_, err := dec.ReadToken()
		return err
	case jsontext.KindBeginObject:
	default:
		return hold("attributes", "must be an object")
	}
	return object(dec, func(name string) error {
		return text(dec, r, "attributes."+name, "attributes."+source.Key(name))
	})
}

// text reads a value into the field of that name, which a reason shows as shown.
func text(dec *jsontext.Decoder, r *timeline.Record, name, shown string) error {
	token, err := dec.ReadToken()
	if err != nil {
		return err
	}
	kind := token.Kind()
	var value string
	if kind == jsontext.KindString {
		value = token.String()
	}
	if !r.Set(name, value) {
		return &Held{Reason: "unknown key " + source.Key(name)}
	}
	if kind != jsontext.KindString && kind != jsontext.KindNull {
		return hold(shown, "must be a text")
	}
	return nil
}

// object reads an object, whose every value the function must read. An error is a *Held.
func object(dec *jsontext.Decoder, member func(key string) error) error {
	err := func() error {
		if _, err := dec.ReadToken(); err != nil {
			return err
		}
		for dec.PeekKind() != jsontext.KindEndObject {
			key, err := dec.ReadToken()
			if err != nil {
				return err
			}
			if err := member(key.String()); err != nil {
				return err
			}
		}
		_, err := dec.ReadToken()
		return err
	}()
	var held *Held
	if err != nil && !errors.As(err, &held) {
		return errJSON
	}
	return err
}
