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
		PersonKey:         r.PersonKey,
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
		PersonKey:         r.GetPersonKey(),
		Attributes:        r.GetAttributes(),
	}
}

// Employment is where an employment stands as a message.
func Employment(s timeline.Standing) *peoplev1.Employment {
	return &peoplev1.Employment{
		Source:     s.Employment.Source,
		ExternalId: s.Employment.ExternalID,
		Status:     peoplev1.PersonStatus(s.Status),
		Record:     Record(s.Record),
		StartedAt:  Time(s.StartedAt),
		EndedAt:    Time(s.EndedAt),
	}
}

// ToStanding is the inverse of Employment.
func ToStanding(e *peoplev1.Employment) timeline.Standing {
	return timeline.Standing{
		Employment: timeline.Employment{Source: e.GetSource(), ExternalID: e.GetExternalId()},
		Status:     timeline.Status(e.GetStatus()), //nolint:gosec // one of five
		Record:     ToRecord(e.GetRecord()),
		StartedAt:  ToTime(e.GetStartedAt()),
		EndedAt:    ToTime(e.GetEndedAt()),
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
