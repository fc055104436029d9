package scim_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenurehq/tenure/pkg/connector/connectortest"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	"github.com/tenurehq/tenure/services/connectors/scim"
)

const babs = "2819c223-7f76-453a-919d-413861904646"

func sample(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "rfc", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// replay answers with the RFCs' examples, by the request line without its query, and keeps what was sent.
type replay struct {
	mu      sync.Mutex
	status  map[string]int
	answers map[string][]byte
	sent    map[string]string
}

func (r *replay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	line := req.Method + " " + req.URL.Path
	body, err := io.ReadAll(req.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.sent[line] = string(body)
	if status := r.status[line]; status != 0 {
		w.WriteHeader(status)
	}
	answer, ok := r.answers[line]
	if !ok {
		answer = []byte(`{"Resources": []}`)
	}
	_, _ = w.Write(answer) // who does not read it has gone
}

func replayed(t *testing.T, answers map[string][]byte, status map[string]int, cfg scim.Config) (*replay, connectortest.Client) {
	t.Helper()
	r := &replay{answers: answers, status: status, sent: map[string]string{}}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	cfg.URL, cfg.TokenFile = server.URL, tokenFile(t, "token")
	return r, open(t, cfg)
}

func TestTheRFCsOwnUsersAreRead(t *testing.T) {
	t.Parallel()
	_, client := replayed(t, map[string][]byte{
		"GET /Users/" + babs: sample(t, "rfc7643-8.3-enterprise_user"),
	}, nil, scim.Config{Profile: scim.Profile{Memberships: "groups"}, CorrelatedBy: workEmail})
	got := one(t, client, babs)
	const enterprise = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:"
	wantAttributes := map[string]string{
		"userName": "bjensen@example.com", "name.givenName": "Barbara", "name.familyName": "Jensen", "name.formatted": "Ms. Barbara J Jensen, III",
		"displayName": "Babs Jensen", "nickName": "Babs", "title": "Tour Guide", "userType": "Employee", "preferredLanguage": "en-US",
		"locale": "en-US", "timezone": "America/Los_Angeles", workEmail: "bjensen@example.com", "emails[primary eq true].value": "bjensen@example.com",
		`phoneNumbers[type eq "work"].value`: "555-555-5555", `phoneNumbers[type eq "mobile"].value`: "555-555-4444",
		enterprise + "employeeNumber": "701984", enterprise + "costCenter": "4130", enterprise + "organization": "Universal Studios",
		enterprise + "division": "Theme Park", enterprise + "department": "Tour Operations",
	}
	if diff := cmp.Diff(wantAttributes, got.GetAttributes()); diff != "" {
		t.Errorf("the attributes differ (-want +got):\n%s", diff)
	}
	if got.GetMarker() != "701984" || got.GetCorrelationKey() != "bjensen@example.com" || got.GetVersion() == "" ||
		got.GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_ENABLED || grants(got) != "group:Tour Guides group:Employees group:US Employees" {
		t.Errorf("%v", got)
	}
}

func TestWhatAnRFCUserDoesNotSayIsNotKnown(t *testing.T) {
	t.Parallel()
	_, client := replayed(t, map[string][]byte{
		"GET /Users/" + babs: sample(t, "rfc7643-8.1-user-minimal"),
		"GET /Users":         sample(t, "rfc7644-3.4.2-list_response-partial_attributes"),
		"GET /Groups":        []byte(`{"totalResults": 0}`),
	}, nil, scim.Config{})
	if got := one(t, client, babs); got.GetStatus() != connectorv1.AccountStatus_ACCOUNT_STATUS_UNSPECIFIED || len(got.GetAttributes()) != 1 {
		t.Errorf("%v", got)
	}
	if l := list(t, client); !l.end.GetComplete() || len(l.accounts) != 2 || l.accounts[babs].GetName() != "bjensen" {
		t.Errorf("%v", l)
	}
}

func TestRequestsAreTheRFCsOwn(t *testing.T) {
	t.Parallel()
	group := map[string]any{}
	if err := json.Unmarshal(sample(t, "rfc7643-8.4-group"), &group); err != nil {
		t.Fatal(err)
	}
	groupID := group["id"].(string)
	listed, err := json.Marshal(map[string]any{"totalResults": 1, "Resources": []any{group}})
	if err != nil {
		t.Fatal(err)
	}
	r, client := replayed(t, map[string][]byte{
		"POST /Users":            sample(t, "rfc7644-3.3-user-post_response"),
		"GET /Users/" + babs:     sample(t, "rfc7644-3.3-user-post_response"),
		"GET /Groups":            listed,
		"GET /Groups/" + groupID: sample(t, "rfc7643-8.4-group"),
	}, map[string]int{"POST /Users": http.StatusCreated, "PATCH /Groups/" + groupID: http.StatusNoContent}, scim.Config{})
	attributes := map[string]string{"userName": "bjensen", "name.formatted": "Ms. Barbara J Jensen III", "name.familyName": "Jensen", "name.givenName": "Barbara"}
	got := client.Want(t, "", "bjensen", "CUC", set(opCreate, attributes), step(opGrant, "group:Tour Guides"), step(opRevoke, "group:Tour Guides"))
	if got.GetAccountId() != babs {
		t.Errorf("%v", got)
	}
	var sent, wanted map[string]any
	if err := json.Unmarshal([]byte(r.sent["PATCH /Groups/"+groupID]), &sent); err != nil {
		t.Fatal(err)
	}
	theirs := strings.ReplaceAll(string(sample(t, "rfc7644-3.5.2.2-patch_op-remove_one_member")), "2819c223-7f76-...413861904646", babs)
	if err := json.Unmarshal([]byte(theirs), &wanted); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wanted, sent); diff != "" {
		t.Errorf("a member is not removed as the RFC has it (-RFC +sent):\n%s", diff)
	}
}

func TestTheRFCsOwnErrorIsUnderstood(t *testing.T) {
	t.Parallel()
	_, client := replayed(t, map[string][]byte{
		"GET /Users/" + babs:   sample(t, "rfc7644-3.3-user-post_response"),
		"PATCH /Users/" + babs: sample(t, "rfc7644-3.12-error-bad_request"),
	}, map[string]int{"PATCH /Users/" + babs: http.StatusBadRequest}, scim.Config{})
	got := client.Want(t, babs, "bjensen", "F", step(opDisable, ""))
	if p := wantProblem(t, got, connectorv1.Code_CODE_INVALID, "scim.mutability"); !strings.Contains(p.GetMessage(), "Attribute 'id' is readOnly") {
		t.Errorf("%v", p)
	}
}
