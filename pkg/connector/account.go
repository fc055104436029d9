package connector

import "time"

// AccountID is an account's immutable native id: never a name, an e-mail or a DN, which move.
type AccountID string

// Change is what became of an ensure.
type Change int

// The zero Change is a mistake and counts as unknown.
const (
	Unchanged Change = iota + 1 // it was so already
	Changed                     // it is so now
)

// Status says whether new logins succeed.
type Status int

// The zero Status is unknown, and triggers nothing.
const (
	StatusUnknown Status = iota
	Enabled
	Disabled
)

// Count is a number that may be unknown; the zero Count is.
type Count struct {
	n     int
	known bool
}

// Counted is a known number.
func Counted(n int) Count { return Count{n: n, known: true} }

// Get returns the number, and whether it is known.
func (c Count) Get() (n int, known bool) { return c.n, c.known }

// Account is what a person, or anything else, has in the application. Every zero value means "not known".
type Account struct {
	ID             AccountID
	Name           string
	CorrelationKey string // what Query{By: ByCorrelationKey} finds it by
	Status         Status
	Attributes     map[string]string // native names; values in the form in which Update would take them
	Version        string            // ETag, entryCSN

	Grants         []Grant
	GrantsComplete bool // without it, more grants may exist than are listed

	Credentials         []Credential
	CredentialsComplete bool

	LiveSessions Count
	Marker       string // as written by Create or Update; empty: not Tenure's
	LastUsed     time.Time
}

// Grant is a membership, seen from the account.
type Grant struct {
	Entitlement string
	Inherited   bool // it comes with another grant, and goes with it
	Immutable   bool // it cannot be revoked
}

// Membership is a membership, seen from a listing.
type Membership struct {
	Account     AccountID
	Entitlement string
	Inherited   bool
	Immutable   bool
}

// Entitlement is what can be granted.
type Entitlement struct {
	ID             string
	Type           string
	DisplayName    string
	Assignable     bool
	ExclusionGroup string // an account has at most one of a group
	MinMembers     int
}

// The kinds of credential.
const (
	KindPassword    = "password"
	KindAPIKey      = "api_key"
	KindSSHKey      = "ssh_key"
	KindToken       = "token"
	KindCertificate = "certificate"
)

// Credential is something to log in with; never its material.
type Credential struct {
	ID        string
	Kind      string
	CreatedAt time.Time
	ExpiresAt time.Time
	LastUsed  time.Time
}

// By says how a query finds accounts.
type By int

// The ways to find accounts. All compare exactly.
const (
	ByID             By = iota + 1
	ByName              // what a person would type to log in
	ByCorrelationKey    // Account.CorrelationKey
	ByMarker            // Account.Marker
	ByEntitlement       // members, inherited ones too; Found.Entitlement is set when it exists
)

// Query is what Read is asked for.
type Query struct {
	By          By
	Value       string
	Credentials bool // also list credentials
	Sessions    bool // also count live sessions
}

// Found is what Read answers.
type Found struct {
	Accounts    []Account
	Entitlement *Entitlement // for ByEntitlement; nil: it does not exist
}

// Identity is what Check answers.
type Identity struct {
	Target   string // the same for the same instance of the application, whatever its address
	Product  string // for people, e.g. "PostgreSQL 15.18"
	Problems []*Problem

	Owner   string    // whom the credential belongs to by which the connector calls; empty: not known
	Expires time.Time // when it ends; zero: not known, or never
	Notes   []string  // for people: what is worth knowing and no problem
}

// Description is what a connector can do, besides the operations that its interfaces tell.
type Description struct {
	Type         string // e.g. "postgres"
	Version      string // of the connector
	Attributes   []Attribute
	ConfigSchema string // JSON Schema of the configuration; secrets are writeOnly
	Limits       Limits

	CredentialKinds     []string // that it can revoke or rotate
	DisableCutsSessions bool     // live sessions end with DISABLE
	DeleteCutsSessions  bool     // live sessions end with DELETE
	NativeIdempotent    bool     // the application itself takes the same request twice
}

// Attribute is one attribute of an account, by its native name.
type Attribute struct {
	Name      string
	Type      string // "string", "bool" or "int"
	Required  bool   // Create fails without it
	Writable  bool   // Update may change it
	Unique    bool
	CaseExact bool
	Multi     bool
	Sensitive bool
}

// Limits are the connector's own; zero: none.
type Limits struct {
	MaxConcurrency         int
	MaxPerMinute           int // calls
	MaxSteps               int // in one Apply
	SerializeByEntitlement bool
}
