package ldap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/connector"
)

const (
	connectTimeout = 5 * time.Second
	// answerTimeout is for callers who name no time of their own.
	answerTimeout = time.Minute
	// maxAnswer bounds one message of a server's, which may not be the one it should be before StartTLS: a group of half a million
	// members, or nonsense.
	maxAnswer = 64 << 20
)

func init() { ber.MaxPacketLengthBytes = maxAnswer } // the library has one limit for the whole process

// conn is a connection, for one goroutine.
type conn struct {
	*ldap.Conn
	raw net.Conn
}

// until makes everything that waits on the connection end with ctx; release undoes it.
func (c *conn) until(ctx context.Context) (release func()) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(answerTimeout)
	}
	_ = c.raw.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = c.raw.SetDeadline(time.Unix(1, 0)) })
	return func() {
		if stop() {
			_ = c.raw.SetDeadline(time.Time{})
		}
	}
}

// dial connects without binding. An error is a Problem.
func (d *Directory) dial(ctx context.Context) (*conn, error) {
	settings, err := d.cfg.tlsConfig()
	if err != nil {
		return nil, connector.Auth("ldap.ca_file", "%v", err)
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	address, _, encrypted := d.cfg.endpoint()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, notDone(err)
	}
	through := raw
	if encrypted {
		secured := tls.Client(raw, settings)
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, connector.Unavailable("ldap.tls", "%v", errors.Join(err, raw.Close()))
		}
		through = secured
	}
	c := &conn{Conn: ldap.NewConn(through, encrypted), raw: raw}
	c.Start()
	if d.cfg.StartTLS {
		defer c.until(ctx)()
		if err := c.StartTLS(settings); err != nil {
			_ = c.Close()
			return nil, connector.Unavailable("ldap.tls", "%v", err)
		}
	}
	return c, nil
}

// bind logs the connector in.
func (d *Directory) bind(ctx context.Context) (*conn, error) {
	secret, err := config.ReadSecret(d.cfg.PasswordFile)
	if err != nil {
		return nil, connector.Auth("ldap.password_file", "%v", err)
	}
	c, err := d.dial(ctx)
	if err != nil {
		return nil, err
	}
	release := c.until(ctx)
	if err := c.Bind(d.cfg.BindDN, string(secret.Reveal())); err != nil {
		_ = c.Close()
		return nil, notDone(inTime(ctx, err))
	}
	release()
	return c, nil
}

// acquire returns a connection that is bound, of which there are only so many. done gives it back, and is told the last
// error on it: after one that was not the server's answer it is not used again.
func (d *Directory) acquire(ctx context.Context) (c *conn, done func(*error), err error) {
	select {
	case d.places <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, notDone(ctx.Err())
	}
	for c == nil {
		select {
		case c = <-d.idle:
			if c.IsClosing() { // the server has closed it meanwhile
				_, c = c.Close(), nil
			}
		default:
			if c, err = d.bind(ctx); err != nil {
				<-d.places
				return nil, nil, err
			}
		}
	}
	release := c.until(ctx)
	return c, func(last *error) {
		release()
		if broken(*last) || ctx.Err() != nil || c.IsClosing() {
			_ = c.Close()
		} else {
			d.idle <- c // has room for as many as there are places
		}
		<-d.places
	}, nil
}

// broken says whether after this error a reply may still be under way.
func broken(err error) bool {
	if err == nil {
		return false
	}
	var p *connector.Problem
	if errors.As(err, &p) {
		return p.Reason == "ldap.connection" || p.Reason == "ldap.timeout"
	}
	_, ok := said(err)
	return !ok
}

// inTime says of an error that came because ctx was over, that it did.
func inTime(ctx context.Context, err error) error {
	if _, ok := said(err); err != nil && !ok && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return err
}

// Close closes the connections. No call is under way any more.
func (d *Directory) Close() error {
	for {
		select {
		case c := <-d.idle:
			_ = c.Close() // the server may have been faster
		default:
			return nil
		}
	}
}

// assert makes a change depend on what the entry is at that moment (RFC 4528).
func assert(filter string) ([]ldap.Control, error) {
	packet, err := ldap.CompileFilter(filter)
	if err != nil {
		return nil, err
	}
	return []ldap.Control{ldap.NewControlString(assertionOID, true, string(packet.Bytes()))}, nil
}

const assertionOID = "1.3.6.1.1.12"

// equals is a filter for one value of an attribute.
func equals(name, value string) string { return "(" + name + "=" + ldap.EscapeFilter(value) + ")" }
