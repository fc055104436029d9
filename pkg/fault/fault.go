// Package fault gives an error the kind that a caller in another process, or a person at a prompt, can act on.
//
// A fault's own text is written for the caller and crosses the wire. What lies below it (its cause) and what
// callers wrap around it is for the log of the process where it happened, and stays there. An error without a
// kind is Internal: nothing of it is sent.
package fault

import (
	"context"
	"errors"
	"fmt"
)

// Kind says what the receiver of an error can do about it.
type Kind int

// The kinds. The zero Kind is Internal: an error that nobody classified is our own fault.
const (
	Internal        Kind = iota // our own fault; the details are in our log
	Usage                       // the command or call was used wrongly
	Invalid                     // the content is wrong: sending the same again cannot help
	NotFound                    // no such thing
	Exists                      // there is one already
	Refused                     // understood and not done, because of the state of things
	Unauthenticated             // who is calling is not proven
	Denied                      // the caller is known and may not
	Conflict                    // somebody else was faster: read again and retry
	Unavailable                 // not now: retry later; also deadlines and cancellation
	TooLarge                    // over a size limit
)

// String returns the kind's name on the wire, in lower case with dashes.
func (k Kind) String() string {
	if k < 0 || int(k) >= len(table) {
		return "internal"
	}
	return table[k].name
}

// fault is one classified error. text is for the caller; cause is for the log and for errors.Is and errors.As.
type fault struct {
	kind  Kind
	text  string
	cause error
}

func (f *fault) Error() string { return f.text }
func (f *fault) Unwrap() error { return f.cause }

// New makes an error of kind k. Its text, the text of a %w operand included, is sent to callers in other
// processes unless k is Internal; errors.Is and errors.As reach the operand.
func New(k Kind, format string, args ...any) error {
	made := fmt.Errorf(format, args...)
	return &fault{kind: k, text: made.Error(), cause: made}
}

// Wrap gives err the kind k. err's text is sent to callers in other processes unless k is Internal. Wrap of nil
// is nil.
func Wrap(k Kind, err error) error {
	if err == nil {
		return nil
	}
	return &fault{kind: k, text: err.Error(), cause: err}
}

// KindOf returns the kind of the outermost classified error in err's chain: a fault, else a gRPC status, else a
// context's end. Anything else, and nil, is Internal.
func KindOf(err error) Kind {
	var f *fault
	if errors.As(err, &f) {
		return f.kind
	}
	if s, ok := statusOf(err); ok {
		return kindOfStatus(s)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return Unavailable
	}
	return Internal
}

// ExitCode returns what a command line process ends with: 0 done, 1 failed, 2 used wrongly, 3 not found, 4 refused.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	switch KindOf(err) {
	case Usage:
		return 2
	case NotFound:
		return 3
	case Refused, Denied, Unauthenticated:
		return 4
	case Internal, Invalid, Exists, Conflict, Unavailable, TooLarge:
		return 1
	}
	return 1
}
