package fault

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// table is the one mapping of kinds to names and gRPC codes, in order of Kind. Usage and Invalid share a code, so
// the kind also travels as the reason of an ErrorInfo detail.
var table = [...]struct {
	name string
	code codes.Code
}{
	Internal:        {"internal", codes.Internal},
	Usage:           {"usage", codes.InvalidArgument},
	Invalid:         {"invalid", codes.InvalidArgument},
	NotFound:        {"not-found", codes.NotFound},
	Exists:          {"exists", codes.AlreadyExists},
	Refused:         {"refused", codes.FailedPrecondition},
	Unauthenticated: {"unauthenticated", codes.Unauthenticated},
	Denied:          {"denied", codes.PermissionDenied},
	Conflict:        {"conflict", codes.Aborted},
	Unavailable:     {"unavailable", codes.Unavailable},
	TooLarge:        {"too-large", codes.ResourceExhausted},
}

const (
	// domain marks our ErrorInfo details, so that another system's reasons are not taken for kinds.
	domain = "tenure"
	// maxText keeps a status inside the 8 KiB that peers accept as headers, where it travels twice.
	maxText = 2 << 10
	// hidden is all that a caller is told of our own faults.
	hidden = "internal error; the service's log says more"
)

// ToStatus returns err as the gRPC status error that a caller may see: its kind, and the text of its outermost
// fault. Of Internal errors only the kind is told. An error without a fault that carries a gRPC status keeps
// that status's code, and a context's end becomes Canceled or DeadlineExceeded.
func ToStatus(err error) error {
	if err == nil {
		return nil
	}
	kind := KindOf(err)
	var f *fault
	switch {
	case errors.As(err, &f):
		return made(table[kind].code, kind, f.text)
	case kind == Internal && status.Code(err) == codes.Unimplemented:
		return made(codes.Unimplemented, kind, "not implemented")
	}
	if s, ok := statusOf(err); ok {
		return made(s.Code(), kind, s.Message())
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return made(codes.DeadlineExceeded, kind, "deadline exceeded")
	case errors.Is(err, context.Canceled):
		return made(codes.Canceled, kind, "canceled")
	}
	return made(table[kind].code, kind, "")
}

func made(code codes.Code, kind Kind, text string) error {
	if kind == Internal && code != codes.Unimplemented {
		code, text = codes.Internal, hidden
	}
	text = strings.ToValidUTF8(text, "�")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + " …"
	}
	s := status.New(code, text)
	with, err := s.WithDetails(&errdetails.ErrorInfo{Reason: kind.String(), Domain: domain})
	if err != nil {
		return s.Err() // without the detail the code still tells the kind
	}
	return with.Err()
}

// remote is an error that came over the wire. It unwraps to the gRPC status error it was made of, so status.Code
// and the status's details stay within reach, and it is the context error that its code stands for.
type remote struct{ error }

func (r remote) Unwrap() error { return r.error }

func (r remote) Is(target error) bool {
	switch status.Code(r.error) {
	case codes.Canceled:
		return target == context.Canceled
	case codes.DeadlineExceeded:
		return target == context.DeadlineExceeded
	default:
		return false
	}
}

// FromStatus is ToStatus's counterpart on the calling side: a gRPC status error becomes a fault of the kind it
// carries, with the text it carries. Errors that are no status, and nil, are returned as they are.
func FromStatus(err error) error {
	if err == nil {
		return nil
	}
	var f *fault
	if errors.As(err, &f) {
		return err
	}
	s, ok := statusOf(err)
	if !ok {
		return err
	}
	text := s.Message()
	if text == "" {
		text = s.Code().String()
	}
	return &fault{kind: kindOfStatus(s), text: text, cause: remote{err}}
}

// statusOf finds a gRPC status in err's chain. Unlike status.FromError it keeps the status's own message.
func statusOf(err error) (*status.Status, bool) {
	var carrier interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &carrier) {
		return nil, false
	}
	s := carrier.GRPCStatus()
	return s, s != nil && s.Code() != codes.OK
}

func kindOfStatus(s *status.Status) Kind {
	for _, detail := range s.Details() {
		info, ok := detail.(*errdetails.ErrorInfo)
		if !ok || info.GetDomain() != domain {
			continue
		}
		for kind, row := range table {
			// The code must agree: a detail cannot turn one kind of answer into another.
			if row.name == info.GetReason() && row.code == s.Code() {
				return Kind(kind)
			}
		}
	}
	switch s.Code() {
	case codes.InvalidArgument, codes.OutOfRange:
		return Invalid
	case codes.NotFound:
		return NotFound
	case codes.AlreadyExists:
		return Exists
	case codes.FailedPrecondition:
		return Refused
	case codes.Unauthenticated:
		return Unauthenticated
	case codes.PermissionDenied:
		return Denied
	case codes.Aborted:
		return Conflict
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return Unavailable
	case codes.ResourceExhausted:
		return TooLarge
	case codes.OK, codes.Unknown, codes.Internal, codes.Unimplemented, codes.DataLoss:
		return Internal
	}
	return Internal
}
