package postgres

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/tenurehq/tenure/pkg/connector"
)

const (
	// firstNormalOID: what is below came with the server.
	firstNormalOID = 16384
	// maxName is where PostgreSQL cuts a name off, with a mere notice.
	maxName = 63
	// rolePrefix makes an entitlement's id of a role's name.
	rolePrefix = "role:"
	// markerLine begins the last line of a role's comment that Tenure wrote. What people wrote above it stays.
	markerLine = "managed by Tenure: "
)

// role is one row of pg_roles, with its comment.
type role struct {
	oid             uint32
	name            string
	canLogin        bool
	super           bool
	replication     bool
	connectionLimit int32
	validUntil      *int64 // microseconds since 1970; nil: for ever
	comment         string
}

// rolesFrom is what role.scan reads; a condition on r and d follows.
const rolesFrom = `
SELECT r.oid, r.rolname::text, r.rolcanlogin, r.rolsuper, r.rolreplication, r.rolconnlimit,
       CASE WHEN r.rolvaliduntil = 'infinity' THEN NULL WHEN r.rolvaliduntil = '-infinity' THEN 0
            ELSE (extract(epoch FROM r.rolvaliduntil) * 1000000)::bigint END,
       coalesce(d.description, '')
FROM   pg_catalog.pg_roles r
LEFT   JOIN pg_catalog.pg_shdescription d ON d.objoid = r.oid AND d.classoid = 'pg_catalog.pg_authid'::regclass `

func (r *role) scan(row pgx.Row) error {
	return row.Scan(&r.oid, &r.name, &r.canLogin, &r.super, &r.replication, &r.connectionLimit, &r.validUntil, &r.comment)
}

func (r role) id() connector.AccountID {
	return connector.AccountID(strconv.FormatUint(uint64(r.oid), 10))
}

// enabled says whether a login can succeed. Superusers pass a connection limit.
func (r role) enabled() bool { return r.canLogin && (r.connectionLimit != 0 || r.super) }

func (r role) marker() string {
	_, marker := splitComment(r.comment)
	return marker
}

// isAccount tells accounts from roles to be granted: who can log in, and who Tenure once made or adopted.
func (r role) isAccount() bool { return r.canLogin || r.marker() != "" }

func (r role) account() connector.Account {
	a := connector.Account{
		ID: r.id(), Name: r.name, CorrelationKey: r.name, Status: connector.Disabled, Marker: r.marker(),
		Attributes: map[string]string{attrLogin: r.name},
	}
	if r.enabled() {
		a.Status = connector.Enabled
	}
	if until := r.until(); !until.IsZero() {
		a.Attributes[attrValidUntil] = until.Format(time.RFC3339Nano)
	}
	return a
}

func (r role) until() time.Time {
	if r.validUntil == nil {
		return time.Time{}
	}
	return time.UnixMicro(*r.validUntil).UTC()
}

func splitComment(comment string) (people, marker string) {
	head, last := "", comment
	if i := strings.LastIndexByte(comment, '\n'); i >= 0 {
		head, last = comment[:i], comment[i+1:]
	}
	if marker, ok := strings.CutPrefix(last, markerLine); ok {
		return head, marker
	}
	return comment, ""
}

func joinComment(people, marker string) string {
	if people == "" {
		return markerLine + marker
	}
	return people + "\n" + markerLine + marker
}

// untouchable says why r must not be altered on behalf of ref; nil when it may be.
func (d *Database) untouchable(r role, ref connector.Ref, self string) *connector.Problem {
	switch marker := r.marker(); {
	case r.super, r.replication:
		return connector.Denied("postgres.protected", "role %q is a superuser or replicates", r.name)
	case r.oid < firstNormalOID, strings.HasPrefix(r.name, "pg_"), r.name == self, slices.Contains(d.cfg.Protected, r.name):
		return connector.Denied("postgres.protected", "role %q is protected", r.name)
	case marker != "" && marker != ref.Marker:
		return connector.Denied("postgres.marker", "role %q carries another marker", r.name)
	case !r.isAccount():
		return connector.Denied("postgres.not_an_account", "role %q cannot log in and is not marked as ours: it is there to be granted", r.name)
	}
	return nil
}

// ungrantable says why nobody may be made a member of r; nil when they may be.
func (d *Database) ungrantable(r role) *connector.Problem {
	switch {
	case r.isAccount():
		return connector.Precondition("postgres.is_account", "role %q is an account: a member could act as its owner", r.name)
	case r.super, r.replication, slices.Contains(d.cfg.Protected, r.name):
		return connector.Denied("postgres.protected", "role %q is protected", r.name)
	case strings.HasPrefix(r.name, "pg_") && !slices.Contains(d.cfg.Predefined, r.name):
		return connector.Denied("postgres.protected", "role %q is not listed in predefined", r.name)
	}
	return nil
}

func (d *Database) entitlement(r role) connector.Entitlement {
	return connector.Entitlement{ID: rolePrefix + r.name, Type: "role", DisplayName: r.name, Assignable: d.ungrantable(r) == nil}
}

// checkLogin refuses what PostgreSQL would refuse late, change in silence, or take for something else.
func checkLogin(name string) error {
	var wrong string
	switch {
	case name == "":
		wrong = "is required"
	case len(name) > maxName:
		wrong = "is longer than 63 bytes"
	case !utf8.ValidString(name), strings.ContainsRune(name, 0):
		wrong = "is not text"
	case strings.HasPrefix(name, "pg_"), name == "public", name == "none":
		wrong = "is reserved"
	default:
		return nil
	}
	return connector.Invalid([]string{attrLogin}, "postgres.login", "login %s", wrong)
}

// parseUntil takes one form only: any other would read back differently, and be a difference for ever.
func parseUntil(value string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339Nano, value)
	if err != nil || at.UTC().Truncate(time.Microsecond).Format(time.RFC3339Nano) != value {
		return time.Time{}, connector.Invalid([]string{attrValidUntil}, "postgres.valid_until",
			"valid_until must be an instant in UTC, such as 2026-12-01T00:00:00Z")
	}
	return at.UTC(), nil
}

func checkMarker(marker string) error {
	if strings.ContainsAny(marker, "\n\r\x00") {
		return connector.Invalid(nil, "postgres.marker", "a marker is one line")
	}
	return nil
}

func quoteName(name string) string { return pgx.Identifier{name}.Sanitize() }

// quoteLiteral is right whatever standard_conforming_strings says, as libpq's PQescapeLiteral is.
func quoteLiteral(s string) string {
	quoted := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.ContainsRune(s, '\\') {
		return " E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}
