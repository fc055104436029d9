package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"time"
)

// bench is one run.
type bench struct {
	options
	work    string // folder of the run's data
	binary  string // tenure, as shipped
	pg      *postgres
	counter *counter
	figures *figures
	sides   []*side
}

// side is one engine: a Tenure on it, and its floor.
type side struct {
	engine string
	tenure *tenure
	floor  *floor
	people *population
}

func newBench(ctx context.Context, o options) (*bench, error) {
	b := &bench{options: o, work: o.dir, figures: &figures{}}
	var err error
	if b.work == "" {
		if b.work, err = os.MkdirTemp("", "tenure-bench-"); err != nil {
			return nil, err
		}
	}
	if b.work, err = filepath.Abs(b.work); err != nil {
		return nil, err
	}
	if err := os.Chmod(b.work, 0o755); err != nil { //nolint:gosec // G302: PostgreSQL runs as somebody else, who must get through
		return nil, err
	}
	b.counter = countSQLite(filepath.Join(b.work, "counted"))
	b.binary = filepath.Join(b.work, "tenure")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", b.binary, "github.com/tenurehq/tenure/services/cmd/tenure") //nolint:gosec // G204: our own binary
	if out, err := build.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("build tenure: %w\n%s", err, out), b.close())
	}
	if slices.Contains(b.names(), enginePostgres) || o.peers != "" {
		if b.pg, err = startPostgres(ctx); err != nil {
			return nil, errors.Join(err, b.close())
		}
	}
	return b, nil
}

func (b *bench) names() []string { return strings.Split(b.engines, ",") }

func (b *bench) close() error {
	var errs []error
	for _, s := range b.sides {
		if s.floor != nil {
			errs = append(errs, s.floor.close())
		}
		if s.tenure != nil {
			errs = append(errs, s.tenure.close())
		}
	}
	if b.pg != nil {
		b.pg.server.Stop()
	}
	if b.dir == "" {
		errs = append(errs, os.RemoveAll(b.work))
	}
	return errors.Join(errs...)
}

// run measures each part, and tells.
func (b *bench) run(ctx context.Context) error {
	for _, part := range b.parts() {
		if b.only != "" && b.only != part.name {
			continue
		}
		if err := part.measure(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	b.figures.print(b.options)
	return write(b.out, b.figures.json)
}

// part is something that is measured by itself, on Tenures of its own.
type part struct {
	name    string
	measure func(context.Context) error
}

func (b *bench) parts() []part {
	return []part{{"growth", b.growing}, {"behind", b.behindJoiners}, {"rounds", b.allRounds}, {"peers", b.besidePeers}}
}

func (b *bench) growing(ctx context.Context) error {
	for _, engine := range b.names() {
		if err := b.growth(ctx, engine); err != nil {
			return fmt.Errorf("on %s: %w", engine, err)
		}
	}
	return nil
}

// behindJoiners are the rounds of leavers behind joiners.
func (b *bench) behindJoiners(ctx context.Context) error {
	for round := range b.behind {
		engines := b.names()
		if round%2 == 1 {
			slices.Reverse(engines)
		}
		for _, engine := range engines {
			if err := b.leaversBehind(ctx, engine, round+1); err != nil {
				return fmt.Errorf("round %d on %s: %w", round+1, engine, err)
			}
		}
	}
	return nil
}

// allRounds counts, and measures rates and latencies beside their floors.
func (b *bench) allRounds(ctx context.Context) error {
	if b.rounds == 0 {
		return nil
	}
	for _, engine := range b.names() {
		if err := b.count(ctx, engine); err != nil {
			return fmt.Errorf("count on %s: %w", engine, err)
		}
		if err := b.open(ctx, engine); err != nil {
			return fmt.Errorf("start on %s: %w", engine, err)
		}
	}
	for round := range b.rounds {
		sides := slices.Clone(b.sides)
		if round%2 == 1 {
			slices.Reverse(sides)
		}
		for _, s := range sides {
			if err := b.round(ctx, s); err != nil {
				return fmt.Errorf("round %d on %s: %w", round+1, s.engine, err)
			}
		}
	}
	for _, s := range b.sides {
		peak, err := s.tenure.child.memory("VmHWM")
		if err != nil {
			return err
		}
		b.figures.add("peak_memory_mb", s.engine, "MB", peak, 0)
	}
	return nil
}

// count counts the row writes and messages of an event: the statistics of a Tenure that did nothing but start, less
// those of one that also took events.
func (b *bench) count(ctx context.Context, engine string) error {
	const events = 200
	dir := filepath.Join(b.work, "counted", engine)
	t, err := startTenure(ctx, b.binary, dir, engine, b.pg, engine == engineSQLite)
	if err != nil {
		return err
	}
	people := &population{}
	sender := newSender(t.webhook, t.keys, b.clients)
	defer sender.close()
	flood := func() (err error) {
		before, err := t.db.sent(ctx)
		if err != nil {
			return err
		}
		if _, err := sender.flood(ctx, people.mix(events), b.clients); err != nil {
			return err
		}
		return t.db.settled(ctx, before, events)
	}
	if err := flood(); err != nil { // joiners alone: they will be moved
		return errors.Join(err, t.close())
	}
	var rows counts
	var earlier counts
	if engine == enginePostgres {
		if earlier, err = t.restart(ctx, b.binary); err != nil {
			return errors.Join(err, t.close())
		}
		sender.url = t.webhook
	}
	before, err := t.db.sent(ctx)
	if err != nil {
		return errors.Join(err, t.close())
	}
	b.counter.on.Store(true)
	err = flood()
	time.Sleep(1500 * time.Millisecond) // until the outboxes have forgotten what audit recorded
	b.counter.on.Store(false)
	if err != nil {
		return errors.Join(err, t.close())
	}
	after, err := t.db.sent(ctx)
	if err != nil {
		return errors.Join(err, t.close())
	}
	rows = b.counter.rows
	if engine == enginePostgres {
		later, err := t.restart(ctx, b.binary)
		if err != nil {
			return errors.Join(err, t.close())
		}
		rows = later.since(earlier)
	}
	var messages int64
	for service, n := range after {
		if service != "audit" { // checkpoints come by the minute
			messages += n - before[service]
		}
	}
	print("%s: what one lifecycle event × five applications writes (N = %d)", engine, events)
	for _, line := range rows.table(events) {
		print("%s", line)
	}
	b.figures.add("row_writes_per_event", engine, "rows", float64(rows.total())/events, 60)
	b.figures.add("messages_per_event", engine, "messages", float64(messages)/events, 16)
	return t.close()
}

// open starts what is measured on an engine, with a first round of people that is not measured, and the floor.
func (b *bench) open(ctx context.Context, engine string) error {
	dir := filepath.Join(b.work, engine)
	t, err := startTenure(ctx, b.binary, filepath.Join(dir, "tenure"), engine, b.pg, false)
	if err != nil {
		return err
	}
	s := &side{engine: engine, tenure: t, people: &population{}}
	b.sides = append(b.sides, s)
	for range 2 {
		if _, _, err := b.flood(ctx, s, s.people.mix(b.events)); err != nil {
			return err
		}
	}
	taken, err := takeSamples(ctx, t.db)
	if err != nil {
		return err
	}
	if s.floor, err = openFloor(ctx, filepath.Join(dir, "floor"), engine, b.pg, taken); err != nil {
		return err
	}
	for range 2 {
		if _, err := s.floor.flood(ctx, (&population{}).mix(b.events), b.clients); err != nil {
			return err
		}
	}
	return nil
}

// flood is one throughput round of Tenure: how long until all are acknowledged, and until all are read back.
func (b *bench) flood(ctx context.Context, s *side, events []event) (acked, done time.Duration, err error) {
	sender := newSender(s.tenure.webhook, s.tenure.keys, b.clients)
	defer sender.close()
	before, err := s.tenure.db.sent(ctx)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if acked, err = sender.flood(ctx, events, b.clients); err != nil {
		return 0, 0, err
	}
	if err := s.tenure.db.settled(ctx, before, len(events)); err != nil {
		return 0, 0, err
	}
	last, err := s.tenure.db.lastReadBack(ctx)
	return acked, last.Sub(began), err
}

// round measures everything once on one engine.
func (b *bench) round(ctx context.Context, s *side) error {
	perSecond := func(n int, d time.Duration) float64 { return float64(n) / d.Seconds() }
	acked, done, err := b.flood(ctx, s, s.people.mix(b.events))
	if err != nil {
		return err
	}
	load := (&population{}).mix(b.events)
	for i := range load {
		load[i].joiner = i%2 == 0
	}
	bare, err := s.floor.webhooks(ctx, load, s.tenure, b.clients)
	if err != nil {
		return err
	}
	least, err := s.floor.flood(ctx, load, b.clients)
	if err != nil {
		return err
	}
	b.figures.add("webhooks_acknowledged_per_second", s.engine, "1/s", perSecond(b.events, acked), perSecond(b.events, bare))
	b.figures.add("lifecycle_events_per_second", s.engine, "1/s", perSecond(b.events, done), perSecond(b.events, least.took))
	b.figures.add("floor_row_writes_per_event", s.engine, "rows", least.rows, 0)
	b.figures.add("floor_messages_per_event", s.engine, "messages", least.messages, 0)

	if err := b.latency(ctx, s, "commit_to_last_readback", s.people.mix(b.slow), 0.5, 0.95, 0.99); err != nil {
		return err
	}
	return b.latency(ctx, s, "leaver_commit_to_last_readback", s.people.leavers(b.slow), 0.5, 0.95)
}

// latency measures events at low rate, and the floor's path of as many.
func (b *bench) latency(ctx context.Context, s *side, name string, slow []event, percentiles ...float64) error {
	took, err := b.drip(ctx, s, slow)
	if err != nil {
		return err
	}
	path, err := s.floor.drip(ctx, slow, b.every)
	if err != nil {
		return err
	}
	for _, p := range percentiles {
		b.figures.sample(fmt.Sprintf("%s_p%.0f_ms", name, 100*p), s.engine, p, took, path)
	}
	return nil
}

// drip is events at low rate: how long each took in Tenure.
func (b *bench) drip(ctx context.Context, s *side, slow []event) ([]time.Duration, error) {
	before, err := s.tenure.db.sent(ctx)
	if err != nil {
		return nil, err
	}
	sender := newSender(s.tenure.webhook, s.tenure.keys, 1)
	defer sender.close()
	if err := sender.drip(ctx, slow, b.every); err != nil {
		return nil, err
	}
	if err := s.tenure.db.settled(ctx, before, len(slow)); err != nil {
		return nil, err
	}
	return s.tenure.db.latencies(ctx, slow)
}

// profile runs Tenure inside this process and writes profiles of each engine's throughput rounds: CPU, and what is on the
// heap after them.
func (b *bench) profile(ctx context.Context) error {
	for _, engine := range b.names() {
		t, err := startTenure(ctx, b.binary, filepath.Join(b.work, engine), engine, b.pg, true)
		if err != nil {
			return err
		}
		err = b.profiled(ctx, &side{engine: engine, tenure: t, people: &population{}})
		if err := errors.Join(err, t.close()); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) profiled(ctx context.Context, s *side) error {
	if _, _, err := b.flood(ctx, s, s.people.mix(b.events)); err != nil {
		return err
	}
	err := write(filepath.Join(b.options.profile, s.engine+".cpu.pprof"), func(w io.Writer) error {
		if err := pprof.StartCPUProfile(w); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
		for range b.rounds {
			acked, done, err := b.flood(ctx, s, s.people.mix(b.events))
			if err != nil {
				return err
			}
			print("%s: %d events acknowledged in %s, read back in %s", s.engine, b.events, acked, done)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return write(filepath.Join(b.options.profile, s.engine+".heap.pprof"), pprof.WriteHeapProfile)
}

// figure is one line of out/bench.json.
type figure struct {
	Name  string   `json:"name"`
	Value float64  `json:"value"`
	Unit  string   `json:"unit"`
	Limit *float64 `json:"limit"`
	Ratio *float64 `json:"ratio"`
}

func emit(w io.Writer, all []figure) error {
	lines := json.NewEncoder(w)
	for _, f := range all {
		if err := lines.Encode(f); err != nil {
			return err
		}
	}
	return nil
}
