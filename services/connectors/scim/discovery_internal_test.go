package scim

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

func TestWhatIsPublishedIsRead(t *testing.T) {
	t.Parallel()
	const schemas = `"schemas":["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"]`
	for document, want := range map[string]struct {
		published
		is bool
	}{
		`{` + schemas + `}`: {is: true},
		`{` + schemas + `,"patch":{"supported":false},"filter":{"supported":false,"maxResults":0}}`:               {published{noPatch: true, noFilter: true}, true},
		`{` + schemas + `,"patch":{"supported":true},"filter":{"supported":true,"maxResults":50}}`:                {published{most: 50}, true},
		`{` + schemas + `,"pagination":{"cursor":true,"index":false,"maxPageSize":20}}`:                           {published{onlyCursor: true, most: 20}, true},
		`{` + schemas + `,"pagination":{"cursor":true,"index":true},"filter":{"maxResults":10}}`:                  {published{most: 10}, true},
		`{` + schemas + `,"pagination":{"maxPageSize":200},"filter":{"maxResults":10}}`:                           {published{most: 10}, true},
		`{"Schemas":["URN:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],"Patch":{"Supported":false}}`: {published{noPatch: true}, true},
		// Other types than the RFC has say nothing.
		`{` + schemas + `,"patch":{"supported":"false"},"filter":{"supported":0,"maxResults":"50"}}`: {is: true},
		`{` + schemas + `,"patch":false,"filter":[],"pagination":"cursor"}`:                          {is: true},
		`{` + schemas + `,"patch":{},"filter":{"maxResults":-1}}`:                                    {is: true},
		`{` + schemas + `,"filter":{"maxResults":1.5},"pagination":{"maxPageSize":1e99}}`:            {is: true},
		// What is none says nothing at all.
		`{"schemas":["urn:scim:schemas:core:1.0"],"patch":{"supported":false}}`:   {},
		`{"schemas":"` + serviceProviderSchema + `","patch":{"supported":false}}`: {},
		`{"patch":{"supported":false}}`:                                           {},
		`{}`:                                                                      {},
		`[]`:                                                                      {},
		`<html>`:                                                                  {},
		``:                                                                        {},
	} {
		if got, is := publishedBy(decode([]byte(document))); got != want.published || is != want.is {
			t.Errorf("%s is read as %+v, %v", document, got, is)
		}
	}
}

func TestWhatIsPublishedFillsOnlyWhatNobodySaid(t *testing.T) {
	t.Parallel()
	all := published{noPatch: true, noFilter: true, onlyCursor: true, most: 20}
	type said struct {
		patch, paging string
		size          int
	}
	for _, c := range []struct {
		name string
		cfg  Config
		by   published
		want said
	}{
		{"nothing is published", Config{}, published{}, said{patchPath, pagesByIndex, 100}},
		{"nothing was said", Config{}, all, said{patchNone, pagesByCursor, 20}},
		{"one key was said", Config{Profile: Profile{Patch: patchPathless}}, all, said{patchPathless, pagesByCursor, 20}},
		{"two keys were said", Config{Profile: Profile{Paging: pagesByIndex, PageSize: 50}}, all, said{patchNone, pagesByIndex, 50}},
		{"pages may be longer", Config{}, published{most: 1000}, said{patchPath, pagesByIndex, 100}},
	} {
		base, err := c.cfg.profile()
		if err != nil {
			t.Fatal(err)
		}
		got, _ := c.cfg.filled(base, c.by)
		if (said{got.Patch, got.Paging, got.PageSize}) != c.want {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	for name := range profiles {
		if asks := (Config{Dialect: name}).asks(); asks != (name == generic) {
			t.Errorf("the profile %s is asked for: %v", name, asks)
		}
	}
}

// TestWhatIsPublishedIsReadAnew: after an hour, or after a minute when there was no answer.
func TestWhatIsPublishedIsReadAnew(t *testing.T) {
	t.Parallel()
	var asked, status atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(int(status.Load()))
		_, _ = w.Write([]byte(`{}`))
	}))
	t.Cleanup(server.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("token"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := Open(Config{URL: server.URL, TokenFile: token})
	if err != nil {
		t.Fatal(err)
	}
	for answer, again := range map[int]time.Duration{
		http.StatusOK: rereadEvery, http.StatusNotFound: rereadEvery, http.StatusForbidden: rereadEvery, http.StatusNotImplemented: rereadEvery,
		http.StatusTooManyRequests: rereadAfter, http.StatusBadGateway: rereadAfter,
	} {
		status.Store(int64(answer))
		asked.Store(0)
		a.discovered.due = time.Now()
		for range 3 {
			a.speaks(t.Context())
		}
		if n, in := asked.Load(), time.Until(a.discovered.due).Round(time.Minute); n != 1 || in != again {
			t.Errorf("%d: asked %d times, and again in %s; want once and %s", answer, n, in, again)
		}
	}
	server.Close()
	a.discovered.due = time.Now()
	a.speaks(t.Context())
	if in := time.Until(a.discovered.due).Round(time.Minute); in != rereadAfter {
		t.Errorf("without an answer: again in %s", in)
	}
}
