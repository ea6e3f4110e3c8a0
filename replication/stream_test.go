package replication_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgveil/internal/secret"
	"pgveil/replication"
)

func TestCommitOnAnIdleStreamIsVisibleWithinASecond(t *testing.T) {
	t.Parallel()
	f := setup(t, people)
	f.create("public.people.ssn=ssn", "public.people.email=email")
	f.run()
	f.streaming()
	f.caughtUp()
	for i := range 5 {
		time.Sleep(200 * time.Millisecond)
		f.exec(f.src, `INSERT INTO people (id, ssn) VALUES ($1, 'x')`, 5000+i)
		f.within(time.Second, "the row is visible", func() bool {
			return f.text(f.dst, `SELECT count(*)::text FROM veil.people WHERE id = $1`, 5000+i) == "1"
		})
	}
}

func TestSlotOfIdleTablesAdvances(t *testing.T) {
	t.Parallel()
	f := setup(t, people+`CREATE SCHEMA other; CREATE TABLE other.busy (id bigint PRIMARY KEY, t text)`)
	f.create("public.people.ssn=ssn", "public.people.email=email")
	f.run()
	f.streaming()
	for range 2 {
		f.exec(f.src, `INSERT INTO other.busy SELECT coalesce((SELECT max(id) FROM other.busy), 0) + i, repeat('x', 1000) FROM generate_series(1, 500) i`)
		at := f.text(f.src, `SELECT pg_current_wal_lsn()::text`)
		f.eventually("confirmed_flush_lsn has passed the other table's rows", func() bool {
			// Within idleBytes of it, for the tail that is not worth a write.
			return f.text(f.src, `SELECT ($1::pg_lsn - confirmed_flush_lsn < 65536)::text FROM pg_replication_slots WHERE slot_name = 'pgveil_' || $2`, at, f.cfg.Name) == "true"
		})
		if f.text(f.dst, `SELECT ($1::pg_lsn - lsn < 65536)::text FROM pgveil.replica_checkpoint WHERE stream = $2`, at, f.cfg.Name) != "true" {
			t.Error("more is acknowledged than the checkpoint says")
		}
	}
}

func TestUnchangedToastedValueStays(t *testing.T) {
	t.Parallel()
	for _, identity := range []string{"DEFAULT", "FULL"} {
		t.Run(identity, func(t *testing.T) {
			t.Parallel()
			f := setup(t, people+`ALTER TABLE people ALTER doc SET STORAGE EXTERNAL, ALTER ssn SET STORAGE EXTERNAL, REPLICA IDENTITY `+identity)
			f.create("public.people.ssn=ssn", "public.people.email=email")
			f.run()
			f.streaming()
			f.exec(f.src, `INSERT INTO people (id, name, ssn, doc) SELECT i, 'n', repeat('s', 3000 + i), repeat('x', 10000 + i) FROM generate_series(5001, 5004) i`)
			f.exec(f.src, `UPDATE people SET name = 'changed' WHERE id = 5001`)
			f.exec(f.src, `UPDATE people SET id = 6002 WHERE id = 5002`)
			f.exec(f.src, `UPDATE people SET id = 6003, doc = 'short' WHERE id = 5003`)
			f.exec(f.src, `UPDATE people SET ssn = 'short', name = NULL WHERE id = 5004`)
			f.exec(f.src, `DELETE FROM people WHERE id = 7`)
			f.caughtUp()
			f.same()
		})
	}
}

func TestTruncateEmptiesEveryTableItNames(t *testing.T) {
	t.Parallel()
	f := setup(t, people+`CREATE TABLE notes (id bigint PRIMARY KEY, person bigint REFERENCES people, note text);
		INSERT INTO notes SELECT i, i, 'note' FROM generate_series(1, 10) i`)
	f.create("public.people.ssn=ssn", "public.people.email=email")
	f.run()
	f.streaming()
	f.exec(f.src, `BEGIN; TRUNCATE people CASCADE; INSERT INTO people (id, ssn) VALUES (1, 'after'); COMMIT`)
	f.caughtUp()
	f.same()
	if n := f.text(f.dst, `SELECT count(*)::text FROM veil.notes`); n != "0" {
		t.Errorf("the replica of a table truncated by CASCADE has %s rows", n)
	}
}

func TestNamesAreQuotedEverywhere(t *testing.T) {
	t.Parallel()
	const long = "sixty-three-bytes-of-name-which-is-all-that-a-name-may-have-xyz"
	schema, tab := `Sch"ema.x`, `Sélect " T able*?`
	key, col := `order`, `A"b 'c=d\ $1`
	id := func(s ...string) string { return pgx.Identifier(s).Sanitize() }
	f := setup(t, `CREATE SCHEMA `+id(schema)+`; CREATE TABLE `+id(schema, tab)+` (`+id(col)+` text, `+id(key)+` text, n int, `+id(long)+` text, PRIMARY KEY (n, `+id(key)+`));
		INSERT INTO `+id(schema, tab)+` VALUES ('a', 'k', 1, 'v')`)
	f.cfg.Schema = `Veil "1"`
	f.cfg.Tables = []string{id(schema) + ".*"}
	f.create(id(schema)+"."+id(tab)+"."+id(col)+"=ssn", id(schema)+"."+id(tab)+"."+id(key)+"=ssn")
	f.run()
	f.streaming()
	f.exec(f.src, `INSERT INTO `+id(schema, tab)+` VALUES ('b', 'k', 2, 'w'), ('c', 'gone', 3, NULL)`)
	f.exec(f.src, `UPDATE `+id(schema, tab)+` SET `+id(key)+` = 'k2', `+id(col)+` = 'b2' WHERE n = 2`)
	f.exec(f.src, `DELETE FROM `+id(schema, tab)+` WHERE n = 3`)
	f.exec(f.src, `INSERT INTO `+id(schema, tab)+` VALUES ('', 'last', 4, '')`)
	got := func() string {
		return f.text(f.dst, `SELECT string_agg(concat_ws('|', n, `+id(key)+`, `+id(col)+`, `+id(long)+`), E'\n' ORDER BY n) FROM `+id(f.cfg.Schema, tab))
	}
	want := "1|" + token("ssn", "k") + "|" + token("ssn", "a") + "|v\n2|" + token("ssn", "k2") + "|" + token("ssn", "b2") + "|w\n4|" +
		token("ssn", "last") + "|" + token("ssn", "") + "|"
	f.eventually("rows of a table with odd names", func() bool { return got() == want })
}

func TestTypesLookTheSameWhateverTheSessionsAre(t *testing.T) {
	t.Parallel()
	f := setup(t, barrier+`CREATE TABLE types (id bigint PRIMARY KEY, s text, a int[], ts timestamptz, i interval, f float8, r real, m money, j jsonb, x bytea, n numeric, d date, b "char", u uuid, e text[], z bit varying(9), c char(5), tr tstzrange);
		CREATE FUNCTION fill(n int) RETURNS void LANGUAGE sql AS $$ INSERT INTO types SELECT n + g, 'v', '{1,NULL,-3}', '2026-03-29 01:30:00+01', '1 year -2 days 03:04:05.678', 0.1::float8 + 0.2, 1/3.0::real, 12.34,
			'{"a": ["\\\\ \n"]}', '\x005c0aff', 123456789012345678901234567890.123456789, '4713-01-01 BC', 'x', '00000000-0000-0000-0000-00000000000a', ARRAY['a"b', NULL, E't\t\\'], '10101', 'ab', '[2026-01-01, infinity)' FROM generate_series(1, 3) g $$;
		DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET DateStyle = ''German''', current_database());
			EXECUTE format('ALTER DATABASE %I SET TimeZone = ''Asia/Tokyo''', current_database());
			EXECUTE format('ALTER DATABASE %I SET IntervalStyle = ''sql_standard''', current_database());
			EXECUTE format('ALTER DATABASE %I SET extra_float_digits = -10', current_database());
			EXECUTE format('ALTER DATABASE %I SET bytea_output = ''escape''', current_database()); END $$;
		SELECT fill(0)`)
	f.create("public.types.s=ssn")
	f.run()
	f.streaming()
	f.exec(f.src, `SELECT fill(10)`)
	f.caughtUp()
	const digest = `SELECT string_agg(md5(row(id, a, ts, i, f, r, m, j, x, n, d, b, u, e, z, c, tr)::text), ' ' ORDER BY id) FROM `
	for _, c := range []*pgx.Conn{f.src, f.dst} {
		f.exec(c, `SET DateStyle = ISO; SET TimeZone = UTC; SET extra_float_digits = 3; SET IntervalStyle = postgres; SET bytea_output = hex`)
	}
	if got, want := f.text(f.dst, digest+`veil.types`), f.text(f.src, digest+`types`); got != want || len(strings.Fields(got)) != 6 {
		t.Errorf("the rows differ: got %s, want %s", got, want)
	}
}

func TestSecondWorkerWaitsAndTakesOver(t *testing.T) {
	t.Parallel()
	f := setup(t, people)
	f.create("public.people.ssn=ssn", "public.people.email=email")
	var stop [2]context.CancelFunc
	var w [2]*replication.Worker
	for i := range w {
		var err error
		if w[i], err = replication.NewWorker(f.cfg); err != nil {
			t.Fatal(err)
		}
		var ctx context.Context
		ctx, stop[i] = context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { w[i].Run(ctx); close(done) }()
		t.Cleanup(func() { stop[i](); <-done })
	}
	f.streaming()
	for range 50 {
		if w[0].Leading() && w[1].Leading() {
			t.Fatal("two workers lead at once")
		}
		time.Sleep(20 * time.Millisecond)
	}
	first := 0
	if w[1].Leading() {
		first = 1
	}
	stop[first]()
	f.within(5*time.Second, "the other worker leads", func() bool { return w[1-first].Leading() })
	f.caughtUp()
	f.same()
}

func TestCutConnectionsAreMadeAnew(t *testing.T) {
	t.Parallel()
	f := setup(t, people)
	f.create("public.people.ssn=ssn", "public.people.email=email")
	f.run()
	f.streaming()
	for _, side := range []*pgx.Conn{f.src, f.dst, f.src} {
		f.exec(side, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'pgveil%'`)
		f.exec(f.src, `UPDATE people SET ssn = ssn || 'x' WHERE id < 10`)
		f.caughtUp()
	}
	f.same()
}

func TestSourceIsAnsweredWhileTheTargetIsSlow(t *testing.T) {
	t.Parallel()
	f := setup(t, people)
	f.cfg.Source = secret.New([]byte(string(f.cfg.Source.Expose()) + "&wal_sender_timeout=1000"))
	if !strings.Contains(string(f.cfg.Source.Expose()), "?") {
		f.cfg.Source = secret.New([]byte(strings.Replace(string(f.cfg.Source.Expose()), "&", "?", 1)))
	}
	f.create("public.people.ssn=ssn", "public.people.email=email")
	f.run()
	f.streaming()
	f.caughtUp()
	const walsender = `SELECT active_pid::text FROM pg_replication_slots WHERE slot_name = 'pgveil_' || $1`
	before := f.text(f.src, walsender, f.cfg.Name)
	f.exec(f.dst, `BEGIN; LOCK TABLE veil.people IN ACCESS EXCLUSIVE MODE`)
	f.exec(f.src, `UPDATE people SET ssn = 'slow' WHERE id < 900`)
	time.Sleep(3 * time.Second)
	f.exec(f.dst, `COMMIT`)
	f.caughtUp()
	f.same()
	if after := f.text(f.src, walsender, f.cfg.Name); after != before {
		t.Errorf("the source dropped the connection: walsender %s became %s", before, after)
	}
}

func TestEmptyAndLargeTransactionsAreWhole(t *testing.T) {
	t.Parallel()
	f := setup(t, people)
	f.create("public.people.ssn=ssn", "public.people.email=email")
	f.run()
	f.streaming()
	f.exec(f.src, `BEGIN; SELECT txid_current(); COMMIT`)
	f.exec(f.src, `INSERT INTO people (id, ssn) SELECT i, 'big-' || i FROM generate_series(100001, 125000) i`)
	f.eventually("the first rows of the large transaction are visible", func() bool {
		n := f.text(f.dst, `SELECT count(*)::text FROM veil.people WHERE id > 100000`)
		if n != "0" && n != "25000" {
			t.Fatalf("%s rows of a transaction of 25000 are visible", n)
		}
		return n != "0"
	})
	f.same()
}
