// Package rpc is gRPC whose callers are always authenticated, on loopback and inside one process too.
//
// Operators prove who they are by bearer token or client certificate, services by client certificate or by having
// dialled the process's own in-memory listener. Who may call a method is written at the method, as the option
// tenure.auth.v1.allow; a method without it can be called by nobody. Errors cross as faults: a kind and a text.
package rpc

import (
	"context"
	"crypto/sha256"

	authv1 "github.com/tenurehq/tenure/proto/gen/tenure/auth/v1"
	"github.com/tenurehq/tenure/pkg/config"
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

// WithCaller returns a context whose calls are handled in caller's name. Interceptors set it; tests of handlers do.
func WithCaller(ctx context.Context, caller Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, caller)
}

// Operator is a person who may call, and how they prove it.
type Operator struct {
	Name        string
	Role        authv1.Role
	TokenSHA256 [sha256.Size]byte // of the bearer token; all zero: no token
	Cert        string            // the client certificate's subject, "CN=ada"; empty: no certificate
}

// TLS names the files of one side of a connection.
type TLS struct {
	CertFile, KeyFile string // what we show
	CAFile            string // who signed what the other side shows
}

// PeerConfig says how to reach a server.
type PeerConfig struct {
	Address    string        // host:port or unix:/path
	TLS        TLS           // empty CAFile on loopback or a unix socket: no TLS
	ServerName string        // the name the server's certificate must bear; empty: the address's host
	Token      config.Secret // an operator's bearer token; empty: none
}
