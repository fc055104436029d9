package connector

import (
	"context"
	"fmt"
	"path"
	"runtime"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
)

// server speaks the contract for one connector. Watch is left unimplemented, as the contract allows.
type server struct {
	connectorv1.UnimplementedConnectorServer
	impl     Connector
	maxSteps int      // in one call; 0: any number
	key      *sealKey // nil: the connector takes no secrets
	now      func() time.Time
}

// Option changes how a connector is served.
type Option func(*server)

// WithClock says by which clock a call's not_after has passed: the caller's, where it is not the machine's.
func WithClock(now func() time.Time) Option { return func(s *server) { s.now = now } }

// NewServer returns the gRPC service of impl. Panics of impl end the step or call that they happened in and nothing
// else. It fails only when the key for secrets cannot be made.
func NewServer(impl Connector, options ...Option) (connectorv1.ConnectorServer, error) {
	s := &server{impl: impl, maxSteps: impl.Describe().Limits.MaxSteps, now: time.Now}
	for _, set := range options {
		set(s)
	}
	if is[CredentialRotator](impl) {
		key, err := newSealKey()
		if err != nil {
			return nil, fmt.Errorf("make the key for sealed secrets: %w", err)
		}
		s.key = key
	}
	return s, nil
}

// Describe implements connectorv1.ConnectorServer.
func (s *server) Describe(context.Context, *connectorv1.DescribeRequest) (*connectorv1.DescribeResponse, error) {
	return describeProto(s.impl, s.key.public()), nil
}

// Check implements connectorv1.ConnectorServer.
func (s *server) Check(ctx context.Context, _ *connectorv1.CheckRequest) (*connectorv1.CheckResponse, error) {
	var identity Identity
	err := guard(func() (err error) {
		identity, err = s.impl.Check(ctx)
		return err
	})
	if err != nil {
		identity.Problems = append(identity.Problems, problemOf(err, false))
	}
	redact := s.redactor()
	out := &connectorv1.CheckResponse{
		TargetIdentity: identity.Target, Product: redact.text(identity.Product, maxMessage),
		CredentialOwner: redact.text(identity.Owner, maxMessage), CredentialExpiresAt: timeProto(identity.Expires),
	}
	for _, note := range identity.Notes {
		out.Notes = append(out.Notes, redact.text(note, maxMessage))
	}
	for _, p := range identity.Problems {
		out.Problems = append(out.Problems, redact.proto(p))
	}
	return out, nil
}

// Read implements connectorv1.ConnectorServer.
func (s *server) Read(ctx context.Context, req *connectorv1.ReadRequest) (*connectorv1.ReadResponse, error) {
	q, ok := queryOf(req)
	if !ok {
		return nil, status.Error(codes.InvalidArgument, "read by what? one key, not empty")
	}
	found, p := s.read(ctx, q)
	if p != nil {
		return &connectorv1.ReadResponse{Problem: s.redactor().proto(p)}, nil
	}
	out := &connectorv1.ReadResponse{}
	for _, a := range found.Accounts {
		out.Accounts = append(out.Accounts, accountProto(a))
	}
	if found.Entitlement != nil {
		out.Entitlement = entitlementProto(*found.Entitlement)
	}
	return out, nil
}

func (s *server) read(ctx context.Context, q Query) (Found, *Problem) {
	var found Found
	err := guard(func() (err error) {
		found, err = s.impl.Read(ctx, q)
		return err
	})
	if err != nil {
		return Found{}, problemOf(err, false)
	}
	for _, a := range found.Accounts {
		if a.ID == "" {
			return Found{}, Inconsistent("an account without an id was read")
		}
	}
	return found, nil
}

// List implements connectorv1.ConnectorServer. Only a Lister that returned nil gets a complete End; when sending itself
// fails there is no End at all.
func (s *server) List(req *connectorv1.ListRequest, stream grpc.ServerStreamingServer[connectorv1.ListResponse]) error {
	lister, ok := s.impl.(Lister)
	if !ok {
		return status.Error(codes.Unimplemented, "this connector cannot list")
	}
	var broken error
	out := &Listing{send: func(item *connectorv1.ListResponse) error {
		// An author who overlooks one failed send must not get a complete End.
		if broken == nil {
			broken = stream.Send(item)
		}
		return broken
	}}
	err := guard(func() error { return lister.List(stream.Context(), req.GetCursor(), out) })
	switch {
	case broken != nil:
		return broken
	case err != nil:
		return out.end(s.redactor().proto(problemOf(err, false)))
	}
	return out.end(nil)
}

func (s *server) redactor() redactor { return newRedactor(secretsOf(s.impl)) }

func secretsOf(impl Connector) []string {
	if holder, ok := impl.(SecretHolder); ok {
		return holder.Secrets()
	}
	return nil
}

// guard turns a panic of an author's method into an error that says where it was.
func guard(call func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = Unknown("tenure.panic", "the connector panicked%s: %v", panicked(), cause)
		}
	}()
	return call()
}

// panicked names the first frame of the panic that is not the runtime's own.
func panicked() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(0, pcs)])
	inPanic := false
	for {
		frame, more := frames.Next()
		if inPanic && !strings.HasPrefix(frame.Function, "runtime.") {
			return fmt.Sprintf(" at %s:%d", path.Base(frame.File), frame.Line)
		}
		inPanic = inPanic || frame.Function == "runtime.gopanic"
		if !more {
			return ""
		}
	}
}
