package demo

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tenurehq/tenure/pkg/connector"
)

// store holds everything in memory and every change in the journal. A change is in the journal before it is in memory, and
// nobody sees it before it is in both.
type store struct {
	mu      sync.RWMutex
	journal *journal
	made    string // the identity of this application
	seq     uint64 // of the last entry
	users   map[number]packed
	held    map[number]held
	values  *index              // who is found by name, correlation key and marker
	members map[string][]number // of entitlements, in order
	tokens  map[string]token    // hash of a session's or key's token
}

type token struct {
	user    number
	id      string
	session bool
}

// indexed is what values has of each account.
var indexed = []connector.By{connector.ByName, connector.ByCorrelationKey, connector.ByMarker}

func openStore(file string) (*store, error) {
	s := &store{
		users: map[number]packed{}, held: map[number]held{}, values: newIndex(), members: map[string][]number{}, tokens: map[string]token{},
	}
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
	n := numberOf(e.Account)
	switch e.Op {
	case opMade:
		s.made = e.Account
	case opDelete:
		s.remove(n)
	case opOpenSession, opEndSession, opIssueKey, opExpireKey, opRevokeKey:
		s.hold(n, e)
	default:
		s.alter(n, e)
	}
}

// alter makes or changes an account.
func (s *store) alter(n number, e entry) {
	u, _ := s.user(n)
	switch e.Op {
	case opCreate, opUpdate:
		s.index(n, &u, s.values.drop)
		u.id, u.marker = e.Account, cmp.Or(e.Marker, u.marker)
		for name, text := range e.Attributes {
			u.set(name, text)
		}
		s.index(n, &u, s.values.add)
	case opEnable, opDisable:
		u.enabled = e.Op == opEnable
	case opGrant:
		u.grants = insert(u.grants, e.Entitlement)
		s.members[e.Entitlement] = insert(s.members[e.Entitlement], n)
	case opRevoke:
		u.grants = remove(u.grants, e.Entitlement)
		s.members[e.Entitlement] = remove(s.members[e.Entitlement], n)
	}
	s.users[n] = u.pack()
}

func (s *store) remove(n number) {
	u, _ := s.user(n)
	s.index(n, &u, s.values.drop)
	for _, id := range u.grants {
		s.members[id] = remove(s.members[id], n)
	}
	for _, hash := range u.sessions {
		delete(s.tokens, hash)
	}
	for _, k := range u.keys {
		delete(s.tokens, k.hash)
	}
	delete(s.held, n)
	delete(s.users, n)
}

// hold changes what an account holds.
func (s *store) hold(n number, e entry) {
	h := s.held[n]
	if h.sessions == nil {
		h.sessions, h.keys = map[string]string{}, map[string]key{}
	}
	switch e.Op {
	case opOpenSession:
		h.sessions[e.Credential] = e.Hash
		s.tokens[e.Hash] = token{user: n, id: e.Credential, session: true}
	case opEndSession:
		delete(s.tokens, h.sessions[e.Credential])
		delete(h.sessions, e.Credential)
	case opIssueKey:
		h.keys[e.Credential] = key{hash: e.Hash, created: e.Time}
		s.tokens[e.Hash] = token{user: n, id: e.Credential}
	case opExpireKey:
		k := h.keys[e.Credential]
		k.expires = *e.Expires
		h.keys[e.Credential] = k // it was issued
	case opRevokeKey:
		delete(s.tokens, h.keys[e.Credential].hash)
		delete(h.keys, e.Credential)
	}
	s.held[n] = h
}

// use notes that an account lets somebody in, and is called where mutate decides.
func (s *store) use(id string) {
	n := numberOf(id)
	h := s.held[n]
	h.lastUsed = time.Now().UTC()
	s.held[n] = h
}

// index does, with everything that u is found by, what enters it or takes it out.
func (s *store) index(n number, u *user, do func(value, number)) {
	for _, by := range indexed {
		if text := u.value(by); text != "" {
			do(value{by, text}, n)
		}
	}
}

func insert[T cmp.Ordered](all []T, one T) []T {
	i, found := slices.BinarySearch(all, one)
	if found {
		return all
	}
	return slices.Insert(all, i, one)
}

func remove[T cmp.Ordered](all []T, one T) []T {
	if i, found := slices.BinarySearch(all, one); found {
		return slices.Delete(all, i, i+1)
	}
	return all
}

// user is the account of that number, as it is now: what is changed of it is not kept. The caller holds mu.
func (s *store) user(n number) (user, bool) {
	p, ok := s.users[n]
	if !ok {
		return user{}, false
	}
	u := p.unpack()
	u.held = s.held[n]
	return u, true
}

// find returns who matches, in the order in which they were made.
func (s *store) find(by connector.By, text string) []connector.Account {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var candidates []number
	switch by {
	case connector.ByID:
		candidates = []number{numberOf(text)}
	case connector.ByEntitlement:
		candidates = s.members[text]
	default:
		candidates = s.values.candidates(value{by, text})
	}
	var out []connector.Account
	for _, n := range candidates {
		u, ok := s.user(n)
		if ok && (by == connector.ByID || by == connector.ByEntitlement || u.value(by) == text) {
			out = append(out, u.account())
		}
	}
	return out
}

// holder is the first account with the value. The caller holds mu.
func (s *store) holder(by connector.By, text string) (id string, ok bool) {
	for _, n := range s.values.candidates(value{by, text}) {
		if u, _ := s.user(n); u.value(by) == text {
			return u.id, true
		}
	}
	return "", false
}

func (s *store) all() []connector.Account {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]connector.Account, 0, len(s.users))
	for _, n := range slices.Sorted(maps.Keys(s.users)) {
		u, _ := s.user(n)
		out = append(out, u.account())
	}
	return out
}

// create makes an account, disabled, unless there is one.
func (s *store) create(account connector.NewAccount) (connector.AccountID, connector.Change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id, ok := s.holder(connector.ByMarker, account.Marker); ok {
		return connector.AccountID(id), connector.Unchanged, nil
	}
	if id, ok := s.holder(connector.ByName, account.Attributes[attrLogin]); ok {
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
	id := number(s.seq + 1).id()
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
		case u.attr(name) != value:
			e.Attributes[name] = value
		}
	}
	if login, renames := e.Attributes[attrLogin]; renames {
		if id, ok := s.holder(connector.ByName, login); ok {
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
	u, ok := s.user(numberOf(id))
	if !ok {
		return 0, connector.NoAccount(connector.AccountID(id))
	}
	entries, err := decide(&u)
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
