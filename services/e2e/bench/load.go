package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tenurehq/tenure/services/ingest/source/standardwebhooks"
)

// event is one webhook: the whole record of a person as of a date.
type event struct {
	id     string // webhook-id
	body   []byte
	joiner bool
}

// population makes people. Each is hired once, and moved to another department each time it is called up.
type population struct {
	times []int // how often each was moved
	queue []int // who is moved next, or leaves: nobody again before everybody was
}

func (p *population) joiner() event {
	n := len(p.times)
	p.times = append(p.times, 0)
	p.queue = append(p.queue, n)
	return p.record(n, "active")
}

func (p *population) mover() event {
	n := p.queue[0]
	p.queue = append(p.queue[1:], n)
	p.times[n]++
	return p.record(n, "active")
}

// leavers are people who joined in an earlier round, and now are said to have left. They are not called up again.
func (p *population) leavers(n int) []event {
	n = min(n, len(p.queue))
	var all []event
	for _, who := range p.queue[:n] {
		p.times[who]++
		all = append(all, p.record(who, "terminated"))
	}
	p.queue = p.queue[n:]
	return all
}

func (p *population) record(n int, status string) event {
	times := p.times[n]
	day := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, times)
	person := map[string]string{
		"external_id": strconv.Itoa(10000 + n), "status": status, "given_name": "Given" + letters(n%40), "family_name": "Family" + letters(n),
		"email": "person" + strconv.Itoa(n) + "@example.test", "department": department(n + times), "title": "Engineer",
		"employment_type": "employee", "company": "Example", "location": "Berlin", "time_zone": "Europe/Berlin",
		"start_date": "2020-01-01", "effective_date": day.Format(time.DateOnly),
	}
	body, err := json.Marshal(map[string]any{"type": "person.changed", "data": person})
	if err != nil {
		panic(err) // a map of strings can be encoded
	}
	return event{id: fmt.Sprintf("msg_%d_%d", n, times), body: body, joiner: times == 0}
}

// letters writes a number as letters, for names.
func letters(n int) string {
	var b []byte
	for {
		b = append(b, byte('a'+n%26))
		if n /= 26; n == 0 {
			return string(b)
		}
	}
}

// mix is a throughput round: joiners of distinct people and movers, alternating. Movers were hired in earlier rounds.
func (p *population) mix(n int) []event {
	var joiners, movers []event
	for range min(n/2, len(p.queue)) {
		movers = append(movers, p.mover())
	}
	for len(joiners)+len(movers) < n {
		joiners = append(joiners, p.joiner())
	}
	var all []event
	for i := range max(len(joiners), len(movers)) {
		if i < len(joiners) {
			all = append(all, joiners[i])
		}
		if i < len(movers) {
			all = append(all, movers[i])
		}
	}
	return all
}

// sender posts signed webhooks over connections that stay open.
type sender struct {
	url    string
	keys   *standardwebhooks.Keys
	client *http.Client
}

func newSender(url string, keys *standardwebhooks.Keys, clients int) *sender {
	transport := &http.Transport{MaxIdleConnsPerHost: clients, MaxConnsPerHost: clients}
	return &sender{url: url, keys: keys, client: &http.Client{Transport: transport, Timeout: 30 * time.Second}}
}

func (s *sender) close() { s.client.CloseIdleConnections() }

// post sends an event until it is taken: whoever is told "not now" tries again.
func (s *sender) post(ctx context.Context, e event) error {
	for {
		err := s.try(ctx, e)
		if !errors.Is(err, errNotNow) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(time.Second):
		}
	}
}

var errNotNow = errors.New("the webhook is not taken now")

func (s *sender) try(ctx context.Context, e event) error {
	headers, err := s.keys.Sign(e.id, time.Now(), e.body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(e.body))
	if err != nil {
		return err
	}
	req.Header = headers
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode == http.StatusServiceUnavailable {
		return errNotNow
	}
	if resp.StatusCode != http.StatusAccepted || bytes.Contains(answer, []byte(`"held":"`)) {
		return fmt.Errorf("webhook answered %s: %s", resp.Status, answer)
	}
	return nil
}

// flood posts events from so many clients at once, each its next one when the last is acknowledged, and returns how long
// that took.
func (s *sender) flood(ctx context.Context, events []event, clients int) (time.Duration, error) {
	var next atomic.Int64
	errs := make([]error, clients)
	var all sync.WaitGroup
	began := time.Now()
	for c := range clients {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(events) || errs[c] != nil {
					return
				}
				errs[c] = s.post(ctx, events[i])
			}
		})
	}
	all.Wait()
	return time.Since(began), errors.Join(errs...)
}

// drip posts one event at a time.
func (s *sender) drip(ctx context.Context, events []event, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for _, e := range events {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if err := s.post(ctx, e); err != nil {
			return err
		}
	}
	return nil
}
