package connector

import (
	"context"
	"time"
)

// Connector is what every connector can do. The operations come from the other interfaces of this package.
type Connector interface {
	// Describe is static: it does not contact the application and always answers the same.
	Describe() Description

	// Check reaches the application, proves the credential and its permissions, and says which instance this is.
	// What is missing goes into Identity.Problems; an error means that not even that could be found out.
	Check(ctx context.Context) (Identity, error)

	// Read returns the accounts that match the query, none when there is none. Several are for the worker to judge:
	// Read never chooses. An error means that nothing may be inferred, so absence must not be one.
	Read(ctx context.Context, q Query) (Found, error)
}

// Lister streams everything in the application.
type Lister interface {
	// List sends every account, entitlement and membership to out, or goes on behind cursor, which is one that
	// it sent as a checkpoint before. Returning nil promises that the listing is complete: whatever was not sent
	// does not exist. An error of out's methods ends the listing and is returned as it is.
	List(ctx context.Context, cursor string, out *Listing) error
}

// Creator makes accounts.
type Creator interface {
	// Create makes an account that carries the marker, disabled where the application can do that: ENABLE follows
	// once everything else is in place. An account that carries the marker already is Unchanged, with its id; one
	// that has the name and not the marker is AlreadyExists, never adopted. An id next to an error is an account
	// that was made, although not wholly.
	Create(ctx context.Context, account NewAccount) (AccountID, Change, error)
}

// Updater changes attributes.
type Updater interface {
	// Update sets the attributes in set, empties those in clear and touches no others. On an account that carries no
	// marker it also writes ref.Marker: so an account that the worker adopted becomes recognisable.
	Update(ctx context.Context, ref Ref, set map[string]string, clear []string) (Change, error)
}

// Enabler lets an account in or keeps it out.
type Enabler interface {
	Enable(ctx context.Context, ref Ref) (Change, error)
	// Disable makes new logins fail. Live sessions may go on unless the description says DisableCutsSessions.
	Disable(ctx context.Context, ref Ref) (Change, error)
}

// Deleter removes accounts.
type Deleter interface {
	// Delete removes the account; one that is absent is Unchanged. What it owns is never removed with it: that is
	// a Precondition.
	Delete(ctx context.Context, ref Ref) (Change, error)
}

// Granter gives and takes entitlements, one member at a time: it never writes a whole list of members, unless
// Limits.SerializeByEntitlement says that the application knows nothing else.
type Granter interface {
	// Grant makes the account a member. It never creates an entitlement: a missing one is NoEntitlement.
	Grant(ctx context.Context, ref Ref, entitlement string) (Change, error)
	Revoke(ctx context.Context, ref Ref, entitlement string) (Change, error)
}

// SessionKiller ends live sessions.
type SessionKiller interface {
	// KillSessions ends the account's sessions and says how many are left; none live before is Unchanged.
	KillSessions(ctx context.Context, ref Ref) (Change, Count, error)
}

// CredentialManager revokes credentials. They are listed by Read.
type CredentialManager interface {
	// RevokeCredential makes credentials useless for ever and says how many are left of what was meant: target is
	// a credential's id, a kind (all of that kind) or empty (all). Absent ones are Unchanged.
	RevokeCredential(ctx context.Context, ref Ref, target string) (Change, Count, error)
}

// CredentialRotator replaces credentials.
type CredentialRotator interface {
	// RotateCredential puts a new credential in place of an old one. It is the one operation that is not an ensure:
	// each call makes a new one.
	RotateCredential(ctx context.Context, ref Ref, rotation Rotation) (Rotated, error)
}

// Poller answers for steps that ended with the error of [Pending].
type Poller interface {
	// Poll says how the step went whose Pending carried token: Pending again, done, or a Problem. The id is that of
	// the account, for a step that creates one.
	Poll(ctx context.Context, ref Ref, token string) (AccountID, Change, error)
}

// SecretHolder says what must never appear in a message.
type SecretHolder interface {
	// Secrets returns the configured secrets of now. Those shorter than four bytes are not looked for.
	Secrets() []string
}

// Ref says which account a step is about.
type Ref struct {
	ID AccountID
	// Marker is what our accounts carry. An account that carries another one is not ours: Denied.
	Marker string
	// IfVersion is what Account.Version was when the plan was made, for the first step that is attempted; empty: any.
	// Where the application can compare, a difference is a Conflict.
	IfVersion string
}

// NewAccount is what Create makes.
type NewAccount struct {
	Marker     string
	Attributes map[string]string
}

// Rotation is what RotateCredential is asked for.
type Rotation struct {
	Target  string        // a kind, or a credential's id
	Secret  string        // the new secret; empty: the application makes one
	Overlap time.Duration // the old one stays valid this long
}

// Rotated is a new credential.
type Rotated struct {
	ID     string
	Secret string // what the application made; it leaves the process only sealed to whom the worker named
}
