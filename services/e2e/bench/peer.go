package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/tenurehq/tenure/services/ingest/source/standardwebhooks"
)

const peerRiver = "river"

// peer is another program for the same task, under the same load on the same database server (scripts/river).
type peer struct {
	child  *child
	db     *sql.DB
	url    string
	keys   *standardwebhooks.Keys
	people *population
}

// openRiver builds and starts the peer, with the secret of the Tenure that it is beside.
func (b *bench) openRiver(ctx context.Context, beside *tenure) (_ *peer, err error) {
	binary := filepath.Join(b.work, peerRiver)
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, ".") //nolint:gosec // G204: our own program
	build.Dir, build.Env = filepath.Join("scripts", peerRiver), append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build %s (the bench must run at the root of the repository): %w\n%s", build.Dir, err, out)
	}
	if err := b.pg.create(ctx, peerRiver); err != nil {
		return nil, err
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	p := &peer{url: "http://" + address + "/", keys: beside.keys, people: &population{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	dir := filepath.Join(b.work, "peers", peerRiver)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if p.child, err = startChild(dir, filepath.Join(dir, "log"), binary, "-database", b.pg.dsn(peerRiver), "-secret", filepath.Join(beside.dir, "secret"),
		"-dir", dir, "-listen", address); err != nil {
		return nil, err
	}
	if err := answered(ctx, p.url, func(int) bool { return true }); err != nil {
		return nil, fmt.Errorf("%s does not answer: %w\n%s", peerRiver, err, p.child.tail())
	}
	p.db, err = sql.Open("pgx", b.pg.dsn(peerRiver))
	return p, err
}

func (p *peer) close() error {
	var err error
	if p.db != nil {
		err = p.db.Close()
	}
	if p.child != nil {
		err = errors.Join(err, p.child.close())
	}
	return err
}

// flood is a throughput round: how long until the last account of the last event is read back.
func (p *peer) flood(ctx context.Context, events []event, clients int) (time.Duration, error) {
	s := newSender(p.url, p.keys, clients)
	defer s.close()
	began := time.Now()
	if _, err := s.flood(ctx, events, clients); err != nil {
		return 0, err
	}
	done, err := p.settled(ctx, events)
	if err != nil {
		return 0, err
	}
	var last time.Time
	for _, d := range done {
		if d.read.After(last) {
			last = d.read
		}
	}
	return last.Sub(began), nil
}

// drip is events at low rate: how long each took from inside the transaction that stored its webhook to its last read-back.
func (p *peer) drip(ctx context.Context, events []event, every time.Duration) ([]time.Duration, error) {
	s := newSender(p.url, p.keys, 1)
	defer s.close()
	if err := s.drip(ctx, events, every); err != nil {
		return nil, err
	}
	done, err := p.settled(ctx, events)
	if err != nil {
		return nil, err
	}
	var all []time.Duration
	for _, d := range done {
		all = append(all, d.read.Sub(d.stored))
	}
	slices.Sort(all)
	return all, nil
}

// finished is one event, through every application.
type finished struct{ stored, read time.Time }

// settled waits until no job is left, and then makes sure that each event was read back in every application.
func (p *peer) settled(ctx context.Context, events []event) ([]finished, error) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for {
		var left bool // asked for so that River's own index answers, however much is stored
		if err := p.db.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM river_job WHERE state IN ('available', 'running', 'retryable', 'scheduled'))").Scan(&left); err != nil {
			return nil, err
		}
		if !left {
			break
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("jobs are left after %s\n%s", settleTime, p.child.tail())
		case <-time.After(25 * time.Millisecond):
		}
	}
	done, err := p.finished(ctx, events)
	if err == nil && len(done) != len(events) {
		err = fmt.Errorf("of %d events %d were read back\n%s", len(events), len(done), p.child.tail())
	}
	return done, err
}

// finished reads which of the events were read back in every application.
func (p *peer) finished(ctx context.Context, events []event) (done []finished, err error) {
	rows, err := p.db.QueryContext(ctx, "SELECT MIN(w.stored_at), MAX(a.read_at) FROM webhooks w JOIN audit a ON a.webhook = w.id "+ //nolint:gosec // G202: see keys
		"WHERE w.id IN ("+keys(events)+") GROUP BY w.id HAVING COUNT(*) = $1", applications)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var stored, read int64
		if err := rows.Scan(&stored, &read); err != nil {
			return nil, err
		}
		done = append(done, finished{time.UnixMicro(stored), time.UnixMicro(read)})
	}
	return done, rows.Err()
}

// besidePeers measures Tenure, on each engine, and the peer in turn, with nothing else there. On PostgreSQL both are on one
// server.
func (b *bench) besidePeers(ctx context.Context) (err error) {
	if b.peers == "" {
		return nil
	}
	var all []*contender
	var beside *tenure
	for _, engine := range b.names() {
		s := &side{engine: engine, people: &population{}}
		if s.tenure, err = startTenure(ctx, b.binary, filepath.Join(b.work, "peers", engine), engine, b.pg, false); err != nil {
			return err
		}
		beside = s.tenure
		defer func() { err = errors.Join(err, s.tenure.close()) }()
		all = append(all, b.contending(s))
	}
	p, err := b.openRiver(ctx, beside)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	river := &contender{
		people: p.people, processor: p.processor,
		flood: func(ctx context.Context, events []event) (time.Duration, error) {
			return p.flood(ctx, events, b.clients)
		},
		drip: func(ctx context.Context, events []event) ([]time.Duration, error) {
			return p.drip(ctx, events, b.every)
		},
	}
	all = append(all, river)
	for _, c := range all {
		for range 2 { // not counted
			if _, err := c.flood(ctx, c.people.mix(b.events)); err != nil {
				return err
			}
		}
	}
	for round := range b.rounds {
		turns := map[*contender]turn{}
		for i := range all {
			c := all[(i+round)%len(all)]
			if turns[c], err = b.turn(ctx, c); err != nil {
				return fmt.Errorf("round %d: %w", round+1, err)
			}
		}
		for _, c := range all {
			if c != river {
				b.compare(c.engine, turns[c], turns[river])
			}
		}
	}
	return nil
}

// compare adds what Tenure did in a round, beside what the peer did.
func (b *bench) compare(engine string, mine, its turn) {
	b.figures.add("lifecycle_events_per_second_beside_"+peerRiver, engine, "1/s", mine.rate, its.rate)
	b.figures.add("cpu_ms_per_event_beside_"+peerRiver, engine, "ms", millis(mine.processor), millis(its.processor))
	for _, q := range []float64{0.5, 0.95} {
		name := fmt.Sprintf("commit_to_last_readback_beside_%s_p%.0f_ms", peerRiver, 100*q)
		b.figures.sample(name, engine, q, mine.slow, its.slow)
		b.figures.sample("leaver_"+name, engine, q, mine.leavers, its.leavers)
	}
}

// contending is Tenure as a contender.
func (b *bench) contending(s *side) *contender {
	return &contender{
		engine: s.engine, people: s.people, processor: s.tenure.processor,
		flood: func(ctx context.Context, events []event) (time.Duration, error) {
			_, took, err := b.flood(ctx, s, events)
			return took, err
		},
		drip: func(ctx context.Context, events []event) ([]time.Duration, error) { return b.drip(ctx, s, events) },
	}
}

// contender is Tenure or the peer, as a round sees it.
type contender struct {
	engine    string // Tenure's
	people    *population
	processor func(context.Context) (time.Duration, error) // taken so far, with the database server
	flood     func(context.Context, []event) (time.Duration, error)
	drip      func(context.Context, []event) ([]time.Duration, error)
}

// turn is what one of the two did in a round.
type turn struct {
	rate          float64       // lifecycle events a second, through every application
	processor     time.Duration // for each of them
	slow, leavers []time.Duration
}

func (b *bench) turn(ctx context.Context, c *contender) (t turn, err error) {
	before, err := c.processor(ctx)
	if err != nil {
		return turn{}, err
	}
	took, err := c.flood(ctx, c.people.mix(b.events))
	if err != nil {
		return turn{}, err
	}
	after, err := c.processor(ctx)
	if err != nil {
		return turn{}, err
	}
	t = turn{rate: float64(b.events) / took.Seconds(), processor: (after - before) / time.Duration(b.events)}
	if t.slow, err = c.drip(ctx, c.people.mix(b.slow)); err != nil {
		return turn{}, err
	}
	t.leavers, err = c.drip(ctx, c.people.leavers(b.slow))
	return t, err
}

// processor is the processor time that the peer has taken, with the database server.
func (p *peer) processor(ctx context.Context) (time.Duration, error) {
	own, err := readProc(p.child.pid)
	if err != nil {
		return 0, err
	}
	server, err := serverProcessor(ctx, p.db)
	return own.own + server, err
}
