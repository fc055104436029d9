package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/fault"
)

const (
	connectTimeout = 15 * time.Second // for the first connection
	apiTimeout     = 5 * time.Second  // for one question to JetStream
	// A server that is stopped, or behind a cable that is cut, ends no connection. The third question that it does not answer is the
	// last: another one is looked for 15 seconds after it fell silent. The client's own default is six minutes.
	pingInterval = 5 * time.Second
	maxPings     = 2
)

// Config says where the stream is, and what it should be like when it has to be made.
type Config struct {
	Service string  // this process's name on the bus: ingest, policy, provision, audit, console
	URL     string  // nats://… or tls://…, several separated by commas; used when Server is nil
	Server  *Server // the embedded server of this process

	// How the process proves who it is to URL: a user with its password, a credentials file, an nkey's seed file, or
	// the certificate in TLS.
	User      string
	Password  config.Secret
	CredsFile string
	NkeyFile  string
	TLS       TLS

	MaxBytes int64 // of the stream; 0 means 1 GiB
	Replicas int   // of the stream; 0 means 1
	// Manage lets this process change the settings of a stream that exists. Only the administrator of an external
	// server may; with Server it is always on.
	Manage bool
}

// Bus is one process's connection to the stream. Its methods may be called concurrently.
type Bus struct {
	cfg  Config
	log  *zap.Logger
	conn *nats.Conn
	js   jetstream.JetStream

	check chan struct{} // asks the watcher to look at the stream now
	stop  context.CancelFunc
	done  chan struct{} // closed when the watcher has ended

	mu      sync.Mutex // guards what follows
	epoch   string
	renewed chan struct{} // closed, and replaced, when the stream is a new one
	onNew   []func()
	onAgain []func()
}

// Connect connects, makes the stream if there is none, and from then on keeps both: it reconnects for ever, and makes
// the stream anew when it has vanished. A server that cannot be reached is tried for 15 seconds, or until ctx ends;
// a refused one is not tried again. Close the bus after everything that uses it.
func Connect(ctx context.Context, cfg Config, log *zap.Logger) (*Bus, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	b := &Bus{
		cfg:     cfg,
		log:     log.Named("bus"),
		check:   make(chan struct{}, 1),
		done:    make(chan struct{}),
		renewed: make(chan struct{}),
	}
	options, err := b.options()
	if err != nil {
		return nil, fmt.Errorf("connect to nats: %w", err)
	}
	if err := untilReached(ctx, func() (err error) {
		b.conn, err = nats.Connect(cfg.URL, options...)
		return err
	}); err != nil {
		return nil, fault.New(fault.Unavailable, "connect to nats: %w", err)
	}
	if b.js, err = jetstream.New(b.conn,
		jetstream.WithPublishAsyncMaxPending(maxPending),
		jetstream.WithPublishAsyncTimeout(publishTimeout),
		jetstream.WithDefaultTimeout(apiTimeout),
	); err != nil {
		b.conn.Close()
		return nil, fmt.Errorf("connect to jetstream: %w", err)
	}
	if err := untilReached(ctx, func() error { return b.ensureStream(ctx) }); err != nil {
		b.conn.Close()
		return nil, err
	}
	watch, stop := context.WithCancel(context.WithoutCancel(ctx))
	b.stop = stop
	go func() {
		defer close(b.done)
		b.watchStream(watch)
	}()
	return b, nil
}

// Close sends what is under way and disconnects.
func (b *Bus) Close() {
	b.stop()
	<-b.done
	if b.conn.IsConnected() {
		_ = b.conn.FlushTimeout(time.Second) // acknowledgements; what is lost of them is delivered again
	}
	b.conn.Close()
}

// Ready says why the stream cannot be reached just now, or nil: for a readiness check.
func (b *Bus) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	if _, err := b.js.Stream(ctx, streamName); err != nil {
		return fault.New(fault.Unavailable, "stream %s: %w", streamName, err)
	}
	return nil
}

// Epoch names the stream that there is: another one made in its place has another epoch.
func (b *Bus) Epoch() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.epoch
}

// OnNewStream has f called whenever the stream was found to be a new one: what was published into the former is
// gone. f must not block. It is not called for the stream found by Connect: compare epochs for that.
func (b *Bus) OnNewStream(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.onNew = append(b.onNew, f)
}

// OnReconnect has f called whenever the connection was lost and is there again: the server may be another one that has
// not seen the last that the former acknowledged. f must not block.
func (b *Bus) OnReconnect(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.onAgain = append(b.onAgain, f)
}

func (b *Bus) options() ([]nats.Option, error) {
	options := []nats.Option{
		nats.Name("tenure " + b.cfg.Service),
		nats.MaxReconnects(-1),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(maxPings),
		nats.ReconnectWait(200 * time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 200*time.Millisecond),
		nats.ReconnectBufSize(-1), // publishing while disconnected fails at once: the outbox decides when to try again
		nats.ReconnectHandler(func(*nats.Conn) {
			b.log.Info("connected to nats again")
			b.lookNow()
			b.mu.Lock()
			onAgain := b.onAgain
			b.mu.Unlock()
			for _, f := range onAgain {
				f()
			}
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil { // nil: closed by us
				b.log.Warn("disconnected from nats", zap.Error(err))
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			b.log.Warn("nats reports an error", zap.Error(err))
		}),
	}
	if b.cfg.Service != "" {
		options = append(options, nats.CustomInboxPrefix(inboxPrefix(b.cfg.Service)))
	}
	if b.cfg.Server != nil {
		return append(options, nats.InProcessServer(b.cfg.Server), nats.UserInfo(inProcessUser, b.cfg.Server.token)), nil
	}
	if b.cfg.URL == "" {
		return nil, errors.New("neither a URL nor an embedded server")
	}
	if b.cfg.User != "" {
		options = append(options, nats.UserInfo(b.cfg.User, string(b.cfg.Password.Reveal())))
	}
	if b.cfg.CredsFile != "" {
		options = append(options, nats.UserCredentials(b.cfg.CredsFile))
	}
	if b.cfg.NkeyFile != "" {
		nkey, err := nats.NkeyOptionFromSeed(b.cfg.NkeyFile)
		if err != nil {
			return nil, fmt.Errorf("nkey: %w", err)
		}
		options = append(options, nkey)
	}
	if !b.cfg.TLS.empty() {
		tlsConfig, err := b.cfg.TLS.load()
		if err != nil {
			return nil, err
		}
		options = append(options, nats.Secure(tlsConfig))
	}
	return options, nil
}

// untilReached repeats attempt while the server cannot be reached, until ctx ends.
func untilReached(ctx context.Context, attempt func() error) error {
	for {
		err := attempt()
		if err == nil || errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || fault.KindOf(err) == fault.Invalid {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
}
