package rpc

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/telemetry"
)

// unaryLimit bounds a unary call whose caller set no deadline.
const unaryLimit = 2 * time.Minute

var errStopping = fault.New(fault.Unavailable, "the service is stopping")

// gate is what every call passes on its way in and out: who calls and may they, the trace and the log, and on the way
// back panics and errors made into what a caller may see.
type gate struct {
	auth authenticator
	log  *zap.Logger
	stop context.Context //nolint:containedctx // the server's own end, which ends streams that would last for ever
}

func (g *gate) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (resp any, err error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, unaryLimit)
		defer cancel()
	}
	err = g.pass(ctx, info.FullMethod, func(ctx context.Context) error {
		resp, err = handle(ctx, req)
		return err
	})
	return resp, err
}

func (g *gate) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	defer context.AfterFunc(g.stop, func() { cancel(errStopping) })()
	return g.pass(ctx, info.FullMethod, func(ctx context.Context) error {
		err := handle(srv, &serverStream{stream, ctx})
		if err != nil && errors.Is(context.Cause(ctx), errStopping) {
			return errStopping
		}
		return err
	})
}

// serverStream is a stream with the context that the gate made.
type serverStream struct {
	grpc.ServerStream

	ctx context.Context //nolint:containedctx // this is what Context returns
}

func (s *serverStream) Context() context.Context { return s.ctx }

// pass handles one call by do and returns the error that the caller sees.
func (g *gate) pass(ctx context.Context, method string, do func(ctx context.Context) error) error {
	var parent string
	if md, _ := metadata.FromIncomingContext(ctx); len(md.Get(telemetry.HeaderTraceParent)) == 1 {
		parent = md.Get(telemetry.HeaderTraceParent)[0]
	}
	ctx = telemetry.Span(telemetry.WithTraceParent(ctx, parent))
	log := g.log.WithLazy(zap.String(telemetry.FieldMethod, method), zap.String(telemetry.FieldTrace, telemetry.TraceID(ctx)))

	caller, err := g.auth.identify(ctx)
	if err == nil {
		log = log.WithLazy(zap.String(telemetry.FieldCaller, caller.Actor()))
		err = authorise(caller, method)
	}
	if err == nil {
		err = guarded(telemetry.WithLog(WithCaller(ctx, caller), log), do)
	}
	if err == nil {
		return nil
	}
	var sent verbatim
	if errors.As(err, &sent) {
		return sent.error // its service has logged it
	}
	note(log, err)
	return fault.ToStatus(err)
}

// verbatim is a status error of another service, passed on as it is.
type verbatim struct{ error }

func (v verbatim) Unwrap() error { return v.error }

// errPanic is a handler's panic, with its stack.
type errPanic struct {
	value any
	stack []byte
}

func (errPanic) Error() string { return "panic" }

func guarded(ctx context.Context, do func(ctx context.Context) error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = errPanic{value, debug.Stack()}
		}
	}()
	return do(ctx)
}

// note logs a failed call, once. The texts of what callers did wrong may name people, so only their kind is logged.
func note(log *zap.Logger, err error) {
	var panicked errPanic
	if errors.As(err, &panicked) {
		log.Error("call panicked", zap.Any("panic", panicked.value), zap.ByteString("stack", panicked.stack))
		return
	}
	kind := zap.Stringer(telemetry.FieldKind, fault.KindOf(err))
	switch fault.KindOf(err) {
	case fault.Internal:
		log.Error("call failed", kind, zap.Error(err))
	case fault.Unavailable:
		if !errors.Is(err, context.Canceled) && !errors.Is(err, errStopping) { // the caller's own wish, and ours
			log.Warn("call failed", kind, zap.Error(err))
		}
	case fault.Unauthenticated, fault.Denied:
		log.Warn("call refused", kind)
	case fault.Usage, fault.Invalid, fault.NotFound, fault.Exists, fault.Refused, fault.Conflict, fault.TooLarge:
		log.Debug("call refused", kind)
	}
}
