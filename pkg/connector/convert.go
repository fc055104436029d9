package connector

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
)

// accountProto writes what is not known as the contract wants it.
func accountProto(a Account) *connectorv1.Account {
	out := &connectorv1.Account{
		Id: string(a.ID), Name: a.Name, CorrelationKey: a.CorrelationKey, Attributes: a.Attributes, Version: a.Version,
		GrantsComplete: a.GrantsComplete, CredentialsComplete: a.CredentialsComplete,
		LiveSessions: countProto(a.LiveSessions), Marker: a.Marker, LastUsed: timeProto(a.LastUsed),
	}
	switch a.Status {
	case Enabled:
		out.Status = connectorv1.AccountStatus_ACCOUNT_STATUS_ENABLED
	case Disabled:
		out.Status = connectorv1.AccountStatus_ACCOUNT_STATUS_DISABLED
	case StatusUnknown:
	}
	for _, g := range a.Grants {
		out.Grants = append(out.Grants, &connectorv1.Grant{EntitlementId: g.Entitlement, Inherited: g.Inherited, Immutable: g.Immutable})
	}
	for _, c := range a.Credentials {
		out.Credentials = append(out.Credentials, &connectorv1.Credential{
			Id: c.ID, Kind: c.Kind, CreatedAt: timeProto(c.CreatedAt), ExpiresAt: timeProto(c.ExpiresAt), LastUsed: timeProto(c.LastUsed),
		})
	}
	return out
}

func entitlementProto(e Entitlement) *connectorv1.Entitlement {
	return &connectorv1.Entitlement{
		Id: e.ID, Type: e.Type, DisplayName: e.DisplayName, Assignable: e.Assignable,
		ExclusionGroup: e.ExclusionGroup, MinMembers: natural(e.MinMembers),
	}
}

func countProto(c Count) int32 {
	n, known := c.Get()
	if !known {
		return -1
	}
	return int32(min(max(n, 0), 1<<31-1))
}

func natural(n int) uint32 {
	return uint32(min(max(n, 0), 1<<32-1))
}

func timeProto(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func durationProto(d time.Duration) *durationpb.Duration {
	if d <= 0 {
		return nil
	}
	return durationpb.New(d)
}

func queryOf(req *connectorv1.ReadRequest) (Query, bool) {
	q := Query{Credentials: req.GetCredentials(), Sessions: req.GetSessions()}
	switch by := req.GetBy().(type) {
	case *connectorv1.ReadRequest_AccountId:
		q.By, q.Value = ByID, by.AccountId
	case *connectorv1.ReadRequest_Name:
		q.By, q.Value = ByName, by.Name
	case *connectorv1.ReadRequest_CorrelationKey:
		q.By, q.Value = ByCorrelationKey, by.CorrelationKey
	case *connectorv1.ReadRequest_Marker:
		q.By, q.Value = ByMarker, by.Marker
	case *connectorv1.ReadRequest_EntitlementId:
		q.By, q.Value = ByEntitlement, by.EntitlementId
	}
	// An empty value would find whatever has none: every account without a marker, for one.
	return q, q.By != 0 && q.Value != ""
}

// describeProto derives the operations from what impl can do.
func describeProto(impl Connector, sealKey []byte) *connectorv1.DescribeResponse {
	d := impl.Describe()
	out := &connectorv1.DescribeResponse{
		Type: d.Type, Version: d.Version, ContractMinor: contractMinor, ConfigSchemaJson: d.ConfigSchema, SealKey: sealKey,
		Limits: &connectorv1.Limits{
			MaxConcurrency: natural(d.Limits.MaxConcurrency), MaxPerMinute: natural(d.Limits.MaxPerMinute),
			MaxSteps: natural(d.Limits.MaxSteps), SerializeByEntitlement: d.Limits.SerializeByEntitlement,
		},
	}
	for _, a := range d.Attributes {
		out.Attributes = append(out.Attributes, &connectorv1.Attribute{
			Name: a.Name, Type: a.Type, Required: a.Required, Writable: a.Writable, Unique: a.Unique,
			CaseExact: a.CaseExact, Multi: a.Multi, Sensitive: a.Sensitive,
		})
	}
	for _, op := range operations {
		if !op.can(impl) {
			continue
		}
		support := &connectorv1.OpSupport{Op: op.op, NativeIdempotent: d.NativeIdempotent && !op.repeats, Destructive: op.takesAway}
		if op.cuts != nil {
			support.CutsSessions = op.cuts(d)
		}
		if op.credentials {
			support.CredentialKinds = d.CredentialKinds
		}
		out.Ops = append(out.Ops, support)
	}
	return out
}
