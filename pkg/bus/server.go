package bus

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/config"
)

const (
	defaultMaxBytes     = 1 << 30
	defaultSyncInterval = time.Second
	startTimeout        = 15 * time.Second
	inProcessUser       = "in-process"
)

// ServerConfig configures the embedded server.
type ServerConfig struct {
	StoreDir     string        // made if it does not exist, mode 0700
	SyncInterval time.Duration // how often the stream is fsynced; 0 means every second
	SyncAlways   bool          // fsync every message instead
	MaxBytes     int64         // most bytes of the stream; 0 means 1 GiB
	Listen       string        // host:port; empty: reached only from this process
	Users        []User        // who may connect to Listen
	TLS          TLS           // required unless Listen is a loopback address
	Log          *zap.Logger   // nil: silent
}

// TLS names PEM files. On the server CAFile verifies clients, which then must show a certificate; on a client it
// verifies the server.
type TLS struct{ CertFile, KeyFile, CAFile string }

func (t TLS) empty() bool { return t == TLS{} }

// User may connect to a server that listens, by exactly one of a password, an nkey and the name in a certificate.
//
// A user whose Name is a service's (ingest, policy, provision, audit, console) may publish that service's own
// subjects only, and use no more of JetStream than it needs; viewer may subscribe to tenure.> and publish nothing; any
// other name may do nothing. Nobody may delete, purge or update the stream or delete a message of it; that is left
// to the server's own process.
type User struct {
	Name         string
	PasswordHash config.Secret // bcrypt
	Nkey         string        // public, U…
	CertCN       string        // common name of a certificate that TLS.CAFile vouches for
	Durables     []string      // whose messages it may take and acknowledge; none: any durable's
}

// Server is an embedded NATS server with JetStream. Unless it listens nobody outside this process can reach it. When it cannot
// write any more it is started anew: what it then lacks comes back from the outboxes.
type Server struct {
	options   *server.Options
	log       *zap.Logger
	token     string     // proves that a connection is from this process
	streamDir string     // where the stream's files are
	replacing sync.Mutex // held while a stream whose files are gone is replaced

	stop func()        // ends the watch
	done chan struct{} // closed when it has ended

	mu    sync.Mutex // guards what follows
	nats  *server.Server
	lines *natsLog // what nats has said
}

// StartServer starts the embedded server and returns when it takes connections.
func StartServer(cfg ServerConfig) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("embedded nats: %w", err)
	}
	if err := os.MkdirAll(cfg.StoreDir, 0o700); err != nil {
		return nil, fmt.Errorf("embedded nats: %w", err)
	}
	maxBytes := cfg.MaxBytes
	if maxBytes == 0 {
		maxBytes = defaultMaxBytes
	}
	syncEvery := cfg.SyncInterval
	if syncEvery == 0 {
		syncEvery = defaultSyncInterval
	}
	token := rand.Text()
	options := &server.Options{
		ServerName:                 "tenure",
		DontListen:                 cfg.Listen == "",
		NoSigs:                     true,
		JetStream:                  true,
		StoreDir:                   cfg.StoreDir,
		SyncInterval:               syncEvery,
		SyncAlways:                 cfg.SyncAlways,
		DisableJetStreamBanner:     true,
		JetStreamMaxMemory:         64 << 20,
		JetStreamMaxStore:          maxBytes + maxBytes/8, // the stream's limit is the one that counts
		AlwaysEnableNonce:          true,                  // for nkeys
		CustomClientAuthentication: newDoor(token, cfg.Users),
	}
	if cfg.Listen != "" {
		host, port, err := net.SplitHostPort(cfg.Listen)
		if err != nil {
			return nil, fmt.Errorf("embedded nats: listen: %w", err)
		}
		options.Host = host
		if options.Port, err = strconv.Atoi(port); err != nil {
			return nil, fmt.Errorf("embedded nats: listen: port %q is not a number", port)
		}
		if options.Port == 0 {
			options.Port = server.RANDOM_PORT
		}
	}
	if !cfg.TLS.empty() {
		tlsConfig, err := cfg.TLS.server()
		if err != nil {
			return nil, fmt.Errorf("embedded nats: %w", err)
		}
		options.TLSConfig = tlsConfig
		options.TLS = true
		options.TLSVerify = cfg.TLS.CAFile != ""
		options.TLSTimeout = 5
	}
	log := cfg.Log
	if log == nil {
		log = zap.NewNop()
	}
	s := &Server{
		options: options, log: log, token: token, done: make(chan struct{}),
		streamDir: filepath.Join(cfg.StoreDir, "jetstream", "$G", "streams", streamName),
	}
	if err := s.boot(); err != nil {
		return nil, err
	}
	if addr, ok := s.Addr().(*net.TCPAddr); ok {
		options.Port = addr.Port // the same when it is started anew
	}
	ending := make(chan struct{})
	s.stop = sync.OnceFunc(func() { close(ending) })
	go func() {
		defer close(s.done)
		s.watch(ending)
	}()
	return s, nil
}

// Addr is where the server listens; nil when it does not.
func (s *Server) Addr() net.Addr { return s.running().Addr() }

// Close stops the server, syncs its store and waits for both. Buses connected to it should be closed before.
func (s *Server) Close() {
	s.stop()
	<-s.done
	s.shutdown()
}

// holdsStream reports whether the stream's own description is on disk. What cannot be looked at is taken to be there.
func (s *Server) holdsStream() bool {
	_, err := os.Stat(filepath.Join(s.streamDir, "meta.inf"))
	return !errors.Is(err, fs.ErrNotExist)
}

func (c ServerConfig) validate() error {
	if c.StoreDir == "" {
		return errors.New("no store directory")
	}
	if c.MaxBytes < 0 || c.SyncInterval < 0 {
		return errors.New("sizes and intervals cannot be negative")
	}
	if c.Listen == "" {
		return nil
	}
	if len(c.Users) == 0 {
		return errors.New("listens without users: nobody may connect")
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if ip := net.ParseIP(host); c.TLS.empty() && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("listens on %s, which is not loopback, without TLS", c.Listen)
	}
	for _, u := range c.Users {
		if err := u.validate(); err != nil {
			return fmt.Errorf("user %q: %w", u.Name, err)
		}
		if u.CertCN != "" && c.TLS.CAFile == "" {
			return fmt.Errorf("user %q: a certificate without tls.ca_file proves nothing", u.Name)
		}
	}
	return nil
}
