package scim_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/connector/connectortest"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	"github.com/tenurehq/tenure/services/connectors/scim"
	"github.com/tenurehq/tenure/services/connectors/scim/scimtest"
)

func rated(rates map[string]scim.Rate) scim.Config {
	return scim.Config{Profile: scim.Profile{Rates: rates}}
}

// wantsLater wants a step to have been refused for its rate, and returns for how long.
func wantsLater(t *testing.T, r *connectorv1.StepResult, reason string, scope connectorv1.Scope) time.Duration {
	t.Helper()
	p := r.GetProblem()
	if p.GetCode() != connectorv1.Code_CODE_RATE_LIMITED || p.GetReason() != reason || p.GetScope() != scope || p.GetRetryAfter().AsDuration() <= 0 {
		t.Fatalf("%v, want RATE_LIMITED %s %s and a time", r, reason, scope)
	}
	return p.GetRetryAfter().AsDuration()
}

const (
	ofStep     = connectorv1.Scope_SCOPE_STEP
	ofInstance = connectorv1.Scope_SCOPE_INSTANCE
)

// TestAClassThatIsSpentKeepsNoOtherBack: a leaver's groups are taken away although no user can be written.
func TestAClassThatIsSpentKeepsNoOtherBack(t *testing.T) {
	t.Parallel()
	o, client := odd(t, scimtest.Quirks{}, rated(map[string]scim.Rate{"user_writes": {PerMinute: 1, Burst: 2}}))
	id := account(t, client, "ann") // POST and PATCH
	client.Want(t, id, "p:ann", "C", step(opGrant, "group:staff"))
	before := len(o.Requests())
	got := client.Want(t, id, "p:ann", "FC", step(opDisable, ""), step(opRevoke, "group:staff"))
	if after := wantsLater(t, got.GetResults()[0], "scim.rate", ofStep); after < 50*time.Second || after > time.Minute {
		t.Errorf("it is to be tried again in %s, want a minute", after)
	}
	if sent := o.Requests()[before:]; len(sent) != 1 || !strings.HasPrefix(sent[0], "PATCH /Groups/") || o.User(id)["active"] != true {
		t.Errorf("sent was %v", sent)
	}
	o.AddUser(map[string]any{"userName": "bob"})     // what was not asked, nobody refused for a name that is taken
	o.AddUser(map[string]any{"userName": "ann.lee"}) // nor this
	wantsLater(t, client.Want(t, "", "p:bob", "F", named("bob")).GetResults()[0], "scim.rate", ofStep)
	wantsLater(t, client.Want(t, id, "p:ann", "F", set(opUpdate, map[string]string{"userName": "ann.lee"})).GetResults()[0], "scim.rate", ofStep)
	if o.Users() != 3 || len(o.Requests()) != before+1 {
		t.Errorf("sent was %v", o.Requests()[before:])
	}
}

func TestWhoseTurnComesInTimeWaitsForIt(t *testing.T) {
	t.Parallel()
	o, client := odd(t, scimtest.Quirks{}, rated(map[string]scim.Rate{"group_writes": {PerMinute: 600}}))
	id := account(t, client, "ann")
	began := time.Now()
	client.Want(t, id, "p:ann", "CCCCC", step(opGrant, "group:staff"), step(opRevoke, "group:staff"), step(opGrant, "group:staff"),
		step(opRevoke, "group:staff"), step(opGrant, "group:staff"))
	if took := time.Since(began); took < 400*time.Millisecond {
		t.Errorf("five at ten a second took %s", took)
	}
	if got := o.Members("staff"); len(got) != 1 {
		t.Errorf("staff has %v", got)
	}
}

// TestWithoutReadsNothingGoesOn: whoever cannot look pauses as a whole, and so does a listing.
func TestWithoutReadsNothingGoesOn(t *testing.T) {
	t.Parallel()
	_, client := odd(t, scimtest.Quirks{}, rated(map[string]scim.Rate{"user_reads": {PerMinute: 1, Burst: 1}}))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	client.Found(t, byName("ann"))
	got, err := client.Read(ctx, byName("ann"))
	if err != nil || got.GetProblem().GetCode() != connectorv1.Code_CODE_RATE_LIMITED || got.GetProblem().GetScope() != ofInstance {
		t.Errorf("%v, %v", got, err)
	}
	if ctx.Err() != nil {
		t.Error("it was waited for in vain")
	}
	client.Found(t, byEntitlement("group:staff"))
}

func TestAPauseIsThatOfItsClass(t *testing.T) {
	t.Parallel()
	throttled := func(cfg scim.Config) (o *scimtest.Odd, client connectortest.Client, id string) {
		o, client = odd(t, scimtest.Quirks{RetryAfter: "60"}, cfg)
		id = account(t, client, "ann")
		client.Want(t, id, "p:ann", "C", step(opGrant, "group:staff"))
		o.ThrottleWrites(1)
		return o, client, id
	}
	leaver := []*connectorv1.Step{step(opDisable, ""), step(opRevoke, "group:staff")}

	o, client, id := throttled(rated(map[string]scim.Rate{"user_writes": {PerMinute: 6000, Burst: 100}, "group_writes": {PerMinute: 6000, Burst: 100}}))
	got := client.Want(t, id, "p:ann", "FC", leaver...)
	wantsLater(t, got.GetResults()[0], "http.429", ofStep)
	before := len(o.Requests())
	got = client.Want(t, id, "p:ann", "FU", leaver...)
	if after := wantsLater(t, got.GetResults()[0], "scim.rate", ofStep); after > time.Minute || after < 30*time.Second || len(o.Requests()) != before {
		t.Errorf("within the pause: again in %s, and sent was %v", after, o.Requests()[before:])
	}

	// Of a class without a rate nobody knows whether others may go on.
	_, client, id = throttled(scim.Config{})
	wantsLater(t, client.Want(t, id, "p:ann", "F-", leaver...).GetResults()[0], "http.429", ofInstance)
}
