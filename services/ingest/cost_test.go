package ingest_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	"github.com/tenurehq/tenure/services/ingest"
	"github.com/tenurehq/tenure/services/ingest/roster"
)

func TestADeliveryCostsFewRowWrites(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqltest.New(t, "sqlite", ingest.Migrations()...))
	before := rowWrites(t, w.db)
	cost := func() int64 {
		t.Helper()
		now := rowWrites(t, w.db)
		spent := now - before
		before = now
		return spent
	}
	for i, c := range []struct {
		what string
		body data
		most int64
	}{
		{"a joiner", ann(), 7},                   // delivery, employment, person, user name, fact, happening, event
		{"a mover", ann().with("title", "x"), 6}, // delivery, lock, fact, person, happening, event
		{"nothing new", ann().with("title", "x"), 4},
		{"a held record", ann().with("start_date", "soon"), 3},
	} {
		w.post(fmt.Sprint("msg-", i), changed(c.body))
		if spent := cost(); spent == 0 || spent > c.most {
			t.Errorf("%s costs %d row writes, more than %d", c.what, spent, c.most)
		}
		w.pass(time.Second)
	}
	w.deliver("msg-0", changed(ann()))
	if spent := cost(); spent != 0 {
		t.Errorf("a repeat costs %d row writes", spent)
	}
}

// A roster is looked up for each person. Compared with everybody, a roster of n people is read n² times.
func TestARosterThatHasJustComeIsReadOnceForEachPerson(t *testing.T) {
	t.Parallel()
	const people = 1_500
	cfg := sqltest.Config(t, "postgres", ingest.Migrations()...)
	db := sqltest.Open(t, cfg, ingest.Migrations()...)
	w := agreed(t, db, roster.Contract{})
	all := some(1, people)
	for i := range all {
		all[i] = all[i].with("given_name", fmt.Sprint("Ann", i)) // a name of their own
	}
	if r := w.give(list{id: "r1", made: noon, people: all, size: 500}); r.GetChanged() != people || r.GetAbsent() != 0 {
		t.Fatalf("the roster was taken in as %v", r)
	}
	if err := db.Close(); err != nil { // by then PostgreSQL has counted
		t.Fatal(err)
	}
	var read int64
	err := sqltest.Open(t, cfg).QueryRow(t.Context(), `SELECT SUM(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'roster_people'`).Scan(&read)
	if err != nil {
		t.Fatal(err)
	}
	if read == 0 || read > 20*people {
		t.Errorf("%d rows of the roster were read for %d people", read, people)
	}
}

// rowWrites is how many rows the database's one writer has written.
func rowWrites(t *testing.T, db *sqldb.DB) (n int64) {
	t.Helper()
	err := db.InTx(t.Context(), func(tx *sqldb.Tx) error {
		return tx.QueryRow(t.Context(), `SELECT total_changes()`).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// BenchmarkIntake is from the request to the answer: movers of many people, 32 at once.
func BenchmarkIntake(b *testing.B) {
	for _, engine := range []string{"sqlite", "postgres"} {
		b.Run(engine, func(b *testing.B) {
			w := newWorld(b, sqltest.New(b, engine, ingest.Migrations()...))
			var people []data
			for i := range 1000 {
				people = append(people, ann().with("external_id", fmt.Sprint(20000+i)))
			}
			w.deliver("all", batch(people...))
			var n atomic.Int64
			b.ResetTimer()
			b.SetParallelism(16) // times GOMAXPROCS
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := n.Add(1)
					body := changedAt(noon.Add(time.Duration(i)*time.Millisecond), ann().with(
						"external_id", fmt.Sprint(20000+i*7919%1000), "title", fmt.Sprint(i)))
					if answer := w.post(fmt.Sprint("msg-", i), body); answer.status != http.StatusAccepted {
						b.Errorf("answered %d %s", answer.status, answer.text)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
		})
	}
}
