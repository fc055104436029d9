package wire_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/services/ingest/internal/wire"
	"github.com/tenurehq/tenure/services/ingest/timeline"
)

func TestEveryFieldOfARecordSurvives(t *testing.T) {
	t.Parallel()
	record := timeline.Record{Attributes: map[string]string{"cost_center": "4711"}}
	fields := reflect.ValueOf(&record).Elem()
	for i := range fields.NumField() {
		if fields.Field(i).Kind() == reflect.String {
			fields.Field(i).SetString(fmt.Sprint("value ", i))
		}
	}
	if diff := cmp.Diff(record, wire.ToRecord(wire.Record(record))); diff != "" {
		t.Errorf("there and back (-want +got):\n%s", diff)
	}
	message := wire.Record(record).ProtoReflect()
	for i := range message.Descriptor().Fields().Len() {
		if field := message.Descriptor().Fields().Get(i); !message.Has(field) {
			t.Errorf("the message's %s is never set", field.Name())
		}
	}
}

func TestNoTimeIsNoTime(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 12, 0, 0, 1000, time.UTC)
	if got := wire.ToTime(wire.Time(at)); !got.Equal(at) {
		t.Errorf("%v comes back as %v", at, got)
	}
	if wire.Time(time.Time{}) != nil || !wire.ToTime(nil).IsZero() {
		t.Error("the zero time is told as a time")
	}
}
