package bus_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"go.uber.org/zap"
	"golang.org/x/crypto/bcrypt"

	"github.com/tenurehq/tenure/pkg/bus"
	"github.com/tenurehq/tenure/pkg/bus/bustest"
	"github.com/tenurehq/tenure/pkg/config"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

const password = "correct horse"

// user may connect under a service's name with password.
func user(name string) bus.User {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		panic(err)
	}
	return bus.User{Name: name, PasswordHash: config.NewSecret(hash)}
}

func remote(name, address string) bus.Config {
	return bus.Config{Service: name, URL: "nats://" + address, User: name, Password: config.NewSecret([]byte(password))}
}

// freeAddress is a loopback address nobody listens on just now.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func TestTheEmbeddedServerCannotBeReachedUnlessItListens(t *testing.T) {
	t.Parallel()
	if addr := bustest.NewServer(t).Addr(); addr != nil {
		t.Errorf("it listens on %s", addr)
	}
}

func TestAListenerThatIsNotSafeIsRefused(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]bus.ServerConfig{
		"nobody may connect":             {Listen: "127.0.0.1:0"},
		"open network without TLS":       {Listen: "0.0.0.0:0", Users: []bus.User{user("ingest")}},
		"every interface without TLS":    {Listen: ":0", Users: []bus.User{user("ingest")}},
		"a user without proof":           {Listen: "127.0.0.1:0", Users: []bus.User{{Name: "ingest"}}},
		"a password that is not hashed":  {Listen: "127.0.0.1:0", Users: []bus.User{{Name: "ingest", PasswordHash: config.NewSecret([]byte("secret"))}}},
		"two proofs":                     {Listen: "127.0.0.1:0", Users: []bus.User{{Name: "ingest", Nkey: "U", CertCN: "ingest"}}},
		"a certificate nobody vouches":   {Listen: "127.0.0.1:0", Users: []bus.User{{Name: "ingest", CertCN: "ingest"}}},
		"the name of our own connection": {Listen: "127.0.0.1:0", Users: []bus.User{user("in-process")}},
	} {
		cfg.StoreDir = t.TempDir()
		if server, err := bus.StartServer(cfg); err == nil {
			server.Close()
			t.Errorf("%s: started", name)
		}
	}
}

func TestAServiceMayDoItsOwnWorkAndNoMore(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t, bus.ServerConfig{
		StoreDir: t.TempDir(), Listen: "127.0.0.1:0",
		Users: []bus.User{user("policy"), user("provision"), user("viewer"), user("stranger")},
	})
	address := server.Addr().String()
	b := bustest.ConnectWith(t, remote("provision", address)) // makes the stream
	handle, got := collect()
	consume(t, b, bus.ConsumerConfig{Name: "provision-code-normal", Subjects: []string{"tenure.intent.>"}}, handle)
	publish(t, b, intent(1))
	receive(t, got, "its own event")

	js := bus.JetStream(b)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second) // what is not permitted is not answered
	t.Cleanup(cancel)
	forged := bus.NewEvent(bus.AccessSubject(eventv1.Lane_LANE_NORMAL, "code", "p1"), &eventv1.Access{}, bus.Cause{})
	for name, do := range map[string]func() error{
		"publish policy's events": func() error { _, err := js.Publish(ctx, forged.Subject, forged.Data); return err },
		"delete the stream":       func() error { return js.DeleteStream(ctx, "TENURE") },
		"change the stream": func() error {
			_, err := js.UpdateStream(ctx, jetstream.StreamConfig{Name: "TENURE", Subjects: []string{"tenure.>"}})
			return err
		},
		"make another stream": func() error {
			_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other"}})
			return err
		},
		"delete a durable": func() error { return js.DeleteConsumer(ctx, "TENURE", "provision-code-normal") },
	} {
		t.Run("may not "+name, func(t *testing.T) {
			t.Parallel()
			if do() == nil {
				t.Error("it could")
			}
		})
	}

	t.Run("a viewer sees every event and sends none", func(t *testing.T) {
		t.Parallel()
		viewer, err := nats.Connect("nats://"+address, nats.UserInfo("viewer", password))
		if err != nil {
			t.Fatal(err)
		}
		defer viewer.Close()
		seen, err := viewer.SubscribeSync("tenure.>")
		if err != nil {
			t.Fatal(err)
		}
		if err := viewer.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := viewer.Publish("tenure.intent.code.forged", nil); err != nil {
			t.Fatal(err)
		}
		if err := viewer.Flush(); err != nil {
			t.Fatal(err)
		}
		publish(t, b, intent(2))
		msg, err := seen.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		if msg.Subject != "tenure.intent.code.p1" {
			t.Errorf("the viewer saw %s", msg.Subject)
		}
	})
	for name, option := range map[string]nats.Option{
		"nobody":             nats.Name("nobody"),
		"a wrong password":   nats.UserInfo("provision", "wrong"),
		"an unknown user":    nats.UserInfo("root", password),
		"a false own socket": nats.UserInfo("in-process", password),
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			t.Parallel()
			if conn, err := nats.Connect("nats://"+address, option, nats.MaxReconnects(0)); err == nil {
				conn.Close()
				t.Error("connected")
			}
		})
	}
}

func TestServicesAreKnownByNkeyAndByCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := newAuthority(t, dir)
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	seedFile := filepath.Join(dir, "seed")
	if err := os.WriteFile(seedFile, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	server := bustest.Start(t, bus.ServerConfig{
		StoreDir: t.TempDir(), Listen: "127.0.0.1:0", TLS: ca.issue(t, "nats"),
		Users: []bus.User{{Name: "provision", CertCN: "provision"}, {Name: "policy", Nkey: public}},
	})
	publish(t, bustest.Connect(t, server), intent(1)) // this process needs no certificate
	url := "tls://" + server.Addr().String()
	provision := bustest.ConnectWith(t, bus.Config{Service: "provision", URL: url, TLS: ca.issue(t, "provision")})
	publish(t, provision, intent(2))
	policy := bustest.ConnectWith(t, bus.Config{Service: "policy", URL: url, TLS: ca.issue(t, "anybody"), NkeyFile: seedFile})
	publish(t, policy, bus.NewEvent(bus.ModelApplied, &eventv1.ModelApplied{}, bus.Cause{}))
	if b, err := bus.Connect(t.Context(), bus.Config{Service: "provision", URL: url, TLS: ca.issue(t, "anybody")}, zap.NewNop()); err == nil {
		b.Close()
		t.Error("a certificate with another name was let in")
	}
}

// authority issues certificates for tests.
type authority struct {
	dir  string
	file string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir string) *authority {
	t.Helper()
	a := &authority{dir: dir, file: filepath.Join(dir, "ca.pem")}
	a.key = newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

func (a *authority) issue(t *testing.T, name string) bus.TLS {
	t.Helper()
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	files := bus.TLS{CertFile: filepath.Join(a.dir, name+".pem"), KeyFile: filepath.Join(a.dir, name+".key"), CAFile: a.file}
	writePEM(t, files.CertFile, "CERTIFICATE", der)
	writePEM(t, files.KeyFile, "PRIVATE KEY", keyDER)
	return files
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
