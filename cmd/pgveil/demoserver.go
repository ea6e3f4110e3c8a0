package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"pgveil/internal/scram"
)

const (
	serviceRole = "pgveil" // pgveil's own login on the backing server
	ownerRole   = "owner"  // owns the demonstration's databases and tables

	shopDatabase = "shop" // holds the control plane, too
	crmDatabase  = "crm"  // the replica's source
)

var demoDatabases = []string{shopDatabase, crmDatabase}

// clientRoles are those that log in to the front-end.
var clientRoles = []string{"app", "support", "analyst"}

// prepareServer makes the roles and databases that need a superuser. It may be repeated.
func (d *dev) prepareServer(ctx context.Context) error {
	d.ui.step("making roles and databases")
	conn, err := d.backing.connect(ctx, d.backing.admin.Database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if err := d.checkServer(ctx, conn); err != nil {
		return err
	}
	if d.ephemeral && d.backing.cluster == nil {
		d.onClose(d.leaveServer)
	}
	for _, r := range []struct{ name, attributes string }{
		{serviceRole, "LOGIN NOSUPERUSER CREATEROLE REPLICATION"},
		{ownerRole, "LOGIN NOSUPERUSER"},
	} {
		if err := d.makeRole(ctx, conn, r.name, r.attributes); err != nil {
			return err
		}
	}
	if _, err := conn.Exec(ctx, `GRANT `+ownerRole+` TO `+serviceRole); err != nil {
		return err
	}
	for _, name := range demoDatabases {
		if err := d.makeDatabase(ctx, conn, name); err != nil {
			return err
		}
	}
	return nil
}

// checkServer refuses a server that has something of our names which is not ours, before anything is made.
func (d *dev) checkServer(ctx context.Context, conn *pgx.Conn) error {
	for _, name := range demoDatabases {
		if err := d.checkOurs(ctx, conn, "database", name); err != nil {
			return err
		}
	}
	for _, name := range append(slices.Clone(clientRoles), serviceRole, ownerRole) {
		if err := d.checkOurs(ctx, conn, "role", name); err != nil {
			return err
		}
	}
	return nil
}

// makeRole makes the role, or gives one of ours its attributes and password again. The server gets a verifier,
// never the password, which it could log.
func (d *dev) makeRole(ctx context.Context, conn *pgx.Conn, name, attributes string) error {
	password, err := d.password(name)
	if err != nil {
		return err
	}
	verifier, err := scram.NewVerifier(password.Expose(), 0)
	if err != nil {
		return err
	}
	exists, err := has(ctx, conn, "role", name)
	if err != nil {
		return err
	}
	verb := "CREATE"
	if exists {
		verb = "ALTER"
	}
	_, err = conn.Exec(ctx, verb+` ROLE `+quoteIdent(name)+` `+attributes+` PASSWORD '`+verifier.Exposed()+`'`)
	if err != nil {
		return fmt.Errorf("role %s: %w", name, err)
	}
	return d.claim(ctx, conn, "role", name)
}

func (d *dev) makeDatabase(ctx context.Context, conn *pgx.Conn, name string) error {
	exists, err := has(ctx, conn, "database", name)
	if err != nil || exists {
		return err
	}
	if _, err := conn.Exec(ctx, `CREATE DATABASE `+quoteIdent(name)+` OWNER `+ownerRole+` TEMPLATE template0 ENCODING 'UTF8'`); err != nil {
		return fmt.Errorf("database %s: %w", name, err)
	}
	return d.claim(ctx, conn, "database", name)
}

// has says whether there is a role or database of the name.
func has(ctx context.Context, conn *pgx.Conn, kind, name string) (found bool, err error) {
	query := map[string]string{
		"role":     `SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1)`,
		"database": `SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = $1)`,
	}[kind]
	err = conn.QueryRow(ctx, query, name).Scan(&found)
	return found, err
}

// claim marks a role or database as this demonstration's, by its comment.
func (d *dev) claim(ctx context.Context, conn *pgx.Conn, kind, name string) error {
	_, err := conn.Exec(ctx, `COMMENT ON `+kind+` `+quoteIdent(name)+` IS '`+d.mark()+`'`)
	return err
}

func (d *dev) mark() string { return "pgveil dev " + d.state.Installation }

// checkOurs refuses to touch what somebody else made in a server that is not private. In a private cluster
// everything is ours, whatever a killed run left half done.
func (d *dev) checkOurs(ctx context.Context, conn *pgx.Conn, kind, name string) error {
	if d.backing.cluster != nil {
		return nil
	}
	exists, err := has(ctx, conn, kind, name)
	if err != nil || !exists {
		return err
	}
	query := map[string]string{
		"role":     `SELECT coalesce(pg_catalog.shobj_description(oid, 'pg_authid'), '') FROM pg_catalog.pg_roles WHERE rolname = $1`,
		"database": `SELECT coalesce(pg_catalog.shobj_description(oid, 'pg_database'), '') FROM pg_catalog.pg_database WHERE datname = $1`,
	}[kind]
	var comment string
	if err := conn.QueryRow(ctx, query, name).Scan(&comment); err != nil {
		return err
	}
	if comment != d.mark() {
		return failed("the backing server has a %s %q that this demonstration did not make", kind, name).
			hint("use another server, or leave --backing out for a private cluster")
	}
	return nil
}

// leaveServer removes what an ephemeral demonstration made on somebody else's server.
func (d *dev) leaveServer(ctx context.Context) error {
	d.ui.step("removing the demonstration from the backing server")
	conn, err := d.backing.connect(ctx, d.backing.admin.Database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if err := d.checkServer(ctx, conn); err != nil {
		return err
	}
	for _, name := range demoDatabases {
		// A slot keeps a database from being dropped.
		_, err := conn.Exec(ctx, `SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots
			WHERE database = $1 AND NOT active`, name)
		if err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, `DROP DATABASE IF EXISTS `+quoteIdent(name)+` WITH (FORCE)`); err != nil {
			return err
		}
	}
	for _, name := range append(slices.Clone(clientRoles), serviceRole, ownerRole) {
		if _, err := conn.Exec(ctx, `DROP ROLE IF EXISTS `+quoteIdent(name)); err != nil {
			return err
		}
	}
	return nil
}

func quoteIdent(s string) string { return pgx.Identifier{s}.Sanitize() }
