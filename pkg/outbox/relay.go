package outbox

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/crash"
	"github.com/tenurehq/tenure/pkg/run"
	"github.com/tenurehq/tenure/pkg/telemetry"
	"github.com/tenurehq/tenure/pkg/urgency"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

const (
	// leaseTime is how long the chunks of a relay that died wait for another one.
	leaseTime = 3 * time.Second
	// Other processes' events are found by looking: rarely while there are none, often while there are.
	pollIdle, pollBusy, busyFor = 200 * time.Millisecond, 25 * time.Millisecond, 2 * time.Second
	// saveEvery bounds what is published again, for nothing, after a crash.
	saveEvery = time.Second
	// patience is how long what is not urgent waits at most for what is.
	patience = time.Second
	// lookAtAll is how often everything that waits is looked at, and not only what was made since a moment (atMost) before
	// what left last.
	lookAtAll = time.Second
	atMost    = 10 * time.Second
	// resend is how far before the last published chunk publishing starts again on the same stream: longer than a
	// server takes to sync, shorter than it remembers what it has seen.
	resend = 30 * time.Second
)

// Relay is the task that sends what was added, by any process on this database: one relay at a time, by lease. It
// also asks audit what may be forgotten. It ends with ctx, after the chunk under way; what is left goes out with the
// next start. Trouble with the database or the stream is waited out; an error means that the outbox is not this
// origin's.
func (o *Outbox) Relay(ctx context.Context) error {
	for failures := 0; ; {
		_, err := o.store.begin(ctx)
		if err == nil {
			break
		}
		if errors.Is(err, errOrigins) {
			return fmt.Errorf("outbox %s: %w", o.origin, err)
		}
		if failures++; failures == 1 {
			o.log.Warn("cannot use the database, will try again", zap.Error(err))
		}
		if !pause(ctx, backoff(failures)) {
			return nil
		}
	}
	// Before the first event is numbered audit is asked, briefly, whether numbers were used that this database has
	// forgotten: one restored from a backup would give them a second time.
	first, cancel := context.WithTimeout(ctx, time.Second)
	if err := o.ask(first); err != nil {
		o.log.Debug("audit does not answer at start", zap.Error(err))
	}
	cancel()
	return run.All(ctx, o.relay, o.follow)
}

// relay sends while it holds the lease, until ctx ends.
func (o *Outbox) relay(ctx context.Context) error {
	for failures := 0; ctx.Err() == nil; {
		err := o.store.db.Lease(ctx, "relay/"+o.origin, leaseTime, func(ctx context.Context, _ int64) error {
			failures = 0
			return o.send(ctx)
		})
		if err != nil && ctx.Err() == nil {
			if failures++; failures == 1 {
				o.log.Warn("cannot relay, will try again", zap.Error(err))
			}
			pause(ctx, backoff(failures))
		}
	}
	return nil
}

// sender is one holding of the lease. Only its own goroutine touches it.
//
// The lease keeps relays from doing the same work, no more: numbers are fenced by the database, and a chunk that two
// relays publish is one.
type sender struct {
	*Outbox
	done  progress // everything up to here is published into the stream of done.epoch
	saved progress // what of it is written
	at    time.Time
	most  chunk   // the highest chunk published
	todo  []chunk // kept ones to be published again, urgent first

	from   map[eventv1.Lane]string // ids before which hardly anything is left
	looked time.Time               // when all was looked at last
}

// send sends until ctx ends, or the database fails.
func (o *Outbox) send(ctx context.Context) error {
	done, err := o.store.begin(ctx)
	if err != nil {
		return err
	}
	s := &sender{Outbox: o, done: done, saved: done, at: time.Now()}
	back := o.fresh
	select {
	case <-o.again: // the stream was away while this relay did not send: one host's crash may take lease and stream
		back = true
	default:
	}
	if err := s.recall(ctx, back); err != nil {
		return err
	}
	o.fresh = false
	defer s.leave(ctx)
	poll := time.NewTimer(0)
	defer poll.Stop()
	polled, busyUntil := false, time.Time{}
	given := time.Now() // since when what is not urgent gives way
	for ctx.Err() == nil {
		select { // what is kept may have to go out again, also while there is always something new
		case <-o.again:
			if err := s.recall(ctx, true); err != nil {
				return err
			}
		default:
		}
		wait := urgency.Left(given, patience)
		worked, err := s.step(ctx, wait > 0)
		if err != nil {
			return err
		}
		if wait <= 0 {
			given = time.Now()
		}
		if time.Since(s.at) > saveEvery {
			if err := s.save(ctx); err != nil {
				return err
			}
		}
		if worked {
			if polled {
				busyUntil = time.Now().Add(busyFor) // another process is adding
			}
			polled = false
			o.linger(ctx)
			continue
		}
		every := pollIdle
		if time.Now().Before(busyUntil) {
			every = pollBusy
		}
		every = every/2 + rand.N(every) //nolint:gosec // G404: jitter needs no secrecy
		if wait > 0 {
			every = min(every, wait, pollBusy) // another process may have something urgent
		}
		poll.Reset(every)
		polled = false
		select {
		case <-ctx.Done():
		case <-o.added:
			o.linger(ctx)
		case <-o.again:
			token(o.again) // for the top of the loop
		case <-poll.C:
			polled = wait <= 0
		}
	}
	return nil
}

// linger lets events gather.
func (o *Outbox) linger(ctx context.Context) {
	if o.gather > 0 {
		pause(ctx, o.gather)
	}
}

// step publishes what is most urgent, one chunk or two; gives: nothing but what is urgent. It reports whether it did.
func (s *sender) step(ctx context.Context, gives bool) (bool, error) {
	heads, err := s.look(ctx)
	if err != nil {
		return false, err
	}
	if len(heads) > 0 && heads[0].lane == eventv1.Lane_LANE_URGENT {
		return true, s.sendNew(ctx, heads[0])
	}
	worked := false
	if len(s.todo) > 0 && (!gives || s.todo[0].lane == eventv1.Lane_LANE_URGENT) {
		worked = true
		if err := s.sendAgain(ctx); err != nil {
			return true, err
		}
	}
	if len(heads) > 0 && !gives {
		worked = true
		if err := s.sendNew(ctx, heads[0]); err != nil {
			return true, err
		}
	}
	return worked, nil
}

// look returns what waits. An id begins with the time at which its event was made, which is at most a moment before it is added:
// what is older than what left last, because its transaction took long or the clock was set back, is found every second.
func (s *sender) look(ctx context.Context) ([]head, error) {
	if time.Since(s.looked) > lookAtAll {
		s.from, s.looked = map[eventv1.Lane]string{}, time.Now()
	}
	return s.store.heads(ctx, s.from)
}

// left notes that everything of a lane up to an id has left.
func (s *sender) left(h head) {
	if id, err := uuid.Parse(h.last); err == nil && id.Version() == 7 {
		s.from[h.lane] = idAt(time.Unix(id.Time().UnixTime()).Add(-atMost))
	}
}

// idAt is what the ids of events begin with that were made at a time (RFC 9562, section 5.7).
func idAt(at time.Time) string {
	ms := at.UnixMilli()
	return fmt.Sprintf("%08x-%04x", ms>>16, ms&0xffff)
}

// sendNew moves the events of h into a chunk and publishes it.
func (s *sender) sendNew(ctx context.Context, h head) error {
	c, err := s.store.move(ctx, h, s.done, s.now())
	if err != nil || len(c.events) == 0 {
		return err
	}
	s.left(h)
	s.saved, s.at = s.done, time.Now() // written with the move
	if !s.publish(ctx, c) {
		return nil
	}
	if c.last > s.most.last {
		s.most = c
		s.most.events = nil
	}
	s.advance()
	return nil
}

// sendAgain publishes the first chunk of todo.
func (s *sender) sendAgain(ctx context.Context) error {
	c, kept, err := s.store.load(ctx, s.todo[0])
	if err != nil {
		return err
	}
	if kept && !s.publish(ctx, c) {
		return nil
	}
	s.todo = s.todo[1:]
	s.advance()
	return nil
}

// advance notes how far everything is published. While something is to be sent again that is not known.
func (s *sender) advance() {
	if len(s.todo) == 0 && s.most.last > s.done.seq {
		s.done.seq, s.done.at = s.most.last, s.most.at
	}
}

// recall lists what of the kept chunks has to be published again: see the package's doc. back: also what this stream
// has acknowledged of late.
func (s *sender) recall(ctx context.Context, back bool) error {
	epoch := s.bus.Epoch() // first: what is published from now on goes into this stream or a newer one
	same := epoch == s.done.epoch
	if !same {
		s.done = progress{epoch: epoch}
		if err := s.save(ctx); err != nil { // before audit's answer makes anything be forgotten
			return err
		}
	}
	since := time.UnixMicro(math.MaxInt64) // no chunk is that young
	if back {
		since = s.done.at.Add(-resend)
	}
	todo, err := s.store.kept(ctx, s.done.seq, since)
	if err != nil {
		return err
	}
	s.todo = todo
	for _, c := range todo {
		if c.last > s.most.last {
			s.most = c
		}
	}
	if len(todo) > 0 {
		s.log.Info("publishing again what is kept", zap.Int("chunks", len(todo)), zap.Bool("new_stream", !same))
	}
	return nil
}

// publish repeats until the stream has the chunk. false: ctx ended before.
func (s *sender) publish(ctx context.Context, c chunk) bool {
	events, err := decode(c.events)
	if err != nil {
		// Our own bytes, gone bad on the disk. Audit will miss the numbers and say so.
		s.log.Error("a chunk cannot be read", zap.Uint64(telemetry.FieldSeq, c.first), zap.Error(err))
		return true
	}
	at := crash.At(s.origin)
	for failures := 0; ; {
		at.Reach("before publishing")
		// An attempt is finished even when the process is told to stop; it is bounded.
		err := s.bus.PublishChunk(context.WithoutCancel(ctx), events)
		if err == nil {
			at.Reach("after publishing")
			if failures > 0 {
				s.log.Info("the stream takes events again")
			}
			return true
		}
		if failures++; failures == 1 { // once per trouble
			s.log.Warn("cannot publish, will try again", zap.Error(err))
		}
		if !pause(ctx, backoff(failures)) {
			return false
		}
	}
}

// save writes how far the relay has come, if that has changed.
func (s *sender) save(ctx context.Context) error {
	s.at = time.Now()
	if s.done == s.saved {
		return nil
	}
	if err := s.store.save(ctx, s.done); err != nil {
		return err
	}
	s.saved = s.done
	return nil
}

// leave saves what the next relay need not do again.
func (s *sender) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := s.save(ctx); err != nil {
		s.log.Debug("progress not saved", zap.Error(err)) // costs duplicates only
	}
}

// decode returns a chunk's events.
func decode(encoded []byte) ([]bus.Event, error) {
	var list eventv1.ReadResponse
	if err := proto.Unmarshal(encoded, &list); err != nil {
		return nil, err
	}
	events := make([]bus.Event, len(list.GetEvents()))
	for i, e := range list.GetEvents() {
		events[i] = bus.FromProto(e)
	}
	return events, nil
}

// backoff is the pause before the nth retry: 50 ms, doubled up to 3 s, spread by half either way.
func backoff(n int) time.Duration {
	const first, most = 50 * time.Millisecond, 3 * time.Second
	d := most
	if n < 7 {
		d = min(most, first<<max(n-1, 0))
	}
	return d/2 + rand.N(d) //nolint:gosec // G404: jitter needs no secrecy
}

// pause waits for d. false: ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
