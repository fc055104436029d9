package outbox_test

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/outbox"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	"github.com/tenurehq/tenure/pkg/telemetry"
)

func TestWhatCommitsIsPublishedAndWhatRollsBackIsNot(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			db := sqltest.New(t, engine, sets...)
			w, _ := newWire(t)
			o := newOutbox(t, db, w, &audit{})
			start(t, o)
			got := listen(t, w.Bus)
			const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
			ctx := telemetry.WithTraceParent(t.Context(), trace)
			undone, done := event("undone"), event("done")
			refused := errors.New("no")
			if err := db.InTx(ctx, func(tx *sqldb.Tx) error {
				if err := o.Add(ctx, tx, normal, undone); err != nil {
					return err
				}
				return refused
			}); !errors.Is(err, refused) {
				t.Fatal(err)
			}
			before := time.Now().UTC().Truncate(time.Microsecond)
			if err := db.InTx(ctx, func(tx *sqldb.Tx) error { return o.Add(ctx, tx, normal, done) }); err != nil {
				t.Fatal(err)
			}
			e := receive(t, got, "the committed event")
			if e.Time.Before(before) || e.Time.After(time.Now()) {
				t.Errorf("it became true at %s, not when it was committed", e.Time)
			}
			want := done
			want.Origin, want.Seq, want.Time, want.TraceParent = "ingest", 1, e.Time, trace
			if diff := cmp.Diff(want, e); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnEventThatCouldNeverLeaveIsRefused(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			db := sqltest.New(t, engine, sets...)
			w, _ := newWire(t)
			o := newOutbox(t, db, w, &audit{})
			huge, numbered := event("p"), event("p")
			huge.Data = make([]byte, bus.MaxData+1)
			numbered.Seq = 3
			for name, e := range map[string]bus.Event{"huge": huge, "numbered": numbered, "empty": {}} {
				if err := db.InTx(t.Context(), func(tx *sqldb.Tx) error { return o.Add(t.Context(), tx, normal, e) }); err == nil {
					t.Errorf("an event that is %s was taken", name)
				}
			}
		})
	}
}

func TestNumbersHaveNoGapWithManyWritersAndTwoRelays(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			db := sqltest.New(t, engine, sets...)
			const writers, transactions = 8, 60
			w, _ := newWire(t)
			a, b := newOutbox(t, db, w, &audit{}), newOutbox(t, db, w, &audit{})
			stopA := start(t, a)
			start(t, b)
			got := listen(t, w.Bus)
			var mu sync.Mutex
			committed := map[string]bool{}
			var writing sync.WaitGroup
			for n := range writers {
				writing.Go(func() {
					for i := range transactions {
						o, lane := a, normal
						if i%2 == 0 {
							o = b
						}
						if i%10 == 0 {
							lane = urgent
						}
						mine := events(1 + (n+i)%4)
						rollback := errors.New("rolled back")
						err := db.InTx(t.Context(), func(tx *sqldb.Tx) error {
							if err := o.Add(t.Context(), tx, lane, mine...); err != nil {
								return err
							}
							if i%5 == 4 {
								return rollback
							}
							return nil
						})
						if err != nil && !errors.Is(err, rollback) {
							t.Error(err)
						}
						if err == nil {
							mu.Lock()
							for _, e := range mine {
								committed[e.ID] = true
							}
							mu.Unlock()
						}
						if n == 0 && i == transactions/2 {
							stopA() // the other takes over
						}
					}
				})
			}
			writing.Wait()
			bySeq := map[uint64]string{}
			for len(bySeq) < len(committed) {
				e := receive(t, got, fmt.Sprintf("event %d of %d", len(bySeq)+1, len(committed)))
				if other, twice := bySeq[e.Seq]; twice && other != e.ID {
					t.Fatalf("two events have the number %d", e.Seq)
				}
				if !committed[e.ID] {
					t.Fatalf("event %d was rolled back and left all the same", e.Seq)
				}
				bySeq[e.Seq] = e.ID
			}
			for seq := range uint64(len(committed)) {
				if bySeq[seq+1] == "" {
					t.Errorf("number %d is missing", seq+1)
				}
			}
		})
	}
}

func TestMoversAtTheSameTimeShareNothing(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			db := sqltest.New(t, engine, sets...)
			w, _ := newWire(t)
			w.cut.Store(true)
			o := newOutbox(t, db, w, &audit{})
			outbox.Begin(t, o)
			const n = 3000
			all := events(n)
			for i := 0; i < n; i += 100 {
				lane := normal
				if i%300 == 0 {
					lane = urgent
				}
				add(t, db, o, lane, all[i:i+100]...)
			}
			var moving sync.WaitGroup
			for range 4 { // as if the lease had failed
				moving.Go(func() {
					for outbox.Move(t, o) > 0 {
					}
				})
			}
			moving.Wait()
			for outbox.Move(t, o) > 0 { // what a mover left to one that was faster
			}
			seen := map[string]bool{}
			for i, e := range read(t, o, 1, n+100) {
				if e.Seq != uint64(i)+1 {
					t.Fatalf("number %d in place %d", e.Seq, i+1)
				}
				seen[e.ID] = true
			}
			if len(seen) != n {
				t.Errorf("%d different events were moved, want %d", len(seen), n)
			}
		})
	}
}

func TestADatabaseRestoredFromABackupUsesNoNumberTwice(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			db := sqltest.New(t, engine, sets...)
			w, _ := newWire(t)
			a := &audit{}
			a.recorded.Store(40)
			o := newOutbox(t, db, w, a)
			add(t, db, o, normal, event("p"))
			start(t, o)
			eventually(t, "it is sent", func() bool { return len(w.order()) == 1 })
			if got := w.order()[0].Seq; got != 41 {
				t.Errorf("the number is %d although audit has 40", got)
			}
		})
	}
}

// TestEventsOfATransactionShareRows and keep their order, also with those of a transaction that came later and began before.
func TestEventsOfATransactionShareRows(t *testing.T) {
	t.Parallel()
	sqltest.Run(t, sets, func(t *testing.T, db *sqldb.DB) {
		w, _ := newWire(t)
		o := newOutbox(t, db, w, &audit{})
		outbox.Begin(t, o)
		all := events(203)
		turned := slices.Clone(all[1:201])
		slices.Reverse(turned)
		add(t, db, o, normal, turned...)             // 64, 64, 64 and 8
		add(t, db, o, normal, all[0], all[201])      // its first event is the oldest of all
		large := [2]bus.Event{all[202], event("p0")} // each more than a row of events
		for i := range large {
			large[i].Data = make([]byte, bus.MaxData)
		}
		add(t, db, o, normal, large[:]...)
		var rows int
		if err := db.QueryRow(t.Context(), `SELECT COUNT(*) FROM outbox`).Scan(&rows); err != nil || rows != 7 {
			t.Errorf("%d rows of 204 events, want 7: %v", rows, err)
		}
		moves := 0
		for outbox.Move(t, o) > 0 {
			moves++
		}
		if moves != 4 { // 64, 64, 64, and the rest
			t.Errorf("they left in %d chunks, want 4", moves)
		}
		var want, got []string
		for _, e := range append(append(append(all[1:201:201], all[0]), all[201]), large[:]...) {
			want = append(want, e.ID)
		}
		for _, e := range read(t, o, 1, 300) {
			got = append(got, e.ID)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-added +left):\n%s", diff)
		}
	})
}

// TestADamagedRowKeepsNobody: what comes after it leaves.
func TestADamagedRowKeepsNobody(t *testing.T) {
	t.Parallel()
	for _, engine := range sqltest.Engines {
		for _, edit := range []string{`UPDATE outbox SET lengths = '[1]'`, `UPDATE outbox SET lengths = ''`, `UPDATE outbox SET lengths = '[]'`} {
			t.Run(engine+"/"+edit, func(t *testing.T) {
				t.Parallel()
				db := sqltest.New(t, engine, sets...)
				w, _ := newWire(t)
				o, err := outbox.New(outbox.Config{Origin: "ingest"}, outbox.Deps{DB: db, Bus: w, Recorded: (&audit{}).Recorded, Log: zap.NewNop()})
				if err != nil {
					t.Fatal(err)
				}
				add(t, db, o, urgent, events(2)...)
				if err := db.InTx(t.Context(), func(tx *sqldb.Tx) error { _, err := tx.Exec(t.Context(), edit); return err }); err != nil {
					t.Fatal(err)
				}
				if age, err := o.Oldest(t.Context()); err != nil || age < 0 {
					t.Errorf("the oldest is %s old, %v", age, err)
				}
				after := event("after")
				add(t, db, o, normal, after)
				start(t, o)
				eventually(t, "what comes after it leaves", func() bool {
					return slices.ContainsFunc(w.order(), func(e bus.Event) bool { return e.ID == after.ID })
				})
			})
		}
	}
}

// TestWhatAnOlderVersionAddedLeaves: it wrote a row for each event.
func TestWhatAnOlderVersionAddedLeaves(t *testing.T) {
	t.Parallel()
	older := sqldb.Migrations{Name: outbox.Migrations.Name, FS: fstest.MapFS{}}
	const first = "migrations/0001_create_outbox.sql"
	text, err := fs.ReadFile(outbox.Migrations.FS, first)
	if err != nil {
		t.Fatal(err)
	}
	older.FS.(fstest.MapFS)[first] = &fstest.MapFile{Data: text}
	for _, engine := range sqltest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			cfg := sqltest.Config(t, engine)
			db := sqltest.Open(t, cfg, older)
			want := event("ann")
			encoded, err := proto.Marshal(want.Proto())
			if err != nil {
				t.Fatal(err)
			}
			if err := db.InTx(t.Context(), func(tx *sqldb.Tx) error {
				_, err := tx.Exec(t.Context(), `INSERT INTO outbox (lane, id, event) VALUES ($1, $2, $3)`, int64(normal), want.ID, encoded)
				return err
			}); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			db = sqltest.Open(t, cfg, sets...)
			w, _ := newWire(t)
			o := newOutbox(t, db, w, &audit{})
			start(t, o)
			eventually(t, "it leaves", func() bool { return len(w.order()) == 1 })
			if got := w.order()[0]; got.ID != want.ID || got.Seq != 1 {
				t.Errorf("%s left as number %d, want %s", got.ID, got.Seq, want.ID)
			}
		})
	}
}
