package worker

import (
	"crypto/rand"
	"crypto/sha256"
)

// Tags keep a commitment to one kind of facts from passing for one to another.
const (
	tagIntent  = "tenure/intent/v1\x00"
	tagOutcome = "tenure/outcome/v1\x00"
)

// newNonce keeps facts that are easy to guess from being confirmed by their commitment.
func newNonce() []byte {
	nonce := make([]byte, 32)
	_, _ = rand.Read(nonce) // never fails
	return nonce
}

// commit is what goes into the record in place of facts; facts and nonce stay in the journal.
func commit(tag string, nonce, facts []byte) []byte {
	h := sha256.New()
	h.Write([]byte(tag))
	h.Write(nonce)
	h.Write(facts)
	return h.Sum(nil)
}
