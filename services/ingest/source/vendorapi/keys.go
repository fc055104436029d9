package vendorapi

import (
	"bytes"
	"crypto/hmac"
	"errors"
	"fmt"
	"hash"
)

// The length of a key, in bytes. Vendors make them up; ours may only not be obviously too short.
const (
	minKey = 8
	maxKey = 512
)

// Keys are the secrets that a source's webhooks may be signed with, newest first. Safe for concurrent use.
type Keys struct {
	keys [][]byte
}

// ParseKeys reads the text of a secret file: one key a line as the vendor shows it, newest first; empty lines are
// skipped. An error names the line and never the key.
func ParseKeys(text []byte) (Keys, error) {
	var k Keys
	n := 0
	for line := range bytes.Lines(text) {
		n++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if len(line) < minKey || len(line) > maxKey {
			return Keys{}, fmt.Errorf("line %d: the key has %d bytes, it must have %d to %d", n, len(line), minKey, maxKey)
		}
		k.keys = append(k.keys, bytes.Clone(line))
	}
	if len(k.keys) == 0 {
		return Keys{}, errors.New("no key")
	}
	return k, nil
}

// Signed tells whether one of the keys made this HMAC over the parts in order. All keys are tried, in constant time.
func (k Keys) Signed(signature []byte, algorithm func() hash.Hash, parts ...[]byte) bool {
	signed := false
	for _, key := range k.keys {
		if hmac.Equal(signature, sum(key, algorithm, parts)) {
			signed = true
		}
	}
	return signed
}

// Sign makes the HMAC with the newest key.
func (k Keys) Sign(algorithm func() hash.Hash, parts ...[]byte) []byte {
	return sum(k.keys[0], algorithm, parts)
}

func sum(key []byte, algorithm func() hash.Hash, parts [][]byte) []byte {
	mac := hmac.New(algorithm, key)
	for _, part := range parts {
		_, _ = mac.Write(part) // never fails
	}
	return mac.Sum(nil)
}
