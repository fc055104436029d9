package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/tenurehq/tenure/services/ingest/source/standardwebhooks"
	"github.com/tenurehq/tenure/services/process"
	"github.com/tenurehq/tenure/services/settings"
)

const (
	applications = 5
	departments  = 40 // times applications: 200 roles, each granting one entitlement
	source       = "hr"
)

// appName is the nth demo application.
func appName(n int) string { return fmt.Sprintf("app%d", n+1) }

// tenure is one Tenure under measurement: the shipped binary with its default settings, or, for counting and
// profiling, the same services inside this process.
type tenure struct {
	engine  string
	dir     string
	webhook string
	ready   string
	grpc    string
	keys    *standardwebhooks.Keys
	child   *child       // nil: in this process
	stop    func() error // in this process
	db      *observer
}

// startTenure starts a Tenure with an empty database, five plain demo applications and 200 roles.
func startTenure(ctx context.Context, binary, dir, engine string, pg *postgres, inside bool) (*tenure, error) {
	t := &tenure{engine: engine, dir: dir}
	ports := make([]int, 3)
	for i := range ports {
		var err error
		if ports[i], err = freePort(ctx); err != nil {
			return nil, err
		}
	}
	if err := t.configure(ctx, pg, ports); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "tenure.yaml")
	if inside {
		if err := t.startInside(ctx, file); err != nil {
			return nil, err
		}
	} else {
		var err error
		if t.child, err = startChild(dir, filepath.Join(dir, "log"), binary, "serve", "-c", file); err != nil {
			return nil, err
		}
	}
	t.grpc = fmt.Sprintf("127.0.0.1:%d", ports[1])
	t.ready = fmt.Sprintf("http://127.0.0.1:%d/readyz", ports[2])
	t.webhook = fmt.Sprintf("http://127.0.0.1:%d/v1/webhooks/%s", ports[0], source)
	if err := t.prepare(ctx, binary); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

// await waits until it is ready.
func (t *tenure) await(ctx context.Context) error {
	if err := answered(ctx, t.ready, func(status int) bool { return status == http.StatusOK }); err != nil {
		return fmt.Errorf("tenure does not get ready: %w", err)
	}
	return nil
}

// answered waits, a minute at most, until a page is answered with a status that will do.
func answered(ctx context.Context, url string, does func(status int) bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close() // only the status counts
			if does(resp.StatusCode) {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// prepare waits until it is ready, applies the model and opens its databases for looking.
func (t *tenure) prepare(ctx context.Context, binary string) error {
	if err := t.await(ctx); err != nil {
		return err
	}
	apply := exec.CommandContext(ctx, binary, "model", "apply", filepath.Join(t.dir, "model"), //nolint:gosec // G204: built by us
		"--server", t.grpc, "--token-file", filepath.Join(t.dir, "token"), "--yes")
	if out, err := apply.CombinedOutput(); err != nil {
		return fmt.Errorf("apply the model: %w\n%s", err, out)
	}
	return t.db.open(ctx)
}

// configure writes configuration, secrets and model.
func (t *tenure) configure(ctx context.Context, pg *postgres, ports []int) error {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails
	whsec := "whsec_" + base64.StdEncoding.EncodeToString(secret[:])
	token := rand.Text()
	sum := sha256.Sum256([]byte(token))
	var err error
	if t.keys, err = standardwebhooks.ParseKeys([]byte(whsec)); err != nil {
		return err
	}
	config := fmt.Sprintf("data_dir: data\nlog_level: warn\nlisten: {http: \"127.0.0.1:%d\", grpc: \"127.0.0.1:%d\", metrics: \"127.0.0.1:%d\"}\n",
		ports[0], ports[1], ports[2]) +
		fmt.Sprintf("operators:\n  - {name: bench, role: admin, token_sha256: \"%s\"}\n", hex.EncodeToString(sum[:])) +
		"sources:\n  - {name: " + source + ", kind: standard-webhooks, secret_file: secret}\n  - {name: " + backlogSource + ", kind: csv}\n" +
		"nats: {max_bytes: 2147483648}\n" + // 100,000 people joining for five applications take all of the default
		"brake: {per_hour: 100%, per_day: 100%, per_app_day: 100%}\n" // it is not what is measured: movers lose something, too
	files := map[string]string{"secret": whsec + "\n", "token": token + "\n", "model/roles.yaml": model()}
	if t.engine == enginePostgres {
		database := "tenure_" + strings.ToLower(rand.Text()[:8])
		if err := pg.create(ctx, database); err != nil {
			return err
		}
		files["url"] = pg.dsn(database) + "\n"
		config += "database: {url_file: url}\n"
		t.db = &observer{engine: t.engine, dsn: pg.dsn(database)}
	} else {
		t.db = &observer{engine: t.engine, dsn: filepath.Join(t.dir, "data")}
	}
	var entitlements []string
	for d := range departments {
		entitlements = append(entitlements, fmt.Sprintf("%q", "group:"+department(d)))
	}
	config += "applications:\n"
	for n := range applications {
		config += fmt.Sprintf("  - name: %s\n    connector: demo\n    owner: bench\n    enforce: full\n    config: {entitlements: [%s]}\n", appName(n), strings.Join(entitlements, ", ")) +
			"    account: {login: person.user_name, email: person.email}\n"
	}
	files["tenure.yaml"] = config
	for name, text := range files {
		path := filepath.Join(t.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// model is one role for each department and application.
func model() string {
	var b strings.Builder
	b.WriteString("entitlements:\n")
	for d := range departments {
		for n := range applications {
			fmt.Fprintf(&b, "  - {app: %s, id: \"group:%s\", level: read}\n", appName(n), department(d))
		}
	}
	b.WriteString("roles:\n")
	for d := range departments {
		for n := range applications {
			fmt.Fprintf(&b, "  - name: %s-%s\n    members: person.department == %q\n    grants:\n      - {app: %s, entitlement: \"group:%s\"}\n",
				department(d), appName(n), department(d), appName(n), department(d))
		}
	}
	return b.String()
}

func department(d int) string { return fmt.Sprintf("d%03d", d%departments) }

// startInside runs the services in this process.
func (t *tenure) startInside(ctx context.Context, file string) error {
	cfg, err := settings.Load(file)
	if err != nil {
		return err
	}
	p, err := process.Start(ctx, "tenure", cfg)
	if err != nil {
		return err
	}
	for _, add := range []func(context.Context) error{
		p.Ingest, p.Policy, func(ctx context.Context) error { return p.Provision(ctx) }, p.Audit, p.Console,
	} {
		if err := add(ctx); err != nil {
			return errors.Join(err, p.Close())
		}
	}
	running, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- errors.Join(p.Run(running), p.Close()) }()
	t.stop = func() error {
		cancel()
		return <-ended
	}
	return nil
}

// close stops it and waits until it has ended.
func (t *tenure) close() error {
	err := t.db.close()
	if t.child != nil {
		err = errors.Join(err, t.child.close())
	}
	if t.stop != nil {
		err = errors.Join(err, t.stop())
	}
	return err
}

// restart stops the binary, reads what the database counted when nobody was connected, and starts it again.
func (t *tenure) restart(ctx context.Context, binary string) (counts, error) {
	if err := t.child.close(); err != nil {
		return nil, err
	}
	if err := t.db.close(); err != nil {
		return nil, err
	}
	time.Sleep(time.Second) // the last to leave report on their way out
	if err := t.db.open(ctx); err != nil {
		return nil, err
	}
	found, err := t.db.countedPostgres(ctx)
	if err != nil {
		return nil, err
	}
	if t.child, err = startChild(t.dir, filepath.Join(t.dir, "log"), binary, "serve", "-c", filepath.Join(t.dir, "tenure.yaml")); err != nil {
		return nil, err
	}
	return found, t.await(ctx)
}
