package policy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/tenurehq/tenure/services/policy/decide"
)

const (
	// commitmentTag keeps a commitment of this sort from being taken for one of another.
	commitmentTag = "tenure.access.v1.Desired\x00"
	// nonceSize is what makes a commitment to few possible values impossible to guess.
	nonceSize = 32
)

// commitment is SHA-256(tag ‖ nonce ‖ facts) over what a person should have in one application as of one generation.
//
// All applications that a decision changes share the nonce of its history row. The nonce of one is made of it and
// the application's name, so that showing one application's facts and nonce tells nothing about the others'.
func commitment(nonce []byte, person, app string, generation int64, access decide.Access) []byte {
	own := hmac.New(sha256.New, nonce)
	own.Write([]byte(app))
	h := sha256.New()
	h.Write([]byte(commitmentTag))
	h.Write(own.Sum(nil))
	h.Write(facts(person, app, generation, access))
	return h.Sum(nil)
}

// facts is the one encoding of these facts: numbers in 8 bytes, texts and lists with their length before them.
func facts(person, app string, generation int64, access decide.Access) []byte {
	var b []byte
	number := func(n int64) { b = binary.BigEndian.AppendUint64(b, unsigned(n)) }
	text := func(s string) {
		number(int64(len(s)))
		b = append(b, s...)
	}
	text(person)
	text(app)
	number(generation)
	number(int64(access.State))
	number(int64(len(access.Entitlements)))
	for _, e := range access.Entitlements {
		text(e)
	}
	number(int64(len(access.Account)))
	for _, name := range slices.Sorted(maps.Keys(access.Account)) {
		text(name)
		text(access.Account[name])
	}
	return b
}
