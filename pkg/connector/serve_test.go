package connector_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tenurehq/tenure/pkg/connector"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
)

func retryIn(d time.Duration) *errdetails.RetryInfo {
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(d)}
}

// serve runs a connector until the test ends, and expects it to end well.
func serve(t *testing.T, address string, settings *tls.Config) {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	served := make(chan error, 1)
	go func() { served <- connector.Serve(ctx, address, newFake(ann()), settings) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

func reach(t *testing.T, address string, settings *tls.Config) *grpc.ClientConn {
	t.Helper()
	conn, err := connector.Dial(address, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestASidecarIsReachedByItsOwnUserOverItsSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "c.sock")
	if err := os.WriteFile(path, nil, 0o600); err != nil { // what a killed process left behind
		t.Fatal(err)
	}
	serve(t, "unix:"+path, nil)
	conn := reach(t, "unix:"+path, nil)
	got, err := connectorv1.NewConnectorClient(conn).Check(t.Context(), &connectorv1.CheckRequest{}, grpc.WaitForReady(true))
	if err != nil || got.GetTargetIdentity() != "fake:1" {
		t.Fatalf("%v (%v)", got, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %v (%v): others may connect", info.Mode(), err)
	}
	health, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil || health.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("health: %v (%v)", health, err)
	}
	if err := connector.Serve(t.Context(), "unix:"+path, newFake(), nil); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second connector took the socket of a live one: %v", err)
	}
}

func TestASocketThatAnybodyCouldReplaceIsNotTrusted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	conn := reach(t, "unix:"+filepath.Join(dir, "c.sock"), nil)
	_, err := connectorv1.NewConnectorClient(conn).Check(t.Context(), &connectorv1.CheckRequest{})
	if err == nil || !strings.Contains(err.Error(), "everybody may write") {
		t.Fatalf("%v, want a refusal", err)
	}
}

func TestOverTCPBothSidesShowACertificate(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	server := &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{ca.issue(t, "connector")},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool,
	}
	for name, settings := range map[string]*tls.Config{
		"no TLS":                      nil,
		"TLS that takes any client":   {Certificates: server.Certificates},
		"TLS that asks, not verifies": {Certificates: server.Certificates, ClientAuth: tls.RequireAnyClientCert, ClientCAs: ca.pool},
	} {
		if err := connector.Serve(t.Context(), "127.0.0.1:0", newFake(), settings); err == nil || !strings.Contains(err.Error(), "client certificates") {
			t.Errorf("%s: a connector listens on TCP: %v", name, err)
		}
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	serve(t, address, server)

	if _, err := connector.Dial(address, &tls.Config{RootCAs: ca.pool}); err == nil {
		t.Error("a client without a certificate was made")
	}
	good := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: ca.pool, Certificates: []tls.Certificate{ca.issue(t, "provision")}}
	got, err := connectorv1.NewConnectorClient(reach(t, address, good)).Check(t.Context(), &connectorv1.CheckRequest{}, grpc.WaitForReady(true))
	if err != nil || got.GetTargetIdentity() != "fake:1" {
		t.Fatalf("%v (%v)", got, err)
	}
	for name, cert := range map[string]tls.Certificate{
		"a certificate of somebody else's authority": newAuthority(t).issue(t, "provision"),
		"a certificate of another service":           ca.issue(t, "policy"),
	} {
		bad := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: ca.pool, Certificates: []tls.Certificate{cert}}
		if _, err := connectorv1.NewConnectorClient(reach(t, address, bad)).Check(t.Context(), &connectorv1.CheckRequest{}); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestWhereToListenComesFromTheEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	t.Setenv(connector.ListenEnv, "unix:"+path)
	serve(t, "", nil)
	if _, err := connectorv1.NewConnectorClient(reach(t, "unix:"+path, nil)).Describe(t.Context(), &connectorv1.DescribeRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
}

// authority signs certificates for one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	a := authority{pool: x509.NewCertPool()}
	a.cert, a.key = sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour),
	}, nil, nil)
	a.pool.AddCert(a.cert)
	return a
}

func (a authority) issue(t *testing.T, name string) tls.Certificate {
	t.Helper()
	cert, key := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, NotAfter: time.Now().Add(time.Hour),
	}, a.cert, a.key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

func sign(t *testing.T, template, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if by == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}
