package postgres

import (
	"context"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/tenurehq/tenure/pkg/connector"
)

// querier is a connection, or a transaction on one.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func roles(ctx context.Context, q querier, where string, args ...any) ([]role, error) {
	rows, err := q.Query(ctx, rolesFrom+where, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (role, error) {
		var r role
		err := r.scan(row)
		return r, err
	})
}

// roleByID returns false when there is none, or id is none of ours.
func roleByID(ctx context.Context, q querier, id connector.AccountID) (role, bool, error) {
	oid, ok := parseOID(id)
	if !ok {
		return role{}, false, nil
	}
	return one(roles(ctx, q, `WHERE r.oid = $1`, oid))
}

func parseOID(id connector.AccountID) (oid uint32, ok bool) {
	n, err := strconv.ParseUint(string(id), 10, 32)
	return uint32(n), err == nil
}

func roleByName(ctx context.Context, q querier, name string) (role, bool, error) {
	return one(roles(ctx, q, `WHERE r.rolname = $1`, name))
}

func one(found []role, err error) (role, bool, error) {
	if err != nil || len(found) == 0 {
		return role{}, false, err
	}
	return found[0], true, nil
}

// markedBy narrows by the end of the comment; the caller compares the marker itself.
func markedBy(ctx context.Context, q querier, marker string) ([]role, error) {
	found, err := roles(ctx, q, `WHERE right(d.description, length($1)) = $1 ORDER BY r.oid`, markerLine+marker)
	return slices.DeleteFunc(found, func(r role) bool { return r.marker() != marker }), err
}

const membersOf = `
WHERE r.oid IN (
  WITH RECURSIVE members(oid) AS (
    SELECT m.member FROM pg_catalog.pg_auth_members m WHERE m.roleid = $1
    UNION
    SELECT m.member FROM members JOIN pg_catalog.pg_auth_members m ON m.roleid = members.oid)
  SELECT oid FROM members)
ORDER BY r.oid`

// Read implements connector.Connector. By name and correlation key it finds accounts only; by id, whatever has that id, so
// that a link to a role that lost its LOGIN still leads to it.
func (d *Database) Read(ctx context.Context, q connector.Query) (connector.Found, error) {
	conn, err := d.acquire(ctx)
	if err != nil {
		return connector.Found{}, err
	}
	defer conn.Release()
	found, err := d.find(ctx, conn, q)
	if err != nil {
		return connector.Found{}, notDone(err)
	}
	if err := complete(ctx, conn, q, found.Accounts); err != nil {
		return connector.Found{}, notDone(err)
	}
	return found, nil
}

func (d *Database) find(ctx context.Context, q querier, by connector.Query) (connector.Found, error) {
	var (
		out     connector.Found
		matches []role
		err     error
	)
	switch by.By {
	case connector.ByID:
		r, ok, readErr := roleByID(ctx, q, connector.AccountID(by.Value))
		if err = readErr; ok {
			out.Accounts = append(out.Accounts, r.account())
		}
	case connector.ByName, connector.ByCorrelationKey:
		matches, err = roles(ctx, q, `WHERE r.rolname = $1`, by.Value)
	case connector.ByMarker:
		matches, err = markedBy(ctx, q, by.Value)
	case connector.ByEntitlement:
		group, ok, groupErr := entitlementRole(ctx, q, by.Value)
		if groupErr != nil || !ok || group.isAccount() {
			return out, groupErr
		}
		e := d.entitlement(group)
		out.Entitlement = &e
		matches, err = roles(ctx, q, membersOf, group.oid)
	}
	for _, r := range matches {
		if r.isAccount() {
			out.Accounts = append(out.Accounts, r.account())
		}
	}
	return out, err
}

// Who is a member of what, directly and through other roles.
const (
	heldFrom = `
WITH RECURSIVE held(member, roleid, direct) AS (
  SELECT m.member, m.roleid, true FROM pg_catalog.pg_auth_members m `
	heldRest = `
  UNION
  SELECT held.member, m.roleid, false FROM held JOIN pg_catalog.pg_auth_members m ON m.member = held.roleid)
SELECT held.member, r.rolname::text, bool_or(held.direct)
FROM   held JOIN pg_catalog.pg_roles r ON r.oid = held.roleid
GROUP  BY held.member, r.rolname
ORDER  BY held.member, r.rolname`
	heldByAll   = heldFrom + heldRest
	heldByThese = heldFrom + ofThese + `m.member` + heldRest
)

// ofThese narrows to a list of oids, by the column that follows.
const ofThese = `JOIN unnest($1::oid[]) AS wanted(oid) ON wanted.oid = `

const (
	mayReadPasswords = `SELECT pg_catalog.has_column_privilege('pg_catalog.pg_authid', 'rolpassword', 'SELECT')` //nolint:gosec // a question about one
	withPassword     = `SELECT a.oid FROM pg_catalog.pg_authid a ` + ofThese + `a.oid WHERE a.rolpassword IS NOT NULL`
	// Parallel workers are no sessions of their own. backend_type is hidden from those who may not see it.
	liveSessions = `
SELECT s.usesysid, count(*) FROM pg_catalog.pg_stat_activity s ` + ofThese + `s.usesysid
WHERE  coalesce(s.backend_type, '') <> 'parallel worker'
GROUP  BY s.usesysid`
)

// complete adds to accounts what lies in other catalogs.
func complete(ctx context.Context, q querier, by connector.Query, accounts []connector.Account) error {
	if len(accounts) == 0 {
		return nil
	}
	oids := make([]uint32, len(accounts))
	at := map[uint32]*connector.Account{}
	for i := range accounts {
		oid, _ := parseOID(accounts[i].ID) // ours: made of one
		oids[i], at[oid] = oid, &accounts[i]
	}
	if err := addGrants(ctx, q, oids, at); err != nil {
		return err
	}
	if by.Credentials {
		if err := addCredentials(ctx, q, oids, at); err != nil {
			return err
		}
	}
	if by.Sessions {
		return addSessions(ctx, q, oids, at)
	}
	return nil
}

func addGrants(ctx context.Context, q querier, oids []uint32, at map[uint32]*connector.Account) error {
	err := memberships(ctx, q, oids, func(member uint32, name string, direct bool) error {
		a := at[member]
		a.Grants = append(a.Grants, connector.Grant{Entitlement: rolePrefix + name, Inherited: !direct})
		return nil
	})
	for _, a := range at {
		a.GrantsComplete = err == nil
	}
	return err
}

// memberships calls each for everything that oids, or all roles for nil, are members of.
func memberships(ctx context.Context, q querier, oids []uint32, each func(member uint32, name string, direct bool) error) error {
	sql, args := heldByAll, []any(nil)
	if oids != nil {
		sql, args = heldByThese, []any{oids}
	}
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	var (
		member uint32
		name   string
		direct bool
	)
	_, err = pgx.ForEachRow(rows, []any{&member, &name, &direct}, func() error { return each(member, name, direct) })
	return err
}

// addCredentials says nothing about passwords, and that it does, where only a superuser may see them.
func addCredentials(ctx context.Context, q querier, oids []uint32, at map[uint32]*connector.Account) error {
	var may bool
	if err := q.QueryRow(ctx, mayReadPasswords).Scan(&may); err != nil || !may {
		return err
	}
	rows, err := q.Query(ctx, withPassword, oids)
	if err != nil {
		return err
	}
	var oid uint32
	_, err = pgx.ForEachRow(rows, []any{&oid}, func() error {
		at[oid].Credentials = []connector.Credential{{ID: connector.KindPassword, Kind: connector.KindPassword}}
		return nil
	})
	for _, a := range at {
		a.CredentialsComplete = err == nil
	}
	return err
}

func addSessions(ctx context.Context, q querier, oids []uint32, at map[uint32]*connector.Account) error {
	for _, a := range at {
		a.LiveSessions = connector.Counted(0)
	}
	rows, err := q.Query(ctx, liveSessions, oids)
	if err != nil {
		return err
	}
	var (
		oid uint32
		n   int64
	)
	_, err = pgx.ForEachRow(rows, []any{&oid, &n}, func() error {
		at[oid].LiveSessions = connector.Counted(int(n))
		return nil
	})
	return err
}

// List implements connector.Lister: one snapshot, streamed.
func (d *Database) List(ctx context.Context, cursor string, out *connector.Listing) error {
	if cursor != "" {
		return connector.CursorExpired("roles are listed from the beginning only")
	}
	conn, err := d.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		accounts, err := d.listRoles(ctx, tx, out)
		if err != nil {
			return err
		}
		return memberships(ctx, tx, nil, func(member uint32, name string, direct bool) error {
			if !accounts[member] {
				return nil
			}
			id := role{oid: member}.id()
			return out.Membership(connector.Membership{Account: id, Entitlement: rolePrefix + name, Inherited: !direct})
		})
	})
	if err != nil {
		return notDone(err)
	}
	return nil
}

// listRoles sends every role as what it is and returns which are accounts.
func (d *Database) listRoles(ctx context.Context, q querier, out *connector.Listing) (map[uint32]bool, error) {
	rows, err := q.Query(ctx, rolesFrom+`ORDER BY r.oid`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	accounts := map[uint32]bool{}
	for rows.Next() {
		var r role
		if err := r.scan(rows); err != nil {
			return nil, err
		}
		if accounts[r.oid] = r.isAccount(); accounts[r.oid] {
			err = out.Account(r.account())
		} else {
			err = out.Entitlement(d.entitlement(r))
		}
		if err != nil {
			return nil, err
		}
	}
	return accounts, rows.Err()
}
