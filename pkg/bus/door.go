package bus

import (
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"golang.org/x/crypto/bcrypt"
)

// door decides who may connect, and as whom. Its own code rather than the server's options, because one listener
// must take passwords, nkeys and certificates while connections from this process show none of them.
type door struct {
	token string // of this process
	users map[string]User
}

func newDoor(token string, users []User) *door {
	d := &door{token: token, users: make(map[string]User, len(users))}
	for _, u := range users {
		d.users[u.key()] = u
	}
	return d
}

// Check implements server.Authentication.
func (d *door) Check(c server.ClientAuthentication) bool {
	if c.Kind() != server.CLIENT {
		return false
	}
	opts := c.GetOpts()
	if opts.Username == inProcessUser {
		if subtle.ConstantTimeCompare([]byte(opts.Password), []byte(d.token)) != 1 {
			return false
		}
		c.RegisterUser(&server.User{Username: inProcessUser})
		return true
	}
	u, ok := d.identify(c)
	if !ok {
		return false
	}
	c.RegisterUser(&server.User{Username: u.Name, Permissions: u.permissions()})
	return true
}

func (d *door) identify(c server.ClientAuthentication) (User, bool) {
	opts := c.GetOpts()
	switch {
	case opts.Nkey != "":
		u, ok := d.users["nkey:"+opts.Nkey]
		return u, ok && signed(opts.Nkey, opts.Sig, c.GetNonce())
	case opts.Username != "":
		u, ok := d.users["password:"+opts.Username]
		return u, ok && bcrypt.CompareHashAndPassword(u.PasswordHash.Reveal(), []byte(opts.Password)) == nil
	}
	state := c.GetTLSConnectionState()
	if state == nil || len(state.VerifiedChains) == 0 {
		return User{}, false
	}
	u, ok := d.users["cert:"+state.VerifiedChains[0][0].Subject.CommonName]
	return u, ok
}

// signed reports whether signature is the nkey's over the nonce that this connection was given.
func signed(nkey, signature string, nonce []byte) bool {
	raw, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil {
		return false
	}
	public, err := nkeys.FromPublicKey(nkey)
	return err == nil && public.Verify(nonce, raw) == nil
}

// key is how identify finds the user.
func (u User) key() string {
	switch {
	case u.Nkey != "":
		return "nkey:" + u.Nkey
	case u.CertCN != "":
		return "cert:" + u.CertCN
	}
	return "password:" + u.Name
}

func (u User) validate() error {
	proofs := 0
	for _, given := range []bool{!u.PasswordHash.Empty(), u.Nkey != "", u.CertCN != ""} {
		if given {
			proofs++
		}
	}
	if proofs != 1 {
		return errors.New("needs exactly one of a password hash, an nkey and a certificate name")
	}
	if u.Nkey != "" {
		if _, err := nkeys.FromPublicKey(u.Nkey); err != nil {
			return fmt.Errorf("nkey: %w", err)
		}
	}
	if !u.PasswordHash.Empty() {
		if _, err := bcrypt.Cost(u.PasswordHash.Reveal()); err != nil {
			return fmt.Errorf("password hash: %w", err)
		}
	}
	if u.Name == "" || u.Name == inProcessUser {
		return errors.New("the name is not free")
	}
	return nil
}

// own is what each service may publish.
func own(service string) []string {
	switch service {
	case "ingest":
		return []string{"tenure.lifecycle.>", "tenure.delivery.>", "tenure.operator.>"}
	case "policy":
		return []string{"tenure.access.>", "tenure.model.>", "tenure.hold.>", "tenure.operator.>"}
	case "provision":
		return []string{"tenure.intent.>", "tenure.outcome.>", "tenure.finding.>", "tenure.operator.>"}
	case "audit":
		return []string{"tenure.checkpoint.>", "tenure.operator.>"}
	case "console":
		return []string{}
	}
	return nil
}

// permissions is the least that lets the user's process work.
//
// A subject pattern cannot match a part of a token, so unless Durables are named one service could take messages
// from another's durable. It could publish nothing in its name.
func (u User) permissions() *server.Permissions {
	nothing := &server.SubjectPermission{Deny: []string{">"}}
	if u.Name == "viewer" {
		return &server.Permissions{Publish: nothing, Subscribe: &server.SubjectPermission{Allow: []string{Everything}}}
	}
	publish := own(u.Name)
	if publish == nil {
		return &server.Permissions{Publish: nothing, Subscribe: nothing}
	}
	publish = append(publish, "$JS.API.INFO", "$JS.API.STREAM.INFO."+streamName, "$JS.API.STREAM.CREATE."+streamName)
	durables := u.Durables
	if len(durables) == 0 {
		durables = []string{"*"}
	}
	for _, durable := range durables {
		publish = append(publish,
			"$JS.API.CONSUMER.CREATE."+streamName+"."+durable, "$JS.API.CONSUMER.CREATE."+streamName+"."+durable+".>",
			"$JS.API.CONSUMER.INFO."+streamName+"."+durable,
			"$JS.API.CONSUMER.MSG.NEXT."+streamName+"."+durable,
			"$JS.ACK."+streamName+"."+durable+".>",
		)
	}
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: publish},
		Subscribe: &server.SubjectPermission{Allow: []string{inboxPrefix(u.Name) + ".>"}},
	}
}

// inboxPrefix gives each service replies that no other may listen to.
func inboxPrefix(service string) string { return "_INBOX_" + service }

// server is the configuration of a listener.
func (t TLS) server() (*tls.Config, error) {
	cfg, err := t.load()
	if err != nil {
		return nil, err
	}
	if len(cfg.Certificates) == 0 {
		return nil, errors.New("tls: a listener needs a certificate and its key")
	}
	if t.CAFile != "" {
		cfg.ClientCAs, cfg.RootCAs = cfg.RootCAs, nil
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return cfg, nil
}

// load reads the files; its result is a client's configuration.
func (t TLS) load() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS13}
	if t.CertFile != "" || t.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls: no certificate in %s", t.CAFile)
		}
	}
	return cfg, nil
}
