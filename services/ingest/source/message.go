package source

import (
	"errors"
	"net/http"
	"time"
)

// Message is a verified request's identity.
type Message struct {
	ID   string    // the same when the sender repeats it, another for everything else
	Time time.Time // when it was sent, by the sender's word
}

// Verifier proves who sent a request. Safe for concurrent use.
type Verifier interface {
	// Verify checks a request's signature, judging its timestamp by now where one is signed. An error is ErrRefused or, from
	// vendors who send such, ErrPing.
	Verify(h http.Header, body []byte, now time.Time) (Message, error)
}

var (
	// ErrRefused is the one error of Verify, whatever was wrong: the answer must not help who guesses.
	ErrRefused = errors.New("signature refused")
	// ErrPing says that a request only tries whether somebody listens. It is to be answered well, and means nothing.
	ErrPing = errors.New("only a ping")
)

// Refusal is ErrRefused with its reason, which is counted and not sent.
type Refusal string

// The reasons of a refusal.
const (
	BadHeaders   Refusal = "headers"
	BadTimestamp Refusal = "timestamp"
	BadSignature Refusal = "signature"
)

func (Refusal) Error() string { return ErrRefused.Error() }

// Is makes every refusal an ErrRefused.
func (Refusal) Is(target error) bool { return target == ErrRefused }

// Reason is why Verify refused, as a short code for a counter: headers, timestamp or signature; "" for another error.
func Reason(err error) string {
	var r Refusal
	errors.As(err, &r)
	return string(r)
}

// Header is a header's value; "" when it is missing or there are several, of which two readers might take different ones.
func Header(h http.Header, name string) string {
	if values := h.Values(name); len(values) == 1 {
		return values[0]
	}
	return ""
}
