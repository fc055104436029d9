package audit_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"golang.org/x/mod/sumdb/note"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/bus/bustest"
	"github.com/tenurehq/tenure/pkg/outbox"
	"github.com/tenurehq/tenure/pkg/rpc"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	auditv1 "github.com/tenurehq/tenure/proto/gen/tenure/audit/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/audit"
	"github.com/tenurehq/tenure/services/audit/evidence"
)

// world is an audit service at work, and a bus to give it events.
type world struct {
	t       *testing.T
	bus     *bus.Bus
	db      *sqldb.DB
	service *audit.Service
	client  auditv1.AuditServiceClient
	stop    func()
}

// start runs audit over db; logs answers for the origins.
func start(t *testing.T, db *sqldb.DB, b *bus.Bus, logs map[string]eventv1.EventLogServer) *world {
	t.Helper()
	return startAll(t, db, b, logs, filepath.Join(t.TempDir(), "audit.key"))
}

func startWith(t *testing.T, db *sqldb.DB, b *bus.Bus, key string) *world {
	t.Helper()
	return startAll(t, db, b, nil, key)
}

func startAll(t *testing.T, db *sqldb.DB, b *bus.Bus, logs map[string]eventv1.EventLogServer, key string) *world {
	t.Helper()
	log := zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel))
	origins := map[string]eventv1.EventLogClient{}
	for origin, server := range logs {
		origins[origin] = eventv1.NewEventLogClient(local(t, log, "audit", func(r grpc.ServiceRegistrar) { eventv1.RegisterEventLogServer(r, server) }))
	}
	service, err := audit.New(
		audit.Config{KeyFile: key, CheckpointEvery: time.Second},
		audit.Deps{DB: db, Bus: b, Origins: origins, Log: log, Registry: prometheus.NewRegistry(), Now: time.Now},
	)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, bus: b, db: db, service: service, client: auditv1.NewAuditServiceClient(local(t, log, "ingest", service.Register))}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- service.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("audit ended: %v", err)
		}
	})
	t.Cleanup(w.stop)
	return w
}

func local(t *testing.T, log *zap.Logger, as string, register func(grpc.ServiceRegistrar)) *grpc.ClientConn {
	t.Helper()
	server := rpc.NewLocal(log, register)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx) }()
	conn, err := server.Dial(as)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return conn
}

// eventually asks until it is so, for a while.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-tick.C {
		if so() {
			return
		}
	}
	t.Fatalf("it did not come to be: %s", what)
}

func (w *world) recorded(origin string) uint64 {
	w.t.Helper()
	answer, err := w.client.Recorded(w.t.Context(), &auditv1.RecordedRequest{Origin: origin})
	if err != nil {
		w.t.Fatal(err)
	}
	return answer.GetSeq()
}

// verify exports the whole log and verifies it.
func (w *world) verify() (evidence.Report, error) {
	export := &exported{ctx: w.t.Context()}
	if err := w.service.Export(&auditv1.ExportRequest{}, export); err != nil {
		return evidence.Report{}, err
	}
	var v *evidence.Verifier
	var notes []string
	var err error
	for _, msg := range export.messages {
		notes = append(notes, msg.GetCheckpoints()...)
		if len(msg.GetLeaves()) > 0 && v == nil {
			if v, err = evidence.NewVerifier(w.service.VerifierKey(), notes...); err != nil {
				return evidence.Report{}, err
			}
		}
		for _, leaf := range msg.GetLeaves() {
			if err := v.Leaf(leaf.GetIndex(), leaf.GetData()); err != nil {
				return evidence.Report{}, err
			}
		}
		for _, hash := range msg.GetHashes() {
			if err := v.Hash(hash.GetIndex(), hash.GetHash()); err != nil {
				return evidence.Report{}, err
			}
		}
	}
	return v.Report()
}

// exported is the server's side of an export, gathered.
type exported struct {
	grpc.ServerStream
	ctx      context.Context
	messages []*auditv1.ExportResponse
}

func (e *exported) Context() context.Context { return e.ctx }

func (e *exported) Send(msg *auditv1.ExportResponse) error {
	e.messages = append(e.messages, msg)
	return nil
}

// event is a fact of an origin as it would come from its relay.
func event(origin string, seq uint64) bus.Event {
	e := bus.NewEvent(bus.OperatorSubject("test"), &eventv1.OperatorAction{Actor: "operator:ada", Action: "test", Object: fmt.Sprint(seq)}, bus.Cause{})
	e.Origin, e.Seq, e.Time = origin, seq, time.Now()
	return e
}

func TestEveryEventIsRecordedOnceAndTheLogVerifies(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, audit.Migrations(), func(t *testing.T, db *sqldb.DB) {
		w := start(t, db, bustest.New(t), nil)
		// A real outbox, as a service has it, which forgets what audit says it has.
		own := sqltest.New(t, "sqlite", outbox.Migrations)
		box, err := outbox.New(outbox.Config{Origin: "ingest"}, outbox.Deps{
			DB: own, Bus: w.bus, Log: zap.NewNop(),
			Recorded: func(ctx context.Context, origin string) (uint64, time.Duration, error) {
				answer, err := w.client.Recorded(ctx, &auditv1.RecordedRequest{Origin: origin})
				return answer.GetSeq(), answer.GetBehind().AsDuration(), err
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- box.Relay(ctx) }()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		for range 30 {
			err := own.InTx(ctx, func(tx *sqldb.Tx) error {
				var events []bus.Event
				for range 10 {
					events = append(events, event("", 0))
				}
				return box.Add(ctx, tx, eventv1.Lane_LANE_NORMAL, events...)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "300 events are recorded", func() bool { return w.recorded("ingest") == 300 })
		// The same events again, as after a relay's crash, change nothing.
		for seq := uint64(1); seq <= 300; seq += 50 {
			if err := w.bus.PublishChunk(ctx, []bus.Event{event("ingest", seq)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.bus.PublishChunk(ctx, []bus.Event{event("policy", 1)}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the last one is recorded", func() bool { return w.recorded("policy") == 1 })
		report, err := w.verify()
		if err != nil {
			t.Fatal(err)
		}
		if report.Origins["ingest"] != 300 || len(report.Missing) > 0 || report.Checkpoints == 0 {
			t.Errorf("report %+v", report)
		}
	})
}

// eventLog answers for an origin with what is in events.
type eventLog struct {
	eventv1.UnimplementedEventLogServer
	events []bus.Event
}

func (l eventLog) Read(req *eventv1.ReadRequest, stream grpc.ServerStreamingServer[eventv1.ReadResponse]) error {
	for _, e := range l.events {
		if e.Origin == req.GetOrigin() && e.Seq >= req.GetFrom() && e.Seq <= req.GetTo() {
			if err := stream.Send(&eventv1.ReadResponse{Events: []*eventv1.Event{e.Proto()}}); err != nil {
				return err
			}
		}
	}
	return nil
}

func TestWhatTheStreamLostIsPulledFromItsOrigin(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, audit.Migrations(), func(t *testing.T, db *sqldb.DB) {
		var events []bus.Event
		for seq := uint64(1); seq <= 12; seq++ {
			events = append(events, event("ingest", seq))
		}
		w := start(t, db, bustest.New(t), map[string]eventv1.EventLogServer{"ingest": eventLog{events: events}})
		// 4 to 6 are a hole; 11 and 12 are lost at the end, where nothing shows that they ever were.
		if err := w.bus.PublishChunk(t.Context(), append(append([]bus.Event{}, events[:3]...), events[6:10]...)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "all twelve are recorded", func() bool { return w.recorded("ingest") == 12 })
		if report, err := w.verify(); err != nil || report.Origins["ingest"] != 12 {
			t.Errorf("report %+v, %v", report, err)
		}
	})
}

func TestAProofIsGoodOffline(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, audit.Migrations(), func(t *testing.T, db *sqldb.DB) {
		w := start(t, db, bustest.New(t), nil)
		var chunk []bus.Event
		for seq := uint64(1); seq <= 40; seq++ {
			chunk = append(chunk, event("policy", seq))
		}
		if err := w.bus.PublishChunk(t.Context(), chunk); err != nil {
			t.Fatal(err)
		}
		eventually(t, "forty are recorded", func() bool { return w.recorded("policy") == 40 })
		answer, err := w.service.Proof(t.Context(), &auditv1.ProofRequest{Index: 17})
		if err != nil {
			t.Fatal(err)
		}
		proof, err := evidence.ParseProof(answer.GetTlogProof())
		if err != nil {
			t.Fatal(err)
		}
		verifier, err := note.NewVerifier(answer.GetVerifierKey())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := proof.Verify(answer.GetLeaf(), verifier); err != nil {
			t.Error(err)
		}
		var leaf eventv1.Event
		if err := proto.Unmarshal(answer.GetLeaf(), &leaf); err != nil || leaf.GetSeq() != 18 {
			t.Errorf("leaf 17 is event %d (%v)", leaf.GetSeq(), err)
		}
		if _, err := w.service.Proof(t.Context(), &auditv1.ProofRequest{Index: 4000}); err == nil {
			t.Error("an entry that is not there was proven")
		}
	})
}

func TestWhatCannotBeDecodedIsRecordedAsItsHashOnly(t *testing.T) {
	t.Parallel()
	db := sqltest.New(t, "sqlite", audit.Migrations()...)
	w := start(t, db, bustest.New(t), nil)
	e := event("ingest", 1)
	e.Data = []byte("CANARY Georgi Facello")
	if err := w.bus.PublishChunk(t.Context(), []bus.Event{e}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is recorded", func() bool { return w.recorded("ingest") == 1 })
	var data []byte
	if err := db.QueryRow(t.Context(), `SELECT data FROM batches WHERE first = 0`).Scan(&data); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte("CANARY")) {
		t.Error("what could not be decoded was kept as it was")
	}
}

func TestAnEditedLogIsNotSignedAnyMore(t *testing.T) {
	t.Parallel()
	for _, edit := range []string{
		`UPDATE hashes SET data = zeroblob(length(data)) WHERE first = 0`,
		`DELETE FROM hashes WHERE first = 0`,
		`UPDATE head SET size = 1`,
	} {
		t.Run(edit, func(t *testing.T) {
			t.Parallel()
			db := sqltest.New(t, "sqlite", audit.Migrations()...)
			w := start(t, db, bustest.New(t), nil)
			for seq := uint64(1); seq <= 3; seq++ {
				if err := w.bus.PublishChunk(t.Context(), []bus.Event{event("ingest", seq)}); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "three are recorded", func() bool { return w.recorded("ingest") == 3 })
			if _, err := w.service.Checkpoint(t.Context(), &auditv1.CheckpointRequest{SignNow: true}); err != nil {
				t.Fatal(err)
			}
			// Whoever has the database file can take the triggers away; the tree still tells.
			for _, text := range []string{`DROP TRIGGER hashes_no_update`, `DROP TRIGGER hashes_no_delete`, edit} {
				err := db.InTx(t.Context(), func(tx *sqldb.Tx) error {
					_, err := tx.Exec(t.Context(), text)
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			if err := w.bus.PublishChunk(t.Context(), []bus.Event{event("ingest", 4)}); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the edit is noticed", func() bool {
				_, err := w.verify()
				return err != nil
			})
		})
	}
}

func TestNobodyTellsInAnothersName(t *testing.T) {
	t.Parallel()
	db := sqltest.New(t, "sqlite", audit.Migrations()...)
	w := start(t, db, bustest.New(t), nil)
	forged := bus.NewEvent(bus.IntentSubject("code", "p1"), &eventv1.Intent{PersonId: "p1"}, bus.Cause{})
	forged.Origin, forged.Seq, forged.Time = "policy", 1, time.Now()
	if err := w.bus.PublishChunk(t.Context(), []bus.Event{forged}); err != nil {
		t.Fatal(err)
	}
	genuine := event("policy", 1)
	if err := w.bus.PublishChunk(t.Context(), []bus.Event{genuine}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "policy's own first event is recorded", func() bool { return w.recorded("policy") == 1 })
	var data []byte
	if err := db.QueryRow(t.Context(), `SELECT data FROM batches WHERE first = 0`).Scan(&data); err != nil {
		t.Fatal(err)
	}
	var leaf eventv1.Event
	if err := proto.Unmarshal(data, &leaf); err != nil || leaf.GetId() != genuine.ID {
		t.Errorf("event %s stands in the log as policy's first, want %s (%v)", leaf.GetId(), genuine.ID, err)
	}
}

func TestALogThatWasEditedBeforeTheStartEndsNoProcess(t *testing.T) {
	t.Parallel()
	db := sqltest.New(t, "sqlite", audit.Migrations()...)
	b := bustest.New(t)
	key := filepath.Join(t.TempDir(), "audit.key")
	first := startWith(t, db, b, key)
	if err := b.PublishChunk(t.Context(), []bus.Event{event("ingest", 1), event("ingest", 2)}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "two are recorded", func() bool { return first.recorded("ingest") == 2 })
	if _, err := first.service.Checkpoint(t.Context(), &auditv1.CheckpointRequest{SignNow: true}); err != nil {
		t.Fatal(err)
	}
	first.stop()
	for _, text := range []string{`DROP TRIGGER hashes_no_update`, `UPDATE hashes SET data = zeroblob(length(data)) WHERE first = 0`} {
		err := db.InTx(t.Context(), func(tx *sqldb.Tx) error {
			_, err := tx.Exec(t.Context(), text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	// start fails the test if Run ends with an error.
	second := startWith(t, db, b, key)
	if _, err := second.verify(); err == nil {
		t.Error("nobody was told of the edit")
	}
	second.stop()
}

func TestEntriesCanBeFollowedAndFiltered(t *testing.T) {
	t.Parallel()
	db := sqltest.New(t, "sqlite", audit.Migrations()...)
	w := start(t, db, bustest.New(t), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	fact := func(seq uint64, kind eventv1.LifecycleKind, lane eventv1.Lane) bus.Event {
		e := bus.NewEvent(bus.LifecycleSubject(lane, kind, "p1"), &eventv1.Lifecycle{PersonId: "p1", Kind: kind}, bus.Cause{})
		e.Origin, e.Seq, e.Time = "ingest", seq, time.Now()
		return e
	}
	got := make(chan string, 10)
	go func() {
		_ = w.service.Entries(&auditv1.EntriesRequest{Follow: true, Kind: "leaver"}, entries{ctx: ctx, got: got}) //nolint:contextcheck // it is the stream's
	}()
	for seq := uint64(1); seq <= 4; seq++ {
		kind, lane := eventv1.LifecycleKind_LIFECYCLE_KIND_MOVER, eventv1.Lane_LANE_NORMAL
		if seq%2 == 0 {
			kind, lane = eventv1.LifecycleKind_LIFECYCLE_KIND_LEAVER, eventv1.Lane_LANE_URGENT
		}
		if err := w.bus.PublishChunk(ctx, []bus.Event{fact(seq, kind, lane)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"2", "4"} {
		select {
		case seq := <-got:
			if seq != want {
				t.Errorf("got event %s, want %s", seq, want)
			}
		case <-ctx.Done():
			t.Fatalf("event %s did not arrive", want)
		}
	}
}

// entries is the server's side of a stream that hands on the numbers of the events it is sent.
type entries struct {
	grpc.ServerStream
	ctx context.Context
	got chan string
}

func (e entries) Context() context.Context { return e.ctx }

func (e entries) Send(answer *auditv1.EntriesResponse) error {
	for _, entry := range answer.GetEntries() {
		e.got <- fmt.Sprint(entry.GetEvent().GetSeq())
	}
	return nil
}
