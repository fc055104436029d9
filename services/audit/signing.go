package audit

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/sqldb"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/audit/evidence"
	"github.com/tenurehq/tenure/services/audit/internal/store"
)

// signRegularly signs a head whenever one has gone unsigned for as long as the configuration allows.
func (s *Service) signRegularly(ctx context.Context) error {
	tick := time.NewTicker(s.cfg.CheckpointEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		idle, err := s.onlyCheckpointsSince(ctx)
		if err == nil && !idle {
			_, err = s.sign(ctx)
		}
		if err != nil && ctx.Err() == nil {
			s.deps.Log.Error("cannot sign a checkpoint, will try again", zap.Error(err))
		}
	}
}

// onlyCheckpointsSince says whether nothing but the record of the newest checkpoint itself came after it: signing that
// would go on for ever.
func (s *Service) onlyCheckpointsSince(ctx context.Context) (bool, error) {
	head, err := s.store.Head(ctx)
	if err != nil {
		return false, err
	}
	newest, ok, err := s.store.Newest(ctx)
	if err != nil {
		return false, err
	}
	if !ok || head.Size > newest.Size+1 {
		return head.Size == 0, nil
	}
	leaves, err := s.store.Leaves(ctx, newest.Size, head.Size, 1)
	return err == nil && (len(leaves) == 0 || entryOf(leaves[0]).GetEvent().GetOrigin() == origin), err
}

// sign signs the head of now, unless it is signed already, and returns the newest checkpoint.
func (s *Service) sign(ctx context.Context) (store.Checkpoint, error) {
	head, err := s.store.Head(ctx)
	if err != nil {
		return store.Checkpoint{}, err
	}
	newest, ok, err := s.store.Newest(ctx)
	if err != nil || ok && newest.Size == head.Size {
		return newest, err
	}
	if err := s.extendsWhatWasSigned(ctx); err != nil {
		return store.Checkpoint{}, err
	}
	signed, err := evidence.Checkpoint{Origin: s.signer.Name(), Size: head.Size, Root: head.Root}.Sign(s.signer)
	if err != nil {
		return store.Checkpoint{}, err
	}
	checkpoint := store.Checkpoint{Size: head.Size, Note: signed}
	err = s.store.AddCheckpoint(ctx, checkpoint, s.deps.Now(), func(tx *sqldb.Tx) error {
		fact := &eventv1.CheckpointSigned{Size: uint64(head.Size), Root: head.Root[:]} //nolint:gosec // a size
		return s.outbox.Add(ctx, tx, eventv1.Lane_LANE_NORMAL, bus.NewEvent(bus.CheckpointSigned, fact, bus.Cause{}))
	})
	return checkpoint, err
}

// extendsWhatWasSigned proves that the log still begins with what the newest checkpoint was signed for. It does not after
// a restore from an older backup, or after somebody edited the tables; then nothing is signed any more. The words of its
// errors are for whoever verifies.
func (s *Service) extendsWhatWasSigned(ctx context.Context) error {
	newest, ok, err := s.store.Newest(ctx)
	if err != nil || !ok {
		return err
	}
	verifier, err := note.NewVerifier(s.vkey)
	if err != nil {
		return err
	}
	signed, err := evidence.OpenCheckpoint(newest.Note, verifier)
	if err != nil {
		return fault.New(fault.Invalid, "the newest checkpoint kept is not ours, refusing to sign: %v", err)
	}
	head, err := s.store.Head(ctx)
	if err != nil {
		return err
	}
	if head.Size < signed.Size {
		return fault.New(fault.Invalid, "the log has %d leaves and %d were signed: it was cut off or restored from a backup; refusing to go on", head.Size, signed.Size)
	}
	root, err := tlog.TreeHash(signed.Size, s.store.Hashes(ctx))
	if err != nil {
		return err
	}
	if root != signed.Root {
		return fault.New(fault.Invalid, "the log's first %d leaves are not those that were signed; refusing to go on", signed.Size)
	}
	return nil
}

// proof returns the inclusion proof of leaf index in the newest checkpoint that covers it, signing one if none does.
func (s *Service) proof(ctx context.Context, index int64) (evidence.Proof, error) {
	newest, ok, err := s.store.Newest(ctx)
	if err == nil && (!ok || index >= newest.Size) {
		newest, err = s.sign(ctx)
	}
	if err != nil {
		return evidence.Proof{}, err
	}
	if index >= newest.Size {
		return evidence.Proof{}, fault.New(fault.NotFound, "the log has no entry %d; it has %d, numbered from 0", index, newest.Size)
	}
	hashes, err := tlog.ProveRecord(newest.Size, index, s.store.Hashes(ctx))
	if err != nil {
		return evidence.Proof{}, fmt.Errorf("prove entry %d: %w", index, err)
	}
	return evidence.Proof{Index: index, Hashes: hashes, Checkpoint: newest.Note}, nil
}
