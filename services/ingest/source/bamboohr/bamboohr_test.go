package bamboohr_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/services/ingest/source"
	"github.com/tenurehq/tenure/services/ingest/source/bamboohr"
	"github.com/tenurehq/tenure/services/ingest/source/vendorapi"
	"github.com/tenurehq/tenure/services/ingest/source/vendortest"
)

var now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

const apiKey = "api-key-of-acme"

// acme is the company's BambooHR, with the API at url and these private keys.
func acme(tb testing.TB, url string, keys ...string) *bamboohr.Source {
	tb.Helper()
	parsed, err := vendorapi.ParseKeys([]byte(strings.Join(keys, "\n")))
	if err != nil {
		tb.Fatal(err)
	}
	s, err := bamboohr.New(bamboohr.Config{
		Keys: parsed, API: vendorapi.Config{URL: url, Password: config.NewSecret([]byte(apiKey))},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func signer(tb testing.TB, keys ...string) *bamboohr.Source {
	tb.Helper()
	return acme(tb, "https://acme.bamboohr.com/api/v1", keys...)
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
		seconds, err := strconv.ParseInt(v.Headers["X-BambooHR-Timestamp"], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		at := time.Unix(seconds, 0)
		m, err := s.Verify(h, []byte(v.Body), at)
		if err != nil || !m.Time.Equal(at) || m.ID != source.ContentID([]byte(v.Body)) {
			t.Errorf("verified as %+v: %v", m, err)
		}
		if got := s.Sign(at, []byte(v.Body)).Get("X-BambooHR-Signature"); got != v.Headers["X-BambooHR-Signature"] {
			t.Errorf("signing gives %s, want the vector's", got)
		}
		if n := s.Changed([]byte(v.Body)); n.Held != "" || !cmp.Equal(n.Employees, []string{"123"}) {
			t.Errorf("the vector names %+v, want 123", n)
		}
		for what, body := range map[string]string{"a blank more": v.Body + " ", "another id": strings.Replace(v.Body, "123", "124", 1)} {
			if _, err := s.Verify(h, []byte(body), at); source.Reason(err) != "signature" {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

func TestATimestampMayBeFiveMinutesOff(t *testing.T) {
	t.Parallel()
	s := signer(t, "private-key")
	for _, c := range []struct {
		seconds int
		taken   bool
	}{{0, true}, {-299, true}, {299, true}, {-300, true}, {300, true}, {-301, false}, {301, false}, {-86400, false}} {
		h := s.Sign(now.Add(time.Duration(c.seconds)*time.Second), []byte("{}"))
		if _, err := s.Verify(h, []byte("{}"), now); (err == nil) != c.taken || err != nil && source.Reason(err) != "timestamp" {
			t.Errorf("%d s off: %v (%s), want taken: %t", c.seconds, err, source.Reason(err), c.taken)
		}
	}
}

func TestEveryKeyOfTheFileIsTried(t *testing.T) {
	t.Parallel()
	s := signer(t, "the-newer-key", "", "the-older-key")
	for key, taken := range map[string]bool{"the-newer-key": true, "the-older-key": true, "another-key": false} {
		_, err := s.Verify(signer(t, key).Sign(now, []byte("{}")), []byte("{}"), now)
		if (err == nil) != taken || err != nil && !errors.Is(err, source.ErrRefused) {
			t.Errorf("signed with %s: %v, want taken: %t", key, err, taken)
		}
	}
}

func TestHeadersThatTwoReadersCouldReadInTwoWaysAreRefused(t *testing.T) {
	t.Parallel()
	s := signer(t, "private-key")
	const stamp, signature = "X-BambooHR-Timestamp", "X-BambooHR-Signature"
	for what, change := range map[string]func(http.Header){
		"no timestamp":     func(h http.Header) { h.Del(stamp) },
		"no signature":     func(h http.Header) { h.Del(signature) },
		"two timestamps":   func(h http.Header) { h.Add(stamp, "1") },
		"two signatures":   func(h http.Header) { h.Add(signature, h.Get(signature)) },
		"a leading zero":   func(h http.Header) { h.Set(stamp, "0"+h.Get(stamp)) },
		"a date":           func(h http.Header) { h.Set(stamp, now.Format(time.RFC3339)) },
		"half a signature": func(h http.Header) { h.Set(signature, h.Get(signature)[:32]) },
		"base64":           func(h http.Header) { h.Set(signature, "N2249t/+2VmVcYtx9j6lv6f+WZvxxd+e2EMuTPTufzw=") },
	} {
		h := s.Sign(now, []byte("{}"))
		change(h)
		if _, err := s.Verify(h, []byte("{}"), now); source.Reason(err) != "headers" {
			t.Errorf("%s: %v (%s)", what, err, source.Reason(err))
		}
	}
}

func TestARepeatedAttemptIsTheSameMessage(t *testing.T) {
	t.Parallel()
	s, body := signer(t, "private-key"), []byte(`{"data":{"employeeId":"1"}}`)
	first, err := s.Verify(s.Sign(now, body), body, now)
	if err != nil {
		t.Fatal(err)
	}
	later := now.Add(155 * time.Minute)
	second, err := s.Verify(s.Sign(later, body), body, later)
	if err != nil || first.ID != second.ID {
		t.Errorf("the last attempt is %+v (%v), the first was %+v", second, err, first)
	}
}

func TestWhoseRecordChanged(t *testing.T) {
	t.Parallel()
	s := signer(t, "private-key")
	for _, c := range []struct {
		what, body string
		want       source.Notice
	}{
		{"event-based", string(vendortest.BambooEvent("employee.updated", "67890", now, "firstName")), source.Notice{Employees: []string{"67890"}}},
		{"field-based", string(vendortest.BambooFields(now, nil, "1", "2", "1")), source.Notice{Employees: []string{"1", "2"}}},
		{"a number", `{"data":{"employeeId":67890}}`, source.Notice{Employees: []string{"67890"}}},
		{"the API key's own employee", `{"data":{"employeeId":"0"}}`, source.Notice{Held: "data.employeeId: not the number of an employee"}},
		{"another address", `{"employees":[{"id":"1"},{"id":"../meta/users"}]}`, source.Notice{Held: "employees: not the number of an employee"}},
		{"no id", `{"employees":[{}]}`, source.Notice{Held: "employees: not the number of an employee"}},
		{"nobody", `{"employees":[]}`, source.Notice{Held: "neither data.employeeId nor employees"}},
		{"a form", "employees[1][First+name]=John", source.Notice{Held: "not the JSON of a BambooHR webhook; is the format of the webhook JSON?"}},
		{"a key twice", `{"data":{"employeeId":"1","employeeId":"2"}}`, source.Notice{Held: "not the JSON of a BambooHR webhook; is the format of the webhook JSON?"}},
	} {
		if diff := cmp.Diff(c.want, s.Changed([]byte(c.body))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
	}
}

func TestEmployeesAreReadOneByOne(t *testing.T) {
	t.Parallel()
	server := vendortest.NewBambooHR(apiKey)
	defer server.Close()
	server.Set("1", vendortest.BambooEmployee("Ada", "Lovelace"))
	server.Set("3", vendortest.BambooEmployee("Ann", "Archer"))
	s := acme(t, server.URL+"/api/v1", "private-key")
	got := s.Read(t.Context(), now, []string{"1", "2", "3"})
	if len(got) != 3 || got[0].ID != "1" || !strings.Contains(string(got[0].Data), "Lovelace") || got[2].Err != nil ||
		!strings.Contains(string(got[2].Data), "Archer") {
		t.Errorf("read %+v", got)
	}
	if got[1].Data != nil || !errors.Is(got[1].Err, vendorapi.ErrAbsent) {
		t.Errorf("who is not there is %+v, want absent", got[1])
	}
}

func TestABatchEndsOnceTheAPIAsksForPatience(t *testing.T) {
	t.Parallel()
	server := vendortest.NewBambooHR(apiKey)
	defer server.Close()
	server.Fail(-1, http.StatusServiceUnavailable, "Retry-After", "30")
	s := acme(t, server.URL+"/api/v1", "private-key")
	ids := make([]string, 20)
	for i := range ids {
		ids[i] = strconv.Itoa(i + 1)
	}
	for _, e := range s.Read(t.Context(), now, ids) {
		var failed *vendorapi.Error
		if !errors.As(e.Err, &failed) || failed.RetryAfter != 30*time.Second {
			t.Errorf("employee %s: %v, want to wait for 30 s", e.ID, e.Err)
		}
	}
	if n := server.Requests(); n > 8 {
		t.Errorf("%d requests to an API that asked for patience", n)
	}
}

// Without the key nothing passes, and no body makes trouble.
func FuzzForgedIsNeverTaken(f *testing.F) {
	s := signer(f, "private-key", "older-key-of-it")
	body := vendortest.BambooEvent("employee.deleted", "1", now)
	good := s.Sign(now, body)
	stamp, signature := good.Get("X-BambooHR-Timestamp"), good.Get("X-BambooHR-Signature")
	f.Add(stamp, signature, body)
	f.Add(stamp[1:], signature, append(body, stamp[0]))
	f.Add("", "", []byte{})
	f.Fuzz(func(t *testing.T, atStamp, atSignature string, atBody []byte) {
		h := http.Header{"X-Bamboohr-Timestamp": {atStamp}, "X-Bamboohr-Signature": {atSignature}}
		if _, err := s.Verify(h, atBody, now); err == nil && (string(atBody) != string(body) || atStamp != stamp) {
			t.Fatalf("taken: %q %q %q", atStamp, atSignature, atBody)
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
