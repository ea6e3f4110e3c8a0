package pgtest_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgveil/internal/cluster"
	"pgveil/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestDatabasesAreSeparateAndFresh(t *testing.T) {
	t.Parallel()
	a, b := open(t, pgtest.Database(t)), open(t, pgtest.Database(t))
	exec(t, a, `CREATE TABLE only_here (x int)`)
	var n int
	if err := b.QueryRow(t.Context(), `SELECT count(*) FROM pg_class WHERE relname = 'only_here'`).Scan(&n); err != nil || n != 0 {
		t.Errorf("the other database holds %d such tables, %v; want 0", n, err)
	}
}

func TestServerCanReplicateLogicallyAndAsksForScram(t *testing.T) {
	t.Parallel()
	conn := open(t, pgtest.Database(t))
	for name, want := range map[string]string{"wal_level": "logical", "password_encryption": "scram-sha-256", "max_replication_slots": "20"} {
		var got string
		if err := conn.QueryRow(t.Context(), `SELECT current_setting($1)`, name).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
	}
	wrong := strings.Replace(pgtest.Server(t).DSN("postgres"), "postgres:", "postgres:x", 1)
	if c, err := pgx.Connect(t.Context(), wrong); err == nil {
		c.Close(t.Context())
		t.Error("a wrong password was accepted over TCP")
	}
}

func TestDatabaseIsDroppedWithItsSlotsAndClients(t *testing.T) {
	t.Parallel()
	var name string
	t.Run("use", func(t *testing.T) {
		dsn := pgtest.Database(t)
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		name = conn.Config().Database
		if _, err := conn.Exec(t.Context(), `SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, name); err != nil {
			t.Fatal(err)
		}
	})
	admin := open(t, pgtest.Server(t).DSN("postgres"))
	var n int
	err := admin.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM pg_database WHERE datname = $1::name)
		+ (SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1::name)`, name).Scan(&n)
	if err != nil || n != 0 {
		t.Errorf("%d databases and slots are left, %v; want 0", n, err)
	}
}

// The oldest, a middle and the newest version start from pinned binaries and can do what replication needs.
func TestServerMajorStartsThatVersion(t *testing.T) {
	t.Parallel()
	for _, major := range []int{13, 17, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			conn := open(t, pgtest.ServerMajor(t, major))
			var number int
			if err := conn.QueryRow(t.Context(), `SELECT current_setting('server_version_num')::int`).Scan(&number); err != nil {
				t.Fatal(err)
			}
			if number/10000 != major {
				t.Errorf("server is %d, want %d", number/10000, major)
			}
		})
	}
}

func TestServerFilesAreThere(t *testing.T) {
	t.Parallel()
	db := pgtest.Server(t)
	if db.Data() == "" {
		t.Skip("no PostgreSQL here: PGVEIL_TEST_POSTGRES points at a server elsewhere")
	}
	if m, err := cluster.Major(db.Data()); err != nil || m != db.Major() {
		t.Errorf("data directory is of version %d, %v; server says %d", m, err, db.Major())
	}
	if _, err := os.Stat(db.Log()); err != nil {
		t.Error(err)
	}
}

func open(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}
