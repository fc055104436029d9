package main

import (
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	provisionv1 "github.com/tenurehq/tenure/proto/gen/tenure/provision/v1"
	"github.com/tenurehq/tenure/services/provision/plan"
)

// clock says how long somebody could get in after from, or after it was known where that came later; "" for who has not
// left. Where the application lets them in still, it counts until now.
func clock(t *provisionv1.Target, known *timestamppb.Timestamp, now time.Time) string {
	if t.GetEndedAt() == nil {
		return ""
	}
	if cut := t.GetCutOffAt(); cut != nil {
		return took(plan.Since(t.GetEndedAt().AsTime(), moment(known), cut.AsTime()))
	}
	return took(plan.Since(t.GetEndedAt().AsTime(), moment(known), now)) + " so far"
}

// moment is a time that may be unset.
func moment(ts *timestamppb.Timestamp) time.Time {
	if ts == nil {
		return time.Time{}
	}
	return ts.AsTime()
}

// accountState is what the application showed of a person's account when it was read last.
func accountState(t *provisionv1.Target) string {
	switch a := t.GetObserved(); {
	case t.GetObservedAt() == nil:
		return "not read yet"
	case a == nil:
		return "none"
	case a.GetStatus() == connectorv1.AccountStatus_ACCOUNT_STATUS_UNSPECIFIED:
		return "unknown " + a.GetName()
	default:
		return short(a.GetStatus(), "ACCOUNT_STATUS_") + " " + a.GetName()
	}
}

// printAccounts shows a person's account in each application, and of a leaver how long it outlived its end.
func printAccounts(out *printer, targets []*provisionv1.Target, now time.Time) error {
	if len(targets) == 0 {
		return nil
	}
	out.line("")
	rows := make([][]string, 0, len(targets))
	for _, t := range targets {
		cut := when(t.GetCutOffAt())
		if cut == "" && t.GetEndedAt() != nil {
			cut = "not yet"
		}
		rows = append(rows, []string{
			t.GetApplication(), accountState(t), short(t.GetState(), "TARGET_STATE_"), when(t.GetEndedAt()), when(t.GetEndKnownAt()), cut,
			clock(t, nil, now), clock(t, t.GetEndKnownAt(), now),
		})
	}
	return out.table([]string{"APPLICATION", "ACCOUNT", "STATE", "ENDED", "KNOWN", "CUT OFF", "AFTER THE END", "AFTER IT WAS KNOWN"}, rows)
}

// personDocument is the person as JSON, with accounts beside the person's own fields.
func personDocument(p *peoplev1.Person, targets []*provisionv1.Target) ([]byte, error) {
	raw, err := marshal(p)
	if err != nil {
		return nil, err
	}
	doc := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("write json: %w", err)
	}
	accounts := make([]map[string]json.RawMessage, 0, len(targets))
	for _, t := range targets {
		if raw, err = marshal(t); err != nil {
			return nil, err
		}
		account := map[string]json.RawMessage{}
		if err := json.Unmarshal(raw, &account); err != nil {
			return nil, fmt.Errorf("write json: %w", err)
		}
		if cut := t.GetCutOffAt(); cut != nil {
			ended, known := moment(t.GetEndedAt()), moment(t.GetEndKnownAt())
			account["effective_seconds"] = seconds(plan.Since(ended, time.Time{}, cut.AsTime()))
			account["known_seconds"] = seconds(plan.Since(ended, known, cut.AsTime()))
		}
		accounts = append(accounts, account)
	}
	if doc["accounts"], err = json.Marshal(accounts); err != nil {
		return nil, fmt.Errorf("write json: %w", err)
	}
	if raw, err = json.Marshal(doc); err != nil {
		return nil, fmt.Errorf("write json: %w", err)
	}
	return raw, nil
}

func seconds(d time.Duration) json.RawMessage { return fmt.Appendf(nil, "%.6f", d.Seconds()) }
