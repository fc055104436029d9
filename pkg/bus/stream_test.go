package bus_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/bus/bustest"
	"github.com/tenurehq/tenure/pkg/fault"
)

func TestAnEventPublishedTwiceIsStoredOnce(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	events := intents(20)
	publish(t, b, events...)
	publish(t, b, events...)
	marker := intent(21)
	publish(t, b, marker)
	handle, got := collect()
	consume(t, b, bus.ConsumerConfig{Name: "once"}, handle)
	for range events {
		receive(t, got, "an event")
	}
	if e := receive(t, got, "the marker"); e.ID != marker.ID {
		t.Errorf("seq %d was stored twice", e.Seq)
	}
}

func TestAStreamDeletedUnderALiveServerIsMadeAnew(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t, bus.ServerConfig{StoreDir: t.TempDir()})
	b := bustest.Connect(t, server)
	renewed := make(chan string, 10)
	b.OnNewStream(func() { renewed <- b.Epoch() })
	handle, got := collect()
	consume(t, b, bus.ConsumerConfig{Name: "survivor"}, handle)
	publish(t, b, intent(1))
	receive(t, got, "the event before")
	former := b.Epoch()

	deleteStream(t, b)
	if epoch := receive(t, renewed, "the news of a new stream"); epoch == former {
		t.Error("the new stream has the old one's epoch")
	}
	publish(t, b, intent(1), intent(2))
	for range 2 {
		receive(t, got, "an event of the new stream")
	}
}

func TestFilesRemovedUnderALiveServerMakeANewStream(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := bustest.Start(t, bus.ServerConfig{StoreDir: dir})
	a, b := bustest.Connect(t, server), bustest.Connect(t, server)
	renewed := make(chan string, 10)
	a.OnNewStream(func() { renewed <- "a" })
	b.OnNewStream(func() { renewed <- "b" })
	handle, got := collect()
	consume(t, a, bus.ConsumerConfig{Name: "survivor"}, handle)
	publish(t, a, intent(1))
	receive(t, got, "the event before")
	if err := os.RemoveAll(filepath.Join(dir, "jetstream")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		receive(t, renewed, "the news of a new stream")
	}
	publish(t, b, intent(1), intent(2))
	for range 2 {
		receive(t, got, "an event of the new stream")
	}
	if a.Epoch() != b.Epoch() {
		t.Error("two buses on one stream disagree about which it is")
	}
}

func TestADurableDeletedUnderALiveServerIsMadeAnew(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	handle, got := collect()
	consume(t, b, bus.ConsumerConfig{Name: "durable"}, handle)
	publish(t, b, intent(1))
	receive(t, got, "the event before")
	if err := bus.JetStream(b).DeleteConsumer(t.Context(), "TENURE", "durable"); err != nil {
		t.Fatal(err)
	}
	receive(t, got, "the same event again, from the new durable")
	publish(t, b, intent(2))
	for receive(t, got, "the event after").Seq != 2 {
	}
}

func TestAStoreDeletedBetweenTwoRunsIsANewStream(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run := func(wipe bool) (epoch string) {
		server, err := bus.StartServer(bus.ServerConfig{StoreDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		b, err := bus.Connect(t.Context(), bus.Config{Server: server}, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		publish(t, b, intent(1))
		if wipe { // under the live server, which goes on acknowledging
			if err := os.RemoveAll(filepath.Join(dir, "jetstream")); err != nil {
				t.Fatal(err)
			}
		}
		return b.Epoch()
	}
	first, second, third := run(false), run(true), run(false)
	if first != second {
		t.Errorf("a restart changed the epoch from %s to %s", first, second)
	}
	if second == third {
		t.Error("a wiped store kept its epoch: nobody would publish again")
	}
}

func TestABusFollowsAServerThatRestartsWithoutItsStore(t *testing.T) {
	t.Parallel()
	dir, address := t.TempDir(), freeAddress(t)
	cfg := bus.ServerConfig{StoreDir: dir, Listen: address, Users: []bus.User{user("provision")}}
	server, err := bus.StartServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b := bustest.ConnectWith(t, remote("provision", address))
	renewed := make(chan struct{}, 10)
	b.OnNewStream(func() { renewed <- struct{}{} })
	handle, got := collect()
	consume(t, b, bus.ConsumerConfig{Name: "follower"}, handle)
	publish(t, b, intent(1))
	receive(t, got, "the event before")

	server.Close()
	if err := b.PublishChunk(t.Context(), []bus.Event{intent(2)}); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("publishing without a server says %v, want unavailable", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	bustest.Start(t, cfg)
	receive(t, renewed, "the news of a new stream")
	publish(t, b, intent(1), intent(2))
	for range 2 {
		receive(t, got, "an event of the new stream")
	}
}

func TestTheStreamKeepsWhatItHolds(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	publish(t, b, intent(1))
	stream, err := bus.JetStream(b).Stream(t.Context(), "TENURE")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(t.Context(), 1); err == nil {
		t.Error("a message was deleted")
	}
	if err := stream.Purge(t.Context()); err == nil {
		t.Error("the stream was purged")
	}
	got := stream.CachedInfo().Config
	if got.Retention != jetstream.LimitsPolicy || got.Discard != jetstream.DiscardOld || got.MaxAge != 72*time.Hour || got.Storage != jetstream.FileStorage || got.MaxBytes != 1<<30 {
		t.Errorf("the stream is %+v", got)
	}
}

func deleteStream(t *testing.T, b *bus.Bus) {
	t.Helper()
	if err := bus.JetStream(b).DeleteStream(t.Context(), "TENURE"); err != nil {
		t.Fatal(err)
	}
}
