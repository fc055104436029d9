package sqldb_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
)

// wire stands between a client and its PostgreSQL server.
type wire struct {
	dsn     string       // of the server, through here
	flushes atomic.Int64 // that clients sent and waited for
	cut     atomic.Bool  // the next answer to a COMMIT, and the connection, are lost
}

// wireTo returns a wire to the server of dsn.
func wireTo(t *testing.T, dsn string) *wire {
	t.Helper()
	to, err := url.Parse(dsn)
	must(t, err)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	through := *to
	through.Host = listener.Addr().String()
	query := through.Query()
	query.Set("sslmode", "disable")
	through.RawQuery = query.Encode()
	w := &wire{dsn: through.String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := new(net.Dialer).DialContext(t.Context(), "tcp", to.Host)
			if err != nil {
				t.Error(err)
				_ = client.Close()
				return
			}
			hangUp := func() { _, _ = client.Close(), server.Close() }
			wg.Go(func() { defer hangUp(); w.ask(server, client) })
			wg.Go(func() { defer hangUp(); w.answer(client, server) })
		}
	})
	t.Cleanup(func() { // after the clients are gone
		_ = listener.Close()
		wg.Wait()
	})
	return w
}

// ask forwards what the client says, message by message. The first has no type.
func (w *wire) ask(server io.Writer, client io.Reader) {
	for head := 4; ; head = 5 {
		message := make([]byte, head)
		if _, err := io.ReadFull(client, message); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(message[head-4:])-4)
		if _, err := io.ReadFull(client, body); err != nil {
			return
		}
		if head == 5 && (message[0] == 'S' || message[0] == 'Q') { // Sync, Query
			w.flushes.Add(1)
		}
		if _, err := server.Write(append(message, body...)); err != nil {
			return
		}
	}
}

// answer forwards what the server says.
func (w *wire) answer(client io.Writer, server io.Reader) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		if err != nil || bytes.Contains(buffer[:n], []byte("COMMIT\x00")) && w.cut.CompareAndSwap(true, false) {
			return
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func TestATransactionTakesAFlushForEachAnswer(t *testing.T) {
	t.Parallel()
	w := wireTo(t, sqltest.Postgres(t))
	db := sqltest.Open(t, service(w.dsn, "sqltest"), all()...)
	ctx := t.Context()
	put(t, db, "a", 1)
	exec := func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE counters SET n = $1`, int64(1))
		return err
	}
	query := func(tx *sqldb.Tx) error {
		return tx.QueryRow(ctx, `SELECT n FROM counters WHERE name = $1`, "a").Scan(new(int64))
	}
	queue := func(tx *sqldb.Tx) error { return tx.Queue(ctx, `UPDATE counters SET n = n + $1`, int64(1)) }
	for _, is := range []struct {
		name  string
		steps []func(*sqldb.Tx) error
		want  int64
	}{
		{"nothing", nil, 0},
		{"all queued", []func(*sqldb.Tx) error{queue, queue}, 1},
		{"one statement", []func(*sqldb.Tx) error{exec}, 2},
		{"a query, and queued ones", []func(*sqldb.Tx) error{query, queue, queue}, 2},
		{"queued ones before an exec", []func(*sqldb.Tx) error{query, queue, exec}, 3},
		{"nothing queued", []func(*sqldb.Tx) error{query, query, exec}, 4},
	} {
		least := int64(100)
		for range 5 { // at first statements are prepared, and a connection that was idle is tried
			before := w.flushes.Load()
			must(t, db.InTx(ctx, func(tx *sqldb.Tx) error {
				for _, step := range is.steps {
					if err := step(tx); err != nil {
						return err
					}
				}
				return nil
			}))
			least = min(least, w.flushes.Load()-before)
		}
		if least != is.want {
			t.Errorf("%s: %d flushes, want %d", is.name, least, is.want)
		}
	}
}

func TestALostAnswerToACommitIsAnError(t *testing.T) {
	t.Parallel()
	w := wireTo(t, sqltest.Postgres(t))
	db := sqltest.Open(t, service(w.dsn, "sqltest"), all()...)
	ctx := t.Context()
	for name, f := range map[string]func(tx *sqldb.Tx) error{
		"exec": func(tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, add, "exec", int64(1))
			return err
		},
		"queue": func(tx *sqldb.Tx) error { return tx.Queue(ctx, add, "queue", int64(1)) },
	} {
		w.cut.Store(true)
		err := db.InTx(ctx, func(tx *sqldb.Tx) error {
			tx.AfterCommit(func() { t.Errorf("%s: it counts as committed", name) })
			return f(tx)
		})
		if fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%s: got %v, want Unavailable", name, err)
		}
		if counter(t, db, name) != 1 { // what the caller cannot know
			t.Errorf("%s: the wire was cut too early", name)
		}
	}
}

func TestAConnectionLostBeforeTheCommitIsUnavailable(t *testing.T) {
	t.Parallel()
	db := oneConn(t, sqldb.Postgres, all()...)
	ctx := t.Context()
	const die = `SELECT pg_terminate_backend(pg_backend_pid()) FROM (SELECT set_config('role', 'none', true)) AS super`
	for name, f := range map[string]func(tx *sqldb.Tx) error{
		"queued": func(tx *sqldb.Tx) error { return tx.Queue(ctx, die) },
		"before another": func(tx *sqldb.Tx) error {
			return errors.Join(tx.Queue(ctx, die), tx.QueryRow(ctx, `SELECT 1`).Scan(new(int64)))
		},
		"first": func(tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, die)
			return err
		},
	} {
		err := db.InTx(ctx, func(tx *sqldb.Tx) error {
			if name != "first" {
				must(t, tx.Queue(ctx, add, "a", int64(1)))
			}
			return f(tx)
		})
		if fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%s: got %v, want Unavailable", name, err)
		}
	}
	put(t, db, "a", 1)
}
