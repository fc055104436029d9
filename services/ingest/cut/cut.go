// Package cut is the key that ingest signs cuts and lifts with, so that a worker can act on such an event while ingest does
// not answer. A signature is over the event's body without it. A key whose file everybody on the machine may read is
// refused.
package cut

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"os"

	"google.golang.org/protobuf/proto"

	"github.com/tenurehq/tenure/pkg/config"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

// Key signs. Safe for concurrent use.
type Key struct{ private ed25519.PrivateKey }

// Open reads the key in a file, or makes one at the first start.
func Open(file string) (*Key, error) {
	secret, err := config.ReadSecret(file)
	if errors.Is(err, os.ErrNotExist) {
		secret, err = newKey(file)
	}
	if err != nil {
		return nil, fmt.Errorf("the key that signs cuts: %w", err)
	}
	seed, err := base64.StdEncoding.DecodeString(string(secret.Reveal()))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("the key that signs cuts: %s must hold %d bytes in base64", file, ed25519.SeedSize)
	}
	return &Key{ed25519.NewKeyFromSeed(seed)}, nil
}

// newKey makes the file. Where another process was faster its key is the one.
func newKey(file string) (config.Secret, error) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return config.Secret{}, err
	}
	err = config.MakeSecret(file, []byte(base64.StdEncoding.EncodeToString(private.Seed())+"\n"))
	if err != nil && !errors.Is(err, os.ErrExist) {
		return config.Secret{}, err
	}
	return config.ReadSecret(file)
}

// Public is the key that signatures are checked by.
func (k *Key) Public() ed25519.PublicKey {
	return k.private.Public().(ed25519.PublicKey)
}

// Sign signs an event that is complete otherwise.
func (k *Key) Sign(l *eventv1.Lifecycle) error {
	body, err := unsigned(l)
	if err != nil {
		return fmt.Errorf("sign a %s: %w", l.GetKind(), err)
	}
	l.Signature = ed25519.Sign(k.private, body)
	return nil
}

// Signed tells whether ingest, by its public key, signed the event as it is. Without a key nothing is.
func Signed(l *eventv1.Lifecycle, by ed25519.PublicKey) bool {
	body, err := unsigned(l)
	return err == nil && len(by) == ed25519.PublicKeySize && ed25519.Verify(by, body, l.GetSignature())
}

// unsigned is what is signed: the deterministic encoding without the signature.
func unsigned(l *eventv1.Lifecycle) ([]byte, error) {
	l = proto.CloneOf(l)
	l.Signature = nil
	return proto.MarshalOptions{Deterministic: true}.Marshal(l)
}
