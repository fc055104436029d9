package vendortest

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// NewHiBob starts a HiBob whose API stands below URL + "/v1" and wants this service user. The caller closes it.
//
// It answers machine values nested and flat at once, and humanReadable ones nested, as the real one does with APPEND.
func NewHiBob(user, token string) *Server {
	return serve(user, token, func(s *Server, w http.ResponseWriter, r *http.Request) {
		var request struct {
			Fields  []string `json:"fields"`
			Filters []struct {
				FieldPath, Operator string
				Values              []string
			} `json:"filters"`
			ShowInactive  bool   `json:"showInactive"`
			HumanReadable string `json:"humanReadable"`
		}
		if r.URL.Path != "/v1/people/search" || r.Method != http.MethodPost {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		if json.NewDecoder(r.Body).Decode(&request) != nil || len(request.Filters) != 1 || request.Filters[0].FieldPath != "root.id" ||
			request.Filters[0].Operator != "equals" || len(request.Fields) > 400 {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		employees := []any{}
		for _, id := range request.Filters[0].Values {
			if s.refuses(w, id) {
				return
			}
			fields, ok := s.read(id)
			if !ok || !request.ShowInactive && fields["internal.status"] == "Inactive" {
				continue // who is not there is left out, without a word
			}
			employees = append(employees, hiBobAnswer(id, fields, request.Fields))
		}
		writeJSON(w, map[string]any{"employees": employees})
	})
}

func hiBobAnswer(id string, fields Fields, wanted []string) map[string]any {
	answer, human := map[string]any{"id": id}, map[string]any{"id": id}
	for _, name := range wanted {
		value, visible := fields[name]
		if !visible {
			continue
		}
		nest(answer, strings.TrimPrefix(name, "root."), value)
		answer["/"+strings.ReplaceAll(name, ".", "/")] = map[string]any{"value": value}
		if readable, ok := fields["humanReadable:"+name]; ok {
			nest(human, strings.TrimPrefix(name, "root."), readable)
		}
	}
	answer["humanReadable"] = human
	return answer
}

func nest(in map[string]any, name string, value any) {
	path := strings.Split(name, ".")
	for _, step := range path[:len(path)-1] {
		below, ok := in[step].(map[string]any)
		if !ok {
			below = map[string]any{}
			in[step] = below
		}
		in = below
	}
	in[path[len(path)-1]] = value
}

// BobEmployee is one who works, with every field that the default mapping reads.
func BobEmployee(first, last string) Fields {
	return Fields{
		"root.firstName": first, "root.surname": last, "root.email": strings.ToLower(first+"."+last) + "@acme.example",
		"work.startDate": "2020-01-01", "work.department": "255490001", "humanReadable:work.department": "Engineering",
		"work.title": "255490048", "humanReadable:work.title": "Engineer", "work.site": "Berlin", "work.reportsTo": nil,
		"work.employeeIdInCompany": 10, "internal.status": "Active", "internal.lifecycleStatus": "employed",
		"internal.terminationDate": nil, "payroll.employment.type": "permanent", "humanReadable:payroll.employment.type": "Permanent",
	}
}

// BobEvent is the body of a webhook of version 2: employee.created, .updated, .joined, .left and so on.
func BobEvent(kind, id string, at time.Time) []byte {
	return body(map[string]any{
		"companyId": 12345, "type": kind, "triggeredBy": "3332883884017713938", "triggeredAt": at.Format("2006-01-02T15:04:05.000000"),
		"version": "v2", "data": map[string]any{"employeeId": id},
	})
}
