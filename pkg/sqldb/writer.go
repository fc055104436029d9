package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
)

// groupSize is how many transactions share a commit at most.
const groupSize = 256

// writer is the one goroutine that writes to a SQLite file. Transactions that wait while it commits are run together,
// each in a savepoint, and share the next commit.
type writer struct {
	requests chan *request
	done     chan struct{}

	mu      sync.RWMutex // held shared while handing in a request
	stopped bool

	conn  *sql.Conn
	stmts statements
}

// request is one transaction that waits.
type request struct {
	ctx    context.Context //nolint:containedctx // a queued call keeps its context
	f      func(*Tx) error
	tx     *Tx
	err    error
	answer chan struct{}
}

func startWriter(conn *sql.Conn) *writer {
	w := &writer{requests: make(chan *request, groupSize), done: make(chan struct{}), conn: conn}
	w.stmts.prepare = conn.PrepareContext
	go w.loop()
	return w
}

// stop finishes what was handed in and closes the connection.
func (w *writer) stop() {
	w.mu.Lock()
	if !w.stopped {
		w.stopped = true
		close(w.requests)
	}
	w.mu.Unlock()
	<-w.done
}

func (w *writer) do(ctx context.Context, f func(*Tx) error) error {
	r := &request{ctx: ctx, f: f, answer: make(chan struct{})}
	w.mu.RLock()
	if w.stopped {
		w.mu.RUnlock()
		return errClosed
	}
	w.requests <- r
	w.mu.RUnlock()
	<-r.answer // not ctx: once taken, only the writer knows whether it was committed
	var p panicked
	if errors.As(r.err, &p) {
		panic(p.value)
	}
	if r.err == nil {
		r.tx.committed()
	}
	return r.err
}

func (w *writer) loop() {
	defer close(w.done)
	for r := range w.requests {
		group := []*request{r}
	more:
		for len(group) < groupSize {
			select {
			case next, ok := <-w.requests:
				if !ok {
					break more
				}
				group = append(group, next)
			default:
				break more
			}
		}
		w.commit(group)
		for _, r := range group {
			close(r.answer)
		}
	}
	_ = w.stmts.close()
	_ = w.conn.Close()
}

// commit runs a group in one transaction and sets each request's err.
func (w *writer) commit(group []*request) {
	ctx := context.Background()
	if err := w.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		fail(group, err)
		return
	}
	alive := 0
	for i, r := range group {
		if r.err = r.ctx.Err(); r.err != nil {
			continue
		}
		lost, err := w.run(ctx, r)
		if lost {
			// SQLite gave up the whole transaction (disk full, I/O error): nothing of the group is there.
			_ = w.exec(ctx, "ROLLBACK")
			fail(group[:i], fmt.Errorf("a transaction committed together with this one failed: %w", err))
			r.err = err
			w.rest(group[i+1:])
			return
		}
		if r.err == nil {
			alive++
		}
	}
	if alive == 0 {
		_ = w.exec(ctx, "ROLLBACK") // nothing was written
		return
	}
	if err := w.exec(ctx, "COMMIT"); err != nil {
		_ = w.exec(ctx, "ROLLBACK")
		fail(group, err)
	}
}

// rest commits what is left of a group whose transaction was lost, as a group of its own.
func (w *writer) rest(group []*request) {
	if len(group) > 0 {
		w.commit(group)
	}
}

// run runs one transaction in its savepoint. lost says that the group's whole transaction is gone.
func (w *writer) run(ctx context.Context, r *request) (lost bool, err error) {
	if err := w.exec(ctx, "SAVEPOINT one"); err != nil {
		return true, err
	}
	r.tx = &Tx{txn: sqliteTx{&w.stmts}}
	r.err = call(r.f, r.tx)
	if r.err != nil {
		if err := w.exec(ctx, "ROLLBACK TO one"); err != nil {
			return true, r.err
		}
	}
	if err := w.exec(ctx, "RELEASE one"); err != nil {
		return true, err
	}
	return false, nil
}

func call(f func(*Tx) error, tx *Tx) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = panicked{value}
		}
	}()
	return f(tx)
}

func (w *writer) exec(ctx context.Context, text string) error {
	stmt, err := w.stmts.get(ctx, text)
	if err != nil {
		return sqliteFault(err)
	}
	_, err = stmt.ExecContext(ctx)
	return sqliteFault(err)
}

// fail gives err to those of the group that had no error of their own.
func fail(group []*request, err error) {
	for _, r := range group {
		if r.err == nil {
			r.err = err
		}
	}
}
