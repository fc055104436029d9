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
	repairLease = 30 * time.Second
)

// repair decides about whomever events did not reach: at the start, every five minutes, when the stream is a new one,
// and when the applied model or the applications are others. It compares states, so it can be interrupted anywhere
// and begun again. One replica does it at a time.
func (s *Service) repair(ctx context.Context) error {
	return s.db.Lease(ctx, "policy-repair", repairLease, func(ctx context.Context, _ int64) error {
		look := time.NewTicker(lookEvery)
		defer look.Stop()
		var compared time.Time // when everybody was last found up to date, or made so
		var seq int64          // by which model
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-s.wake:
				compared = time.Time{}
			case <-look.C:
			}
			due, err := s.repairOnce(ctx, &seq, compared)
			if ctx.Err() != nil {
				return nil //nolint:nilerr // told to stop; what was under way is done again by whoever comes next
			}
			if err != nil {
				s.log.Warn("repair was interrupted and will be tried again", zap.Error(err))
				compared = time.Time{}
				continue
			}
			if due {
				compared = time.Now()
			}
		}
	})
}

// repairOnce compares everybody when it is time or the model is another one than seq, and else only releases what was
// withheld. It says whether it compared.
func (s *Service) repairOnce(ctx context.Context, seq *int64, compared time.Time) (bool, error) {
	rules, err := s.rules(ctx)
	if err != nil || rules == nil {
		return false, err
	}
	if time.Since(compared) < compareEvery && rules.applied.Seq == *seq {
		return false, s.releaseWithheld(ctx)
	}
	if err := s.compare(ctx, rules); err != nil {
		return false, err
	}
	*seq = rules.applied.Seq
	return true, nil
}

// compare decides about everybody whose last decision was not made from ingest's newest version by these rules.
func (s *Service) compare(ctx context.Context, rules *rules) error {
	outdated, err := s.store.CountOutdated(ctx, store.Basis{ModelSeq: rules.applied.Seq, Accounts: s.basis})
	if err != nil {
		return err
	}
	s.metrics.outdated.Set(float64(outdated))
	return s.eachVersion(ctx, func(pairs []*peoplev1.VersionsResponse_Pair) error {
		for chunk := range slices.Chunk(pairs, repairBatch) {
			due, err := s.due(ctx, rules, chunk)
			if err != nil {
				return err
			}
			if err := s.decide(ctx, due); err != nil {
				return err
			}
			if outdated -= int64(len(due)); outdated >= 0 {
				s.metrics.outdated.Set(float64(outdated))
			}
		}
		return nil
	})
}

// due returns those of pairs who must be decided about, without a cause.
func (s *Service) due(
	ctx context.Context, rules *rules, pairs []*peoplev1.VersionsResponse_Pair,
) (map[string]trigger, error) {
	ids := make([]string, len(pairs))
	for i, p := range pairs {
		ids[i] = p.GetId()
	}
	decided, err := s.store.Decided(ctx, ids)
	if err != nil {
		return nil, err
	}
	due := map[string]trigger{}
	for _, p := range pairs {
		d := decided[p.GetId()]
		if d.PersonVersion < signed(p.GetVersion()) || d.ModelSeq < rules.applied.Seq || d.Accounts != s.basis {
			due[p.GetId()] = trigger{}
		}
	}
	return due, nil
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
