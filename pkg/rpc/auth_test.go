package rpc_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509/pkix"
	"fmt"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/fault"
	"github.com/tenurehq/tenure/pkg/rpc"
	authv1 "github.com/tenurehq/tenure/proto/gen/tenure/auth/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
)

func setPerson(ctx context.Context, client peoplev1.PeopleServiceClient) error {
	_, err := client.SetPerson(ctx, &peoplev1.SetPersonRequest{})
	return err
}

func versions(ctx context.Context, client peoplev1.PeopleServiceClient) error {
	stream, err := client.Versions(ctx, &peoplev1.VersionsRequest{})
	if err != nil {
		return err
	}
	_, err = stream.Recv()
	return err
}

func TestOperatorsAreKnownByTheirTokens(t *testing.T) {
	t.Parallel()
	log, seen := logs()
	service := newPeople()
	server, _ := listen(t, rpc.Config{Operators: operators()}, log, service.register)
	address := server.Addr().String()
	anybody := dial(t, rpc.PeerConfig{Address: address})

	if err := find(t.Context(), dial(t, rpc.PeerConfig{Address: address, Token: secret(bobToken)}), "ann"); err != nil {
		t.Errorf("bob's token: %v", err)
	}
	if caller, _ := service.last(); caller != (rpc.Caller{Operator: "bob", Role: authv1.Role_ROLE_VIEWER}) || caller.Actor() != "operator:bob" {
		t.Errorf("the service saw %+v", caller)
	}

	for name, md := range map[string][]string{
		"nothing":                      nil,
		"a wrong token":                {"authorization", "Bearer " + eveToken},
		"an empty token":               {"authorization", "Bearer "},
		"another scheme":               {"authorization", "Basic " + adaToken},
		"no scheme":                    {"authorization", adaToken},
		"two tokens":                   {"authorization", "Bearer " + adaToken, "authorization", "Bearer " + eveToken},
		"the hash of a token":          {"authorization", "Bearer " + fmt.Sprintf("%x", sha256.Sum256([]byte(adaToken)))},
		"a service's name":             {"tenure-service", "policy"},
		"an operator's name":           {"tenure-operator", "ada", "tenure-role", "admin"},
		"the operator without a token": {"authorization", "Bearer cyd"},
	} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), md...)
		for what, err := range map[string]error{"unary": find(ctx, anybody, "ann"), "stream": versions(ctx, anybody)} {
			if fault.KindOf(err) != fault.Unauthenticated || err.Error() != unauthenticated {
				t.Errorf("%s, %s: got %s (%v), want the one text for all", name, what, fault.KindOf(err), err)
			}
		}
	}
	for _, entry := range seen.All() {
		if strings.Contains(strings.ToLower(entry.Message), "token") || entry.ContextMap()["caller"] != nil {
			t.Errorf("a refused call's log tells too much: %s %v", entry.Message, entry.ContextMap())
		}
	}
}

func TestTheMethodsOptionDecidesWhoMayCall(t *testing.T) {
	t.Parallel()
	log, _ := logs()
	service := newPeople()
	server, _ := listen(t, rpc.Config{Operators: operators()}, log, service.register)
	admin := dial(t, rpc.PeerConfig{Address: server.Addr().String(), Token: secret(adaToken)})
	viewer := dial(t, rpc.PeerConfig{Address: server.Addr().String(), Token: secret(bobToken)})

	if err := setPerson(t.Context(), admin); err != nil {
		t.Errorf("an admin may do what an operator may: %v", err)
	}
	wantKind(t, "too low a role", setPerson(t.Context(), viewer), fault.Denied, "SetPerson needs the role operator; bob is viewer")
	wantKind(t, "a method for services", versions(t.Context(), admin), fault.Denied, "Versions is not for operators")

	local := rpc.NewLocal(log, service.register)
	serve(t, local.Serve)
	if err := versions(t.Context(), dialLocal(t, local, "policy")); err != nil {
		t.Errorf("policy may ask for versions: %v", err)
	}
	if caller, _ := service.last(); caller.Service != "" {
		t.Errorf("unexpected caller %+v", caller)
	}
	wantKind(t, "another service", versions(t.Context(), dialLocal(t, local, "provision")), fault.Denied, "provision may not call Versions")
	wantKind(t, "a method for operators", setPerson(t.Context(), dialLocal(t, local, "policy")), fault.Denied, "policy may not call SetPerson")
	if _, err := local.Dial("eve"); err == nil {
		t.Error("dialled as a service that does not exist")
	}
}

// A method without the option is a closed door, whoever asks.
func TestAMethodWithoutTheOptionCanBeCalledByNobody(t *testing.T) {
	t.Parallel()
	log, _ := logs()
	open := func(r grpc.ServiceRegistrar) {
		r.RegisterService(&grpc.ServiceDesc{ServiceName: "tenure.people.v1.Person", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{
			{StreamName: "id", ServerStreams: true, Handler: func(any, grpc.ServerStream) error { return nil }},
		}}, struct{}{})
	}
	server, _ := listen(t, rpc.Config{Operators: operators()}, log, open)
	conn, err := rpc.Dial(rpc.PeerConfig{Address: server.Addr().String(), Token: secret(adaToken)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/tenure.people.v1.Person/id")
	if err == nil {
		err = stream.CloseSend()
	}
	if err == nil {
		err = stream.RecvMsg(&peoplev1.Person{})
	}
	wantKind(t, "a method without option", err, fault.Denied, "can be called by nobody")
}

func TestEveryMethodSaysWhoMayCall(t *testing.T) {
	t.Parallel()
	methods := 0
	protoregistry.GlobalFiles.RangeFilesByPackage("tenure", func(protoreflect.FileDescriptor) bool { return true })
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if !strings.HasPrefix(string(file.Package()), "tenure.") {
			return true
		}
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				methods++
				if method := service.Methods().Get(j); !proto.HasExtension(method.Options(), authv1.E_Allow) {
					t.Errorf("%s has no option tenure.auth.v1.allow: nobody can call it", method.FullName())
				}
			}
		}
		return true
	})
	if methods < 30 {
		t.Errorf("looked at %d methods only", methods)
	}
}

func TestOnlyTheFrontDoorSpeaksForOperators(t *testing.T) {
	t.Parallel()
	log, _ := logs()
	service := newPeople()
	local := rpc.NewLocal(log, service.register)
	serve(t, local.Serve)
	server, _ := listen(t, rpc.Config{Operators: operators()}, log, service.register)
	console := dialLocal(t, local, "console")
	as := func(md ...string) context.Context { return metadata.AppendToOutgoingContext(t.Context(), md...) }

	if err := setPerson(as("tenure-operator", "ada", "tenure-role", "operator"), console); err != nil {
		t.Errorf("console for ada: %v", err)
	}
	if err := find(as("tenure-operator", "ada", "tenure-role", "viewer"), console, "ann"); err != nil {
		t.Errorf("console for ada: %v", err)
	}
	if caller, _ := service.last(); caller != (rpc.Caller{Operator: "ada", Role: authv1.Role_ROLE_VIEWER}) {
		t.Errorf("the service saw %+v", caller)
	}
	wantKind(t, "the operator's role counts", setPerson(as("tenure-operator", "ada", "tenure-role", "viewer"), console), fault.Denied, "needs the role operator")
	wantKind(t, "console itself", find(t.Context(), console, "ann"), fault.Denied, "console may not call")
	for name, md := range map[string][]string{
		"no role": {"tenure-operator", "ada"}, "no name": {"tenure-role", "admin"}, "an empty name": {"tenure-operator", "", "tenure-role", "admin"},
		"two names":    {"tenure-operator", "ada", "tenure-operator", "bob", "tenure-role", "admin"},
		"an odd role":  {"tenure-operator", "ada", "tenure-role", "root"},
		"a role unset": {"tenure-operator", "ada", "tenure-role", "unspecified"},
	} {
		wantKind(t, name, find(as(md...), console, "ann"), fault.Unauthenticated, unauthenticated)
	}

	identity := as("tenure-operator", "ada", "tenure-role", "admin")
	wantKind(t, "another service", find(identity, dialLocal(t, local, "policy"), "ann"), fault.Denied, "only the front door")
	bob := dial(t, rpc.PeerConfig{Address: server.Addr().String(), Token: secret(bobToken)})
	wantKind(t, "an operator", setPerson(identity, bob), fault.Denied, "only the front door")
	wantKind(t, "an operator, role only", setPerson(as("tenure-role", "admin"), bob), fault.Denied, "only the front door")
}

func TestCertificatesTellServicesAndOperators(t *testing.T) {
	t.Parallel()
	log, _ := logs()
	ca, stranger := newAuthority(t), newAuthority(t)
	service := newPeople()
	server, _ := listen(t, rpc.Config{TLS: ca.cn(t, "ingest"), Operators: operators()}, log, service.register)
	address := server.Addr().String()
	with := func(files rpc.TLS) peoplev1.PeopleServiceClient {
		files.CAFile = ca.file("ca.crt") // whatever is shown, the server is known
		return dial(t, rpc.PeerConfig{Address: address, TLS: files, ServerName: "ingest"})
	}

	if err := versions(t.Context(), with(ca.cn(t, "policy"))); err != nil {
		t.Errorf("policy by its common name: %v", err)
	}
	if err := versions(t.Context(), with(ca.issue(t, "san", pkix.Name{}, "policy"))); err != nil {
		t.Errorf("policy by its only DNS name: %v", err)
	}
	cyd := with(ca.issue(t, "cyd", pkix.Name{CommonName: "cyd", Organization: []string{"ACME"}}))
	if err := setPerson(t.Context(), cyd); err != nil {
		t.Errorf("operator by certificate: %v", err)
	}
	if err := find(t.Context(), cyd, "ann"); err != nil {
		t.Errorf("operator by certificate: %v", err)
	}
	if caller, _ := service.last(); caller != (rpc.Caller{Operator: "cyd", Role: authv1.Role_ROLE_OPERATOR}) {
		t.Errorf("the service saw %+v", caller)
	}
	ada := dial(t, rpc.PeerConfig{Address: address, TLS: rpc.TLS{CAFile: ca.file("ca.crt")}, Token: secret(adaToken)})
	if err := find(t.Context(), ada, "ann"); err != nil {
		t.Errorf("token over TLS without a certificate: %v", err)
	}
	console := metadata.AppendToOutgoingContext(t.Context(), "tenure-operator", "ada", "tenure-role", "admin")
	if err := setPerson(console, with(ca.cn(t, "console"))); err != nil {
		t.Errorf("the front door over TLS: %v", err)
	}

	for name, files := range map[string]rpc.TLS{
		"a subject that is not whole": ca.issue(t, "short", pkix.Name{CommonName: "cyd"}),
		"a name that is no service's": ca.cn(t, "eve"),
		"several DNS names":           ca.issue(t, "many", pkix.Name{}, "policy", "ingest"),
		"a DNS name beside a name":    ca.issue(t, "both", pkix.Name{CommonName: "eve"}, "policy"),
		"no certificate":              {},
	} {
		wantKind(t, name, versions(t.Context(), with(files)), fault.Unauthenticated, unauthenticated)
	}
	wantKind(t, "another authority's certificate", versions(t.Context(), with(stranger.cn(t, "policy"))), fault.Unavailable, "")
	wantKind(t, "a server that is another service", versions(t.Context(), dial(t, rpc.PeerConfig{Address: address, TLS: ca.cn(t, "policy"), ServerName: "audit"})), fault.Unavailable, "certificate")
	wantKind(t, "a server of another authority", versions(t.Context(), dial(t, rpc.PeerConfig{Address: address, TLS: stranger.cn(t, "policy"), ServerName: "ingest"})), fault.Unavailable, "certificate")
	wantKind(t, "no TLS", find(t.Context(), dial(t, rpc.PeerConfig{Address: address, Token: secret(adaToken)}), "ann"), fault.Unavailable, "")
}

func TestRenewedCertificatesAreUsedWithoutARestart(t *testing.T) {
	t.Parallel()
	log, _ := logs()
	ca := newAuthority(t)
	server, _ := listen(t, rpc.Config{TLS: ca.cn(t, "ingest")}, log)
	serial := func() string {
		conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", server.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := serial()
	if err := os.WriteFile(ca.file("ingest.crt"), []byte("half written"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := serial(); got != before {
		t.Error("a half-written certificate replaced a good one")
	}
	ca.cn(t, "ingest")
	if got := serial(); got == before {
		t.Error("the old certificate is still shown")
	}
}

func TestHealthIsToldToWhoeverIsSomebody(t *testing.T) {
	t.Parallel()
	log, _ := logs()
	server, _ := listen(t, rpc.Config{Operators: operators()}, log)
	check := func(token config.Secret) error {
		conn, err := rpc.Dial(rpc.PeerConfig{Address: server.Addr().String(), Token: token})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		answer, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
		if err == nil && answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health is %s", answer.GetStatus())
		}
		return err
	}
	if err := check(secret(bobToken)); err != nil {
		t.Errorf("a viewer asks: %v", err)
	}
	wantKind(t, "nobody asks", check(config.Secret{}), fault.Unauthenticated, unauthenticated)
}

func TestListenRefusesWhatIsNotSafe(t *testing.T) {
	t.Parallel()
	log, _ := logs()
	ca := newAuthority(t)
	good := ca.cn(t, "ingest")
	for name, c := range map[string]struct {
		cfg  rpc.Config
		want string
	}{
		"any address without TLS":   {rpc.Config{Listen: "0.0.0.0:0"}, "set tls.cert_file and tls.key_file, or listen on 127.0.0.1"},
		"no host without TLS":       {rpc.Config{Listen: ":0"}, "set tls.cert_file"},
		"no port":                   {rpc.Config{Listen: "127.0.0.1"}, "want host:port"},
		"a key that is missing":     {rpc.Config{Listen: "127.0.0.1:0", TLS: rpc.TLS{CertFile: good.CertFile}}, "belong together"},
		"files that are missing":    {rpc.Config{Listen: "127.0.0.1:0", TLS: rpc.TLS{CertFile: "gone.crt", KeyFile: "gone.key"}}, "gone.crt"},
		"an authority that is none": {rpc.Config{Listen: "127.0.0.1:0", TLS: rpc.TLS{CertFile: good.CertFile, KeyFile: good.KeyFile, CAFile: good.KeyFile}}, "holds no certificate"},
	} {
		if _, err := rpc.Listen(c.cfg, log); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	if _, err := rpc.Dial(rpc.PeerConfig{Address: "nowhere"}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("an address that is none: %v", err)
	}
	good.CAFile = ""
	tcp, err := rpc.Listen(rpc.Config{Listen: "0.0.0.0:0", TLS: good}, log)
	if err != nil {
		t.Fatalf("any address with TLS: %v", err)
	}
	serve(t, tcp.Serve)
}
