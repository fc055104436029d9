package rpc

import (
	"context"
	"crypto/sha256"
	"slices"
	"strings"

	authv1 "github.com/tenurehq/tenure/proto/gen/tenure/auth/v1"
)

// Caller is who makes a call: exactly one of Operator and Service is set.
type Caller struct {
	Operator string
	Role     authv1.Role // an operator's
	Service  string
}

// Actor names the caller as records and logs do: "operator:ada", "service:policy".
func (c Caller) Actor() string {
	switch {
	case c.Operator != "":
		return "operator:" + c.Operator
	case c.Service != "":
		return "service:" + c.Service
	}
	return ""
}

type callerKey struct{}

// CallerFrom returns the authenticated caller of the call being handled; the zero Caller, who may do nothing,
// outside of one.
func CallerFrom(ctx context.Context) Caller {
	caller, _ := ctx.Value(callerKey{}).(Caller)
	return caller
}

// WithCaller returns a context whose calls are handled in caller's name. Interceptors set it, and tests of handlers.
func WithCaller(ctx context.Context, caller Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, caller)
}

// Operator is a person who may call, and how they prove who they are.
type Operator struct {
	Name        string
	Role        authv1.Role
	TokenSHA256 [sha256.Size]byte // of the bearer token; all zero: no token
	Cert        string            // the client certificate's whole subject, like "CN=ada"; empty: no certificate
}

// Services are the names that services go by: in certificates, in the allow option, and as peers.
func Services() []string { return []string{"audit", doorService, "ingest", "policy", "provision"} }

// doorService is the one service that may speak for an operator.
const doorService = "console"

func isService(name string) bool { return slices.Contains(Services(), name) }

// Role names, as the configuration file and the front door write them.

// RoleName returns "viewer", "operator", "approver" or "admin"; empty for any other role.
func RoleName(role authv1.Role) string {
	name, ok := authv1.Role_name[int32(role)]
	if !ok || role == authv1.Role_ROLE_UNSPECIFIED {
		return ""
	}
	return strings.ToLower(strings.TrimPrefix(name, "ROLE_"))
}

// ParseRole is RoleName's counterpart.
func ParseRole(name string) (authv1.Role, bool) {
	for value := range authv1.Role_name {
		if role := authv1.Role(value); name != "" && RoleName(role) == name {
			return role, true
		}
	}
	return authv1.Role_ROLE_UNSPECIFIED, false
}
