package postgres

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/xdg-go/scram"
)

// What PostgreSQL itself uses.
const (
	scramIterations = 4096
	scramSaltBytes  = 16
)

// scramVerifier is what PostgreSQL stores for a password. It takes the form that a client which normalises the password
// (SASLprep), or cannot, will prove.
func scramVerifier(password string) (string, error) {
	if strings.ContainsRune(password, 0) {
		return "", fmt.Errorf("a password cannot hold a NUL")
	}
	client, err := scram.SHA256.NewClient("", password, "")
	if err != nil {
		// RFC 5802 would refuse; PostgreSQL and its clients take such a password as it is.
		if client, err = scram.SHA256.NewClientUnprepped("", password, ""); err != nil {
			return "", fmt.Errorf("the password cannot be used: %w", err)
		}
	}
	salt := make([]byte, scramSaltBytes)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("make a salt: %w", err)
	}
	stored, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(salt), Iters: scramIterations})
	if err != nil {
		return "", fmt.Errorf("the password cannot be used: %w", err)
	}
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", scramIterations, b64(salt), b64(stored.StoredKey), b64(stored.ServerKey)), nil
}
