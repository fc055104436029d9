package timeline

import (
	"maps"
	"slices"
	"strings"
)

// Record is what a source says about an employment: the whole of it, not a difference. All fields are as the source
// wrote them; empty means none. It mirrors tenure.people.v1.Record.
type Record struct {
	ExternalID        string
	Status            string // pending, active, on_leave, terminated
	GivenName         string
	FamilyName        string
	Email             string
	Department        string
	Title             string
	ManagerExternalID string
	EmploymentType    string
	Company           string
	Location          string
	TimeZone          string // IANA name
	StartDate         string // a date or an RFC 3339 instant
	EndDate           string // the last day with access, or the instant at which it ends
	EffectiveDate     string
	PersonKey         string // HR's own number of the human being, which joins employments
	Attributes        map[string]string
}

// Clone returns a record that shares nothing with r.
func (r Record) Clone() Record {
	r.Attributes = maps.Clone(r.Attributes)
	return r
}

// attributePrefix is what names of own attributes begin with where fields are named.
const attributePrefix = "attributes."

// FieldNames are the names of a record's fields other than attributes, in the order of the generic form.
func FieldNames() []string {
	return []string{
		"external_id", "status", "given_name", "family_name", "email", "department", "title", "manager_external_id",
		"employment_type", "company", "location", "time_zone", "start_date", "end_date", "effective_date", "person_key",
	}
}

// field is the place of a named field other than attributes; nil: there is none of that name.
func (r *Record) field(name string) *string {
	switch name {
	case "external_id":
		return &r.ExternalID
	case "status":
		return &r.Status
	case "given_name":
		return &r.GivenName
	case "family_name":
		return &r.FamilyName
	case "email":
		return &r.Email
	case "department":
		return &r.Department
	case "title":
		return &r.Title
	case "manager_external_id":
		return &r.ManagerExternalID
	case "employment_type":
		return &r.EmploymentType
	case "company":
		return &r.Company
	case "location":
		return &r.Location
	case "time_zone":
		return &r.TimeZone
	case "start_date":
		return &r.StartDate
	case "end_date":
		return &r.EndDate
	case "effective_date":
		return &r.EffectiveDate
	case "person_key":
		return &r.PersonKey
	}
	return nil
}

// Get returns the field of that name; attributes.<name> for an own attribute. False: there is no such field.
func (r *Record) Get(name string) (string, bool) {
	if own, ok := strings.CutPrefix(name, attributePrefix); ok {
		value, ok := r.Attributes[own]
		return value, ok
	}
	if f := r.field(name); f != nil {
		return *f, true
	}
	return "", false
}

// Set sets the field of that name; attributes.<name> for an own attribute, which an empty value removes. False: there is
// no field of that name. The attributes of a copy of r are not touched.
func (r *Record) Set(name, value string) bool {
	if own, ok := strings.CutPrefix(name, attributePrefix); ok {
		if own == "" {
			return false
		}
		*r = r.Clone()
		if value == "" {
			delete(r.Attributes, own)
			return true
		}
		if r.Attributes == nil {
			r.Attributes = make(map[string]string, 1)
		}
		r.Attributes[own] = value
		return true
	}
	f := r.field(name)
	if f == nil {
		return false
	}
	*f = value
	return true
}

// Change is one field with its values before and after.
type Change struct {
	Field    string // a name as Record.Get takes it, or "status"
	From, To string
}

// Changes lists what differs between two records, sorted by name. The status is not compared, because a record's status
// is what was said and not what holds; neither are effective_date and person_key, which say when and who, not what.
func Changes(from, to Record) []Change {
	var out []Change
	for _, name := range FieldNames() {
		if name == "status" || name == "effective_date" || name == "person_key" {
			continue
		}
		if a, b := *from.field(name), *to.field(name); a != b {
			out = append(out, Change{Field: name, From: a, To: b})
		}
	}
	for own, a := range from.Attributes {
		if b := to.Attributes[own]; a != b {
			out = append(out, Change{Field: attributePrefix + own, From: a, To: b})
		}
	}
	for own, b := range to.Attributes {
		if _, both := from.Attributes[own]; !both && b != "" {
			out = append(out, Change{Field: attributePrefix + own, To: b})
		}
	}
	slices.SortFunc(out, func(a, b Change) int { return strings.Compare(a.Field, b.Field) })
	return out
}
