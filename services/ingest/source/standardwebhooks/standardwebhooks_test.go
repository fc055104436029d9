package standardwebhooks_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tenurehq/tenure/services/ingest/source/standardwebhooks"
)

var now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func secret(fill byte, size int) string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat(string(rune(fill)), size)))
}

func keys(tb testing.TB, lines ...string) *standardwebhooks.Keys {
	tb.Helper()
	k, err := standardwebhooks.ParseKeys([]byte(strings.Join(lines, "\n")))
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// sign signs the body {}.
func sign(tb testing.TB, k *standardwebhooks.Keys, at time.Time) http.Header {
	tb.Helper()
	h, err := k.Sign("msg_1", at, []byte("{}"))
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

func TestTheOfficialVector(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Secret  string
		Headers map[string]string
		Body    string
	}
	if err := json.Unmarshal(text, &vectors); err != nil || len(vectors) == 0 {
		t.Fatalf("%d vectors: %v", len(vectors), err)
	}
	for _, v := range vectors {
		k := keys(t, v.Secret)
		h := http.Header{}
		for name, value := range v.Headers {
			h.Set(name, value)
		}
		seconds, err := strconv.ParseInt(v.Headers["webhook-timestamp"], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		at := time.Unix(seconds, 0)
		m, err := k.Verify(h, []byte(v.Body), at)
		if err != nil || m.ID != v.Headers["webhook-id"] || !m.Time.Equal(at) {
			t.Errorf("verified as %+v: %v", m, err)
		}
		if _, err := k.Verify(h, []byte(v.Body+" "), at); !errors.Is(err, standardwebhooks.ErrRefused) {
			t.Errorf("another body is taken: %v", err)
		}
		signed, err := k.Sign(v.Headers["webhook-id"], at, []byte(v.Body))
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range v.Headers {
			if got := signed.Get(name); got != want {
				t.Errorf("signing gives %s %q, want %q", name, got, want)
			}
		}
	}
}

func TestATimestampMayBeFiveMinutesOff(t *testing.T) {
	t.Parallel()
	k := keys(t, secret('a', 24))
	for _, c := range []struct {
		seconds int
		taken   bool
	}{{0, true}, {-299, true}, {299, true}, {-300, true}, {300, true}, {-301, false}, {301, false}, {-86400, false}} {
		_, err := k.Verify(sign(t, k, now.Add(time.Duration(c.seconds)*time.Second)), []byte("{}"), now)
		if (err == nil) != c.taken {
			t.Errorf("%d s off: %v, want taken: %t", c.seconds, err, c.taken)
		}
		if err != nil && standardwebhooks.Reason(err) != "timestamp" {
			t.Errorf("%d s off: counted as %q", c.seconds, standardwebhooks.Reason(err))
		}
	}
}

func TestEverySecretOfTheFileIsTried(t *testing.T) {
	t.Parallel()
	older, newer, other := secret('a', 24), secret('b', 64), secret('c', 32)
	k := keys(t, "", newer+"\r", "  "+older, "")
	for _, s := range []string{older, newer} {
		if _, err := k.Verify(sign(t, keys(t, s), now), []byte("{}"), now); err != nil {
			t.Errorf("signed with a secret of the file: %v", err)
		}
	}
	_, err := k.Verify(sign(t, keys(t, other), now), []byte("{}"), now)
	if !errors.Is(err, standardwebhooks.ErrRefused) || standardwebhooks.Reason(err) != "signature" {
		t.Errorf("signed with another secret: %v (%s)", err, standardwebhooks.Reason(err))
	}
	if _, err := keys(t, newer).Verify(sign(t, k, now), []byte("{}"), now); err != nil {
		t.Errorf("Sign does not use the newest secret: %v", err)
	}
}

func TestOneOfSeveralSignaturesIsEnough(t *testing.T) {
	t.Parallel()
	k := keys(t, secret('a', 24))
	h := sign(t, k, now)
	h.Set("webhook-signature", "v1a,"+strings.Repeat("A", 86)+"== v1,AAAA "+h.Get("webhook-signature")+" v2")
	if _, err := k.Verify(h, []byte("{}"), now); err != nil {
		t.Error(err)
	}
}

func TestHeadersThatTwoReadersCouldReadInTwoWaysAreRefused(t *testing.T) {
	t.Parallel()
	k := keys(t, secret('a', 24))
	for what, change := range map[string]func(http.Header){
		"no id":                   func(h http.Header) { h.Del("webhook-id") },
		"no timestamp":            func(h http.Header) { h.Del("webhook-timestamp") },
		"no signature":            func(h http.Header) { h.Del("webhook-signature") },
		"two ids":                 func(h http.Header) { h.Add("webhook-id", "msg_2") },
		"two timestamps":          func(h http.Header) { h.Add("webhook-timestamp", "1") },
		"two signatures' headers": func(h http.Header) { h.Add("webhook-signature", "v1,AAAA") },
		"a signed plus":           func(h http.Header) { h.Set("webhook-timestamp", "+"+h.Get("webhook-timestamp")) },
		"a leading zero":          func(h http.Header) { h.Set("webhook-timestamp", "0"+h.Get("webhook-timestamp")) },
		"a fraction":              func(h http.Header) { h.Set("webhook-timestamp", h.Get("webhook-timestamp")+".0") },
		"a blank in the id":       func(h http.Header) { h.Set("webhook-id", "msg 1") },
		"a long id":               func(h http.Header) { h.Set("webhook-id", strings.Repeat("m", 257)) },
	} {
		h := sign(t, k, now)
		change(h)
		if _, err := k.Verify(h, []byte("{}"), now); standardwebhooks.Reason(err) != "headers" {
			t.Errorf("%s: %v (%s)", what, err, standardwebhooks.Reason(err))
		}
	}
}

func TestEveryRefusalReadsTheSame(t *testing.T) {
	t.Parallel()
	k := keys(t, secret('a', 24))
	late := sign(t, k, now.Add(-time.Hour))
	forged := sign(t, keys(t, secret('b', 24)), now)
	for _, h := range []http.Header{{}, late, forged} {
		if _, err := k.Verify(h, []byte("{}"), now); err == nil || err.Error() != "signature refused" {
			t.Errorf("refused with %v", err)
		}
	}
}

func TestASecretThatIsNoneIsNamedByItsLineOnly(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ what, text, want string }{
		{"empty", "", "no secret"},
		{"blank lines", "\n \n", "no secret"},
		{"no prefix", secret('a', 24) + "\nAAAA", "line 2: a secret begins with whsec_"},
		{"not base64", "whsec_hunter2!", "line 1: the secret is not base64"},
		{"too short", secret('a', 23), "line 1: the secret has 23 bytes, it must have 24 to 64"},
		{"too long", secret('a', 65), "line 1: the secret has 65 bytes, it must have 24 to 64"},
	} {
		if _, err := standardwebhooks.ParseKeys([]byte(c.text)); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
}

// What was signed is one id, one timestamp and one body; no other three may pass with its signature, however dots and
// digits are shifted between them.
func TestASignatureIsGoodForOneReadingOnly(t *testing.T) {
	t.Parallel()
	k := keys(t, secret('a', 24))
	stamp := strconv.FormatInt(now.Unix(), 10)
	rapid.Check(t, func(rt *rapid.T) {
		part := rapid.SampledFrom([]string{"a", ".", stamp, "1", "{}", "-"})
		id := strings.Join(rapid.SliceOfN(part, 1, 5).Draw(rt, "id"), "")
		body := strings.Join(rapid.SliceOfN(part, 0, 5).Draw(rt, "body"), "")
		h, err := k.Sign(id, now, []byte(body))
		if err != nil {
			return
		}
		signed := id + "." + stamp + "." + body
		for i := range signed {
			if signed[i] != '.' {
				continue
			}
			rest := signed[i+1:]
			at, otherBody, ok := strings.Cut(rest, ".")
			if !ok || signed[:i] == id && at == stamp {
				continue
			}
			h.Set("webhook-id", signed[:i])
			h.Set("webhook-timestamp", at)
			_, firstErr := k.Verify(h, []byte(otherBody), now)
			h.Set("webhook-id", id)
			h.Set("webhook-timestamp", stamp)
			if _, err := k.Verify(h, []byte(body), now); err == nil && firstErr == nil {
				rt.Fatalf("%q is taken as (%s, %s, %s) and as (%s, %s, %s)", signed, id, stamp, body, signed[:i], at, otherBody)
			}
		}
	})
}

// Without the secret nothing passes, whatever the headers look like.
func FuzzForgedIsNeverTaken(f *testing.F) {
	k := keys(f, secret('a', 24), secret('b', 24))
	good := sign(f, k, now)
	f.Add(good.Get("webhook-id"), good.Get("webhook-timestamp"), good.Get("webhook-signature"), []byte("{ }"))
	f.Add("", "", "", []byte{})
	f.Add("msg_1", good.Get("webhook-timestamp"), "v1, v1,,= ,v1", []byte("{}"))
	f.Fuzz(func(t *testing.T, id, stamp, signature string, body []byte) {
		h := http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {stamp}, "Webhook-Signature": {signature}}
		if _, err := k.Verify(h, body, now); err == nil && (id != "msg_1" || string(body) != "{}" || stamp != good.Get("webhook-timestamp")) {
			t.Fatalf("taken: %q %q %q %q", id, stamp, signature, body)
		}
	})
}
