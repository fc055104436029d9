package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/fault"
)

const (
	streamName = "TENURE"
	maxAge     = 72 * time.Hour
	// duplicates is how long the stream remembers ids. It makes a retry after a lost acknowledgement cheap; nothing
	// depends on it.
	duplicates = 2 * time.Minute
	// epochKey marks a stream, together with the time of its creation, as the one it is.
	epochKey = "tenure-epoch"
	// watchEvery bounds how long nobody notices that the stream is gone.
	watchEvery = 2 * time.Second
)

func (b *Bus) streamConfig() jetstream.StreamConfig {
	maxBytes := b.cfg.MaxBytes
	if maxBytes == 0 {
		maxBytes = defaultMaxBytes
	}
	return jetstream.StreamConfig{
		Name:        streamName,
		Description: "facts of Tenure; ids, kinds, versions, codes and commitments only",
		Subjects:    []string{Everything},
		Retention:   jetstream.LimitsPolicy,
		MaxAge:      maxAge,
		MaxBytes:    maxBytes,
		MaxMsgSize:  MaxData + (16 << 10), // and the headers
		// What leaves a full stream early is in its origin's database until audit has it, which pulls what it lacks. A stream that
		// took nothing new would keep leavers waiting: docs/adr/0015-a-full-stream-lets-the-oldest-go.md.
		Discard:    jetstream.DiscardOld,
		DenyDelete: true,
		DenyPurge:  true,
		Storage:    jetstream.FileStorage,
		Replicas:   max(b.cfg.Replicas, 1),
		Duplicates: duplicates,
		Metadata:   map[string]string{epochKey: rand.Text()},
	}
}

// ensureStream finds the stream, or makes it, and notes which one it is. Several processes may do so at once: the
// server lets one of them create.
func (b *Bus) ensureStream(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	stream, err := b.js.Stream(ctx, streamName)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = b.js.CreateStream(ctx, b.streamConfig())
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			stream, err = b.js.Stream(ctx, streamName)
		}
	}
	if err != nil {
		return fault.New(kindOf(err), "stream %s: %w", streamName, err)
	}
	info := stream.CachedInfo()
	b.noteEpoch(fmt.Sprintf("%d-%s", info.Created.UnixNano(), info.Config.Metadata[epochKey]))
	return b.adjust(ctx, info.Config)
}

// adjust changes a stream that was made under other settings, if this process may.
func (b *Bus) adjust(ctx context.Context, is jetstream.StreamConfig) error {
	should := b.streamConfig()
	if is.MaxBytes == should.MaxBytes && is.Replicas == should.Replicas && is.Discard == should.Discard {
		return nil
	}
	if !b.cfg.Manage && b.cfg.Server == nil {
		return nil // another process's settings stand
	}
	is.MaxBytes, is.Replicas, is.Discard = should.MaxBytes, should.Replicas, should.Discard
	if _, err := b.js.UpdateStream(ctx, is); err != nil {
		return fault.New(kindOf(err), "change stream %s to %d bytes, %d replicas and %v: %w", streamName, is.MaxBytes, is.Replicas, is.Discard, err)
	}
	b.log.Info("stream changed", zap.Int64("max_bytes", is.MaxBytes), zap.Int("replicas", is.Replicas), zap.Stringer("discard", is.Discard))
	return nil
}

// noteEpoch tells everybody when the stream is another one than before.
func (b *Bus) noteEpoch(epoch string) {
	b.mu.Lock()
	former := b.epoch
	b.epoch = epoch
	if former == epoch || former == "" {
		b.mu.Unlock()
		return
	}
	close(b.renewed)
	b.renewed = make(chan struct{})
	onNew := b.onNew
	b.mu.Unlock()
	b.log.Warn("the stream is a new one", zap.String("epoch", epoch), zap.String("former", former))
	for _, f := range onNew {
		f()
	}
}

// newStream returns a channel that is closed when the stream is no longer the one of now.
func (b *Bus) newStream() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.renewed
}

// lookNow makes the watcher look at the stream without waiting for its next turn.
func (b *Bus) lookNow() {
	select {
	case b.check <- struct{}{}:
	default: // it has been asked already
	}
}

// watchStream looks at the stream every now and then, and when asked, and makes it anew when it has vanished.
func (b *Bus) watchStream(ctx context.Context) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	wasWell := true
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-b.check:
		}
		if !b.conn.IsConnected() {
			continue // told when it is again
		}
		err := b.replaceWiped(ctx)
		if err == nil {
			err = b.ensureStream(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && wasWell: // once, not every two seconds
			b.log.Warn("cannot find or make the stream", zap.Error(err))
		case err == nil && !wasWell:
			b.log.Info("the stream is there again")
		}
		wasWell = err == nil
	}
}

// replaceWiped deletes the stream of an embedded server whose files somebody has removed: the server would go on
// acknowledging what is nowhere. A new stream then brings everything back from the outboxes.
func (b *Bus) replaceWiped(ctx context.Context) error {
	s := b.cfg.Server
	if s == nil || s.holdsStream() {
		return nil
	}
	s.replacing.Lock() // several buses may see it; the second must not delete what the first has made
	defer s.replacing.Unlock()
	if s.holdsStream() {
		return nil
	}
	b.log.Error("the files of the stream are gone", zap.String("directory", s.streamDir))
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	if err := b.js.DeleteStream(ctx, streamName); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("delete the stream whose files are gone: %w", err)
	}
	return b.ensureStream(ctx)
}

// kindOf says whether trying again later can help: JetStream's refusals by content cannot, all else can.
func kindOf(err error) fault.Kind {
	var api *jetstream.APIError
	if errors.As(err, &api) && api.Code == 400 {
		return fault.Invalid
	}
	return fault.Unavailable
}
