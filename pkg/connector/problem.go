package connector

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
)

// Problem is an error that says what is known and what can be done about it. Make one with the functions below.
type Problem struct {
	Code       connectorv1.Code
	Reason     string // stable token of the application, e.g. "ldap.65", "sqlstate.2BP01"
	Message    string // for operators; secrets are redacted and the length is limited on the way out
	RetryAfter time.Duration
	Scope      connectorv1.Scope
	Fields     []string // attributes that are wrong
	Existing   AccountID
}

// Error implements error.
func (p *Problem) Error() string {
	code := strings.ToLower(strings.TrimPrefix(p.Code.String(), "CODE_"))
	if p.Message == "" {
		return strings.TrimSuffix(code+": "+p.Reason, ": ")
	}
	return code + ": " + p.Message
}

// Instance marks a problem of the whole application, such as a dead credential: the worker stops calling it and raises
// one alert instead of failing person by person. It changes p and returns it.
func (p *Problem) Instance() *Problem {
	p.Scope = connectorv1.Scope_SCOPE_INSTANCE
	return p
}

func problem(code connectorv1.Code, reason, format string, args []any) *Problem {
	return &Problem{Code: code, Reason: reason, Message: fmt.Sprintf(format, args...), Scope: connectorv1.Scope_SCOPE_STEP}
}

// Unknown says that the change may or may not have happened: a time-out after sending, a lost reply, a 500.
func Unknown(reason, format string, args ...any) *Problem {
	return problem(connectorv1.Code_CODE_OUTCOME_UNKNOWN, reason, format, args)
}

// RateLimited says that the application wants fewer calls, and did not do this one. after 0: it does not say when.
func RateLimited(after time.Duration, reason, format string, args ...any) *Problem {
	p := problem(connectorv1.Code_CODE_RATE_LIMITED, reason, format, args)
	p.RetryAfter = after
	return p.Instance()
}

// Unavailable says that the application could not be reached and that the request was certainly not carried out. Where
// that is not certain, it is Unknown.
func Unavailable(reason, format string, args ...any) *Problem {
	return problem(connectorv1.Code_CODE_TARGET_UNAVAILABLE, reason, format, args).Instance()
}

// Conflict says that somebody else was faster: read again and plan again.
func Conflict(reason, format string, args ...any) *Problem {
	return problem(connectorv1.Code_CODE_CONFLICT, reason, format, args)
}

// AlreadyExists says that another account, not ours, has what must be unique. existing may be empty.
func AlreadyExists(existing AccountID, reason, format string, args ...any) *Problem {
	p := problem(connectorv1.Code_CODE_ALREADY_EXISTS, reason, format, args)
	p.Existing = existing
	p.Scope = connectorv1.Scope_SCOPE_ACCOUNT
	return p
}

// The reasons of the two things that a step can miss, and of steps that were not attempted.
const (
	ReasonNoAccount     = "tenure.no_account"
	ReasonNoEntitlement = "tenure.no_entitlement"
	ReasonNotAfter      = "tenure.not_after"    // its time had passed
	ReasonEarlierStep   = "tenure.earlier_step" // one before it was not done
)

// NoAccount says that there is no account with this id.
func NoAccount(id AccountID) *Problem {
	p := problem(connectorv1.Code_CODE_NOT_FOUND, ReasonNoAccount, "no account has the id %q", []any{string(id)})
	p.Scope = connectorv1.Scope_SCOPE_ACCOUNT
	return p
}

// NoEntitlement says that the application has no such entitlement. Tenure never creates one.
func NoEntitlement(id string) *Problem {
	return problem(connectorv1.Code_CODE_NOT_FOUND, ReasonNoEntitlement, "there is no entitlement %q: create it in the application", []any{id})
}

// NotFound says that something else is missing.
func NotFound(reason, format string, args ...any) *Problem {
	return problem(connectorv1.Code_CODE_NOT_FOUND, reason, format, args)
}

// Precondition says that the state of things forbids it until a person changes that: it owns objects, is the last
// owner, no licence is left.
func Precondition(reason, format string, args ...any) *Problem {
	return problem(connectorv1.Code_CODE_PRECONDITION, reason, format, args)
}

// Invalid says that the content is wrong and that the same again cannot help. fields are the attributes at fault.
func Invalid(fields []string, reason, format string, args ...any) *Problem {
	p := problem(connectorv1.Code_CODE_INVALID, reason, format, args)
	p.Fields = fields
	return p
}

// Denied says that our credential may not do this, or that the connector refuses to.
func Denied(reason, format string, args ...any) *Problem {
	return problem(connectorv1.Code_CODE_DENIED, reason, format, args)
}

// Auth says that the application does not accept our credential.
func Auth(reason, format string, args ...any) *Problem {
	return problem(connectorv1.Code_CODE_AUTH, reason, format, args).Instance()
}

// Unsupported says that the application cannot do this at all.
func Unsupported(reason, format string, args ...any) *Problem {
	return problem(connectorv1.Code_CODE_UNSUPPORTED, reason, format, args)
}

// CursorExpired says that a listing must start again from the beginning.
func CursorExpired(format string, args ...any) *Problem {
	return problem(connectorv1.Code_CODE_CURSOR_EXPIRED, "", format, args)
}

// Inconsistent says that the application contradicts itself, so that the whole listing must be thrown away.
func Inconsistent(format string, args ...any) *Problem {
	return problem(connectorv1.Code_CODE_INCONSISTENT, "", format, args)
}

// pending is the error of Pending.
type pending struct{ token string }

func (p *pending) Error() string { return "pending: " + p.token }

// Pending says that the application accepted the step and is not done with it. The worker asks again with token, which
// reaches the connector's [Poller].
func Pending(token string) error { return &pending{token: token} }

// FromStatus reads a failed call of a connector, in any language, as a Problem; nil for nil. For Apply, codes TARGET_UNAVAILABLE
// and OUTCOME_UNKNOWN both mean that nobody knows what happened: a caller cannot tell "never sent" from "reply lost".
func FromStatus(err error) *Problem {
	if err == nil {
		return nil
	}
	if p := (*Problem)(nil); errors.As(err, &p) {
		return p
	}
	st, ok := status.FromError(err)
	if !ok {
		st = status.FromContextError(err)
	}
	p := &Problem{Reason: "grpc." + st.Code().String(), Message: st.Message(), Scope: connectorv1.Scope_SCOPE_STEP}
	switch st.Code() {
	case codes.ResourceExhausted:
		// Without RetryInfo it is gRPC's own: a message over the size limit, which no delay makes smaller.
		p.Code = connectorv1.Code_CODE_PRECONDITION
		for _, detail := range st.Details() {
			if info, is := detail.(*errdetails.RetryInfo); is {
				p.Code = connectorv1.Code_CODE_RATE_LIMITED
				p.RetryAfter = info.GetRetryDelay().AsDuration()
				p.Scope = connectorv1.Scope_SCOPE_INSTANCE
			}
		}
	case codes.Unavailable:
		p.Code = connectorv1.Code_CODE_TARGET_UNAVAILABLE
		p.Scope = connectorv1.Scope_SCOPE_INSTANCE
	case codes.Aborted:
		p.Code = connectorv1.Code_CODE_CONFLICT
	case codes.AlreadyExists:
		p.Code = connectorv1.Code_CODE_ALREADY_EXISTS
	case codes.NotFound:
		p.Code = connectorv1.Code_CODE_NOT_FOUND
	case codes.FailedPrecondition:
		p.Code = connectorv1.Code_CODE_PRECONDITION
	case codes.InvalidArgument, codes.OutOfRange:
		p.Code = connectorv1.Code_CODE_INVALID
	case codes.PermissionDenied:
		p.Code = connectorv1.Code_CODE_DENIED
	case codes.Unauthenticated:
		p.Code = connectorv1.Code_CODE_AUTH
		p.Scope = connectorv1.Scope_SCOPE_INSTANCE
	case codes.Unimplemented:
		p.Code = connectorv1.Code_CODE_UNSUPPORTED
	case codes.DataLoss:
		p.Code = connectorv1.Code_CODE_INCONSISTENT
	case codes.OK, codes.Canceled, codes.Unknown, codes.DeadlineExceeded, codes.Internal:
		p.Code = connectorv1.Code_CODE_OUTCOME_UNKNOWN
	default:
		p.Code = connectorv1.Code_CODE_OUTCOME_UNKNOWN
	}
	return p
}

// problemOf is what err, which a connector's method returned, says. Only a Problem of the author's own is certain that a
// change did not happen: a status or an error of the context that came through from elsewhere is not.
func problemOf(err error, mutating bool) *Problem {
	if p := (*Problem)(nil); errors.As(err, &p) {
		return p
	}
	p := &Problem{Code: connectorv1.Code_CODE_OUTCOME_UNKNOWN, Message: err.Error(), Scope: connectorv1.Scope_SCOPE_STEP}
	isContext := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
	if _, ok := status.FromError(err); ok {
		p = FromStatus(err)
	}
	switch {
	case mutating && p.Code == connectorv1.Code_CODE_TARGET_UNAVAILABLE, mutating && p.Code == connectorv1.Code_CODE_INCONSISTENT:
		p.Code = connectorv1.Code_CODE_OUTCOME_UNKNOWN
	case !mutating && isContext:
		p.Code = connectorv1.Code_CODE_TARGET_UNAVAILABLE
	}
	return p
}
