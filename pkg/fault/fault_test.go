package fault_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tenurehq/tenure/pkg/fault"
)

var kinds = []struct {
	kind fault.Kind
	name string
	code codes.Code
	exit int
}{
	{fault.Internal, "internal", codes.Internal, 1},
	{fault.Usage, "usage", codes.InvalidArgument, 2},
	{fault.Invalid, "invalid", codes.InvalidArgument, 1},
	{fault.NotFound, "not-found", codes.NotFound, 3},
	{fault.Exists, "exists", codes.AlreadyExists, 1},
	{fault.Refused, "refused", codes.FailedPrecondition, 4},
	{fault.Unauthenticated, "unauthenticated", codes.Unauthenticated, 4},
	{fault.Denied, "denied", codes.PermissionDenied, 4},
	{fault.Conflict, "conflict", codes.Aborted, 1},
	{fault.Unavailable, "unavailable", codes.Unavailable, 1},
	{fault.TooLarge, "too-large", codes.ResourceExhausted, 1},
}

func TestEveryKindSurvivesTheWire(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			if got := k.kind.String(); got != k.name {
				t.Errorf("name of the kind: got %q, want %q", got, k.name)
			}
			sent := fault.ToStatus(fmt.Errorf("step inside the service: %w", fault.New(k.kind, "no person %q", "ann")))
			if got := status.Code(sent); got != k.code {
				t.Errorf("code on the wire: got %s, want %s", got, k.code)
			}
			// What the other process gets is the status's proto, nothing else.
			got := fault.FromStatus(status.FromProto(status.Convert(sent).Proto()).Err())
			if kind := fault.KindOf(fmt.Errorf("call: %w", got)); kind != k.kind {
				t.Errorf("kind after the wire: got %s, want %s", kind, k.kind)
			}
			if exit := fault.ExitCode(got); exit != k.exit {
				t.Errorf("exit code: got %d, want %d", exit, k.exit)
			}
			want := `no person "ann"`
			if k.kind == fault.Internal {
				want = "internal error; the service's log says more"
			}
			if got.Error() != want {
				t.Errorf("text after the wire: got %q, want %q", got, want)
			}
		})
	}
}

func TestInternalDetailIsNeverSent(t *testing.T) {
	t.Parallel()
	const canary = "password=hunter2"
	for name, err := range map[string]error{
		"an error without a kind":         errors.New(canary),
		"an Internal fault":               fault.New(fault.Internal, "%s", canary),
		"a remote Internal error":         fault.FromStatus(status.Error(codes.Internal, canary)),
		"a raw Unknown status":            status.Error(codes.Unknown, canary),
		"a raw DataLoss status":           status.Error(codes.DataLoss, canary),
		"what wraps a fault":              fmt.Errorf("%s: %w", canary, fault.New(fault.NotFound, "no such thing")),
		"what wraps the end of a context": fmt.Errorf("%s: %w", canary, context.DeadlineExceeded),
		"what wraps a status":             fmt.Errorf("%s: %w", canary, status.Error(codes.NotFound, "no such thing")),
		"an unimplemented method":         fmt.Errorf("%s: %w", canary, status.Error(codes.Unimplemented, canary)),
	} {
		sent := status.Convert(fault.ToStatus(err)).Proto().String()
		if strings.Contains(sent, canary) {
			t.Errorf("%s crossed the wire: %s", name, sent)
		}
	}
}

func TestContextEndsKeepTheirMeaningAcrossTheWire(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		code codes.Code
	}{
		{context.Canceled, codes.Canceled},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
	} {
		sent := fault.ToStatus(fmt.Errorf("query: %w", c.err))
		if got := status.Code(sent); got != c.code {
			t.Errorf("%v: code %s, want %s", c.err, got, c.code)
		}
		got := fault.FromStatus(sent)
		if !errors.Is(got, c.err) {
			t.Errorf("%v is not recognised after the wire", c.err)
		}
		if kind := fault.KindOf(got); kind != fault.Unavailable {
			t.Errorf("%v: kind %s, want unavailable", c.err, kind)
		}
		if kind := fault.KindOf(c.err); kind != fault.Unavailable {
			t.Errorf("%v before the wire: kind %s, want unavailable", c.err, kind)
		}
	}
}

func TestForeignStatusesGetAKind(t *testing.T) {
	t.Parallel()
	for code, want := range map[codes.Code]fault.Kind{
		codes.Unknown: fault.Internal, codes.Internal: fault.Internal, codes.DataLoss: fault.Internal,
		codes.Unimplemented: fault.Internal, codes.InvalidArgument: fault.Invalid, codes.OutOfRange: fault.Invalid,
		codes.NotFound: fault.NotFound, codes.AlreadyExists: fault.Exists, codes.FailedPrecondition: fault.Refused,
		codes.Unauthenticated: fault.Unauthenticated, codes.PermissionDenied: fault.Denied, codes.Aborted: fault.Conflict,
		codes.Unavailable: fault.Unavailable, codes.ResourceExhausted: fault.TooLarge,
		codes.Canceled: fault.Unavailable, codes.DeadlineExceeded: fault.Unavailable,
	} {
		raw := status.Error(code, "words")
		if got := fault.KindOf(raw); got != want {
			t.Errorf("%s: kind %s, want %s", code, got, want)
		}
		got := fault.FromStatus(raw)
		if fault.KindOf(got) != want || got.Error() != "words" {
			t.Errorf("%s came in as %s %q, want %s %q", code, fault.KindOf(got), got, want, "words")
		}
		if status.Code(got) != code {
			t.Errorf("%s: the code is out of reach after FromStatus: %s", code, status.Code(got))
		}
	}
}

func TestForeignDetailsDoNotSetTheKind(t *testing.T) {
	t.Parallel()
	for name, info := range map[string]*errdetails.ErrorInfo{
		"another domain's reason":        {Domain: "example.com", Reason: "usage"},
		"a reason that belies the code":  {Domain: "tenure", Reason: "not-found"},
		"a reason that does not exist":   {Domain: "tenure", Reason: "sunshine"},
		"our domain without any reasons": {Domain: "tenure"},
	} {
		s, err := status.New(codes.InvalidArgument, "words").WithDetails(info)
		if err != nil {
			t.Fatal(err)
		}
		if got := fault.KindOf(s.Err()); got != fault.Invalid {
			t.Errorf("%s: kind %s, want invalid, as the code says", name, got)
		}
	}
}

func TestDetailsOfAForeignStatusStayWithinReach(t *testing.T) {
	t.Parallel()
	s, err := status.New(codes.ResourceExhausted, "slow down").WithDetails(&errdetails.RetryInfo{})
	if err != nil {
		t.Fatal(err)
	}
	if got := len(status.Convert(fault.FromStatus(s.Err())).Details()); got != 1 {
		t.Errorf("details after FromStatus: %d, want the one that was sent", got)
	}
}

func TestUnimplementedIsToldAsSuch(t *testing.T) {
	t.Parallel()
	if got := status.Code(fault.ToStatus(status.Error(codes.Unimplemented, "method Watch not implemented"))); got != codes.Unimplemented {
		t.Errorf("code: %s; a caller could not tell an optional method that is missing", got)
	}
}

func TestOutermostFaultDecides(t *testing.T) {
	t.Parallel()
	inner := fault.New(fault.NotFound, "no row")
	outer := fault.Wrap(fault.Conflict, fmt.Errorf("claim: %w", inner))
	if got := fault.KindOf(outer); got != fault.Conflict {
		t.Errorf("kind %s, want conflict", got)
	}
	if !errors.Is(outer, inner) {
		t.Error("errors.Is does not reach the cause")
	}
	sentinel := errors.New("sentinel")
	if !errors.Is(fault.New(fault.Invalid, "bad: %w", sentinel), sentinel) {
		t.Error("errors.Is does not reach a %w operand of New")
	}
}

func TestNothingIsNoFault(t *testing.T) {
	t.Parallel()
	if err := errors.Join(fault.ToStatus(nil), fault.FromStatus(nil), fault.Wrap(fault.Invalid, nil)); err != nil {
		t.Errorf("nil became %v", err)
	}
	if fault.ExitCode(nil) != 0 {
		t.Error("nil does not exit 0")
	}
	if err := fault.FromStatus(io.EOF); err != io.EOF { //nolint:errorlint // it must be io.EOF itself: stream readers compare
		t.Errorf("the end of a stream became %v", err)
	}
}

func TestTextFitsTheWire(t *testing.T) {
	t.Parallel()
	sent := status.Convert(fault.ToStatus(fault.New(fault.Invalid, "%s\xff\xfe", strings.Repeat("ü", 10_000))))
	if size := len(sent.Message()); size > 3000 {
		t.Errorf("a message of %d bytes does not fit the headers of a reply", size)
	}
	if !strings.HasPrefix(sent.Message(), "üüü") || strings.ToValidUTF8(sent.Message(), "") != sent.Message() {
		t.Errorf("the text is not readable UTF-8: %.20q", sent.Message())
	}
	if fault.KindOf(sent.Err()) != fault.Invalid {
		t.Error("kind lost")
	}
}
