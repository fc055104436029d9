package telemetry

import (
	"context"
	"crypto/rand"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

// Names of log fields. The same thing has the same name in every service.
const (
	FieldApplication = "application"
	FieldCaller      = "caller" // "operator:ada", "service:policy"
	FieldConsumer    = "consumer"
	FieldCorrelation = "correlation"
	FieldDelivery    = "delivery"
	FieldEvent       = "event" // an event's id
	FieldGeneration  = "generation"
	FieldKind        = "kind"
	FieldLane        = "lane"
	FieldMethod      = "method" // a gRPC method's full name
	FieldOperation   = "operation"
	FieldOrigin      = "origin"
	FieldPeer        = "peer"
	FieldPerson      = "person" // a person's id, never a name
	FieldSeq         = "seq"
	FieldSource      = "source"
	FieldSubject     = "subject"
	FieldTrace       = "trace_id"
)

// HeaderTraceParent is the name under which a trace context travels, in gRPC metadata and event headers.
const HeaderTraceParent = "traceparent"

type logKey struct{}

// WithLog returns a context whose Log is log. It is set in two places only: where calls and where events come in.
func WithLog(ctx context.Context, log *zap.Logger) context.Context {
	return context.WithValue(ctx, logKey{}, log)
}

// Log returns the context's logger, which bears what is known about the call or event being handled. A context
// without one logs nothing.
func Log(ctx context.Context) *zap.Logger {
	if log, ok := ctx.Value(logKey{}).(*zap.Logger); ok {
		return log
	}
	return zap.NewNop()
}

// With returns a context whose Log also bears fields.
func With(ctx context.Context, fields ...zap.Field) context.Context {
	return WithLog(ctx, Log(ctx).With(fields...))
}

// TraceParent returns the context's trace context in W3C form, for the wire; empty when it has none.
func TraceParent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[HeaderTraceParent]
}

// WithTraceParent returns a context that continues the trace of a W3C traceparent. One that is malformed or empty
// is ignored: it comes from outside and must not stop anything.
func WithTraceParent(ctx context.Context, traceParent string) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{HeaderTraceParent: traceParent})
}

// TraceID returns the context's trace id, 32 hex digits; empty when it has none.
func TraceID(ctx context.Context) string {
	span := trace.SpanContextFromContext(ctx)
	if !span.HasTraceID() {
		return ""
	}
	return span.TraceID().String()
}

// Span returns a context with a span of its own: a child in the context's trace, or the first of a new trace when
// it has none. Call it where work begins that leaves the process.
func Span(ctx context.Context) context.Context {
	parent := trace.SpanContextFromContext(ctx)
	cfg := trace.SpanContextConfig{TraceID: parent.TraceID(), TraceFlags: parent.TraceFlags(), TraceState: parent.TraceState()}
	if !parent.IsValid() {
		_, _ = rand.Read(cfg.TraceID[:]) // never fails
		cfg.TraceFlags = trace.FlagsSampled
	}
	_, _ = rand.Read(cfg.SpanID[:])
	return trace.ContextWithSpanContext(ctx, trace.NewSpanContext(cfg))
}
