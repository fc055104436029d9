package worker

import (
	"strings"
	"testing"

	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/provision/plan"
)

// TestNumbersAreTheContracts: the plan's enumerations are converted by their numbers.
func TestNumbersAreTheContracts(t *testing.T) {
	t.Parallel()
	for number, name := range eventv1.Op_name {
		if want := strings.TrimPrefix(name, "OP_"); number != 0 && plan.Op(number).String() != want {
			t.Errorf("operation %d is %s, want %s", number, plan.Op(number), want)
		}
	}
	for name, pair := range map[string][2]int32{
		"none":           {int32(plan.None), int32(eventv1.AccessState_ACCESS_STATE_NONE)},
		"disabled":       {int32(plan.Disabled), int32(eventv1.AccessState_ACCESS_STATE_DISABLED)},
		"enabled":        {int32(plan.Enabled), int32(eventv1.AccessState_ACCESS_STATE_ENABLED)},
		"status on":      {int32(plan.StatusEnabled), int32(connectorv1.AccountStatus_ACCOUNT_STATUS_ENABLED)},
		"status off":     {int32(plan.StatusDisabled), int32(connectorv1.AccountStatus_ACCOUNT_STATUS_DISABLED)},
		"changed":        {int32(plan.Changed), int32(connectorv1.Outcome_OUTCOME_CHANGED)},
		"unchanged":      {int32(plan.Unchanged), int32(connectorv1.Outcome_OUTCOME_UNCHANGED)},
		"failed":         {int32(plan.Failed), int32(connectorv1.Outcome_OUTCOME_FAILED)},
		"unknown":        {int32(plan.Unknown), int32(connectorv1.Outcome_OUTCOME_UNKNOWN)},
		"pending":        {int32(plan.Pending), int32(connectorv1.Outcome_OUTCOME_PENDING)},
		"not attempted":  {int32(plan.NotAttempted), int32(connectorv1.Outcome_OUTCOME_NOT_ATTEMPTED)},
		"no result":      {int32(plan.NoResult), int32(connectorv1.Outcome_OUTCOME_UNSPECIFIED)},
		"unknown status": {int32(plan.StatusUnknown), int32(connectorv1.AccountStatus_ACCOUNT_STATUS_UNSPECIFIED)},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %d here and %d on the wire", name, pair[0], pair[1])
		}
	}
}

func TestTheApplicationsWordsAreMadeFitToKeep(t *testing.T) {
	t.Parallel()
	got := text("a\x00b\nc\xffd" + strings.Repeat("é", 1000))
	if len(got) > maxText || strings.ContainsAny(got, "\x00\n") || !strings.HasPrefix(got, "a b c d") {
		t.Errorf("kept as %q", got)
	}
	if !strings.HasSuffix(got, "é") {
		t.Error("cut in the middle of a character")
	}
}

func TestALyingAnswerIsNoAnswer(t *testing.T) {
	t.Parallel()
	ann := &connectorv1.Account{Id: "1", Name: "Ann", Marker: "tenure:ann", CorrelationKey: "ann@acme.example"}
	for name, c := range map[string]struct {
		req *connectorv1.ReadRequest
		lie bool
	}{
		"id":             {&connectorv1.ReadRequest{By: &connectorv1.ReadRequest_AccountId{AccountId: "1"}}, false},
		"another id":     {&connectorv1.ReadRequest{By: &connectorv1.ReadRequest_AccountId{AccountId: "2"}}, true},
		"marker":         {&connectorv1.ReadRequest{By: &connectorv1.ReadRequest_Marker{Marker: "tenure:ann"}}, false},
		"another marker": {&connectorv1.ReadRequest{By: &connectorv1.ReadRequest_Marker{Marker: "tenure:bob"}}, true},
		"name folded":    {&connectorv1.ReadRequest{By: &connectorv1.ReadRequest_Name{Name: "ann"}}, false},
		"another name":   {&connectorv1.ReadRequest{By: &connectorv1.ReadRequest_Name{Name: "bob"}}, true},
		"another key":    {&connectorv1.ReadRequest{By: &connectorv1.ReadRequest_CorrelationKey{CorrelationKey: "bob@acme.example"}}, true},
	} {
		lie := wrongAnswer(c.req, &connectorv1.ReadResponse{Accounts: []*connectorv1.Account{ann}})
		if (lie != "") != c.lie {
			t.Errorf("asked by %s, the answer counts as %q", name, lie)
		}
	}
}
