package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tenurehq/tenure/services/ingest/source/standardwebhooks"
)

// record is an employment as HR says it, in the generic form.
type record struct {
	ExternalID    string            `json:"external_id"`
	Status        string            `json:"status"`
	GivenName     string            `json:"given_name"`
	FamilyName    string            `json:"family_name"`
	Email         string            `json:"email"`
	Department    string            `json:"department"`
	Title         string            `json:"title"`
	StartDate     string            `json:"start_date,omitempty"`
	EndDate       string            `json:"end_date,omitempty"`
	EffectiveDate string            `json:"effective_date,omitempty"`
	Attributes    map[string]string `json:"attributes,omitempty"`
}

// posting is one webhook.
type posting struct {
	id     string
	person string
	body   []byte
}

// says makes a posting of a record. Which of two is newer is said by at, not by when it arrives.
func says(t *testing.T, id string, at time.Time, r record) posting {
	t.Helper()
	body, err := json.Marshal(map[string]any{"type": "person.changed", "timestamp": at.UTC().Format(time.RFC3339Nano), "data": r})
	if err != nil {
		t.Fatal(err)
	}
	return posting{id: id, person: r.ExternalID, body: body}
}

// hr is an HR system.
type hr struct {
	url    string
	keys   *standardwebhooks.Keys
	client *http.Client
	ahead  time.Duration // of its clock
}

// hr is the HR system behind the source of that name.
func (tn *tenure) hr(t *testing.T) *hr {
	t.Helper()
	return newHR(t, "http://"+tn.http+"/v1/webhooks/hr", tn.secret, http.DefaultTransport.(*http.Transport).Clone())
}

func newHR(t *testing.T, url, secret string, transport *http.Transport) *hr {
	t.Helper()
	keys, err := standardwebhooks.ParseKeys([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	transport.MaxIdleConnsPerHost = 16
	t.Cleanup(transport.CloseIdleConnections)
	return &hr{url: url, keys: keys, client: &http.Client{Transport: transport, Timeout: time.Minute}}
}

// accepted is the answer to a webhook that was taken.
type accepted struct {
	Delivery string  `json:"delivery"`
	Held     *string `json:"held"`
}

// deliver signs and posts, and returns the answer.
func (h *hr) deliver(t *testing.T, p posting) (status int, body []byte, err error) {
	t.Helper()
	headers, err := h.keys.Sign(p.id, time.Now().Add(h.ahead), p.body)
	if err != nil {
		return 0, nil, err
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url, bytes.NewReader(p.body))
	if err != nil {
		return 0, nil, err
	}
	req.Header = headers
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// post delivers and expects that it is accepted and understood.
func (h *hr) post(t *testing.T, p posting) (delivery string, err error) {
	t.Helper()
	status, body, err := h.deliver(t, p)
	if err != nil {
		return "", err
	}
	var a accepted
	if err := json.Unmarshal(body, &a); err != nil || status != http.StatusAccepted || a.Held != nil || a.Delivery == "" {
		return "", fmt.Errorf("delivery %s: %d %s", p.id, status, strings.TrimSpace(string(body)))
	}
	return a.Delivery, nil
}

// tell posts one record, of now.
func (h *hr) tell(t *testing.T, id string, r record) {
	t.Helper()
	if _, err := h.post(t, says(t, id, time.Now(), r)); err != nil {
		t.Fatal(err)
	}
}

// postAll posts in this order, several at a time; with perPerson what is said of a person waits until what was said
// before it was answered.
func (h *hr) postAll(t *testing.T, postings []posting, perPerson bool) {
	t.Helper()
	const atATime = 8
	var (
		mu       sync.Mutex
		free     = sync.NewCond(&mu)
		underway = map[string]int{}
		total    int
		first    error
		all      sync.WaitGroup
	)
	for _, p := range postings {
		mu.Lock()
		for total == atATime || (perPerson && underway[p.person] > 0) {
			free.Wait()
		}
		failed := first != nil
		underway[p.person]++
		total++
		mu.Unlock()
		if failed {
			break
		}
		all.Go(func() {
			_, err := h.post(t, p)
			mu.Lock()
			defer mu.Unlock()
			underway[p.person]--
			total--
			if err != nil && first == nil {
				first = err
			}
			free.Signal()
		})
	}
	all.Wait()
	if first != nil {
		t.Fatal(first)
	}
}

// insist posts until everything is accepted, as an HR system does: what got no answer is sent again.
func (h *hr) insist(t *testing.T, postings []posting, done *atomic.Int64) {
	t.Helper()
	const atATime = 8
	lanes := make([][]posting, atATime) // a person's in one lane, so in order
	for _, p := range postings {
		lane := 0
		for _, c := range p.person {
			lane = (lane*31 + int(c)) % atATime
		}
		lanes[lane] = append(lanes[lane], p)
	}
	var senders sync.WaitGroup
	for _, lane := range lanes {
		senders.Go(func() {
			for _, p := range lane {
				awaitFor(t, time.Minute, "delivery "+p.id+" to be accepted", func() (bool, string) {
					_, err := h.post(t, p)
					return err == nil, fmt.Sprint(err)
				})
				done.Add(1)
			}
		})
	}
	senders.Wait()
}
