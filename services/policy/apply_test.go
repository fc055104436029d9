package policy_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/tenurehq/tenure/pkg/fault"
	accessv1 "github.com/tenurehq/tenure/proto/gen/tenure/access/v1"
	"github.com/tenurehq/tenure/services/policy"
)

func TestAModelIsAppliedOnlyAfterTheOneItWasComparedWith(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s := w.service()
		applied := w.apply(s, company)
		if applied.GetModelSeq() != 1 || applied.GetUnchanged() {
			t.Errorf("first: %v", applied)
		}
		same, err := s.ApplyModel(w.admin(), &accessv1.ApplyModelRequest{Files: files(company)})
		if err != nil || !same.GetUnchanged() || same.GetModelSeq() != 1 {
			t.Errorf("the same again: %v, %v", same, err)
		}
		other := strings.ReplaceAll(company, "researcher", "scientist")
		for _, base := range []uint64{0, 2} {
			_, err := s.ApplyModel(w.admin(), &accessv1.ApplyModelRequest{Files: files(other), BaseSeq: base})
			if fault.KindOf(err) != fault.Conflict {
				t.Errorf("compared with model %d: %v, want a conflict", base, err)
			}
		}
		// Another replica has not heard of the first model from anybody but the database.
		next, err := w.service().ApplyModel(w.admin(), &accessv1.ApplyModelRequest{Files: files(other), BaseSeq: 1})
		if err != nil || next.GetModelSeq() != 2 {
			t.Fatalf("compared with the one that holds: %v, %v", next, err)
		}
		shown, err := s.ShowModel(w.admin(), &accessv1.ShowModelRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if shown.GetModelSeq() != 2 || shown.GetAppliedBy() != "operator:ada" || shown.GetAppliedAt() == nil ||
			string(shown.GetFiles()[0].GetContent()) != other {
			t.Errorf("shown: %v", shown)
		}
	})
}

func TestAModelThatIsWrongNeverReplacesTheRunningOne(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s := w.service()
		w.apply(s, company)
		for name, c := range map[string]struct{ model, want string }{
			"wrong in two places": {
				"roles:\n  - {name: a, members: person.nme == \"\", grants: [{app: nowhere}]}\n",
				"roles.yaml:2:roles[0].members: column 7 of the expression: undefined field 'nme'\n" +
					`roles.yaml:2:roles[0].grants[0].app: unknown application "nowhere"; configured are code, warehouse, wiki`,
			},
			"failing tests": {
				"roles:\n  - {name: a, members: \"true\", grants: [{app: wiki}]}\ntests:\n  - given: {}\n    expect: {code: []}\n",
				"the model's own tests fail:\nroles.yaml:4:tests[0]: does not have an account in code\n" +
					"roles.yaml:4:tests[0]: has an account in wiki, which is not expected",
			},
			"no files": {"", "no role in any file"},
		} {
			_, err := s.ApplyModel(w.admin(), &accessv1.ApplyModelRequest{Files: files(c.model), BaseSeq: 1})
			if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v\nwant Invalid with:\n%s", name, err, c.want)
			}
		}
		ann := person(active, "d008")
		w.people.put(ann)
		if err := s.Decide(t.Context(), ann.GetId()); err != nil {
			t.Fatal(err)
		}
		if got := w.show(s, ann.GetId()); got["wiki"] != "[staff]" || got["warehouse"] != "[readonly]" {
			t.Errorf("by the running model: %v", got)
		}
	})
}

func TestADiffSaysWhoWouldGainAndLoseWhatAndChangesNothing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s := w.service()
		ann, bob, eve, kim := person(active, "d005"), person(active, "d008"), person(terminated, "d005"), person(active, "d004")
		ann.UserName, bob.UserName, eve.UserName, kim.UserName = "ann", "bob", "eve", "kim"
		w.people.put(ann)
		w.people.put(bob)
		w.people.put(eve)
		w.people.put(kim)

		first := diff(t, s, company)
		last := first[len(first)-1]
		if !last.GetDone() || last.GetGaining() != 3 || last.GetLosing() != 0 || last.GetBaseSeq() != 0 || last.GetPeopleDone() != 4 {
			t.Errorf("against no model: %v", last)
		}
		w.apply(s, company)
		proposed := strings.NewReplacer(
			"[{app: code, entitlement: developers}, {app: warehouse, entitlement: readonly}]", "[{app: code, entitlement: maintainers}]",
			`- given: {department: d005}
    expect: {wiki: [staff], code: [developers], warehouse: [readonly]}`, "- given: {}\n    expect: {}",
			`person.department == "d008"`, `person.department == "d008" || person.attributes["lab"] == "yes"`,
		).Replace(company)
		sent := diff(t, s, proposed)
		last = sent[len(sent)-1]
		if last.GetGaining() != 1 || last.GetLosing() != 1 || last.GetBaseSeq() != 1 || len(last.GetSha256()) != 32 {
			t.Errorf("summary: %v", last)
		}
		want := []*accessv1.PersonDiff{{
			PersonId: ann.GetId(), UserName: "ann",
			Gains: []*accessv1.EntitlementRef{{Application: "code", Entitlement: "maintainers"}},
			Loses: []*accessv1.EntitlementRef{
				{Application: "code", Entitlement: "developers"}, {Application: "warehouse"}, {Application: "warehouse", Entitlement: "readonly"},
			},
		}}
		if diff := cmp.Diff(want, sent[0].GetDiffs(), protocmp.Transform()); diff != "" {
			t.Errorf("diffs (-want +got):\n%s", diff)
		}
		warnings := strings.Join(last.GetWarnings(), "\n")
		for _, want := range []string{
			"role researcher cannot be decided for 2 people", "maintainers of code is not in the catalogue: unclassified",
			"test failed: roles.yaml:14:tests[0]: has an account in wiki, which is not expected",
		} {
			if !strings.Contains(warnings, want) {
				t.Errorf("warnings:\n%s\nwant one with: %s", warnings, want)
			}
		}
		if shown, err := s.ShowModel(w.admin(), &accessv1.ShowModelRequest{}); err != nil || shown.GetModelSeq() != 1 {
			t.Errorf("a diff changed the model: %v, %v", shown, err)
		}
	})
}

func diff(t *testing.T, s *policy.Service, text string) []*accessv1.DiffModelResponse {
	t.Helper()
	sent := &stream[accessv1.DiffModelResponse]{ctx: t.Context()}
	if err := s.DiffModel(&accessv1.DiffModelRequest{Files: files(text)}, sent); err != nil {
		t.Fatal(err)
	}
	return sent.sent
}

func TestANewModelIsCarriedOutInTheBackgroundAlsoAfterAStop(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s := w.service()
		w.apply(s, company)
		var ids []string
		for range 450 {
			ids = append(ids, w.people.put(person(active, "d005")).GetId())
		}
		if err := s.Compare(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.apply(s, strings.ReplaceAll(strings.ReplaceAll(company, "entitlement: developers", "entitlement: hackers"), "[developers]", "[hackers]"))
		// The process dies after the first third.
		if err := s.Decide(t.Context(), ids[:150]...); err != nil {
			t.Fatal(err)
		}
		next := w.service()
		stop := background(t, next.Run)
		until(t, "everybody is decided about by the new model", func() bool {
			got, err := next.GetDesired(t.Context(), &accessv1.GetDesiredRequest{Application: "code", PersonIds: ids})
			if err != nil {
				return false
			}
			for _, d := range got.GetDesired() {
				if d.GetModelSeq() != 2 || d.GetEntitlements()[0] != "hackers" {
					return false
				}
			}
			return len(got.GetDesired()) == len(ids)
		})
		stop()
		got, err := next.GetDesired(t.Context(), &accessv1.GetDesiredRequest{Application: "wiki", PersonIds: ids})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range got.GetDesired() {
			if d.GetGeneration() != 1 {
				t.Errorf("the wiki of %s has generation %d, and nothing changed there", d.GetPersonId(), d.GetGeneration())
			}
			if d.GetDecision() != 2 {
				t.Errorf("%d decisions about %s, want one for each model", d.GetDecision(), d.GetPersonId())
			}
		}
	})
}

func TestAnApplyWithoutIngestIsRefusedForNow(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		s := w.service()
		w.people.leave(true)
		if _, err := s.ApplyModel(w.admin(), &accessv1.ApplyModelRequest{Files: files(company)}); err == nil {
			t.Error("applied without knowing whom it concerns")
		}
		if err := s.Ready(context.WithoutCancel(t.Context())); err == nil {
			t.Error("a model was applied all the same")
		}
	})
}
