package scim

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/rpc"
)

// Config is the operator's part.
type Config struct {
	URL          string   `json:"url"`           // the base URL: what stands before /Users
	TokenFile    string   `json:"token_file"`    // bearer token; read at each request
	TokenExpires string   `json:"token_expires"` // the day on which the token ends, where nobody else says
	Dialect      string   `json:"profile"`       // whose SCIM it is; default generic
	Attributes   []string `json:"attributes"`    // paths that may be set besides the usual ones
	CorrelatedBy string   `json:"correlated_by"` // userName (default), or the path of an address that can be searched for
	Protected    []string `json:"protected"`     // userNames that are never touched
	Profile               // single keys that differ from the profile
}

// Validate says what is wrong, naming the key. It does not contact the application.
func (c Config) Validate() error {
	if err := c.checkURL(); err != nil {
		return err
	}
	if c.TokenFile == "" {
		return errors.New("token_file: missing")
	}
	if _, err := readToken(c.TokenFile); err != nil {
		return fmt.Errorf("token_file: %w", err)
	}
	if c.TokenExpires != "" {
		if _, err := parseDate(c.TokenExpires); err != nil {
			return fmt.Errorf("token_expires: %w", err)
		}
	}
	for i, text := range c.Attributes {
		if _, err := parsePath(text); err != nil {
			return fmt.Errorf("attributes[%d]: %w", i, err)
		}
	}
	if c.CorrelatedBy != "" {
		if _, err := parsePath(c.CorrelatedBy); err != nil {
			return fmt.Errorf("correlated_by: %w", err)
		}
	}
	_, err := c.profile()
	return err
}

func (c Config) checkURL() error {
	if c.URL == "" {
		return errors.New("url: missing")
	}
	u, err := url.Parse(c.URL)
	switch {
	case err != nil: // the parser's text may hold a password
		return errors.New("url: not a URL")
	case u.User != nil:
		return errors.New("url: holds a name or password: the token belongs into token_file")
	case u.RawQuery != "" || u.Fragment != "" || u.Host == "":
		return errors.New("url: want https://host/path, with nothing behind it")
	case u.Scheme != "https" && (u.Scheme != "http" || !rpc.Loopback(u.Hostname())):
		return errors.New("url: must begin with https://, or be on loopback")
	}
	return nil
}

// readToken reads the bearer token. Its errors do not show it.
func readToken(file string) (string, error) {
	secret, err := config.ReadSecret(file)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(secret.Reveal()))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%s: a token is one line of visible ASCII", file)
	}
	return token, nil
}
