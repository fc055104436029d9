package telemetry_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/tenurehq/tenure/pkg/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts telemetry on a free port and returns it with the base URL; it ends with the test.
func serve(t *testing.T) (*telemetry.Telemetry, string) {
	t.Helper()
	tel, err := telemetry.Start(t.Context(), "test", telemetry.Config{Listen: "127.0.0.1:0", Level: "error"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- tel.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve ended with %v", err)
		}
		tel.Stop()
	})
	return tel, "http://" + tel.Addr().String()
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestFiguresAreServed(t *testing.T) {
	t.Parallel()
	tel, url := serve(t)
	count := prometheus.NewCounter(prometheus.CounterOpts{Name: "tenure_test_total", Help: "A test's."})
	tel.Registry.MustRegister(count)
	count.Add(3)
	code, body := get(t, url+"/metrics")
	if code != http.StatusOK || !strings.Contains(body, "\ntenure_test_total 3\n") || !strings.Contains(body, "go_goroutines") {
		t.Errorf("/metrics: %d %.200s", code, body)
	}
	if code, _ := get(t, url+"/livez"); code != http.StatusOK {
		t.Errorf("/livez: %d", code)
	}
	if code, _ := get(t, url+"/"); code != http.StatusNotFound {
		t.Errorf("/: %d, want nothing there", code)
	}
}

func TestReadyNamesWhatIsNot(t *testing.T) {
	t.Parallel()
	tel, url := serve(t)
	var broken error
	tel.Ready("database", func(context.Context) error { return nil })
	tel.Ready("bus", func(context.Context) error { return broken })
	if code, body := get(t, url+"/readyz"); code != http.StatusOK || body != "ok     bus\nok     database\n" {
		t.Errorf("all well: %d %q", code, body)
	}
	broken = errors.New("dial tcp 10.1.2.3: refused")
	if code, body := get(t, url+"/readyz"); code != http.StatusServiceUnavailable || body != "failed bus\nok     database\n" {
		t.Errorf("one failed: %d %q; want its name and not its error", code, body)
	}
	broken = nil
	if code, _ := get(t, url+"/readyz"); code != http.StatusOK {
		t.Errorf("well again: %d", code)
	}
}

func TestReadyDoesNotWaitForAHangingCheck(t *testing.T) {
	t.Parallel()
	tel, url := serve(t)
	release, started := make(chan struct{}), make(chan struct{}, 9)
	t.Cleanup(func() { close(release) })
	tel.Ready("deaf", func(context.Context) error { started <- struct{}{}; <-release; return nil }) // ignores its context
	for range 2 {
		begun := time.Now()
		if code, body := get(t, url+"/readyz"); code != http.StatusServiceUnavailable || body != "failed deaf\n" {
			t.Errorf("hanging check: %d %q", code, body)
		}
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("the answer took %s", took)
		}
	}
	if len(started) != 1 {
		t.Errorf("the hanging check was started %d times, want once", len(started))
	}
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	tel, _ := serve(t)
	for name, cfg := range map[string]telemetry.Config{
		"a level that is none":      {Level: "loud"},
		"a level that hides errors": {Level: "fatal"},
		"a port that is taken":      {Listen: tel.Addr().String()},
	} {
		if _, err := telemetry.Start(t.Context(), "test", cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestWithoutListenerServeWaits(t *testing.T) {
	t.Parallel()
	tel, err := telemetry.Start(t.Context(), "test", telemetry.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer tel.Stop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tel.Serve(ctx); err != nil || tel.Addr() != nil {
		t.Errorf("serve: %v, address %v; want nothing", err, tel.Addr())
	}
}

func TestContextsLogBearsItsFields(t *testing.T) {
	t.Parallel()
	core, logged := observer.New(zap.InfoLevel)
	ctx := telemetry.WithLog(t.Context(), zap.New(core))
	ctx = telemetry.With(ctx, zap.String(telemetry.FieldEvent, "e1"))
	telemetry.Log(telemetry.With(ctx, zap.String(telemetry.FieldPerson, "p1"))).Info("done")
	entry := logged.All()[0].ContextMap()
	if entry["event"] != "e1" || entry["person"] != "p1" {
		t.Errorf("fields: %v", entry)
	}
	telemetry.Log(t.Context()).Info("nobody hears") // must not panic
}

func TestTraceContextTravels(t *testing.T) {
	t.Parallel()
	if got := telemetry.TraceParent(t.Context()); got != "" {
		t.Errorf("no trace reads as %q", got)
	}
	const outside = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	carried := telemetry.WithTraceParent(t.Context(), outside)
	if got := telemetry.TraceParent(carried); got != outside {
		t.Errorf("carried as %q, want %q", got, outside)
	}
	child := telemetry.TraceParent(telemetry.Span(carried))
	if !strings.HasPrefix(child, outside[:36]) || child == outside || !strings.HasSuffix(child, "-01") {
		t.Errorf("child %q, want another span in the trace of %q", child, outside)
	}
	if got := telemetry.TraceID(carried); got != "4bf92f3577b34da6a3ce929d0e0e4736" {
		t.Errorf("trace id %q", got)
	}
	first, second := telemetry.Span(t.Context()), telemetry.Span(t.Context())
	if telemetry.TraceID(first) == "" || telemetry.TraceID(first) == telemetry.TraceID(second) {
		t.Error("new traces have no ids of their own")
	}
	for _, bad := range []string{"", "nonsense", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", outside + "\r\nx: y"} {
		if got := telemetry.TraceParent(telemetry.WithTraceParent(t.Context(), bad)); got != "" {
			t.Errorf("%q was carried on as %q", bad, got)
		}
	}
}
