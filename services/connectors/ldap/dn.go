package ldap

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-ldap/ldap/v3"
)

// parseDN reads a DN of at least one part. Every value must be text: what is none could not be written in a role model.
func parseDN(dn string) (*ldap.DN, error) {
	parsed, err := ldap.ParseDN(dn)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%q is no DN: %w", dn, err)
	case len(parsed.RDNs) == 0:
		return nil, errors.New("the DN is empty")
	}
	for _, rdn := range parsed.RDNs {
		for _, a := range rdn.Attributes {
			if a.Value == "" || !utf8.ValidString(a.Value) {
				return nil, fmt.Errorf("%q is no DN: a value is empty or no text", dn)
			}
		}
	}
	return parsed, nil
}

// writeDN is how a DN is written everywhere outside the directory: names of attributes in lower case, values as they are
// stored, in UTF-8, with no more escapes than needed, the values of one part in order, no blanks between.
func writeDN(dn *ldap.DN) string {
	parts := make([]string, len(dn.RDNs))
	for i, rdn := range dn.RDNs {
		parts[i] = writeRDN(rdn)
	}
	return strings.Join(parts, ",")
}

func writeRDN(rdn *ldap.RelativeDN) string {
	values := make([]string, len(rdn.Attributes))
	for i, a := range rdn.Attributes {
		values[i] = strings.ToLower(a.Type) + "=" + escape(a.Value)
	}
	slices.Sort(values)
	return strings.Join(values, "+")
}

// escape writes a value as part of a DN (RFC 4514, section 2.4).
func escape(value string) string {
	var out strings.Builder
	for i, r := range value {
		last := i+utf8.RuneLen(r) == len(value)
		switch {
		case r == ' ' && (i == 0 || last), r == '#' && i == 0, strings.ContainsRune(`"+,;<>\=`, r):
			out.WriteByte('\\')
			out.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&out, `\%02x`, r)
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}

// spell writes the DN that the server returned as writeDN does; as it is when it cannot be read.
func spell(dn string) string {
	parsed, err := parseDN(dn)
	if err != nil {
		return dn
	}
	return writeDN(parsed)
}

// same is equal for two spellings of one DN, as far as can be told without the server's schema: neither the case nor the
// number of blanks within a value matters.
func same(dn string) string {
	parsed, err := parseDN(dn)
	if err != nil {
		return dn
	}
	for _, rdn := range parsed.RDNs {
		for _, a := range rdn.Attributes {
			a.Value = strings.Map(fold, strings.Join(strings.Fields(a.Value), " "))
		}
	}
	return writeDN(parsed)
}

// fold is equal for all forms of a letter that differ in case only.
func fold(r rune) rune { return unicode.ToLower(unicode.ToUpper(r)) }

// below says whether dn lies under base.
func below(dn, base string) bool {
	upper, err := ldap.ParseDN(same(base))
	if err != nil {
		return false
	}
	lower, err := ldap.ParseDN(same(dn))
	return err == nil && upper.AncestorOfFold(lower)
}

// renamed returns the first part of a DN with other values for the attributes in set that name the entry; false when none
// of them changes it. What else names the entry stays.
func renamed(dn string, set map[string]string) (rdn string, changes bool, err error) {
	parsed, err := parseDN(dn)
	if err != nil {
		return "", false, err
	}
	first := parsed.RDNs[0]
	for _, a := range first.Attributes {
		for name, value := range set {
			if strings.EqualFold(a.Type, name) && a.Value != value {
				a.Value, changes = value, true
			}
		}
	}
	return writeRDN(first), changes, nil
}
