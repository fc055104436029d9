package model

import (
	"fmt"

	"cel.dev/cel-go/common/types"
)

// Status of a person as rules see it.
const (
	StatusPending    = "pending"
	StatusActive     = "active"
	StatusOnLeave    = "on_leave"
	StatusTerminated = "terminated"
)

// Person is what rules can see of a person. Every field is always present; absent means empty. Rules cannot see
// the clock, and so the same person has the same access at any time.
type Person struct {
	ExternalID        string
	Status            string
	GivenName         string
	FamilyName        string
	Email             string
	Department        string
	Title             string
	ManagerExternalID string
	EmploymentType    string
	Company           string
	Location          string
	TimeZone          string
	StartDate         string // as the source wrote it
	EndDate           string // as the source wrote it
	UserName          string
	Attributes        map[string]string
}

// entitled says whether a person of this status can have any access at all, whatever the roles say.
func (p *Person) entitled() bool {
	return p.Status == StatusActive || p.Status == StatusOnLeave
}

// field is one text field of a person under its name in CEL.
type field struct {
	name string
	at   func(*Person) *string
}

// fields in the order of the documentation. attributes, the one field that is no text, is not among them.
var fields = []field{
	{"external_id", func(p *Person) *string { return &p.ExternalID }},
	{"status", func(p *Person) *string { return &p.Status }},
	{"given_name", func(p *Person) *string { return &p.GivenName }},
	{"family_name", func(p *Person) *string { return &p.FamilyName }},
	{"email", func(p *Person) *string { return &p.Email }},
	{"department", func(p *Person) *string { return &p.Department }},
	{"title", func(p *Person) *string { return &p.Title }},
	{"manager_external_id", func(p *Person) *string { return &p.ManagerExternalID }},
	{"employment_type", func(p *Person) *string { return &p.EmploymentType }},
	{"company", func(p *Person) *string { return &p.Company }},
	{"location", func(p *Person) *string { return &p.Location }},
	{"time_zone", func(p *Person) *string { return &p.TimeZone }},
	{"start_date", func(p *Person) *string { return &p.StartDate }},
	{"end_date", func(p *Person) *string { return &p.EndDate }},
	{"user_name", func(p *Person) *string { return &p.UserName }},
}

const attributesField = "attributes"

// fieldNamed returns the position in fields of the text field with this name, or -1.
func fieldNamed(name string) int {
	for i := range fields {
		if fields[i].name == name {
			return i
		}
	}
	return -1
}

// personType is the name of the type of the variable `person` in CEL.
const personType = "tenure.Person"

// personTypes tells CEL's checker and planner about Person, so that a field that does not exist is refused when
// the model is loaded and reading one costs no reflection.
type personTypes struct{ *types.Registry }

func (t personTypes) FindStructType(name string) (*types.Type, bool) {
	if name == personType {
		return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
	}
	return t.Registry.FindStructType(name)
}

func (t personTypes) FindStructFieldNames(name string) ([]string, bool) {
	if name != personType {
		return t.Registry.FindStructFieldNames(name)
	}
	names := make([]string, 0, len(fields)+1)
	for _, f := range fields {
		names = append(names, f.name)
	}
	return append(names, attributesField), true
}

func (t personTypes) FindStructFieldType(name, fieldName string) (*types.FieldType, bool) {
	if name != personType {
		return t.Registry.FindStructFieldType(name, fieldName)
	}
	present := func(any) bool { return true }
	if fieldName == attributesField {
		return &types.FieldType{
			Type:  types.NewMapType(types.StringType, types.StringType),
			IsSet: present,
			GetFrom: func(target any) (any, error) {
				p, ok := target.(*Person)
				if !ok {
					return nil, fmt.Errorf("not a person: %T", target)
				}
				return p.Attributes, nil
			},
		}, true
	}
	i := fieldNamed(fieldName)
	if i < 0 {
		return nil, false
	}
	at := fields[i].at
	return &types.FieldType{
		Type:  types.StringType,
		IsSet: present,
		GetFrom: func(target any) (any, error) {
			p, ok := target.(*Person)
			if !ok {
				return nil, fmt.Errorf("not a person: %T", target)
			}
			return *at(p), nil
		},
	}, true
}
