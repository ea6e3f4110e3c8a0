package catalog_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgveil/catalog"
)

// token makes a token of the policy at the columns' version.
func (in *installation) token(policy, value string) string {
	in.t.Helper()
	p := in.snapshot().Policy(policy)
	token, err := p.Transform.AppendToken(nil, []byte(value), p.ColumnVersion)
	must(in.t, err)
	return string(token)
}

// column returns the snapshot's column of that name, nil if there is none.
func (in *installation) column(schema, table, name string) *catalog.Column {
	in.t.Helper()
	for _, c := range in.snapshot().Columns(in.database) {
		if c.Schema == schema && c.Table == table && c.Name == name {
			return c
		}
	}
	return nil
}

// TestColumns runs the tests of protected columns.
func TestColumns(t *testing.T) {
	group(t,
		testProtectedColumnHoldsTokensOnly,
		testProtectAgainPutsTheGuardBack,
		testProtectRefusesWhatItCannotProtect,
		testProtectRefusesTokensOfAnotherVersionOrKey,
		testReleaseTakesGuardAndMark,
		testRenamedColumnAndTableStayProtected,
		testRecreatedTableStaysProtectedByName,
		testColumnsOfOtherDatabases,
	)
}

func testProtectedColumnHoldsTokensOnly(t *testing.T) {
	in := install(t)
	in.policy("ssn", "ssn")
	in.exec(`CREATE TABLE "My Table" (id int, "a ""b" text UNIQUE)`)
	in.protect("My Table", `a "b`, "ssn")
	c := in.column("public", "My Table", `a "b`)
	if c == nil || c.RelID == 0 || c.Attnum != 2 || c.Policy.Transform == nil || c.Policy.Name != "ssn" {
		t.Fatalf("column = %+v", c)
	}
	in.exec(`INSERT INTO "My Table" VALUES (1, $1), (2, NULL)`, in.token("ssn", "123-45-6789"))
	_, err := in.super.Exec(t.Context(), `INSERT INTO "My Table" VALUES (3, '123-45-6789')`)
	var pg *pgconn.PgError
	if e, ok := err.(*pgconn.PgError); ok {
		pg = e
	}
	if pg == nil || pg.Code != "23514" || !strings.HasPrefix(pg.ConstraintName, "pgveil_guard_a ") {
		t.Errorf("a clear value gives %v, want the guard's violation", err)
	}
	infos, err := in.Columns(t.Context())
	must(t, err)
	if len(infos) != 1 || !infos[0].Guarded || !infos[0].Exists || !infos[0].Usable || infos[0].Version != 1 {
		t.Errorf("columns = %+v", infos)
	}
	if got := in.snapshot().Databases(); len(got) != 1 || got[0] != in.database {
		t.Errorf("databases = %v", got)
	}
}

func testProtectAgainPutsTheGuardBack(t *testing.T) {
	in := install(t)
	in.policy("ssn", "ssn")
	in.policy("other", "ssn")
	long := strings.Repeat("x", 63)
	in.exec(`CREATE TABLE t (ssn text, ` + long + ` text, ` + long[:62] + `y text)`)
	for _, column := range []string{"ssn", long, long[:62] + "y"} {
		in.protect("t", column, "ssn")
	}
	var guards []string
	rows, _ := in.super.Query(t.Context(), `SELECT conname::text FROM pg_constraint WHERE conrelid = 't'::regclass ORDER BY 1`)
	guards, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	if len(guards) != 3 || guards[0] != "pgveil_guard_ssn" {
		t.Errorf("guards = %q", guards)
	}
	epoch := in.snapshot().CatalogEpoch()
	in.exec(`ALTER TABLE t DROP CONSTRAINT pgveil_guard_ssn`)
	if infos, _ := in.Columns(t.Context()); infos[0].Guarded {
		t.Error("a dropped guard is reported as standing")
	}
	in.protect("t", "ssn", "ssn")
	if infos, _ := in.Columns(t.Context()); !infos[0].Guarded || len(infos) != 3 {
		t.Errorf("after protecting again: %+v", infos)
	}
	if in.snapshot().CatalogEpoch() != epoch {
		t.Error("protecting again changed the catalog")
	}
	err = in.Protect(t.Context(), in.database, "public", "t", "ssn", "other")
	wantCode(t, err, catalog.CodeExists, "another policy")
}

func testProtectRefusesWhatItCannotProtect(t *testing.T) {
	in := install(t)
	in.policy("ssn", "ssn")
	in.policy("email", "email")
	in.exec(`
		CREATE DOMAIN d AS text;
		CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
		CREATE TABLE types (n int, c char(11), dom d, arr text[], ok varchar(11), short varchar(20), wide varchar(255), ci text COLLATE ci);
		CREATE TABLE gen (a text, b text GENERATED ALWAYS AS (a || 'x') STORED);
		CREATE TABLE def (a text DEFAULT '123-45-6789');
		CREATE TABLE parted (a text) PARTITION BY LIST (a);
		CREATE TABLE part PARTITION OF parted DEFAULT;
		CREATE TABLE parent (a text);
		CREATE TABLE child () INHERITS (parent);
		CREATE VIEW v AS SELECT ok FROM types;
		CREATE MATERIALIZED VIEW mv AS SELECT ok FROM types;
		CREATE TABLE idx (a text, b text, d text);
		CREATE UNIQUE INDEX idx_lower ON idx (lower(a));
		CREATE INDEX idx_upper ON idx (upper(b));
		CREATE TABLE rls (a text);
		CREATE POLICY mine ON rls USING (a = '123-45-6789');
		CREATE TABLE full_ (a text);
		INSERT INTO full_ VALUES ('123-45-6789');
		CREATE TABLE odd (a text);
		INSERT INTO odd VALUES ('not even a value')`)
	for _, c := range []struct {
		table, column, policy string
		code                  catalog.Code
		words                 string
	}{
		{"types", "n", "ssn", catalog.CodeUnsupported, "of type integer"},
		{"types", "c", "ssn", catalog.CodeUnsupported, "of type character"},
		{"types", "dom", "ssn", catalog.CodeUnsupported, "of type domain"},
		{"types", "arr", "ssn", catalog.CodeUnsupported, "of type text[]"},
		{"types", "short", "email", catalog.CodeUnsupported, "varchar(20)"},
		{"types", "ci", "ssn", catalog.CodeUnsupported, "nondeterministic"},
		{"gen", "b", "ssn", catalog.CodeUnsupported, "generated"},
		{"gen", "a", "ssn", catalog.CodeUnsupported, `generated column "b"`},
		{"def", "a", "ssn", catalog.CodeUnsupported, "DEFAULT"},
		{"parted", "a", "ssn", catalog.CodeUnsupported, "partitioned"},
		{"part", "a", "ssn", catalog.CodeUnsupported, "partition"},
		{"parent", "a", "ssn", catalog.CodeUnsupported, "inheritance"},
		{"child", "a", "ssn", catalog.CodeUnsupported, "inheritance"},
		{"v", "ok", "ssn", catalog.CodeUnsupported, "view"},
		{"mv", "ok", "ssn", catalog.CodeUnsupported, "materialized view"},
		{"idx", "a", "ssn", catalog.CodeUnsupported, "idx_lower"},
		{"rls", "a", "ssn", catalog.CodeUnsupported, `policy "mine"`},
		{"full_", "a", "ssn", catalog.CodeHoldsValues, "not tokens"},
		{"odd", "a", "ssn", catalog.CodeHoldsValues, "not tokens"},
		{"nowhere", "a", "ssn", catalog.CodeUnknown, "unknown table"},
		{"types", "nowhere", "ssn", catalog.CodeUnknown, "unknown column"},
		{"types", "ok", "nowhere", catalog.CodeUnknown, "unknown policy"},
	} {
		wantCode(t, in.Protect(t.Context(), in.database, "public", c.table, c.column, c.policy), c.code, c.words)
	}
	wantCode(t, in.Protect(t.Context(), "no_such_db", "public", "t", "a", "ssn"), catalog.CodeUnknown, "unknown database")
	wantCode(t, in.Protect(t.Context(), in.database, "pgveil", "policy", "name", "ssn"), catalog.CodeUnsupported, "system table")
	if n := len(in.snapshot().Columns(in.database)); n != 0 {
		t.Errorf("%d columns are protected after refusals", n)
	}
	var guards int
	must(t, in.super.QueryRow(t.Context(), `SELECT count(*) FROM pg_constraint WHERE conname LIKE 'pgveil%'`).Scan(&guards))
	if guards != 0 {
		t.Errorf("%d guards stand after refusals", guards)
	}
	in.protect("types", "ok", "ssn")
	in.protect("types", "wide", "email")
	in.protect("idx", "b", "ssn")
}

func testProtectRefusesTokensOfAnotherVersionOrKey(t *testing.T) {
	in := install(t)
	in.policy("ssn", "ssn")
	in.policy("mail", "email")
	in.policy("mail2", "email")
	in.exec(`CREATE TABLE t (a text, b text, c text)`)
	_, err := in.Rotate(t.Context(), "ssn")
	must(t, err)
	newer, err := in.snapshot().Policy("ssn").Transform.AppendToken(nil, []byte("123-45-6789"), 2)
	must(t, err)
	in.exec(`INSERT INTO t VALUES ($1, $2, $3)`, string(newer), in.token("mail2", "a@example.com"), in.token("ssn", "123-45-6789"))
	wantCode(t, in.Protect(t.Context(), in.database, "public", "t", "a", "ssn"), catalog.CodeHoldsValues, "key version 2")
	wantCode(t, in.Protect(t.Context(), in.database, "public", "t", "b", "mail"), catalog.CodeHoldsValues, "not tokens")
	in.protect("t", "b", "mail2")
	in.protect("t", "c", "ssn")
}

func testReleaseTakesGuardAndMark(t *testing.T) {
	in := install(t)
	in.policy("ssn", "ssn")
	in.exec(`CREATE TABLE t (ssn text)`)
	in.protect("t", "ssn", "ssn")
	in.exec(`INSERT INTO t VALUES ($1)`, in.token("ssn", "123-45-6789"))
	release := func(force bool) error {
		return in.Release(t.Context(), in.database, "public", "t", "ssn", force)
	}
	wantCode(t, release(false), catalog.CodeHoldsTokens, "holds tokens")
	if in.column("public", "t", "ssn") == nil {
		t.Fatal("a refused release released")
	}
	must(t, release(true))
	if in.column("public", "t", "ssn") != nil {
		t.Error("the column is still protected")
	}
	in.exec(`INSERT INTO t VALUES ('123-45-6789')`)
	wantCode(t, release(true), catalog.CodeUnknown, "not protected")
}

func testRenamedColumnAndTableStayProtected(t *testing.T) {
	in := install(t)
	in.policy("ssn", "ssn")
	in.exec(`CREATE TABLE t (ssn text)`)
	in.protect("t", "ssn", "ssn")
	before := in.snapshot()
	in.exec(`CREATE SCHEMA s; ALTER TABLE t RENAME ssn TO number; ALTER TABLE t RENAME TO u; ALTER TABLE u SET SCHEMA s`)
	c := in.column("s", "u", "number")
	if c == nil || c.Policy.Transform == nil || c.RelID != before.Columns(in.database)[0].RelID {
		t.Fatalf("column = %+v", c)
	}
	if in.snapshot().Epoch() <= before.Epoch() {
		t.Error("a rename did not move the epoch")
	}
	// A new table takes the old name: nobody can say which of the two is meant, so both are protected.
	in.exec(`CREATE TABLE t (ssn text)`)
	if in.column("public", "t", "ssn") == nil || in.column("s", "u", "number") == nil {
		t.Error("one of the two is not protected")
	}
	in.exec(`DROP TABLE t`)
	must(t, in.Release(t.Context(), in.database, "s", "u", "number", false))
	if len(in.snapshot().Columns(in.database)) != 0 {
		t.Error("the released column is still protected")
	}
}

func testRecreatedTableStaysProtectedByName(t *testing.T) {
	in := install(t)
	in.policy("ssn", "ssn")
	in.exec(`CREATE TABLE t (id int, ssn text)`)
	in.protect("t", "ssn", "ssn")
	old := *in.column("public", "t", "ssn")
	in.exec(`DROP TABLE t`)
	if c := in.column("public", "t", "ssn"); c == nil || c.RelID != 0 || c.Attnum != 0 {
		t.Errorf("a dropped table's column = %+v, want it kept without an OID", c)
	}
	in.exec(`CREATE TABLE t (ssn text)`)
	if c := in.column("public", "t", "ssn"); c == nil || c.RelID == old.RelID || c.RelID == 0 || c.Attnum != 1 {
		t.Errorf("the recreated table's column = %+v", c)
	}
	infos, err := in.Columns(t.Context())
	must(t, err)
	if len(infos) != 1 || infos[0].Guarded {
		t.Errorf("columns = %+v, want one without a guard", infos)
	}
	in.protect("t", "ssn", "ssn")
	infos, err = in.Columns(t.Context())
	must(t, err)
	if len(infos) != 1 || !infos[0].Guarded {
		t.Errorf("columns = %+v, want one with a guard", infos)
	}
	in.exec(`DROP TABLE t`)
	must(t, in.Release(t.Context(), in.database, "public", "t", "ssn", false))
}

func testColumnsOfOtherDatabases(t *testing.T) {
	in := install(t)
	in.policy("ssn", "ssn")
	other := in.database + "_other"
	in.exec(`CREATE DATABASE ` + other)
	t.Cleanup(func() { in.super.Exec(t.Context(), `DROP DATABASE IF EXISTS `+other+` WITH (FORCE)`) })
	conn := dial(t, strings.Replace(in.dsn, "/"+in.database, "/"+other, 1))
	exec(t, conn, `CREATE TABLE t (ssn text)`)
	must(t, in.Protect(t.Context(), other, "public", "t", "ssn", "ssn"))
	exec(t, conn, `ALTER TABLE t RENAME TO u`)
	s := in.snapshot()
	if len(s.Columns(in.database)) != 0 || len(s.Columns(other)) != 1 || s.Columns(other)[0].Table != "u" {
		t.Errorf("columns of the other database = %+v", s.Columns(other))
	}
	// Its kept connection is lost, and is made again.
	in.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND application_name = 'pgveil'`, other)
	must(t, in.Refresh(t.Context()))
	in.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND application_name = 'pgveil'`, in.database)
	must(t, in.Refresh(t.Context()))
	_, err := in.Rotate(t.Context(), "ssn") // on a connection for changes that is lost too
	must(t, err)
	in.exec(`DROP DATABASE ` + other + ` WITH (FORCE)`)
	if s = in.snapshot(); len(s.Columns(other)) != 1 {
		t.Error("columns of a dropped database are forgotten")
	}
	must(t, in.Release(t.Context(), other, "public", "t", "ssn", false))
}
