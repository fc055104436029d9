package policy

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/fault"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/policy/internal/store"
)

const (
	compareEvery = 5 * time.Minute
	lookEvery    = time.Second // for a model that another replica applied, and for an audit log that has caught up
	// repairBatch is how many people are decided about in one transaction: few enough that a leaver waits no more than
	// some tens of milliseconds for it.
	repairBatch = 200
	// repairLease is how long nobody repairs after the replica that did so died.
	repairLease = 5 * time.Second
	// grace is how long an event may take from ingest before repair does its work.
	grace = time.Second
)

// repair decides about whomever events did not reach: at the start, every five minutes, when the stream is a new one,
// and when the applied model or the applications are others. It compares states, so it can be interrupted anywhere
// and begun again. One replica does it at a time.
func (s *Service) repair(ctx context.Context) error {
	return s.db.Lease(ctx, "policy-repair", repairLease, func(ctx context.Context, _ int64) error {
		look := time.NewTicker(lookEvery)
		defer look.Stop()
		r := repairer{Service: s, seq: unknownModel}
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-s.wake:
				r.compared = time.Time{}
			case <-look.C:
			}
			err := r.once(ctx)
			if ctx.Err() != nil {
				return nil // what was under way is done again by whoever comes next
			}
			if err != nil {
				s.log.Warn("repair was interrupted and will be tried again", zap.Error(err))
				r.compared = time.Time{}
			}
		}
	})
}

// unknownModel is what a repairer compared with before it compared anything.
const unknownModel = -1

// repairer is one replica's turn at repairing.
type repairer struct {
	*Service
	compared time.Time // when everybody was last found up to date, or made so; zero: compare now
	seq      int64     // of the model that was compared with; 0: there was none
}

// once compares everybody when it is time or the model is another one, and else only does what waited: for two operators, or
// for the audit log.
func (r *repairer) once(ctx context.Context) error {
	rules, err := r.rules(ctx)
	if err != nil {
		return err
	}
	if rules == nil {
		r.seq = 0
		return nil
	}
	if err := r.releaseHeld(ctx); err != nil {
		return err
	}
	if time.Since(r.compared) < compareEvery && rules.applied.Seq == r.seq {
		return r.releaseWithheld(ctx)
	}
	newModel := r.seq != unknownModel && r.seq != rules.applied.Seq
	if err := r.compare(ctx, rules, newModel); err != nil {
		return err
	}
	r.seq, r.compared = rules.applied.Seq, time.Now()
	return nil
}

// compare decides about everybody whose last decision was not made from ingest's newest version by these rules.
// newModel says that the model is why people never decided about are due.
func (s *Service) compare(ctx context.Context, rules *rules, newModel bool) error {
	if err := s.forget(ctx); err != nil {
		return err
	}
	outdated, err := s.store.CountOutdated(ctx, store.Basis{ModelSeq: rules.applied.Seq, Accounts: s.basis})
	if err != nil {
		return err
	}
	s.metrics.outdated.Set(float64(outdated))
	var behind []string
	var decided int
	err = s.eachVersion(ctx, func(pairs []*peoplev1.VersionsResponse_Pair) error {
		for chunk := range slices.Chunk(pairs, repairBatch) {
			due, later, err := s.due(ctx, rules, chunk, newModel)
			if err != nil {
				return err
			}
			if err := s.decide(ctx, due); err != nil {
				return err
			}
			behind, decided = append(behind, later...), decided+len(due)
			outdated = max(outdated-int64(len(due)), 0)
			s.metrics.outdated.Set(float64(outdated))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if decided > 0 {
		s.log.Info("everybody was decided about by the applied model",
			zap.Int64("model_seq", rules.applied.Seq), zap.Int("people", decided))
	}
	if len(behind) == 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(grace):
	}
	for chunk := range slices.Chunk(behind, repairBatch) {
		due := make(map[string]trigger, len(chunk))
		for _, id := range chunk {
			due[id] = trigger{}
		}
		if err := s.decide(ctx, due); err != nil {
			return err
		}
	}
	return nil
}

// due returns those of pairs who must be decided about because the rules are others, and those of whom ingest has a
// newer version, whose event is most likely on its way: they are left to it for a moment, so that the record names the
// event as the cause and not repair.
func (s *Service) due(
	ctx context.Context, rules *rules, pairs []*peoplev1.VersionsResponse_Pair, newModel bool,
) (now map[string]trigger, later []string, err error) {
	ids := make([]string, len(pairs))
	for i, p := range pairs {
		ids[i] = p.GetId()
	}
	decided, err := s.store.Decided(ctx, ids)
	if err != nil {
		return nil, nil, err
	}
	now = map[string]trigger{}
	for _, p := range pairs {
		d := decided[p.GetId()]
		switch {
		case d.N == 0 && newModel:
			now[p.GetId()] = rules.trigger()
		case d.N > 0 && (d.ModelSeq < rules.applied.Seq || d.Accounts != s.basis):
			now[p.GetId()] = trigger{}
		case d.PersonVersion < signed(p.GetVersion()):
			later = append(later, p.GetId())
		}
	}
	return now, later, nil
}

// eachVersion streams everybody's version from ingest.
func (s *Service) eachVersion(ctx context.Context, f func([]*peoplev1.VersionsResponse_Pair) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream when f fails
	stream, err := s.people.Versions(ctx, &peoplev1.VersionsRequest{})
	if err != nil {
		return fault.FromStatus(err)
	}
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fault.FromStatus(err)
		}
		if err := f(response.GetPairs()); err != nil {
			return err
		}
	}
}

// releaseWithheld decides again about those whose grants waited, once they need not wait any more.
func (s *Service) releaseWithheld(ctx context.Context) error {
	if s.withholding() {
		s.metrics.withheld.Set(1)
		return nil
	}
	s.metrics.withheld.Set(0)
	after := ""
	for {
		people, err := s.store.Withheld(ctx, after, repairBatch)
		if err != nil || len(people) == 0 {
			return err
		}
		due := make(map[string]trigger, len(people))
		for _, id := range people {
			due[id] = trigger{}
		}
		if err := s.decide(ctx, due); err != nil {
			return err
		}
		after = people[len(people)-1]
	}
}
