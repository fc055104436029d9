package rpc

import (
	"context"
	"fmt"
	"net"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
)

const (
	// maxMessage bounds one message both ways: a batch of 1,000 records with room to spare.
	maxMessage = 8 << 20
	maxHeaders = 16 << 10
	maxStreams = 1000 // calls at a time on one connection
	handshake  = 10 * time.Second

	// When the process stops: calls go on, streams get streamsWait to end by themselves, and at stopWait it is over.
	streamsWait = time.Second
	stopWait    = 10 * time.Second

	serverPing, pingAnswer = time.Minute, 20 * time.Second
	// clientPing is how often a client looks whether a silent connection lives; the server allows twice that.
	clientPing = 30 * time.Second
)

// Config is a listener's.
type Config struct {
	Listen    string // host:port
	TLS       TLS    // required unless Listen is a loopback address; CAFile verifies client certificates
	Operators []Operator
	Door      grpc.StreamHandler // gets the calls of services that are not registered here; nil: there is no door
}

// Server answers calls on TCP.
type Server struct {
	listener net.Listener
	server   *grpc.Server
	health   *health.Server
	stop     context.CancelFunc // ends the streams
}

// Listen takes the address, so that a taken port ends the process at once; calls are answered from Serve on.
func Listen(cfg Config, log *zap.Logger, register ...func(grpc.ServiceRegistrar)) (*Server, error) {
	host, _, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen %s: want host:port", cfg.Listen)
	}
	creds := insecure.NewCredentials()
	switch {
	case cfg.TLS.CertFile != "":
		settings, err := cfg.TLS.Server()
		if err != nil {
			return nil, fmt.Errorf("listen %s: %w", cfg.Listen, err)
		}
		creds = credentials.NewTLS(settings)
	case !Loopback(host):
		return nil, fmt.Errorf("listen %s: not a loopback address, so tokens could be overheard: set tls.cert_file and tls.key_file, or listen on 127.0.0.1", cfg.Listen)
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(context.Background(), "tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for gRPC: %w", err)
	}
	options := []grpc.ServerOption{grpc.Creds(creds)}
	if cfg.Door != nil {
		options = append(options, grpc.UnknownServiceHandler(cfg.Door), grpc.ForceServerCodecV2(newCodec()))
	}
	return newServer(listener, authenticator{operators: cfg.Operators}, log, options, register), nil
}

func newServer(listener net.Listener, auth authenticator, log *zap.Logger, options []grpc.ServerOption, register []func(grpc.ServiceRegistrar)) *Server {
	stopping, stop := context.WithCancel(context.Background())
	passing := &gate{auth: auth, log: log.Named("rpc"), stop: stopping}
	options = append(options,
		grpc.UnaryInterceptor(passing.unary), grpc.StreamInterceptor(passing.stream),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage), grpc.MaxHeaderListSize(maxHeaders),
		grpc.MaxConcurrentStreams(maxStreams), grpc.ConnectionTimeout(handshake), grpc.WaitForHandlers(true),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: serverPing, Timeout: pingAnswer}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: clientPing / 2, PermitWithoutStream: true}),
	)
	s := &Server{listener: listener, server: grpc.NewServer(options...), health: health.NewServer(), stop: stop}
	healthpb.RegisterHealthServer(s.server, s.health)
	for _, one := range register {
		one(s.server)
	}
	return s
}

// Addr is the address that was taken.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve answers calls until ctx ends, then finishes those under way. It is a task for run.All, to be run once.
func (s *Server) Serve(ctx context.Context) error {
	stopped := make(chan struct{})
	unwatch := context.AfterFunc(ctx, func() {
		defer close(stopped)
		s.end()
	})
	err := s.server.Serve(s.listener)
	if !unwatch() {
		<-stopped
	}
	s.stop()
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve gRPC: %w", err)
	}
	return nil
}

// end stops: unhealthy first, so that nobody new is sent here; then streams and at last everything are cut short.
func (s *Server) end() {
	s.health.Shutdown()
	streams := time.AfterFunc(streamsWait, s.stop)
	defer streams.Stop()
	all := time.AfterFunc(stopWait, s.server.Stop)
	defer all.Stop()
	s.server.GracefulStop()
}

// Loopback reports whether a host can only be reached from this machine.
func Loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
