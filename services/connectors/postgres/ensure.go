package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tenurehq/tenure/pkg/connector"
	connectorv1 "github.com/tenurehq/tenure/proto/gen/tenure/connector/v1"
)

// mutate runs the statements that decide asks for, in one transaction; none is Unchanged.
//
// Steps name a role by oid and SQL only by name, which may move between the look and the act: so the names are looked at
// again before the COMMIT, when nobody else can change what our statements have touched.
func (d *Database) mutate(ctx context.Context, ref connector.Ref, decide func(tx pgx.Tx, r role) (change, error)) (connector.Change, error) {
	conn, err := d.acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return 0, notDone(err)
	}
	// Also when ctx is over: the connection goes back clean, or not at all.
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // after a commit there is nothing to roll back
	r, ok, err := roleByID(ctx, tx, ref.ID)
	switch {
	case err != nil:
		return 0, notDone(err)
	case !ok:
		return 0, connector.NoAccount(ref.ID)
	}
	if p := d.untouchable(r, ref, conn.Conn().Config().User); p != nil {
		return 0, p
	}
	c, err := decide(tx, r)
	switch {
	case err != nil:
		return 0, notDone(err)
	case len(c.statements) == 0:
		return connector.Unchanged, nil
	}
	for _, sql := range c.statements {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return 0, notDone(err)
		}
	}
	if err := c.verify(ctx, tx); err != nil {
		return 0, notDone(err)
	}
	if err := tx.Commit(ctx); err != nil {
		return 0, maybeDone(err)
	}
	return connector.Changed, nil
}

// change is what to run, and what must then be so: which names mean which roles (oid 0: none), and which role is gone.
type change struct {
	statements []string
	names      map[string]uint32
	gone       role
}

func (c change) verify(ctx context.Context, tx pgx.Tx) error {
	moved := func(name string) error {
		return connector.Conflict("postgres.renamed", "role %q was renamed or replaced at this moment", name)
	}
	for name, oid := range c.names {
		if r, _, err := roleByName(ctx, tx, name); err != nil {
			return err
		} else if r.oid != oid {
			return moved(name)
		}
	}
	if c.gone.oid == 0 {
		return nil
	}
	if _, there, err := roleByID(ctx, tx, c.gone.id()); err != nil {
		return err
	} else if there {
		return moved(c.gone.name) // another had its name, and was dropped: the COMMIT does not come
	}
	return nil
}

// alter is a change of r that keeps its name.
func alter(r role, clause string) change {
	return change{statements: []string{"ALTER ROLE " + quoteName(r.name) + " " + clause}, names: map[string]uint32{r.name: r.oid}}
}

// Create implements connector.Creator. The role cannot log in until it is enabled, and has no password.
func (d *Database) Create(ctx context.Context, account connector.NewAccount) (connector.AccountID, connector.Change, error) {
	login := account.Attributes[attrLogin]
	if err := errors.Join(checkLogin(login), checkMarker(account.Marker), checkAttributes(account.Attributes)); err != nil {
		return "", 0, err
	}
	conn, err := d.acquire(ctx)
	if err != nil {
		return "", 0, err
	}
	defer conn.Release()
	if id, err := existing(ctx, conn, account.Marker); id != "" || err != nil {
		return id, connector.Unchanged, err
	}
	statements := []string{
		"CREATE ROLE " + quoteName(login) + " NOLOGIN CONNECTION LIMIT 0",
		commentOn(login, joinComment("", account.Marker)),
	}
	if until := account.Attributes[attrValidUntil]; until != "" {
		statements[0] += " VALID UNTIL " + quoteLiteral(until)
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return "", 0, notDone(err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // after a commit there is nothing to roll back
	for _, sql := range statements {
		if _, err := tx.Exec(ctx, sql); err != nil {
			_ = tx.Rollback(ctx) // so that the connection can be asked why; if it cannot, asking fails too
			return taken(ctx, conn, login, account.Marker, notDone(err))
		}
	}
	r, _, err := roleByName(ctx, tx, login)
	if err != nil {
		return "", 0, notDone(err)
	}
	if err := tx.Commit(ctx); err != nil {
		// The id comes along: if it did happen, this is the account.
		return r.id(), 0, maybeDone(err)
	}
	return r.id(), connector.Changed, nil
}

// existing returns the account that carries marker already; empty: none does.
func existing(ctx context.Context, q querier, marker string) (connector.AccountID, error) {
	found, err := markedBy(ctx, q, marker)
	switch {
	case err != nil:
		return "", notDone(err)
	case len(found) == 0:
		return "", nil
	}
	return found[0].id(), nil
}

// taken says whose the name is that could not be had: a repetition of ours that was faster has made just what we want.
func taken(ctx context.Context, q querier, login, marker string, cause error) (connector.AccountID, connector.Change, error) {
	var p *connector.Problem
	if !errors.As(cause, &p) || p.Code != connectorv1.Code_CODE_ALREADY_EXISTS {
		return "", 0, cause
	}
	r, ok, err := roleByName(ctx, q, login)
	switch {
	case err != nil || !ok:
		return "", 0, cause
	case marker != "" && r.marker() == marker:
		return r.id(), connector.Unchanged, nil
	}
	p.Existing = r.id()
	return "", 0, p
}

// Update implements connector.Updater.
func (d *Database) Update(ctx context.Context, ref connector.Ref, set map[string]string, empty []string) (connector.Change, error) {
	for _, name := range empty {
		if set = maps.Clone(set); name == attrLogin {
			return 0, connector.Invalid([]string{attrLogin}, "postgres.login", "login is required")
		}
		set[name] = ""
	}
	login, renames := set[attrLogin]
	if renames {
		if err := checkLogin(login); err != nil {
			return 0, err
		}
	}
	if err := errors.Join(checkMarker(ref.Marker), checkAttributes(set)); err != nil {
		return 0, err
	}
	made, err := d.mutate(ctx, ref, func(_ pgx.Tx, r role) (change, error) {
		c := change{names: map[string]uint32{r.name: r.oid}}
		if until, ok := set[attrValidUntil]; ok && until != r.account().Attributes[attrValidUntil] {
			if until == "" {
				until = "infinity"
			}
			c.statements = append(c.statements, "ALTER ROLE "+quoteName(r.name)+" VALID UNTIL "+quoteLiteral(until))
		}
		if people, marker := splitComment(r.comment); marker == "" && ref.Marker != "" {
			c.statements = append(c.statements, commentOn(r.name, joinComment(people, ref.Marker)))
		}
		if renames && login != r.name {
			c.statements = append(c.statements, "ALTER ROLE "+quoteName(r.name)+" RENAME TO "+quoteName(login))
			c.names = map[string]uint32{login: r.oid, r.name: 0}
		}
		return c, nil
	})
	if err != nil && renames {
		_, _, err = taken(ctx, d.pool, login, "", err)
	}
	return made, err
}

func checkAttributes(set map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(set)) {
		switch name {
		case attrLogin:
		case attrValidUntil:
			if set[name] == "" {
				continue
			}
			if _, err := parseUntil(set[name]); err != nil {
				return err
			}
		default:
			return connector.Invalid([]string{name}, "postgres.attribute", "a role has no attribute %q", name)
		}
	}
	return nil
}

func commentOn(name, comment string) string {
	return "COMMENT ON ROLE " + quoteName(name) + " IS " + quoteLiteral(comment)
}

// Enable implements connector.Enabler. A connection limit that Disable did not set stays.
func (d *Database) Enable(ctx context.Context, ref connector.Ref) (connector.Change, error) {
	return d.mutate(ctx, ref, func(_ pgx.Tx, r role) (change, error) {
		switch {
		case r.enabled():
			return change{}, nil
		case r.connectionLimit == 0:
			return alter(r, "LOGIN CONNECTION LIMIT -1"), nil
		}
		return alter(r, "LOGIN"), nil
	})
}

// Disable implements connector.Enabler. Live sessions go on.
func (d *Database) Disable(ctx context.Context, ref connector.Ref) (connector.Change, error) {
	return d.mutate(ctx, ref, func(_ pgx.Tx, r role) (change, error) {
		if !r.canLogin && r.connectionLimit == 0 {
			return change{}, nil
		}
		return alter(r, "NOLOGIN CONNECTION LIMIT 0"), nil
	})
}

// Delete implements connector.Deleter. PostgreSQL itself refuses while the role owns or is mentioned by anything.
func (d *Database) Delete(ctx context.Context, ref connector.Ref) (connector.Change, error) {
	return d.mutate(ctx, ref, func(_ pgx.Tx, r role) (change, error) {
		return change{statements: []string{"DROP ROLE " + quoteName(r.name)}, gone: r}, nil
	})
}

// entitlementRole returns the role that an entitlement's id names; false when there is none.
func entitlementRole(ctx context.Context, q querier, id string) (role, bool, error) {
	name, ok := strings.CutPrefix(id, rolePrefix)
	if !ok || strings.ContainsRune(name, 0) {
		return role{}, false, nil
	}
	return roleByName(ctx, q, name)
}

// grantors lists from whom a direct membership is held: one, before version 16.
const grantors = `
SELECT coalesce(g.rolname::text, '')
FROM   pg_catalog.pg_auth_members m LEFT JOIN pg_catalog.pg_roles g ON g.oid = m.grantor
WHERE  m.roleid = $1 AND m.member = $2
ORDER  BY 1`

func heldFromWhom(ctx context.Context, q querier, group, member role) ([]string, error) {
	rows, err := q.Query(ctx, grantors, group.oid, member.oid)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// Grant implements connector.Granter. A membership that is only inherited is made a direct one: the other may go.
func (d *Database) Grant(ctx context.Context, ref connector.Ref, id string) (connector.Change, error) {
	return d.mutate(ctx, ref, func(tx pgx.Tx, r role) (change, error) {
		group, ok, err := entitlementRole(ctx, tx, id)
		if err != nil {
			return change{}, err
		}
		if !ok {
			return change{}, connector.NoEntitlement(id)
		}
		if p := d.ungrantable(group); p != nil {
			return change{}, p
		}
		from, err := heldFromWhom(ctx, tx, group, r)
		if err != nil || len(from) > 0 {
			return change{}, err
		}
		return membership(group, r, fmt.Sprintf("GRANT %s TO %s", quoteName(group.name), quoteName(r.name))), nil
	})
}

// Revoke implements connector.Granter. What the member granted on to others is not taken from them: a Precondition.
func (d *Database) Revoke(ctx context.Context, ref connector.Ref, id string) (connector.Change, error) {
	return d.mutate(ctx, ref, func(tx pgx.Tx, r role) (change, error) {
		group, ok, err := entitlementRole(ctx, tx, id)
		if err != nil || !ok {
			return change{}, err
		}
		from, err := heldFromWhom(ctx, tx, group, r)
		if err != nil || len(from) == 0 {
			return change{}, err
		}
		version, err := serverVersion(ctx, tx)
		if err != nil {
			return change{}, err
		}
		return membership(group, r, revocations(group, r, from, version)...), nil
	})
}

func membership(group, member role, statements ...string) change {
	return change{statements: statements, names: map[string]uint32{group.name: group.oid, member.name: member.oid}}
}

// revocations takes a membership away as a whole: since version 16 once for each grantor it is held from.
func revocations(group, member role, from []string, version int64) []string {
	sql := fmt.Sprintf("REVOKE %s FROM %s", quoteName(group.name), quoteName(member.name))
	if version < manyGrantors {
		return []string{sql}
	}
	var out []string
	for _, grantor := range from {
		out = append(out, sql+" GRANTED BY "+quoteName(grantor))
	}
	return out
}

func serverVersion(ctx context.Context, q querier) (version int64, err error) {
	err = q.QueryRow(ctx, `SELECT current_setting('server_version_num')::bigint`).Scan(&version)
	return version, err
}

// RevokeCredential implements connector.CredentialManager: without a password, no password login. Whether there was one
// only a superuser can see; others always report a change.
func (d *Database) RevokeCredential(ctx context.Context, ref connector.Ref, target string) (connector.Change, connector.Count, error) {
	if target != "" && target != connector.KindPassword {
		return connector.Unchanged, connector.Counted(0), nil // a role has no other kind
	}
	made, err := d.mutate(ctx, ref, func(tx pgx.Tx, r role) (change, error) {
		seen := []connector.Account{r.account()}
		if err := complete(ctx, tx, connector.Query{Credentials: true}, seen); err != nil {
			return change{}, err
		}
		if seen[0].CredentialsComplete && len(seen[0].Credentials) == 0 {
			return change{}, nil
		}
		return alter(r, "PASSWORD NULL"), nil
	})
	if err != nil {
		return 0, connector.Count{}, err
	}
	return made, connector.Counted(0), nil
}

// RotateCredential implements connector.CredentialRotator. The server gets a SCRAM verifier, so that neither its log nor its
// activity view ever holds the password.
func (d *Database) RotateCredential(ctx context.Context, ref connector.Ref, rotation connector.Rotation) (connector.Rotated, error) {
	switch {
	case rotation.Target != connector.KindPassword:
		return connector.Rotated{}, connector.NotFound("postgres.credential", "a role has only a password")
	case rotation.Secret == "":
		return connector.Rotated{}, connector.Unsupported("postgres.secret", "PostgreSQL makes no passwords: secret_in is needed")
	case rotation.Overlap > 0:
		return connector.Rotated{}, connector.Unsupported("postgres.overlap", "a role has one password: the old one ends at once")
	}
	verifier, err := scramVerifier(rotation.Secret)
	if err != nil {
		return connector.Rotated{}, connector.Invalid(nil, "postgres.secret", "%v", err)
	}
	_, err = d.mutate(ctx, ref, func(_ pgx.Tx, r role) (change, error) {
		return alter(r, "PASSWORD "+quoteLiteral(verifier)), nil
	})
	return connector.Rotated{ID: connector.KindPassword}, err
}

// terminate signals everything at once; awaited, each is waited for, and says false when it would not end.
const (
	terminate = `
SELECT s.pid, pg_catalog.pg_terminate_backend(s.pid) FROM pg_catalog.pg_stat_activity s
WHERE  s.usesysid = $1 AND coalesce(s.backend_type, '') <> 'parallel worker'`
	awaited = `
SELECT pg_catalog.pg_terminate_backend(s.pid, $2) FROM pg_catalog.pg_stat_activity s
WHERE  s.usesysid = $1 AND coalesce(s.backend_type, '') <> 'parallel worker'`
)

// endWithin is how long one signalled session may take to end.
const endWithin = 2 * time.Second

// KillSessions implements connector.SessionKiller. Sessions outlive their role, so a role that is gone is no error.
func (d *Database) KillSessions(ctx context.Context, ref connector.Ref) (connector.Change, connector.Count, error) {
	conn, err := d.acquire(ctx)
	if err != nil {
		return 0, connector.Count{}, err
	}
	defer conn.Release()
	r, ok, err := roleByID(ctx, conn, ref.ID)
	switch {
	case err != nil:
		return 0, connector.Count{}, notDone(err)
	case ok:
		if p := d.untouchable(r, ref, conn.Conn().Config().User); p != nil {
			return 0, connector.Count{}, p
		}
	default:
		if r.oid, ok = parseOID(ref.ID); !ok || r.oid < firstNormalOID {
			return 0, connector.Count{}, connector.NoAccount(ref.ID)
		}
	}
	signalled, err := rowCount(ctx, conn, terminate, r.oid)
	if err != nil {
		return 0, connector.Count{}, maybeDone(err)
	}
	if signalled == 0 {
		return connector.Unchanged, connector.Counted(0), nil
	}
	if _, err := rowCount(ctx, conn, awaited, r.oid, endWithin.Milliseconds()); err != nil {
		return 0, connector.Count{}, maybeDone(err)
	}
	left := []connector.Account{{ID: r.id()}}
	if err := complete(ctx, conn, connector.Query{Sessions: true}, left); err != nil {
		return 0, connector.Count{}, maybeDone(err)
	}
	return connector.Changed, left[0].LiveSessions, nil
}

func rowCount(ctx context.Context, q querier, sql string, args ...any) (int64, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return 0, err
	}
	rows.Close()
	return rows.CommandTag().RowsAffected(), rows.Err()
}
