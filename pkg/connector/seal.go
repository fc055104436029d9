package connector

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// The two algorithms of the contract's JWEs: a P-256 key agreement and AES-256-GCM, which every JOSE library has.
const (
	sealAgreement  = jose.ECDH_ES
	sealEncryption = jose.A256GCM
)

// sealKey is to whom secrets for this process are sealed. It lives as long as the process: who holds an older
// description asks again.
type sealKey struct {
	private *ecdsa.PrivateKey
	jwk     []byte
}

func newSealKey() (*sealKey, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	jwk, err := json.Marshal(jose.JSONWebKey{Key: &private.PublicKey, Use: "enc", Algorithm: string(sealAgreement)})
	if err != nil {
		return nil, err
	}
	return &sealKey{private: private, jwk: jwk}, nil
}

// public returns the JWK; empty for a nil key.
func (k *sealKey) public() []byte {
	if k == nil {
		return nil
	}
	return k.jwk
}

func (k *sealKey) open(sealed []byte) (string, error) {
	if k == nil {
		return "", errors.New("this connector takes no secrets")
	}
	jwe, err := jose.ParseEncryptedCompact(string(sealed), []jose.KeyAlgorithm{sealAgreement}, []jose.ContentEncryption{sealEncryption})
	if err != nil {
		return "", errors.New("the secret is not a JWE of ECDH-ES with A256GCM")
	}
	plain, err := jwe.Decrypt(k.private)
	if err != nil {
		return "", errors.New("the secret is not sealed to the key of this description: describe again")
	}
	return string(plain), nil
}

// Seal encrypts secret to jwk, a public P-256 key such as DescribeResponse.seal_key, as a compact JWE.
func Seal(jwk []byte, secret string) ([]byte, error) {
	var key jose.JSONWebKey
	if err := json.Unmarshal(jwk, &key); err != nil {
		return nil, fmt.Errorf("read the recipient's key: %w", err)
	}
	public, ok := key.Key.(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("read the recipient's key: not a public key on a curve")
	}
	if point, err := public.ECDH(); err != nil || point.Curve() != ecdh.P256() {
		return nil, errors.New("read the recipient's key: not on P-256")
	}
	encrypter, err := jose.NewEncrypter(sealEncryption, jose.Recipient{Algorithm: sealAgreement, Key: public}, nil)
	if err != nil {
		return nil, fmt.Errorf("seal a secret: %w", err)
	}
	jwe, err := encrypter.Encrypt([]byte(secret))
	if err != nil {
		return nil, fmt.Errorf("seal a secret: %w", err)
	}
	compact, err := jwe.CompactSerialize()
	if err != nil {
		return nil, fmt.Errorf("seal a secret: %w", err)
	}
	return []byte(compact), nil
}
