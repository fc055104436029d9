package connector

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
)

// ListenEnv is the environment variable that tells a connector where to listen when its address is empty.
const ListenEnv = "CONNECTOR_LISTEN"

// drainTime is how long calls under way may take when a connector stops. A worker's steps are shorter.
const drainTime = 10 * time.Second

// Serve makes impl a process of its own: it serves the contract and gRPC's health service at address until ctx ends, then
// finishes the calls under way. address is unix:/path or host:port; empty: the value of CONNECTOR_LISTEN.
//
// A unix socket belongs to the user who runs the connector, and only that user (and root) may connect; no TLS. Over
// TCP, settings must demand and verify a client certificate, and only that of the worker's service is let in.
func Serve(ctx context.Context, address string, impl Connector, settings *tls.Config) error {
	if address == "" {
		address = os.Getenv(ListenEnv)
	}
	listener, creds, err := listen(ctx, address, settings)
	if err != nil {
		return err
	}
	service, err := NewServer(impl)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	server := grpc.NewServer(grpc.Creds(creds), grpc.MaxRecvMsgSize(maxMessageSize), grpc.MaxSendMsgSize(maxMessageSize))
	connectorv1.RegisterConnectorServer(server, service)
	healthy := health.NewServer()
	healthv1.RegisterHealthServer(server, healthy)

	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve the connector: %w", err)
	case <-ctx.Done():
	}
	healthy.Shutdown()
	late := time.AfterFunc(drainTime, server.Stop)
	defer late.Stop()
	server.GracefulStop()
	if err := <-served; !errors.Is(err, grpc.ErrServerStopped) { // told to stop before it had begun
		return err
	}
	return nil
}

func listen(ctx context.Context, address string, settings *tls.Config) (net.Listener, credentials.TransportCredentials, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		listener, err := listenUnix(ctx, path)
		return listener, insecure.NewCredentials(), err
	}
	if address == "" {
		return nil, nil, fmt.Errorf("where to listen? give an address or set %s", ListenEnv)
	}
	if settings == nil || settings.ClientAuth != tls.RequireAndVerifyClientCert || settings.ClientCAs == nil {
		return nil, nil, fmt.Errorf("listen on %s: over TCP a connector must require and verify client certificates", address)
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return listener, credentials.NewTLS(workerOnly(settings)), nil
}

// worker is the service whose certificate may call connectors, as the contract's methods say.
const worker = "provision"

// workerOnly also looks at whose the verified certificate is: by its common name, else by its one DNS name.
func workerOnly(settings *tls.Config) *tls.Config {
	settings = settings.Clone()
	before := settings.VerifyConnection
	settings.VerifyConnection = func(state tls.ConnectionState) error {
		cert := state.PeerCertificates[0] // required, so there is one
		name := cert.Subject.CommonName
		if name == "" && len(cert.DNSNames) == 1 {
			name = cert.DNSNames[0]
		}
		switch {
		case name != worker:
			return fmt.Errorf("the certificate is not the %s service's", worker)
		case before != nil:
			return before(state)
		}
		return nil
	}
	return settings
}

// unixListener removes its socket when it closes, as long as it is still its own.
type unixListener struct {
	*net.UnixListener
	path string
	info os.FileInfo
}

func (l unixListener) Close() error {
	if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.info) {
		_ = os.Remove(l.path) // gone already, or stale: the next start replaces it
	}
	return l.UnixListener.Close()
}

// listenUnix binds in a private directory and moves the socket into place when its mode is right, so that there is no
// instant at which others may connect. What a killed process left behind is replaced by that; a live one is not.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	var dialer net.Dialer
	if conn, err := dialer.DialContext(ctx, "unix", path); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("listen on %s: another process does", path)
	}
	private, err := os.MkdirTemp(filepath.Dir(path), ".c")
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	defer os.RemoveAll(private) // an empty directory, at worst
	fresh := filepath.Join(private, "s")
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", fresh)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	unix := listener.(*net.UnixListener)
	unix.SetUnlinkOnClose(false)
	info, err := place(fresh, path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), listener.Close())
	}
	return unixListener{unix, path, info}, nil
}

func place(fresh, path string) (os.FileInfo, error) {
	if err := os.Chmod(fresh, 0o600); err != nil { //nolint:gosec // where the operator said
		return nil, err
	}
	if err := os.Rename(fresh, path); err != nil { //nolint:gosec // where the operator said
		return nil, err
	}
	return os.Lstat(path) //nolint:gosec // where the operator said
}

// Dial returns a connection to a connector that is a process of its own, without waiting for it. address is unix:/path
// or host:port. A unix socket must lie in a directory that others cannot write to: who could replace the socket
// could play the application. Over TCP, settings must show a client certificate.
func Dial(address string, settings *tls.Config) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	target := address
	var options []grpc.DialOption
	switch path, isUnix := strings.CutPrefix(address, "unix:"); {
	case isUnix:
		target = "passthrough:unix"
		options = append(options, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return dialUnix(ctx, path)
		}), grpc.WithAuthority("localhost"))
	case settings == nil || len(settings.Certificates) == 0 && settings.GetClientCertificate == nil:
		return nil, fmt.Errorf("reach the connector at %s: over TCP it needs a client certificate", address)
	default:
		creds = credentials.NewTLS(settings)
	}
	options = append(options, grpc.WithTransportCredentials(creds), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageSize)))
	conn, err := grpc.NewClient(target, options...)
	if err != nil {
		return nil, fmt.Errorf("reach the connector at %s: %w", address, err)
	}
	return conn, nil
}

func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	const othersWrite = 0o002
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("reach the connector at %s: %w", path, err)
	}
	if dir.Mode()&othersWrite != 0 {
		return nil, fmt.Errorf("reach the connector at %s: everybody may write to its directory", path)
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", path)
}
