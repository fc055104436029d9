package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/run"
	"github.com/tenurehq/tenure/pkg/sqldb"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/audit"
	"github.com/tenurehq/tenure/services/ingest"
	"github.com/tenurehq/tenure/services/policy"
	"github.com/tenurehq/tenure/services/provision"
)

// As long as Tenure lets things gather: what workers write, the record of it, and audit's appends.
const (
	workerWait   = 5 * time.Millisecond
	workerGather = 50 * time.Millisecond
	auditGather  = 20 * time.Millisecond
)

// floor does what lifecycle events cost at least: it writes the rows that Tenure writes, of the same size, into
// databases with the same tables, in the same transactions, and sends the messages that Tenure sends through a stream of
// the same kind to the same durable consumers; each step begins when the one before it is durable, as in Tenure. It reads
// nothing, decides nothing, calls no application, verifies and encodes nothing: the rows and messages are samples taken
// from the Tenure under measurement, with fresh keys.
//
// The batches are not scripted: they come about as in Tenure, because the same things wait for each other.
type floor struct {
	engine  string
	dbs     map[string]*sqldb.DB
	server  *bus.Server
	bus     *bus.Bus
	samples *samples

	relays  map[string]*relay
	workers []*replayWorker
	leaves  atomic.Int64
	rows    atomic.Int64 // written
	sent    atomic.Int64 // messages

	people []string
	moved  int

	paths    sync.Map     // person to *path
	finished atomic.Int64 // targets
	failed   atomic.Pointer[error]
	stop     func() error
}

// path is the time that a person's event spends in commits and hops, up to the five intents.
type path struct {
	common atomic.Int64
	apps   [applications]atomic.Int64
}

// longest is the path to the last of the five applications.
func (p *path) longest() time.Duration {
	var most int64
	for i := range p.apps {
		most = max(most, p.apps[i].Load())
	}
	return time.Duration(p.common.Load() + most)
}

// openFloor makes the databases and the stream, and starts the consumers.
func openFloor(ctx context.Context, dir, engine string, pg *postgres, s *samples) (_ *floor, err error) {
	f := &floor{engine: engine, dbs: map[string]*sqldb.DB{}, relays: map[string]*relay{}, samples: s, stop: func() error { return nil }}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	database := "floor"
	if engine == enginePostgres {
		if err := pg.create(ctx, database); err != nil {
			return nil, err
		}
	}
	for _, service := range services() {
		cfg := sqldb.Config{SQLite: filepath.Join(dir, service+".db")}
		if engine == enginePostgres {
			cfg = sqldb.Config{Postgres: config.NewSecret([]byte(pg.dsn(database))), Schema: service}
		}
		if f.dbs[service], err = sqldb.Open(ctx, cfg, migrations(service)...); err != nil {
			return nil, err
		}
		if err := f.dbs[service].InTx(ctx, func(tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, "INSERT INTO outbox_origin (origin, next_seq, epoch, published, published_at) VALUES ($1, 1, '', 0, 0)", service)
			if err == nil && service == "audit" {
				_, err = tx.Exec(ctx, "INSERT INTO head (log, size, root) VALUES ('log', 0, $1) ON CONFLICT DO NOTHING", make([]byte, 32))
			}
			return err
		}); err != nil {
			return nil, err
		}
		r := &relay{floor: f, db: f.dbs[service], service: service, added: make(chan struct{}, 1)}
		if strings.HasPrefix(service, "provision_") {
			r.gather = workerGather
		}
		f.relays[service] = r
	}
	if f.server, err = bus.StartServer(bus.ServerConfig{StoreDir: filepath.Join(dir, "jetstream"), SyncInterval: time.Second}); err != nil {
		return nil, err
	}
	if f.bus, err = bus.Connect(ctx, bus.Config{Service: "bench", Server: f.server}, zap.NewNop()); err != nil {
		return nil, err
	}
	f.start(ctx)
	return f, nil
}

func migrations(service string) []sqldb.Migrations {
	switch service {
	case "ingest":
		return ingest.Migrations()
	case "policy":
		return policy.Migrations()
	case "audit":
		return audit.Migrations()
	}
	return provision.Migrations()
}

// start runs relays and consumers as Tenure has them; those of the urgent lane idle here as there.
func (f *floor) start(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	lanes := map[string]eventv1.Lane{"urgent": eventv1.Lane_LANE_URGENT, "normal": eventv1.Lane_LANE_NORMAL}
	var tasks []run.Task
	for name, lane := range lanes {
		tasks = append(tasks, f.bus.Consumer(bus.ConsumerConfig{
			Name: "policy-" + name, Subjects: []string{bus.LifecycleSubject(lane, eventv1.LifecycleKind_LIFECYCLE_KIND_UNSPECIFIED, "")},
		}, f.watched(f.decide)))
	}
	for n := range applications {
		w := f.worker(n)
		f.workers = append(f.workers, w)
		tasks = append(tasks, w.feed)
		for name, lane := range lanes {
			tasks = append(tasks, f.bus.Consumer(bus.ConsumerConfig{
				Name: "provision-" + appName(n) + "-" + name, Subjects: []string{bus.AccessSubject(lane, appName(n), "")},
			}, f.watched(w.mark)))
		}
	}
	tasks = append(tasks, f.bus.Consumer(bus.ConsumerConfig{Name: "audit", Subjects: []string{"tenure.>"}, Gather: auditGather}, f.watched(f.record)))
	for _, r := range f.relays {
		tasks = append(tasks, r.run)
	}
	ended := make(chan error, 1)
	go func() { ended <- run.All(ctx, tasks...) }()
	f.stop = func() error {
		cancel()
		return <-ended
	}
}

// watched makes a handler's first failure the floor's: nothing may fail here.
func (f *floor) watched(handle bus.Handler) bus.Handler {
	return func(ctx context.Context, batch []bus.Event) error {
		err := handle(ctx, batch)
		if err != nil {
			f.failed.CompareAndSwap(nil, &err)
		}
		return err
	}
}

func (f *floor) close() error {
	errs := []error{f.stop()}
	if f.bus != nil {
		f.bus.Close()
	}
	if f.server != nil {
		f.server.Close()
	}
	for _, db := range f.dbs {
		errs = append(errs, db.Close())
	}
	return errors.Join(errs...)
}

// plan is the people of one round: who is new is hired, the others are moved.
func (f *floor) plan(events []event) []replayed {
	known := len(f.people)
	var all []replayed
	for _, e := range events {
		r := replayed{joiner: e.joiner || known == 0, body: len(e.body)}
		if r.joiner {
			r.person = uuid.Must(uuid.NewV7()).String()
			f.people = append(f.people, r.person)
		} else {
			r.person = f.people[f.moved%known]
			f.moved++
		}
		all = append(all, r)
	}
	return all
}

// replayed is an event as the floor has it.
type replayed struct {
	person string
	joiner bool
	body   int
}

// webhooks is how long the floor takes to acknowledge events over HTTP: a bare server that reads the body, makes the rows
// of one webhook durable and answers, for the same clients. As with Tenure, what follows from the webhooks is done
// meanwhile, on the same cores.
func (f *floor) webhooks(ctx context.Context, events []event, t *tenure, clients int) (time.Duration, error) {
	leaves := f.leaves.Load()
	f.finished.Store(0)
	plan := f.plan(events)
	var next atomic.Int64
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		if err == nil {
			err = f.receive(r.Context(), plan[next.Add(1)-1])
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"delivery":"00000000-0000-0000-0000-000000000000","duplicate":false,"held":null}`)
	})}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	s := newSender("http://"+listener.Addr().String(), t.keys, clients)
	took, err := s.flood(ctx, events, clients)
	s.close()
	err = errors.Join(err, server.Close())
	if e := <-served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	if err != nil {
		return 0, err
	}
	return took, f.await(ctx, func() bool {
		return f.finished.Load() >= int64(applications*len(plan)) && f.leaves.Load()-leaves >= int64(16*len(plan))
	})
}

// result is a round of the floor.
type result struct {
	took     time.Duration
	rows     float64 // written for each event
	messages float64
}

// flood is how long the floor takes from the first event to the last settled target, with so many at once.
func (f *floor) flood(ctx context.Context, events []event, clients int) (result, error) {
	plan := f.plan(events)
	rows, sent, leaves := f.rows.Load(), f.sent.Load(), f.leaves.Load()
	f.finished.Store(0)
	var next atomic.Int64
	errs := make([]error, clients)
	var all sync.WaitGroup
	began := time.Now()
	for c := range clients {
		all.Go(func() {
			for errs[c] == nil {
				i := int(next.Add(1)) - 1
				if i >= len(plan) {
					return
				}
				errs[c] = f.receive(ctx, plan[i])
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return result{}, err
	}
	if err := f.await(ctx, func() bool { return f.finished.Load() >= int64(applications*len(plan)) }); err != nil {
		return result{}, err
	}
	r := result{took: time.Since(began)}
	err := f.await(ctx, func() bool { return f.leaves.Load()-leaves >= int64(16*len(plan)) })
	r.rows = float64(f.rows.Load()-rows) / float64(len(plan))
	r.messages = float64(f.sent.Load()-sent) / float64(len(plan))
	return r, err
}

// drip is, for events one at a time, the sum of commits and hops on the way of each to the last of its five intents.
func (f *floor) drip(ctx context.Context, events []event, every time.Duration) ([]time.Duration, error) {
	plan := f.plan(events)
	f.finished.Store(0)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for _, r := range plan {
		f.paths.Store(r.person, &path{})
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
		if err := f.receive(ctx, r); err != nil {
			return nil, err
		}
	}
	if err := f.await(ctx, func() bool { return f.finished.Load() >= int64(applications*len(plan)) }); err != nil {
		return nil, err
	}
	var all []time.Duration
	f.paths.Range(func(_, p any) bool {
		all = append(all, p.(*path).longest())
		return true
	})
	f.paths.Clear()
	slices.Sort(all)
	return all, nil
}

func (f *floor) await(ctx context.Context, done func() bool) error {
	deadline := time.Now().Add(settleTime)
	for !done() {
		if err := f.failed.Load(); err != nil {
			return fmt.Errorf("the floor: %w", *err)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the floor did not settle: %d targets finished, %d leaves", f.finished.Load(), f.leaves.Load())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// spent adds to the path of a person, if it is measured: of one application, or (-1) of all.
func (f *floor) spent(person string, app int, d time.Duration) {
	p, ok := f.paths.Load(person)
	if !ok {
		return
	}
	if app < 0 {
		p.(*path).common.Add(int64(d))
		return
	}
	p.(*path).apps[app].Add(int64(d))
}
