package scim

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPathsAreReadAndWrittenBack(t *testing.T) {
	t.Parallel()
	for _, attribute := range usual {
		p, err := parsePath(attribute.Name)
		if err != nil || p.String() != attribute.Name {
			t.Errorf("%s became %s, %v", attribute.Name, p, err)
		}
	}
	if p, err := parsePath(userSchema + ":title"); err != nil || p.String() != "title" {
		t.Errorf("the user's own schema: %s, %v", p, err)
	}
	for _, text := range []string{
		"", "a b", "name.", ".name", "name.a.b", `emails[type eq "work"]`, `emails[type eq work].value`, `emails[type ne "work"].value`, `emails[type eq "a"b"].value`,
		"urn:x", "id", "Active", "externalid", "groups[type eq \"direct\"].value", "password", "schemas", "meta.version", "members[value",
	} {
		if p, err := parsePath(text); err == nil {
			t.Errorf("%q was taken for %+v", text, p)
		}
	}
}

// Each value is set in an empty user and in a full one, and cleared again; nothing else of the user changes.
func TestAValueIsSetAndTheOthersStay(t *testing.T) {
	t.Parallel()
	full := `{"userName":"ann","Name":{"familyName":"Lee"},"emails":[{"type":"home","value":"h"},{"type":"work","value":"w","primary":true}],` +
		`"` + enterpriseSchema + `":{"division":"x"}}`
	for _, attribute := range usual {
		p, err := parsePath(attribute.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, user := range []string{`{}`, full} {
			u := decode([]byte(user))
			p.set(u, "new")
			if got := p.get(u); got != "new" {
				t.Errorf("%s of %s is set and reads %q", p, user, got)
			}
			p.set(u, nil)
			if got := p.get(u); got != "" {
				t.Errorf("%s of %s is cleared and reads %q", p, user, got)
			}
			before := decode([]byte(user))
			for _, other := range usual {
				o, _ := parsePath(other.Name) // as above
				if o.attribute != p.attribute && o.get(before) != o.get(u) {
					t.Errorf("%s was set, and %s became %q", p, o, o.get(u))
				}
			}
		}
	}
}

func TestEachAttributeHasAnOperationOfItsOwn(t *testing.T) {
	t.Parallel()
	const user = `{"title":"x","emails":[{"type":"work","value":"w"},{"type":"home","value":"h","primary":true}]}`
	for _, c := range []struct {
		path  string
		value any
		want  string
	}{
		{"title", "y", `{"op":"replace","path":"title","value":"y"}`},
		{"title", nil, `{"op":"remove","path":"title"}`},
		{"name.givenName", "Ann", `{"op":"replace","path":"name.givenName","value":"Ann"}`},
		{`emails[type eq "work"].value`, "n", `{"op":"replace","path":"emails[type eq \"work\"].value","value":"n"}`},
		{`emails[type eq "other"].value`, "n", `{"op":"add","path":"emails","value":[{"type":"other","value":"n"}]}`},
		{`emails[type eq "work"].value`, nil, `{"op":"remove","path":"emails[type eq \"work\"]"}`},
		{`phoneNumbers[type eq "work"].value`, "1", `{"op":"add","path":"phoneNumbers","value":[{"primary":true,"type":"work","value":"1"}]}`},
		{enterpriseSchema + ":department", "d", `{"op":"replace","path":"` + enterpriseSchema + `:department","value":"d"}`},
	} {
		p, err := parsePath(c.path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := json.Marshal(p.operation(decode([]byte(user)), c.value))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.path, diff)
		}
	}
}

func TestEveryProfileSaysEverything(t *testing.T) {
	t.Parallel()
	for name, p := range profiles {
		got, err := (Config{Dialect: name}).profile()
		if err != nil || !cmp.Equal(got, p) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		again, err := (Config{Dialect: name, Profile: p}).profile() // each value is one that may be written
		if err != nil || !cmp.Equal(again, p) {
			t.Errorf("%s, written out: %+v, %v", name, again, err)
		}
	}
}

// Whatever a server sends, it is read as something or refused.
func FuzzUsers(f *testing.F) {
	f.Add([]byte(`{"id":"1","userName":"a","emails":[{"type":"work"}],"groups":[{"value":"g"}],"meta":{"version":"1"}}`))
	f.Add([]byte(`{"id":1,"emails":{"type":5},"active":"TRUE","name":[1],"meta":"x"}`))
	f.Add([]byte(`[]`))
	a := &Application{paths: map[string]path{}, correlate: simple(attrUserName)}
	for _, attribute := range usual {
		p, err := parsePath(attribute.Name)
		if err != nil {
			f.Fatal(err)
		}
		a.paths[attribute.Name] = p
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		u := decode(body)
		_ = a.account(u)
		_ = members(u)
		for _, p := range a.paths {
			after := resource{}
			if u != nil {
				after = u.copied()
			}
			p.set(after, "new")
			if got := p.get(after); got != "new" {
				t.Errorf("%s is set and reads %q in %s", p, got, body)
			}
		}
	})
}
