package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/mod/sumdb/tlog"
	"google.golang.org/protobuf/proto"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/telemetry"
	"github.com/tenurehq/tenure/services/audit/internal/store"
	"github.com/tenurehq/tenure/services/audit/merkle"
)

// undecodable is the type of a leaf that stands for an event which could not be read: its data is the SHA-256 of what
// arrived, so that nothing which was never checked to be free of personal values is kept for ever.
const undecodable = "undecodable"

// sequencer appends events to the log. It is the log's only writer while it holds the lease, and should the lease
// ever fail, moving the head fails too and it loads the head again. Not for concurrent use.
type sequencer struct {
	store *store.Store
	now   func() time.Time
	log   *zap.Logger

	head     store.Head
	frontier map[int64]tlog.Hash
	origins  map[string]*store.Progress
}

// load reads where the log stands: the head first. Should somebody append before the origins are read, these are ahead of
// the head: what they say is recorded is so, and the next append fails, because the head has moved. The other way round it
// would succeed, and record what was recorded in between once more: nothing else keeps origin and seq apart.
func (s *sequencer) load(ctx context.Context) error {
	head, err := s.store.Head(ctx)
	if err != nil {
		return err
	}
	indexes := merkle.Frontier(head.Size)
	hashes, err := s.store.Hashes(ctx).ReadHashes(indexes)
	if err != nil {
		return err
	}
	frontier := make(map[int64]tlog.Hash, len(indexes))
	for i, index := range indexes {
		frontier[index] = hashes[i]
	}
	root, err := tlog.TreeHash(head.Size, known(frontier))
	if err != nil {
		return err
	}
	if root != head.Root {
		return fmt.Errorf("the stored hashes of the log's %d leaves do not lead to its root: they were changed", head.Size)
	}
	origins, err := s.store.Origins(ctx)
	if err != nil {
		return err
	}
	s.head, s.frontier, s.origins = head, frontier, origins
	return nil
}

// known reads hashes from memory.
func known(hashes map[int64]tlog.Hash) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			hash, ok := hashes[index]
			if !ok {
				return nil, fmt.Errorf("hash %d is not part of the frontier", index)
			}
			out[i] = hash
		}
		return out, nil
	})
}

// record appends those of the events that are not in the log yet, and returns how many those were.
func (s *sequencer) record(ctx context.Context, events []bus.Event) (int, error) {
	if s.origins == nil {
		if err := s.load(ctx); err != nil {
			return 0, err
		}
	}
	now := s.now()
	var leaves [][]byte
	fresh := map[string]map[uint64]bool{}
	for _, e := range events {
		p := s.origins[e.Origin]
		if e.Origin == "" || e.Seq == 0 || fresh[e.Origin][e.Seq] || p != nil && p.Has(e.Seq) {
			continue // recorded before, or from nobody: an event without origin and number was never an outbox's
		}
		if !mayTell(e) {
			s.log.Error("an event in another's name is not recorded", zap.String(telemetry.FieldOrigin, e.Origin), zap.String(telemetry.FieldEvent, e.ID), zap.Uint64("seq", e.Seq))
			continue
		}
		leaf, err := leafOf(e)
		if err != nil {
			return 0, err
		}
		if fresh[e.Origin] == nil {
			fresh[e.Origin] = map[uint64]bool{}
		}
		fresh[e.Origin][e.Seq] = true
		leaves = append(leaves, leaf)
	}
	if len(leaves) == 0 {
		return 0, nil
	}
	grown, err := merkle.Append(s.head.Size, leaves, known(s.frontier))
	if err != nil {
		return 0, err
	}
	batch := store.Batch{
		From: s.head, To: store.Head{Size: grown.Size, Root: grown.Root}, RecordedAt: now, Leaves: leaves,
		First: grown.First, Hashes: grown.Hashes, Origins: s.advance(fresh, now),
	}
	if err := s.store.Append(ctx, batch); err != nil {
		s.origins = nil // whatever is true now, it is in the database
		return 0, err
	}
	s.frontier = s.grownFrontier(grown)
	s.head = batch.To
	maps.Copy(s.origins, batch.Origins)
	return len(leaves), nil
}

// mayTell says whether an event's subject is one that its origin tells of. Who may publish on a subject is the stream's
// to enforce; that nobody speaks in another's name there is ours. tenure.operator.> is every service's.
func mayTell(e bus.Event) bool {
	tokens := strings.Split(e.Subject, ".")
	if len(tokens) < 3 || tokens[0] != "tenure" {
		return false
	}
	switch tokens[1] {
	case "lifecycle", "delivery":
		return e.Origin == "ingest"
	case "access", "model", "hold":
		return e.Origin == "policy"
	case "intent", "outcome", "finding":
		return e.Origin == "provision/"+tokens[2]
	case "checkpoint":
		return e.Origin == origin
	case "operator":
		return true
	}
	return false
}

// advance returns the progress of the origins in fresh as it will be, leaving that of now alone.
func (s *sequencer) advance(fresh map[string]map[uint64]bool, now time.Time) map[string]*store.Progress {
	origins := make(map[string]*store.Progress, len(fresh))
	for origin, seqs := range fresh {
		p := &store.Progress{}
		if old := s.origins[origin]; old != nil {
			p = old.Clone()
		}
		for _, seq := range slices.Sorted(maps.Keys(seqs)) {
			p.Add(seq, now)
		}
		origins[origin] = p
	}
	return origins
}

func (s *sequencer) grownFrontier(g merkle.Growth) map[int64]tlog.Hash {
	frontier := map[int64]tlog.Hash{}
	for _, index := range merkle.Frontier(g.Size) {
		if index >= g.First {
			frontier[index] = g.Hashes[index-g.First]
		} else {
			frontier[index] = s.frontier[index]
		}
	}
	return frontier
}

// leafOf is the deterministic encoding of the event, without its traceparent: that is telemetry, not record.
func leafOf(e bus.Event) ([]byte, error) {
	if _, err := e.Decode(); err != nil {
		sum := sha256.Sum256(e.Data)
		e.Type, e.Data = undecodable, sum[:]
	}
	msg := e.Proto()
	msg.Traceparent = ""
	leaf, err := proto.MarshalOptions{Deterministic: true}.Marshal(msg)
	if err != nil {
		return nil, fmt.Errorf("encode event %d of %s: %w", e.Seq, e.Origin, err)
	}
	return leaf, nil
}

// moved says that somebody else appended: loading again cures it.
func moved(err error) bool { return errors.Is(err, store.ErrMoved) }
