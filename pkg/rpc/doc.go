// Package rpc is gRPC whose callers are always authenticated, on loopback and inside one process too.
//
// Operators prove who they are by bearer token or client certificate; services by a client certificate whose common
// name is the service's, or by having dialled the process's own in-memory listener. Who may call a method is written
// at the method, as the option tenure.auth.v1.allow; a method without it can be called by nobody. The front door, the
// service "console", may say which operator it speaks for; nobody else may.
//
// Errors cross as faults: a kind and a text, never what lies below. Trace contexts travel along.
package rpc
