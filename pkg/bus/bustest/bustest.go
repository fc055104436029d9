// Package bustest gives tests a real bus: an embedded server of their own, in a directory of their own.
package bustest

import (
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/tenurehq/tenure/pkg/bus"
)

// New returns a bus on a server of its own; both end with the test.
func New(t testing.TB) *bus.Bus {
	t.Helper()
	return Connect(t, NewServer(t))
}

// NewServer starts a server that only this process reaches; it ends with the test.
func NewServer(t testing.TB) *bus.Server {
	t.Helper()
	return Start(t, bus.ServerConfig{StoreDir: t.TempDir()})
}

// Start starts a server that ends with the test.
func Start(t testing.TB, cfg bus.ServerConfig) *bus.Server {
	t.Helper()
	server, err := bus.StartServer(cfg)
	if err != nil {
		t.Fatalf("start embedded nats: %v", err)
	}
	t.Cleanup(server.Close)
	return server
}

// Connect returns one more bus on server; it ends with the test.
func Connect(t testing.TB, server *bus.Server) *bus.Bus {
	t.Helper()
	return ConnectWith(t, bus.Config{Service: "test", Server: server})
}

// ConnectWith returns a bus of any configuration; it ends with the test.
func ConnectWith(t testing.TB, cfg bus.Config) *bus.Bus {
	t.Helper()
	b, err := bus.Connect(t.Context(), cfg, zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)))
	if err != nil {
		t.Fatalf("connect to nats: %v", err)
	}
	t.Cleanup(b.Close)
	return b
}
