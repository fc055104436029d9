// Package console is where operators come in: one gRPC listener, the front door, that knows who they are and forwards
// what they ask to the service that answers it, in their name. It keeps nothing and decides nothing but who calls.
// Web pages come later.
package console

import (
	"context"
	"fmt"
	"net"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/tenurehq/tenure/pkg/rpc"
)

// Config is the operator's part.
type Config struct {
	Listen    string // host:port
	TLS       rpc.TLS
	Operators []rpc.Operator // nobody else may call
}

// Validate says what is wrong with the configuration. Whether the address can be listened on, New says.
func (c Config) Validate() error {
	names := make(map[string]bool, len(c.Operators))
	for i, o := range c.Operators {
		switch {
		case o.Name == "":
			return fmt.Errorf("operators[%d].name: empty", i)
		case names[o.Name]:
			return fmt.Errorf("operators[%d].name: %s is there twice", i, o.Name)
		case rpc.RoleName(o.Role) == "":
			return fmt.Errorf("operators[%d].role: %s has none", i, o.Name)
		}
		names[o.Name] = true
	}
	return nil
}

// Deps is what the service works with.
type Deps struct {
	Peers map[string]grpc.ClientConnInterface // by service: ingest, policy, provision, audit; dialled as console
	Log   *zap.Logger
}

// Service is the front door.
type Service struct{ server *rpc.Server }

// New takes the address. Calls are answered from Run on.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	for _, peer := range []string{"ingest", "policy", "provision", "audit"} {
		if deps.Peers[peer] == nil {
			return nil, fmt.Errorf("the front door has no way to %s", peer)
		}
	}
	server, err := rpc.Listen(rpc.Config{
		Listen: cfg.Listen, TLS: cfg.TLS, Operators: cfg.Operators, Door: rpc.Door(deps.Peers),
	}, deps.Log)
	if err != nil {
		return nil, err
	}
	return &Service{server: server}, nil
}

// Addr is the address that operators call.
func (s *Service) Addr() net.Addr { return s.server.Addr() }

// Run answers operators until ctx ends, then finishes what they asked. It is a task for run.All.
func (s *Service) Run(ctx context.Context) error { return s.server.Serve(ctx) }
