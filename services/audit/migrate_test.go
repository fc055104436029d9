package audit_test

import (
	"io/fs"
	"math"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/bus/bustest"
	"github.com/tenurehq/tenure/pkg/outbox"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	auditv1 "github.com/tenurehq/tenure/proto/gen/tenure/audit/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/audit"
	"github.com/tenurehq/tenure/services/audit/internal/store"
	"github.com/tenurehq/tenure/services/audit/merkle"
)

// asked is an origin that notes which holes it was asked for, and says nothing of what comes after all.
type asked struct {
	eventLog
	mu    sync.Mutex
	holes [][2]uint64
}

func (a *asked) Read(req *eventv1.ReadRequest, stream grpc.ServerStreamingServer[eventv1.ReadResponse]) error {
	if req.GetTo() == math.MaxInt64 {
		return nil
	}
	a.mu.Lock()
	a.holes = append(a.holes, [2]uint64{req.GetFrom(), req.GetTo()})
	a.mu.Unlock()
	return a.eventLog.Read(req, stream)
}

// oneRowALeaf is what ran before leaves were packed.
func oneRowALeaf(t *testing.T) []sqldb.Migrations {
	t.Helper()
	first, err := fs.ReadFile(store.Migrations().FS, "migrations/0001_create_log.sql")
	if err != nil {
		t.Fatal(err)
	}
	return []sqldb.Migrations{{Name: "audit", FS: fstest.MapFS{"0001_create_log.sql": {Data: first}}}, outbox.Migrations}
}

func TestALogOfOneRowALeafGoesOn(t *testing.T) {
	t.Parallel()
	before := oneRowALeaf(t)
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			var ingest, policy []bus.Event
			for seq := uint64(1); seq <= 10; seq++ {
				ingest, policy = append(ingest, event("ingest", seq)), append(policy, event("policy", seq))
			}
			cfg := sqltest.Config(t, engine, before...)
			old := sqltest.Open(t, cfg, before...)
			// 4, 6 and 7 of ingest are lost, and nothing of policy.
			appendOld(t, old, func() {}, map[string]uint64{"policy": 2, "ingest": 2}, policy[0], ingest[0], policy[1], ingest[1])
			appendOld(t, old, func() {}, map[string]uint64{"ingest": 3}, ingest[2], ingest[4])
			appendOld(t, old, func() {}, map[string]uint64{"policy": 3}, ingest[8], policy[2], ingest[7])
			var n, since int64
			if err := old.QueryRow(t.Context(), `SELECT recorded_at FROM leaves WHERE origin = 'ingest' AND seq = 5`).Scan(&since); err != nil {
				t.Fatal(err)
			}

			db := sqltest.Open(t, cfg, audit.Migrations()...)
			if err := db.QueryRow(t.Context(), `SELECT COUNT(*) FROM leaves`).Scan(&n); err == nil {
				t.Errorf("there are still %d rows of leaves", n)
			}
			origins, err := store.New(db).Origins(t.Context())
			want := map[string]*store.Progress{
				"ingest": {Seq: 3, Later: [][2]uint64{{5, 5}, {8, 8}, {9, 9}}, Since: sqldb.Time(since)},
				"policy": {Seq: 3, Later: [][2]uint64{}},
			}
			if diff := cmp.Diff(want, origins); err != nil || diff != "" {
				t.Fatalf("the origins are not as they were (%v):\n%s", err, diff)
			}

			log := &asked{eventLog: eventLog{events: ingest}}
			w := start(t, db, bustest.New(t), map[string]eventv1.EventLogServer{"ingest": log})
			for _, chunk := range [][]bus.Event{ingest[7:10], policy[3:4]} {
				if err := w.bus.PublishChunk(t.Context(), chunk); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "all is recorded", func() bool { return w.recorded("ingest") == 10 && w.recorded("policy") == 4 })
			report, err := w.verify()
			if err != nil || report.Origins["ingest"] != 10 || report.Origins["policy"] != 4 || len(report.Missing) > 0 {
				t.Errorf("report %+v, %v", report, err)
			}
			log.mu.Lock()
			defer log.mu.Unlock()
			if want := [][2]uint64{{4, 4}, {6, 7}}; !cmp.Equal(log.holes, want) {
				t.Errorf("asked for %v, want %v", log.holes, want)
			}

			// The second batch was recorded when it was.
			got := make(chan string, 20)
			err = w.service.Entries(&auditv1.EntriesRequest{Since: timestamppb.New(sqldb.Time(since)), To: 9}, entries{ctx: t.Context(), got: got})
			close(got)
			var seqs []string
			for seq := range got {
				seqs = append(seqs, seq)
			}
			if want := []string{"3", "5", "9", "3", "8"}; err != nil || !cmp.Equal(seqs, want) {
				t.Errorf("since the second batch %v is there, want %v (%v)", seqs, want, err)
			}
		})
	}
}

// On SQLite the migration waits for every writer, on PostgreSQL for whoever has written the head.
func TestWhatIsAppendedWhileTheLogIsPackedIsKept(t *testing.T) {
	t.Parallel()
	before := oneRowALeaf(t)
	cfg := sqltest.Config(t, sqldb.Postgres, before...)
	old := sqltest.Open(t, cfg, before...)
	opened := make(chan error, 1)
	appendOld(t, old, func() {
		go func() {
			db, err := sqldb.Open(t.Context(), cfg, audit.Migrations()...)
			if err == nil {
				err = db.Close()
			}
			opened <- err
		}()
		sqltest.AwaitLock(t.Context(), t, old)
	}, map[string]uint64{"ingest": 2}, event("ingest", 1), event("ingest", 2))
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	db := sqltest.Open(t, cfg, audit.Migrations()...)
	if leaves, err := store.New(db).Leaves(t.Context(), 0, 9, 9); err != nil || len(leaves) != 2 {
		t.Errorf("of two leaves %d are there (%v)", len(leaves), err)
	}
}

// appendOld appends as audit did when each leaf had a row, and calls meanwhile before it commits.
func appendOld(t *testing.T, db *sqldb.DB, meanwhile func(), origins map[string]uint64, events ...bus.Event) {
	t.Helper()
	s := store.New(db)
	head, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var leaves [][]byte
	for _, e := range events {
		leaf, err := proto.MarshalOptions{Deterministic: true}.Marshal(e.Proto())
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, leaf)
	}
	grown, err := merkle.Append(head.Size, leaves, s.Hashes(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	var hashes []byte
	for _, hash := range grown.Hashes {
		hashes = append(hashes, hash[:]...)
	}
	err = db.InTx(t.Context(), func(tx *sqldb.Tx) error {
		if _, err := tx.Exec(t.Context(), `UPDATE head SET size = $1, root = $2`, grown.Size, grown.Root[:]); err != nil {
			return err
		}
		for i, e := range events {
			if _, err := tx.Exec(t.Context(), `INSERT INTO leaves (n, origin, seq, recorded_at, data) VALUES ($1, $2, $3, $4, $5)`,
				head.Size+int64(i), e.Origin, int64(e.Seq), head.Size+1_000_000, leaves[i]); err != nil {
				return err
			}
		}
		for origin, seq := range origins {
			if _, err := tx.Exec(t.Context(), `INSERT INTO origins (origin, seq) VALUES ($1, $2) ON CONFLICT (origin) DO UPDATE SET seq = excluded.seq`, origin, int64(seq)); err != nil {
				return err
			}
		}
		_, err := tx.Exec(t.Context(), `INSERT INTO hashes (first, data) VALUES ($1, $2)`, grown.First, hashes)
		meanwhile()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
