package scim_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/tenurehq/tenure/pkg/connector/connectortest"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	"github.com/tenurehq/tenure/services/connectors/scim"
	"github.com/tenurehq/tenure/services/connectors/scim/scimtest"
)

const noPatch = `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],"patch":{"supported":false},"filter":{"supported":true,"maxResults":3}}`

// checked is what Check says.
func checked(t *testing.T, client connectortest.Client) *connectorv1.CheckResponse {
	t.Helper()
	got, err := client.Check(t.Context(), &connectorv1.CheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(got.String(), "canary") {
		t.Errorf("it shows the token: %v", got)
	}
	return got
}

func TestWhoPublishesThatThereIsNoPATCHIsSentNone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		quirks scimtest.Quirks
		cfg    scim.Config
	}{
		"nobody said otherwise":    {scimtest.Quirks{Patch: "none", Publishes: noPatch}, scim.Config{}},
		"the operator knew better": {scimtest.Quirks{Patch: "pathless", Publishes: noPatch}, scim.Config{Profile: scim.Profile{Patch: "pathless"}}},
		"the profile knew better": {
			scimtest.Quirks{Patch: "path", Active: "string", RemoveMember: "value", Publishes: noPatch}, scim.Config{Dialect: "entra-strict"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, client := odd(t, c.quirks, c.cfg)
			everything(t, o, client) // before anybody has checked
			if problems, _ := check(t, client); len(problems) > 0 {
				t.Errorf("Check says %v", problems)
			}
		})
	}
}

func TestNonsenseThatIsPublishedChangesNothing(t *testing.T) {
	t.Parallel()
	for _, document := range []string{
		"", "<html>Please log in</html>", "[]", "{}", `{"schemas":5,"patch":7}`, strings.ReplaceAll(noPatch, "false", `"no"`),
		strings.ReplaceAll(noPatch, "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig", "urn:scim:schemas:core:1.0"),
	} {
		o, client := odd(t, scimtest.Quirks{Patch: "path", Publishes: document}, scim.Config{})
		got := checked(t, client)
		if len(got.GetProblems()) > 0 || !strings.HasPrefix(got.GetNotes()[0], "ServiceProviderConfig: ") {
			t.Errorf("%s: Check says %v", document, got)
		}
		everything(t, o, client)
	}
}

func TestWhatWasPublishedHoldsUntilSomethingElseIs(t *testing.T) {
	t.Parallel()
	o, client := odd(t, scimtest.Quirks{Publishes: noPatch}, scim.Config{})
	id := account(t, client, "ann")
	client.Want(t, id, "p:ann", "CC", step(opDisable, ""), step(opEnable, ""))
	if n := o.Published(); n != 1 {
		t.Errorf("what is published was read %d times, want once", n)
	}
	if notes := checked(t, client).GetNotes(); notes[0] != "ServiceProviderConfig: no PATCH: changes are sent as PUT; 3 resources a page" {
		t.Errorf("Check notes %q", notes)
	}
	by := func() string {
		client.Want(t, id, "p:ann", "CC", step(opDisable, ""), step(opEnable, ""))
		sent := o.Requests()
		method, _, _ := strings.Cut(sent[len(sent)-1], " ")
		return method
	}
	for _, c := range []struct{ document, want string }{
		{"<html>", "PUT"}, {"", "PUT"}, {strings.ReplaceAll(noPatch, "false", "true"), "PATCH"}, {noPatch, "PUT"},
	} {
		o.Publish(c.document)
		before := o.Published()
		checked(t, client) // reads it anew
		if got := by(); got != c.want || o.Published() != before+1 {
			t.Errorf("after %q: %s, read %d times", c.document, got, o.Published()-before)
		}
	}
}

// TestNobodyIsLostWhereMembersAreWrittenWhole: without versions, who writes second would undo the first.
func TestNobodyIsLostWhereMembersAreWrittenWhole(t *testing.T) {
	t.Parallel()
	o, client := odd(t, scimtest.Quirks{Patch: "none", Publishes: noPatch}, scim.Config{})
	const people = 20
	var ids [people]string
	for i := range ids {
		ids[i] = account(t, client, fmt.Sprintf("user%d", i))
	}
	var all sync.WaitGroup
	for i, id := range ids {
		all.Go(func() {
			if letters := outcomes(client.Do(t, id, fmt.Sprintf("p:user%d", i), step(opGrant, "group:staff"))); letters != "C" {
				t.Errorf("user%d: %s", i, letters)
			}
		})
	}
	all.Wait()
	if got := o.Members("staff"); len(got) != people {
		t.Errorf("staff has %d members, want %d", len(got), people)
	}
	if l := list(t, client); !l.end.GetComplete() || len(l.accounts) != people || len(l.members) != people { // three a page
		t.Errorf("the listing has %d accounts, %d memberships and %v", len(l.accounts), len(l.members), l.end)
	}
}
