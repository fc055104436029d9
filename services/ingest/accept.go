package ingest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/telemetry"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/ingest/internal/store"
	"github.com/tenurehq/tenure/services/ingest/mapping"
	"github.com/tenurehq/tenure/services/ingest/source"
)

// heldReused is why another body under a key that was used is kept for review.
const heldReused = "id reused with another body"

// reading is a body taken apart: every item is a fact or held.
type reading struct {
	items int
	facts []store.Fact
	held  []store.HeldItem
	whole string // why the whole delivery is kept for review; empty: it is not
	batch bool   // it is answered per item
	part  *part  // nil: not a part of a roster
}

// read takes a body apart. An error is a *source.Error: the body is refused. sent stands where the body does not say
// when it was made.
func (f *feed) read(body []byte, sent time.Time) (reading, error) {
	envelope, err := source.Parse(body, f.form)
	if err != nil {
		return reading{}, err
	}
	r := reading{
		items: len(envelope.Items),
		whole: clean(envelope.Held),
		batch: envelope.Type == source.TypeBatch || len(envelope.Items) > 1,
	}
	made := envelope.Timestamp
	if made.IsZero() {
		made = sent
	}
	if envelope.Roster != nil {
		r.part = newPart(envelope, made)
	}
	event := mapping.Event{Type: envelope.Type, Timestamp: made}
	for n, item := range envelope.Items {
		fact, err := f.mapping.Read(item, event)
		var held *mapping.Held
		switch {
		case r.whole != "":
			r.held = append(r.held, store.HeldItem{N: n, ExternalID: clean(fact.Employment.ExternalID), Held: r.whole})
		case errors.As(err, &held):
			r.held = append(r.held, store.HeldItem{N: n, ExternalID: clean(fact.Employment.ExternalID), Held: clean(held.Reason)})
		case err != nil:
			return reading{}, fmt.Errorf("read item %d: %w", n, err)
		default:
			fact.Item = uint32(n)
			fact.Employment.Source = f.Name
			r.facts = append(r.facts, store.Fact{Fact: fact})
		}
	}
	if r.whole == "" && !r.batch && len(r.held) == 1 {
		r.whole = r.held[0].Held
	}
	return r, nil
}

// clean makes text storable everywhere: no NUL, valid UTF-8.
func clean(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

// outcome is what became of a delivery.
type outcome struct {
	id        string
	held      string
	items     []store.Item
	duplicate bool
	itemsHeld int
}

// newDelivery is what a source's or an operator's body is stored as.
func newDelivery(source, key, actor string, body []byte, sent, received time.Time) store.Delivery {
	sum := sha256.Sum256(body)
	return store.Delivery{
		ID: newID(), Source: source, Key: key, SHA256: sum[:], Body: body, SourceTime: sent, ReceivedAt: received, Actor: actor,
	}
}

// accept stores a delivery with all that it means, in one transaction, or finds what became of it before. What it
// returns without error is durable. One of a single fact, as most are, may share the transaction.
func (s *Service) accept(ctx context.Context, f *feed, d store.Delivery, r reading) (out outcome, err error) {
	if r.single() {
		switch stored, err := s.together(ctx, f, newArrival(ctx, d, r)); {
		case err != nil:
			return outcome{}, err
		case stored:
			return outcome{id: d.ID, items: r.results()}, nil
		}
	}
	err = s.store.InTx(ctx, func(tx store.Tx) (err error) {
		out, err = s.acceptIn(ctx, tx, d, r)
		return err
	})
	return out, err
}

// acceptIn is accept of any delivery, inside a transaction.
func (s *Service) acceptIn(ctx context.Context, tx store.Tx, d store.Delivery, r reading) (outcome, error) {
	d.Held, d.Items, d.ItemsHeld = r.whole, r.items, len(r.held)
	added, err := tx.AddDelivery(ctx, d)
	if err != nil {
		return outcome{}, err
	}
	if !added {
		prior, err := priorOf(ctx, tx, d)
		if err != nil {
			return outcome{}, err
		}
		if prior.ID != "" && r.part != nil && prior.Held == "" {
			return outcome{id: prior.ID, items: r.results(), duplicate: true, itemsHeld: prior.ItemsHeld}, nil
		}
		if prior.ID != "" {
			return recall(ctx, tx, prior)
		}
		d.Variant, d.Held, d.ItemsHeld = hex.EncodeToString(d.SHA256), heldReused, r.items
		r = r.holdAll(heldReused)
		if added, err = tx.AddDelivery(ctx, d); err != nil {
			return outcome{}, err
		}
		if !added { // somebody sent this other body at the same time
			prior, found, err := tx.DeliveryByKey(ctx, d.Source, d.Key, d.Variant)
			if err != nil || !found {
				return outcome{}, cmp.Or(err, errors.New("a delivery that is there cannot be read"))
			}
			return recall(ctx, tx, prior)
		}
	}
	cause := causeOf(ctx, d)
	if r.part != nil && d.Held == "" {
		return s.keep(ctx, tx, d, r, cause)
	}
	if err := s.hold(ctx, tx, d, r.held, cause); err != nil {
		return outcome{}, err
	}
	if err := s.understand(ctx, tx, d, r.facts, cause); err != nil {
		return outcome{}, err
	}
	return outcome{id: d.ID, held: d.Held, items: r.results(), itemsHeld: d.ItemsHeld}, nil
}

// priorOf finds the delivery that d repeats; its ID is empty when the key was used for another body only.
func priorOf(ctx context.Context, tx store.Tx, d store.Delivery) (store.Delivery, error) {
	for _, variant := range []string{"", hex.EncodeToString(d.SHA256)} {
		prior, found, err := tx.DeliveryByKey(ctx, d.Source, d.Key, variant)
		if err != nil {
			return store.Delivery{}, err
		}
		if found && bytes.Equal(prior.SHA256, d.SHA256) {
			return prior, nil
		}
	}
	return store.Delivery{}, nil
}

// recall is the answer that a delivery has now.
func recall(ctx context.Context, tx store.Tx, prior store.Delivery) (outcome, error) {
	items, err := tx.Items(ctx, prior.ID)
	if err != nil {
		return outcome{}, err
	}
	return outcome{id: prior.ID, held: prior.Held, items: items, duplicate: true, itemsHeld: prior.ItemsHeld}, nil
}

// hold stores what is kept for review of a new delivery, and says so once.
func (s *Service) hold(ctx context.Context, tx store.Tx, d store.Delivery, items []store.HeldItem, cause bus.Cause) error {
	if d.Held == "" && len(items) == 0 {
		return nil
	}
	if err := tx.AddHeldItems(ctx, d.ID, items); err != nil {
		return err
	}
	event := bus.NewEvent(bus.DeliveryHeld, &eventv1.DeliveryHeld{
		DeliveryId: d.ID, Source: d.Source, ItemsHeld: count32(len(items)),
	}, cause)
	return s.outbox.Add(ctx, tx.Tx, eventv1.Lane_LANE_NORMAL, event)
}

// understand takes in the facts of a delivery and sets their Person.
func (s *Service) understand(ctx context.Context, tx store.Tx, d store.Delivery, facts []store.Fact, cause bus.Cause) error {
	if len(facts) == 0 {
		return nil
	}
	now := s.now()
	attribute(d, facts, now)
	people, err := s.open(ctx, tx, d.Source, facts)
	if err != nil {
		return err
	}
	return s.settle(ctx, tx, people, facts, because(cause), now)
}

// causeOf is what a delivery is to the events that it brings.
func causeOf(ctx context.Context, d store.Delivery) bus.Cause {
	return bus.Cause{CorrelationID: d.ID, TraceParent: telemetry.TraceParent(ctx)}
}

// attribute says of facts whose word they are and since when it is known.
func attribute(d store.Delivery, facts []store.Fact, now time.Time) {
	key := d.Key
	if d.Variant != "" {
		key += "#" + d.Variant // another body is another word
	}
	for i := range facts {
		facts[i].Source, facts[i].Key, facts[i].DeliveryID, facts[i].Actor, facts[i].Known = d.Source, key, d.ID, d.Actor, now
	}
}

// single tells whether a reading is of one fact and nothing else.
func (r reading) single() bool {
	return r.part == nil && r.whole == "" && len(r.held) == 0 && len(r.facts) == 1
}

// results is what became of each item, in order.
func (r reading) results() []store.Item {
	items := make([]store.Item, 0, r.items)
	for _, f := range r.facts {
		items = append(items, store.Item{N: int(f.Item), ExternalID: f.Employment.ExternalID, Person: f.Person})
	}
	for _, h := range r.held {
		items = append(items, store.Item{N: h.N, ExternalID: h.ExternalID, Held: h.Held})
	}
	slices.SortFunc(items, func(a, b store.Item) int { return cmp.Compare(a.N, b.N) })
	return items
}

// holdAll is the reading with nothing understood.
func (r reading) holdAll(why string) reading {
	all := make([]store.HeldItem, 0, r.items)
	for _, item := range r.results() {
		all = append(all, store.HeldItem{N: item.N, ExternalID: item.ExternalID, Held: why})
	}
	r.facts, r.held, r.whole = nil, all, why
	return r
}
