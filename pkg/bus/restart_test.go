package bus_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/bus/bustest"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

// The server would never write again after one write that failed.
func TestAServerThatCannotWriteIsStartedAnew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := bustest.ConnectWith(t, bus.Config{Service: "test", Server: bustest.Start(t, bus.ServerConfig{StoreDir: dir})})
	handle, got := collect()
	consume(t, b, bus.ConsumerConfig{Name: "reader"}, handle)
	publish(t, b, intent(1))
	receive(t, got, "the event before")

	next := filepath.Join(dir, "jetstream", "$G", "streams", "TENURE", "msgs", "2.blk") // where the stream goes on when its first file is full
	if err := os.Mkdir(next, 0o700); err != nil {
		t.Fatal(err)
	}
	for seq := uint64(10); ; seq++ {
		big := intent(seq)
		big.Data = bus.NewEvent(big.Subject, &eventv1.Intent{OperationId: strings.Repeat("x", bus.MaxData/2)}, bus.Cause{}).Data
		if err := b.PublishChunk(t.Context(), []bus.Event{big}); err != nil {
			break
		}
		receive(t, got, "an event that was accepted")
	}
	if err := os.Remove(next); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for b.PublishChunk(ctx, []bus.Event{intent(2)}) != nil {
		if ctx.Err() != nil {
			t.Fatal("nothing can be published any more")
		}
	}
	for receive(t, got, "the event after").Seq != 2 {
	}
}
