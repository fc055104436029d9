package ingest

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/ingest/internal/store"
)

// commitmentTag keeps a commitment of this sort from being taken for one of another.
const commitmentTag = "tenure.people.v1.Happening\x00"

// nonceSize is what makes a commitment to few possible values impossible to guess.
const nonceSize = 32

// commit sets lifecycle's commitment and returns what it is over: the event with the values that the bus does not
// get. Those who are shown facts and nonce can check that the log means them; with the two erased nobody can tell
// what it meant.
func commit(lifecycle *eventv1.Lifecycle, changes []*peoplev1.Change, at time.Time) (store.Happening, error) {
	lifecycle.Commitment = nil
	facts, err := proto.MarshalOptions{Deterministic: true}.Marshal(&peoplev1.Happening{
		Lifecycle: lifecycle, At: timestamp(at), Changes: changes,
	})
	if err != nil {
		return store.Happening{}, fmt.Errorf("encode facts of an event: %w", err)
	}
	nonce := make([]byte, nonceSize)
	_, _ = rand.Read(nonce) // never fails
	lifecycle.Commitment = commitment(nonce, facts)
	return store.Happening{At: at, Nonce: nonce, Facts: facts}, nil
}

// commitment is SHA-256(tag ‖ nonce ‖ facts).
func commitment(nonce, facts []byte) []byte {
	h := sha256.New()
	h.Write([]byte(commitmentTag))
	h.Write(nonce)
	h.Write(facts)
	return h.Sum(nil)
}
