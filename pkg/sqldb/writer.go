package sqldb

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// A group is committed when it has this many transactions or has lasted this long, whichever comes first, so that
	// the first of a flood is answered soon.
	groupMax  = 512
	groupTime = 10 * time.Millisecond
)

// writer owns SQLite's one writing connection. Transactions that wait while it commits are collected and run as one:
// each but the first in a SAVEPOINT, all inside one BEGIN IMMEDIATE … COMMIT, so that they share its sync of the disk. The first needs
// none: when it fails nobody else is in yet, and all is undone. A savepoint costs a copy of each page that is changed.
type writer struct {
	conn *sqliteConn
	wake chan struct{} // holds one token when the queue may have work
	gone chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex
	queue   []*job
	stopped bool
}

// job is one InTx call.
type job struct {
	ctx  context.Context //nolint:containedctx // travels to the writer's goroutine and back with its call
	f    func(*Tx) error
	done chan struct{} // closed by the writer when the fields below are final

	tx       *Tx // of the last run
	err      error
	panicked *TxPanic

	mu    sync.Mutex
	state jobState
}

type jobState int

const (
	waiting   jobState = iota
	taken              // the writer has it: the caller waits for done
	abandoned          // the caller has gone: the writer passes it over
)

// move changes the state from waiting, and reports whether it did.
func (j *job) move(to jobState) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.state != waiting {
		return false
	}
	j.state = to
	return true
}

// TxPanic is what InTx panics with, on SQLite, when its function panicked on the writer's goroutine.
type TxPanic struct {
	Value any    // what the function panicked with
	Stack []byte // where
}

// Error makes the runtime print both.
func (p *TxPanic) Error() string {
	return fmt.Sprintf("panic in a transaction: %v\n\n%s", p.Value, p.Stack)
}

var errGoexit = errors.New("the transaction's function ended its goroutine (runtime.Goexit; t.Fatal does that)")

func startWriter(conn *sqliteConn) *writer {
	w := &writer{conn: conn, wake: make(chan struct{}, 1), gone: make(chan struct{})}
	go w.loop(nil)
	return w
}

// do runs f in a transaction; it returns when that is committed or undone, or never began.
func (w *writer) do(ctx context.Context, f func(*Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j := &job{ctx: ctx, f: f, done: make(chan struct{})}
	w.mu.Lock()
	if w.stopped {
		w.mu.Unlock()
		return errClosed
	}
	w.queue = append(w.queue, j)
	w.mu.Unlock()
	w.signal()
	select {
	case <-j.done:
	case <-ctx.Done():
		if j.move(abandoned) {
			return ctx.Err()
		}
		<-j.done // f has begun: its outcome counts
	}
	if j.panicked != nil {
		panic(j.panicked)
	}
	if j.err == nil {
		j.tx.committed()
	}
	return j.err
}

func (w *writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// stop lets what is queued finish, and ends the goroutine.
func (w *writer) stop() {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	w.signal()
	<-w.gone
}

// next takes a waiting job; nil when there is none. last reports that there will be no more.
func (w *writer) next() (j *job, last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.queue) > 0 {
		j = w.queue[0]
		w.queue[0] = nil
		w.queue = w.queue[1:]
		if j.move(taken) {
			return j, false
		}
	}
	w.queue = nil
	return nil, w.stopped
}

// loop is the writer's goroutine. alone holds jobs that must each have a transaction of their own.
func (w *writer) loop(alone []*job) {
	var current []*job
	clean := false
	defer func() {
		if clean {
			close(w.gone)
			return
		}
		// A job ended this goroutine (runtime.Goexit): it alone fails, the others of its group run again.
		_, _ = w.conn.exec(context.Background(), "ROLLBACK", nil)
		rest := alone
		for _, j := range current {
			if errors.Is(j.err, errGoexit) {
				close(j.done)
			} else {
				rest = append(rest, j)
			}
		}
		go w.loop(rest)
	}()
	for {
		if len(alone) > 0 {
			current, alone = alone[:1:1], alone[1:]
			w.group(&current, func() *job { return nil })
			continue
		}
		first, last := w.next()
		if last {
			clean = true
			return
		}
		if first == nil {
			<-w.wake
			continue
		}
		current = []*job{first}
		alone = w.group(&current, func() *job { j, _ := w.next(); return j })
	}
}

// group runs the first of jobs and what more yields in one transaction, and answers all; jobs names them while it
// runs. When the transaction as a whole fails and it had several, it answers none and returns them: each is then run
// alone, so that only those suffer that cannot be done.
func (w *writer) group(jobs *[]*job, more func() *job) (again []*job) {
	ctx := context.Background()
	err := w.command(ctx, "BEGIN IMMEDIATE")
	began := time.Now()
	if first := (*jobs)[0]; err == nil {
		first.call(w.conn)
		for err == nil && first.err == nil && len(*jobs) < groupMax && time.Since(began) < groupTime {
			j := more()
			if j == nil {
				break
			}
			*jobs = append(*jobs, j)
			err = w.run(ctx, j)
		}
		if err == nil && first.err == nil {
			err = w.command(ctx, "COMMIT")
		}
		if err != nil || first.err != nil {
			// SQLite may have rolled back by itself (disk full); then this fails, and changes nothing.
			_, _ = w.conn.exec(ctx, "ROLLBACK", nil)
		}
	}
	if err != nil && len(*jobs) > 1 {
		return *jobs
	}
	for _, j := range *jobs {
		if err != nil && j.err == nil {
			j.err = err
		}
		close(j.done)
	}
	return nil
}

// run runs one job inside a savepoint. A job's own failure is in the job; an error means that the whole transaction is
// lost.
func (w *writer) run(ctx context.Context, j *job) error {
	if err := w.command(ctx, "SAVEPOINT job"); err != nil {
		return err
	}
	j.call(w.conn)
	if j.err == nil {
		return w.command(ctx, "RELEASE job")
	}
	if err := w.command(ctx, "ROLLBACK TO job"); err != nil {
		return err
	}
	return w.command(ctx, "RELEASE job")
}

// call runs f, whichever way it ends. What it could not do is in j.err.
func (j *job) call(conn *sqliteConn) {
	j.panicked = nil
	if j.err = j.ctx.Err(); j.err != nil {
		return
	}
	j.tx = &Tx{session: writerSession{conn}}
	returned := false
	defer func() {
		if returned {
			return
		}
		if value := recover(); value != nil {
			j.panicked = &TxPanic{Value: value, Stack: debug.Stack()}
			j.err = j.tx.end(j.panicked)
			return
		}
		j.err = j.tx.end(errGoexit) // the goroutine is ending; loop takes it from here
	}()
	err := j.f(j.tx)
	returned = true
	j.err = j.tx.end(err)
}

func (w *writer) command(ctx context.Context, text string) error {
	_, err := w.conn.exec(ctx, text, nil)
	return classify(err)
}

// writerSession runs a transaction's statements. Their context is only looked at before each: SQLite undoes the whole
// group when a statement that writes is interrupted.
type writerSession struct{ conn *sqliteConn }

func (s writerSession) exec(ctx context.Context, text string, args []any) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return s.conn.exec(context.WithoutCancel(ctx), text, args)
}

func (s writerSession) queue(ctx context.Context, text string, args []any) error {
	_, err := s.exec(ctx, text, args)
	return err
}

func (s writerSession) query(ctx context.Context, text string, args []any) (cursor, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.conn.query(context.WithoutCancel(ctx), text, args)
}
