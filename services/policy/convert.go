package policy

import (
	"math"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/policy/decide"
	"github.com/tenurehq/tenure/services/policy/internal/store"
	"github.com/tenurehq/tenure/services/policy/model"
)

// signed and unsigned change the type of a counter, which is never near the limit of either.
func signed(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

func unsigned(n int64) uint64 { return uint64(max(n, 0)) }

func count(n int) uint32 { return uint32(min(max(n, 0), math.MaxInt32)) }

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func stateToProto(s decide.State) eventv1.AccessState {
	switch s {
	case decide.Enabled:
		return eventv1.AccessState_ACCESS_STATE_ENABLED
	case decide.Disabled:
		return eventv1.AccessState_ACCESS_STATE_DISABLED
	case decide.None:
	}
	return eventv1.AccessState_ACCESS_STATE_NONE
}

// personOf is a person as rules see them: by the employment that counts most.
func personOf(p *peoplev1.Person) *model.Person {
	return employmentAs(p, p.GetStatus(), p.GetRecord())
}

// othersOf are a person's further employments that run, as rules see them.
func othersOf(p *peoplev1.Person) []*model.Person {
	if len(p.GetEmployments()) < 2 {
		return nil
	}
	var others []*model.Person
	for _, e := range p.GetEmployments()[1:] {
		if runs(e.GetStatus()) {
			others = append(others, employmentAs(p, e.GetStatus(), e.GetRecord()))
		}
	}
	return others
}

func employmentAs(p *peoplev1.Person, status peoplev1.PersonStatus, r *peoplev1.Record) *model.Person {
	return &model.Person{
		ExternalID:        r.GetExternalId(),
		Status:            statusOf(status),
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
		UserName:          p.GetUserName(),
		Attributes:        r.GetAttributes(),
	}
}

// statusOf is what the timeline says of the person, never what a record says: its dates may lie in the future.
func statusOf(s peoplev1.PersonStatus) string {
	switch s {
	case peoplev1.PersonStatus_PERSON_STATUS_PENDING:
		return model.StatusPending
	case peoplev1.PersonStatus_PERSON_STATUS_ACTIVE:
		return model.StatusActive
	case peoplev1.PersonStatus_PERSON_STATUS_ON_LEAVE:
		return model.StatusOnLeave
	case peoplev1.PersonStatus_PERSON_STATUS_TERMINATED:
		return model.StatusTerminated
	case peoplev1.PersonStatus_PERSON_STATUS_UNSPECIFIED:
	}
	return ""
}

// desiredToProto bears the numbers of the last decision about the person: it confirmed what the generation says, from
// that version of the person.
func desiredToProto(d store.Desired) *accessv1.Desired {
	return &accessv1.Desired{
		PersonId:      d.Person,
		Application:   d.Application,
		Generation:    unsigned(d.Generation),
		Decision:      unsigned(d.Decided.N),
		PersonVersion: unsigned(d.Decided.PersonVersion),
		ModelSeq:      unsigned(d.Decided.ModelSeq),
		State:         stateToProto(d.Access.State),
		Entitlements:  d.Access.Entitlements,
		Account:       d.Access.Account,
		Release:       d.Release,
		Lane:          d.Lane,
		DecidedAt:     timestamp(d.DecidedAt),
		EventId:       d.EventID,
		CorrelationId: d.CorrelationID,
		Since:         timestamp(d.Since),
		EndedAt:       timestamp(d.Decided.EndedAt),
		EndKnownAt:    timestamp(d.Decided.KnownAt),
		Employment:    unsigned(d.Decided.Run),
	}
}

// reasonToProto adds where the role stands in the model; a role that is gone has no place.
func reasonToProto(m *model.Model, r decide.Reason) *accessv1.Reason {
	reason := &accessv1.Reason{
		Entitlement: r.Entitlement, Role: r.Role, Bindings: r.Bindings, Standing: r.Standing,
	}
	if m == nil {
		return reason
	}
	if role, ok := m.Role(r.Role); ok {
		reason.Rule, reason.File, reason.Line = role.Members, role.File, count(role.Line)
	}
	return reason
}

func errorsToProto(errs []model.RuleError) []*accessv1.RuleError {
	var all []*accessv1.RuleError
	for _, e := range errs {
		all = append(all, &accessv1.RuleError{Role: e.Role, Code: e.Code, Message: e.Message})
	}
	return all
}

func filesFromProto(files []*accessv1.ModelFile) []model.File {
	all := make([]model.File, len(files))
	for i, f := range files {
		all[i] = model.File{Name: f.GetName(), Content: f.GetContent()}
	}
	return all
}

func refsToProto(refs []model.Ref) []*accessv1.EntitlementRef {
	var all []*accessv1.EntitlementRef
	for _, r := range refs {
		all = append(all, &accessv1.EntitlementRef{Application: r.Application, Entitlement: r.Entitlement})
	}
	return all
}
