package ldap

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/tenurehq/tenure/pkg/connector"
)

// said is what the server answered; false when it did not, and the connection failed.
func said(err error) (*ldap.Error, bool) {
	var e *ldap.Error
	if !errors.As(err, &e) || e.ResultCode >= ldap.ErrorNetwork {
		return nil, false // codes from 200 on are the library's own
	}
	return e, true
}

// is says whether the server answered with one of these codes.
func is(err error, codes ...uint16) bool {
	_, ok := said(err)
	return ok && ldap.IsErrorAnyOf(err, codes...)
}

// notDone explains an error of what changes nothing, or was certainly not sent.
func notDone(err error) error {
	if p := (*connector.Problem)(nil); errors.As(err, &p) {
		return p
	}
	if e, ok := said(err); ok {
		if p := fromServer(e); p != nil {
			return p
		}
		return connector.Unavailable(reason(e), "%v; nothing was done", e.Err)
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		p := connector.Unavailable("ldap.timeout", "the server did not answer in time; nothing was done")
		p.Scope = 0 // one slow answer is not the whole server
		return p
	}
	return connector.Unavailable("ldap.connection", "%v; nothing was done", err)
}

// maybeDone explains an error of what was sent to change something.
func maybeDone(err error) error {
	if p := (*connector.Problem)(nil); errors.As(err, &p) {
		return p
	}
	if e, ok := said(err); ok {
		if p := fromServer(e); p != nil {
			return p
		}
		return connector.Unknown(reason(e), "%v", e.Err)
	}
	return connector.Unknown("ldap.connection", "%v", err)
}

func reason(e *ldap.Error) string { return fmt.Sprintf("ldap.%d", e.ResultCode) }

// fromServer classifies a result by its code (RFC 4511, appendix A); nil for those that do not say whether anything was done.
func fromServer(e *ldap.Error) *connector.Problem {
	text := ldap.LDAPResultCodeMap[e.ResultCode]
	if detail := e.Err.Error(); detail != "" {
		text += ": " + detail
	}
	switch e.ResultCode {
	case ldap.LDAPResultBusy, ldap.LDAPResultUnavailable, ldap.LDAPResultTimeLimitExceeded:
		return connector.Unavailable(reason(e), "%s", text)
	case ldap.LDAPResultAdminLimitExceeded:
		return connector.RateLimited(time.Second, reason(e), "%s", text)
	case ldap.LDAPResultAssertionFailed:
		return connector.Conflict(reason(e), "the entry was changed or replaced at this moment")
	case ldap.LDAPResultEntryAlreadyExists:
		return connector.AlreadyExists("", reason(e), "%s", text)
	case ldap.LDAPResultNoSuchObject:
		return connector.NotFound(reason(e), "%s", text)
	case ldap.LDAPResultInsufficientAccessRights:
		return connector.Denied(reason(e), "%s", text)
	case ldap.LDAPResultInvalidCredentials, ldap.LDAPResultInappropriateAuthentication:
		return connector.Auth(reason(e), "%s", text)
	case ldap.LDAPResultAuthMethodNotSupported, ldap.LDAPResultStrongAuthRequired, ldap.LDAPResultConfidentialityRequired,
		ldap.LDAPResultReferral, ldap.LDAPResultUnavailableCriticalExtension:
		// The last but one is a replica: name the server that takes changes.
		return connector.Precondition(reason(e), "%s", text).Instance()
	case ldap.LDAPResultUndefinedAttributeType, ldap.LDAPResultInappropriateMatching, ldap.LDAPResultConstraintViolation,
		ldap.LDAPResultInvalidAttributeSyntax, ldap.LDAPResultInvalidDNSyntax, ldap.LDAPResultProtocolError, ldap.LDAPResultNamingViolation:
		return connector.Invalid(nil, reason(e), "%s", text)
	case ldap.LDAPResultOperationsError, ldap.LDAPResultOther:
		return nil
	}
	return connector.Precondition(reason(e), "%s", text)
}
