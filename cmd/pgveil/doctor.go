package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"

	"pgveil/catalog"
	"pgveil/engine"
	"pgveil/internal/cluster"
	"pgveil/migrations"
	"pgveil/replication"
)

var doctorCommand = command{
	name:    "doctor",
	summary: "check the installation and say what to mend",
	example: "pgveil doctor\npgveil doctor -o json",
	run:     doctor,
}

// A doctorReport collects findings: ok, warn (works, but look at it) or fail.
type doctorReport struct {
	table  *table
	failed int
}

func (r *doctorReport) ok(check, format string, args ...any)   { r.add(check, "ok", format, args...) }
func (r *doctorReport) warn(check, format string, args ...any) { r.add(check, "warn", format, args...) }

func (r *doctorReport) fail(check, format string, args ...any) {
	r.failed++
	r.add(check, "fail", format, args...)
}

func (r *doctorReport) add(check, state, format string, args ...any) {
	r.table.add(check, state, oneLine(fmt.Sprintf(format, args...)))
}

// problem reports an error as a failure with its hint, or that all is well.
func (r *doctorReport) judge(check string, err error, format string, args ...any) bool {
	if err == nil {
		r.ok(check, format, args...)
		return true
	}
	text := err.Error()
	if _, help := classify(err); help != "" {
		text += " (" + help + ")"
	}
	r.fail(check, "%s", text)
	return false
}

// doctor runs the checks in the order in which one needs another, prints what it found, and fails if a check did.
func doctor(ctx context.Context, c *call) error {
	s, err := loadSettings()
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, s.databaseURL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	r := &doctorReport{table: newTable("check", "state", "detail")}
	for _, check := range []func(context.Context, *pgx.Conn) error{r.server, r.privileges, r.replicationSettings, r.logging} {
		if err := check(ctx, conn); err != nil {
			return err
		}
	}
	pending, err := migrations.Pending(ctx, conn)
	if err == nil && len(pending) > 0 {
		err = failed("not applied: %s", strings.Join(pending, ", ")).hint("pgveil migrate")
	}
	if r.judge("migrations", err, "current") {
		r.controlPlane(ctx, s, conn)
	}
	r.checkpoints(s.checkpoints)
	if err := c.ui.print(r.table); err != nil {
		return err
	}
	if r.failed > 0 {
		return failed("%d of %d checks failed", r.failed, len(r.table.rows))
	}
	return nil
}

func (r *doctorReport) server(ctx context.Context, conn *pgx.Conn) error {
	var number int
	var text string
	if err := conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_setting('server_version')`).Scan(&number, &text); err != nil {
		return err
	}
	switch major := number / 10000; {
	case major < cluster.Oldest:
		r.fail("server", "PostgreSQL %s is older than %d", text, cluster.Oldest)
	case major > cluster.Newest:
		r.warn("server", "PostgreSQL %s is newer than %d, which is the newest tested", text, cluster.Newest)
	default:
		r.ok("server", "PostgreSQL %s", text)
	}
	return nil
}

func (r *doctorReport) privileges(ctx context.Context, conn *pgx.Conn) error {
	var name string
	var super, createRole, replication bool
	err := conn.QueryRow(ctx, `SELECT rolname, rolsuper, rolcreaterole, rolreplication FROM pg_catalog.pg_roles WHERE rolname = current_user`).
		Scan(&name, &super, &createRole, &replication)
	if err != nil {
		return err
	}
	switch {
	case super:
		r.warn("service role", "%s is a superuser; it needs only CREATEROLE, REPLICATION and membership in the owners of protected tables", name)
	case !createRole:
		r.warn("service role", "%s lacks CREATEROLE: role add cannot make roles", name)
	case !replication:
		r.warn("service role", "%s lacks REPLICATION, which it needs where it is a replica's source too", name)
	default:
		r.ok("service role", "%s", name)
	}
	return nil
}

func (r *doctorReport) replicationSettings(ctx context.Context, conn *pgx.Conn) error {
	var level string
	var free int
	err := conn.QueryRow(ctx, `SELECT current_setting('wal_level'),
		current_setting('max_replication_slots')::int - (SELECT count(*)::int FROM pg_catalog.pg_replication_slots)`).Scan(&level, &free)
	if err != nil {
		return err
	}
	switch {
	case level != "logical":
		r.warn("replication", "wal_level is %s: this server cannot be a replica's source (ALTER SYSTEM SET wal_level = logical, then restart)", level)
	case free <= 0:
		r.warn("replication", "no free replication slot: this server cannot be the source of another stream")
	default:
		r.ok("replication", "wal_level is logical, %d slots are free", free)
	}
	return nil
}

// logging looks at what the server writes when a guard refuses a clear value that came around the front-end: the
// value is in the statement and in the DETAIL of the error.
func (r *doctorReport) logging(ctx context.Context, conn *pgx.Conn) error {
	var verbosity, statement string
	err := conn.QueryRow(ctx, `SELECT current_setting('log_error_verbosity'), current_setting('log_min_error_statement')`).Scan(&verbosity, &statement)
	if err != nil {
		return err
	}
	if verbosity == "terse" && (statement == "panic" || statement == "fatal" || statement == "log") {
		r.ok("server log", "refused rows and statements are not logged")
		return nil
	}
	r.warn("server log", "a clear value that a guard refuses on a direct connection stands in the server's log (log_error_verbosity = terse and log_min_error_statement = panic leave it out)")
	return nil
}

func (r *doctorReport) controlPlane(ctx context.Context, s settings, conn *pgx.Conn) {
	ring, err := s.openRing(ctx)
	if !r.judge("kek", err, "opens the root key") {
		return
	}
	store, err := catalog.Open(ctx, catalog.Config{DSN: s.databaseURL, Sealer: ring})
	if !r.judge("catalog", err, "authenticates") {
		return
	}
	p := &control{settings: s, ring: ring, store: store}
	defer p.close()
	snapshot, err := store.Current()
	if err != nil {
		r.fail("catalog", "%v", err)
		return
	}
	for _, a := range snapshot.Alarms() {
		r.fail("alarm", "%s: %s", a.Object, a.Reason)
	}
	r.policies(ctx, p)
	r.columns(ctx, p, conn)
	r.streams(ctx, p)
}

func (r *doctorReport) policies(ctx context.Context, p *control) {
	policies, err := p.store.Policies(ctx)
	if err != nil {
		r.fail("policies", "%v", err)
		return
	}
	for _, i := range policies {
		policy := engine.Policy{Name: i.Name, Format: i.Format, Options: i.Options, AcceptSmallDomain: i.AcceptSmallDomain}
		if small := smallDomains(policy); len(small) > 0 && accepts(policy) {
			r.warn("policy "+i.Name, "accepts a small domain (%s): whoever may tokenize can list its values", strings.Join(small, ", "))
		}
	}
}

func (r *doctorReport) columns(ctx context.Context, p *control, conn *pgx.Conn) {
	columns, err := p.store.Columns(ctx)
	if err != nil {
		r.fail("columns", "%v", err)
		return
	}
	protected := map[string]bool{}
	good := 0
	for _, c := range columns {
		name := c.Schema + "." + c.Table + "." + c.Column
		if c.Database == p.database() {
			protected[name] = true
		}
		switch full := c.Database + "." + name; {
		case !c.Exists:
			r.warn("column "+full, "is gone (pgveil column release takes the mark away)")
		case !c.Guarded:
			r.fail("column "+full, "has no guard: a direct connection could store a clear value (pgveil column protect puts it back)")
		case !c.Usable:
			r.fail("column "+full, "cannot be answered: see the alarms")
		default:
			good++
		}
	}
	r.ok("columns", "%d protected and guarded", good)
	r.unprotected(ctx, conn, protected)
}

// unprotected looks for columns whose names say that they hold personal data, and that nobody protected.
func (r *doctorReport) unprotected(ctx context.Context, conn *pgx.Conn, protected map[string]bool) {
	rows, err := conn.Query(ctx, `SELECT n.nspname || '.' || c.relname || '.' || a.attname
		FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid IN ('text'::regtype, 'varchar'::regtype)
			AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgveil') AND n.nspname !~ '^pg_'
			AND a.attname ~* '(^|_)(ssn|social_security|e?mail|phone|mobile|card|pan|iban|passport|tax_id)(_|$)' ORDER BY 1`)
	if err != nil {
		r.fail("unprotected", "%v", err)
		return
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		r.fail("unprotected", "%v", err)
		return
	}
	for _, name := range names {
		if !protected[name] {
			r.warn("unprotected", "%s looks like personal data", name)
		}
	}
}

func (r *doctorReport) streams(ctx context.Context, p *control) {
	list, err := p.streamStatus(ctx, "")
	if err != nil {
		r.fail("streams", "%v", err)
		return
	}
	for _, t := range list {
		name := "stream " + t.Stream + " " + t.SourceSchema + "." + t.Table
		switch t.Phase {
		case replication.Stopped, replication.NeedsResync:
			r.fail(name, "%s: %s", t.Phase, t.Reason)
		case replication.Streaming:
			r.ok(name, "streaming, %d bytes behind", t.LagBytes)
		default:
			r.warn(name, "%s", t.Phase)
		}
	}
}

// checkpoints checks that the directory can be written to.
func (r *doctorReport) checkpoints(dir string) {
	if dir == "" {
		r.warn("audit", "PGVEIL_AUDIT_CHECKPOINTS is not set: removed records at the end of the log cannot be noticed")
		return
	}
	f, err := os.CreateTemp(dir, ".doctor-")
	if errors.Is(err, os.ErrNotExist) {
		r.warn("audit", "%s does not exist yet", dir)
		return
	}
	if err != nil {
		r.fail("audit", "%v", err)
		return
	}
	f.Close()
	os.Remove(f.Name())
	r.ok("audit", "checkpoints go to %s", filepath.Clean(dir))
}
