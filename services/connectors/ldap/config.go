package ldap

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"

	"github.com/tenurehq/tenure/pkg/config"
)

// Config is the operator's part.
type Config struct {
	URL              string `json:"url"`                // ldaps://host:port, or ldap://host:port
	StartTLS         bool   `json:"start_tls"`          // on ldap://
	CAFile           string `json:"ca_file"`            // of the server's certificate; default: the system's
	BindDN           string `json:"bind_dn"`            // the connector's own entry
	PasswordFile     string `json:"password_file"`      // of that entry; read at each new connection
	PeopleBase       string `json:"people_base"`        // accounts are below it, new ones right below
	GroupsBase       string `json:"groups_base"`        // groups are below it
	EmptyGroupMember string `json:"empty_group_member"` // a DN that stands in where a group would have no member
	MarkerAttribute  string `json:"marker_attribute"`   // default description
	CorrelateBy      string `json:"correlation_attribute"`
	Connections      int    `json:"connections"` // at most; default 4
	PageSize         int    `json:"page_size"`   // entries in one answer of a listing; default 500
}

const (
	defaultConnections = 4
	defaultPageSize    = 500
	maxPageSize        = 10000
)

var attributeName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*$`)

// Validate says what is wrong, naming the key. It does not contact the server.
func (c Config) Validate() error {
	if err := c.validateURL(); err != nil {
		return err
	}
	for _, dn := range []struct {
		key, value string
		required   bool
	}{
		{"bind_dn", c.BindDN, true},
		{"people_base", c.PeopleBase, true},
		{"groups_base", c.GroupsBase, true},
		{"empty_group_member", c.EmptyGroupMember, false},
	} {
		switch _, err := parseDN(dn.value); {
		case dn.value == "" && dn.required:
			return fmt.Errorf("%s: missing", dn.key)
		case dn.value != "" && err != nil:
			return fmt.Errorf("%s: %w", dn.key, err)
		}
	}
	switch {
	case c.MarkerAttribute != "" && !attributeName.MatchString(c.MarkerAttribute):
		return fmt.Errorf("marker_attribute: %q is no name of an attribute", c.MarkerAttribute)
	case writable(c.MarkerAttribute):
		return fmt.Errorf("marker_attribute: %s is an attribute of accounts", c.MarkerAttribute)
	case c.CorrelateBy != "" && !writable(c.CorrelateBy):
		return fmt.Errorf("correlation_attribute: accounts have no attribute %q", c.CorrelateBy)
	case c.Connections < 0:
		return errors.New("connections: must not be negative")
	case c.PageSize < 0 || c.PageSize > maxPageSize:
		return fmt.Errorf("page_size: must be from 1 to %d", maxPageSize)
	case c.PasswordFile == "":
		return errors.New("password_file: missing")
	}
	if _, err := config.ReadSecret(c.PasswordFile); err != nil {
		return fmt.Errorf("password_file: %w", err)
	}
	if _, err := c.tlsConfig(); err != nil {
		return fmt.Errorf("ca_file: %w", err)
	}
	return nil
}

func (c Config) validateURL() error {
	if c.URL == "" {
		return errors.New("url: missing")
	}
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || (u.Scheme != "ldap" && u.Scheme != "ldaps") || u.Hostname() == "":
		return errors.New("url: not ldap://host:port or ldaps://host:port") // the parser's text may hold a password
	case u.User != nil || u.RawQuery != "" || (u.Path != "" && u.Path != "/"):
		return errors.New("url: only a host and a port: the rest has keys of its own")
	case u.Scheme == "ldaps" && c.StartTLS:
		return errors.New("start_tls: ldaps:// is encrypted already")
	case u.Scheme == "ldap" && !c.StartTLS && !isLoopback(u.Hostname()):
		return errors.New("url: ldap:// to another machine would send passwords in the clear: use ldaps://, or start_tls")
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// endpoint is where to connect, and the name that the server's certificate must have.
func (c Config) endpoint() (address, host string, encrypted bool) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return "", "", false // Validate has refused it
	}
	port := u.Port()
	encrypted = u.Scheme == "ldaps"
	switch {
	case port != "":
	case encrypted:
		port = "636"
	default:
		port = "389"
	}
	return net.JoinHostPort(u.Hostname(), port), u.Hostname(), encrypted
}

func (c Config) tlsConfig() (*tls.Config, error) {
	_, host, _ := c.endpoint()
	settings := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if c.CAFile == "" {
		return settings, nil
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, err
	}
	settings.RootCAs = x509.NewCertPool()
	if !settings.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", c.CAFile)
	}
	return settings, nil
}

// withDefaults fills in what was left out.
func (c Config) withDefaults() Config {
	if c.MarkerAttribute == "" {
		c.MarkerAttribute = "description"
	}
	if c.CorrelateBy == "" {
		c.CorrelateBy = "mail"
	}
	if c.Connections == 0 {
		c.Connections = defaultConnections
	}
	if c.PageSize == 0 {
		c.PageSize = defaultPageSize
	}
	return c
}
