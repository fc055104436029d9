// Package remote reaches a connector that is a process of its own, in any language. Such a connector reads its own
// configuration and its own secrets: all that Tenure knows of it is an address.
package remote

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"

	"github.com/tenurehq/tenure/pkg/connector"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
)

// Config is the operator's part.
type Config struct {
	Address string      // unix:/path or host:port
	TLS     *tls.Config // what we show and whom we trust; host:port only
}

// Validate says what is wrong, naming the key.
func (c Config) Validate() error {
	path, isUnix := strings.CutPrefix(c.Address, "unix:")
	switch {
	case c.Address == "":
		return errors.New("address: missing")
	case isUnix && !filepath.IsAbs(path):
		return fmt.Errorf("address: %s: the socket's path must be absolute", c.Address)
	case isUnix:
		return nil
	}
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		return fmt.Errorf("address: %s is neither unix:/path nor host:port", c.Address)
	}
	if c.TLS == nil {
		return fmt.Errorf("address: %s: over TCP a connector needs the certificates of tls", c.Address)
	}
	return nil
}

// Dial returns a client without waiting for the connector: one that is down is a problem of its calls.
func Dial(cfg Config) (connectorv1.ConnectorClient, io.Closer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, nil, err
	}
	conn, err := connector.Dial(cfg.Address, cfg.TLS)
	if err != nil {
		return nil, nil, err
	}
	return connectorv1.NewConnectorClient(conn), conn, nil
}
