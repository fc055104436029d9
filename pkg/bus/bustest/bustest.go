// Package bustest gives tests a real bus: an embedded server of their own, in a directory of their own.
package bustest

import (
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/tenurehq/tenure/pkg/bus"
)

// New returns a bus on a server of its own; both end with the test.
func New(tb testing.TB) *bus.Bus {
	tb.Helper()
	return Connect(tb, NewServer(tb))
}

// NewServer starts a server that only this process reaches; it ends with the test.
func NewServer(tb testing.TB) *bus.Server {
	tb.Helper()
	return Start(tb, bus.ServerConfig{StoreDir: tb.TempDir()})
}

// Start starts a server that ends with the test.
func Start(tb testing.TB, cfg bus.ServerConfig) *bus.Server {
	tb.Helper()
	server, err := bus.StartServer(cfg)
	if err != nil {
		tb.Fatalf("start embedded nats: %v", err)
	}
	tb.Cleanup(server.Close)
	return server
}

// Connect returns one more bus on server; it ends with the test.
func Connect(tb testing.TB, server *bus.Server) *bus.Bus {
	tb.Helper()
	return ConnectWith(tb, bus.Config{Service: "test", Server: server})
}

// ConnectWith returns a bus of any configuration; it ends with the test.
func ConnectWith(tb testing.TB, cfg bus.Config) *bus.Bus {
	tb.Helper()
	b, err := bus.Connect(tb.Context(), cfg, zaptest.NewLogger(tb, zaptest.Level(zap.WarnLevel)))
	if err != nil {
		tb.Fatalf("connect to nats: %v", err)
	}
	tb.Cleanup(b.Close)
	return b
}
