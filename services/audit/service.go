// Package audit records every event of every service in a log that nobody can quietly change: a Merkle tree (RFC 6962)
// with signed checkpoints. It completes the record by asking the origins for what is missing, and refuses to sign a
// head that does not extend what it signed before.
package audit

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/mod/sumdb/note"
	"google.golang.org/grpc"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/outbox"
	"github.com/tenurehq/tenure/pkg/run"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/urgency"
	auditv1 "github.com/tenurehq/tenure/proto/gen/tenure/audit/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/audit/internal/store"
)

const (
	origin         = "audit"
	leaseTTL       = 6 * time.Second        // how long nothing is recorded after a replica that did has died
	repairEvery    = 2 * time.Second        // holes
	tailEvery      = 30 * time.Second       // events after the newest known one, which a lying stream may have lost
	gather         = 20 * time.Millisecond  // an append has rows of its own, whatever it appends: few large ones
	patience       = 100 * time.Millisecond // the longest that an append waits for what is urgent: the record has to keep up
	minCheckpoint  = time.Second
	defaultSigning = time.Minute
)

// Config is the operator's part.
type Config struct {
	Origin          string        // the log's name in checkpoints, like log.acme.example/tenure; empty: a random one
	KeyFile         string        // the signing key, in the form of golang.org/x/mod/sumdb/note; made when it does not exist
	CheckpointEvery time.Duration // at most this long from recording to signing; zero: a minute
}

// Validate says what is wrong with the configuration.
func (c Config) Validate() error {
	if c.KeyFile == "" {
		return errors.New("audit.key_file: empty")
	}
	if c.CheckpointEvery != 0 && c.CheckpointEvery < minCheckpoint {
		return fmt.Errorf("audit.checkpoint_every: %s is less than %s", c.CheckpointEvery, minCheckpoint)
	}
	if strings.ContainsAny(c.Origin, "+ \t\r\n") {
		return errors.New("audit.origin: must have no space and no plus sign")
	}
	return nil
}

// Deps is what the service works with.
type Deps struct {
	DB       *sqldb.DB                         // with Migrations
	Bus      *bus.Bus                          //
	Origins  map[string]eventv1.EventLogClient // by origin: who has its events (ingest, policy, provision/<application>, audit)
	Log      *zap.Logger
	Registry prometheus.Registerer
	Now      func() time.Time
}

// Service is the audit service.
type Service struct {
	auditv1.UnimplementedAuditServiceServer
	cfg    Config
	deps   Deps
	store  *store.Store
	outbox *outbox.Outbox
	signer note.Signer
	vkey   string
	figs   figures
	tail   time.Duration // how often it looks for what a stream lost at its end

	writing sync.Mutex // held while seq appends or its state is read
	seq     *sequencer
	grew    signal // told after each append
}

// Migrations are what Deps.DB must have run.
func Migrations() []sqldb.Migrations {
	return []sqldb.Migrations{store.Migrations(), outbox.Migrations}
}

// New builds the service; it makes the signing key at the first start.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.CheckpointEvery == 0 {
		cfg.CheckpointEvery = defaultSigning
	}
	signer, vkey, err := signingKey(cfg)
	if err != nil {
		return nil, err
	}
	s := &Service{cfg: cfg, deps: deps, store: store.New(deps.DB), signer: signer, vkey: vkey, grew: newSignal(), tail: tailEvery}
	s.seq = &sequencer{store: s.store, now: deps.Now, log: deps.Log}
	s.figs = newFigures(deps.Registry)
	s.outbox, err = outbox.New(outbox.Config{Origin: origin}, outbox.Deps{
		DB: deps.DB, Bus: deps.Bus, Recorded: s.recorded, Log: deps.Log, Now: deps.Now,
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// signingKey reads the log's key, or makes one. A key that everybody on the machine may read is refused: whoever has it
// can sign another history.
func signingKey(cfg Config) (note.Signer, string, error) {
	secret, err := config.ReadSecret(cfg.KeyFile)
	if errors.Is(err, os.ErrNotExist) {
		if secret, err = newKey(cfg); errors.Is(err, os.ErrExist) { // another replica was faster
			secret, err = config.ReadSecret(cfg.KeyFile)
		}
	}
	if err != nil {
		return nil, "", fmt.Errorf("the log's signing key: %w", err)
	}
	skey, vkey, ok := strings.Cut(strings.TrimSpace(string(secret.Reveal())), "\n")
	if !ok {
		return nil, "", fmt.Errorf("the log's signing key: %s must hold the signing key and the verifier key, a line each", cfg.KeyFile)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		return nil, "", fmt.Errorf("the log's signing key in %s: %w", cfg.KeyFile, err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, "", fmt.Errorf("the log's verifier key in %s: %w", cfg.KeyFile, err)
	}
	if verifier.Name() != signer.Name() || verifier.KeyHash() != signer.KeyHash() {
		return nil, "", fmt.Errorf("the log's signing key: the two keys in %s do not belong together", cfg.KeyFile)
	}
	if cfg.Origin != "" && signer.Name() != cfg.Origin {
		return nil, "", fmt.Errorf("audit.origin is %q and the key in %s is of %q: a log cannot change its name", cfg.Origin, cfg.KeyFile, signer.Name())
	}
	return signer, vkey, nil
}

// newKey makes the log's key.
func newKey(cfg Config) (config.Secret, error) {
	name := cfg.Origin
	if name == "" {
		var id [6]byte
		_, _ = rand.Read(id[:]) // never fails
		name = "tenure-" + hex.EncodeToString(id[:])
	}
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return config.Secret{}, err
	}
	raw := []byte(skey + "\n" + vkey + "\n")
	if err := config.MakeSecret(cfg.KeyFile, raw); err != nil {
		return config.Secret{}, err
	}
	return config.NewSecret(raw), nil
}

// Outbox is the service's, whose figures who owns the registry may register.
func (s *Service) Outbox() *outbox.Outbox { return s.outbox }

// Register adds the service's RPCs.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	auditv1.RegisterAuditServiceServer(r, s)
	eventv1.RegisterEventLogServer(r, outbox.NewEventLog(s.outbox))
}

// VerifierKey is what checkpoints are verified with.
func (s *Service) VerifierKey() string { return s.vkey }

// Run records, repairs and signs until ctx ends. Of several replicas one does, by lease.
func (s *Service) Run(ctx context.Context) error {
	return run.All(ctx, s.outbox.Relay, s.write)
}

// write keeps the log written. What goes wrong, a database that is away or a log that was edited, stops recording and
// signing, which shows in the log and makes policy withhold new grants; it does not end the process, in which others
// may be busy taking access away.
func (s *Service) write(ctx context.Context) error {
	for pause := time.Second; ctx.Err() == nil; pause = min(2*pause, time.Minute) {
		err := s.deps.DB.Lease(ctx, "sequencer", leaseTTL, s.sequence)
		if err == nil || ctx.Err() != nil {
			return nil //nolint:nilerr // told to stop
		}
		s.deps.Log.Error("nothing is recorded, will try again", zap.Error(err), zap.Duration("in", pause))
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}

// sequence is the work of the one replica that writes the log.
func (s *Service) sequence(ctx context.Context, _ int64) error {
	s.forget() // another replica may have written since
	defer s.forget()
	if err := s.extendsWhatWasSigned(ctx); err != nil {
		return err
	}
	return run.All(ctx,
		s.deps.Bus.Consumer(bus.ConsumerConfig{Name: "audit", Subjects: []string{"tenure.>"}, Gather: gather}, s.record),
		s.repair,
		s.signRegularly,
	)
}

// forget makes the next use of the sequencer load the log's head again.
func (s *Service) forget() {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.seq.origins = nil
}

// record is the consumer's handler, and what repair hands events to.
func (s *Service) record(ctx context.Context, batch []bus.Event) error {
	urgency.GiveWayFor(ctx, patience) // no leaver waits for the record of other things
	s.writing.Lock()
	n, err := s.seq.record(ctx, batch)
	if moved(err) {
		n, err = s.seq.record(ctx, batch)
	}
	s.writing.Unlock()
	if err != nil {
		return fmt.Errorf("record %d events: %w", len(batch), err)
	}
	if n > 0 {
		s.figs.recorded.Add(float64(n))
		s.grew.tell()
	}
	return nil
}

// recorded is how far an origin is in the log, and for how long a hole in it has been known.
func (s *Service) recorded(ctx context.Context, origin string) (uint64, time.Duration, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	p := s.seq.origins[origin]
	if s.seq.origins == nil { // another replica writes the log
		var err error
		if p, err = s.store.Progress(ctx, origin); err != nil {
			return 0, 0, err
		}
	}
	if p == nil {
		return 0, 0, nil
	}
	return p.Seq, p.Behind(s.deps.Now()), nil
}
