package settings

import (
	"encoding/hex"
	"path/filepath"
	"strings"
	"time"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/rpc"
	"github.com/tenurehq/tenure/pkg/sqldb"
	"github.com/tenurehq/tenure/pkg/telemetry"
	authv1 "github.com/tenurehq/tenure/proto/gen/tenure/auth/v1"
)

// services are those that connect to the bus, and the console, which may.
var services = []string{"ingest", "policy", "provision", "audit", "console"}

// SQL is where a service's database is: a file of its own, or a schema of its own. name is ingest, policy, audit or
// provision_<application>.
func (s *Settings) SQL(name string) sqldb.Config {
	name = strings.ReplaceAll(name, "-", "_")
	dsn := s.Database.URLFile.Secret
	if s.Database.URL != "" {
		dsn = config.NewSecret([]byte(s.Database.URL))
	}
	if !dsn.Empty() {
		return sqldb.Config{Postgres: dsn, Schema: name}
	}
	return sqldb.Config{SQLite: filepath.Join(string(s.DataDir), name+".db")}
}

// Bus is how a service reaches the event stream; server is the embedded one, nil with nats.url.
func (s *Settings) Bus(service string, server *bus.Server) bus.Config {
	cfg := bus.Config{Service: service, Server: server, MaxBytes: s.NATS.MaxBytes, Replicas: s.NATS.Replicas}
	if server == nil {
		cfg.URL, cfg.TLS = s.NATS.URL, s.busTLS()
	}
	return cfg
}

func (s *Settings) busTLS() bus.TLS {
	return bus.TLS{CertFile: string(s.TLS.CertFile), KeyFile: string(s.TLS.KeyFile), CAFile: string(s.TLS.ClientCAFile)}
}

// Embedded is the embedded server; ok is false with nats.url.
func (s *Settings) Embedded() (cfg bus.ServerConfig, ok bool) {
	if s.NATS.URL != "" {
		return bus.ServerConfig{}, false
	}
	cfg = bus.ServerConfig{
		StoreDir: filepath.Join(string(s.DataDir), "jetstream"), SyncInterval: s.NATS.Sync, SyncAlways: s.NATS.Sync == 0, MaxBytes: s.NATS.MaxBytes,
	}
	if s.NATS.Listen != "" {
		cfg.Listen, cfg.TLS = s.NATS.Listen, s.busTLS()
		for _, user := range append(services, "viewer") {
			cfg.Users = append(cfg.Users, bus.User{Name: user, CertCN: user})
		}
	}
	return cfg, true
}

// RPCTLS is what this process shows and whom it trusts.
func (s *Settings) RPCTLS() rpc.TLS {
	return rpc.TLS{CertFile: string(s.TLS.CertFile), KeyFile: string(s.TLS.KeyFile), CAFile: string(s.TLS.ClientCAFile)}
}

// Peer is how to reach another service; ok is false when it is in this process.
func (s *Settings) Peer(service string) (cfg rpc.PeerConfig, ok bool) {
	address := map[string]string{
		"ingest": s.Peers.Ingest, "policy": s.Peers.Policy, "provision": s.Peers.Provision, "audit": s.Peers.Audit,
	}[service]
	return rpc.PeerConfig{Address: address, TLS: s.RPCTLS(), ServerName: service, Patience: 5 * time.Second}, address != ""
}

// Callers are the operators as the listener knows them.
func (s *Settings) Callers() []rpc.Operator {
	callers := make([]rpc.Operator, 0, len(s.Operators))
	for _, o := range s.Operators {
		caller := rpc.Operator{Name: o.Name, Role: authv1.Role(authv1.Role_value["ROLE_"+strings.ToUpper(o.Role)]), Cert: o.Cert}
		if o.TokenSHA256 != "" {
			_, _ = hex.Decode(caller.TokenSHA256[:], []byte(o.TokenSHA256)) // validate has read it
		}
		callers = append(callers, caller)
	}
	return callers
}

// Telemetry is what the process shows of itself.
func (s *Settings) Telemetry() telemetry.Config {
	return telemetry.Config{Listen: s.Listen.Metrics, Level: s.LogLevel}
}
