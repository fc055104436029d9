package postgres

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tenurehq/tenure/pkg/config"
)

// Config is the operator's part.
type Config struct {
	URL          string   `json:"url"`           // postgres://user@host:port/database?sslmode=…
	PasswordFile string   `json:"password_file"` // of that user; read at each new connection
	Connections  int      `json:"connections"`   // at most; default 4
	Protected    []string `json:"protected"`     // roles that are never touched
	Predefined   []string `json:"predefined"`    // pg_ roles that may be granted all the same
}

const defaultConnections = 4

// Validate says what is wrong, naming the key. It does not contact the server.
func (c Config) Validate() error {
	if c.URL == "" {
		return errors.New("url: missing")
	}
	if _, err := pgxpool.ParseConfig(c.URL); err != nil {
		return errors.New("url: not a PostgreSQL connection string") // the parser's text may hold the password
	}
	if c.Connections < 0 {
		return errors.New("connections: must not be negative")
	}
	for i, name := range c.Predefined {
		if !strings.HasPrefix(name, "pg_") {
			return fmt.Errorf("predefined[%d]: %q is not a pg_ role", i, name)
		}
	}
	if c.PasswordFile == "" {
		return nil
	}
	if _, err := config.ReadSecret(c.PasswordFile); err != nil {
		return fmt.Errorf("password_file: %w", err)
	}
	return nil
}
