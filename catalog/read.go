package catalog

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// contents is everything a snapshot is made of, as it was read: nothing in it has been judged yet.
type contents struct {
	Epoch       epochRow
	Policies    []policyRow
	Keys        []keyRow
	Columns     []columnRow
	Roles       []roleRow
	Grants      []grantRow
	Replicas    []replicaRow
	Memberships []membership
	Superusers  map[string]bool
	Databases   map[string]bool      // those that accept connections
	Created     map[string]time.Time // by manifest key
	Found       map[string][]found   // by column row's id: the columns there are now
}

// read reads the control plane at one moment, and then where the protected columns are now. The caller holds mu.
func (s *Store) read(ctx context.Context) (*contents, error) {
	conn, err := s.link(ctx, "")
	if err != nil {
		return nil, err
	}
	c, err := readControl(ctx, conn)
	if err != nil {
		s.unlink("")
		return nil, explain("read the catalog", err)
	}
	if err := s.locate(ctx, c); err != nil {
		return nil, explain("locate protected columns", err)
	}
	return c, nil
}

// readControl sends one batch, which is one transaction (see link).
func readControl(ctx context.Context, conn *pgx.Conn) (*contents, error) {
	c := &contents{Superusers: map[string]bool{}, Databases: map[string]bool{}, Created: map[string]time.Time{}, Found: map[string][]found{}}
	var b pgx.Batch
	b.Queue(`SELECT value, manifest, mac FROM pgveil.epoch`).QueryRow(func(row pgx.Row) error {
		err := row.Scan(&c.Epoch.Value, &c.Epoch.Manifest, &c.Epoch.MAC)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNotInitialized
		}
		return err
	})
	b.Queue(`SELECT id::text, name, format, options::text, accept_small_domain, active, column_version, mac, created_at
		FROM pgveil.policy ORDER BY id`).Query(each(c, func(row pgx.CollectableRow) (r policyRow, at time.Time, err error) {
		err = row.Scan(&r.ID, &r.Name, &r.Format, &r.Options, &r.AcceptSmallDomain, &r.Active, &r.ColumnVersion, &r.MAC, &at)
		return r, at, err
	}, &c.Policies))
	b.Queue(`SELECT policy_id::text, version, state, wrapped, check_value, mac, created_at
		FROM pgveil.key ORDER BY policy_id, version`).Query(each(c, func(row pgx.CollectableRow) (r keyRow, at time.Time, err error) {
		err = row.Scan(&r.PolicyID, &r.Version, &r.State, &r.Wrapped, &r.CheckValue, &r.MAC, &at)
		return r, at, err
	}, &c.Keys))
	b.Queue(`SELECT id::text, database_name, schema_name, table_name, column_name, relid, attnum, policy_id::text, mac, created_at
		FROM pgveil.protected_column ORDER BY id`).Query(each(c, func(row pgx.CollectableRow) (r columnRow, at time.Time, err error) {
		err = row.Scan(&r.ID, &r.Database, &r.Schema, &r.Table, &r.Column, &r.RelID, &r.Attnum, &r.PolicyID, &r.MAC, &at)
		return r, at, err
	}, &c.Columns))
	b.Queue(`SELECT name, verifier, client_key, mac, created_at FROM pgveil.role ORDER BY name`).Query(each(c, func(row pgx.CollectableRow) (r roleRow, at time.Time, err error) {
		err = row.Scan(&r.Name, &r.Verifier, &r.ClientKey, &r.MAC, &at)
		return r, at, err
	}, &c.Roles))
	b.Queue(`SELECT role, action, policy_id::text, mac, created_at
		FROM pgveil.role_grant ORDER BY role, action, policy_id`).Query(each(c, func(row pgx.CollectableRow) (r grantRow, at time.Time, err error) {
		err = row.Scan(&r.Role, &r.Action, &r.PolicyID, &r.MAC, &at)
		return r, at, err
	}, &c.Grants))
	b.Queue(`SELECT name, source, database_name, schema_name, tables, mac, created_at
		FROM pgveil.replica ORDER BY name`).Query(each(c, func(row pgx.CollectableRow) (r replicaRow, at time.Time, err error) {
		err = row.Scan(&r.Name, &r.Source, &r.Database, &r.Schema, &r.Tables, &r.MAC, &at)
		return r, at, err
	}, &c.Replicas))
	b.Queue(inherited(conn)).Query(func(rows pgx.Rows) (err error) {
		c.Memberships, err = pgx.CollectRows(rows, pgx.RowToStructByPos[membership])
		return err
	})
	b.Queue(`SELECT rolname::text FROM pg_roles WHERE rolsuper`).Query(names(c.Superusers))
	b.Queue(`SELECT datname::text FROM pg_database WHERE datallowconn`).Query(names(c.Databases))
	return c, conn.SendBatch(ctx, &b).Close()
}

// inherited is the query for the edges over which a member uses its role's privileges without SET ROLE. From version 16
// on each membership says so; before, the member does (PostgreSQL manual, GRANT and CREATE ROLE).
func inherited(conn *pgx.Conn) string {
	inherits := "u.rolinherit"
	if serverMajor(conn) >= 16 {
		inherits = "m.inherit_option"
	}
	return `SELECT DISTINCT r.rolname::text, u.rolname::text FROM pg_auth_members m
		JOIN pg_roles r ON r.oid = m.roleid JOIN pg_roles u ON u.oid = m.member
		WHERE ` + inherits + ` ORDER BY 1, 2`
}

// each collects records with the time of their making.
func each[R record](c *contents, scan func(pgx.CollectableRow) (R, time.Time, error), into *[]R) func(pgx.Rows) error {
	return func(rows pgx.Rows) (err error) {
		*into, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (R, error) {
			r, at, err := scan(row)
			c.Created[manifestKey(r)] = at
			return r, err
		})
		return err
	}
}

func names(into map[string]bool) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var name string
		_, err := pgx.ForEachRow(rows, []any{&name}, func() error { into[name] = true; return nil })
		return err
	}
}
