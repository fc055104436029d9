// Package connectors opens the connector that an application's configuration names. Every one of them, built in or
// remote, is reached through the same gRPC contract.
package connectors

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/tenurehq/tenure/pkg/connector"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	"github.com/tenurehq/tenure/services/connectors/demo"
	"github.com/tenurehq/tenure/services/connectors/ldap"
	"github.com/tenurehq/tenure/services/connectors/postgres"
	"github.com/tenurehq/tenure/services/connectors/remote"
	"github.com/tenurehq/tenure/services/connectors/scim"
)

// The kinds of connector.
const (
	Postgres = "postgres"
	LDAP     = "ldap"
	SCIM     = "scim"
	Demo     = "demo"
	Remote   = "remote"
)

// Config is one entry of `applications` in the configuration file, as far as it concerns the connector.
type Config struct {
	Application string         // its name
	Kind        string         // connector: postgres, ldap, scim, demo, remote
	Address     string         // address: of a remote one
	Settings    map[string]any // config: of a built-in one
	Dir         string         // for connectors that keep files
	TLS         *tls.Config    // for remote ones over TCP
	// Now is the clock by which the worker says until when a call may have effect; nil: the machine's. A remote connector has
	// its own.
	Now func() time.Time
}

// Validate says what is wrong without opening anything. The error begins with the key within the application's entry:
// "connector", "address" or "config.<key>".
func (c Config) Validate() error {
	_, err := c.opener()
	return err
}

// Open opens the connector. It does not contact the application: one that is down is a problem of its calls. The
// closer waits for calls under way.
func Open(ctx context.Context, c Config) (connectorv1.ConnectorClient, io.Closer, error) {
	open, err := c.opener()
	if err != nil {
		return nil, nil, fmt.Errorf("application %s: %w", c.Application, err)
	}
	client, closer, err := open(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("application %s: %w", c.Application, err)
	}
	return client, closer, nil
}

type opener func(context.Context) (connectorv1.ConnectorClient, io.Closer, error)

// opener checks everything that can be checked beforehand.
func (c Config) opener() (opener, error) {
	if c.Kind != Remote && c.Address != "" {
		return nil, errors.New("address: only a remote connector has one")
	}
	switch c.Kind {
	case Postgres:
		var cfg postgres.Config
		if err := c.decode(&cfg); err != nil {
			return nil, err
		}
		if err := cfg.Validate(); err != nil {
			return nil, fmt.Errorf("config.%w", err)
		}
		return func(ctx context.Context) (connectorv1.ConnectorClient, io.Closer, error) {
			database, err := postgres.Open(ctx, cfg)
			if err != nil {
				return nil, nil, err
			}
			return c.inProcess(database, database)
		}, nil
	case LDAP:
		var cfg ldap.Config
		if err := c.decode(&cfg); err != nil {
			return nil, err
		}
		if err := cfg.Validate(); err != nil {
			return nil, fmt.Errorf("config.%w", err)
		}
		return func(context.Context) (connectorv1.ConnectorClient, io.Closer, error) {
			directory, err := ldap.Open(cfg)
			if err != nil {
				return nil, nil, err
			}
			return c.inProcess(directory, directory)
		}, nil
	case SCIM:
		var cfg scim.Config
		if err := c.decode(&cfg); err != nil {
			return nil, err
		}
		if err := cfg.Validate(); err != nil {
			return nil, fmt.Errorf("config.%w", err)
		}
		return func(context.Context) (connectorv1.ConnectorClient, io.Closer, error) {
			application, err := scim.Open(cfg)
			if err != nil {
				return nil, nil, err
			}
			return c.inProcess(application.Connector(), application)
		}, nil
	case Demo:
		cfg := demo.Config{File: filepath.Join(c.Dir, c.Application+".journal")}
		if err := c.decode(&cfg); err != nil {
			return nil, err
		}
		if err := cfg.Validate(); err != nil {
			return nil, fmt.Errorf("config.%w", err)
		}
		return func(ctx context.Context) (connectorv1.ConnectorClient, io.Closer, error) {
			application, err := demo.Open(ctx, cfg)
			if err != nil {
				return nil, nil, err
			}
			return c.inProcess(application, application)
		}, nil
	case Remote:
		if len(c.Settings) > 0 {
			return nil, errors.New("config: a remote connector reads its own")
		}
		cfg := remote.Config{Address: c.Address, TLS: c.TLS}
		if err := cfg.Validate(); err != nil {
			return nil, err
		}
		return func(context.Context) (connectorv1.ConnectorClient, io.Closer, error) { return remote.Dial(cfg) }, nil
	}
	return nil, fmt.Errorf("connector: %q is none of postgres, ldap, scim, demo, remote", c.Kind)
}

// decode fills into, a pointer to the configuration of a built-in connector. Unknown keys are errors.
func (c Config) decode(into any) error {
	written, err := json.Marshal(c.Settings)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	strict := json.NewDecoder(bytes.NewReader(written))
	strict.DisallowUnknownFields()
	err = strict.Decode(into)
	var mistyped *json.UnmarshalTypeError
	switch {
	case errors.As(err, &mistyped):
		return fmt.Errorf("config.%s: a %s cannot stand here", mistyped.Field, mistyped.Value)
	case err != nil:
		return fmt.Errorf("config: %w", err)
	}
	return nil
}

func (c Config) inProcess(impl connector.Connector, closer io.Closer) (connectorv1.ConnectorClient, io.Closer, error) {
	var options []connector.Option
	if c.Now != nil {
		options = append(options, connector.WithClock(c.Now))
	}
	client, stop, err := connector.InProcess(impl, options...)
	if err != nil {
		return nil, nil, errors.Join(err, closer.Close())
	}
	return client, closeFunc(func() error { return errors.Join(stop(), closer.Close()) }), nil
}

// closeFunc is a function that closes.
type closeFunc func() error

func (f closeFunc) Close() error { return f() }
