package rpc

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"strings"

	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/tenurehq/tenure/pkg/fault"
	authv1 "github.com/tenurehq/tenure/proto/gen/tenure/auth/v1"
)

// Metadata that says who calls.
const (
	headerToken    = "authorization"   // "Bearer …": an operator's token
	headerOperator = "tenure-operator" // from the front door only: whom it speaks for
	headerRole     = "tenure-role"     // from the front door only: that operator's role
	headerService  = "tenure-service"  // on the in-memory listener only: the dialling service
)

// errUnauthenticated is one text for whatever is wrong, so that nothing can be found out by trying.
var errUnauthenticated = fault.New(fault.Unauthenticated, "not authenticated: show an operator's token or a known client certificate")

// authenticator tells who calls.
type authenticator struct {
	operators []Operator
	local     bool // the listener is in memory: only this process can have dialled it, so the name it gives is true
}

// identify returns the caller. Everything that the caller sent is checked; what contradicts itself is refused.
func (a authenticator) identify(ctx context.Context) (Caller, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	caller, err := a.direct(ctx, md)
	if err != nil {
		return Caller{}, err
	}
	names, roles := md.Get(headerOperator), md.Get(headerRole)
	if len(names) == 0 && len(roles) == 0 {
		return caller, nil
	}
	if caller.Service != doorService {
		return Caller{}, fault.New(fault.Denied, "only the front door may speak for an operator")
	}
	if len(names) != 1 || len(roles) != 1 || names[0] == "" {
		return Caller{}, errUnauthenticated
	}
	role, ok := ParseRole(roles[0])
	if !ok {
		return Caller{}, errUnauthenticated
	}
	return Caller{Operator: names[0], Role: role}, nil
}

// direct is who is at the other end of the connection.
func (a authenticator) direct(ctx context.Context, md metadata.MD) (Caller, error) {
	if a.local {
		if names := md.Get(headerService); len(names) == 1 && isService(names[0]) {
			return Caller{Service: names[0]}, nil
		}
		return Caller{}, errUnauthenticated
	}
	if tokens := md.Get(headerToken); len(tokens) > 0 {
		return a.byToken(tokens)
	}
	if cert := certificate(ctx); cert != nil {
		return a.byCertificate(cert)
	}
	return Caller{}, errUnauthenticated
}

func (a authenticator) byToken(values []string) (Caller, error) {
	scheme, token, _ := strings.Cut(values[0], " ")
	if len(values) != 1 || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return Caller{}, errUnauthenticated
	}
	shown := sha256.Sum256([]byte(token))
	found := -1
	for i, operator := range a.operators { // all of them: the time taken tells nothing
		if subtle.ConstantTimeCompare(shown[:], operator.TokenSHA256[:]) == 1 {
			found = i
		}
	}
	if found < 0 {
		return Caller{}, errUnauthenticated
	}
	return Caller{Operator: a.operators[found].Name, Role: a.operators[found].Role}, nil
}

func (a authenticator) byCertificate(cert *x509.Certificate) (Caller, error) {
	subject := cert.Subject.String()
	for _, operator := range a.operators {
		if operator.Cert != "" && operator.Cert == subject {
			return Caller{Operator: operator.Name, Role: operator.Role}, nil
		}
	}
	name := cert.Subject.CommonName
	if name == "" && len(cert.DNSNames) == 1 {
		name = cert.DNSNames[0]
	}
	if isService(name) {
		return Caller{Service: name}, nil
	}
	return Caller{}, errUnauthenticated
}

// certificate is the client certificate, which the TLS handshake has verified; nil: none was shown.
func certificate(ctx context.Context) *x509.Certificate {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := from.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
		return nil
	}
	return info.State.VerifiedChains[0][0]
}

// authorise says whether caller may call the method, "/tenure.people.v1.PeopleService/GetPeople".
func authorise(caller Caller, method string) error {
	service, name, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	if service == healthpb.Health_ServiceDesc.ServiceName {
		return nil // whoever is somebody may ask whether we are well
	}
	allow := allowed(service, name)
	switch {
	case allow == nil:
		return fault.New(fault.Denied, "%s/%s can be called by nobody", service, name)
	case caller.Service != "":
		for _, may := range allow.GetServices() {
			if may == caller.Service {
				return nil
			}
		}
		return fault.New(fault.Denied, "%s may not call %s", caller.Service, name)
	case caller.Operator == "" || allow.GetOperators() == authv1.Role_ROLE_UNSPECIFIED:
		return fault.New(fault.Denied, "%s is not for operators", name)
	case caller.Role < allow.GetOperators():
		return fault.New(fault.Denied, "%s needs the role %s; %s is %s", name, RoleName(allow.GetOperators()), caller.Operator, RoleName(caller.Role))
	}
	return nil
}

// allowed is the method's allow option; nil: it has none, or there is no such method.
func allowed(service, name string) *authv1.Allow {
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service + "." + name))
	if err != nil {
		return nil
	}
	method, ok := found.(protoreflect.MethodDescriptor)
	if !ok || !proto.HasExtension(method.Options(), authv1.E_Allow) {
		return nil
	}
	allow, _ := proto.GetExtension(method.Options(), authv1.E_Allow).(*authv1.Allow)
	return allow
}
