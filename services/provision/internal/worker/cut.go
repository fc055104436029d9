package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/telemetry"
	"github.com/tenurehq/tenure/pkg/urgency"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/ingest/cut"
	"github.com/tenurehq/tenure/services/provision/internal/store"
	"github.com/tenurehq/tenure/services/provision/plan"
)

// cutPatience is how long a cut waits for ingest's word, or policy's, before the worker acts without it.
const cutPatience = 2 * time.Second

// Why a target waits for policy where somebody was cut.
const (
	reasonLift  = "tenure.policy_before_lift"
	reasonBlind = "tenure.policy_away"
)

// onUrgent handles what travels in the urgent lane: cuts and lifts, and access.
func (w *Worker) onUrgent(ctx context.Context, batch []bus.Event) error {
	urgency.Hurry()
	var access []bus.Event
	newest := map[string]told{}
	for _, e := range batch {
		fact, err := e.Decode()
		if err != nil {
			return err
		}
		l, ok := fact.(*eventv1.Lifecycle)
		if !ok {
			access = append(access, e)
			continue
		}
		kind := l.GetKind()
		if l.GetPersonId() == "" || l.GetPersonVersion() == 0 ||
			kind != eventv1.LifecycleKind_LIFECYCLE_KIND_CUT && kind != eventv1.LifecycleKind_LIFECYCLE_KIND_LIFT {
			return bus.Permanent(errors.New("neither a cut nor a lift of somebody"))
		}
		if l.GetPersonVersion() > newest[l.GetPersonId()].lifecycle.GetPersonVersion() {
			newest[l.GetPersonId()] = told{l, e}
		}
	}
	if len(newest) > 0 {
		if err := w.onCuts(ctx, newest); err != nil {
			return err
		}
	}
	return w.onAccess(ctx, access)
}

// told is a cut or a lift as an event tells of it.
type told struct {
	lifecycle *eventv1.Lifecycle
	event     bus.Event
}

// cut is what the event says, if it is to be believed.
func (t told) cut() store.Cut {
	l := t.lifecycle
	return store.Cut{
		Person: l.GetPersonId(), Version: int64(l.GetPersonVersion()), Stands: l.GetKind() == eventv1.LifecycleKind_LIFECYCLE_KIND_CUT, //nolint:gosec // a counter
		At: l.GetKnownAt().AsTime(), Event: t.event.ID, Correlation: t.event.CorrelationID,
	}
}

// onCuts asks ingest where the people stand of whom events tell. An event itself is acted on only where ingest does not
// answer, and only if ingest signed it by the key that the worker knows; else it is tried again.
func (w *Worker) onCuts(ctx context.Context, newest map[string]told) error {
	people := slices.Sorted(maps.Keys(newest))
	cuts, silent := w.askCuts(ctx, people)
	if silent == nil {
		for i := range cuts { // the event that tells of what ingest says leads to what is done
			if said := newest[cuts[i].Person].cut(); said.Version == cuts[i].Version {
				cuts[i].Event, cuts[i].Correlation = said.Event, said.Correlation
			}
		}
		return w.noteCuts(ctx, cuts)
	}
	key, err := w.deps.Store.CutKey(ctx)
	if err != nil {
		return err
	}
	for _, t := range newest {
		if cut.Signed(t.lifecycle, key) {
			cuts = append(cuts, t.cut())
		}
	}
	if len(cuts) > 0 {
		w.log.Warn("ingest does not answer: cuts and lifts that it signed are acted on", zap.Int("people", len(cuts)), zap.Error(silent))
	}
	if err := w.noteCuts(ctx, cuts); err != nil {
		return err
	}
	if len(cuts) < len(newest) {
		return fault.New(fault.Unavailable, "ingest does not answer, and by the key known here did not sign this: %w", silent)
	}
	return nil
}

// askCuts asks ingest where people stand with cuts, for as long as a cut can wait.
func (w *Worker) askCuts(ctx context.Context, people []string) ([]store.Cut, error) {
	ctx, cancel := context.WithTimeout(ctx, cutPatience)
	defer cancel()
	var cuts []store.Cut
	for chunk := range slices.Chunk(people, askedAtOnce) {
		if err := w.receiveCuts(ctx, chunk, func(page []store.Cut) error {
			cuts = append(cuts, page...)
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return cuts, nil
}

// askedAtOnce is how many people ingest answers about in one call.
const askedAtOnce = 1000

// receiveCuts gives what ingest says page by page; no people: of everybody who was ever cut. It notes the key.
func (w *Worker) receiveCuts(ctx context.Context, people []string, take func([]store.Cut) error) error {
	stream, err := w.deps.People.GetCuts(ctx, &peoplev1.GetCutsRequest{PersonIds: people})
	if err != nil {
		return fmt.Errorf("ask for cuts: %w", err)
	}
	for {
		page, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive cuts: %w", err)
		}
		if err := w.noteKey(ctx, page.GetPublicKey()); err != nil {
			return err
		}
		cuts := make([]store.Cut, len(page.GetCuts()))
		for i, c := range page.GetCuts() {
			cuts[i] = store.Cut{Person: c.GetPersonId(), Version: int64(c.GetPersonVersion()), Stands: c.GetCut(), At: c.GetAt().AsTime()} //nolint:gosec // a counter
		}
		if err := take(cuts); err != nil {
			return err
		}
	}
}

// noteKey keeps the key that ingest signs with, which it gives with its first page.
func (w *Worker) noteKey(ctx context.Context, key []byte) error {
	known, err := w.deps.Store.CutKey(ctx)
	if err != nil || len(key) == 0 || bytes.Equal(known, key) {
		return err
	}
	return w.deps.Store.InTx(ctx, func(tx store.Tx) error { return tx.PutCutKey(ctx, key) })
}

// noteCuts stores what is news, and has the targets of these people looked at.
func (w *Worker) noteCuts(ctx context.Context, cuts []store.Cut) error {
	people := make([]string, len(cuts))
	for i, c := range cuts {
		people[i] = c.Person
	}
	known, err := w.deps.Store.Cuts(ctx, people)
	if err != nil {
		return err
	}
	cuts = slices.DeleteFunc(cuts, func(c store.Cut) bool { return c.Version <= known[c.Person].Version })
	if len(cuts) == 0 {
		return nil
	}
	slices.SortFunc(cuts, func(a, b store.Cut) int { return strings.Compare(a.Person, b.Person) })
	err = w.deps.Store.InTx(ctx, func(tx store.Tx) error {
		_, err := tx.PutCuts(ctx, cuts, urgent, normal, w.deps.Now())
		return err
	})
	if err != nil {
		return err
	}
	w.ring()
	return nil
}

// repairCuts compares all cuts with ingest's: at start, at intervals, and whenever the stream is a new one. So a lost event
// is found, and the key is at hand when ingest is not.
func (w *Worker) repairCuts(ctx context.Context) error {
	return w.often(ctx, w.cutsNow, func(ctx context.Context) bool {
		err := w.compareCuts(ctx)
		if err != nil && ctx.Err() == nil {
			w.log.Warn("cuts not compared", zap.Error(err))
		}
		return err == nil
	})
}

func (w *Worker) compareCuts(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timing.Request)
	defer cancel()
	return w.receiveCuts(ctx, nil, func(page []store.Cut) error { return w.noteCuts(ctx, page) })
}

// waitsForPolicy says that what is desired of a claimed target is asked for first. Of who is cut nothing is, so policy
// is asked only after what it announced and is not settled: a new account, or another run of employment.
func waitsForPolicy(c store.Claimed) bool {
	return !c.Cut.Stands || c.Generation > c.SettledGeneration
}

// underCut is what is desired of a person who is cut. Policy's word, nil where it did not answer, tells no more than which
// accounts there may be.
func underCut(d *accessv1.Desired, c store.Claimed) (out *accessv1.Desired, blind bool) {
	if d == nil || int64(d.GetGeneration()) < c.Generation { //nolint:gosec // a counter
		blind = waitsForPolicy(c)
		d = &accessv1.Desired{
			PersonId: c.Person, Generation: uint64(c.Generation), Decision: c.Record.Decision, PersonVersion: uint64(c.PersonVersion), //nolint:gosec // counters
			ModelSeq: uint64(c.ModelSeq), Employment: c.Record.Run, //nolint:gosec // a counter
		}
		if !c.EndedAt.IsZero() {
			d.EndedAt, d.EndKnownAt = timestamppb.New(c.EndedAt), timestamppb.New(c.EndKnownAt)
		}
	}
	out = proto.CloneOf(d)
	if d.GetPersonVersion() < uint64(c.Cut.Version) { //nolint:gosec // a counter
		out.EventId, out.CorrelationId = c.Cut.Event, c.Cut.Correlation
	}
	ruled := planCut(c.Cut).Under(desiredOf(d))
	out.State, out.Entitlements, out.Account = eventv1.AccessState(ruled.State), ruled.Entitlements, ruled.Attributes //nolint:gosec // the numbers are the same
	out.PersonVersion, out.Release = ruled.PersonVersion, ruled.Release
	for _, clock := range []**timestamppb.Timestamp{&out.EndedAt, &out.EndKnownAt} {
		if *clock == nil || c.Cut.At.Before((*clock).AsTime()) {
			*clock = timestamppb.New(c.Cut.At)
		}
	}
	return out, blind
}

// planCut is a cut in the plan's words.
func planCut(c store.Cut) plan.Cut {
	return plan.Cut{Version: uint64(c.Version), Stands: c.Stands, At: c.At} //nolint:gosec // a counter
}

// desiredAgain is what is desired of one target that had to wait after it was claimed, and where the person stands with
// cuts by now.
func (w *Worker) desiredAgain(ctx context.Context, c *store.Claimed) (*accessv1.Desired, error) {
	cuts, err := w.deps.Store.Cuts(ctx, []string{c.Person})
	if err != nil {
		return nil, err
	}
	c.Cut = cuts[c.Person]
	desired, err := w.desired(ctx, []store.Claimed{*c})
	if err != nil && !c.Cut.Stands {
		return nil, err
	}
	return desired[c.Person], nil
}

// postpone ends the work until policy may have said more. The application is not what keeps it, so it does not become
// stuck by that.
func (k *task) postpone(ctx context.Context, reason string) {
	k.t.Attempts++
	k.log.Info("waits for policy", zap.String(telemetry.FieldPerson, k.t.Person), zap.String("reason", reason))
	k.waitFor(ctx, k.deps.Now().Add(k.delay()), connectorv1.Code_CODE_INCONSISTENT, reason)
}
