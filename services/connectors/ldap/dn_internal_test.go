package ldap

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-ldap/ldap/v3"
)

func TestADNIsWrittenInOneWay(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"cn=staff,ou=groups,dc=acme,dc=example":      "cn=staff,ou=groups,dc=acme,dc=example",
		"CN=Staff , OU=groups;dc=acme,dc=example":    "cn=Staff,ou=groups,dc=acme,dc=example",
		`cn=\C3\9Cber\2C alles,dc=acme`:              `cn=Über\, alles,dc=acme`,
		`uid=7+cn=Ann,dc=acme`:                       "cn=Ann+uid=7,dc=acme",
		`cn=\20a\20,dc=acme`:                         `cn=\ a\ ,dc=acme`,
		`cn=\#1\+2=3\\4\"5\<6\>7\;8,dc=acme`:         `cn=\#1\+2\=3\\4\"5\<6\>7\;8,dc=acme`,
		"cn=two\\0Alines,dc=acme":                    `cn=two\0alines,dc=acme`,
		"cn=" + strings.Repeat("名", 60) + ",dc=acme": "cn=" + strings.Repeat("名", 60) + ",dc=acme",
	} {
		if got := spell(given); got != want {
			t.Errorf("%s is written %s, want %s", given, got, want)
		}
	}
	for _, none := range []string{"", " ", "staff", "cn=", "cn=a,", "=a", `cn=\ff`, `cn=a\`, "cn=#zz"} {
		if _, err := parseDN(none); err == nil {
			t.Errorf("%q counts as a DN", none)
		}
	}
}

func TestSpellingsOfOneDNAreTheSame(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"cn=Staff,dc=acme", "CN=staff, DC=ACME", true},
		{"cn=two  blanks,dc=acme", "cn=Two blanks,dc=acme", true},
		{`cn=\C3\9Cber,dc=acme`, "cn=über,dc=acme", true},
		{"uid=7+cn=a,dc=acme", "CN=A+uid=7,dc=acme", true},
		{"cn=a,dc=acme", "cn=a,ou=x,dc=acme", false},
		{`cn=a\,dc=acme`, "cn=a,dc=acme", false},
		{"cn=a,dc=acme", "uid=a,dc=acme", false},
	} {
		if got := same(c.a) == same(c.b); got != c.same {
			t.Errorf("%s and %s are the same: %v", c.a, c.b, got)
		}
	}
	for dn, is := range map[string]bool{
		"uid=a, OU=People,dc=acme": true, "uid=a,cn=b,ou=people,dc=acme": true, "ou=people,dc=acme": false, `uid=a\,ou=people,dc=acme`: false,
		"uid=a,ou=people2,dc=acme": false, "nonsense": false,
	} {
		if got := below(dn, "ou=people,dc=acme"); got != is {
			t.Errorf("%s lies below: %v", dn, got)
		}
	}
}

// FuzzValue: no value of an attribute becomes another one, or more than one part, on its way through a DN.
func FuzzValue(f *testing.F) {
	for _, seed := range []string{"ann", " a ", "#x", `a,b+c="d";<e>\f`, "\x00", "é\n", "名前", `\2c`, "cn=admin,dc=acme"} {
		f.Add(seed, "x")
	}
	f.Fuzz(func(t *testing.T, value, other string) {
		if value == "" || other == "" || !utf8.ValidString(value) || !utf8.ValidString(other) {
			t.Skip()
		}
		dn := "cn=" + escape(other) + "+uid=" + escape(value) + ",dc=acme"
		parsed, err := parseDN(dn)
		if err != nil {
			t.Fatalf("%q: %v", dn, err)
		}
		if len(parsed.RDNs) != 2 || len(parsed.RDNs[0].Attributes) != 2 {
			t.Fatalf("%q has become %d parts", value, len(parsed.RDNs))
		}
		for _, a := range parsed.RDNs[0].Attributes {
			if want := map[string]string{"cn": other, "uid": value}[a.Type]; a.Value != want {
				t.Fatalf("%s %q was read back as %q", a.Type, want, a.Value)
			}
		}
		if spell(spell(dn)) != spell(dn) || same(same(dn)) != same(dn) || same(spell(dn)) != same(dn) {
			t.Fatalf("%q is written in more than one way", dn)
		}
		if !below(dn, "DC=Acme") || below("dc=acme", dn) {
			t.Fatalf("%q does not lie where it should", dn)
		}
	})
}

// FuzzDN: what anybody writes as a DN is refused or written in one way, which the library reads alike.
func FuzzDN(f *testing.F) {
	for _, seed := range []string{"cn=a,dc=b", "CN = a + uid=b ; dc=c", `cn=\23\20`, "cn=#04024869", "cn=a=b", "cn=,", `\`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, dn string) {
		parsed, err := parseDN(dn)
		if err != nil {
			return
		}
		again, err := ldap.ParseDN(spell(dn))
		if err != nil || !parsed.EqualFold(again) {
			t.Fatalf("%q is written %q: %v", dn, spell(dn), err)
		}
		if spell(spell(dn)) != spell(dn) || same(spell(dn)) != same(dn) {
			t.Fatalf("%q is written in more than one way", dn)
		}
	})
}

func TestAFilterIsOneTestOfOneValue(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"*", ")(uid=*", `\`, "\x00", "a*b", "é", " a "} {
		compiled, err := ldap.CompileFilter(equals("uid", value))
		if err != nil {
			t.Fatalf("%q: %v", value, err)
		}
		if compiled.Tag != ldap.FilterEqualityMatch || compiled.Children[1].Value != value {
			t.Errorf("%q has become %v", value, compiled.Children)
		}
	}
}
