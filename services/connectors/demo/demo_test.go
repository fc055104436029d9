package demo_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenurehq/tenure/pkg/connector"
	"github.com/tenurehq/tenure/pkg/connector/connectortest"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
	"github.com/tenurehq/tenure/services/connectors/demo"
)

const (
	opCreate  = eventv1.Op_OP_CREATE
	opUpdate  = eventv1.Op_OP_UPDATE
	opEnable  = eventv1.Op_OP_ENABLE
	opDisable = eventv1.Op_OP_DISABLE
	opDelete  = eventv1.Op_OP_DELETE
	opGrant   = eventv1.Op_OP_GRANT
	opRevoke  = eventv1.Op_OP_REVOKE
	opKill    = eventv1.Op_OP_KILL_SESSIONS
	opCut     = eventv1.Op_OP_REVOKE_CREDENTIAL
	opRotate  = eventv1.Op_OP_ROTATE_CREDENTIAL
)

// How the connector is spoken to.
var step, set = connectortest.Step, connectortest.Set

// running is an application under test: through the connector, and with its own eyes.
type running struct {
	connectortest.Client
	url  string
	stop func()
}

func start(tb testing.TB, cfg demo.Config) running {
	tb.Helper()
	if cfg.File == "" {
		cfg.File = filepath.Join(tb.TempDir(), "journal")
	}
	if cfg.Entitlements == nil {
		cfg.Entitlements = []string{"group:a", "group:b"}
	}
	cfg.Listen = "127.0.0.1:0"
	application, err := demo.Open(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	client, stop, err := connector.InProcess(application)
	if err != nil {
		tb.Fatal(err)
	}
	r := running{connectortest.Client{ConnectorClient: client}, application.URL(), sync.OnceFunc(func() {
		if err := errors.Join(stop(), application.Close()); err != nil {
			tb.Errorf("close: %v", err)
		}
	})}
	tb.Cleanup(r.stop)
	return r
}

func joiner(login string) []*connectorv1.Step {
	return []*connectorv1.Step{
		set(opCreate, map[string]string{"login": login, "email": login + "@acme.example"}),
		set(opUpdate, map[string]string{"title": "Engineer"}), step(opGrant, "group:a"), step(opEnable, ""),
	}
}

// get and post speak to the application's own listing.
func (r running) get(tb testing.TB, path, bearer string) (int, []byte) {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, r.url+path, nil)
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	return send(tb, req)
}

func (r running) post(tb testing.TB, path, login string) (int, map[string]string) {
	tb.Helper()
	body, err := json.Marshal(map[string]string{"login": login})
	if err != nil {
		tb.Fatal(err)
	}
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, r.url+path, bytes.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	code, answer := send(tb, req)
	var out map[string]string
	if err := json.Unmarshal(answer, &out); err != nil {
		tb.Fatalf("%s: %v", answer, err)
	}
	return code, out
}

func send(tb testing.TB, req *http.Request) (int, []byte) {
	tb.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return resp.StatusCode, body
}

// ops lists what the application's journal says was done.
func (r running) ops(tb testing.TB) string {
	tb.Helper()
	_, body := r.get(tb, "/journal", "")
	var out []string
	for line := range strings.Lines(string(body)) {
		var e struct{ Op string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			tb.Fatalf("%s: %v", line, err)
		}
		out = append(out, e.Op)
	}
	return strings.Join(out, " ")
}

func TestEachStepASecondTimeChangesNothingAndIsNotInTheJournal(t *testing.T) {
	t.Parallel()
	r := start(t, demo.Config{})
	id := r.Want(t, "", "m", "CCCC", joiner("ann")...).GetAccountId()
	r.Want(t, "", "m", "UUUU", joiner("ann")...)
	leaver := []*connectorv1.Step{step(opDisable, ""), step(opKill, ""), step(opCut, ""), step(opRevoke, "group:a")}
	r.Want(t, id, "m", "CUUC", leaver...)
	r.Want(t, id, "m", "UUUU", leaver...)
	r.Want(t, id, "m", "C", step(opDelete, ""))
	r.Want(t, id, "m", "U", step(opDelete, ""))
	if got, want := r.ops(t), "made create update grant enable disable revoke delete"; got != want {
		t.Fatalf("journal: %s\nwant:    %s", got, want)
	}
}

func TestEverythingIsThereAfterAStop(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "journal")
	r := start(t, demo.Config{File: file})
	id := r.Want(t, "", "m", "CCCC", joiner("ann")...).GetAccountId()
	_, session := r.post(t, "/login", "ann")
	_, key := r.post(t, "/keys", "ann")
	_, before := r.get(t, "/accounts", "")
	checked, err := r.Check(t.Context(), &connectorv1.CheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	// A kill in the middle of a write leaves half a line.
	half, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := half.WriteString(`{"seq":8,"op":"del`); err != nil {
		t.Fatal(err)
	}
	if err := half.Close(); err != nil {
		t.Fatal(err)
	}

	again := start(t, demo.Config{File: file})
	_, after := again.get(t, "/accounts", "")
	if diff := cmp.Diff(string(before), string(after)); diff != "" {
		t.Errorf("accounts (-before +after):\n%s", diff)
	}
	for what, token := range map[string]string{"session": session["session"], "key": key["key"]} {
		if code, _ := again.get(t, "/whoami", token); code != http.StatusOK {
			t.Errorf("the %s is gone: %d", what, code)
		}
	}
	same, err := again.Check(t.Context(), &connectorv1.CheckRequest{})
	if err != nil || same.GetTargetIdentity() != checked.GetTargetIdentity() {
		t.Errorf("identity %s, was %s (%v)", same.GetTargetIdentity(), checked.GetTargetIdentity(), err)
	}
	again.Want(t, id, "m", "CU", step(opDisable, ""), step(opDisable, ""))
	if _, err := demo.Open(t.Context(), demo.Config{File: file}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("two hold one journal: %v", err)
	}
	again.stop()
	start(t, demo.Config{File: file}).Want(t, id, "m", "U", step(opDisable, ""))
}

func TestAJournalThatWasTamperedWithIsNotLoaded(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{"a gap": `{"seq":1,"op":"made","account":"x"}` + "\n" + `{"seq":3,"op":"delete"}` + "\n", "no JSON": "hello\n"} {
		file := filepath.Join(t.TempDir(), "journal")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := demo.Open(t.Context(), demo.Config{File: file}); err == nil {
			t.Errorf("%s was loaded", name)
		}
	}
}

func TestSessionsAndKeysOutliveDisableUntilTheyAreEnded(t *testing.T) {
	t.Parallel()
	r := start(t, demo.Config{})
	id := r.Want(t, "", "m", "CCCC", joiner("ann")...).GetAccountId()
	_, session := r.post(t, "/login", "ann")
	_, key := r.post(t, "/keys", "ann")
	opens := func(token string) bool {
		code, _ := r.get(t, "/whoami", token)
		return code == http.StatusOK
	}
	got := r.Want(t, id, "m", "C", step(opDisable, ""))
	if o := got.GetObserved(); o.GetLiveSessions() != 1 || len(o.GetCredentials()) != 1 || o.GetCredentials()[0].GetId() != key["id"] {
		t.Errorf("read back: %v", o)
	}
	if code, _ := r.post(t, "/login", "ann"); code != http.StatusForbidden {
		t.Errorf("a disabled account logs in: %d", code)
	}
	if code, _ := r.post(t, "/login", "nobody"); code != http.StatusNotFound {
		t.Errorf("an absent account logs in: %d", code)
	}
	if !opens(session["session"]) || !opens(key["key"]) {
		t.Fatal("DISABLE cut a session or key, which Describe denies")
	}
	got = r.Want(t, id, "m", "CU", step(opKill, ""), step(opKill, ""))
	if got.GetResults()[0].GetRemaining() != 0 || opens(session["session"]) || !opens(key["key"]) {
		t.Error("KILL_SESSIONS must end sessions and leave keys")
	}
	r.Want(t, id, "m", "UCU", step(opCut, "password"), step(opCut, "api_key"), step(opCut, key["id"]))
	if opens(key["key"]) {
		t.Error("a revoked key opens")
	}
	r.Want(t, id, "m", "C", step(opEnable, ""))
	if opens(key["key"]) || opens(session["session"]) {
		t.Error("enabling again revived what was revoked")
	}
	_, session = r.post(t, "/login", "ann")
	r.Want(t, id, "m", "C", step(opDelete, ""))
	if opens(session["session"]) {
		t.Error("a session outlives its account, which Describe denies")
	}
}

func TestARotatedKeyOverlaps(t *testing.T) {
	t.Parallel()
	r := start(t, demo.Config{})
	id := r.Want(t, "", "m", "CCCC", joiner("ann")...).GetAccountId()
	_, old := r.post(t, "/keys", "ann")
	described, err := r.Describe(t.Context(), &connectorv1.DescribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := connector.Seal(described.GetSealKey(), "brand-new")
	if err != nil {
		t.Fatal(err)
	}
	rotate := func(overlap time.Duration) *connectorv1.Account {
		return r.Want(t, id, "m", "C", &connectorv1.Step{Op: opRotate, Target: "api_key", SecretIn: sealed, Overlap: durationpb.New(overlap)}).GetObserved()
	}
	if o := rotate(time.Hour); len(o.GetCredentials()) != 2 {
		t.Fatalf("%v", o)
	}
	for _, token := range []string{"brand-new", old["key"]} {
		if code, _ := r.get(t, "/whoami", token); code != http.StatusOK {
			t.Errorf("%s: %d during the overlap", token, code)
		}
	}
	if o := rotate(time.Nanosecond); len(o.GetCredentials()) != 1 {
		t.Errorf("expired keys are still listed: %v", o)
	}
	if code, _ := r.get(t, "/whoami", old["key"]); code != http.StatusUnauthorized {
		t.Errorf("the old key opens after the overlap: %d", code)
	}
}

func TestNamesAreUniqueAndNeverTakenOver(t *testing.T) {
	t.Parallel()
	r := start(t, demo.Config{})
	id := r.Want(t, "", "m", "CCCC", joiner("ann")...).GetAccountId()
	got := r.Want(t, "", "other", "F---", joiner("ann")...)
	if p := got.GetResults()[0].GetProblem(); p.GetCode() != connectorv1.Code_CODE_ALREADY_EXISTS || p.GetExistingAccountId() != id {
		t.Errorf("%v", p)
	}
	bob := r.Want(t, "", "b", "CCCC", joiner("bob")...).GetAccountId()
	r.Want(t, bob, "b", "F", set(opUpdate, map[string]string{"login": "ann"}))
	r.Want(t, bob, "someone", "F", step(opDisable, ""))
	r.Want(t, bob, "b", "C", set(opUpdate, map[string]string{"login": "robert"}))
	if got := r.Found(t, connectortest.ByName("robert")); got.GetAccounts()[0].GetId() != bob {
		t.Errorf("a rename moved the id: %v", got)
	}
	if got := r.Found(t, connectortest.ByName("bob")); len(got.GetAccounts()) != 0 {
		t.Errorf("the old name still finds %v", got)
	}
	r.Want(t, "", "x", "F", set(opCreate, map[string]string{"login": "x", "shoe_size": "44"}))
	r.Want(t, "", "x", "F", set(opCreate, map[string]string{"email": "x@y"}))
	r.Want(t, id, "m", "FU", step(opGrant, "group:none"), step(opRevoke, "group:none"))
	r.Want(t, id, "m", "CU", &connectorv1.Step{Op: opUpdate, Clear: []string{"title"}}, &connectorv1.Step{Op: opUpdate, Clear: []string{"title"}})
}

func TestReadsByEveryKeyAgreeWithTheListing(t *testing.T) {
	t.Parallel()
	r := start(t, demo.Config{})
	for _, login := range []string{"ann", "Bob", "o'brien", "名前"} {
		r.Want(t, "", "m:"+login, "CCCC", joiner(login)...)
	}
	stream, err := r.List(t.Context(), &connectorv1.ListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]*connectorv1.Account{}
	var end *connectorv1.End
	for end == nil {
		item, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if a := item.GetAccount(); a != nil {
			a.GrantsComplete = true
			listed[a.GetId()] = a
		}
		if m := item.GetMembership(); m != nil {
			listed[m.GetAccountId()].Grants = append(listed[m.GetAccountId()].Grants, &connectorv1.Grant{EntitlementId: m.GetEntitlementId()})
		}
		end = item.GetEnd()
	}
	if want := (&connectorv1.End{Complete: true, Accounts: 4, Entitlements: 2, Memberships: 4}); !cmp.Equal(want, end, protocmp.Transform()) {
		t.Errorf("end %v, want %v", end, want)
	}
	for id, account := range listed {
		for _, req := range []*connectorv1.ReadRequest{
			{By: &connectorv1.ReadRequest_AccountId{AccountId: id}},
			{By: &connectorv1.ReadRequest_Name{Name: account.GetName()}},
			{By: &connectorv1.ReadRequest_Marker{Marker: account.GetMarker()}},
			{By: &connectorv1.ReadRequest_CorrelationKey{CorrelationKey: account.GetCorrelationKey()}},
		} {
			got := r.Found(t, req)
			if diff := cmp.Diff([]*connectorv1.Account{account}, got.GetAccounts(), protocmp.Transform()); diff != "" {
				t.Errorf("%v (-listed +read):\n%s", req, diff)
			}
		}
	}
	if got := r.Found(t, connectortest.ByEntitlement("group:a")); len(got.GetAccounts()) != 4 {
		t.Errorf("members: %v", got)
	}
	left := r.Found(t, connectortest.ByName("Bob")).GetAccounts()[0].GetId()
	r.Want(t, left, "m:Bob", "C", step(opRevoke, "group:a"))
	for _, member := range r.Found(t, connectortest.ByEntitlement("group:a")).GetAccounts() {
		if delete(listed, member.GetId()); member.GetId() == left {
			t.Error("who left the group is found in it")
		}
	}
	if len(listed) != 1 {
		t.Errorf("after one has left, %d are not found in the group", len(listed))
	}
}

func TestThrottlingRefusesWithoutEffectAndSaysWhenToComeBack(t *testing.T) {
	t.Parallel()
	r := start(t, demo.Config{Temper: demo.Throttling, CallsPerSecond: 2})
	var limited *connectorv1.Problem
	for i := range 20 {
		got := r.Do(t, "", fmt.Sprint(i), set(opCreate, map[string]string{"login": fmt.Sprint(i)}))
		if p := got.GetResults()[0].GetProblem(); p != nil {
			limited = p
			break
		}
	}
	if limited.GetCode() != connectorv1.Code_CODE_RATE_LIMITED || limited.GetRetryAfter().AsDuration() <= 0 || limited.GetScope() != connectorv1.Scope_SCOPE_INSTANCE {
		t.Fatalf("%v", limited)
	}
	_, accounts := r.get(t, "/accounts", "")
	var there []any
	if err := json.Unmarshal(accounts, &there); err != nil || len(there) == 0 || len(there) > 3 {
		t.Errorf("%d accounts exist (%v)", len(there), err)
	}
}

func TestSlowTakesItsTimeAndGivesUpInTime(t *testing.T) {
	t.Parallel()
	r := start(t, demo.Config{Temper: demo.Slow})
	begun := time.Now()
	r.Want(t, "", "m", "C", set(opCreate, map[string]string{"login": "ann"}))
	if took := time.Since(begun); took < 50*time.Millisecond {
		t.Errorf("a slow application answered in %v", took)
	}
	got, err := r.Apply(t.Context(), &connectorv1.ApplyRequest{
		Marker: "n", NotAfter: timestamppb.New(time.Now().Add(10 * time.Millisecond)), Steps: []*connectorv1.Step{set(opCreate, map[string]string{"login": "ned"})},
	})
	outcome := got.GetResults()[0].GetOutcome() // not even attempted, on a very busy machine
	if err != nil || outcome != connectorv1.Outcome_OUTCOME_FAILED && outcome != connectorv1.Outcome_OUTCOME_NOT_ATTEMPTED {
		t.Errorf("%v, %v: what outlasted not_after was not done, and that is known", got, err)
	}
	if found := r.Found(t, connectortest.ByMarker("n")); len(found.GetAccounts()) != 0 {
		t.Errorf("it was done: %v", found)
	}
}

func TestConcurrentGrantsLoseNone(t *testing.T) {
	t.Parallel()
	r := start(t, demo.Config{})
	var wait sync.WaitGroup
	for i := range 50 {
		wait.Go(func() {
			got, err := r.Apply(t.Context(), &connectorv1.ApplyRequest{
				Marker: fmt.Sprint("m", i), NotAfter: timestamppb.New(time.Now().Add(time.Minute)), Steps: joiner(fmt.Sprint("u", i)),
			})
			if err != nil || got.GetObserved().GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_ENABLED {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	wait.Wait()
	if got := r.Found(t, connectortest.ByEntitlement("group:a")); len(got.GetAccounts()) != 50 {
		t.Fatalf("%d members, want 50", len(got.GetAccounts()))
	}
}

// BenchmarkJoiner is one account made, granted and enabled through the whole contract: four steps and a read-back.
func BenchmarkJoiner(b *testing.B) {
	r := start(b, demo.Config{})
	ctx := context.WithoutCancel(b.Context())
	var n int
	for b.Loop() {
		n++
		got, err := r.Apply(ctx, &connectorv1.ApplyRequest{
			Marker: fmt.Sprint("m", n), NotAfter: timestamppb.New(time.Now().Add(time.Minute)), Steps: joiner(fmt.Sprint("u", n)),
		})
		if err != nil || got.GetObserved() == nil {
			b.Fatal(got, err)
		}
	}
}
