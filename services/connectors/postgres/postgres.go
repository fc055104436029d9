// Package postgres brings a PostgreSQL server's login roles under Tenure: a role is an account, membership in another role
// an entitlement, its password the one credential, its backends the sessions.
//
// Roles belong to the whole server, so one application is one server, whatever database its URL names. An account's id is the
// role's oid, its marker stands in the role's comment. Superusers, replication roles, pg_ roles, the connector's own role and
// roles that carry somebody else's marker are never altered. Roles to be granted are never created, and a role
// that owns something is never dropped.
package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tenurehq/tenure/pkg/config"
	"github.com/tenurehq/tenure/pkg/connector"
)

const (
	connectTimeout = 5 * time.Second
	// lockTimeout turns waiting for somebody's open transaction into a Conflict, whose outcome is known, before the
	// step's own time is over, when it would not be.
	lockTimeout = "5000" // ms
	// oldest is the first version whose pg_terminate_backend can wait for what it ended.
	oldest = 140000
	// manyGrantors is the first version in which a membership can be held from several grantors at once.
	manyGrantors = 160000
)

// Database is the connector. It implements every interface of the SDK but Poller.
type Database struct {
	cfg  Config
	pool *pgxpool.Pool
	url  string // the password in the URL, if any
}

// Open prepares the connector. It does not contact the server.
func Open(ctx context.Context, cfg Config) (*Database, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	settings, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("url: not a PostgreSQL connection string") // the parser's text may hold the password
	}
	settings.MaxConns = int32(min(max(cfg.Connections, 1), 1000))
	if cfg.Connections == 0 {
		settings.MaxConns = defaultConnections
	}
	settings.MinConns = 0
	if settings.ConnConfig.ConnectTimeout == 0 {
		settings.ConnConfig.ConnectTimeout = connectTimeout
	}
	params := settings.ConnConfig.RuntimeParams
	if params["application_name"] == "" {
		params["application_name"] = "tenure"
	}
	params["client_encoding"] = "UTF8"
	params["standard_conforming_strings"] = "on" // quoteLiteral does not depend on it
	params["lock_timeout"] = lockTimeout
	if cfg.PasswordFile != "" {
		settings.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
			secret, err := config.ReadSecret(cfg.PasswordFile)
			if err != nil {
				return connector.Auth("postgres.password_file", "%v", err)
			}
			c.Password = string(secret.Reveal())
			return nil
		}
	}
	pool, err := pgxpool.NewWithConfig(ctx, settings)
	if err != nil {
		return nil, fmt.Errorf("prepare connections: %w", err)
	}
	return &Database{cfg: cfg, pool: pool, url: settings.ConnConfig.Password}, nil
}

// Close closes the connections.
func (d *Database) Close() error {
	d.pool.Close()
	return nil
}

// Secrets implements connector.SecretHolder.
func (d *Database) Secrets() []string {
	secrets := []string{d.url}
	if d.cfg.PasswordFile != "" {
		// One that cannot be read was never used either.
		if secret, err := config.ReadSecret(d.cfg.PasswordFile); err == nil {
			secrets = append(secrets, string(secret.Reveal()))
		}
	}
	return secrets
}

// Describe implements connector.Connector.
func (d *Database) Describe() connector.Description {
	return connector.Description{
		Type: "postgres", Version: "1", ConfigSchema: configSchema,
		CredentialKinds: []string{connector.KindPassword},
		Attributes: []connector.Attribute{
			{Name: attrLogin, Type: "string", Required: true, Writable: true, Unique: true, CaseExact: true},
			{Name: attrValidUntil, Type: "string", Writable: true, CaseExact: true},
		},
	}
}

const identify = `
SELECT (SELECT system_identifier::text FROM pg_catalog.pg_control_system()),
       current_setting('server_version'), current_setting('server_version_num')::bigint,
       pg_catalog.pg_is_in_recovery(), r.rolsuper OR r.rolcreaterole,
       r.rolsuper OR pg_catalog.pg_has_role('pg_signal_backend', 'USAGE')
FROM   pg_catalog.pg_roles r
WHERE  r.rolname = current_user`

// Check implements connector.Connector. Two databases of one server have one identity: their roles are the same.
func (d *Database) Check(ctx context.Context) (connector.Identity, error) {
	conn, err := d.acquire(ctx)
	if err != nil {
		return connector.Identity{}, err
	}
	defer conn.Release()
	var (
		system, version            string
		number                     int64
		standby, createRole, signs bool
	)
	if err := conn.QueryRow(ctx, identify).Scan(&system, &version, &number, &standby, &createRole, &signs); err != nil {
		return connector.Identity{}, notDone(err)
	}
	out := connector.Identity{Target: "postgres:" + system, Product: "PostgreSQL " + version}
	missing := func(is bool, p *connector.Problem) {
		if is {
			out.Problems = append(out.Problems, p.Instance())
		}
	}
	missing(number < oldest, connector.Precondition("postgres.version", "PostgreSQL %s is older than 14", version))
	missing(standby, connector.Precondition("postgres.standby", "this server is a standby: name the primary"))
	missing(!createRole, connector.Denied("postgres.createrole", "the connector's role needs CREATEROLE"))
	missing(!signs, connector.Denied("postgres.pg_signal_backend", "the connector's role needs pg_signal_backend to end sessions"))
	return out, nil
}

// acquire returns a connection on which nothing has been sent.
func (d *Database) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return nil, notDone(err)
	}
	return conn, nil
}
