package demo

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/tenurehq/tenure/pkg/connector"
)

// user is one account.
type user struct {
	id       string
	login    string
	marker   string
	enabled  bool
	attrs    map[string]string // login too
	grants   map[string]bool
	sessions map[string]string // id to hash of the token
	keys     map[string]key
	lastUsed time.Time // of the process's life only: reading must not write
}

type key struct {
	hash    string
	created time.Time
	expires time.Time
}

// store holds everything in memory and every change in the journal. A change is in the journal before it is in memory, and
// nobody sees it before it is in both.
type store struct {
	mu      sync.RWMutex
	journal *journal
	made    string // the identity of this application
	seq     uint64 // of the last entry
	users   map[string]*user
	byKey   map[index][]string // ids of users, in order, by what they are found by
	tokens  map[string]token   // hash of a session's or key's token
}

type index struct {
	by    connector.By
	value string
}

type token struct {
	user, id string
	session  bool
}

func openStore(file string) (*store, error) {
	s := &store{users: map[string]*user{}, byKey: map[index][]string{}, tokens: map[string]token{}}
	journal, err := openJournal(file, s.apply)
	if err != nil {
		return nil, err
	}
	s.journal = journal
	if s.made != "" {
		return s, nil
	}
	if err := s.commit([]entry{{Op: opMade, Account: newToken()[:16]}}); err != nil {
		return nil, err
	}
	return s, nil
}

// Close closes the journal.
func (s *store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.journal.Close()
}

func (s *store) identity() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.made
}

// commit writes entries and then makes them true. The caller holds mu.
func (s *store) commit(entries []entry) error {
	now := time.Now().UTC()
	for i := range entries {
		entries[i].Seq = s.seq + uint64(i) + 1
		entries[i].Time = now
	}
	if err := s.journal.append(entries); err != nil {
		// Some of it may have reached the file: only a new start can tell.
		return connector.Unknown("demo.journal", "write the journal: %v", err)
	}
	for _, e := range entries {
		s.apply(e)
	}
	return nil
}

// apply makes one entry true in memory. It is all that a start does, for each entry of the journal.
func (s *store) apply(e entry) {
	s.seq = e.Seq
	u := s.users[e.Account]
	switch e.Op {
	case opMade:
		s.made = e.Account
	case opCreate:
		u = &user{
			id: e.Account, marker: e.Marker, attrs: maps.Clone(e.Attributes),
			grants: map[string]bool{},
		}
		u.login = u.attrs[attrLogin]
		s.users[u.id] = u
		s.index(u, true)
	case opUpdate:
		s.index(u, false)
		for name, value := range e.Attributes {
			if value == "" {
				delete(u.attrs, name)
			} else {
				u.attrs[name] = value
			}
		}
		u.login = u.attrs[attrLogin]
		u.marker = cmp.Or(e.Marker, u.marker)
		s.index(u, true)
	case opEnable, opDisable:
		u.enabled = e.Op == opEnable
	case opDelete:
		s.index(u, false)
		for id := range u.grants {
			s.point(index{connector.ByEntitlement, id}, u.id, false)
		}
		for _, hash := range u.sessions {
			delete(s.tokens, hash)
		}
		for _, k := range u.keys {
			delete(s.tokens, k.hash)
		}
		delete(s.users, u.id)
	case opGrant:
		u.grants[e.Entitlement] = true
		s.point(index{connector.ByEntitlement, e.Entitlement}, u.id, true)
	case opRevoke:
		delete(u.grants, e.Entitlement)
		s.point(index{connector.ByEntitlement, e.Entitlement}, u.id, false)
	case opOpenSession:
		if u.sessions == nil { // most users never have any: a measurement has many users
			u.sessions = map[string]string{}
		}
		u.sessions[e.Credential] = e.Hash
		s.tokens[e.Hash] = token{user: u.id, id: e.Credential, session: true}
	case opEndSession:
		delete(s.tokens, u.sessions[e.Credential])
		delete(u.sessions, e.Credential)
	case opIssueKey:
		if u.keys == nil {
			u.keys = map[string]key{}
		}
		u.keys[e.Credential] = key{hash: e.Hash, created: e.Time}
		s.tokens[e.Hash] = token{user: u.id, id: e.Credential}
	case opExpireKey:
		k := u.keys[e.Credential]
		k.expires = *e.Expires
		u.keys[e.Credential] = k // it was issued
	case opRevokeKey:
		delete(s.tokens, u.keys[e.Credential].hash)
		delete(u.keys, e.Credential)
	}
}

// index enters u under everything that it is found by, or takes it out.
func (s *store) index(u *user, in bool) {
	s.point(index{connector.ByName, u.login}, u.id, in)
	s.point(index{connector.ByCorrelationKey, correlation(u)}, u.id, in)
	if u.marker != "" {
		s.point(index{connector.ByMarker, u.marker}, u.id, in)
	}
}

func (s *store) point(at index, id string, in bool) {
	ids := s.byKey[at]
	i, found := slices.BinarySearch(ids, id)
	switch {
	case in && !found:
		s.byKey[at] = slices.Insert(ids, i, id)
	case !in && found && len(ids) == 1:
		delete(s.byKey, at)
	case !in && found:
		s.byKey[at] = slices.Delete(ids, i, i+1)
	}
}

func correlation(u *user) string { return cmp.Or(u.attrs[attrEmail], u.login) }

// find returns who matches, by id.
func (s *store) find(by connector.By, value string) []connector.Account {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if by == connector.ByID {
		if u, ok := s.users[value]; ok {
			return []connector.Account{account(u)}
		}
		return nil
	}
	var out []connector.Account
	for _, id := range s.byKey[index{by, value}] {
		out = append(out, account(s.users[id]))
	}
	return out
}

func (s *store) all() []connector.Account {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]connector.Account, 0, len(s.users))
	for _, u := range s.users {
		out = append(out, account(u))
	}
	slices.SortFunc(out, func(a, b connector.Account) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// account is u as Tenure sees it. The caller holds mu.
func account(u *user) connector.Account {
	a := connector.Account{
		ID: connector.AccountID(u.id), Name: u.login, CorrelationKey: correlation(u), Status: connector.Disabled, Marker: u.marker,
		Attributes: maps.Clone(u.attrs), GrantsComplete: true, CredentialsComplete: true,
		LiveSessions: connector.Counted(len(u.sessions)), LastUsed: u.lastUsed,
	}
	if u.enabled {
		a.Status = connector.Enabled
	}
	for _, id := range slices.Sorted(maps.Keys(u.grants)) {
		a.Grants = append(a.Grants, connector.Grant{Entitlement: id})
	}
	for _, id := range slices.Sorted(maps.Keys(u.keys)) {
		k := u.keys[id]
		if k.live(time.Now()) {
			a.Credentials = append(a.Credentials, connector.Credential{ID: id, Kind: connector.KindAPIKey, CreatedAt: k.created, ExpiresAt: k.expires})
		}
	}
	return a
}

func (k key) live(now time.Time) bool { return k.expires.IsZero() || now.Before(k.expires) }

// create makes an account, disabled, unless there is one.
func (s *store) create(account connector.NewAccount) (connector.AccountID, connector.Change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range s.byKey[index{connector.ByMarker, account.Marker}] {
		return connector.AccountID(id), connector.Unchanged, nil
	}
	login := account.Attributes[attrLogin]
	for _, id := range s.byKey[index{connector.ByName, login}] {
		return "", 0, connector.AlreadyExists(connector.AccountID(id), "demo.409", "the login is taken")
	}
	attrs := map[string]string{}
	for name, value := range account.Attributes {
		if !slices.Contains(attributeNames, name) {
			return "", 0, noAttribute(name)
		}
		if value != "" {
			attrs[name] = value
		}
	}
	id := "u" + strconv.FormatUint(s.seq+1, 10)
	if err := s.commit([]entry{{Op: opCreate, Account: id, Marker: account.Marker, Attributes: attrs}}); err != nil {
		return "", 0, err
	}
	return connector.AccountID(id), connector.Changed, nil
}

// update says what must be written for set, clear and marker to hold. The caller holds mu.
func (s *store) update(u *user, marker string, set map[string]string, empty []string) ([]entry, error) {
	e := entry{Op: opUpdate, Account: u.id, Attributes: map[string]string{}}
	want := maps.Clone(set)
	for _, name := range empty {
		want[name] = ""
	}
	for name, value := range want {
		switch {
		case !slices.Contains(attributeNames, name):
			return nil, noAttribute(name)
		case name == attrLogin && value == "":
			return nil, connector.Invalid([]string{attrLogin}, "demo.400", "login is required")
		case u.attrs[name] != value:
			e.Attributes[name] = value
		}
	}
	if login, renames := e.Attributes[attrLogin]; renames {
		for _, id := range s.byKey[index{connector.ByName, login}] {
			return nil, connector.AlreadyExists(connector.AccountID(id), "demo.409", "the login is taken")
		}
	}
	if u.marker == "" {
		e.Marker = marker
	}
	if len(e.Attributes) == 0 && e.Marker == "" {
		return nil, nil
	}
	return []entry{e}, nil
}

func noAttribute(name string) error {
	return connector.Invalid([]string{name}, "demo.400", "accounts have no attribute %q", name)
}

// mutate makes what decide wants so; nothing wanted is Unchanged.
func (s *store) mutate(id string, decide func(*user) ([]entry, error)) (connector.Change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, ok := s.users[id]
	if !ok {
		return 0, connector.NoAccount(connector.AccountID(id))
	}
	entries, err := decide(u)
	switch {
	case err != nil:
		return 0, err
	case len(entries) == 0:
		return connector.Unchanged, nil
	}
	if err := s.commit(entries); err != nil {
		return 0, err
	}
	return connector.Changed, nil
}

// issue is the entry of a new session or key whose token is secret. The caller holds mu.
func (s *store) issue(u *user, op, secret string) entry {
	return entry{Op: op, Account: u.id, Credential: fmt.Sprintf("%c%d", op[0], s.seq+1), Hash: hash(secret)}
}

func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

func newToken() string { return rand.Text() }
