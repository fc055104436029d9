package ingest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/fault"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	peoplev1 "github.com/tenurehq/tenure/proto/gen/tenure/people/v1"
	"github.com/tenurehq/tenure/services/ingest"
)

func TestRecordsHandedInTwiceHaveOneEffect(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		req := &peoplev1.SubmitRequest{Source: "roster", Key: "people.csv#1", RecordsJson: []string{
			text(ann()), text(ann().with("external_id", "10002", "status", "retired")), text(ann().with("external_id", "10003")),
		}}
		first, err := w.svc.Submit(w.operator(), req)
		if err != nil {
			t.Fatal(err)
		}
		if len(first.GetItems()) != 3 || first.GetItems()[0].GetPersonId() != w.find("10001").GetId() ||
			first.GetItems()[1].GetHeld() == "" || first.GetItems()[2].GetHeld() != "" {
			t.Errorf("items are %v", first.GetItems())
		}
		w.pass(time.Hour)
		again, err := w.svc.Submit(w.operator(), req)
		if err != nil || again.GetDeliveryId() != first.GetDeliveryId() || len(again.GetItems()) != 3 {
			t.Errorf("again it is %v (%v)", again, err)
		}
		if got := w.timeline("10001"); len(got.GetFacts()) != 1 || got.GetFacts()[0].GetActor() != "operator:ada" {
			t.Errorf("facts are %v", got.GetFacts())
		}
		req.RecordsJson = req.RecordsJson[:1]
		if _, err := w.svc.Submit(w.operator(), req); fault.KindOf(err) != fault.Exists {
			t.Errorf("other records under the same key: %v, want that it exists", err)
		}
		if n := len(w.deliveries(&peoplev1.ListDeliveriesRequest{})); n != 1 {
			t.Errorf("%d deliveries are stored, want 1", n)
		}
	})
}

func TestSubmitRefusesWhatItCannotTake(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		for what, c := range map[string]struct {
			req  *peoplev1.SubmitRequest
			want fault.Kind
		}{
			"an unknown source":     {&peoplev1.SubmitRequest{Source: "nobody", Key: "k", RecordsJson: []string{"{}"}}, fault.NotFound},
			"no key":                {&peoplev1.SubmitRequest{Source: "roster", RecordsJson: []string{"{}"}}, fault.Invalid},
			"no records":            {&peoplev1.SubmitRequest{Source: "roster", Key: "k"}, fault.Invalid},
			"too many records":      {&peoplev1.SubmitRequest{Source: "roster", Key: "k", RecordsJson: make([]string, 1001)}, fault.Invalid},
			"no JSON":               {&peoplev1.SubmitRequest{Source: "roster", Key: "k", RecordsJson: []string{"{}", "{"}}, fault.Invalid},
			"a key twice":           {&peoplev1.SubmitRequest{Source: "roster", Key: "k", RecordsJson: []string{`{"a":1,"a":2}`}}, fault.Invalid},
			"a way out of the list": {&peoplev1.SubmitRequest{Source: "roster", Key: "k", RecordsJson: []string{`{}],"roster":{},"x":[{}`}}, fault.Invalid},
			"two records in one":    {&peoplev1.SubmitRequest{Source: "roster", Key: "k", RecordsJson: []string{`{},{}`}}, fault.Invalid},
			"NUL in the key":        {&peoplev1.SubmitRequest{Source: "roster", Key: "a\x00b", RecordsJson: []string{"{}"}}, fault.Invalid},
		} {
			if _, err := w.svc.Submit(w.operator(), c.req); fault.KindOf(err) != c.want {
				t.Errorf("%s: %v, want %v", what, err, c.want)
			}
		}
	})
}

func TestWhatIsHeldIsReadAgainWithTheMappingOfNow(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		events := w.run()
		body := batch(ann(), ann().with("external_id", "10002", "status", "on duty"), ann().with("external_id", "10003", "status", "unheard of"))
		answer := w.post("msg-1", body)
		for range 2 {
			next(t, events)
		}
		w.pass(time.Hour)
		replay := func() []*peoplev1.ItemResult {
			t.Helper()
			got, err := w.svc.ReplayDelivery(w.operator(), &peoplev1.ReplayDeliveryRequest{Id: answer.Delivery})
			if err != nil {
				t.Fatal(err)
			}
			return got.GetItems()
		}
		if items := replay(); len(items) != 2 || items[0].GetHeld() == "" || items[1].GetHeld() == "" {
			t.Errorf("with the same mapping the replay comes to %v", items)
		}
		cfg := config(t)
		cfg.Sources[0].Mapping = ownMapping(t, onDuty)
		w.restart(cfg)
		items := replay()
		if len(items) != 2 || items[0].GetHeld() != "" || items[0].GetPersonId() != w.find("10002").GetId() || items[1].GetHeld() == "" {
			t.Fatalf("with a mapping that knows the status the replay comes to %v", items)
		}
		shown, err := w.svc.ShowDelivery(w.operator(), &peoplev1.ShowDeliveryRequest{Id: answer.Delivery})
		if err != nil || shown.GetDelivery().GetItemsHeld() != 1 || len(shown.GetItems()) != 3 {
			t.Errorf("afterwards the delivery is %v with %d items (%v)", shown.GetDelivery(), len(shown.GetItems()), err)
		}
		if got := w.timeline("10001"); len(got.GetFacts()) != 1 {
			t.Errorf("what was understood before was taken in again: %d facts", len(got.GetFacts()))
		}
		if fact := w.timeline("10002").GetFacts()[0]; !fact.GetKnownAt().AsTime().Equal(noon.Add(time.Hour)) ||
			!fact.GetSourceTime().AsTime().Equal(noon) || fact.GetActor() != "source:acme-hr" {
			t.Errorf("the fact is %v, want it said at noon and known at one", fact)
		}
	})
}

// onDuty is the generic form for a source that has a word of its own for active.
const onDuty = `
external_id: data.external_id
status: 'data.status == "on duty" ? "active" : data.status'
given_name: data.given_name
family_name: data.family_name
`

func TestAReplayIsAnOperatorsAction(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		events := w.run()
		first := w.deliver("msg-1", changed(ann()))
		held := w.post("msg-1", changed(ann().with("department", "d004")))
		w.pass(time.Hour)
		if _, err := w.svc.ReplayDelivery(w.operator(), &peoplev1.ReplayDeliveryRequest{Id: held.Delivery}); err != nil {
			t.Fatal(err)
		}
		var got []string
		for range 4 {
			e := next(t, events)
			what := e.Type[strings.LastIndexByte(e.Type, '.')+1:]
			fact, err := e.Decode()
			if err != nil {
				t.Fatal(err)
			}
			switch fact := fact.(type) {
			case *eventv1.DeliveryHeld:
				what += fmt.Sprintf(" %v %d", fact.GetDeliveryId() == held.Delivery, fact.GetItemsHeld())
			case *eventv1.OperatorAction:
				what += fmt.Sprintf(" %s %s %v", fact.GetActor(), fact.GetAction(), fact.GetObject() == held.Delivery)
			}
			got = append(got, what)
		}
		want := []string{"Lifecycle", "DeliveryHeld true 1", "OperatorAction operator:ada replay true", "Lifecycle"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		if got := w.timeline("10001"); len(got.GetFacts()) != 2 {
			t.Errorf("a body under a used id was looked at and replayed: %d facts, want 2", len(got.GetFacts()))
		}
		for id, want := range map[string]fault.Kind{first.Delivery: fault.Refused, held.Delivery: fault.Refused, "none": fault.NotFound} {
			if _, err := w.svc.ReplayDelivery(w.operator(), &peoplev1.ReplayDeliveryRequest{Id: id}); fault.KindOf(err) != want {
				t.Errorf("replay of a delivery of which nothing is held: %v, want %v", err, want)
			}
		}
	})
}

func TestDeliveriesAreListedNewestFirst(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		var want []string
		for i := range 5 {
			want = append([]string{w.deliver(fmt.Sprint("msg-", i), changed(ann())).Delivery}, want...)
		}
		list := func(req *peoplev1.ListDeliveriesRequest) []string {
			var ids []string
			for _, d := range w.deliveries(req) {
				ids = append(ids, d.GetId())
			}
			return ids
		}
		if diff := cmp.Diff(want, list(&peoplev1.ListDeliveriesRequest{Source: "acme-hr"})); diff != "" {
			t.Errorf("deliveries (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want[:2], list(&peoplev1.ListDeliveriesRequest{Limit: 2})); diff != "" {
			t.Errorf("two deliveries (-want +got):\n%s", diff)
		}
		if got := list(&peoplev1.ListDeliveriesRequest{Source: "roster"}); got != nil {
			t.Errorf("another source lists %v", got)
		}
	})
}

func TestAConfigurationThatCannotWorkIsRefused(t *testing.T) {
	t.Parallel()
	for what, spoil := range map[string]func(*ingest.Config){
		"a name with a space":       func(c *ingest.Config) { c.Sources[0].Name = "acme hr" },
		"no such kind":              func(c *ingest.Config) { c.Sources[0].Kind = "pigeon" },
		"scim: not built yet":       func(c *ingest.Config) { c.Sources[0].Kind = "scim" },
		"needs a secret and an API": func(c *ingest.Config) { c.Sources[1].Kind = ingest.KindBambooHR },
		"needs a secret":            func(c *ingest.Config) { c.Sources[0].Keys = nil },
		"takes no secret":           func(c *ingest.Config) { c.Sources[2].Keys = c.Sources[0].Keys },
		"two of that name":          func(c *ingest.Config) { c.Sources[1].Name = c.Sources[0].Name },
		"one source of kind manual": func(c *ingest.Config) { c.Sources[1].Kind = ingest.KindManual },
		"raw_retention":             func(c *ingest.Config) { c.Sources[0].RawRetention = -1 },
		"people.user_name":          func(c *ingest.Config) { c.UserName = nil },
	} {
		cfg := config(t)
		spoil(&cfg)
		err := cfg.Validate()
		part := what
		if what == "a name with a space" {
			part = `"acme hr"`
		}
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
