package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/bus"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

// hole is a run of events that an origin has numbered and the log lacks.
type hole struct {
	origin   string
	from, to uint64
}

// repair pulls what is missing from its origin: holes soon, and now and then whatever is after the newest known event,
// because a stream that lost acknowledged messages shows no hole at its end.
func (s *Service) repair(ctx context.Context) error {
	tick := time.NewTicker(repairEvery)
	defer tick.Stop()
	failing := map[string]bool{}
	var tailed time.Time
	for {
		holes := s.holes()
		if time.Since(tailed) >= s.tail { // by what has passed: a clock that is set back must not stop it
			tailed = time.Now()
			holes = append(holes, s.tails()...)
		}
		for _, h := range holes {
			err := s.fill(ctx, h)
			if err != nil && ctx.Err() == nil && !failing[h.origin] { // once per trouble
				s.deps.Log.Warn("cannot pull missing events, will try again", zap.String("origin", h.origin), zap.Uint64("from", h.from), zap.Error(err))
			}
			failing[h.origin] = err != nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// holes are the runs known to be missing, and the figure of how long the oldest has been.
func (s *Service) holes() []hole {
	s.writing.Lock()
	defer s.writing.Unlock()
	var holes []hole
	var oldest time.Duration
	for origin, p := range s.seq.origins {
		if from, to, ok := p.Hole(); ok {
			holes = append(holes, hole{origin, from, to})
			now := s.deps.Now()
			if p.Since.After(now) { // the clock was set back
				p.Since = now
			}
			oldest = max(oldest, now.Sub(p.Since))
		}
	}
	s.figs.behind.Set(oldest.Seconds())
	return holes
}

// tails are the open runs after what is known of each origin.
func (s *Service) tails() []hole {
	s.writing.Lock()
	defer s.writing.Unlock()
	var tails []hole
	for origin := range s.deps.Origins {
		from := uint64(1)
		if p := s.seq.origins[origin]; p != nil {
			from = p.Seq + 1
		}
		tails = append(tails, hole{origin, from, math.MaxInt64})
	}
	return tails
}

// fill asks the hole's origin and records what it answers.
func (s *Service) fill(ctx context.Context, h hole) error {
	client := s.deps.Origins[h.origin]
	if client == nil {
		return fmt.Errorf("nobody is known who has the events of %s", h.origin)
	}
	stream, err := client.Read(ctx, &eventv1.ReadRequest{Origin: h.origin, From: h.from, To: h.to})
	if err != nil {
		return err
	}
	next := h.from
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		events := make([]bus.Event, 0, len(answer.GetEvents()))
		for _, e := range answer.GetEvents() {
			events = append(events, bus.FromProto(e))
			next = max(next, e.GetSeq()+1)
		}
		if err := s.record(ctx, events); err != nil {
			return err
		}
		s.figs.pulled.Add(float64(len(events)))
	}
	if h.to != math.MaxInt64 && next <= h.to {
		return fmt.Errorf("events %d to %d of %s are gone at their origin", next, h.to, h.origin)
	}
	return nil
}
