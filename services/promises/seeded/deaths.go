package seeded

import "regexp"

// OfDeaths are bugs that show when a process dies at one point: without the death nobody would see them.
func OfDeaths() []Bug {
	at := func(name, test, within, point, source string, edits ...Edit) Bug {
		return Bug{
			Name: name, Promise: "P1", Package: "services/e2e", Test: test, Tags: "crashpoints",
			Within: within + "/dies/^" + regexp.QuoteMeta(point) + "$", Source: source, Edits: edits,
		}
	}
	bug := func(name, point, source string, edits ...Edit) Bug {
		return at(name, "TestWhereverAProcessDiesTheEndIsTheSame", "/sqlite", point, source, edits...)
	}
	ofReplicas := func(name, point, source string, edits ...Edit) Bug {
		return at(name, "TestWhereverAReplicaDiesTheEndIsTheSame", "", point, source, edits...)
	}
	const worker = "services/provision/internal/worker"
	abandoned := Edit{"task.go", `if c.Abandoned || c.Pending != "" {`, `if c.Pending != "" {`}
	return []Bug{
		bug("a webhook is answered before it is stored", "ingest_ingest.(*Service).acceptTogether:_before_commit#1", "services/ingest",
			Edit{"http.go", "out, err := s.accept(ctx, feed, delivery, read)", `out := outcome{id: delivery.ID}
	go func() { _, _ = s.accept(context.WithoutCancel(ctx), feed, delivery, read) }()`}),
		bug("what is numbered is not kept", "ingest_outbox.(*sender).publish:_before_publishing#1", "pkg/outbox",
			Edit{
				"store.go", "INSERT INTO outbox_sent (first_seq, last_seq, lane, created_at, events) VALUES ($1, $2, $3, $4, $5)`",
				"INSERT INTO outbox_sent (first_seq, last_seq, lane, created_at, events) SELECT $1, $2, $3, $4, $5 WHERE 1 = 0`",
			}),
		bug("nobody takes up what a dead worker began", "wiki_worker.(*application).apply:_after_the_calls#1", worker, abandoned),
		ofReplicas("no other replica takes up what a dead worker began", "wiki_worker.(*application).apply:_after_the_calls#1", worker, abandoned),
	}
}
