package rpc

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// TLS names the PEM files of one side of a connection.
type TLS struct {
	CertFile, KeyFile string // what we show; read again when they change
	CAFile            string // who signed what the other side shows
}

func (t TLS) empty() bool { return t == TLS{} }

// Server is for listeners: clients may show a certificate, and one that is shown must be good.
func (t TLS) Server() (*tls.Config, error) {
	settings := &tls.Config{MinVersion: tls.VersionTLS13}
	pair, err := newKeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, err
	}
	settings.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.get() }
	if t.CAFile == "" {
		return settings, nil // nobody's certificate can be good: none is asked for
	}
	if settings.ClientCAs, err = readCA(t.CAFile); err != nil {
		return nil, err
	}
	settings.ClientAuth = tls.VerifyClientCertIfGiven
	return settings, nil
}

// Client is for dialling a server that shows a certificate for serverName. Without CAFile the machine's own authorities decide.
func (t TLS) Client(serverName string) (*tls.Config, error) {
	settings := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: serverName}
	if t.CAFile != "" {
		roots, err := readCA(t.CAFile)
		if err != nil {
			return nil, err
		}
		settings.RootCAs = roots
	}
	if t.CertFile != "" || t.KeyFile != "" {
		pair, err := newKeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, err
		}
		settings.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.get() }
	}
	return settings, nil
}

func readCA(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file) //nolint:gosec // G304: the operator names the file
	if err != nil {
		return nil, fmt.Errorf("read certificate authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return pool, nil
}

// keyPair is a certificate that is renewed by replacing its files, without a restart.
type keyPair struct {
	certFile, keyFile string

	mu   sync.Mutex
	pair *tls.Certificate
	cert time.Time // the files' times when pair was read
	key  time.Time
}

func newKeyPair(certFile, keyFile string) (*keyPair, error) {
	if certFile == "" || keyFile == "" {
		return nil, errors.New("tls.cert_file and tls.key_file belong together")
	}
	k := &keyPair{certFile: certFile, keyFile: keyFile}
	_, err := k.get()
	return k, err
}

// get returns the pair, read again if a file has changed. While the new files do not fit together, as between the two
// replacements, the old pair stays in use.
func (k *keyPair) get() (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	cert, certErr := os.Stat(k.certFile)
	key, keyErr := os.Stat(k.keyFile)
	err := errors.Join(certErr, keyErr)
	if err == nil {
		if k.pair != nil && cert.ModTime().Equal(k.cert) && key.ModTime().Equal(k.key) {
			return k.pair, nil
		}
		var pair tls.Certificate
		if pair, err = tls.LoadX509KeyPair(k.certFile, k.keyFile); err == nil {
			k.pair, k.cert, k.key = &pair, cert.ModTime(), key.ModTime()
		}
	}
	if k.pair == nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	return k.pair, nil
}
