package rpc

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/telemetry"
)

const (
	// callLimit bounds a unary call whose context has no deadline: a peer that hangs must not hang us for ever.
	callLimit = time.Minute
	// reconnectMax bounds the pause between attempts to reach a peer that is down.
	reconnectMax = 5 * time.Second
	dialWait     = 5 * time.Second
	// roundRobin spreads calls over all addresses that a name stands for: the replicas of a service.
	roundRobin = `{"loadBalancingConfig":[{"round_robin":{}}]}`
)

// PeerConfig says how to reach a server.
type PeerConfig struct {
	Address    string        // host:port or unix:/path; several host:port separated by commas: replicas of one service
	TLS        TLS           // may be empty for a loopback address or a unix socket: then there is no TLS
	ServerName string        // the name that the server's certificate must bear; empty: the address's host
	Token      config.Secret // an operator's bearer token; empty: none
	Patience   time.Duration // how long a call waits for a peer that cannot be reached; 0: fails at once
}

// Addresses are the single ones of an address that may name several.
func Addresses(address string) []string {
	all := strings.Split(address, ",")
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	return all
}

// Dial makes a connection that is established by the first call and again whenever it breaks. Its calls return faults,
// carry the trace context, and end after a minute unless their context says otherwise. Calls are spread over the
// replicas that can be reached.
func Dial(cfg PeerConfig) (*grpc.ClientConn, error) {
	secure := !cfg.TLS.empty()
	replicas := resolver.State{}
	if !strings.HasPrefix(cfg.Address, "unix:") {
		for _, address := range Addresses(cfg.Address) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, fault.New(fault.Invalid, "address %q is neither host:port nor unix:/path", address)
			}
			secure = secure || !Loopback(host)
			one := resolver.Address{Addr: address, ServerName: host}
			replicas.Endpoints = append(replicas.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{one}})
		}
	}
	creds := insecure.NewCredentials()
	if secure {
		settings, err := cfg.TLS.Client(cfg.ServerName)
		if err != nil {
			return nil, fault.New(fault.Invalid, "dial %s: %w", cfg.Address, err)
		}
		creds = credentials.NewTLS(settings)
	}
	options := []grpc.DialOption{grpc.WithTransportCredentials(creds)}
	if !cfg.Token.Empty() {
		options = append(options, grpc.WithPerRPCCredentials(header{headerToken, "Bearer " + string(cfg.Token.Reveal()), secure}))
	}
	target := cfg.Address
	if len(replicas.Endpoints) > 1 {
		listed := manual.NewBuilderWithScheme("replicas")
		listed.InitialState(replicas)
		target, options = listed.Scheme()+":///"+replicas.Endpoints[0].Addresses[0].Addr, append(options, grpc.WithResolvers(listed))
	}
	return newClient(target, cfg.Patience, options...)
}

func newClient(target string, patience time.Duration, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	calls := outgoing{patience}
	pause := backoff.DefaultConfig
	pause.BaseDelay, pause.MaxDelay = 100*time.Millisecond, reconnectMax
	conn, err := grpc.NewClient(target, append(options,
		grpc.WithUnaryInterceptor(calls.unary), grpc.WithStreamInterceptor(calls.stream),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: clientPing, Timeout: pingAnswer, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: pause, MinConnectTimeout: dialWait}),
		grpc.WithDisableServiceConfig(), grpc.WithDefaultServiceConfig(roundRobin),
	)...)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", target, err)
	}
	return conn, nil
}

// outgoing is what every call passes on its way out.
type outgoing struct{ patience time.Duration }

func (o outgoing) unary(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callLimit)
		defer cancel()
	}
	o.await(ctx, conn)
	return fault.FromStatus(invoke(traced(ctx), method, req, reply, conn, options...))
}

func (o outgoing) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
	o.await(ctx, conn)
	stream, err := open(traced(ctx), desc, conn, method, options...)
	if err != nil {
		return nil, fault.FromStatus(err)
	}
	return clientStream{stream}, nil
}

// await gives a peer that is not there the time to come back. What comes of it is the call's own affair.
func (o outgoing) await(ctx context.Context, conn *grpc.ClientConn) {
	if o.patience <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, o.patience)
	defer cancel()
	for {
		state := conn.GetState()
		if state == connectivity.Ready || state == connectivity.Shutdown {
			return
		}
		conn.Connect()
		if !conn.WaitForStateChange(ctx, state) {
			return
		}
	}
}

// traced makes the call a span of its own and sends it along.
func traced(ctx context.Context) context.Context {
	ctx = telemetry.Span(ctx)
	return metadata.AppendToOutgoingContext(ctx, telemetry.HeaderTraceParent, telemetry.TraceParent(ctx))
}

// clientStream returns faults.
type clientStream struct{ grpc.ClientStream }

func (s clientStream) Header() (metadata.MD, error) {
	md, err := s.ClientStream.Header()
	return md, fault.FromStatus(err)
}
func (s clientStream) CloseSend() error      { return fault.FromStatus(s.ClientStream.CloseSend()) }
func (s clientStream) SendMsg(msg any) error { return fault.FromStatus(s.ClientStream.SendMsg(msg)) }

func (s clientStream) RecvMsg(msg any) error { return fault.FromStatus(s.ClientStream.RecvMsg(msg)) }
