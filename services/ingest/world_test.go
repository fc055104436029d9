package ingest_test

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"google.golang.org/grpc"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/bus/bustest"
	"github.com/tenurehq/tenure/pkg/rpc"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/sqldb/sqltest"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/ingest"
	"github.com/tenurehq/tenure/services/ingest/mapping"
	"github.com/tenurehq/tenure/services/ingest/source/standardwebhooks"
)

const (
	secret      = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	otherSecret = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="
)

// noon is when the tests begin.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// world is an ingest service on a real database and a real bus, with a clock that stands still.
type world struct {
	tb       testing.TB
	db       *sqldb.DB
	bus      *bus.Bus
	svc      *ingest.Service
	handler  http.Handler
	keys     *standardwebhooks.Keys
	registry *prometheus.Registry

	mu  sync.Mutex // guards now
	now time.Time
}

// onBoth runs a test on each engine, with a world of its own.
func onBoth(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	sqltest.Run(t, ingest.Migrations(), func(t *testing.T, db *sqldb.DB) { test(t, newWorld(t, db)) })
}

func config(tb testing.TB) ingest.Config {
	tb.Helper()
	keys, err := standardwebhooks.ParseKeys([]byte(secret + "\n"))
	if err != nil {
		tb.Fatal(err)
	}
	return ingest.Config{
		Sources: []ingest.Source{
			{Name: "acme-hr", Kind: ingest.KindStandardWebhooks, Keys: keys, RawRetention: 720 * time.Hour},
			{Name: "roster", Kind: ingest.KindCSV},
			{Name: "operators", Kind: ingest.KindManual},
		},
		UserName:   []string{"given[0] + family", "given + '.' + family"},
		CutKeyFile: filepath.Join(tb.TempDir(), "cuts.key"),
	}
}

func newWorld(tb testing.TB, db *sqldb.DB) *world {
	tb.Helper()
	return newWorldWith(tb, db, config(tb))
}

func newWorldWith(tb testing.TB, db *sqldb.DB, cfg ingest.Config) *world {
	tb.Helper()
	w := &world{tb: tb, db: db, bus: bustest.New(tb), now: noon, keys: cfg.Sources[0].Keys, registry: prometheus.NewRegistry()}
	w.restart(cfg)
	return w
}

// restart makes the service anew on the same database, with another configuration.
func (w *world) restart(cfg ingest.Config) {
	w.tb.Helper()
	w.registry = prometheus.NewRegistry()
	w.svc = w.replica(cfg, w.registry, w.clock)
	w.handler = w.svc.Handler()
}

// replica is another service on the same database, with a clock of its own.
func (w *world) replica(cfg ingest.Config, registry *prometheus.Registry, now func() time.Time) *ingest.Service {
	w.tb.Helper()
	svc, err := ingest.New(cfg, ingest.Deps{
		DB: w.db, Bus: w.bus, Registry: registry, Now: now,
		Recorded: func(context.Context, string) (uint64, time.Duration, error) { return 0, 0, nil },
		Log:      zaptest.NewLogger(w.tb, zaptest.Level(zap.FatalLevel)),
	})
	if err != nil {
		w.tb.Fatalf("make the service: %v", err)
	}
	return svc
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// operator is a context in which the operator ada calls.
func (w *world) operator() context.Context {
	return rpc.WithCaller(w.tb.Context(), rpc.Caller{Operator: "ada"})
}

// reply is what a webhook was answered.
type reply struct {
	status     int
	retryAfter string
	text       string
	Delivery   string  `json:"delivery"`
	Held       *string `json:"held"`
	Items      []struct {
		Item       int     `json:"item"`
		ExternalID string  `json:"external_id"`
		Held       *string `json:"held"`
	} `json:"items"`
	Error   string  `json:"error"`
	Pointer *string `json:"pointer"`
}

func (r reply) held() string {
	if r.Held == nil {
		return ""
	}
	return *r.Held
}

// send posts a request as it is.
func (w *world) send(r *http.Request) reply {
	w.tb.Helper()
	recorder := httptest.NewRecorder()
	w.handler.ServeHTTP(recorder, r)
	answer := reply{status: recorder.Code, retryAfter: recorder.Header().Get("Retry-After"), text: recorder.Body.String()}
	if strings.HasPrefix(answer.text, "{") {
		if err := json.Unmarshal(recorder.Body.Bytes(), &answer); err != nil {
			w.tb.Errorf("answer %q is not JSON: %v", answer.text, err)
		}
	}
	return answer
}

// signed is a request as the HR system sends it now.
func (w *world) signed(source, id, body string) *http.Request {
	w.tb.Helper()
	return w.signedAt(w.keys, source, id, w.clock(), body)
}

func (w *world) signedAt(keys *standardwebhooks.Keys, source, id string, at time.Time, body string) *http.Request {
	w.tb.Helper()
	headers, err := keys.Sign(id, at, []byte(body))
	if err != nil {
		w.tb.Fatalf("sign: %v", err)
	}
	r := httptest.NewRequestWithContext(w.tb.Context(), http.MethodPost, "/v1/webhooks/"+source, strings.NewReader(body))
	maps.Copy(r.Header, headers)
	return r
}

// post sends a body from the HR system.
func (w *world) post(id, body string) reply {
	w.tb.Helper()
	return w.send(w.signed("acme-hr", id, body))
}

// deliver posts a body that must be understood.
func (w *world) deliver(id, body string) reply {
	w.tb.Helper()
	answer := w.post(id, body)
	if answer.status != http.StatusAccepted || answer.Held != nil || answer.Delivery == "" {
		w.tb.Fatalf("delivery %s was answered %d %s, want it understood", id, answer.status, answer.text)
	}
	return answer
}

// data is a record in the generic form.
type data map[string]any

// ann is the record that most tests begin with.
func ann() data {
	return data{
		"external_id": "10001", "status": "active", "given_name": "Ann", "family_name": "Archer",
		"email": "ann.archer@acme.example", "department": "d005", "title": "Engineer",
	}
}

// with is a copy with other values, given by key and value; nil takes a key away.
func (d data) with(pairs ...any) data {
	c := maps.Clone(d)
	for i := 0; i < len(pairs); i += 2 {
		key, _ := pairs[i].(string)
		if pairs[i+1] == nil {
			delete(c, key)
			continue
		}
		c[key] = pairs[i+1]
	}
	return c
}

// changed is a body that says so about one person.
func changed(d data) string {
	return text(map[string]any{"type": "person.changed", "data": d})
}

// changedAt is one that says when the record was made.
func changedAt(at time.Time, d data) string {
	return text(map[string]any{"type": "person.changed", "timestamp": at.Format(time.RFC3339), "data": d})
}

func batch(people ...data) string {
	return text(map[string]any{"type": "person.batch", "data": map[string]any{"people": people}})
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of texts
	}
	return string(b)
}

// find resolves a reference that must be known.
func (w *world) find(ref string) *peoplev1.Person {
	w.tb.Helper()
	answer, err := w.svc.FindPerson(w.operator(), &peoplev1.FindPersonRequest{Ref: ref})
	if err != nil {
		w.tb.Fatalf("find %s: %v", ref, err)
	}
	return answer.GetPerson()
}

// timeline is all that was said about and happened to a person.
func (w *world) timeline(ref string) *peoplev1.TimelineResponse {
	w.tb.Helper()
	answer, err := w.svc.Timeline(w.operator(), &peoplev1.TimelineRequest{PersonId: w.find(ref).GetId()})
	if err != nil {
		w.tb.Fatalf("timeline of %s: %v", ref, err)
	}
	return answer
}

// kinds are the lifecycle events of a person, in order, by short name.
func kinds(timeline *peoplev1.TimelineResponse) []string {
	var all []string
	for _, h := range timeline.GetHappenings() {
		all = append(all, strings.ToLower(strings.TrimPrefix(h.GetLifecycle().GetKind().String(), "LIFECYCLE_KIND_")))
	}
	return all
}

// stream collects what a streaming call sends.
type stream[T any] struct {
	grpc.ServerStream
	ctx  context.Context //nolint:containedctx // that is what a stream has
	sent []*T
}

func (s *stream[T]) Context() context.Context { return s.ctx }
func (s *stream[T]) Send(m *T) error          { s.sent = append(s.sent, m); return nil }

// deliveries lists what came in, newest first.
func (w *world) deliveries(req *peoplev1.ListDeliveriesRequest) []*peoplev1.Delivery {
	w.tb.Helper()
	s := &stream[peoplev1.ListDeliveriesResponse]{ctx: w.operator()}
	if err := w.svc.ListDeliveries(req, s); err != nil {
		w.tb.Fatalf("list deliveries: %v", err)
	}
	var all []*peoplev1.Delivery
	for _, page := range s.sent {
		all = append(all, page.GetDeliveries()...)
	}
	return all
}

// run runs the service until the test ends and returns what it publishes, in order.
func (w *world) run() <-chan bus.Event {
	w.tb.Helper()
	events := make(chan bus.Event, 10_000)
	ctx, stop := context.WithCancel(w.tb.Context())
	var done sync.WaitGroup
	consume := w.bus.Consumer(bus.ConsumerConfig{Name: "test", Subjects: []string{bus.Everything}, Batch: 100},
		func(_ context.Context, batch []bus.Event) error {
			for _, e := range batch {
				events <- e
			}
			return nil
		})
	for _, task := range []func(context.Context) error{consume, w.svc.Run} {
		done.Go(func() {
			if err := task(ctx); err != nil {
				w.tb.Errorf("a task ended with %v", err)
			}
		})
	}
	w.tb.Cleanup(func() { stop(); done.Wait() })
	return events
}

// next waits for the next event.
func next(t *testing.T, events <-chan bus.Event) bus.Event {
	t.Helper()
	select {
	case e := <-events:
		return e
	case <-time.After(20 * time.Second):
		t.Fatal("an event that is due was not published")
		return bus.Event{}
	}
}

// figure is the value of a counter or gauge with these labels, given by name and value.
func (w *world) figure(name string, labels ...string) float64 {
	w.tb.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.tb.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, metric := range family.GetMetric() {
			if labelled(metric, labels) {
				return metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
		}
	}
	return 0
}

func labelled(metric *dto.Metric, labels []string) bool {
	for i := 0; i < len(labels); i += 2 {
		found := false
		for _, pair := range metric.GetLabel() {
			found = found || pair.GetName() == labels[i] && pair.GetValue() == labels[i+1]
		}
		if !found {
			return false
		}
	}
	return true
}

// slowReader is a body that arrives when it is told to.
type slowReader struct {
	body   io.ReadCloser
	begun  chan<- struct{}
	arrive <-chan struct{}
	once   sync.Once
}

func (b *slowReader) Read(p []byte) (int, error) {
	b.once.Do(func() { b.begun <- struct{}{}; <-b.arrive })
	return b.body.Read(p)
}

func (b *slowReader) Close() error { return b.body.Close() }

// ownMapping reads the records of a source in another form.
func ownMapping(t *testing.T, text string) *mapping.Mapping {
	t.Helper()
	m, err := mapping.Compile("mapping.yaml", []byte(text), time.UTC)
	if err != nil {
		t.Fatalf("compile mapping: %v", err)
	}
	return m
}
