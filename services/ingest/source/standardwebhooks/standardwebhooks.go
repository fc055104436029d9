// Package standardwebhooks verifies and signs requests as www.standardwebhooks.com says.
//
// It refuses a request unless one of the source's secrets signed exactly this id, timestamp and body, not more than five
// minutes ago or ahead. It does not remember ids: whether one was seen before is for the caller to know.
package standardwebhooks

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/tenurehq/tenure/services/ingest/source"
)

const (
	// Tolerance is how far a signed timestamp may be off, either way.
	Tolerance = 5 * time.Minute

	secretPrefix = "whsec_"
	minSecret    = 24
	maxSecret    = 64
	maxID        = 256
)

// ErrRefused is the one error of Verify, whatever was wrong: the answer must not help who guesses.
var ErrRefused = source.ErrRefused

// Reason is why Verify refused, as a short code for a counter: headers, timestamp or signature; "" for another error.
func Reason(err error) string { return source.Reason(err) }

// Keys are a source's secrets, newest first. Safe for concurrent use.
type Keys struct {
	keys []*standardwebhooks.Webhook
}

// ParseKeys reads the text of a secret file: one whsec_… (base64 of 24 to 64 bytes) a line, newest first; empty lines
// are skipped. An error names the line and never the secret.
func ParseKeys(text []byte) (*Keys, error) {
	var k Keys
	n := 0
	for line := range bytes.Lines(text) {
		n++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		encoded, ok := bytes.CutPrefix(line, []byte(secretPrefix))
		if !ok {
			return nil, fmt.Errorf("line %d: a secret begins with %s", n, secretPrefix)
		}
		secret, err := base64.StdEncoding.DecodeString(string(encoded))
		if err != nil {
			return nil, fmt.Errorf("line %d: the secret is not base64", n) // the error itself would quote it
		}
		if len(secret) < minSecret || len(secret) > maxSecret {
			return nil, fmt.Errorf("line %d: the secret has %d bytes, it must have %d to %d", n, len(secret), minSecret, maxSecret)
		}
		key, err := standardwebhooks.NewWebhookRaw(secret)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		k.keys = append(k.keys, key)
	}
	if len(k.keys) == 0 {
		return nil, errors.New("no secret")
	}
	return &k, nil
}

// Message is a verified request's identity: webhook-id and webhook-timestamp, in whole seconds.
type Message = source.Message

// Verify checks a request against all secrets, judging its timestamp by now. The error is ErrRefused; Reason tells more
// of it.
func (k *Keys) Verify(h http.Header, body []byte, now time.Time) (Message, error) {
	id, stamp := source.Header(h, standardwebhooks.HeaderWebhookID), source.Header(h, standardwebhooks.HeaderWebhookTimestamp)
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || stamp != strconv.FormatInt(seconds, 10) || !validID(id) || ambiguous(body) ||
		source.Header(h, standardwebhooks.HeaderWebhookSignature) == "" {
		return Message{}, source.BadHeaders
	}
	// Compared as seconds: a time.Duration overflows with the timestamps that attackers send.
	const tolerance = int64(Tolerance / time.Second)
	if t := now.Unix(); seconds < t-tolerance || seconds > t+tolerance {
		return Message{}, source.BadTimestamp
	}
	for _, key := range k.keys {
		if key.VerifyIgnoringTimestamp(body, h) == nil { // compares in constant time
			return Message{ID: id, Time: time.Unix(seconds, 0).UTC()}, nil
		}
	}
	return Message{}, source.BadSignature
}

// Sign returns the headers under which body is sent, signed with the newest secret.
func (k *Keys) Sign(id string, at time.Time, body []byte) (http.Header, error) {
	if !validID(id) {
		return nil, fmt.Errorf("sign: an id has 1 to %d printable characters, and neither blanks, quotes nor braces", maxID)
	}
	signature, err := k.keys[0].Sign(id, at, body)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	h := make(http.Header, 3)
	h.Set(standardwebhooks.HeaderWebhookID, id)
	h.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	h.Set(standardwebhooks.HeaderWebhookSignature, signature)
	return h, nil
}

func validID(id string) bool {
	for i := range len(id) {
		if !idByte(id[i]) {
			return false
		}
	}
	return id != "" && len(id) <= maxID
}

// idByte tells what an id may consist of: what is printable, without what JSON objects, arrays and texts begin with.
func idByte(b byte) bool { return b > ' ' && b < 0x7f && b != '{' && b != '[' && b != '"' }

// ambiguous tells whether body could be the tail of a longer id, with its timestamp and body. What is signed is
// id.timestamp.body, so ("a.1", 2, "{}") and ("a", 1, "2.{}") have one signature; no JSON object reads like that.
func ambiguous(body []byte) bool {
	for i, b := range body {
		switch {
		case b == '.' && i > 0 && '0' <= body[i-1] && body[i-1] <= '9':
			return true
		case !idByte(b):
			return false
		}
	}
	return false
}
