// Package standardwebhooks verifies and signs requests as www.standardwebhooks.com says.
//
// It refuses a request unless one of the source's secrets signed exactly this id, timestamp and body, not more than five
// minutes ago or ahead. It does not remember ids: whether one was seen before is for the caller to know.
package standardwebhooks

import (
	"errors"
	"net/http"
	"time"
)

// Tolerance is how far a signed timestamp may be off, either way.
const Tolerance = 5 * time.Minute

// ErrRefused is the one error of Verify, whatever was wrong: the answer must not help who guesses.
var ErrRefused = errors.New("signature refused")

// Keys are a source's secrets, newest first. Safe for concurrent use.
type Keys struct {
	keys [][]byte
}

// ParseKeys reads the text of a secret file: one whsec_… (base64 of 24 to 64 bytes) a line, newest first; empty lines
// are skipped. An error names the line and never the secret.
func ParseKeys(text []byte) (*Keys, error) { return &Keys{}, nil }

// Message is a verified request's identity.
type Message struct {
	ID   string    // webhook-id
	Time time.Time // webhook-timestamp, whole seconds
}

// Verify checks a request against all secrets, judging its timestamp by now. The error is ErrRefused, with the reason
// wrapped for counting: Reason tells it.
func (k *Keys) Verify(h http.Header, body []byte, now time.Time) (Message, error) {
	return Message{}, ErrRefused
}

// Sign returns the headers under which body is sent, signed with the newest secret.
func (k *Keys) Sign(id string, at time.Time, body []byte) (http.Header, error) { return nil, nil }

// Reason is why Verify refused, as a short code for a counter: headers, timestamp or signature; "" for another error.
func Reason(err error) string { return "" }
