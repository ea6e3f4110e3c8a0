package replication_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"pgveil/internal/secret"
	"pgveil/replication"
)

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	base := setup(t, ``)
	same := func(f *fixture) { f.cfg.Target = f.cfg.Source; f.cfg.Tables = []string{"*.people"} }
	for _, c := range []struct {
		name, schema, mark, reason string
		change                     func(f *fixture)
	}{
		{"a table without a primary key", `CREATE TABLE people (id bigint, ssn text)`, "ssn", "no primary key", nil},
		{"a deferrable primary key", `CREATE TABLE people (id bigint PRIMARY KEY DEFERRABLE, ssn text)`, "ssn", "deferrable", nil},
		{"another replica identity", `CREATE TABLE people (id bigint PRIMARY KEY, ssn text); ALTER TABLE people REPLICA IDENTITY NOTHING`, "ssn", "replica identity", nil},
		{"a partitioned table", `CREATE TABLE people (id bigint PRIMARY KEY, ssn text) PARTITION BY RANGE (id)`, "ssn", "partition", nil},
		{"an unlogged table", `CREATE UNLOGGED TABLE people (id bigint PRIMARY KEY, ssn text)`, "ssn", "unlogged", nil},
		{"an inherited table", `CREATE TABLE people (id bigint PRIMARY KEY, ssn text); CREATE TABLE kids () INHERITS (people)`, "ssn", "inheritance", func(f *fixture) { f.cfg.Tables = []string{"people"} }},
		{"a generated column", `CREATE TABLE people (id bigint PRIMARY KEY, ssn text, up text GENERATED ALWAYS AS (upper(ssn)) STORED)`, "ssn", "generated column", nil},
		{"no mark", people, "", "no column of the matched tables is marked", nil},
		{"a mark of a column that is not there", people, "nothing", `column "nothing"`, nil},
		{"a mark outside the tables", people, "ssn", "no pattern matches", func(f *fixture) { f.cfg.Tables = []string{"barrier"} }},
		{"a marked column that is no text", people, "born", "of type date", nil},
		{"a type the target has not", `CREATE TYPE mood AS ENUM ('a'); CREATE TABLE people (id bigint PRIMARY KEY, ssn text, m mood)`, "ssn", "type public.mood", nil},
		{"a pattern that matches nothing", people, "ssn", "matches no table", func(f *fixture) { f.cfg.Tables = []string{"peopel"} }},
		{"no pattern", people, "ssn", "no table pattern", func(f *fixture) { f.cfg.Tables = nil }},
		{"two tables of one name", people + `CREATE SCHEMA b; CREATE TABLE b.people (id bigint PRIMARY KEY)`, "ssn", "one replica", func(f *fixture) { f.cfg.Tables = []string{"*.people"} }},
		{"a replica that is there", people, "ssn", "already", func(f *fixture) { f.exec(f.dst, `CREATE SCHEMA veil; CREATE TABLE veil.people ()`) }},
		{"the schema pgveil", people, "ssn", "cannot hold a replica", func(f *fixture) { f.cfg.Schema = "pgveil" }},
		{"a loop in one database", people + `CREATE SCHEMA veil; CREATE TABLE veil.people (id bigint PRIMARY KEY)`, "ssn", "own schema", same},
		{"a slot of that name", people, "ssn", "slot", func(f *fixture) {
			f.exec(f.src, `SELECT pg_create_logical_replication_slot('pgveil_' || $1, 'pgoutput')`, f.cfg.Name)
		}},
	} {
		// In turn, in the same two databases: a refusal leaves nothing behind.
		t.Run(c.name, func(t *testing.T) {
			f := *base
			f.t = t
			f.exec(f.src, `DROP SCHEMA IF EXISTS public, b, veil CASCADE; CREATE SCHEMA public; `+c.schema)
			f.exec(f.dst, `DROP SCHEMA IF EXISTS veil CASCADE`)
			if c.change != nil {
				c.change(&f)
			}
			if c.mark != "" {
				f.cfg.Marks = []replication.Mark{{Schema: "public", Table: "people", Column: c.mark, Policy: "ssn"}}
			}
			err := replication.Create(t.Context(), f.cfg)
			var refused *replication.Refused
			if !errors.As(err, &refused) || !strings.Contains(refused.Reason, c.reason) || refused.Hint == "" {
				t.Fatalf("Create = %v, want a refusal with a hint that says %s", err, c.reason)
			}
			if n := f.text(f.src, `SELECT (SELECT count(*) FROM pg_publication) || ' ' || (SELECT count(*) FROM pg_namespace WHERE nspname = 'pgveil')`); n != "0 0" {
				t.Errorf("publications and schemas left at the source: %s", n)
			}
			if n := f.text(f.dst, `SELECT count(*)::text FROM pg_namespace WHERE nspname = 'pgveil'`); n != "0" {
				t.Error("schema pgveil is left at the target")
			}
		})
	}
}

func TestCreateRefusesAnUnknownPolicyAndAConflictingMark(t *testing.T) {
	t.Parallel()
	f := setup(t, people)
	f.cfg.Marks = []replication.Mark{{Schema: "public", Table: "people", Column: "ssn", Policy: "unknown"}}
	if err := replication.Create(t.Context(), f.cfg); err == nil || !strings.Contains(err.Error(), `policy "unknown"`) {
		t.Errorf("Create with an unknown policy = %v", err)
	}
	f.cfg.Marks[0].Policy = "ssn"
	f.create()
	if err := replication.Create(t.Context(), f.cfg); !errors.Is(err, replication.ErrStreamExists) {
		t.Errorf("second Create = %v", err)
	}
	f.cfg.Name += "2"
	f.cfg.Schema = "veil2"
	f.cfg.Marks[0].Policy = "other"
	if err := replication.Create(t.Context(), f.cfg); err == nil || !strings.Contains(err.Error(), `policy "ssn" already`) {
		t.Errorf("Create with another policy for a marked column = %v", err)
	}
}

func TestReplicaOfAReplicaIsRefused(t *testing.T) {
	t.Parallel()
	f := setup(t, people)
	f.create("public.people.ssn=ssn")
	f.cfg.Name += "2"
	f.cfg.Source, f.cfg.Target = f.cfg.Target, f.cfg.Source
	f.cfg.Tables, f.cfg.Schema, f.cfg.Marks = []string{"veil.*"}, "back", nil
	if err := replication.Create(t.Context(), f.cfg); err == nil || !strings.Contains(err.Error(), "replica of another stream") {
		t.Errorf("Create = %v", err)
	}
}

func TestSameDatabaseHoldsBothSides(t *testing.T) {
	t.Parallel()
	f := setupOne(t, people)
	f.create("public.people.ssn=ssn", "public.people.email=email")
	f.run()
	f.streaming()
	f.exec(f.src, `UPDATE people SET ssn = 'x' WHERE id < 50`)
	f.caughtUp()
	f.same()
}

func TestColumnsAreProtectedBeforeTheFirstRow(t *testing.T) {
	t.Parallel()
	f := setup(t, people)
	var seen []string
	fail := true
	inner := f.cfg.Protect
	f.cfg.Protect = func(ctx context.Context, schema, table, column, policy string) error {
		seen = append(seen, strings.Join([]string{schema, table, column, policy, f.text(f.dst, `SELECT count(*)::text FROM veil.people`)}, " "))
		if fail && column == "email" {
			return errors.New("not now")
		}
		return inner(ctx, schema, table, column, policy)
	}
	f.cfg.Marks = []replication.Mark{{Schema: "public", Table: "people", Column: "ssn", Policy: "ssn"}, {Schema: "public", Table: "people", Column: "email", Policy: "email"}}
	if err := replication.Create(t.Context(), f.cfg); err == nil || !strings.Contains(err.Error(), "not now") {
		t.Fatalf("Create = %v", err)
	}
	fail = false
	if err := replication.Create(t.Context(), f.cfg); err != nil {
		t.Fatalf("repeated Create = %v", err)
	}
	want := "veil people ssn ssn 0, veil people email email 0"
	if got := strings.Join(seen, ", "); got != want+", "+want {
		t.Errorf("Protect was called for %s", got)
	}
	f.run()
	f.streaming()
	f.same()
	if typ := f.text(f.dst, `SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'veil.people'::regclass AND attnum > 0`); typ !=
		"id bigint, name text, ssn text, email text, born date, score double precision, doc text" {
		t.Errorf("the replica's columns are %s: email varchar(20) must have grown to hold a token", typ)
	}
}

// TestOrdinaryRolesSuffice holds the matrix of docs/replication.md.
func TestOrdinaryRolesSuffice(t *testing.T) {
	t.Parallel()
	f := setup(t, ``)
	role := func(c *pgx.Conn, dsn secret.Bytes, name, attributes string) secret.Bytes {
		f.exec(c, `CREATE ROLE `+name+` LOGIN PASSWORD 'pw' `+attributes)
		t.Cleanup(func() {
			c := dialBackground(f)
			defer c.Close(context.Background())
			c.Exec(context.Background(), `DROP ROLE `+name)
		})
		f.exec(c, `DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO `+name+`', current_database()); END $$`)
		return secret.New([]byte(withUser(t, string(dsn.Expose()), name, "pw")))
	}
	admin := f.cfg.Source
	owner := role(f.src, f.cfg.Source, "own_"+f.cfg.Name, "REPLICATION")
	keeper := role(f.dst, f.cfg.Target, "keep_"+f.cfg.Name, "")
	reader := role(f.dst, f.cfg.Target, "read_"+f.cfg.Name, "")
	superuser := f.src
	f.exec(superuser, `GRANT CREATE ON SCHEMA public TO own_`+f.cfg.Name)
	f.src = dial(t, string(owner.Expose()))
	f.exec(f.src, people)
	f.cfg.Source, f.cfg.Target, f.cfg.Protect = owner, keeper, guard(string(keeper.Expose()))
	f.cfg.Readers = []string{"read_" + f.cfg.Name}
	f.create("public.people.ssn=ssn", "public.people.email=email")
	f.run()
	f.streaming()
	f.exec(f.src, `UPDATE people SET ssn = 'x' WHERE id < 50`)
	f.exec(f.src, `TRUNCATE barrier`)
	f.caughtUp()
	f.same()
	r := dial(t, string(reader.Expose()))
	if n := f.text(r, `SELECT count(*)::text FROM veil.people`); n != "1002" {
		t.Errorf("the reader sees %s rows", n)
	}
	if _, err := r.Exec(t.Context(), `DELETE FROM veil.people`); err == nil {
		t.Error("the reader may write the replica")
	}
	if err := replication.Drop(t.Context(), f.cfg, replication.DropOptions{Tables: true}); err != nil {
		t.Errorf("Drop: %v", err)
	}
	r.Close(t.Context())
	f.src.Close(t.Context())
	// The databases are dropped before the roles are; what the roles own goes with them.
	f.cfg.Source = admin
}

func TestDropLeavesNothingAndEndsTheWorker(t *testing.T) {
	t.Parallel()
	f := setup(t, people)
	f.create("public.people.ssn=ssn", "public.people.email=email")
	w, err := replication.NewWorker(f.cfg)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- w.Run(t.Context()) }()
	f.streaming()
	if err := replication.Drop(t.Context(), f.cfg, replication.DropOptions{Tables: true}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, replication.ErrUnknownStream) {
		t.Errorf("Run = %v", err)
	}
	left := f.text(f.src, `SELECT (SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'pgveil_' || $1) || ' ' || (SELECT count(*) FROM pg_publication)`, f.cfg.Name) + " " +
		f.text(f.dst, `SELECT (SELECT count(*) FROM pgveil.replica_checkpoint) || ' ' || (SELECT count(*) FROM pgveil.replica_table) || ' ' || (SELECT count(*) FROM pg_tables WHERE schemaname = 'veil')`)
	if left != "0 0 0 0 0" {
		t.Errorf("left: slots, publications, streams, tables, replicas = %s", left)
	}
	if err := replication.Drop(t.Context(), f.cfg, replication.DropOptions{}); err != nil {
		t.Errorf("a second Drop: %v", err)
	}
	f.create()
	f.run()
	f.streaming()
	f.same()
}

func TestStatusOfADatabaseWithoutStreamsIsEmpty(t *testing.T) {
	t.Parallel()
	f := setup(t, people)
	if st := f.status(); len(st) != 0 {
		t.Errorf("Status = %+v", st)
	}
	w, err := replication.NewWorker(f.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Run(t.Context()); !errors.Is(err, replication.ErrUnknownStream) {
		t.Errorf("Run of a stream that was never created = %v", err)
	}
}

func TestDSNIsNeverShown(t *testing.T) {
	t.Parallel()
	f := setup(t, people)
	for _, dsn := range []string{"postgres://u:canary-pw@127.0.0.1:1/db", "postgres://u:canary-pw@[/db", "host=127.0.0.1 port=1 password=canary-pw bad"} {
		f.cfg.Source = secret.New([]byte(dsn))
		if err := replication.Create(t.Context(), f.cfg); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("Create with a bad DSN = %v", err)
		}
	}
}

func TestMetricsCount(t *testing.T) {
	t.Parallel()
	f := setup(t, people)
	f.cfg.Metrics = replication.NewMetrics()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(f.cfg.Metrics)
	f.create("public.people.ssn=ssn")
	f.run()
	f.streaming()
	f.exec(f.src, `UPDATE people SET name = 'x' WHERE id <= 10`)
	f.caughtUp()
	values := map[string]float64{}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, mf := range families {
		for _, m := range mf.Metric {
			values[mf.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for name, want := range map[string]float64{"pgveil_replication_leader": 1, "pgveil_replication_phase": 1,
		"pgveil_replication_copied_rows_total": 1002, "pgveil_replication_applied_changes_total": 11} {
		if values[name] != want {
			t.Errorf("%s = %v, want %v", name, values[name], want)
		}
	}
}
