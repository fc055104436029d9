package connector_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/tenurehq/tenure/pkg/connector"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

// readOnly has none of the operations.
type readOnly struct{ f *fake }

func (r readOnly) Describe() connector.Description                       { return r.f.Describe() }
func (r readOnly) Check(ctx context.Context) (connector.Identity, error) { return r.f.Check(ctx) }
func (r readOnly) Read(ctx context.Context, q connector.Query) (connector.Found, error) {
	return r.f.Read(ctx, q)
}

func TestOperationsAreThoseOfTheInterfaces(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.description.CredentialKinds = []string{connector.KindAPIKey}
	f.description.DisableCutsSessions = true
	f.description.NativeIdempotent = true
	got, err := dial(t, f).Describe(t.Context(), &connectorv1.DescribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	kinds := []string{connector.KindAPIKey}
	want := []*connectorv1.OpSupport{
		{Op: opCreate, NativeIdempotent: true},
		{Op: opUpdate, NativeIdempotent: true},
		{Op: opEnable, NativeIdempotent: true},
		{Op: opDisable, NativeIdempotent: true, CutsSessions: true, Destructive: true},
		{Op: opDelete, NativeIdempotent: true, Destructive: true},
		{Op: opGrant, NativeIdempotent: true},
		{Op: opRevoke, NativeIdempotent: true, Destructive: true},
		{Op: opKill, NativeIdempotent: true, Destructive: true},
		{Op: opCut, NativeIdempotent: true, Destructive: true, CredentialKinds: kinds},
		{Op: opRotate, CredentialKinds: kinds},
	}
	if diff := cmp.Diff(want, got.GetOps(), protocmp.Transform()); diff != "" {
		t.Errorf("operations (-want +got):\n%s", diff)
	}
	if got, err = dial(t, readOnly{newFake()}).Describe(t.Context(), &connectorv1.DescribeRequest{}); err != nil || len(got.GetOps()) != 0 {
		t.Errorf("a connector that only reads claims %v (%v)", got.GetOps(), err)
	}
	if len(got.GetSealKey()) != 0 {
		t.Error("a connector that takes no secrets offers a key for them")
	}
}

func TestEveryOperationOfTheContractIsKnown(t *testing.T) {
	t.Parallel()
	got, err := dial(t, newFake()).Describe(t.Context(), &connectorv1.DescribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if want := len(eventv1.Op_name) - 1; len(got.GetOps()) != want {
		t.Fatalf("%d operations are described, the contract has %d", len(got.GetOps()), want)
	}
}

func TestReadSaysNothingWhenItCannotRead(t *testing.T) {
	t.Parallel()
	f := newFake(ann())
	client := dial(t, f)
	for _, c := range []struct {
		err  error
		code connectorv1.Code
	}{
		{connector.Unavailable("x", "refused"), connectorv1.Code_CODE_TARGET_UNAVAILABLE},
		{context.DeadlineExceeded, connectorv1.Code_CODE_TARGET_UNAVAILABLE},
		{status.Error(codes.Unauthenticated, "who?"), connectorv1.Code_CODE_AUTH},
		{errors.New("surprise"), connectorv1.Code_CODE_OUTCOME_UNKNOWN},
	} {
		f.fail = func(context.Context, string) error { return c.err }
		got, err := client.Read(t.Context(), &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_Name{Name: "ann"}})
		if err != nil || len(got.GetAccounts()) != 0 || got.GetProblem().GetCode() != c.code {
			t.Errorf("%v: accounts %v, problem %v (%v), want %v", c.err, got.GetAccounts(), got.GetProblem(), err, c.code)
		}
	}
	for _, req := range []*connectorv1.ReadRequest{{}, {By: &connectorv1.ReadRequest_Marker{}}} {
		if _, err := client.Read(t.Context(), req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v, want INVALID_ARGUMENT: an empty key would find whatever has none", req, err)
		}
	}
}

func TestAnAccountWithoutAnIDIsNoAccount(t *testing.T) {
	t.Parallel()
	got, err := dial(t, newFake(connector.Account{Name: "x"})).Read(t.Context(), &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_Name{Name: "x"}})
	if err != nil || got.GetProblem().GetCode() != connectorv1.Code_CODE_INCONSISTENT {
		t.Fatalf("%v (%v), want INCONSISTENT", got, err)
	}
}

func list(t *testing.T, client connectorv1.ConnectorClient, cursor string) (items []*connectorv1.ListResponse, end *connectorv1.End) {
	t.Helper()
	stream, err := client.List(t.Context(), &connectorv1.ListRequest{Cursor: cursor})
	if err != nil {
		t.Fatal(err)
	}
	for {
		item, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return items, end
		case err != nil:
			t.Fatal(err)
		case end != nil:
			t.Fatalf("%v came behind the end", item)
		}
		if end = item.GetEnd(); end == nil {
			items = append(items, item)
		}
	}
}

func TestAListingIsCompleteOnlyWhenItsAuthorSaysSo(t *testing.T) {
	t.Parallel()
	f := newFake(ann())
	client := dial(t, f)
	items, end := list(t, client, "")
	want := &connectorv1.End{Complete: true, Accounts: 1, Entitlements: 1, Memberships: 1}
	if diff := cmp.Diff(want, end, protocmp.Transform()); diff != "" || len(items) != 4 {
		t.Fatalf("%d items, end (-want +got):\n%s", len(items), diff)
	}
	if a := items[0].GetAccount(); len(a.GetGrants()) != 0 || a.GetGrantsComplete() {
		t.Errorf("an account of a listing tells its grants by memberships alone, got %v", a)
	}
	for name, fail := range map[string]func() error{
		"an error": func() error { return connector.Inconsistent("the page token repeats") },
		"a panic":  func() error { panic("oops") },
	} {
		f.fail = func(context.Context, string) error { return fail() }
		if _, end := list(t, client, ""); end.GetComplete() || end.GetProblem() == nil || end.GetAccounts() != 1 {
			t.Errorf("after %s the end is %v: absence would be believed", name, end)
		}
	}
	if _, end := list(t, client, "9"); end.GetProblem().GetCode() != connectorv1.Code_CODE_CURSOR_EXPIRED {
		t.Errorf("an old cursor ends with %v, want CURSOR_EXPIRED", end)
	}
	stream, err := dial(t, readOnly{f}).List(t.Context(), &connectorv1.ListRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("a connector that cannot list answers %v, want UNIMPLEMENTED", err)
	}
}

func TestSecretsNeverLeave(t *testing.T) {
	t.Parallel()
	const canary = `p@ss "w'ö/rd+1`
	f := newFake(ann())
	f.secrets = []string{canary + "\n", "x", "", "short", "shorter and longer"}
	inJSON, err := json.Marshal(canary)
	if err != nil {
		t.Fatal(err)
	}
	said := fmt.Sprintf("login with %s, %s, %s or '%s' failed, shorter and longer", canary, url.QueryEscape(canary), inJSON, strings.ReplaceAll(canary, "'", "''"))
	f.fail = func(_ context.Context, call string) error {
		if call == "disable" {
			panic(said)
		}
		return connector.Denied("reason "+canary, "%s", said)
	}
	client := dial(t, f)
	var told []*connectorv1.Problem
	for _, r := range apply(t, client, leaver()).GetResults() {
		told = append(told, r.GetProblem())
	}
	check, err := client.Check(t.Context(), &connectorv1.CheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	read, err := client.Read(t.Context(), &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_Name{Name: "ann"}})
	if err != nil {
		t.Fatal(err)
	}
	_, end := list(t, client, "")
	told = append(told, check.GetProblems()[0], read.GetProblem(), end.GetProblem(),
		&connectorv1.Problem{Message: check.GetCredentialOwner() + check.GetNotes()[0]})
	for _, p := range told {
		for _, form := range []string{canary, url.QueryEscape(canary), strings.Trim(string(inJSON), `"`), "w''ö", "er and longer"} {
			if strings.Contains(p.GetMessage()+p.GetReason(), form) {
				t.Errorf("%q shows in %v", form, p)
			}
		}
	}
	if !strings.Contains(told[1].GetMessage(), "login with [REDACTED], [REDACTED]") {
		t.Errorf("redaction left no trace of what was said: %q", told[1].GetMessage())
	}
}

func TestMessagesAreAtMostAKibibyteOfText(t *testing.T) {
	t.Parallel()
	f := newFake(ann())
	f.fail = func(context.Context, string) error {
		return connector.Denied("x", "%s", "\xff"+strings.Repeat("ö", 5000))
	}
	got := apply(t, dial(t, f), leaver()).GetResults()[0].GetProblem().GetMessage()
	if len(got) > 1024 || len(got) < 1000 || !strings.HasSuffix(got, "ö…") {
		t.Fatalf("%d bytes, ending in %q", len(got), got[len(got)-8:])
	}
}

func TestARotatedSecretTravelsSealed(t *testing.T) {
	t.Parallel()
	f := newFake(ann())
	client := dial(t, f)
	description, err := client.Describe(t.Context(), &connectorv1.DescribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	rotate := func(s *connectorv1.Step) *connectorv1.StepResult {
		s.Op, s.Target = opRotate, connector.KindAPIKey
		return apply(t, client, &connectorv1.ApplyRequest{AccountId: "1", Marker: "m", Steps: []*connectorv1.Step{s}}).GetResults()[0]
	}

	sealed, err := connector.Seal(description.GetSealKey(), "chosen-by-the-worker")
	if err != nil {
		t.Fatal(err)
	}
	if r := rotate(&connectorv1.Step{SecretIn: sealed}); r.GetOutcome() != connectorv1.Outcome_OUTCOME_CHANGED || r.GetProducedId() != "k1" {
		t.Fatalf("a sealed secret was not taken: %v", r)
	}
	if f.rotated[0].Secret != "chosen-by-the-worker" {
		t.Fatalf("the connector got %q", f.rotated[0].Secret)
	}
	f.fail = func(context.Context, string) error { return errors.New("cannot set chosen-by-the-worker") }
	if r := rotate(&connectorv1.Step{SecretIn: sealed}); strings.Contains(r.GetProblem().GetMessage(), "chosen") {
		t.Errorf("the step's own secret shows: %v", r.GetProblem())
	}
	f.fail = nil

	mine, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := json.Marshal(jose.JSONWebKey{Key: &mine.PublicKey})
	if err != nil {
		t.Fatal(err)
	}
	r := rotate(&connectorv1.Step{SealTo: jwk})
	jwe, err := jose.ParseEncryptedCompact(string(r.GetSealedSecret()), []jose.KeyAlgorithm{jose.ECDH_ES}, []jose.ContentEncryption{jose.A256GCM})
	if err != nil {
		t.Fatalf("what the application made came back as %q: %v", r.GetSealedSecret(), err)
	}
	if plain, err := jwe.Decrypt(mine); err != nil || string(plain) != "made-by-the-application" {
		t.Fatalf("decrypts to %q (%v)", plain, err)
	}

	before := len(f.rotated)
	for name, s := range map[string]*connectorv1.Step{
		"nowhere to send the new secret": {},
		"a key that is none":             {SealTo: []byte("{}")},
		"a secret in the clear":          {SecretIn: []byte("plain")},
		"a secret sealed to another":     {SecretIn: mustSeal(t, jwk)},
	} {
		if r := rotate(s); r.GetProblem().GetCode() != connectorv1.Code_CODE_INVALID {
			t.Errorf("%s: %v, want INVALID", name, r)
		}
	}
	if len(f.rotated) != before {
		t.Error("a refused rotation reached the connector")
	}
}

func mustSeal(t *testing.T, jwk []byte) []byte {
	t.Helper()
	sealed, err := connector.Seal(jwk, "secret")
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestStatusOfAConnectorInAnotherLanguage(t *testing.T) {
	t.Parallel()
	limited, err := status.New(codes.ResourceExhausted, "slow down").WithDetails(retryIn(3 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		err  error
		want connectorv1.Code
	}{
		{limited.Err(), connectorv1.Code_CODE_RATE_LIMITED},
		{status.Error(codes.ResourceExhausted, "message larger than max"), connectorv1.Code_CODE_PRECONDITION},
		{status.Error(codes.Unavailable, ""), connectorv1.Code_CODE_TARGET_UNAVAILABLE},
		{status.Error(codes.DeadlineExceeded, ""), connectorv1.Code_CODE_OUTCOME_UNKNOWN},
		{status.Error(codes.Canceled, ""), connectorv1.Code_CODE_OUTCOME_UNKNOWN},
		{status.Error(codes.Internal, ""), connectorv1.Code_CODE_OUTCOME_UNKNOWN},
		{status.Error(codes.Unknown, ""), connectorv1.Code_CODE_OUTCOME_UNKNOWN},
		{status.Error(codes.Aborted, ""), connectorv1.Code_CODE_CONFLICT},
		{status.Error(codes.AlreadyExists, ""), connectorv1.Code_CODE_ALREADY_EXISTS},
		{status.Error(codes.NotFound, ""), connectorv1.Code_CODE_NOT_FOUND},
		{status.Error(codes.FailedPrecondition, ""), connectorv1.Code_CODE_PRECONDITION},
		{status.Error(codes.InvalidArgument, ""), connectorv1.Code_CODE_INVALID},
		{status.Error(codes.PermissionDenied, ""), connectorv1.Code_CODE_DENIED},
		{status.Error(codes.Unauthenticated, ""), connectorv1.Code_CODE_AUTH},
		{status.Error(codes.Unimplemented, ""), connectorv1.Code_CODE_UNSUPPORTED},
		{status.Error(codes.DataLoss, ""), connectorv1.Code_CODE_INCONSISTENT},
		{context.DeadlineExceeded, connectorv1.Code_CODE_OUTCOME_UNKNOWN},
		{fmt.Errorf("call: %w", status.Error(codes.Aborted, "")), connectorv1.Code_CODE_CONFLICT},
	} {
		if got := connector.FromStatus(c.err); got.Code != c.want {
			t.Errorf("%v reads as %v, want %v", c.err, got.Code, c.want)
		}
	}
	if p := connector.FromStatus(limited.Err()); p.RetryAfter != 3*time.Second {
		t.Errorf("retry after %v, want 3s", p.RetryAfter)
	}
	if connector.FromStatus(nil) != nil {
		t.Error("no error is no problem")
	}
}

func TestWhatIsClosedAtOnceClosesWell(t *testing.T) {
	t.Parallel()
	for range 200 { // now and then before the server has begun
		_, closeAll, err := connector.InProcess(newFake())
		if err != nil {
			t.Fatal(err)
		}
		if err := closeAll(); err != nil {
			t.Fatal(err)
		}
	}
}
