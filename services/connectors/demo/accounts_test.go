package demo_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/connector/connectortest"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	"github.com/tenurehq/tenure/services/connectors/demo"
)

func TestAttributesAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "journal")
	r := start(t, demo.Config{File: file})
	want := map[string]string{
		"login": "ann", "title": "\x00 and a \n line", "location": "大阪", "manager": strings.Repeat("long", 50), "department": strings.Repeat("longer", 5000),
	}
	id := r.Want(t, "", "m", "C", set(opCreate, want)).GetAccountId()
	is := func(r running) {
		t.Helper()
		got := r.Found(t, connectortest.ByID(id)).GetAccounts()[0].GetAttributes()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("attributes (-written +read):\n%s", diff)
		}
	}
	is(r)
	for _, change := range []map[string]string{{"title": "short", "email": "ann@acme.example"}, {"department": "x", "given_name": "Ann"}} {
		maps.Copy(want, change)
		r.Want(t, id, "m", "C", set(opUpdate, change))
		is(r)
	}
	delete(want, "manager")
	r.Want(t, id, "m", "C", &connectorv1.Step{Op: opUpdate, Clear: []string{"manager"}})
	is(r)
	r.stop()
	is(start(t, demo.Config{File: file}))
}

func TestAllWhoShareACorrelationKeyAreFoundByIt(t *testing.T) {
	t.Parallel()
	r := start(t, demo.Config{})
	const shared = "office@acme.example"
	var ids []string
	for i := range 4 {
		ids = append(ids, r.Want(t, "", fmt.Sprint("m", i), "C", set(opCreate, map[string]string{"login": fmt.Sprint("u", i), "email": shared})).GetAccountId())
	}
	are := func(want ...string) {
		t.Helper()
		var got []string
		for _, account := range r.Found(t, connectortest.ByKey(shared)).GetAccounts() {
			got = append(got, account.GetId())
		}
		if !slices.Equal(got, want) {
			t.Errorf("found %v, want %v", got, want)
		}
	}
	are(ids...)
	r.Want(t, ids[0], "m0", "C", step(opDelete, ""))
	are(ids[1:]...)
	r.Want(t, ids[2], "m2", "C", set(opUpdate, map[string]string{"email": "own@acme.example"}))
	are(ids[1], ids[3])
	r.Want(t, ids[2], "m2", "C", set(opUpdate, map[string]string{"email": shared}))
	are(ids[1:]...)
}

func TestOnlyTheApplicationsOwnIDsFindAccounts(t *testing.T) {
	t.Parallel()
	r := start(t, demo.Config{})
	id := r.Want(t, "", "m", "C", set(opCreate, map[string]string{"login": "ann"})).GetAccountId()
	for _, other := range []string{"u", "u0", strings.TrimPrefix(id, "u"), "u0" + strings.TrimPrefix(id, "u"), "u-2", "v2", "u99999999999999999999"} {
		if got := r.Found(t, connectortest.ByID(other)).GetAccounts(); len(got) != 0 {
			t.Errorf("%q finds %v", other, got)
		}
	}
}
