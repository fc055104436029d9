package store

import (
	"context"
	"fmt"
	"time"

	"github.com/tenurehq/tenure/pkg/sqldb"
)

// Delivery is one thing a source or an operator sent.
type Delivery struct {
	ID         string
	Source     string
	Key        string // the sender's identity of it, unique in the source
	Variant    string // empty for the first body under Key, else SHA256 in hex
	SHA256     []byte // of Body
	Body       []byte // nil once raw_retention has passed; empty in lists
	Headers    []byte // "name: value" lines
	SourceTime time.Time
	ReceivedAt time.Time
	Actor      string // source:<name> or operator:<name>
	Held       string // why the whole of it is kept for review
	Items      int
	ItemsHeld  int
}

// HeldItem is one item of a delivery that is kept for review.
type HeldItem struct {
	N          int
	ExternalID string // as far as it could be read
	Held       string // why
}

// Item is what became of one item of a delivery: understood when Held is empty.
type Item struct {
	N          int
	ExternalID string
	Person     string // empty while held
	Held       string
}

// AddDelivery stores d unless there is one with the same source, key and variant already; added says which.
func (t Tx) AddDelivery(ctx context.Context, d Delivery) (added bool, err error) {
	all, err := t.AddDeliveries(ctx, []Delivery{d})
	return all[d.ID], err
}

// AddDeliveries is AddDelivery of several, and returns the ids of those that were added.
func (t Tx) AddDeliveries(ctx context.Context, deliveries []Delivery) (map[string]bool, error) {
	const columns = 13
	args := make([]any, 0, columns*len(deliveries))
	for _, d := range deliveries {
		args = append(args, d.ID, d.Source, d.Key, d.Variant, d.SHA256, d.Body, d.Headers,
			sqldb.Micros(d.SourceTime), sqldb.Micros(d.ReceivedAt), d.Actor, d.Held, d.Items, d.ItemsHeld)
	}
	insert := `INSERT INTO deliveries (id, source, key, variant, body_sha256, body, headers, source_time, received_at, actor,
held, items, items_held) VALUES ` + sqldb.Values(len(deliveries), columns) + ` ON CONFLICT (source, key, variant) DO NOTHING RETURNING id`
	rows, err := t.Query(ctx, insert, args...)
	ids, err := sqldb.Collect(rows, err, scanString)
	if err != nil {
		return nil, fmt.Errorf("insert deliveries: %w", err)
	}
	added := make(map[string]bool, len(ids))
	for _, id := range ids {
		added[id] = true
	}
	return added, nil
}

const deliveryColumns = `id, source, key, variant, body_sha256, source_time, received_at, actor, held, items, items_held`

func scanDelivery(scan func(...any) error) (Delivery, error) {
	var d Delivery
	var sourceTime, receivedAt int64
	err := scan(&d.ID, &d.Source, &d.Key, &d.Variant, &d.SHA256, &sourceTime, &receivedAt, &d.Actor,
		&d.Held, &d.Items, &d.ItemsHeld)
	d.SourceTime, d.ReceivedAt = sqldb.Time(sourceTime), sqldb.Time(receivedAt)
	return d, err
}

// DeliveryByKey returns a delivery without its body.
func (r reader) DeliveryByKey(ctx context.Context, source, key, variant string) (d Delivery, found bool, err error) {
	const query = `SELECT ` + deliveryColumns + ` FROM deliveries WHERE source = $1 AND key = $2 AND variant = $3`
	d, err = scanDelivery(r.q.QueryRow(ctx, query, source, key, variant).Scan)
	found, err = one(err, "read delivery by key")
	return d, found, err
}

// Delivery returns a delivery with its body.
func (r reader) Delivery(ctx context.Context, id string) (d Delivery, found bool, err error) {
	const query = `SELECT ` + deliveryColumns + `, body FROM deliveries WHERE id = $1`
	row := r.q.QueryRow(ctx, query, id)
	var body []byte
	d, err = scanDelivery(func(into ...any) error { return row.Scan(append(into, &body)...) })
	d.Body = body
	found, err = one(err, "read delivery")
	return d, found, err
}

// LockDelivery takes the delivery's row until the transaction ends, so that of two replays one waits for the other.
func (t Tx) LockDelivery(ctx context.Context, id string) (d Delivery, found bool, err error) {
	if err := t.Queue(ctx, `UPDATE deliveries SET items = items WHERE id = $1`, id); err != nil {
		return Delivery{}, false, fmt.Errorf("lock delivery: %w", err)
	}
	return t.Delivery(ctx, id)
}

// Settle says what is still held of a delivery after a replay.
func (t Tx) Settle(ctx context.Context, id, held string, items int, still []HeldItem) error {
	const update = `UPDATE deliveries SET held = $2, items = $3, items_held = $4 WHERE id = $1`
	if err := t.Queue(ctx, update, id, held, items, len(still)); err != nil {
		return fmt.Errorf("settle delivery: %w", err)
	}
	if err := t.Queue(ctx, `DELETE FROM items WHERE delivery = $1`, id); err != nil {
		return fmt.Errorf("forget held items: %w", err)
	}
	return t.AddHeldItems(ctx, id, still)
}

// AddHeldItems stores the items of a delivery that are kept for review.
func (t Tx) AddHeldItems(ctx context.Context, delivery string, items []HeldItem) error {
	if len(items) == 0 {
		return nil
	}
	args := make([]any, 0, 4*len(items))
	for _, item := range items {
		args = append(args, delivery, item.N, item.ExternalID, item.Held)
	}
	insert := `INSERT INTO items (delivery, n, external_id, held) VALUES ` + sqldb.Values(len(items), 4)
	if err := t.Queue(ctx, insert, args...); err != nil {
		return fmt.Errorf("insert held items: %w", err)
	}
	return nil
}

// Items returns what became of a delivery's items, in order. An item is missing while the delivery is held whole and
// could not be taken apart.
func (r reader) Items(ctx context.Context, delivery string) ([]Item, error) {
	const query = `
SELECT item, external_id, person, '' FROM facts WHERE delivery = $1
UNION ALL
SELECT n, external_id, '', held FROM items WHERE delivery = $1
ORDER BY 1`
	rows, err := r.q.Query(ctx, query, delivery)
	items, err := sqldb.Collect(rows, err, func(scan func(...any) error) (Item, error) {
		var item Item
		err := scan(&item.N, &item.ExternalID, &item.Person, &item.Held)
		return item, err
	})
	if err != nil {
		return nil, fmt.Errorf("read items: %w", err)
	}
	return items, nil
}

// DeliveryFilter selects deliveries.
type DeliveryFilter struct {
	Source   string // empty: all
	HeldOnly bool
	Before   string // only ids less than this one; empty: from the newest on
	Limit    int
}

// Deliveries lists deliveries, newest first, without bodies.
func (r reader) Deliveries(ctx context.Context, f DeliveryFilter) ([]Delivery, error) {
	query, args := `SELECT `+deliveryColumns+` FROM deliveries WHERE id < $1`, []any{f.Before}
	if f.Before == "" {
		args[0] = "g" // greater than every id, which is hexadecimal
	}
	if f.HeldOnly {
		query += ` AND (held <> '' OR items_held > 0)`
	}
	if f.Source != "" {
		args = append(args, f.Source)
		query += ` AND source = $2`
	}
	args = append(args, f.Limit)
	query += fmt.Sprintf(` ORDER BY id DESC LIMIT $%d`, len(args))
	rows, err := r.q.Query(ctx, query, args...)
	deliveries, err := sqldb.Collect(rows, err, scanDelivery)
	if err != nil {
		return nil, fmt.Errorf("list deliveries: %w", err)
	}
	return deliveries, nil
}

// DropRaw forgets body and headers of up to limit deliveries of a source that were received before, and returns how
// many. What is held is kept, and what is not taken in yet: nothing else knows what it said.
func (t Tx) DropRaw(ctx context.Context, source string, before time.Time, limit int) (int, error) {
	const query = `
SELECT id FROM deliveries
WHERE source = $1 AND received_at < $2 AND body IS NOT NULL AND held = '' AND items_held = 0
  AND NOT EXISTS (SELECT 1 FROM roster_parts p JOIN rosters r ON r.source = p.source AND r.id = p.roster
                  WHERE p.delivery = deliveries.id AND r.state IN ('receiving', 'whole', 'held', 'taking'))
ORDER BY received_at LIMIT $3`
	rows, err := t.Query(ctx, query, source, sqldb.Micros(before), limit)
	ids, err := sqldb.Collect(rows, err, func(scan func(...any) error) (string, error) {
		var id string
		err := scan(&id)
		return id, err
	})
	if err != nil {
		return 0, fmt.Errorf("find raw bodies to drop: %w", err)
	}
	if len(ids) == 0 {
		return 0, nil
	}
	// The ids are listed first: a sub-select with LIMIT in the UPDATE is planned badly on a large table.
	update := `UPDATE deliveries SET body = NULL, headers = NULL WHERE id IN ` + sqldb.Values(1, len(ids))
	if err := t.Queue(ctx, update, anyOf(ids)...); err != nil {
		return 0, fmt.Errorf("drop raw bodies: %w", err)
	}
	return len(ids), nil
}
