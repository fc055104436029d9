package vendorapi_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/services/ingest/source/vendorapi"
)

var now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func at(url string) vendorapi.Config {
	return vendorapi.Config{URL: url, User: "user", Password: config.NewSecret([]byte("hunter2"))}
}

func TestOnlyHTTPSOrLoopbackIsAsked(t *testing.T) {
	t.Parallel()
	for url, taken := range map[string]bool{
		"https://api.hibob.com/v1":        true,
		"http://127.0.0.1:8080/v1":        true,
		"http://[::1]:8080/v1":            true,
		"http://localhost:8080":           true,
		"http://api.hibob.com/v1":         false,
		"http://127.0.0.1.example.com":    false,
		"ftp://api.hibob.com":             false,
		"api.hibob.com":                   false,
		"":                                false,
		"https://user:pw@api.hibob.com":   false,
		"https://api.hibob.com/v1?a=b":    false,
		"https://api.hibob.com/v1#people": false,
	} {
		_, err := vendorapi.New(at(url))
		if (err == nil) != taken {
			t.Errorf("%s: %v, want taken: %t", url, err, taken)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "url: ") {
			t.Errorf("%s: %v does not name the key", url, err)
		}
	}
}

func TestCredentialsGoNowhereElse(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer elsewhere.Close()
	server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	client, err := vendorapi.New(at(server.URL))
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Ask(t.Context(), now, http.MethodPost, "people", nil, []byte("{}"))
	var failed *vendorapi.Error
	if !errors.As(err, &failed) || failed.Status != http.StatusTemporaryRedirect {
		t.Errorf("a redirect gives %v", err)
	}
}

func TestHowLongAnAPIAsksToBeLeftAlone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, value string
		want        time.Duration
	}{
		{"Retry-After", "30", 30 * time.Second},
		{"Retry-After", now.Add(time.Minute).Format(http.TimeFormat), time.Minute},
		{"Retry-After", now.Add(-time.Minute).Format(http.TimeFormat), 0},
		{"Retry-After", "-5", 0},
		{"Retry-After", "soon", 0},
		{"Retry-After", "99999999", time.Hour},
		{"X-RateLimit-Reset", strconv.FormatInt(now.Add(20*time.Second).Unix(), 10), 20 * time.Second},
		{"X-RateLimit-Reset", "99999999999999", time.Hour},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-RateLimit-Remaining", "0")
			w.Header().Set(c.name, c.value)
			w.WriteHeader(http.StatusTooManyRequests)
		}))
		client, err := vendorapi.New(at(server.URL))
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Ask(t.Context(), now, http.MethodGet, "people", nil, nil)
		server.Close()
		var failed *vendorapi.Error
		if !errors.As(err, &failed) || failed.RetryAfter != c.want || !failed.Whole() {
			t.Errorf("%s: %s is %+v, want %s", c.name, c.value, failed, c.want)
		}
	}
}

func TestAnErrorShowsNeitherAddressNorSecret(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close() // nobody listens any more
	client, err := vendorapi.New(at(server.URL))
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Ask(t.Context(), now, http.MethodGet, "employees/4711", nil, nil)
	if err == nil || strings.Contains(err.Error(), "4711") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("an API that is away gives %v", err)
	}
}

func TestAKeyThatIsNoneIsNamedByItsLineOnly(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                      "no key",
		"\n \n":                                 "no key",
		"long enough\nshort":                    "line 2: the key has 5 bytes, it must have 8 to 512",
		"\n" + strings.Repeat("x", 513):         "line 2: the key has 513 bytes, it must have 8 to 512",
		"  with blanks around it is as well \n": "",
	} {
		_, err := vendorapi.ParseKeys([]byte(text))
		if got := errorText(err); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
