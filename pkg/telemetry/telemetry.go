// Package telemetry is what a process shows of itself: a zap log on stderr, Prometheus figures and the probes
// /livez and /readyz on one HTTP listener, and the W3C trace context that travels with every call and event.
//
// Trace contexts are made, carried and logged; spans are not exported yet.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// stopWait is how long scrapes under way may take once the process stops.
	stopWait = 2 * time.Second
	// headerWait bounds clients that connect and say nothing.
	headerWait = 5 * time.Second
)

// Config is the operator's part.
type Config struct {
	Listen string // host:port of /metrics, /livez and /readyz; empty: none. They are unauthenticated: keep it loopback or in the cluster
	Level  string // debug, info, warn or error; empty: info
}

// Telemetry is a process's log and figures. It is made by Start; its methods may be called concurrently.
type Telemetry struct {
	Log      *zap.Logger
	Registry *prometheus.Registry

	listener net.Listener // nil: no HTTP
	checks   checks
}

// Start makes the log and the registry and takes the listener's address, so that a taken port ends the process at
// once; requests are answered from Serve on. service is the name every log line bears.
func Start(ctx context.Context, service string, cfg Config) (*Telemetry, error) {
	log, err := newLog(service, cfg.Level)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	t := &Telemetry{Log: log, Registry: registry}
	t.checks.log = log
	if cfg.Listen != "" {
		var listen net.ListenConfig
		if t.listener, err = listen.Listen(ctx, "tcp", cfg.Listen); err != nil {
			return nil, fmt.Errorf("listen for metrics: %w", err)
		}
	}
	return t, nil
}

// Addr is the address that metrics and probes are served on; nil when they are not.
func (t *Telemetry) Addr() net.Addr {
	if t.listener == nil {
		return nil
	}
	return t.listener.Addr()
}

// Ready adds a named check to /readyz. check must be safe to call at any time and end soon after its context; names
// are shown to whoever asks, the errors only logged.
func (t *Telemetry) Ready(name string, check func(ctx context.Context) error) {
	t.checks.add(name, check)
}

// Serve answers metrics and probes until ctx ends. It is a task for run.All.
func (t *Telemetry) Serve(ctx context.Context) error {
	if t.listener == nil {
		<-ctx.Done()
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(t.Registry, promhttp.HandlerOpts{Registry: t.Registry}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.Handle("GET /readyz", &t.checks)
	server := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: headerWait,
		ErrorLog:          zap.NewStdLog(t.Log.Named("metrics")),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWait)
		defer cancel()
		if server.Shutdown(wait) != nil {
			_ = server.Close()
		}
	})
	err := server.Serve(t.listener)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve metrics: %w", err)
}

// Stop flushes the log and frees the listener if Serve never ran. Defer it first, so that it runs last.
func (t *Telemetry) Stop() {
	_ = t.Log.Sync() // stderr on a terminal or pipe cannot be synced: nothing to tell
	if t.listener != nil {
		_ = t.listener.Close()
	}
}

func newLog(service, level string) (*zap.Logger, error) {
	at := zapcore.InfoLevel
	if level != "" {
		var err error
		if at, err = zapcore.ParseLevel(level); err != nil || at > zapcore.ErrorLevel {
			return nil, fmt.Errorf("log level %q: want debug, info, warn or error", level)
		}
	}
	keys := zap.NewProductionEncoderConfig()
	keys.TimeKey = "time"
	keys.EncodeTime = func(at time.Time, enc zapcore.PrimitiveArrayEncoder) {
		enc.AppendString(at.UTC().Format("2006-01-02T15:04:05.000000Z"))
	}
	keys.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(keys)
	if terminal(os.Stderr) {
		keys.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(keys)
	}
	core := zapcore.NewCore(encoder, zapcore.Lock(os.Stderr), at)
	return zap.New(core, zap.ErrorOutput(zapcore.Lock(os.Stderr))).Named(service), nil
}

func terminal(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
