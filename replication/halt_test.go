package replication_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"pgveil/replication"
)

// halted waits for a phase and returns the reason of table people.
func (f *fixture) halted(want replication.Phase) string {
	f.t.Helper()
	f.eventually("phase "+string(want), f.phase(want))
	for _, s := range f.status() {
		if s.Table == "people" {
			return s.Reason
		}
	}
	f.t.Fatal("no status of people")
	return ""
}

func TestInvalidValueStopsTheStream(t *testing.T) {
	t.Parallel()
	f := setup(t, people)
	f.create("public.people.ssn=ssn", "public.people.email=email")
	f.run()
	f.streaming()
	f.exec(f.src, `INSERT INTO people (id, ssn) VALUES (7001, 'fine')`)
	f.exec(f.src, `INSERT INTO people (id, ssn, name) VALUES (424242, 'invalid-canary-1', 'canary-name')`)
	f.exec(f.src, `UPDATE people SET ssn = 'later' WHERE id = 1`)
	reason := f.halted(replication.Stopped)
	for _, want := range []string{`column "ssn"`, "key: id"} {
		if !strings.Contains(reason, want) {
			t.Errorf("reason %q does not name %s", reason, want)
		}
	}
	if n := f.text(f.dst, `SELECT string_agg(id::text, ',') FROM veil.people WHERE id IN (7001, 424242) OR ssn = $1`, token("ssn", "later")); n != "7001" {
		t.Errorf("rows %s are visible, want those before the invalid one", n)
	}
	f.noCanary("canary", "424242")
}

func TestInvalidValueStopsTheCopy(t *testing.T) {
	t.Parallel()
	f := setup(t, people+`INSERT INTO people (id, ssn, name) VALUES (424242, 'invalid-canary-2', 'canary-name')`)
	f.create("public.people.ssn=ssn", "public.people.email=email")
	f.run()
	reason := f.halted(replication.Stopped)
	if !strings.Contains(reason, `column "ssn"`) || !strings.Contains(reason, "key: id") {
		t.Errorf("reason %q does not name column and key", reason)
	}
	if n := f.text(f.dst, `SELECT count(*)::text FROM veil.people`); n != "0" {
		t.Errorf("%s rows are visible", n)
	}
	f.noCanary("canary", "424242")
	f.exec(f.src, `DELETE FROM people WHERE id = 424242`)
	f.streaming()
	f.caughtUp()
	f.same()
}

func TestValueTheTargetRefusesStopsTheStream(t *testing.T) {
	t.Parallel()
	f := setup(t, people)
	f.create("public.people.ssn=ssn", "public.people.email=email")
	f.run()
	f.streaming()
	f.exec(f.dst, `ALTER TABLE veil.people ADD CONSTRAINT short CHECK (length(name) < 50)`)
	f.exec(f.src, `INSERT INTO people (id, name) VALUES (424242, 'canary-' || repeat('x', 60))`)
	reason := f.halted(replication.Stopped)
	if !strings.Contains(reason, "23514") || !strings.Contains(reason, `constraint "short"`) {
		t.Errorf("reason %q does not name the constraint", reason)
	}
	f.noCanary("canary", "424242")
	f.exec(f.dst, `ALTER TABLE veil.people DROP CONSTRAINT short`)
	f.streaming()
	f.caughtUp()
	f.same()
}

func TestReplicaWithoutAGuardIsNotFilled(t *testing.T) {
	t.Parallel()
	f := setup(t, people)
	f.create("public.people.ssn=ssn", "public.people.email=email")
	f.exec(f.dst, `ALTER TABLE veil.people DROP CONSTRAINT pgveil_guard_email`)
	f.run()
	if reason := f.halted(replication.Stopped); !strings.Contains(reason, `column "email" of the replica has no guard`) {
		t.Errorf("reason %q", reason)
	}
	if n := f.text(f.dst, `SELECT count(*)::text FROM veil.people`); n != "0" {
		t.Errorf("%s rows are visible", n)
	}
}

// noCanary looks for planted values in logs and in everything the state tables hold.
func (f *fixture) noCanary(planted ...string) {
	f.t.Helper()
	state := f.text(f.dst, `SELECT string_agg(c::text, '') || (SELECT string_agg(t::text, '') FROM pgveil.replica_table t) FROM pgveil.replica_checkpoint c`)
	for _, p := range planted {
		if strings.Contains(state, p) {
			f.t.Errorf("the state tables hold %q", p)
		}
		if strings.Contains(f.log.String(), p) {
			f.t.Errorf("the log holds %q", p)
		}
	}
	if f.log.String() == "" {
		f.t.Error("nothing was logged")
	}
}

func TestChangedColumnsStopTheStream(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, ddl, reason string }{
		{"added", `ALTER TABLE people ADD COLUMN extra text DEFAULT 'x'`, `"extra"`},
		{"dropped", `ALTER TABLE people DROP COLUMN doc`, `"doc" is gone`},
		{"renamed", `ALTER TABLE people RENAME ssn TO social`, `"social"`},
		{"retyped", `ALTER TABLE people ALTER name TYPE varchar(100)`, `"name" has another type`},
		{"dropped and added again", `ALTER TABLE people DROP COLUMN doc; ALTER TABLE people ADD COLUMN doc text`, `"doc" was dropped and added again`},
		{"rekeyed", `ALTER TABLE people DROP CONSTRAINT people_pkey, ALTER name SET NOT NULL, ADD PRIMARY KEY (id, name)`, "primary key was changed"},
		{"table renamed", `ALTER TABLE people RENAME TO persons`, "renamed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := setupOne(t, people+`DELETE FROM people WHERE name IS NULL`)
			f.create("public.people.ssn=ssn", "public.people.email=email")
			f.run()
			f.streaming()
			before := f.text(f.dst, `SELECT count(*)::text FROM veil.people`)
			f.exec(f.src, c.ddl)
			tab := "people"
			if c.name == "table renamed" {
				tab = "persons"
			}
			f.exec(f.src, `INSERT INTO `+tab+` (id, name) VALUES (424242, 'after the change')`)
			if reason := f.halted(replication.Stopped); !strings.Contains(reason, c.reason) {
				t.Errorf("reason %q, want %s in it", reason, c.reason)
			}
			if after := f.text(f.dst, `SELECT count(*)::text FROM veil.people`); after != before {
				t.Error("a row that followed the change was applied")
			}
		})
	}
}

func TestGapNeedsAResync(t *testing.T) {
	t.Parallel()
	const dropSlot = `SELECT pg_drop_replication_slot('pgveil_' || $1)`
	for _, c := range []struct {
		name, reason string
		harm         func(f *fixture)
	}{
		{"slot dropped", "is gone", func(f *fixture) { f.exec(f.src, dropSlot, f.cfg.Name) }},
		{"slot made anew", "beyond the checkpoint", func(f *fixture) {
			f.exec(f.src, dropSlot, f.cfg.Name)
			f.exec(f.src, `SELECT pg_create_logical_replication_slot('pgveil_' || $1, 'pgoutput')`, f.cfg.Name)
		}},
		{"slot advanced", "beyond the checkpoint", func(f *fixture) {
			f.exec(f.src, `SELECT pg_replication_slot_advance('pgveil_' || $1, pg_current_wal_lsn())`, f.cfg.Name)
		}},
		{"slot of another plugin", "not the one", func(f *fixture) {
			f.exec(f.src, dropSlot, f.cfg.Name)
			f.exec(f.src, `SELECT pg_create_physical_replication_slot('pgveil_' || $1)`, f.cfg.Name)
			f.t.Cleanup(func() {
				c := dialBackground(f)
				defer c.Close(f.t.Context())
				c.Exec(f.t.Context(), dropSlot, f.cfg.Name)
			})
		}},
		{"other cluster", "system identifier", func(f *fixture) { f.exec(f.dst, `UPDATE pgveil.replica_checkpoint SET system_identifier = '1'`) }},
		{"other timeline", "timeline", func(f *fixture) { f.exec(f.dst, `UPDATE pgveil.replica_checkpoint SET timeline = 99`) }},
		{"source behind the checkpoint", "before the checkpoint", func(f *fixture) { f.exec(f.dst, `UPDATE pgveil.replica_checkpoint SET lsn = 'FFFF/0'`) }},
		{"publication altered", "altered", func(f *fixture) {
			f.exec(f.src, `ALTER PUBLICATION pgveil_`+f.cfg.Name+` DROP TABLE people`)
			f.exec(f.src, `ALTER PUBLICATION pgveil_`+f.cfg.Name+` ADD TABLE people`)
		}},
		{"publication dropped", "is gone", func(f *fixture) { f.exec(f.src, `DROP PUBLICATION pgveil_`+f.cfg.Name) }},
		{"table dropped", "altered", func(f *fixture) { f.exec(f.src, `DROP TABLE people`) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := setupOne(t, people)
			f.create("public.people.ssn=ssn", "public.people.email=email")
			stop := f.run()
			f.streaming()
			f.caughtUp()
			stop()
			f.eventually("the slot is free", func() bool {
				return f.text(f.src, `SELECT bool_or(active)::text FROM pg_replication_slots WHERE slot_name = 'pgveil_' || $1`, f.cfg.Name) == "false"
			})
			f.exec(f.src, `UPDATE people SET ssn = 'unseen' WHERE id = 1`)
			c.harm(f)
			f.run()
			if reason := f.halted(replication.NeedsResync); !strings.Contains(reason, c.reason) {
				t.Errorf("reason %q, want %s in it", reason, c.reason)
			}
		})
	}
}

func TestChangedMarkNeedsAResync(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"added":     `INSERT INTO pgveil.mark VALUES ('public', 'people', 'name', 'text')`,
		"removed":   `DELETE FROM pgveil.mark WHERE column_name = 'ssn'`,
		"policy":    `UPDATE pgveil.mark SET policy = 'other' WHERE column_name = 'ssn'`,
		"truncated": `TRUNCATE pgveil.mark`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setupOne(t, people)
			f.create("public.people.ssn=ssn", "public.people.email=email")
			f.run()
			f.streaming()
			f.exec(f.src, `INSERT INTO pgveil.mark VALUES ('elsewhere', 'people', 'name', 'text')`)
			f.caughtUp()
			f.exec(f.src, `BEGIN; `+change+`; INSERT INTO people (id, name) VALUES (424242, 'after the mark'); COMMIT`)
			if reason := f.halted(replication.NeedsResync); !strings.Contains(reason, "mark") {
				t.Errorf("reason %q does not speak of the mark", reason)
			}
			if n := f.text(f.dst, `SELECT count(*)::text FROM veil.people WHERE id = 424242`); n != "0" {
				t.Error("a row that followed the mark was applied")
			}
		})
	}
}

func TestReplicaThatWasWrittenNeedsAResync(t *testing.T) {
	t.Parallel()
	f := setup(t, people)
	f.create("public.people.ssn=ssn", "public.people.email=email")
	f.run()
	f.streaming()
	f.exec(f.dst, `DELETE FROM veil.people WHERE id = 3`)
	f.exec(f.src, `UPDATE people SET name = 'x' WHERE id = 3`)
	if reason := f.halted(replication.NeedsResync); !strings.Contains(reason, "found 0") {
		t.Errorf("reason %q", reason)
	}
}

func TestSlotInUseIsNamedAndWaitedFor(t *testing.T) {
	t.Parallel()
	f := setup(t, people)
	f.create("public.people.ssn=ssn", "public.people.email=email")
	stop := f.run()
	f.streaming()
	stop()
	thief, err := pgconn.Connect(t.Context(), string(f.cfg.Source.Expose())+"&replication=database")
	if err != nil {
		t.Fatal(err)
	}
	defer thief.Close(t.Context())
	slot := "pgveil_" + f.cfg.Name
	f.eventually("the slot is taken", func() bool {
		return pglogrepl.StartReplication(t.Context(), thief, slot, 0, pglogrepl.StartReplicationOptions{
			Mode: pglogrepl.LogicalReplication, PluginArgs: []string{"proto_version '1'", "publication_names '" + slot + "'"}}) == nil
	})
	w, err := replication.NewWorker(f.cfg)
	if err != nil {
		t.Fatal(err)
	}
	replication.SetPatience(w, 300*time.Millisecond)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { w.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	if reason := f.halted(replication.Stopped); !strings.Contains(reason, fmt.Sprintf("active for PID %d", thief.PID())) {
		t.Errorf("reason %q does not name the process", reason)
	}
	thief.Close(t.Context())
	f.streaming()
	f.caughtUp()
	f.same()
}
