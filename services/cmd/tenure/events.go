package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/fault"
	auditv1 "github.com/tenurehq/tenure/proto/gen/tenure/audit/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

func newEvents(c *client) *cobra.Command {
	return group("events", "The stream, decoded; and what could not be read", newEventsTail(c), newEventsParked(c))
}

func newEventsTail(c *client) *cobra.Command {
	req := &auditv1.EntriesRequest{}
	var since time.Duration
	var once bool
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Events as they are recorded, from now on or from a while ago",
		Example: `  tenure events tail
  tenure events tail --kind leaver --since 1h
  tenure events tail --app code --since 24h --no-follow -o json`,
		Args: cobra.NoArgs,
		RunE: c.run(func(s *session) error {
			if err := checkKind(req.GetKind()); err != nil {
				return err
			}
			req.Follow = !once
			now := time.Now()
			req.Since = timestamppb.New(now.Add(-since))
			stream, err := s.audit.Entries(s.ctx, req)
			if err != nil {
				return err
			}
			err = each(stream, func(m *auditv1.EntriesResponse) error { return printEntries(s.out, m.GetEntries()) })
			if errors.Is(s.ctx.Err(), context.Canceled) {
				return nil // the user has seen enough
			}
			return err
		}),
	}
	cmd.Flags().StringVar(&req.Kind, "kind", "", "only this lifecycle kind (leaver, joiner, …) or fact (access, intent, outcome, …)")
	cmd.Flags().StringVar(&req.Application, "app", "", "only of this application")
	cmd.Flags().DurationVar(&since, "since", 0, "from this long ago on, e.g. 1h; default: from now on")
	cmd.Flags().BoolVar(&once, "no-follow", false, "stop at the newest")
	return cmd
}

// facts are the kinds of event besides those of lifecycle events, as subjects have them.
var facts = []string{"lifecycle", "access", "intent", "outcome", "finding", "model", "delivery", "hold", "operator", "checkpoint"}

// checkKind refuses a kind that no event ever has: whoever waits for a misspelt one sees nothing, and takes it for good news.
func checkKind(kind string) error {
	if kind == "" || slices.Contains(facts, kind) {
		return nil
	}
	var kinds []string
	for n := range int32(len(eventv1.LifecycleKind_name)) { //nolint:gosec // a dozen
		if name := short(eventv1.LifecycleKind(n), "LIFECYCLE_KIND_"); name != "" {
			kinds = append(kinds, name)
		}
	}
	if slices.Contains(kinds, kind) {
		return nil
	}
	return fault.New(fault.Usage, "--kind %s: %s; or a fact: %s", kind, strings.Join(kinds, ", "), strings.Join(facts, ", "))
}

// printEntries prints log entries: JSON lines for machines, one line each for people.
func printEntries(out *printer, entries []*auditv1.Entry) error {
	for _, e := range entries {
		if done, err := out.message(e); done {
			if err != nil {
				return err
			}
			continue
		}
		if e.GetUndecoded() != "" {
			out.line("%8d  %s  undecodable, sha256 %s", e.GetIndex(), when(e.GetRecordedAt()), e.GetUndecoded())
			continue
		}
		ev := e.GetEvent()
		out.line("%8d  %s  %-18s  %s", e.GetIndex(), when(ev.GetTime()), fmt.Sprintf("%s/%d", ev.GetOrigin(), ev.GetSeq()), clean(factText(ev)))
	}
	return nil
}

// factText is one event in words. Facts hold ids and codes only, so nothing in it is personal.
func factText(ev *eventv1.Event) string {
	fact, err := bus.FromProto(ev).Decode()
	if err != nil {
		return ev.GetSubject()
	}
	switch f := fact.(type) {
	case *eventv1.Lifecycle:
		return fmt.Sprintf("%s %s v%d [%s] by %s", short(f.GetKind(), "LIFECYCLE_KIND_"), f.GetPersonId(), f.GetPersonVersion(), strings.Join(f.GetChanged(), " "), f.GetActor())
	case *eventv1.Access:
		return fmt.Sprintf("access %s %s: %s +%d -%d, generation %d", f.GetPersonId(), f.GetApplication(), short(f.GetState(), "ACCESS_STATE_"), f.GetAdded(), f.GetRemoved(), f.GetGeneration())
	case *eventv1.Intent:
		ops := make([]string, 0, len(f.GetOps()))
		for _, op := range f.GetOps() {
			ops = append(ops, short(op, "OP_"))
		}
		return fmt.Sprintf("intent %s %s: %s", f.GetPersonId(), f.GetApplication(), strings.Join(ops, " "))
	case *eventv1.Outcome:
		return fmt.Sprintf("outcome %s %s: %s, seen %s", f.GetPersonId(), f.GetApplication(), short(f.GetState(), "OUTCOME_STATE_"), short(f.GetObserved(), "ACCESS_STATE_"))
	case *eventv1.Finding:
		return fmt.Sprintf("finding %s %s: %s %s", f.GetPersonId(), f.GetApplication(), short(f.GetKind(), "FINDING_KIND_"), f.GetProblem())
	case *eventv1.ModelApplied:
		return fmt.Sprintf("model %d applied by %s: %d gain, %d lose", f.GetModelSeq(), f.GetActor(), f.GetPeopleGaining(), f.GetPeopleLosing())
	case *eventv1.Hold:
		if f.GetPersonId() != "" {
			return strings.TrimSpace(fmt.Sprintf("hold %s %s: %s %s", f.GetHoldId(), short(f.GetState(), "HOLD_STATE_"), f.GetPersonId(), f.GetApplication()))
		}
		return fmt.Sprintf("hold %s %s by %s: %d people", f.GetHoldId(), short(f.GetState(), "HOLD_STATE_"), f.GetActor(), f.GetPeople())
	case *eventv1.DeliveryHeld:
		return fmt.Sprintf("delivery %s of %s: %d held", f.GetDeliveryId(), f.GetSource(), f.GetItemsHeld())
	case *eventv1.OperatorAction:
		return fmt.Sprintf("%s: %s %s", f.GetActor(), f.GetAction(), f.GetObject())
	case *eventv1.CheckpointSigned:
		return fmt.Sprintf("checkpoint %d", f.GetSize())
	}
	return ev.GetSubject()
}

func newEventsParked(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "parked", Short: "Events that a service could not handle and set aside", Example: "  tenure events parked", Args: cobra.NoArgs,
		RunE: c.run(func(s *session) error {
			var parked []*eventv1.ParkedResponse
			for _, peer := range []string{"ingest", "policy", "provision", "audit"} {
				stream, err := s.events.Parked(metadata.AppendToOutgoingContext(s.ctx, "tenure-peer", peer), &eventv1.ParkedRequest{})
				if err != nil {
					return err
				}
				err = each(stream, func(m *eventv1.ParkedResponse) error { parked = append(parked, m); return nil })
				if err != nil {
					return fault.Wrap(fault.KindOf(err), fmt.Errorf("ask %s: %w", peer, err))
				}
			}
			if s.out.json {
				return s.out.document(many("parked", parked))
			}
			if len(parked) == 0 {
				s.out.line("nothing is parked")
				return nil
			}
			rows := make([][]string, 0, len(parked))
			for _, p := range parked {
				rows = append(rows, []string{p.GetConsumer(), p.GetEvent().GetId(), p.GetEvent().GetSubject(), when(p.GetParkedAt()), p.GetError()})
			}
			return s.out.table([]string{"CONSUMER", "EVENT", "SUBJECT", "PARKED", "WHY"}, rows)
		}),
	}
}
