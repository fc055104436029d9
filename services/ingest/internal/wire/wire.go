// Package wire turns the timeline's structs into messages of tenure.people.v1 and back, for the store and for the
// service's edge. It loses nothing either way, except the difference between no attributes and an empty set of them.
package wire

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/ingest/timeline"
)

// Record is r as a message. It shares r's attributes.
func Record(r timeline.Record) *peoplev1.Record {
	return &peoplev1.Record{
		ExternalId:        r.ExternalID,
		Status:            r.Status,
		GivenName:         r.GivenName,
		FamilyName:        r.FamilyName,
		Email:             r.Email,
		Department:        r.Department,
		Title:             r.Title,
		ManagerExternalId: r.ManagerExternalID,
		EmploymentType:    r.EmploymentType,
		Company:           r.Company,
		Location:          r.Location,
		TimeZone:          r.TimeZone,
		StartDate:         r.StartDate,
		EndDate:           r.EndDate,
		EffectiveDate:     r.EffectiveDate,
		Attributes:        r.Attributes,
	}
}

// ToRecord is the inverse of Record.
func ToRecord(r *peoplev1.Record) timeline.Record {
	return timeline.Record{
		ExternalID:        r.GetExternalId(),
		Status:            r.GetStatus(),
		GivenName:         r.GetGivenName(),
		FamilyName:        r.GetFamilyName(),
		Email:             r.GetEmail(),
		Department:        r.GetDepartment(),
		Title:             r.GetTitle(),
		ManagerExternalID: r.GetManagerExternalId(),
		EmploymentType:    r.GetEmploymentType(),
		Company:           r.GetCompany(),
		Location:          r.GetLocation(),
		TimeZone:          r.GetTimeZone(),
		StartDate:         r.GetStartDate(),
		EndDate:           r.GetEndDate(),
		EffectiveDate:     r.GetEffectiveDate(),
		Attributes:        r.GetAttributes(),
	}
}

// Time is t as a message; the zero time is none.
func Time(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// ToTime is the inverse of Time.
func ToTime(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
