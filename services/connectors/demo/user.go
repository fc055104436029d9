package demo

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tenurehq/tenure/pkg/connector"
)

// user is one account.
type user struct {
	id      string
	marker  string
	enabled bool
	attrs   []attr   // by name, login too
	grants  []string // in order
	held
}

type attr struct{ name, value string }

// held is what lets an account in. Most never have any of it.
type held struct {
	sessions map[string]string // id to hash of the token
	keys     map[string]key
	lastUsed time.Time // of the process's life only: reading must not write
}

type key struct {
	hash    string
	created time.Time
	expires time.Time
}

func (k key) live(now time.Time) bool { return k.expires.IsZero() || now.Before(k.expires) }

// attr is the attribute's value; empty if there is none.
func (u *user) attr(name string) string {
	if i, ok := u.place(name); ok {
		return u.attrs[i].value
	}
	return ""
}

// set sets the attribute; an empty value clears it.
func (u *user) set(name, value string) {
	i, ok := u.place(name)
	switch {
	case value == "" && ok:
		u.attrs = slices.Delete(u.attrs, i, i+1)
	case value == "":
	case ok:
		u.attrs[i].value = value
	default:
		u.attrs = slices.Insert(u.attrs, i, attr{name, value})
	}
}

func (u *user) place(name string) (int, bool) {
	return slices.BinarySearchFunc(u.attrs, name, func(a attr, name string) int { return strings.Compare(a.name, name) })
}

func (u *user) has(entitlement string) bool {
	_, ok := slices.BinarySearch(u.grants, entitlement)
	return ok
}

func (u *user) login() string { return u.attr(attrLogin) }

// value is what u is found by; empty if it is not.
func (u *user) value(by connector.By) string {
	switch by {
	case connector.ByName:
		return u.login()
	case connector.ByCorrelationKey:
		return cmp.Or(u.attr(attrEmail), u.login())
	case connector.ByMarker:
		return u.marker
	default:
		return ""
	}
}

// account is u as Tenure sees it.
func (u *user) account() connector.Account {
	a := connector.Account{
		ID: connector.AccountID(u.id), Name: u.login(), CorrelationKey: u.value(connector.ByCorrelationKey), Status: connector.Disabled, Marker: u.marker,
		Attributes: make(map[string]string, len(u.attrs)), GrantsComplete: true, CredentialsComplete: true,
		LiveSessions: connector.Counted(len(u.sessions)), LastUsed: u.lastUsed,
	}
	if u.enabled {
		a.Status = connector.Enabled
	}
	for _, at := range u.attrs {
		a.Attributes[at.name] = at.value
	}
	for _, id := range u.grants {
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

// packed is a user without what it holds, in one piece of memory that points nowhere: a measurement has hundreds of thousands,
// and the garbage collector of the process that is measured would follow every pointer of theirs, over and over.
type packed string

func (u *user) pack() packed {
	out := make([]byte, 0, 256)
	text := func(s string) { out = append(binary.AppendUvarint(out, uint64(len(s))), s...) }
	status := ""
	if u.enabled {
		status = "enabled"
	}
	text(u.id)
	text(u.marker)
	text(status)
	out = binary.AppendUvarint(out, uint64(len(u.attrs)))
	for _, a := range u.attrs {
		text(a.name)
		text(a.value)
	}
	out = binary.AppendUvarint(out, uint64(len(u.grants)))
	for _, id := range u.grants {
		text(id)
	}
	return packed(out)
}

// unpack is the inverse of pack. The user's texts are parts of p: nothing of them is copied.
func (p packed) unpack() user {
	u := user{id: p.text(), marker: p.text(), enabled: p.text() != ""}
	u.attrs = make([]attr, p.number())
	for i := range u.attrs {
		u.attrs[i] = attr{name: p.text(), value: p.text()}
	}
	u.grants = make([]string, p.number())
	for i := range u.grants {
		u.grants[i] = p.text()
	}
	return u
}

// text takes the text in front.
func (p *packed) text() string {
	length := p.number()
	s := string((*p)[:length])
	*p = (*p)[length:]
	return s
}

// number takes the number in front.
func (p *packed) number() int {
	n, shift := 0, 0
	for {
		b := (*p)[0]
		*p = (*p)[1:]
		n |= int(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
		shift += 7
	}
}
