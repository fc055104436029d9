package ingest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/telemetry"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/ingest/internal/store"
	"github.com/tenurehq/tenure/services/ingest/source"
	"github.com/tenurehq/tenure/services/ingest/source/vendorapi"
)

const (
	// readPoll bounds how late an employee is noticed whom another process made due.
	readPoll = time.Second
	// claimFor is how long a process that died keeps others from reading an employee.
	claimFor = 2 * time.Minute
	// readWait is how long a batch may take; it ends before the claim does.
	readWait = claimFor - 15*time.Second
	// failWaitMin and wholeWaitMax bound how long an API is left alone that does not answer. The end of its failure must not
	// be noticed much later than it is there.
	failWaitMin, wholeWaitMax = 5 * time.Second, time.Minute
	// denyWaitMax is for one that does not take our credentials: some block addresses that go on trying.
	denyWaitMax = 10 * time.Minute
	// oneWaitMax is for one employee about whom the API does not answer.
	oneWaitMax = 10 * time.Minute
)

// looks are when an employee is read again about whom nothing new was found, counted from the last time. APIs answer with
// what held before the webhook for a while, and do not know at once who was just hired.
var looks = [...]time.Duration{10 * time.Second, time.Minute, 10 * time.Minute}

// What became of reading an employee, as a label.
const (
	readChanged   = "changed"
	readUnchanged = "unchanged"
	readHeld      = "held"
	readAbsent    = "absent"
	readFailed    = "failed"
)

// backReader reads one source's employees back. Its fields are its task's.
type backReader struct {
	feed     *feed
	wake     chan struct{} // holds one element when somebody became due
	failures int           // batches in a row that nobody was answered about
	resume   time.Time     // not before; zero: now
	latest   time.Time     // but then, by what has passed on this machine: the clock may be set back
}

func newBackReader(f *feed) *backReader { return &backReader{feed: f, wake: make(chan struct{}, 1)} }

// readBack reads who is due. Every replica does: whom one has claimed no other reads.
func (s *Service) readBack(ctx context.Context, r *backReader) error {
	for ctx.Err() == nil {
		wait, err := s.readDue(ctx, r)
		if err != nil && ctx.Err() == nil {
			s.log.Error("what was read back could not be stored; it will be read again",
				zap.String(telemetry.FieldSource, r.feed.Name), zap.Error(err))
			wait = readPoll
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-r.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// setBack keeps who is to be read from waiting longer when the clock is set back. What is said to come on a day comes on
// that day.
func (s *Service) setBack(ctx context.Context) error {
	return s.store.WhenSetBack(ctx, s.now, func(by time.Duration) {
		s.log.Warn("the clock was set back: who waits to be read goes on waiting for as long as before", zap.Duration("by", by))
	})
}

// readDue reads everybody who is due, batch by batch, and returns how long nobody will be.
func (s *Service) readDue(ctx context.Context, r *backReader) (time.Duration, error) {
	for {
		if err := s.showOpen(ctx, r); err != nil {
			return 0, err
		}
		if wait := min(r.resume.Sub(s.now()), time.Until(r.latest)); wait > 0 {
			return min(wait, readPoll), nil
		}
		some, err := s.readBatch(ctx, r)
		if err != nil {
			return 0, err
		}
		if some {
			continue
		}
		next, err := s.store.NextReadback(ctx, r.feed.Name)
		if wait := next.Sub(s.now()); err == nil && !next.IsZero() && wait < readPoll {
			return max(wait, time.Millisecond), nil
		}
		return readPoll, err
	}
}

// showOpen brings the figures up to date.
func (s *Service) showOpen(ctx context.Context, r *backReader) error {
	open, oldest, err := s.store.OpenReadbacks(ctx, r.feed.Name)
	if err != nil {
		return err
	}
	age := 0.0
	if open > 0 {
		age = max(0, s.now().Sub(oldest).Seconds())
	}
	s.metrics.readbacksDue.WithLabelValues(r.feed.Name).Set(float64(open))
	s.metrics.oldestReadback.WithLabelValues(r.feed.Name).Set(age)
	return nil
}

// readBatch claims some who are due, reads them, and stores what was answered. False: nobody was due.
func (s *Service) readBatch(ctx context.Context, r *backReader) (bool, error) {
	claim, begin := newID(), s.now()
	var claimed []store.Readback
	err := s.store.InTx(ctx, func(tx store.Tx) (err error) {
		claimed, err = tx.ClaimReadbacks(ctx, r.feed.Name, claim, begin, begin.Add(claimFor), r.feed.Vendor.Batch())
		return err
	})
	if err != nil || len(claimed) == 0 {
		return false, err
	}
	ids := make([]string, len(claimed))
	for i, b := range claimed {
		ids[i] = b.ExternalID
	}
	within, cancel := context.WithTimeout(ctx, readWait)
	employees := r.feed.Vendor.Read(within, begin, ids)
	cancel()
	if ctx.Err() != nil {
		return true, s.release(ctx, claim)
	}
	s.judge(r, employees)
	for i, e := range employees {
		if err := s.readOne(ctx, r, claim, claimed[i], e, begin); err != nil {
			return true, errors.Join(err, s.release(ctx, claim))
		}
	}
	return true, nil
}

// release gives back what was claimed and not finished, so that nobody waits for the claim to end.
func (s *Service) release(ctx context.Context, claim string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitWait)
	defer cancel()
	return s.store.InTx(ctx, func(tx store.Tx) error { return tx.ReleaseReadbacks(ctx, claim) })
}

// judge leaves an API alone for a while that asked for it, or that answers nobody. It does not if there was an answer, or
// if what failed may be one employee's alone.
func (s *Service) judge(r *backReader, employees []source.Employee) {
	var whole *vendorapi.Error
	asked, answered := time.Duration(0), false
	for _, e := range employees {
		var failed *vendorapi.Error
		switch {
		case !errors.As(e.Err, &failed):
			answered = answered || e.Err == nil || errors.Is(e.Err, vendorapi.ErrAbsent)
		case failed.Whole():
			whole, asked = failed, max(asked, failed.RetryAfter)
		}
	}
	r.resume = time.Time{}
	if whole == nil || answered && asked == 0 {
		if answered {
			r.failures = 0
		}
		return
	}
	limit := wholeWaitMax
	if whole.Status == http.StatusUnauthorized {
		limit = denyWaitMax
	}
	pause := jittered(max(asked, min(failWaitMin<<min(r.failures, 10), limit)))
	r.resume, r.latest = s.now().Add(pause), time.Now().Add(pause)
	if r.failures++; r.failures == 1 {
		s.log.Warn("the HR system's API does not answer; it will be tried for ever",
			zap.String(telemetry.FieldSource, r.feed.Name), zap.Error(whole))
	}
}

// jittered is up to a tenth more, so that replicas do not ask at once.
func jittered(d time.Duration) time.Duration {
	return d + time.Duration(rand.Int64N(int64(d)/10+1)) //nolint:gosec // nothing secret
}

// readOne stores what was answered about one employee.
func (s *Service) readOne(ctx context.Context, r *backReader, claim string, b store.Readback, e source.Employee, begin time.Time) error {
	if e.Err != nil {
		return s.putOff(ctx, r, claim, b, e.Err)
	}
	// When the request began: the answer is at least as new. A later read is later even if clocks disagree.
	at := begin
	if !at.After(b.ReadAt) {
		at = b.ReadAt.Add(time.Microsecond)
	}
	body := readBody(at, b.Notice, e.Data)
	read, err := r.feed.read(body, at)
	var wrong *source.Error
	if errors.As(err, &wrong) {
		return s.putOff(ctx, r, claim, b, &vendorapi.Error{Problem: "the API's answer: " + wrong.Error()})
	}
	if err != nil {
		return err
	}
	sum, now, result := sha256.Sum256(e.Data), s.now(), readChanged
	var again time.Time
	b.ReadAt = at
	switch {
	case bytes.Equal(sum[:], b.Seen):
		result = readUnchanged
		if b.Attempts < len(looks) {
			again = now.Add(looks[b.Attempts])
		}
		b.Attempts++
	case len(read.held) > 0 || read.whole != "":
		b.Seen, b.Attempts, result = nil, 0, readHeld // so that it is taken once the mapping is fixed
	default:
		b.Seen, b.Attempts = sum[:], 0
	}
	delivery := newDelivery(r.feed.Name, "read:"+claim+":"+b.ExternalID, "source:"+r.feed.Name, body, at, now)
	ctx = telemetry.Span(ctx)
	var out outcome
	err = s.store.InTx(ctx, func(tx store.Tx) error {
		out = outcome{}
		mine, err := tx.FinishReadback(ctx, r.feed.Name, claim, b, now, again)
		if err != nil || !mine || result == readUnchanged {
			return err
		}
		out, err = s.acceptIn(ctx, tx, delivery, read)
		return err
	})
	if err != nil {
		return err
	}
	if out.id != "" {
		s.count(r.feed.Name, out)
	}
	s.metrics.readbacks.WithLabelValues(r.feed.Name, result).Inc()
	return nil
}

// readBody is the delivery that an answer is stored as: it can be replayed like any other.
func readBody(at time.Time, notice string, data []byte) []byte {
	return fmt.Appendf(nil, `{"type":"employee.read","timestamp":%q,"notice":%q,"data":%s}`, at.UTC().Format(time.RFC3339Nano), notice, data)
}

// putOff says why an employee could not be read. Who is absent is looked for a few times, then kept for review: that
// somebody is not there is no evidence that they left.
func (s *Service) putOff(ctx context.Context, r *backReader, claim string, b store.Readback, cause error) error {
	now, result := s.now(), readFailed
	var due time.Time
	var failed *vendorapi.Error
	switch {
	case errors.Is(cause, vendorapi.ErrAbsent):
		result = readAbsent
		if b.Attempts < len(looks) {
			due = now.Add(looks[b.Attempts])
		}
		b.Attempts++
	case errors.As(cause, &failed) && failed.Whole():
		due = now.Add(max(failed.RetryAfter, failWaitMin)) // judge says when the API is asked
	case errors.As(cause, &failed):
		// Who has waited for long can wait for longer: one whom the API cannot answer about is not asked for all the time.
		due = now.Add(jittered(min(max(now.Sub(b.Noticed)/2, failWaitMin), oneWaitMax)))
	default:
		due, cause = now.Add(jittered(failWaitMin)), errors.New("the API did not answer in time")
	}
	err := s.store.InTx(ctx, func(tx store.Tx) error {
		mine, err := tx.PutOffReadback(ctx, r.feed.Name, claim, b, due, cause.Error())
		if err != nil || !mine || !due.IsZero() || b.HeldBy == b.Notice {
			return err
		}
		return s.outbox.Add(ctx, tx.Tx, eventv1.Lane_LANE_NORMAL, bus.NewEvent(bus.DeliveryHeld, &eventv1.DeliveryHeld{
			DeliveryId: b.Notice, Source: r.feed.Name, ItemsHeld: 1,
		}, bus.Cause{CorrelationID: b.Notice, TraceParent: telemetry.TraceParent(telemetry.Span(ctx))}))
	})
	if err != nil {
		return err
	}
	s.metrics.readbacks.WithLabelValues(r.feed.Name, result).Inc()
	return nil
}
