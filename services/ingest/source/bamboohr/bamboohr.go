// Package bamboohr speaks with BambooHR: it verifies its webhooks, reads whose record they say has changed, and reads
// these employees from its API.
//
// What a webhook says about an employee is not looked at, even where BambooHR sends whole fields: the API is the truth.
package bamboohr

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/services/ingest/source"
	"github.com/tenurehq/tenure/services/ingest/source/vendorapi"
)

const (
	// Tolerance is how far the signed timestamp may be off, either way. BambooHR makes it anew for each attempt.
	Tolerance = 5 * time.Minute

	headerTimestamp = "X-Bamboohr-Timestamp"
	headerSignature = "X-Bamboohr-Signature"

	// batch is how many employees are read at a time, each by a request of its own.
	batch = 20
	// concurrent requests; BambooHR throttles by address, not saying at what rate.
	concurrent = 4
)

// Mapping is the default mapping file from an employee, as the API answers, to a person.
//
//go:embed mapping.yaml
var Mapping []byte

// fields are those that Mapping reads.
var fields = []string{
	"employeeNumber", "status", "hireDate", "terminationDate", "firstName", "lastName", "workEmail", "department", "jobTitle",
	"supervisorEId", "location", "employmentHistoryStatus",
}

// Config is one company's BambooHR.
type Config struct {
	Keys vendorapi.Keys // the webhook's private keys
	// API is where and by what key: URL up to and with the version (https://acme.bamboohr.com/api/v1), Password the API key.
	API    vendorapi.Config
	Fields []string // to be read besides those of the default mapping, by BambooHR's names
}

// Source is one company's BambooHR. Safe for concurrent use.
type Source struct {
	keys   vendorapi.Keys
	client *vendorapi.Client
	query  url.Values
}

// New checks the configuration; it contacts nothing.
func New(cfg Config) (*Source, error) {
	if cfg.API.User != "" {
		return nil, errors.New("user: BambooHR takes the API key alone")
	}
	// BambooHR wants the key as the user, and does not look at the password.
	cfg.API.User, cfg.API.Password = string(cfg.API.Password.Reveal()), config.NewSecret([]byte("x"))
	if cfg.API.User == "" {
		return nil, errors.New("token: missing")
	}
	client, err := vendorapi.New(cfg.API)
	if err != nil {
		return nil, err
	}
	all := append(append([]string(nil), fields...), cfg.Fields...)
	return &Source{keys: cfg.Keys, client: client, query: url.Values{"fields": {strings.Join(all, ",")}}}, nil
}

// Verify implements source.Verifier: hex(HMAC-SHA256(key, body + timestamp)).
func (s *Source) Verify(h http.Header, body []byte, now time.Time) (source.Message, error) {
	stamp := source.Header(h, headerTimestamp)
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || stamp != strconv.FormatInt(seconds, 10) {
		return source.Message{}, source.BadHeaders
	}
	signature, err := hex.DecodeString(source.Header(h, headerSignature))
	if err != nil || len(signature) != sha256.Size {
		return source.Message{}, source.BadHeaders
	}
	// Compared as seconds: a time.Duration overflows with the timestamps that attackers send.
	const tolerance = int64(Tolerance / time.Second)
	if t := now.Unix(); seconds < t-tolerance || seconds > t+tolerance {
		return source.Message{}, source.BadTimestamp
	}
	if !s.keys.Signed(signature, sha256.New, body, []byte(stamp)) {
		return source.Message{}, source.BadSignature
	}
	// Without the timestamp: an attempt that is repeated has another one.
	return source.Message{ID: source.ContentID(body), Time: time.Unix(seconds, 0).UTC()}, nil
}

// Sign returns the headers under which BambooHR would send body, signed with the newest key.
func (s *Source) Sign(at time.Time, body []byte) http.Header {
	stamp := strconv.FormatInt(at.Unix(), 10)
	h := make(http.Header, 2)
	h.Set(headerTimestamp, stamp)
	h.Set(headerSignature, hex.EncodeToString(s.keys.Sign(sha256.New, body, []byte(stamp))))
	return h
}

// Changed reads whose record a webhook says has changed, in either of BambooHR's forms: event-based
// (employee.created, .updated, .deleted) and field-based (employees with an action each).
func (*Source) Changed(body []byte) source.Notice {
	var webhook struct {
		Data struct {
			EmployeeID jsontext.Value `json:"employeeId"`
		} `json:"data"`
		Employees []struct {
			ID jsontext.Value `json:"id"`
		} `json:"employees"`
	}
	if err := json.Unmarshal(body, &webhook); err != nil {
		return source.Notice{Held: "not the JSON of a BambooHR webhook; is the format of the webhook JSON?"}
	}
	if id := webhook.Data.EmployeeID; id != nil {
		text, _ := vendorapi.Text(id)
		return source.NoticeOf("data.employeeId", []string{text})
	}
	ids := make([]string, len(webhook.Employees))
	for i, e := range webhook.Employees {
		ids[i], _ = vendorapi.Text(e.ID)
	}
	if len(ids) == 0 {
		return source.Notice{Held: "neither data.employeeId nor employees"}
	}
	return source.NoticeOf("employees", ids)
}

// Batch is how many employees Read should be asked for at a time.
func (*Source) Batch() int { return batch }

// Read asks the API for these employees, one by one, a few at a time.
func (s *Source) Read(ctx context.Context, now time.Time, ids []string) []source.Employee {
	out := make([]source.Employee, len(ids))
	next := make(chan int, len(ids))
	for i := range ids {
		next <- i
	}
	close(next)
	var patience patience
	var workers sync.WaitGroup
	for range min(concurrent, len(ids)) {
		workers.Go(func() {
			for i := range next {
				if err := patience.asked(); err != nil {
					out[i] = source.Employee{ID: ids[i], Err: err}
					continue
				}
				out[i] = s.read(ctx, now, ids[i])
				patience.heard(out[i].Err)
			}
		})
	}
	workers.Wait()
	return out
}

// patience keeps a batch from going on once the API as a whole does not answer.
type patience struct {
	mu  sync.Mutex
	err error
}

func (p *patience) asked() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *patience) heard(err error) {
	var failed *vendorapi.Error
	if errors.As(err, &failed) && failed.Whole() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.err = err
	}
}

func (s *Source) read(ctx context.Context, now time.Time, id string) source.Employee {
	if !source.EmployeeID(id) {
		return source.Employee{ID: id, Err: vendorapi.ErrAbsent}
	}
	answer, err := s.client.Ask(ctx, now, http.MethodGet, "employees/"+id, s.query, nil)
	if err != nil {
		return source.Employee{ID: id, Err: err}
	}
	var who struct {
		ID jsontext.Value `json:"id"`
	}
	if err := json.Unmarshal(answer, &who); err != nil {
		return source.Employee{ID: id, Err: &vendorapi.Error{Status: http.StatusOK, Problem: "the API's answer is not the JSON of an employee"}}
	}
	if text, _ := vendorapi.Text(who.ID); text != id {
		return source.Employee{ID: id, Err: &vendorapi.Error{Status: http.StatusOK, Problem: "the API answered about another employee"}}
	}
	return source.Employee{ID: id, Data: answer}
}
