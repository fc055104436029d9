package scim_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenurehq/tenure/pkg/connector"
	"github.com/tenurehq/tenure/pkg/connector/connectortest"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	"github.com/tenurehq/tenure/services/connectors/scim"
	"github.com/tenurehq/tenure/services/connectors/scim/scimtest"
)

// Every dialect, with the configuration that is for it, can do all of a joiner's, a mover's and a leaver's plan, and twice.
func TestEveryDialectCanDoEverything(t *testing.T) {
	t.Parallel()
	as := func(p scim.Profile) scim.Config { return scim.Config{Profile: p} }
	for name, c := range map[string]struct {
		quirks scimtest.Quirks
		cfg    scim.Config
	}{
		"the RFCs' own": {},
		"only paths":    {scimtest.Quirks{Patch: "path"}, scim.Config{}},
		"no paths":      {scimtest.Quirks{Patch: "pathless"}, as(scim.Profile{Patch: "pathless"})},
		"no PATCH":      {scimtest.Quirks{Patch: "none", Versions: true}, as(scim.Profile{Patch: "none"})},
		"active is text, members go by value": {
			scimtest.Quirks{Active: "string", RemoveMember: "value", Patch: "path"}, scim.Config{Dialect: "entra-strict"},
		},
		"active is a boolean, members go by filter": {scimtest.Quirks{Active: "boolean", RemoveMember: "filter"}, scim.Config{}},
		"members twice":                    {scimtest.Quirks{KeepsTwice: true}, scim.Config{}},
		"members twice are an error":       {scimtest.Quirks{RefusesTwice: true}, scim.Config{}},
		"nobody is 404":                    {scimtest.Quirks{NobodyIs404: true}, scim.Config{}},
		"no search by externalId":          {scimtest.Quirks{NoSearchBy: "externalId"}, scim.Config{}},
		"no bodies":                        {scimtest.Quirks{EmptyAnswers: true}, scim.Config{}},
		"versions":                         {scimtest.Quirks{Versions: true}, scim.Config{}},
		"another spelling":                 {scimtest.Quirks{OddSpelling: true}, scim.Config{}},
		"one resource a page, overlapping": {scimtest.Quirks{PageLimit: 2, Overlap: 1, BeginsAgain: true}, scim.Config{}},
		"totals too small":                 {scimtest.Quirks{WrongTotal: -1}, scim.Config{}},
		"github": {
			scimtest.Quirks{NoDisabledUsers: true, NoUserAgentIs403: true, ShowsGroups: true, NoSearchBy: "members.value"}, scim.Config{Dialect: "github"},
		},
		"slack": {
			scimtest.Quirks{DeleteDisables: true, ContentType: "application/json", ShowsGroups: true, NoSearchBy: "members.value"},
			scim.Config{Dialect: "slack"},
		},
		"aws": {scimtest.Quirks{HidesMembers: true, Cursors: true, PageLimit: 3}, scim.Config{Dialect: "aws"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, client := odd(t, c.quirks, c.cfg)
			if problems, _ := check(t, client); len(problems) > 0 {
				t.Errorf("Check says %v", problems)
			}
			everything(t, o, client)
		})
	}
}

func everything(t *testing.T, o *scimtest.Odd, client connectortest.Client) {
	t.Helper()
	joiner := func() []*connectorv1.Step {
		return []*connectorv1.Step{
			set(opCreate, map[string]string{"userName": "ann", "name.givenName": "Ann", "name.familyName": "Lee", workEmail: "ann@acme.example", department: "d005"}),
			step(opGrant, "group:staff"), step(opEnable, ""),
		}
	}
	first := client.Do(t, "", "p:ann", joiner()...)
	if letters := outcomes(first); letters != "CCC" && letters != "CCU" {
		t.Fatalf("a joiner: %v", first.GetResults())
	}
	if again := outcomes(client.Do(t, "", "p:ann", joiner()...)); again != "UUU" {
		t.Fatalf("a joiner for the second time: %s", again)
	}
	id := first.GetAccountId()
	mover := []*connectorv1.Step{
		set(opUpdate, map[string]string{workEmail: "ann@lee.example", department: "d006", "title": "Lead"}, "name.givenName"),
		step(opGrant, "group:ops"), step(opRevoke, "group:staff"), set(opUpdate, map[string]string{"userName": "ann.lee"}),
	}
	client.Want(t, id, "p:ann", "CCCC", mover...)
	a := client.Want(t, id, "p:ann", "UUUU", mover...).GetObserved()
	if a.GetName() != "ann.lee" || a.GetAttributes()[workEmail] != "ann@lee.example" || a.GetAttributes()[department] != "d006" ||
		a.GetAttributes()["title"] != "Lead" || a.GetAttributes()["name.givenName"] != "" || a.GetAttributes()["name.familyName"] != "Lee" ||
		grants(a) != "group:ops" || !a.GetGrantsComplete() || a.GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_ENABLED {
		t.Errorf("a mover has %v", a)
	}
	if got := o.Members("staff"); len(got) != 0 {
		t.Errorf("staff still has %v", got)
	}
	if got := o.Members("ops"); !slices.Equal(got, []string{id}) {
		t.Errorf("ops has %v, want the account once", got)
	}
	other := account(t, client, "bob")
	client.Want(t, other, "p:bob", "C", step(opGrant, "group:ops"))
	leaver := []*connectorv1.Step{step(opDisable, ""), step(opRevoke, "group:ops")}
	client.Want(t, id, "p:ann", "CC", leaver...)
	a = client.Want(t, id, "p:ann", "UU", leaver...).GetObserved()
	if a.GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_DISABLED || grants(a) != "" {
		t.Errorf("a leaver has %v", a)
	}
	if got := o.Members("ops"); !slices.Equal(got, []string{other}) {
		t.Errorf("one who left took others along: ops has %v", got)
	}
	l := list(t, client)
	if !l.end.GetComplete() || len(l.accounts) != 2 || len(l.members) != 1 || l.members[other+" group:ops"] != 1 {
		t.Errorf("the listing has %v", l)
	}
	if o.Users() != 2 {
		t.Errorf("there are %d users, want 2", o.Users())
	}
}

// Whatever a POST is answered, nobody is made twice, and who was there is named.
func TestARefusedPOSTIsLookedInto(t *testing.T) {
	t.Parallel()
	for name, quirks := range map[string]scimtest.Quirks{
		"409 with its reason":     {},
		"409 without":             {NoScimType: true},
		"400":                     {DuplicateIs: 400, NoScimType: true},
		"422":                     {DuplicateIs: 422, NoScimType: true},
		"403":                     {DuplicateIs: 403, NoScimType: true},
		"500":                     {DuplicateIs: 500, NoScimType: true},
		"no search by externalId": {NoSearchBy: "externalId"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, client := odd(t, quirks, scim.Config{})
			theirs := o.AddUser(map[string]any{"userName": "Ann"})
			p := wantProblem(t, client.Want(t, "", "p:ann", "F", named("ann")), connectorv1.Code_CODE_ALREADY_EXISTS, "")
			if p.GetExistingAccountId() != theirs {
				t.Errorf("%v, want the id %s", p, theirs)
			}
			mine := o.AddUser(map[string]any{"userName": "bob", "externalId": "p:bob"})
			if got := client.Want(t, "", "p:bob", "U", named("bob")); got.GetAccountId() != mine {
				t.Errorf("%v, want the id %s", got, mine)
			}
			if o.Users() != 2 {
				t.Errorf("there are %d users, want 2", o.Users())
			}
		})
	}
}

func TestALostReplyToAPOSTMakesNoDuplicate(t *testing.T) {
	t.Parallel()
	for name, trouble := range map[string]func(*scimtest.Odd){
		"done, and the connection ends": func(o *scimtest.Odd) { o.LoseReplies(1) },
		"done, and answered 500":        func(o *scimtest.Odd) { o.Fail(1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, client := odd(t, scimtest.Quirks{}, scim.Config{})
			trouble(o)
			got := client.Want(t, "", "p:ann", "CCC", named("ann"), step(opGrant, "group:staff"), step(opEnable, ""))
			if again := client.Want(t, "", "p:ann", "U", named("ann")); again.GetAccountId() != got.GetAccountId() || o.Users() != 1 {
				t.Errorf("there are %d users, %s and %s", o.Users(), got.GetAccountId(), again.GetAccountId())
			}
			for _, op := range []*connectorv1.Step{step(opDisable, ""), step(opRevoke, "group:staff"), set(opUpdate, map[string]string{"title": "x"})} {
				trouble(o)
				wantProblem(t, client.Want(t, got.GetAccountId(), "p:ann", "?", op), connectorv1.Code_CODE_OUTCOME_UNKNOWN, "")
				client.Want(t, got.GetAccountId(), "p:ann", "U", op)
			}
			trouble(o)
			wantProblem(t, client.Want(t, got.GetAccountId(), "p:ann", "?", step(opDelete, "")), connectorv1.Code_CODE_OUTCOME_UNKNOWN, "")
			client.Want(t, got.GetAccountId(), "p:ann", "U", step(opDelete, ""))
		})
	}
	t.Run("not done, and answered 500", func(t *testing.T) {
		t.Parallel()
		o, client := odd(t, scimtest.Quirks{}, scim.Config{})
		o.Refuse(1)
		wantProblem(t, client.Want(t, "", "p:ann", "?", named("ann")), connectorv1.Code_CODE_OUTCOME_UNKNOWN, "http.500")
		client.Want(t, "", "p:ann", "C", named("ann"))
	})
}

// A search that does not show the newest user yet leaves the outcome open, and makes nobody twice.
func TestAStaleSearchMakesNoDuplicate(t *testing.T) {
	t.Parallel()
	o, client := odd(t, scimtest.Quirks{ForgetsSearches: 2}, scim.Config{})
	o.LoseReplies(1)
	wantProblem(t, client.Want(t, "", "p:ann", "?", named("ann")), connectorv1.Code_CODE_OUTCOME_UNKNOWN, "scim.connection")
	got := client.Want(t, "", "p:ann", "U", named("ann"))
	if o.Users() != 1 || got.GetAccountId() == "" {
		t.Errorf("there are %d users", o.Users())
	}
	stale, client := odd(t, scimtest.Quirks{ForgetsSearches: 4, EmptyAnswers: true}, scim.Config{})
	wantProblem(t, client.Want(t, "", "p:bob", "?", named("bob")), connectorv1.Code_CODE_OUTCOME_UNKNOWN, "scim.no_id")
	wantProblem(t, client.Want(t, "", "p:bob", "F", named("bob")), connectorv1.Code_CODE_ALREADY_EXISTS, "scim.uniqueness")
	client.Want(t, "", "p:bob", "U", named("bob"))
	if stale.Users() != 1 {
		t.Errorf("there are %d users", stale.Users())
	}
}

func TestAnIgnoredFilterIsNoAnswer(t *testing.T) {
	t.Parallel()
	o, client := odd(t, scimtest.Quirks{IgnoresFilters: true}, scim.Config{CorrelatedBy: "userName"})
	id := o.AddUser(map[string]any{"userName": "ann"})
	for _, req := range []*connectorv1.ReadRequest{byName("bob"), byMarker("p:bob"), byKey("bob"), byEntitlement("group:staff")} {
		if p := unreadable(t, client, req); p.GetCode() != connectorv1.Code_CODE_PRECONDITION || p.GetReason() != "scim.filter_ignored" {
			t.Errorf("%v: %v", req, p)
		}
	}
	wantProblem(t, client.Want(t, "", "p:bob", "F", named("bob")), connectorv1.Code_CODE_PRECONDITION, "scim.filter_ignored")
	if o.Users() != 1 {
		t.Errorf("somebody was made")
	}
	if a := one(t, client, id); a.GetGrantsComplete() || len(a.GetGrants()) > 0 {
		t.Errorf("of the groups of one who is in none it says %v", a)
	}
	problems, _ := check(t, client)
	if len(problems) < 3 || problems[0] != "PRECONDITION scim.filter_ignored" {
		t.Errorf("Check says %v", problems)
	}
	// Nor where one of several addresses is searched for, and others may be what was found.
	o.AddUser(map[string]any{"userName": "eve", "emails": []any{map[string]any{"type": "home", "value": "eve@home.example"}}})
	byMail := open(t, scim.Config{URL: o.URL(), TokenFile: tokenFile(t, o.Token()), CorrelatedBy: workEmail})
	if p := unreadable(t, byMail, byKey("bob@acme.example")); p.GetReason() != "scim.filter_ignored" {
		t.Errorf("by an address: %v", p)
	}
	if more, _ := check(t, byMail); len(more) != len(problems)+1 {
		t.Errorf("Check says %v, want one more than %v", more, problems)
	}
}

func TestSeveralThatFitAreForSomebodyElseToJudge(t *testing.T) {
	t.Parallel()
	o, client := odd(t, scimtest.Quirks{}, scim.Config{})
	o.AddUser(map[string]any{"userName": "ann", "externalId": "p:1"})
	o.AddUser(map[string]any{"userName": "Ann", "externalId": "p:1"})
	o.AddGroup("staff")
	if got := client.Found(t, byName("ann")).GetAccounts(); len(got) != 2 {
		t.Errorf("%v, want both", got)
	}
	if got := client.Found(t, byMarker("p:1")).GetAccounts(); len(got) != 2 {
		t.Errorf("%v, want both", got)
	}
	wantProblem(t, client.Want(t, "", "p:1", "F", named("ann")), connectorv1.Code_CODE_PRECONDITION, "scim.ambiguous")
	id := account(t, client, "bob")
	wantProblem(t, client.Want(t, id, "p:bob", "F", step(opGrant, "group:staff")), connectorv1.Code_CODE_PRECONDITION, "scim.ambiguous")
	if got := o.Members("staff"); len(got) > 0 {
		t.Errorf("one of two groups was chosen: %v", got)
	}
}

// A user who cannot be seen while disabled is one who is disabled, as long as the worker has the id on record.
func TestWhoIsGoneWhileDisabledIsDisabled(t *testing.T) {
	t.Parallel()
	o, client := odd(t, scimtest.Quirks{HidesDisabled: true, DeleteDisables: true, ShowsGroups: true, NoSearchBy: "members.value"}, scim.Config{Dialect: "atlassian"})
	id := account(t, client, "ann")
	client.Want(t, id, "p:ann", "C", step(opGrant, "group:staff"))
	leaver := []*connectorv1.Step{step(opDisable, ""), step(opRevoke, "group:staff")}
	a := client.Want(t, id, "p:ann", "CC", leaver...).GetObserved()
	if a.GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_DISABLED || a.GetGrantsComplete() || a.GetName() != "" {
		t.Errorf("of one who cannot be seen it says %v", a)
	}
	client.Want(t, id, "p:ann", "UU", leaver...)
	if got := o.Members("staff"); len(got) > 0 {
		t.Errorf("staff still has %v", got)
	}
	wantProblem(t, client.Want(t, id, "p:ann", "F", set(opUpdate, map[string]string{"title": "x"})), connectorv1.Code_CODE_NOT_FOUND, connector.ReasonNoAccount)
	a = client.Want(t, id, "p:ann", "C", step(opEnable, "")).GetObserved()
	if a.GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_ENABLED || a.GetName() != "ann" {
		t.Errorf("enabled again, there is %v", a)
	}
	client.Want(t, id, "p:ann", "U", step(opEnable, ""))
	wantProblem(t, client.Want(t, id, "p:ann", "F", step(opDelete, "")), connectorv1.Code_CODE_UNSUPPORTED, "tenure.unsupported")
	wantProblem(t, client.Want(t, "u99", "p:no", "F", step(opEnable, "")), connectorv1.Code_CODE_NOT_FOUND, connector.ReasonNoAccount)
}

func TestWhereDELETEDoesNotDeleteItIsNotOffered(t *testing.T) {
	t.Parallel()
	o, client := odd(t, scimtest.Quirks{DeleteDisables: true, ShowsGroups: true}, scim.Config{Dialect: "slack"})
	id := account(t, client, "ann")
	wantProblem(t, client.Want(t, id, "p:ann", "F", step(opDelete, "")), connectorv1.Code_CODE_UNSUPPORTED, "tenure.unsupported")
	if o.User(id)["active"] != true {
		t.Error("it was sent all the same")
	}
}

func TestWhatChangedMeanwhileIsAConflict(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"path", "none"} {
		_, client := odd(t, scimtest.Quirks{Versions: true}, scim.Config{Profile: scim.Profile{Patch: how}})
		id := account(t, client, "ann")
		before := one(t, client, id).GetVersion()
		client.Want(t, id, "p:ann", "C", set(opUpdate, map[string]string{"title": "x"}))
		got := client.DoAt(t, id, "p:ann", before, step(opDisable, ""))
		wantProblem(t, got, connectorv1.Code_CODE_CONFLICT, "scim.version")
		got = client.DoAt(t, id, "p:ann", one(t, client, id).GetVersion(), step(opDisable, ""))
		if outcomes(got) != "C" {
			t.Errorf("with the right version: %v", got.GetResults())
		}
	}
}

func TestListingsThatLieAreNotComplete(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		quirks   scimtest.Quirks
		cfg      scim.Config
		complete bool
	}{
		"plain":                              {complete: true},
		"less than was asked for":            {quirks: scimtest.Quirks{PageLimit: 7}, complete: true},
		"pages that overlap":                 {quirks: scimtest.Quirks{PageLimit: 7, Overlap: 3}, complete: true},
		"begins again behind the end":        {quirks: scimtest.Quirks{PageLimit: 7, BeginsAgain: true}, complete: true},
		"a total that is too small":          {quirks: scimtest.Quirks{PageLimit: 7, WrongTotal: -30}, complete: true},
		"a total that is too great":          {quirks: scimtest.Quirks{PageLimit: 7, WrongTotal: 1}},
		"pages that do not get on":           {quirks: scimtest.Quirks{PageLimit: 7, Overlap: 100}},
		"a cursor":                           {quirks: scimtest.Quirks{PageLimit: 7, Cursors: true}, cfg: scim.Config{Profile: scim.Profile{Paging: "cursor"}}, complete: true},
		"a cursor, offered without a wish":   {quirks: scimtest.Quirks{PageLimit: 7, Cursors: true}, complete: true},
		"a cursor, wished for and not there": {quirks: scimtest.Quirks{PageLimit: 7}, cfg: scim.Config{Profile: scim.Profile{Paging: "cursor"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, client := odd(t, c.quirks, c.cfg)
			for i := range 40 {
				o.AddUser(map[string]any{"userName": fmt.Sprintf("user%d", i)})
			}
			l := list(t, client)
			if l.end.GetComplete() != c.complete || c.complete && len(l.accounts) != 40 {
				t.Errorf("%d accounts and %v, want 40: %v", len(l.accounts), l.end, c.complete)
			}
			if !c.complete && l.end.GetProblem().GetCode() != connectorv1.Code_CODE_INCONSISTENT {
				t.Errorf("it ends with %v", l.end)
			}
		})
	}
}

func TestThrottlingIsSaid(t *testing.T) {
	t.Parallel()
	for text, c := range map[string]struct{ least, most time.Duration }{
		"7": {7 * time.Second, 7 * time.Second},
		time.Now().Add(20 * time.Second).UTC().Format(http.TimeFormat): {15 * time.Second, 21 * time.Second},
		time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat):       {},
		"": {}, "soon": {}, "-5": {},
		"999999999": {time.Hour, time.Hour},
	} {
		o, client := odd(t, scimtest.Quirks{RetryAfter: text}, scim.Config{})
		id := account(t, client, "ann")
		o.Throttle(3) // the step, its read-back and the read
		p := wantProblem(t, client.Want(t, id, "p:ann", "F", step(opDisable, "")), connectorv1.Code_CODE_RATE_LIMITED, "http.429")
		if after := p.GetRetryAfter().AsDuration(); after < c.least || after > c.most {
			t.Errorf("Retry-After %q is read as %v", text, after)
		}
		if p := unreadable(t, client, byName("ann")); p.GetCode() != connectorv1.Code_CODE_RATE_LIMITED {
			t.Errorf("a read says %v", p)
		}
	}
}

func TestWhatIsNoSCIMServiceIsSaid(t *testing.T) {
	t.Parallel()
	elsewhere := make(chan string, 10)
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { elsewhere <- r.Header.Get("Authorization") }))
	t.Cleanup(other.Close)
	for _, c := range []struct {
		want   string
		quirks scimtest.Quirks
	}{
		{"PRECONDITION scim.no_json", scimtest.Quirks{AnswersHTML: http.StatusOK}},
		{"PRECONDITION scim.no_json", scimtest.Quirks{AnswersHTML: http.StatusNotFound}},
		{"TARGET_UNAVAILABLE http.502", scimtest.Quirks{AnswersHTML: http.StatusBadGateway}},
		{"PRECONDITION http.307", scimtest.Quirks{RedirectTo: other.URL}},
	} {
		_, client := odd(t, c.quirks, scim.Config{})
		if problems, _ := check(t, client); len(problems) != 1 || problems[0] != c.want {
			t.Errorf("Check says %v, want %s", problems, c.want)
		}
		for _, req := range []*connectorv1.ReadRequest{byID("u1"), byName("ann"), byMarker("p:ann"), byEntitlement("group:staff")} {
			if p := unreadable(t, client, req); p.GetScope() != connectorv1.Scope_SCOPE_INSTANCE {
				t.Errorf("%s: %v reads as %v", c.want, req, p)
			}
		}
		got := client.Do(t, "", "p:ann", named("ann"))
		if outcomes(got) != "F" {
			t.Errorf("%s: %v", c.want, got.GetResults())
		}
	}
	o := scimtest.StartOdd(t, scimtest.Quirks{})
	misplaced := open(t, scim.Config{URL: o.URL() + "/v2", TokenFile: tokenFile(t, o.Token())})
	if problems, _ := check(t, misplaced); len(problems) != 1 || problems[0] != "PRECONDITION scim.no_users" {
		t.Errorf("of a path where nothing is it says %v", problems)
	}
	if len(elsewhere) > 0 {
		t.Errorf("a redirect was followed to another host, with %q", <-elsewhere)
	}
	_, client := odd(t, scimtest.Quirks{ContentType: "application/json"}, scim.Config{})
	wantProblem(t, client.Want(t, "", "p:ann", "F", named("ann")), connectorv1.Code_CODE_PRECONDITION, "http.415")
	_, client = odd(t, scimtest.Quirks{Patch: "none"}, scim.Config{})
	got := client.Want(t, "", "p:ann", "CF", named("ann"), step(opEnable, ""))
	if p := wantProblem(t, got, connectorv1.Code_CODE_UNSUPPORTED, "http.501"); !strings.Contains(p.GetMessage(), "patch: none") {
		t.Errorf("%v does not say what helps", p)
	}
}

func TestNoMessageShowsTheToken(t *testing.T) {
	t.Parallel()
	o, client := odd(t, scimtest.Quirks{Patch: "pathless"}, scim.Config{}) // it quotes the token in what it refuses
	id := o.AddUser(map[string]any{"userName": "ann"})
	p := wantProblem(t, client.Want(t, id, "p:ann", "F", step(opDisable, "")), connectorv1.Code_CODE_INVALID, "scim.invalidPath")
	if strings.Contains(p.String(), o.Token()) || !strings.Contains(p.GetMessage(), "[REDACTED]") {
		t.Errorf("%v", p)
	}
}

func TestOnlyWhatChangesIsSent(t *testing.T) {
	t.Parallel()
	o, client := odd(t, scimtest.Quirks{KeepsTwice: true}, scim.Config{})
	id := account(t, client, "ann")
	for range 3 {
		client.Do(t, id, "p:ann", set(opUpdate, map[string]string{"title": "x"}), step(opGrant, "group:staff"), step(opEnable, ""))
	}
	sent := o.Requests()
	if len(sent) != 4 || !strings.HasPrefix(sent[0], "POST /Users ") || !strings.Contains(sent[2], `"path":"title"`) ||
		!strings.Contains(sent[3], `"op":"add","path":"members","value":[{"value":"`+id+`"}]`) {
		t.Errorf("sent was\n%s", strings.Join(sent, "\n"))
	}
	if strings.Contains(strings.Join(sent, " "), "null") {
		t.Errorf("a null was sent: %v", sent)
	}
}
