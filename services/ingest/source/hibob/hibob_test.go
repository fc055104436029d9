package hibob_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/services/ingest/source"
	"github.com/tenurehq/tenure/services/ingest/source/hibob"
	"github.com/tenurehq/tenure/services/ingest/source/vendorapi"
	"github.com/tenurehq/tenure/services/ingest/source/vendortest"
)

var now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// acme is the company's HiBob, with the API at url and these secrets.
func acme(tb testing.TB, url string, keys ...string) *hibob.Source {
	tb.Helper()
	parsed, err := vendorapi.ParseKeys([]byte(strings.Join(keys, "\n")))
	if err != nil {
		tb.Fatal(err)
	}
	s, err := hibob.New(hibob.Config{
		Keys: parsed, API: vendorapi.Config{URL: url, User: "SERVICE-1", Password: config.NewSecret([]byte("token"))},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func signer(tb testing.TB, keys ...string) *hibob.Source {
	tb.Helper()
	return acme(tb, "https://api.hibob.com/v1", keys...)
}

func TestTheVectorsVerify(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Secret, Body string
		Headers      map[string]string
	}
	if err := json.Unmarshal(text, &vectors); err != nil || len(vectors) == 0 {
		t.Fatalf("%d vectors: %v", len(vectors), err)
	}
	for _, v := range vectors {
		s, h := signer(t, v.Secret), http.Header{}
		for name, value := range v.Headers {
			h.Set(name, value)
		}
		m, err := s.Verify(h, []byte(v.Body), now)
		if err != nil || m.ID != source.ContentID([]byte(v.Body)) || !m.Time.Equal(now) {
			t.Errorf("verified as %+v: %v", m, err)
		}
		if got := s.Sign(now, []byte(v.Body)).Get("Bob-Signature"); got != v.Headers["Bob-Signature"] {
			t.Errorf("signing gives %s, want the vector's", got)
		}
		if n := s.Changed([]byte(v.Body)); n.Held != "" || !cmp.Equal(n.Employees, []string{"3332883894235038325"}) {
			t.Errorf("the vector names %+v", n)
		}
		for what, body := range map[string]string{"a blank more": v.Body + " ", "another id": strings.Replace(v.Body, "325", "326", 1)} {
			if _, err := s.Verify(h, []byte(body), now); source.Reason(err) != "signature" {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

func TestEveryKeyOfTheFileIsTried(t *testing.T) {
	t.Parallel()
	s := signer(t, "the-newer-key", "the-older-key")
	for key, taken := range map[string]bool{"the-newer-key": true, "the-older-key": true, "another-key": false} {
		_, err := s.Verify(signer(t, key).Sign(now, []byte("{}")), []byte("{}"), now)
		if (err == nil) != taken || err != nil && !errors.Is(err, source.ErrRefused) {
			t.Errorf("signed with %s: %v, want taken: %t", key, err, taken)
		}
	}
}

func TestOnlyAPingMayComeUnsigned(t *testing.T) {
	t.Parallel()
	s, other := signer(t, "the-secret"), signer(t, "another-one")
	for _, c := range []struct {
		body   string
		header http.Header
		want   error
	}{
		{"Ping test", nil, source.ErrPing},
		{`"Ping test"`, nil, source.ErrPing},
		{`{"text":"Ping test"}`, nil, source.ErrPing},
		{"Ping test", s.Sign(now, []byte("Ping test")), source.ErrPing},
		{"Ping test", other.Sign(now, []byte("Ping test")), source.BadSignature}, // a secret that is wrong shows at once
		{"Ping test", http.Header{"Bob-Signature": {""}}, source.BadHeaders},
		{`{"text":"Ping test","data":{"employeeId":"1"}}`, nil, source.BadHeaders},
		{"{}", nil, source.BadHeaders},
	} {
		if _, err := s.Verify(c.header, []byte(c.body), now); !errors.Is(err, c.want) || source.Reason(err) != source.Reason(c.want) {
			t.Errorf("%s with %v: %v, want %v", c.body, c.header, err, c.want)
		}
	}
}

func TestWhoseRecordChanged(t *testing.T) {
	t.Parallel()
	s := signer(t, "the-secret")
	for _, c := range []struct {
		what, body string
		want       source.Notice
	}{
		{"version 2", string(vendortest.BobEvent("employee.updated", "3332883894235038325", now)), source.Notice{Employees: []string{"3332883894235038325"}}},
		{"version 1", `{"type":"employee.left","employee":{"id":"12","email":"a@b"}}`, source.Notice{Employees: []string{"12"}}},
		{"a number keeps its digits", `{"data":{"employeeId":3332883894235038325}}`, source.Notice{Employees: []string{"3332883894235038325"}}},
		{"an e-mail address", `{"data":{"employeeId":"ceo@acme.example"}}`, source.Notice{Held: "data.employeeId: not the number of an employee"}},
		{"nobody", `{"type":"tasks.created","data":{}}`, source.Notice{Held: "neither data.employeeId nor employee.id"}},
		{"no JSON", "employee", source.Notice{Held: "not the JSON of a HiBob webhook"}},
	} {
		if diff := cmp.Diff(c.want, s.Changed([]byte(c.body))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
	}
}

func TestEmployeesAreReadInOneRequestEvenWhenTheyHaveLeft(t *testing.T) {
	t.Parallel()
	server := vendortest.NewHiBob("SERVICE-1", "token")
	defer server.Close()
	left := vendortest.BobEmployee("Ada", "Lovelace")
	left["internal.status"], left["internal.lifecycleStatus"] = "Inactive", "terminated"
	server.Set("1", left)
	server.Set("3", vendortest.BobEmployee("Ann", "Archer"))
	got := acme(t, server.URL+"/v1", "the-secret").Read(t.Context(), now, []string{"1", "2", "3"})
	if server.Requests() != 1 || got[0].Err != nil || got[2].Err != nil || !errors.Is(got[1].Err, vendorapi.ErrAbsent) {
		t.Errorf("%d requests gave %+v", server.Requests(), got)
	}
	if !strings.Contains(string(got[0].Data), `"lifecycleStatus":"terminated"`) {
		t.Errorf("who left reads %s", got[0].Data)
	}
}

// One form comes of both in which HiBob answers.
func TestFlatAndNestedAnswersReadTheSame(t *testing.T) {
	t.Parallel()
	want := map[string]any{
		"id": "7", "firstName": "Ada", "work": map[string]any{"site": "Berlin", "reportsTo": map[string]any{"id": "9"}},
		"internal":      map[string]any{"terminationDate": nil},
		"humanReadable": map[string]any{"work": map[string]any{"department": "Engineering"}},
	}
	for what, answer := range map[string]string{
		"nested": `{"id":"7","firstName":"Ada","work":{"site":"Berlin","reportsTo":{"id":"9"}},"internal":{"terminationDate":null},
			"humanReadable":{"work":{"department":"Engineering"}}}`,
		"flat": `{"/root/id":{"value":"7"},"/root/firstName":{"value":"Ada"},"/work/site":{"value":"Berlin"},"/work/reportsTo":{"value":{"id":"9"}},
			"/internal/terminationDate":{"value":null},"humanReadable":{"/work/department":{"value":"Engineering"}}}`,
		"bare": `{"/root/id":"7","/root/firstName":"Ada","/work/site":"Berlin","/work/reportsTo/id":"9","/internal/terminationDate":null,
			"humanReadable":{"/work/department":"Engineering"}}`,
		"both": `{"id":"7","/root/id":{"value":"7"},"firstName":"Ada","/root/firstName":{"value":"Ada"},"work":{"site":"Berlin"},
			"/work/reportsTo":{"value":{"id":"9"}},"/work/reportsTo/id":{"value":"9"},"internal":{},"/internal/terminationDate":{"value":null},
			"humanReadable":{"/work/department":{"value":"Engineering"}}}`,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"employees":[` + answer + `]}`))
		}))
		got := acme(t, server.URL, "the-secret").Read(t.Context(), now, []string{"7"})
		server.Close()
		var data map[string]any
		if err := json.Unmarshal(got[0].Data, &data); err != nil {
			t.Errorf("%s: %v, %v", what, err, got[0].Err)
		}
		if diff := cmp.Diff(want, data); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
}

// A search that is not there, or an answer that is none, says nothing about anybody.
func TestWhatIsNoAnswerIsNotAbsence(t *testing.T) {
	t.Parallel()
	for what, answer := range map[string]http.HandlerFunc{
		"404":        func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
		"a redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"no list":    func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{}`)) },
		"a page":     func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`<html>`)) },
		"an employee twice": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"employees":[{"id":"7"},{"id":"7"}]}`))
		},
		"one without an id": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"employees":[{}]}`)) },
		"a key twice": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"employees":[{"id":"7","id":"8"}]}`))
		},
		"more than is read": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, vendorapi.MaxAnswer+1)) },
		"half of what it says": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "99")
			_, _ = w.Write([]byte(`{`))
		},
	} {
		server := httptest.NewServer(answer)
		got := acme(t, server.URL, "the-secret").Read(t.Context(), now, []string{"7"})
		server.Close()
		var failed *vendorapi.Error
		if !errors.As(got[0].Err, &failed) {
			t.Errorf("%s: %+v", what, got[0])
		}
	}
}

func TestOneBadIDKeepsNobodyElseFromBeingRead(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body strings.Builder
		_ = r.Write(&body)
		if strings.Contains(body.String(), `"13"`) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_, _ = w.Write([]byte(`{"employees":[{"id":"7"}]}`))
	}))
	defer server.Close()
	got := acme(t, server.URL, "the-secret").Read(t.Context(), now, []string{"13", "7"})
	if got[0].Err == nil || got[1].Err != nil {
		t.Errorf("read %+v", got)
	}
}

// Without the secret nothing passes, and no body makes trouble.
func FuzzForgedIsNeverTaken(f *testing.F) {
	s := signer(f, "the-secret", "an-older-one")
	body := vendortest.BobEvent("employee.left", "1", now)
	signature := s.Sign(now, body).Get("Bob-Signature")
	f.Add(signature, body)
	f.Add("", []byte("Ping test"))
	f.Add(strings.TrimSuffix(signature, "=="), body)
	f.Fuzz(func(t *testing.T, atSignature string, atBody []byte) {
		_, err := s.Verify(http.Header{"Bob-Signature": {atSignature}}, atBody, now)
		if err == nil && (string(atBody) != string(body) || atSignature != signature) {
			t.Fatalf("taken: %q %q", atSignature, atBody)
		}
		notice := s.Changed(atBody)
		if (notice.Held == "") != (len(notice.Employees) > 0) {
			t.Fatalf("%q names %v and is held for %q", atBody, notice.Employees, notice.Held)
		}
		for _, id := range notice.Employees {
			if !source.EmployeeID(id) {
				t.Fatalf("%q names %q", atBody, id)
			}
		}
	})
}
