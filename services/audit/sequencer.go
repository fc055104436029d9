package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sort"
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
	origins  map[string]*progress
}

// progress is how far one origin's events are recorded.
type progress struct {
	seq   uint64          // all up to it
	later map[uint64]bool // recorded beyond a hole
	since time.Time       // when the first hole was noticed; zero: there is none
}

func (p *progress) has(seq uint64) bool { return seq <= p.seq || p.later[seq] }

func (p *progress) add(seq uint64, now time.Time) {
	p.later[seq] = true
	for p.later[p.seq+1] {
		p.seq++
		delete(p.later, p.seq)
	}
	switch {
	case len(p.later) == 0:
		p.since = time.Time{}
	case p.since.IsZero():
		p.since = now
	}
}

// behind is for how long a hole has been known.
func (p *progress) behind(now time.Time) time.Duration {
	if p.since.IsZero() {
		return 0
	}
	return max(0, now.Sub(p.since))
}

// stored is how far an origin is recorded as the database tells it, which is the same for every replica: a hole is known
// from the recording of the first event beyond it.
func stored(ctx context.Context, from *store.Store, origin string) (*progress, error) {
	seq, err := from.Recorded(ctx, origin)
	if err != nil {
		return &progress{}, err
	}
	p := &progress{seq: seq, later: map[uint64]bool{}}
	later, err := from.Later(ctx, origin, seq)
	for _, leaf := range later {
		p.later[leaf.Seq] = true
		if p.since.IsZero() || leaf.RecordedAt.Before(p.since) {
			p.since = leaf.RecordedAt
		}
	}
	return p, err
}

// hole returns the first run of missing sequence numbers; ok is false when there is none.
func (p *progress) hole() (from, to uint64, ok bool) {
	if len(p.later) == 0 {
		return 0, 0, false
	}
	least := ^uint64(0)
	for seq := range p.later {
		least = min(least, seq)
	}
	return p.seq + 1, least - 1, true
}

// load reads where the log stands.
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
	recorded, err := s.store.Origins(ctx)
	if err != nil {
		return err
	}
	origins := make(map[string]*progress, len(recorded))
	for origin := range recorded {
		if origins[origin], err = stored(ctx, s.store, origin); err != nil {
			return err
		}
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
	var leaves []store.Leaf
	var data [][]byte
	fresh := map[string]map[uint64]bool{}
	for _, e := range events {
		p := s.origins[e.Origin]
		if e.Origin == "" || e.Seq == 0 || fresh[e.Origin][e.Seq] || p != nil && p.has(e.Seq) {
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
		leaves = append(leaves, store.Leaf{N: s.head.Size + int64(len(leaves)), Origin: e.Origin, Seq: e.Seq, RecordedAt: now, Data: leaf})
		data = append(data, leaf)
	}
	if len(leaves) == 0 {
		return 0, nil
	}
	grown, err := merkle.Append(s.head.Size, data, known(s.frontier))
	if err != nil {
		return 0, err
	}
	origins := s.advance(fresh, now)
	batch := store.Batch{
		From: s.head, To: store.Head{Size: grown.Size, Root: grown.Root}, Leaves: leaves,
		First: grown.First, Hashes: grown.Hashes, Origins: map[string]uint64{},
	}
	for origin, p := range origins {
		batch.Origins[origin] = p.seq
	}
	if err := s.store.Append(ctx, batch); err != nil {
		s.origins = nil // whatever is true now, it is in the database
		return 0, err
	}
	s.frontier = s.grownFrontier(grown)
	s.head = batch.To
	for origin, p := range origins {
		s.origins[origin] = p
	}
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
func (s *sequencer) advance(fresh map[string]map[uint64]bool, now time.Time) map[string]*progress {
	origins := make(map[string]*progress, len(fresh))
	for origin, seqs := range fresh {
		p := &progress{later: map[uint64]bool{}}
		if old := s.origins[origin]; old != nil {
			p.seq, p.since = old.seq, old.since
			for seq := range old.later {
				p.later[seq] = true
			}
		}
		sorted := make([]uint64, 0, len(seqs))
		for seq := range seqs {
			sorted = append(sorted, seq)
		}
		sort.Slice(sorted, func(i, j int) bool { return sorted[i] < sorted[j] })
		for _, seq := range sorted {
			p.add(seq, now)
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
