package audit

import (
	"context"
	"encoding/hex"
	"sort"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenurehq/tenure/pkg/fault"
	auditv1 "github.com/tenurehq/tenure/proto/gen/tenure/audit/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/audit/internal/store"
)

const (
	page        = 500         // leaves read and sent at a time
	followEvery = time.Second // another replica may be the one that writes
)

// Recorded answers an origin that wants to know what it may forget.
func (s *Service) Recorded(ctx context.Context, req *auditv1.RecordedRequest) (*auditv1.RecordedResponse, error) {
	seq, behind, err := s.recorded(ctx, req.GetOrigin())
	if err != nil {
		return nil, err
	}
	return &auditv1.RecordedResponse{Seq: seq, Behind: durationpb.New(behind)}, nil
}

// Checkpoint answers with the newest checkpoint, signing the head of now first when asked to.
func (s *Service) Checkpoint(ctx context.Context, req *auditv1.CheckpointRequest) (*auditv1.CheckpointResponse, error) {
	newest, ok, err := s.store.Newest(ctx)
	if err == nil && (req.GetSignNow() || !ok) {
		newest, err = s.sign(ctx)
	}
	if err != nil {
		return nil, err
	}
	if newest.Size == 0 {
		return nil, fault.New(fault.NotFound, "nothing is recorded yet")
	}
	return &auditv1.CheckpointResponse{Note: newest.Note, VerifierKey: s.vkey, Size: uint64(newest.Size)}, nil //nolint:gosec // a size
}

// Proof answers with an inclusion proof that can be verified offline.
func (s *Service) Proof(ctx context.Context, req *auditv1.ProofRequest) (*auditv1.ProofResponse, error) {
	index := int64(req.GetIndex()) //nolint:gosec // a negative one is in no log
	if index < 0 {
		return nil, fault.New(fault.NotFound, "the log has no entry %d", req.GetIndex())
	}
	proof, err := s.proof(ctx, index)
	if err != nil {
		return nil, err
	}
	leaves, err := s.store.Leaves(ctx, index, index+1, 1)
	if err != nil {
		return nil, err
	}
	if len(leaves) != 1 {
		return nil, fault.New(fault.Invalid, "entry %d is signed for and is not there", index)
	}
	return &auditv1.ProofResponse{TlogProof: proof.String(), Leaf: leaves[0].Data, VerifierKey: s.vkey}, nil
}

// Entries streams entries, and follows the log when asked to.
func (s *Service) Entries(req *auditv1.EntriesRequest, stream grpc.ServerStreamingServer[auditv1.EntriesResponse]) error {
	ctx := stream.Context()
	from, to := int64(req.GetFrom()), int64(req.GetTo()) //nolint:gosec // sizes
	if from < 0 || to < 0 {
		return fault.New(fault.Invalid, "from and to are entries of the log")
	}
	if req.GetSince() != nil {
		first, err := s.firstSince(ctx, req.GetSince().AsTime())
		if err != nil {
			return err
		}
		from = max(from, first)
	}
	for {
		grew := s.grew.next()
		head, err := s.store.Head(ctx)
		if err != nil {
			return err
		}
		end := head.Size
		if to > 0 {
			end = min(end, to)
		}
		if from, err = s.sendEntries(ctx, from, end, req, stream); err != nil {
			return err
		}
		if !req.GetFollow() || to > 0 && from >= to {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-grew:
		case <-time.After(followEvery):
		}
	}
}

// sendEntries sends the entries from <= n < end that are asked for, and returns end.
func (s *Service) sendEntries(ctx context.Context, from, end int64, req *auditv1.EntriesRequest, stream grpc.ServerStreamingServer[auditv1.EntriesResponse]) (int64, error) {
	for from < end {
		leaves, err := s.store.Leaves(ctx, from, end, page)
		if err != nil {
			return from, err
		}
		if len(leaves) == 0 {
			return from, fault.New(fault.Invalid, "entry %d of %d is not there", from, end)
		}
		answer := &auditv1.EntriesResponse{}
		for _, leaf := range leaves {
			if entry := entryOf(leaf); wanted(entry, req) {
				answer.Entries = append(answer.Entries, entry)
			}
		}
		from += int64(len(leaves))
		if len(answer.GetEntries()) > 0 {
			if err := stream.Send(answer); err != nil {
				return from, err
			}
		}
	}
	return from, nil
}

func entryOf(leaf store.Leaf) *auditv1.Entry {
	entry := &auditv1.Entry{Index: uint64(leaf.N), RecordedAt: timestamppb.New(leaf.RecordedAt)} //nolint:gosec // an index
	event := &eventv1.Event{}
	if err := proto.Unmarshal(leaf.Data, event); err != nil {
		entry.Undecoded = "unreadable"
		return entry
	}
	entry.Event = event
	if event.GetType() == undecodable {
		entry.Undecoded = hex.EncodeToString(event.GetData())
	}
	return entry
}

// wanted says whether an entry is one of those asked for. Subjects tell kind, application and person:
// tenure.lifecycle.<lane>.<kind>.<person>, tenure.access.<lane>.<app>.<person>, tenure.<fact>.<app>.<person>.
func wanted(entry *auditv1.Entry, req *auditv1.EntriesRequest) bool {
	tokens := strings.Split(entry.GetEvent().GetSubject(), ".")
	if len(tokens) < 2 {
		tokens = append(tokens, "", "")
	}
	fact, rest := tokens[1], tokens[2:]
	if fact == "lifecycle" || fact == "access" {
		rest = rest[min(1, len(rest)):] // the lane
	}
	at := func(i int) string {
		if i < len(rest) {
			return rest[i]
		}
		return ""
	}
	if kind := req.GetKind(); kind != "" && kind != fact && (fact != "lifecycle" || kind != at(0)) {
		return false
	}
	if app := req.GetApplication(); app != "" && (fact == "lifecycle" || app != at(0)) {
		return false
	}
	return req.GetPersonId() == "" || req.GetPersonId() == at(1)
}

// firstSince finds the first entry recorded at or after an instant; entries are recorded in order of time.
func (s *Service) firstSince(ctx context.Context, since time.Time) (int64, error) {
	head, err := s.store.Head(ctx)
	if err != nil {
		return 0, err
	}
	var failed error
	first := sort.Search(int(head.Size), func(n int) bool {
		at, err := s.store.RecordedAt(ctx, int64(n))
		if err != nil {
			failed = err
			return true
		}
		return !at.Before(since)
	})
	return int64(first), failed
}

// Export streams what the offline verifier needs, up to the head of now, which is signed first: the checkpoints, then
// the leaves, each batch with the stored hashes they lead to.
func (s *Service) Export(_ *auditv1.ExportRequest, stream grpc.ServerStreamingServer[auditv1.ExportResponse]) error {
	ctx := stream.Context()
	newest, err := s.sign(ctx)
	if err != nil {
		return err
	}
	if newest.Size == 0 {
		return fault.New(fault.NotFound, "nothing is recorded yet")
	}
	if err := stream.Send(&auditv1.ExportResponse{VerifierKey: s.vkey, Size: uint64(newest.Size)}); err != nil { //nolint:gosec // a size
		return err
	}
	for size := int64(0); size < newest.Size; {
		list, err := s.store.Checkpoints(ctx, size, page)
		if err != nil {
			return err
		}
		answer := &auditv1.ExportResponse{}
		for _, c := range list {
			if c.Size <= newest.Size {
				answer.Checkpoints = append(answer.Checkpoints, c.Note)
			}
			size = c.Size
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
	for n := int64(0); n < newest.Size; {
		leaves, err := s.store.Leaves(ctx, n, newest.Size, page)
		if err != nil {
			return err
		}
		if len(leaves) == 0 {
			return fault.New(fault.Invalid, "entry %d of %d is not there", n, newest.Size)
		}
		answer := &auditv1.ExportResponse{}
		for _, leaf := range leaves {
			answer.Leaves = append(answer.Leaves, &auditv1.Leaf{Index: uint64(leaf.N), Data: leaf.Data}) //nolint:gosec // an index
		}
		first, after := tlog.StoredHashCount(n), tlog.StoredHashCount(n+int64(len(leaves)))
		hashes, err := s.store.HashRange(ctx, first, after)
		if err != nil {
			return err
		}
		for i, hash := range hashes {
			answer.Hashes = append(answer.Hashes, &auditv1.StoredHash{Index: uint64(first) + uint64(i), Hash: hash[:]}) //nolint:gosec // an index
		}
		n += int64(len(leaves))
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
	return nil
}
