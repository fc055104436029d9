// Package connectortest lets the tests of a connector speak to it as the worker does: in the messages of the contract, over
// gRPC in this process, with every step of an Apply and what became of it.
//
//	shop := connectortest.Start(t, shop{…})
//	joiner := []*connectorv1.Step{
//		connectortest.Set(eventv1.Op_OP_CREATE, map[string]string{"email": "ann@acme.example"}),
//		connectortest.Step(eventv1.Op_OP_GRANT, "role:seller"),
//		connectortest.Step(eventv1.Op_OP_ENABLE, ""),
//	}
//	id := shop.Want(t, "", "tenure:ann", "CCC", joiner...).GetAccountId()
//	shop.Want(t, "", "tenure:ann", "UUU", joiner...) // the second time changes nothing
//	account := connectortest.Only(t, shop.Found(t, connectortest.ByID(id)))
package connectortest

import (
	"errors"
	"io"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenurehq/tenure/pkg/connector"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
	eventv1 "github.com/tenurehq/tenure/proto/gen/tenure/event/v1"
)

// patience is how long the steps of one call may take.
const patience = 30 * time.Second

// Client is a connector under test.
type Client struct{ connectorv1.ConnectorClient }

// Start serves a connector until the test ends, and closes then what else there is to close.
func Start(tb testing.TB, c connector.Connector, also ...func() error) Client {
	tb.Helper()
	client, stop, err := connector.InProcess(c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		err := stop()
		for _, end := range also {
			err = errors.Join(err, end())
		}
		if err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return Client{client}
}

// Step is a step without attributes.
func Step(op eventv1.Op, target string) *connectorv1.Step {
	return &connectorv1.Step{Op: op, Target: target}
}

// Set is a step with attributes: those to be set, and those to be cleared.
func Set(op eventv1.Op, attributes map[string]string, empty ...string) *connectorv1.Step {
	return &connectorv1.Step{Op: op, Attributes: attributes, Clear: empty}
}

// Rotation is the step that gives an account this credential.
func (c Client) Rotation(tb testing.TB, target, secret string) *connectorv1.Step {
	tb.Helper()
	description, err := c.Describe(tb.Context(), &connectorv1.DescribeRequest{})
	if err != nil {
		tb.Fatal(err)
	}
	sealed, err := connector.Seal(description.GetSealKey(), secret)
	if err != nil {
		tb.Fatal(err)
	}
	return &connectorv1.Step{Op: eventv1.Op_OP_ROTATE_CREDENTIAL, Target: target, SecretIn: sealed}
}

// Do carries out steps for the account of that id, or for one that is to be made when id is empty.
func (c Client) Do(tb testing.TB, id, marker string, steps ...*connectorv1.Step) *connectorv1.ApplyResponse {
	tb.Helper()
	return c.DoAt(tb, id, marker, "", steps...)
}

// DoAt is Do for an account that is to have this version still.
func (c Client) DoAt(tb testing.TB, id, marker, version string, steps ...*connectorv1.Step) *connectorv1.ApplyResponse {
	tb.Helper()
	req := &connectorv1.ApplyRequest{AccountId: id, Marker: marker, IfVersion: version, NotAfter: timestamppb.New(time.Now().Add(patience))}
	for i, s := range steps {
		s = proto.CloneOf(s) // the same one may stand there twice
		s.Index = uint32(i)
		req.Steps = append(req.Steps, s)
	}
	got, err := c.Apply(tb.Context(), req)
	if err != nil {
		tb.Fatal(err)
	}
	return got
}

// Want is Do, and ends the test when the steps come to other outcomes than these, which are written as by Outcomes.
func (c Client) Want(tb testing.TB, id, marker, outcomes string, steps ...*connectorv1.Step) *connectorv1.ApplyResponse {
	tb.Helper()
	got := c.Do(tb, id, marker, steps...)
	if had := Outcomes(got); had != outcomes {
		tb.Fatalf("outcomes %s, want %s: %v", had, outcomes, got.GetResults())
	}
	return got
}

// Outcomes are what the steps came to, a letter each: C changed, U unchanged, F failed, ? unknown, P pending, - not attempted.
func Outcomes(resp *connectorv1.ApplyResponse) string {
	out := ""
	for _, r := range resp.GetResults() {
		out += map[connectorv1.Outcome]string{
			connectorv1.Outcome_OUTCOME_CHANGED: "C", connectorv1.Outcome_OUTCOME_UNCHANGED: "U", connectorv1.Outcome_OUTCOME_FAILED: "F",
			connectorv1.Outcome_OUTCOME_UNKNOWN: "?", connectorv1.Outcome_OUTCOME_PENDING: "P", connectorv1.Outcome_OUTCOME_NOT_ATTEMPTED: "-",
		}[r.GetOutcome()]
	}
	return out
}

// Found reads, and ends the test when that does not work.
func (c Client) Found(tb testing.TB, req *connectorv1.ReadRequest) *connectorv1.ReadResponse {
	tb.Helper()
	got, err := c.Read(tb.Context(), req)
	if err != nil || got.GetProblem() != nil {
		tb.Fatalf("%v: %v, %v", req, got.GetProblem(), err)
	}
	return got
}

// Only returns the one account that was read.
func Only(tb testing.TB, resp *connectorv1.ReadResponse) *connectorv1.Account {
	tb.Helper()
	if len(resp.GetAccounts()) != 1 {
		tb.Fatalf("%d accounts, want one: %v", len(resp.GetAccounts()), resp.GetAccounts())
	}
	return resp.GetAccounts()[0]
}

// ByID asks for an account by its id, with its credentials and sessions.
func ByID(id string) *connectorv1.ReadRequest {
	return &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_AccountId{AccountId: id}, Credentials: true, Sessions: true}
}

// ByName asks for accounts by name.
func ByName(name string) *connectorv1.ReadRequest {
	return &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_Name{Name: name}}
}

// ByMarker asks for accounts by marker.
func ByMarker(marker string) *connectorv1.ReadRequest {
	return &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_Marker{Marker: marker}}
}

// ByKey asks for accounts by correlation key.
func ByKey(key string) *connectorv1.ReadRequest {
	return &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_CorrelationKey{CorrelationKey: key}}
}

// ByEntitlement asks for an entitlement and the accounts that have it.
func ByEntitlement(id string) *connectorv1.ReadRequest {
	return &connectorv1.ReadRequest{By: &connectorv1.ReadRequest_EntitlementId{EntitlementId: id}}
}

// Listed is all of a listing, which is whole.
func (c Client) Listed(tb testing.TB) []*connectorv1.ListResponse {
	tb.Helper()
	items, end := c.Listing(tb)
	if !end.GetComplete() {
		tb.Fatalf("incomplete: %v", end)
	}
	return items
}

// Listing is what a listing holds, and how it ends, which it has to.
func (c Client) Listing(tb testing.TB) (items []*connectorv1.ListResponse, end *connectorv1.End) {
	tb.Helper()
	stream, err := c.List(tb.Context(), &connectorv1.ListRequest{})
	if err != nil {
		tb.Fatal(err)
	}
	for {
		item, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			tb.Fatal("the listing has no end")
		case err != nil:
			tb.Fatal(err)
		case item.GetEnd() != nil:
			return items, item.GetEnd()
		}
		items = append(items, item)
	}
}
