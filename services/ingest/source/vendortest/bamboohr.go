package vendortest

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// NewBambooHR starts a BambooHR whose API stands below URL + "/api/v1" and wants this key. The caller closes it.
func NewBambooHR(key string) *Server {
	const path = "/api/v1/employees/"
	return serve(key, "", func(s *Server, w http.ResponseWriter, r *http.Request) {
		id, ok := strings.CutPrefix(r.URL.Path, path)
		if !ok || r.Method != http.MethodGet || r.Header.Get("Accept") != "application/json" { // else it would be XML
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if s.refuses(w, id) {
			return
		}
		fields, ok := s.read(id)
		if !ok {
			w.Header().Set("X-BambooHR-Error-Message", "Employee not found")
			w.WriteHeader(http.StatusNotFound)
			return
		}
		answer := map[string]any{"id": id}
		for name := range strings.SplitSeq(r.URL.Query().Get("fields"), ",") {
			if value, visible := fields[name]; visible { // what the key may not see is missing, without a word
				answer[name] = value
			}
		}
		writeJSON(w, answer)
	})
}

// BambooEmployee is one who works, with every field that the default mapping reads.
func BambooEmployee(first, last string) Fields {
	return Fields{
		"employeeNumber": "E-" + first, "status": "Active", "hireDate": "2020-01-01", "terminationDate": "0000-00-00",
		"firstName": first, "lastName": last, "workEmail": strings.ToLower(first+"."+last) + "@acme.example",
		"department": "Engineering", "jobTitle": "Engineer", "supervisorEId": nil, "location": "Berlin",
		"employmentHistoryStatus": "Full-Time",
	}
}

// BambooEvent is the body of an event-based webhook: employee.created, .updated or .deleted.
func BambooEvent(kind, id string, at time.Time, changed ...string) []byte {
	data := map[string]any{"companyId": "12345", "employeeId": id}
	if kind == "employee.updated" {
		data["changedFields"] = changed
	}
	return body(map[string]any{"type": kind, "timestamp": at.Format("2006-01-02T15:04:05-0700"), "data": data})
}

// BambooFields is the body of a field-based webhook about several employees, with values that need not be true.
func BambooFields(at time.Time, said Fields, ids ...string) []byte {
	var employees []any
	for _, id := range ids {
		employees = append(employees, map[string]any{
			"id": id, "action": "Updated", "timestamp": at.Format(time.RFC3339), "changedFields": []string{"Status"}, "fields": said,
		})
	}
	return body(map[string]any{"employees": employees})
}

func body(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of texts
	}
	return text
}
