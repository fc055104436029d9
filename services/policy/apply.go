package policy

import (
	"bytes"
	"context"
	"math"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/rpc"
	"github.com/tenurehq/tenure/pkg/telemetry"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/policy/internal/store"
	"github.com/tenurehq/tenure/services/policy/model"
)

// DiffModel streams what a proposed model would change. Failing tests are warnings here: seeing what a model does may
// be how its author finds out why they fail.
func (s *Service) DiffModel(
	request *accessv1.DiffModelRequest, stream grpc.ServerStreamingServer[accessv1.DiffModelResponse],
) error {
	proposed, err := s.check(request.GetFiles())
	if err != nil {
		return err
	}
	current, err := s.rules(stream.Context())
	if err != nil {
		return err
	}
	sim, err := s.simulate(stream.Context(), current, proposed, func(sim *simulation, diffs []*accessv1.PersonDiff) error {
		return stream.Send(&accessv1.DiffModelResponse{PeopleDone: sim.done, PeopleTotal: max(sim.total, sim.done), Diffs: diffs})
	})
	if err != nil {
		return err
	}
	held, err := s.wouldHold(stream.Context(), sim)
	if err != nil {
		return err
	}
	digest := proposed.Digest()
	last := &accessv1.DiffModelResponse{
		PeopleDone:  sim.done,
		PeopleTotal: sim.done,
		Done:        true,
		Gaining:     sim.gaining,
		Losing:      sim.losing,
		Sha256:      digest[:],
		Warnings:    sim.warnings(),
		Held:        held,
	}
	if current != nil {
		last.BaseSeq = unsigned(current.applied.Seq)
	}
	for _, result := range proposed.Test() {
		for _, problem := range result.Problems() {
			last.Warnings = append(last.Warnings, "test failed: "+problem.String())
		}
	}
	return stream.Send(last)
}

// check reads a proposed model; what is wrong with it is the caller's to mend.
func (s *Service) check(files []*accessv1.ModelFile) (*model.Model, error) {
	names := s.names()
	if names == nil {
		names = []string{} // none is configured, which is not the same as any
	}
	m, err := model.Load(filesFromProto(files), names)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err)
	}
	return m, nil
}

// ApplyModel makes a model take effect. Everybody is then decided about in the background; until that is done for a
// person, what was decided by the former model holds. The brake holds whom the model would take too much away from, as it
// does with everything else.
func (s *Service) ApplyModel(
	ctx context.Context, request *accessv1.ApplyModelRequest,
) (*accessv1.ApplyModelResponse, error) {
	proposed, err := s.check(request.GetFiles())
	if err != nil {
		return nil, err
	}
	if err := proposed.CheckTests(); err != nil {
		return nil, fault.New(fault.Invalid, "the model's own tests fail:\n%v", err)
	}
	current, err := s.rules(ctx)
	if err != nil {
		return nil, err
	}
	digest := proposed.Digest()
	var base int64
	if current != nil {
		base = current.applied.Seq
		if bytes.Equal(current.applied.SHA256, digest[:]) {
			return &accessv1.ApplyModelResponse{ModelSeq: unsigned(base), Sha256: digest[:], Unchanged: true}, nil
		}
	}
	if request.GetBaseSeq() != unsigned(base) {
		return nil, anotherModel(request.GetBaseSeq(), base)
	}
	sim, err := s.simulate(ctx, current, proposed, func(*simulation, []*accessv1.PersonDiff) error { return nil })
	if err != nil {
		return nil, err
	}
	held, err := s.wouldHold(ctx, sim)
	if err != nil {
		return nil, err
	}
	applied := store.Model{
		Seq:       base + 1,
		SHA256:    digest[:],
		Files:     filesFromProto(request.GetFiles()),
		AppliedBy: rpc.CallerFrom(ctx).Actor(),
		AppliedAt: s.now(),
	}
	event := bus.NewEvent(bus.ModelApplied, &eventv1.ModelApplied{
		ModelSeq:      unsigned(applied.Seq),
		Sha256:        applied.SHA256,
		Actor:         applied.AppliedBy,
		PeopleGaining: uint32(min(sim.gaining, math.MaxUint32)),
		PeopleLosing:  uint32(min(sim.losing, math.MaxUint32)),
	}, bus.Cause{TraceParent: telemetry.TraceParent(ctx)})
	applied.EventID, applied.CorrelationID = event.ID, event.CorrelationID
	err = s.store.InTx(ctx, func(tx store.Tx) error {
		added, err := tx.AddModel(ctx, applied)
		if err != nil {
			return err
		}
		if !added {
			return anotherModel(request.GetBaseSeq(), applied.Seq)
		}
		return s.outbox.Add(ctx, tx.Tx, eventv1.Lane_LANE_NORMAL, event)
	})
	if err != nil {
		return nil, err
	}
	s.log.Info("a role model was applied", zap.Int64("model_seq", applied.Seq), zap.String(telemetry.FieldCaller, applied.AppliedBy))
	s.wakeRepair()
	return &accessv1.ApplyModelResponse{ModelSeq: unsigned(applied.Seq), Sha256: digest[:], Held: held}, nil
}

func anotherModel(base uint64, applied int64) error {
	return fault.New(fault.Conflict, "compared with model %d, and model %d is applied by now: diff again", base, applied)
}

// ShowModel returns the applied model.
func (s *Service) ShowModel(ctx context.Context, _ *accessv1.ShowModelRequest) (*accessv1.ShowModelResponse, error) {
	m, err := s.store.CurrentModel(ctx)
	if err != nil {
		return nil, err
	}
	response := &accessv1.ShowModelResponse{
		ModelSeq: unsigned(m.Seq), Sha256: m.SHA256, AppliedBy: m.AppliedBy, AppliedAt: timestamp(m.AppliedAt),
	}
	for _, f := range m.Files {
		response.Files = append(response.Files, &accessv1.ModelFile{Name: f.Name, Content: f.Content})
	}
	return response, nil
}
