package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	provisionv1 "github.com/tenurehq/tenure/proto/gen/tenure/provision/v1"
)

func TestBothClocksOfALeaverAreShownForEachApplication(t *testing.T) {
	t.Parallel()
	at := func(minutes int) *timestamppb.Timestamp {
		return timestamppb.New(time.Date(2026, 11, 22, 10, minutes, 0, 0, time.UTC))
	}
	account := func(status connectorv1.AccountStatus) *connectorv1.Account {
		return &connectorv1.Account{Name: "alee", Status: status}
	}
	const enabled, disabled = connectorv1.AccountStatus_ACCOUNT_STATUS_ENABLED, connectorv1.AccountStatus_ACCOUNT_STATUS_DISABLED
	targets := []*provisionv1.Target{
		{Application: "backdated", ObservedAt: at(31), Observed: account(disabled), EndedAt: at(0), EndKnownAt: at(30), CutOffAt: at(31)},
		{Application: "cut-before", ObservedAt: at(1), EndedAt: at(10), EndKnownAt: at(5), CutOffAt: at(1)},
		{Application: "employed", ObservedAt: at(1), Observed: account(enabled)},
		{Application: "open", ObservedAt: at(1), Observed: account(enabled), EndedAt: at(10), EndKnownAt: at(20)},
		{Application: "scheduled", ObservedAt: at(12), Observed: account(disabled), EndedAt: at(10), EndKnownAt: at(0), CutOffAt: at(12)},
	}
	var text bytes.Buffer
	if err := printAccounts(&printer{w: &text}, targets, at(40).AsTime()); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, line := range strings.Split(text.String(), "\n")[2:] {
		if columns := strings.FieldsFunc(strings.ReplaceAll(line, "  ", "\t"), func(r rune) bool { return r == '\t' }); len(columns) > 0 {
			got[columns[0]] = strings.TrimSpace(columns[len(columns)-2]) + " / " + strings.TrimSpace(columns[len(columns)-1])
		}
	}
	want := map[string]string{
		"backdated":  "31m0s / 1m0s",
		"cut-before": "0s / 0s", // never negative
		"employed":   "- / -",
		"open":       "30m0s so far / 20m0s so far",
		"scheduled":  "2m0s / 2m0s", // known before: it counts from the end
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after the end / after it was known (-want +got):\n%s\n%s", diff, text.String())
	}

	raw, err := personDocument(&peoplev1.Person{Id: "p"}, targets)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		ID       string
		Accounts []struct {
			Application      string
			EffectiveSeconds *float64 `json:"effective_seconds"`
			KnownSeconds     *float64 `json:"known_seconds"`
		}
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.ID != "p" || len(doc.Accounts) != len(targets) || *doc.Accounts[0].EffectiveSeconds != 1860 || *doc.Accounts[0].KnownSeconds != 60 ||
		doc.Accounts[3].KnownSeconds != nil {
		t.Errorf("as JSON: %s", raw)
	}
}
