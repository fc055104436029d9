package policy

import (
	"context"
	"encoding/hex"
	"slices"

	"github.com/tenurehq/tenure/pkg/fault"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	"github.com/tenurehq/tenure/services/policy/decide"
	"github.com/tenurehq/tenure/services/policy/internal/store"
	"github.com/tenurehq/tenure/services/policy/model"
)

// Explain says what is desired, what every role that can give it says of the person now, and how it came about.
func (s *Service) Explain(ctx context.Context, request *accessv1.ExplainRequest) (*accessv1.ExplainResponse, error) {
	id := request.GetPersonId()
	ref := model.Ref{Application: request.GetApplication(), Entitlement: request.GetEntitlement()}
	if _, ok := s.application(ref.Application); !ok {
		return nil, noSuchApplication(ref.Application)
	}
	rules, err := s.rules(ctx)
	if err != nil {
		return nil, err
	}
	if rules == nil {
		return nil, errNoModel()
	}
	people, err := s.getPeople(ctx, []string{id})
	if err != nil {
		return nil, err
	}
	person, ok := people[id]
	if !ok {
		return nil, fault.New(fault.NotFound, "no person %s", id)
	}
	found, err := s.store.InApplication(ctx, ref.Application, []string{id})
	if err != nil {
		return nil, err
	}
	past, err := s.store.History(ctx, id)
	if err != nil {
		return nil, err
	}
	digest := rules.Model.Digest()
	response := &accessv1.ExplainResponse{History: decisionsAbout(past, ref), ModelSha256: hex.EncodeToString(digest[:])}
	var desired decide.Access
	if len(found) > 0 {
		response.Desired, desired = desiredToProto(found[0]), found[0].Access
	}
	response.Wanted = desired.State != decide.None &&
		(ref.Entitlement == "" || slices.Contains(desired.Entitlements, ref.Entitlement))
	response.Verdicts = verdicts(rules.Model, append(othersOf(person), personOf(person)), ref, desired)
	return response, nil
}

func errNoModel() error {
	return fault.New(fault.Refused, "no role model is applied yet: nothing is desired")
}

// verdicts tells of a role that errs whether what it gave before is kept.
func verdicts(m *model.Model, employments []*model.Person, ref model.Ref, desired decide.Access) []*accessv1.RoleVerdict {
	var all []*accessv1.RoleVerdict
	for _, v := range explained(m, employments, ref) {
		reason := decide.Reason{Entitlement: v.Entitlement, Role: v.Role, Bindings: v.Bindings}
		verdict := &accessv1.RoleVerdict{Member: v.Member, Failed: v.Failed}
		if v.Error != nil {
			verdict.Error = v.Error.Message
			reason.Standing = slices.ContainsFunc(desired.Reasons, func(r decide.Reason) bool {
				return r.Role == v.Role && r.Standing && (ref.Entitlement == "" || r.Entitlement == ref.Entitlement)
			})
		}
		verdict.Reason = reasonToProto(m, reason)
		all = append(all, verdict)
	}
	return all
}

// explained is what each role says of a person: of the employment that it gives something for, if there is one, else of
// the last, which counts most.
func explained(m *model.Model, employments []*model.Person, ref model.Ref) []model.Verdict {
	last := len(employments) - 1
	verdicts := m.Explain(employments[last], ref)
	for _, e := range employments[:last] {
		for _, v := range m.Explain(e, ref) {
			if !v.Member {
				continue
			}
			same := func(w model.Verdict) bool {
				return w.Role == v.Role && (!w.Member || slices.Equal(w.Bindings, v.Bindings))
			}
			if i := slices.IndexFunc(verdicts, same); i < 0 {
				verdicts = append(verdicts, v)
			} else if !verdicts[i].Member {
				verdicts[i] = v
			}
		}
	}
	return verdicts
}

// decisionsAbout returns the decisions that touched the account or the entitlement, newest first.
func decisionsAbout(past []store.Past, ref model.Ref) []*accessv1.Decision {
	var all []*accessv1.Decision
	var before decide.Access
	for _, p := range past {
		for _, change := range p.Changes {
			if change.Application != ref.Application {
				continue
			}
			after := change.Access
			d := &accessv1.Decision{
				Decision:       unsigned(p.N),
				PersonVersion:  unsigned(p.Basis.PersonVersion),
				ModelSeq:       unsigned(p.Basis.ModelSeq),
				TriggerEventId: p.Trigger,
				AccessEventId:  change.EventID,
				Generation:     unsigned(change.Generation),
				At:             timestamp(p.At),
				Added:          decide.Without(after.Entitlements, before.Entitlements),
				Removed:        decide.Without(before.Entitlements, after.Entitlements),
				State:          stateToProto(after.State),
			}
			if touches(d, ref, before, after) {
				all = append(all, d)
			}
			before = after
		}
	}
	slices.Reverse(all)
	return all
}

// touches says whether a decision is about an entitlement: it came, it went, or the account that has it changed state.
func touches(d *accessv1.Decision, ref model.Ref, before, after decide.Access) bool {
	return ref.Entitlement == "" ||
		slices.Contains(d.GetAdded(), ref.Entitlement) || slices.Contains(d.GetRemoved(), ref.Entitlement) ||
		(before.State != after.State && slices.Contains(after.Entitlements, ref.Entitlement))
}
