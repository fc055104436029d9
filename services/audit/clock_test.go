package audit_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/bus/bustest"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	auditv1 "github.com/tenurehq/tenure/proto/gen/tenure/audit/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/audit"
)

// growing is an origin that goes on saying things that the stream loses.
type growing struct {
	eventv1.UnimplementedEventLogServer
	mu sync.Mutex
	n  uint64
}

func (g *growing) grow() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n++
}

func (g *growing) Read(req *eventv1.ReadRequest, stream grpc.ServerStreamingServer[eventv1.ReadResponse]) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var events []bus.Event
	for seq := uint64(1); seq <= g.n; seq++ {
		events = append(events, event("ingest", seq))
	}
	return eventLog{events: events}.Read(req, stream)
}

// TestTheEndIsLookedAtAlthoughTheClockWasSetBack.
func TestTheEndIsLookedAtAlthoughTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	off := time.Hour
	now := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return time.Now().Round(0).Add(off)
	}
	origin := &growing{}
	origin.grow()
	conn := local(t, zap.NewNop(), "audit", func(r grpc.ServiceRegistrar) { eventv1.RegisterEventLogServer(r, origin) })
	service, err := audit.New(audit.Config{KeyFile: filepath.Join(t.TempDir(), "audit.key")}, audit.Deps{
		DB: sqltest.New(t, "sqlite", audit.Migrations()...), Bus: bustest.New(t), Log: zap.NewNop(), Registry: prometheus.NewRegistry(), Now: now,
		Origins: map[string]eventv1.EventLogClient{"ingest": eventv1.NewEventLogClient(conn)},
	})
	if err != nil {
		t.Fatal(err)
	}
	service.TailEvery(10 * time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- service.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	w := &world{t: t, service: service, client: auditv1.NewAuditServiceClient(local(t, zap.NewNop(), "ingest", service.Register))}
	eventually(t, "the first one is pulled", func() bool { return w.recorded("ingest") == 1 })
	mu.Lock()
	off = 0
	mu.Unlock()
	origin.grow()
	eventually(t, "the second one is pulled", func() bool { return w.recorded("ingest") == 2 })
}
