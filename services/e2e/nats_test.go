package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/bus"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

// patience is how long something may take that happens at once.
const patience = 20 * time.Second

// natsServer runs NATS from deploy/nats/nats.conf, on a port of its own, and returns its URL.
func natsServer(t *testing.T, certs string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deploy", "nats", "nats.conf"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), "/etc/nats/certs", certs)), 0o600); err != nil {
		t.Fatal(err)
	}
	options, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatalf("nats-server refuses deploy/nats/nats.conf: %v", err)
	}
	options.Host, options.Port, options.HTTPPort, options.StoreDir, options.NoSigs = "127.0.0.1", server.RANDOM_PORT, 0, t.TempDir(), true
	running, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	running.Start()
	t.Cleanup(func() {
		running.Shutdown()
		running.WaitForShutdown()
	})
	if !running.ReadyForConnections(patience) {
		t.Fatal("nats-server does not start")
	}
	return "tls://" + running.Addr().String()
}

func certificate(certs, name string) bus.TLS {
	return bus.TLS{
		CertFile: filepath.Join(certs, name+".crt"), KeyFile: filepath.Join(certs, name+".key"), CAFile: filepath.Join(certs, "ca.crt"),
	}
}

func onBus(t *testing.T, url, certs, service string) *bus.Bus {
	t.Helper()
	b, err := bus.Connect(t.Context(), bus.Config{Service: service, URL: url, TLS: certificate(certs, service)}, zap.NewNop())
	if err != nil {
		t.Fatalf("%s cannot use the stream: %v", service, err)
	}
	t.Cleanup(b.Close)
	return b
}

func TestOnTheNATSOfComposeEachServiceCanDoItsWork(t *testing.T) {
	t.Parallel()
	certs := filepath.Join(installation(t), "deploy", "certs")
	url := natsServer(t, certs)
	urgent := eventv1.Lane_LANE_URGENT
	work := []struct {
		service, durable string
		takes            []string
		says             bus.Event
	}{
		{"ingest", "", nil, bus.NewEvent(bus.LifecycleSubject(urgent, eventv1.LifecycleKind_LIFECYCLE_KIND_LEAVER, "p1"), &eventv1.Lifecycle{}, bus.Cause{})},
		{
			"policy", "policy-urgent",
			[]string{bus.LifecycleSubject(urgent, 0, "")},
			bus.NewEvent(bus.AccessSubject(urgent, "code", "p1"), &eventv1.Access{}, bus.Cause{}),
		},
		{
			"provision", "provision-code-urgent",
			[]string{bus.AccessSubject(urgent, "code", "")},
			bus.NewEvent(bus.OutcomeSubject("code", "p1"), &eventv1.Outcome{}, bus.Cause{}),
		},
		{"audit", "audit", []string{bus.Everything}, bus.NewEvent(bus.CheckpointSigned, &eventv1.CheckpointSigned{}, bus.Cause{})},
	}
	got := map[string]chan string{}
	for _, w := range work {
		b := onBus(t, url, certs, w.service)
		if w.durable != "" {
			took := make(chan string, 100)
			got[w.service] = took
			consume(t, b, bus.ConsumerConfig{Name: w.durable, Subjects: w.takes}, took)
		}
		if err := b.PublishChunk(t.Context(), []bus.Event{w.says}); err != nil {
			t.Errorf("%s cannot say %s: %v", w.service, w.says.Subject, err)
		}
	}
	for service, count := range map[string]int{"policy": 1, "provision": 1, "audit": len(work)} {
		for range count {
			select {
			case <-got[service]:
			case <-time.After(patience):
				t.Errorf("%s did not get what it takes", service)
			}
		}
	}
}

// consume runs a consumer until the test ends and tells the subjects of what it got.
func consume(t *testing.T, b *bus.Bus, cfg bus.ConsumerConfig, took chan<- string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	task := b.Consumer(cfg, func(_ context.Context, batch []bus.Event) error {
		for _, e := range batch {
			took <- e.Subject
		}
		return nil
	})
	go func() { ended <- task(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("consumer %s: %v", cfg.Name, err)
		}
	})
}

func TestOnTheNATSOfComposeNobodyCanDoMore(t *testing.T) {
	t.Parallel()
	certs := filepath.Join(installation(t), "deploy", "certs")
	url := natsServer(t, certs)
	took := make(chan string, 100)
	consume(t, onBus(t, url, certs, "audit"), bus.ConsumerConfig{Name: "audit", Subjects: []string{bus.Everything}}, took)
	ingest := onBus(t, url, certs, "ingest")
	first := bus.NewEvent(bus.DeliveryHeld, &eventv1.DeliveryHeld{}, bus.Cause{})
	if err := ingest.PublishChunk(t.Context(), []bus.Event{first}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-took: // so the stream and audit's durable are there
	case <-time.After(patience):
		t.Fatal("audit got nothing")
	}

	foreign := map[string]string{
		"ingest": "tenure.access.urgent.code.p1", "policy": "tenure.lifecycle.urgent.leaver.p1", "provision": "tenure.access.urgent.code.p1",
		"audit": "tenure.outcome.code.p1",
	}
	var attempts sync.WaitGroup // all at once: a refused request gets no answer, so each takes its whole time
	for service, subject := range foreign {
		js := rawJetStream(t, url, certs, service)
		for what, do := range map[string]func(ctx context.Context) error{
			"say what is another's": func(ctx context.Context) error { _, err := js.Publish(ctx, subject, nil); return err },
			"delete the stream":     func(ctx context.Context) error { return js.DeleteStream(ctx, "TENURE") },
			"empty the stream": func(ctx context.Context) error {
				_, err := js.Conn().RequestWithContext(ctx, "$JS.API.STREAM.PURGE.TENURE", nil)
				return err
			},
			"change the stream": func(ctx context.Context) error {
				_, err := js.UpdateStream(ctx, jetstream.StreamConfig{Name: "TENURE", Subjects: []string{bus.Everything}})
				return err
			},
			"delete a message": func(ctx context.Context) error {
				_, err := js.Conn().RequestWithContext(ctx, "$JS.API.STREAM.MSG.DELETE.TENURE", []byte(`{"seq":1}`))
				return err
			},
			"delete audit's durable": func(ctx context.Context) error { return js.DeleteConsumer(ctx, "TENURE", "audit") },
			"make another stream": func(ctx context.Context) error {
				_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other"}})
				return err
			},
		} {
			attempts.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				if do(ctx) == nil {
					t.Errorf("%s could %s", service, what)
				}
			})
		}
	}
	attempts.Wait()
	for _, stranger := range []string{"console", "ada", "postgres", "nats"} {
		t.Run(stranger+" is not let in", func(t *testing.T) {
			t.Parallel()
			settings := certificate(certs, stranger)
			conn, err := nats.Connect(url, nats.ClientCert(settings.CertFile, settings.KeyFile), nats.RootCAs(settings.CAFile), nats.MaxReconnects(0))
			if err == nil {
				conn.Close()
				t.Error("it was")
			}
		})
	}
	t.Run("nobody is let in without a certificate", func(t *testing.T) {
		t.Parallel()
		conn, err := nats.Connect(url, nats.RootCAs(filepath.Join(certs, "ca.crt")), nats.MaxReconnects(0))
		if err == nil {
			conn.Close()
			t.Error("somebody was")
		}
	})
}

// rawJetStream is what somebody has who stole a service's certificate.
func rawJetStream(t *testing.T, url, certs, service string) jetstream.JetStream {
	t.Helper()
	settings := certificate(certs, service)
	conn, err := nats.Connect(url, nats.ClientCert(settings.CertFile, settings.KeyFile), nats.RootCAs(settings.CAFile),
		nats.CustomInboxPrefix("_INBOX_"+service), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}
