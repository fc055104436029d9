package e2e

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/rpc"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	provisionv1 "github.com/tenurehq/tenure/proto/gen/tenure/provision/v1"
)

// plan is what a test wants of a tenure serve.
type plan struct {
	database     string // of Tenure itself: a DSN; empty: SQLite
	applications string // YAML, below the key of that name
	sources      string // YAML, besides hr, desk and files
	more         string // YAML, further keys
	logLevel     string // default info: everything that it has to say
	brake        string // YAML; empty: everybody may lose access at once, for most stories are about something else
}

// tenure is a running tenure serve.
type tenure struct {
	*process
	dir     string // its working folder: configuration, secrets, data, output
	http    string // addresses
	grpc    string
	metrics string
	secret  string // of the source hr
}

// serve starts tenure serve with the sources hr (signed webhooks), desk (manual) and files (CSV) and the operators ada
// (admin), bob (approver), olga (operator) and vic (viewer), and waits until it is ready.
func serve(t *testing.T, p plan) *tenure {
	t.Helper()
	tn := configure(t, p)
	tn.start(t)
	return tn
}

// configure is serve without starting it.
func configure(t *testing.T, p plan) *tenure {
	t.Helper()
	at := freeAddresses(t, 3)
	tn := &tenure{dir: t.TempDir(), http: at[0], grpc: at[1], metrics: at[2], secret: "whsec_" + token()}
	if p.logLevel == "" {
		p.logLevel = "info"
	}
	var text strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&text, format+"\n", args...) }
	line("data_dir: data\nlog_level: %s", p.logLevel)
	line("listen: {http: %q, grpc: %q, metrics: %q}", tn.http, tn.grpc, tn.metrics)
	if p.database != "" {
		write(t, filepath.Join(tn.dir, "database"), p.database)
		line("database: {url_file: database}")
	}
	line("operators:")
	for name, role := range map[string]string{"ada": "admin", "bob": "approver", "olga": "operator", "vic": "viewer"} {
		secret := token()
		write(t, filepath.Join(tn.dir, "data", "operators", name), secret+"\n")
		sum := sha256.Sum256([]byte(secret))
		line("  - {name: %s, role: %s, token_sha256: %s}", name, role, hex.EncodeToString(sum[:]))
	}
	write(t, filepath.Join(tn.dir, "secrets", "hr"), tn.secret+"\n")
	line("sources:\n  - {name: hr, kind: standard-webhooks, secret_file: secrets/hr}")
	line("  - {name: desk, kind: manual}\n  - {name: files, kind: csv}\n%s", p.sources)
	if p.brake == "" {
		p.brake = "{per_hour: 100%, per_day: 100%, per_app_day: 100%}"
	}
	line("brake: %s", p.brake)
	line("applications:\n%s%s", strings.TrimRight(p.applications, "\n"), "\n"+p.more)
	write(t, filepath.Join(tn.dir, "tenure.yaml"), text.String())
	return tn
}

// start starts it, for the first time or again.
func (tn *tenure) start(t *testing.T) {
	t.Helper()
	tn.process = launch(t, tn.dir, "tenure", "serve", "-c", "tenure.yaml")
	tn.awaitReady(t, tn.metrics)
}

func token() string {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails
	return base64.StdEncoding.EncodeToString(secret[:])
}

// cli runs the command line as ada.
func (tn *tenure) cli(t *testing.T, args ...string) ran {
	t.Helper()
	return tn.cliAs(t, "ada", args...)
}

func (tn *tenure) cliAs(t *testing.T, operator string, args ...string) ran {
	t.Helper()
	return execute(t, tn.dir, "tenure", append([]string{"--server", tn.grpc, "--data-dir", "data", "--operator", operator}, args...)...)
}

// ask runs a command with -o json, expects that it succeeds, and reads its answer.
func ask[T any](t *testing.T, tn *tenure, args ...string) T {
	t.Helper()
	return answer[T](t, tn.cli(t, append(args, "-o", "json")...))
}

// answer expects that a command with -o json succeeded, and reads what it printed.
func answer[T any](t *testing.T, r ran) (said T) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.want(t, 0).stdout), &said); err != nil {
		t.Fatalf("%s: %v\n%s", r.line, err, r.stdout)
	}
	return said
}

// applyModel makes a model take effect.
func (tn *tenure) applyModel(t *testing.T, text string) {
	t.Helper()
	write(t, filepath.Join(tn.dir, "model", "roles.yaml"), text)
	tn.cli(t, "model", "apply", "model", "--yes").want(t, 0)
}

// operators are connections of an operator's, for what is asked too often to start a process each time.
type operators struct {
	people    peoplev1.PeopleServiceClient
	access    accessv1.AccessServiceClient
	provision provisionv1.ProvisionServiceClient
	processes []*process // that answer
}

func (tn *tenure) dial(t *testing.T) operators {
	t.Helper()
	secret, err := config.ReadSecret(filepath.Join(tn.dir, "data", "operators", "vic"))
	if err != nil {
		t.Fatal(err)
	}
	return dial(t, rpc.PeerConfig{Address: tn.grpc, Token: secret}, tn.process)
}

func dial(t *testing.T, door rpc.PeerConfig, processes ...*process) operators {
	t.Helper()
	conn, err := rpc.Dial(door)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return operators{
		peoplev1.NewPeopleServiceClient(conn), accessv1.NewAccessServiceClient(conn), provisionv1.NewProvisionServiceClient(conn), processes,
	}
}

// everybody are all people, as ingest knows them.
func (o operators) everybody(t *testing.T) []*peoplev1.Person {
	t.Helper()
	all, err := o.list(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (o operators) list(ctx context.Context) (all []*peoplev1.Person, err error) {
	stream, err := o.people.ListPeople(ctx, &peoplev1.ListPeopleRequest{})
	for err == nil {
		var some *peoplev1.ListPeopleResponse
		some, err = stream.Recv()
		all = append(all, some.GetPeople()...)
	}
	if errors.Is(err, io.EOF) {
		return all, nil
	}
	return nil, err
}

func (tn *tenure) settle(t *testing.T, leftOut ...string) {
	t.Helper()
	tn.dial(t).settle(t, leftOut...)
}

// settle waits until everything that is known of everybody by now has been decided about and read back in every
// application but those left out. Nothing may be stuck.
func (o operators) settle(t *testing.T, leftOut ...string) {
	t.Helper()
	model, err := o.access.ShowModel(t.Context(), &accessv1.ShowModelRequest{})
	if err != nil {
		t.Fatal(err)
	}
	waiting := o.everybody(t)
	total := len(waiting)
	awaitFor(t, 4*time.Minute, "everybody to be settled", func() (bool, string) {
		for _, p := range o.processes {
			if !p.running() {
				t.Fatalf("%s ended: %v", p.name, p.err)
			}
		}
		for ; len(waiting) > 0; waiting = waiting[1:] {
			if why := o.unsettled(t, waiting[0], model.GetModelSeq(), leftOut); why != "" {
				return false, fmt.Sprintf("%d of %d are; person %s: %s", total-len(waiting), total, waiting[0].GetId(), why)
			}
		}
		return true, ""
	})
}

// unsettled says what is not settled about a person; empty: all is.
func (o operators) unsettled(t *testing.T, person *peoplev1.Person, model uint64, leftOut []string) string {
	t.Helper()
	desired, err := o.access.ShowAccess(t.Context(), &accessv1.ShowAccessRequest{PersonId: person.GetId()})
	if err != nil {
		t.Fatal(err)
	}
	version := person.GetVersion()
	if desired.GetPersonVersion() < version { // a fact that changes nothing, or nothing yet, raises it and leads to no event
		if version = o.newestEvent(t, person.GetId()); version == 0 {
			return "" // nothing has become true of them yet
		}
	}
	if desired.GetPersonVersion() < version || desired.GetModelSeq() < model {
		return fmt.Sprintf("decided about as of version %d by model %d, want %d by %d", desired.GetPersonVersion(), desired.GetModelSeq(), version, model)
	}
	has, err := o.provision.ShowAccounts(t.Context(), &provisionv1.ShowAccountsRequest{PersonId: person.GetId()})
	if err != nil {
		t.Fatal(err)
	}
	for _, app := range desired.GetApplications() {
		name := app.GetDesired().GetApplication()
		if slices.Contains(leftOut, name) {
			continue
		}
		i := slices.IndexFunc(has.GetTargets(), func(target *provisionv1.Target) bool { return target.GetApplication() == name })
		if i < 0 {
			return name + " does not know of it yet"
		}
		target := has.GetTargets()[i]
		switch {
		case target.GetState() == provisionv1.TargetState_TARGET_STATE_STUCK:
			t.Fatalf("%s is stuck for person %s: %s %s", name, person.GetId(), target.GetProblem(), target.GetDetail())
		case target.GetState() != provisionv1.TargetState_TARGET_STATE_SETTLED || target.GetSettledGeneration() < app.GetDesired().GetGeneration():
			return fmt.Sprintf("%s: %s %s %s, generation %d of %d", name, target.GetState(), target.GetProblem(), target.GetDetail(), target.GetSettledGeneration(), app.GetDesired().GetGeneration())
		}
	}
	return ""
}

// newestEvent is the version of a person of which there was an event last.
func (o operators) newestEvent(t *testing.T, person string) (version uint64) {
	t.Helper()
	told, err := o.people.Timeline(t.Context(), &peoplev1.TimelineRequest{PersonId: person})
	if err != nil {
		t.Fatal(err)
	}
	for _, happening := range told.GetHappenings() {
		version = max(version, happening.GetLifecycle().GetPersonVersion())
	}
	return version
}
