package model_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/services/policy/model"
)

func TestAccountAttributesComeFromThePerson(t *testing.T) {
	t.Parallel()
	m, err := model.NewAccountMapping([]model.Application{
		{Name: "wiki", Account: map[string]string{
			"uid":    "person.user_name",
			"mail":   "person.email",
			"full":   `(person.given_name + " " + person.family_name).trim()`,
			"centre": `person.attributes["cost_center"]`,
		}},
		{Name: "code"},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, failed := m.Evaluate("wiki", &model.Person{UserName: "gfacello", GivenName: "Georgi", FamilyName: "Facello"})
	want := map[string]string{"uid": "gfacello", "full": "Georgi Facello"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("attributes, empty ones left out (-want +got):\n%s", diff)
	}
	if len(failed) != 1 || failed["centre"].Code != "no_such_key" {
		t.Errorf("failed: %v", failed)
	}
	if got, failed := m.Evaluate("code", &model.Person{}); len(got) != 0 || len(failed) != 0 {
		t.Errorf("an application without mapping: %v, %v", got, failed)
	}
}

func TestAWrongAccountMappingNamesItsKeys(t *testing.T) {
	t.Parallel()
	_, err := model.NewAccountMapping([]model.Application{
		{Name: "Wiki"},
		{Name: "code", Account: map[string]string{"uid": "person.username", "n": "1"}},
		{Name: "code"},
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		`applications[0].name: "Wiki" is not the name of an application`,
		"applications[1].account.uid: undefined field 'username'",
		"applications[1].account.n: must give text, not int",
		`applications[2].name: "code" stands here twice`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("problems:\n%v\nwant one with %s", err, want)
		}
	}
}

func TestTheDigestOfAMappingIsOfItsExpressions(t *testing.T) {
	t.Parallel()
	digest := func(apps ...model.Application) [32]byte {
		m, err := model.NewAccountMapping(apps)
		if err != nil {
			t.Fatal(err)
		}
		return m.Digest()
	}
	wiki := model.Application{Name: "wiki", Account: map[string]string{"uid": "person.user_name"}}
	code := model.Application{Name: "code"}
	if digest(wiki, code) != digest(code, wiki) {
		t.Error("the order of applications changes the digest")
	}
	if digest(wiki) == digest(wiki, code) || digest(code) == digest(model.Application{Name: "wiki"}) {
		t.Error("other applications have the same digest")
	}
	if digest(wiki) == digest(model.Application{Name: "wiki", Account: map[string]string{"uid": "person.email"}}) {
		t.Error("another expression has the same digest")
	}
}
