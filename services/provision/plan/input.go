package plan

import (
	"slices"
	"time"
)

// Input is all that a plan depends on.
type Input struct {
	Desired  Desired
	Found    Found
	Record   Record
	Can      Capabilities
	Settings Settings
	Now      time.Time
}

// Desired is what the person should have in the application, as policy decided.
type Desired struct {
	Person        string
	Generation    uint64
	Decision      uint64
	PersonVersion uint64
	State         State
	Entitlements  []string
	Attributes    map[string]string // of the account; empty values are left out
	Release       string            // permission for what decisions up to this one took away; empty: none
	Permission    Permission        // for what no decision ordered
	Run           uint64            // of the person's runs of employment, counted from 1
	Stays         bool              // the person has not left: what is not wanted is not wanted for another reason
}

// Permission is for steps that take away what no decision ordered, such as what others gave.
type Permission struct {
	Release string // empty: there is none
	Steps   []Step // that it is for
}

// Covers says that a step is one of those that the permission is for.
func (p Permission) Covers(s Step) bool {
	return p.Release != "" && slices.ContainsFunc(p.Steps, func(t Step) bool { return t.Op == s.Op && t.Target == s.Target })
}

// State is the access that is wanted or was seen.
type State int

// The states of access; the numbers are those of tenure.event.v1.AccessState.
const (
	StateUnknown State = iota
	None               // nothing is wanted
	Disabled           // an account that cannot be used, its grants kept (leave of absence)
	Enabled
)

// Settings are the operator's words about one application.
type Settings struct {
	Enforce     Enforce
	Adopt       bool          // may take over an existing account found by its correlation key
	DeleteAfter time.Duration // an unwanted account is deleted this long after it was disabled; 0: never
	Renew       bool          // who comes back gets a new account, and never the one of an earlier run of employment
	CreateGrace time.Duration // how long after a CREATE an account may stay invisible before it counts as missing
}

// Enforce is how much of a plan may be carried out. Each level allows all that the levels before it allow.
type Enforce int

// The levels of enforcement.
const (
	Observe Enforce = iota // plans only
	Add                    // creates, updates, enables, grants
	Own                    // also takes away what Tenure gave, and disables accounts it made or adopted
	Full                   // also takes away what others gave to those accounts
)

func (e Enforce) String() string {
	return [...]string{"observe", "add", "own", "full"}[e]
}

// Capabilities are what the application's connector declares.
type Capabilities struct {
	Ops            map[Op]Support
	Attributes     map[string]Attribute // an attribute that is not declared is writable and case-exact
	Name           string               // the attribute that becomes the account's name; empty: unknown
	ExclusionGroup map[string]string    // of entitlements that are known to be in one: at most one of a group per account
}

// Support says how an operation works in the application.
type Support struct {
	CutsSessions    bool     // DISABLE, DELETE: live sessions end with it
	CredentialKinds []string // REVOKE_CREDENTIAL: the kinds there are
}

// Attribute is one attribute of an account.
type Attribute struct {
	ReadOnly  bool // can be given at creation only
	FoldCase  bool // values that differ in case alone are equal
	Sensitive bool // may not be returned by a read
}

// Account is an account as last read.
type Account struct {
	ID                  string
	Name                string
	Marker              string
	Status              Status
	Attributes          map[string]string
	Version             string
	Grants              []Granted
	GrantsComplete      bool // false: Grants may lack some that exist
	Credentials         []Credential
	CredentialsComplete bool
	LiveSessions        int // -1: unknown
}

// Status is whether an account can be used.
type Status int

// The states of an account; the numbers are those of tenure.connector.v1.AccountStatus.
const (
	StatusUnknown Status = iota
	StatusEnabled
	StatusDisabled
)

// Granted is an entitlement that an account has.
type Granted struct {
	Entitlement string
	Inherited   bool // comes with another grant
	Immutable   bool // cannot be revoked
}

// Credential is a way to log in; never the material.
type Credential struct {
	ID   string
	Kind string
}
