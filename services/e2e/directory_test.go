package e2e

import (
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"github.com/tenurehq/tenure/services/connectors/ldap/ldaptest"
)

// directoryJournal reads what slapd itself wrote down of every change that it made. The passwords that the test gives by its own hand
// have no effect of Tenure's in them, and the entries on which locks are tried are nobody's account.
func (s *storm) directoryJournal(t *testing.T) (journal []effect) {
	t.Helper()
	for _, c := range s.directory.Journal(t) {
		switch name := firstValue(t, c.DN); {
		case strings.HasPrefix(name, "tenure-lock-probe-"):
		case strings.HasSuffix(c.DN, ","+peopleBase):
			journal = append(journal, personEffects(name, c)...)
		case strings.HasSuffix(c.DN, ","+groupsBase) && c.Type == "modify":
			journal = append(journal, groupEffects(t, name, c)...)
		}
	}
	return journal
}

// firstValue is what names the entry with that DN: the uid or the cn.
func firstValue(t *testing.T, dn string) string {
	t.Helper()
	parsed, err := ldap.ParseDN(dn)
	if err != nil || len(parsed.RDNs) == 0 {
		t.Fatalf("the journal has the DN %q: %v", dn, err)
	}
	return parsed.RDNs[0].Attributes[0].Value
}

// personEffects are those of a change of a person's entry. One that takes the lock away and sets it again leaves it as it was.
func personEffects(login string, c ldaptest.Change) []effect {
	switch c.Type {
	case "add":
		return []effect{{login, "create", ""}}
	case "delete":
		return []effect{{login, "delete", ""}}
	}
	locks, unlocks := false, false
	for _, line := range c.Lines {
		switch line {
		case "delete: pwdAccountLockedTime":
			unlocks = true
		case "add: pwdAccountLockedTime", "replace: pwdAccountLockedTime":
			locks = true
		}
	}
	switch {
	case locks && !unlocks:
		return []effect{{login, "disable", ""}}
	case unlocks && !locks:
		return []effect{{login, "enable", ""}}
	}
	return nil
}

// groupEffects are the people that a change brought into a group or took out of it. Nobody is no person.
func groupEffects(t *testing.T, group string, c ldaptest.Change) (effects []effect) {
	t.Helper()
	op := ""
	for _, line := range c.Lines {
		switch member, is := strings.CutPrefix(line, "member: "); {
		case line == "add: member":
			op = "grant"
		case line == "delete: member":
			op = "revoke"
		case is && strings.HasSuffix(member, ","+peopleBase):
			effects = append(effects, effect{firstValue(t, member), op, group})
		}
	}
	return effects
}
