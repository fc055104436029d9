package worker

import (
	"context"
	"slices"

	"go.uber.org/zap"

	"github.com/tenurehq/tenure/pkg/telemetry"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/provision/plan"
)

// permit asks policy for a release of what the plan would take away and no decision ordered, and plans again with the
// answer. So what one application shows of everybody, rightly or not, comes under the brake as everything else does.
// Policy is told as well when nothing of it is asked for any more.
func (k *task) permit(ctx context.Context) {
	unordered := k.plan.Unordered
	if len(unordered) == 0 && (!k.asked || slices.ContainsFunc(k.plan.Steps, k.d.Permission.Covers)) {
		return
	}
	request := &accessv1.ReleaseRequest{Application: k.cfg.Application, PersonId: k.d.Person, Generation: k.d.Generation}
	for _, s := range unordered {
		request.Steps = append(request.Steps, &accessv1.UnorderedStep{Op: eventv1.Op(s.Op), Target: s.Target}) //nolint:gosec // the numbers are the same
	}
	response, err := k.release(ctx, request)
	if err != nil {
		k.log.Warn("policy does not say whether something may be taken away", zap.String(telemetry.FieldPerson, k.d.Person), zap.Error(err))
		if p := k.plan.Problem; p != nil && p.Reason == plan.ReasonNoRelease {
			k.plan.Problem = &plan.Problem{Code: CodeName(connectorv1.Code_CODE_INCONSISTENT), Reason: reasonPolicySilent}
		}
		return
	}
	k.hold = response.GetHold()
	switch {
	case len(unordered) == 0:
		k.asked = false
	case response.GetRelease() == "":
		k.asked = true
	default:
		k.d.Permission = plan.Permission{Release: response.GetRelease(), Steps: unordered}
		k.in.Desired = k.d
		k.make(ctx)
	}
}

func (k *task) release(ctx context.Context, request *accessv1.ReleaseRequest) (*accessv1.ReleaseResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, k.cfg.Timing.Request)
	defer cancel()
	return k.deps.Access.Release(ctx, request)
}
