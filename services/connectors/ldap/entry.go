package ldap

import (
	"regexp"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"github.com/tenurehq/tenure/pkg/connector"
)

const (
	isPerson = "(objectClass=inetOrgPerson)"
	isGroup  = "(objectClass=groupOfNames)"
	// markerLine begins the value that Tenure wrote. What people wrote beside it stays.
	markerLine = "managed by Tenure: "
	// lockedForEver is the time of a lock that no time ends and that counts no failures.
	lockedForEver = "000001010000Z"
)

var uuid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// person is an account's entry.
type person struct {
	dn      string // as the server wrote it
	id      connector.AccountID
	csn     string
	locked  bool
	lock    string
	policy  string // its own; empty: the server's default
	markers []string
	values  map[string][]string // of attributes
	marksOf []string            // all values of the marker attribute
}

// personAttributes are what readPerson reads.
func (d *Directory) personAttributes() []string {
	names := []string{attrUUID, attrCSN, attrLocked, attrPolicy, d.cfg.MarkerAttribute}
	for _, a := range attributes {
		names = append(names, a.Name)
	}
	return names
}

func (d *Directory) readPerson(e *ldap.Entry) person {
	p := person{
		dn: e.DN, id: connector.AccountID(e.GetEqualFoldAttributeValue(attrUUID)), csn: e.GetEqualFoldAttributeValue(attrCSN),
		lock: e.GetEqualFoldAttributeValue(attrLocked), policy: e.GetEqualFoldAttributeValue(attrPolicy),
		marksOf: e.GetEqualFoldAttributeValues(d.cfg.MarkerAttribute), values: map[string][]string{},
	}
	// A lock with another time is the server's own, after too many wrong passwords, and may end by itself.
	p.locked = p.lock == lockedForEver
	for _, value := range p.marksOf {
		if marker, ok := strings.CutPrefix(value, markerLine); ok {
			p.markers = append(p.markers, marker)
		}
	}
	slices.Sort(p.markers)
	for _, a := range attributes {
		if values := e.GetEqualFoldAttributeValues(a.Name); len(values) > 0 {
			p.values[a.Name] = slices.Sorted(slices.Values(values))
		}
	}
	return p
}

func (p person) marker() string {
	if len(p.markers) == 0 {
		return ""
	}
	return p.markers[0]
}

func (d *Directory) account(p person, status connector.Status) connector.Account {
	a := connector.Account{ID: p.id, Status: status, Attributes: map[string]string{}, Version: p.csn, Marker: p.marker()}
	for name, values := range p.values {
		a.Attributes[name] = strings.Join(values, "\n") // several are told, and are not what anybody wants to have written
	}
	a.Name = a.Attributes[attrUID]
	a.CorrelationKey = a.Attributes[d.correlate]
	return a
}

// untouchable says why an entry must not be altered on behalf of ref; nil when it may be.
func (d *Directory) untouchable(p person, ref connector.Ref) *connector.Problem {
	if same(p.dn) == same(d.cfg.BindDN) {
		return connector.Denied("ldap.protected", "%s is the connector's own entry", spell(p.dn))
	}
	if slices.ContainsFunc(p.markers, func(m string) bool { return m != ref.Marker }) {
		return connector.Denied("ldap.marker", "%s carries another marker", spell(p.dn))
	}
	return nil
}
