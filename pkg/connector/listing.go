package connector

import (
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
)

// Listing takes what a Lister finds, counts it and sends it on. It is for one goroutine.
type Listing struct {
	send                               func(*connectorv1.ListResponse) error
	accounts, entitlements, membership uint64
}

// Account sends an account. Its grants are left out: memberships tell them.
func (l *Listing) Account(a Account) error {
	a.Grants, a.GrantsComplete = nil, false
	l.accounts++
	return l.send(&connectorv1.ListResponse{Item: &connectorv1.ListResponse_Account{Account: accountProto(a)}})
}

// Entitlement sends an entitlement.
func (l *Listing) Entitlement(e Entitlement) error {
	l.entitlements++
	return l.send(&connectorv1.ListResponse{Item: &connectorv1.ListResponse_Entitlement{Entitlement: entitlementProto(e)}})
}

// Membership sends who is a member of what.
func (l *Listing) Membership(m Membership) error {
	l.membership++
	return l.send(&connectorv1.ListResponse{Item: &connectorv1.ListResponse_Membership{Membership: &connectorv1.Membership{
		AccountId: string(m.Account), EntitlementId: m.Entitlement, Inherited: m.Inherited, Immutable: m.Immutable,
	}}})
}

// Checkpoint says that a listing which breaks later may go on behind cursor. The counts of the end are then those
// of what followed it.
func (l *Listing) Checkpoint(cursor string) error {
	return l.send(&connectorv1.ListResponse{Item: &connectorv1.ListResponse_Checkpoint{Checkpoint: cursor}})
}

func (l *Listing) end(p *connectorv1.Problem) error {
	return l.send(&connectorv1.ListResponse{Item: &connectorv1.ListResponse_End{End: &connectorv1.End{
		Complete: p == nil, Accounts: l.accounts, Entitlements: l.entitlements, Memberships: l.membership, Problem: p,
	}}})
}
