package timeline_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/services/ingest/timeline"
)

func TestEveryFieldCanBeSetAndReadByName(t *testing.T) {
	t.Parallel()
	var r timeline.Record
	for _, name := range append(timeline.FieldNames(), "attributes.cost_center") {
		if !r.Set(name, "v-"+name) {
			t.Errorf("no field %s", name)
		}
		if got, ok := r.Get(name); !ok || got != "v-"+name {
			t.Errorf("%s is %q after it was set", name, got)
		}
	}
	for _, name := range []string{"", "salary", "attributes", "attributes."} {
		if r.Set(name, "x") {
			t.Errorf("%q was set, want no such field", name)
		}
	}
}

func TestSettingAnAttributeOfACopyLeavesTheOriginal(t *testing.T) {
	t.Parallel()
	r := timeline.Record{Attributes: map[string]string{"a": "1"}}
	c := r
	c.Set("attributes.a", "2")
	c.Set("attributes.b", "3")
	if diff := cmp.Diff(map[string]string{"a": "1"}, r.Attributes); diff != "" {
		t.Errorf("original changed:\n%s", diff)
	}
	c.Set("attributes.a", "")
	if diff := cmp.Diff(map[string]string{"b": "3"}, c.Attributes); diff != "" {
		t.Errorf("an empty value must remove the attribute:\n%s", diff)
	}
}

func TestChangesAreSortedByNameAndLeaveOutWhatOnlySaysWhen(t *testing.T) {
	t.Parallel()
	from := timeline.Record{Status: "active", Title: "a", EffectiveDate: "2026-01-01", Attributes: map[string]string{"gone": "1", "same": "2", "empty": ""}}
	to := timeline.Record{Status: "on_leave", Title: "b", Department: "d", EffectiveDate: "2026-02-01", Attributes: map[string]string{"same": "2", "new": "3"}}
	want := []timeline.Change{
		{Field: "attributes.gone", From: "1"},
		{Field: "attributes.new", To: "3"},
		{Field: "department", To: "d"},
		{Field: "title", From: "a", To: "b"},
	}
	if diff := cmp.Diff(want, timeline.Changes(from, to)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func TestOnlyTheGreatestFactOfAnInstantIsNotSuperseded(t *testing.T) {
	t.Parallel()
	facts := timeline.Ordered([]timeline.Fact{
		{Key: "c", Effective: day0}, {Key: "a", Effective: day0}, {Key: "b", Effective: day0.AddDate(0, 0, 1)}, {Key: "a", Effective: day0},
	})
	if diff := cmp.Diff([]bool{true, false, false}, timeline.Superseded(facts)); diff != "" {
		t.Errorf("superseded (-want +got):\n%s", diff)
	}
}
