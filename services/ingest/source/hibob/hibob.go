// Package hibob speaks with HiBob: it verifies its webhooks, reads whose record they say has changed, and reads these
// employees from its API.
//
// HiBob signs neither time nor identity, so that a webhook can be sent again by whoever has seen it. It does no harm:
// the same body is the same delivery for ever, and what holds is what the API says, not what the webhook says.
package hibob

import (
	"bytes"
	"context"
	"crypto/sha512"
	_ "embed"
	"encoding/base64"
	"errors"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tenurehq/tenure/services/ingest/source"
	"github.com/tenurehq/tenure/services/ingest/source/vendorapi"
)

const (
	headerSignature = "Bob-Signature"

	// batch is how many employees are asked for in one request: HiBob takes 50 requests a minute.
	batch = 100
)

// Mapping is the default mapping file from an employee, as Read returns it, to a person.
//
//go:embed mapping.yaml
var Mapping []byte

// fields are those that Mapping reads.
var fields = []string{
	"root.id", "root.firstName", "root.surname", "root.email", "work.startDate", "work.department", "work.title", "work.site",
	"work.reportsTo", "work.employeeIdInCompany", "internal.status", "internal.lifecycleStatus", "internal.terminationDate",
	"payroll.employment.type",
}

// Config is one company's HiBob.
type Config struct {
	Keys   vendorapi.Keys   // the webhook's secrets
	API    vendorapi.Config // https://api.hibob.com/v1, and a service user's id and token
	Fields []string         // to be read besides those of the default mapping, by HiBob's ids
}

// Source is one company's HiBob. Safe for concurrent use.
type Source struct {
	keys   vendorapi.Keys
	client *vendorapi.Client
	fields []string
}

// New checks the configuration; it contacts nothing.
func New(cfg Config) (*Source, error) {
	client, err := vendorapi.New(cfg.API)
	if err != nil {
		return nil, err
	}
	return &Source{keys: cfg.Keys, client: client, fields: append(append([]string(nil), fields...), cfg.Fields...)}, nil
}

// Verify implements source.Verifier: base64(HMAC-SHA512(key, body)). The time is now: HiBob tells none.
func (s *Source) Verify(h http.Header, body []byte, now time.Time) (source.Message, error) {
	if h.Values(headerSignature) == nil && ping(body) {
		return source.Message{}, source.ErrPing // HiBob does not say that it signs them
	}
	signature, err := base64.StdEncoding.Strict().DecodeString(source.Header(h, headerSignature))
	if err != nil || len(signature) != sha512.Size {
		return source.Message{}, source.BadHeaders
	}
	if !s.keys.Signed(signature, sha512.New, body) {
		return source.Message{}, source.BadSignature
	}
	if ping(body) {
		return source.Message{}, source.ErrPing
	}
	return source.Message{ID: source.ContentID(body), Time: now.UTC()}, nil
}

// ping tells whether body is what HiBob sends to try a new webhook; nothing else may come unsigned.
func ping(body []byte) bool {
	switch string(bytes.TrimSpace(body)) {
	case `Ping test`, `"Ping test"`, `{"text":"Ping test"}`:
		return true
	}
	return false
}

// Sign returns the headers under which HiBob would send body, signed with the newest key.
func (s *Source) Sign(_ time.Time, body []byte) http.Header {
	h := make(http.Header, 1)
	h.Set(headerSignature, base64.StdEncoding.EncodeToString(s.keys.Sign(sha512.New, body)))
	return h
}

// Changed reads whose record a webhook says has changed: data.employeeId, or employee.id in those of version 1.
func (*Source) Changed(body []byte) source.Notice {
	var webhook struct {
		Data struct {
			EmployeeID jsontext.Value `json:"employeeId"`
		} `json:"data"`
		Employee struct {
			ID jsontext.Value `json:"id"`
		} `json:"employee"`
	}
	if err := json.Unmarshal(body, &webhook); err != nil {
		return source.Notice{Held: "not the JSON of a HiBob webhook"}
	}
	name, id := "data.employeeId", webhook.Data.EmployeeID
	if id == nil {
		name, id = "employee.id", webhook.Employee.ID
	}
	if id == nil {
		return source.Notice{Held: "neither data.employeeId nor employee.id"}
	}
	text, _ := vendorapi.Text(id)
	return source.NoticeOf(name, []string{text})
}

// Batch is how many employees Read should be asked for at a time.
func (*Source) Batch() int { return batch }

// Read asks the API for these employees at once; if it says that the request is bad, one by one, so that one bad id does
// not keep the others from being read.
func (s *Source) Read(ctx context.Context, now time.Time, ids []string) []source.Employee {
	out := make([]source.Employee, len(ids))
	found, err := s.search(ctx, now, ids)
	var failed *vendorapi.Error
	if errors.As(err, &failed) && failed.Status == http.StatusBadRequest && len(ids) > 1 {
		for i, id := range ids {
			out[i] = s.Read(ctx, now, []string{id})[0]
		}
		return out
	}
	for i, id := range ids {
		out[i] = source.Employee{ID: id, Data: found[id], Err: err}
		if err == nil && found[id] == nil {
			out[i].Err = vendorapi.ErrAbsent
		}
	}
	return out
}

// search returns the employees of these ids that the API has, by id.
func (s *Source) search(ctx context.Context, now time.Time, ids []string) (map[string][]byte, error) {
	type filter struct {
		FieldPath string   `json:"fieldPath"`
		Operator  string   `json:"operator"`
		Values    []string `json:"values"`
	}
	request, err := json.Marshal(struct {
		Fields        []string `json:"fields"`
		Filters       []filter `json:"filters"`
		ShowInactive  bool     `json:"showInactive"` // without it, who has left is absent
		HumanReadable string   `json:"humanReadable"`
	}{s.fields, []filter{{"root.id", "equals", ids}}, true, "APPEND"})
	if err != nil {
		return nil, &vendorapi.Error{Problem: "the request cannot be made"}
	}
	answer, err := s.client.Ask(ctx, now, http.MethodPost, "people/search", nil, request)
	if errors.Is(err, vendorapi.ErrAbsent) { // the search itself is not there: says nothing about anybody
		return nil, &vendorapi.Error{Status: http.StatusNotFound, Problem: "the API answered 404 to a search; is the url right?"}
	}
	if err != nil {
		return nil, err
	}
	var people struct {
		Employees []jsontext.Value `json:"employees"`
	}
	bad := &vendorapi.Error{Status: http.StatusOK, Problem: "the API's answer is not the JSON of a search"}
	if err := json.Unmarshal(answer, &people); err != nil || people.Employees == nil {
		return nil, bad
	}
	found := make(map[string][]byte, len(people.Employees))
	for _, e := range people.Employees {
		id, data, err := nested(e)
		if err != nil {
			return nil, bad
		}
		if found[id] != nil {
			return nil, &vendorapi.Error{Status: http.StatusOK, Problem: "the API answered about one employee twice"}
		}
		found[id] = data
	}
	return found, nil
}
