package migrations_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgveil/internal/pgtest"
	"pgveil/migrations"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func TestApplyIsIdempotentAndPendingAgrees(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.Database(t))
	pending, err := migrations.Pending(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	applied, err := migrations.Apply(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	if len(applied) < 2 || strings.Join(applied, " ") != strings.Join(pending, " ") {
		t.Errorf("applied %v, pending said %v", applied, pending)
	}
	if applied, err = migrations.Apply(t.Context(), conn); err != nil || len(applied) != 0 {
		t.Errorf("second Apply = %v, %v; want nothing", applied, err)
	}
	if pending, err = migrations.Pending(t.Context(), conn); err != nil || len(pending) != 0 {
		t.Errorf("Pending after Apply = %v, %v; want nothing", pending, err)
	}
}

func TestConcurrentApplyRunsEachMigrationOnce(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	total := map[string]int{}
	for range 4 {
		conn := connect(t, dsn)
		wg.Go(func() {
			applied, err := migrations.Apply(t.Context(), conn)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, name := range applied {
				total[name]++
			}
		})
	}
	wg.Wait()
	for name, n := range total {
		if n != 1 {
			t.Errorf("%s was applied %d times", name, n)
		}
	}
}

func TestChangedOrNewerMigrationIsRefused(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.Database(t))
	if _, err := migrations.Apply(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `INSERT INTO pgveil.migration (name, checksum) VALUES ('999_later', 'x')`)
	if _, err := migrations.Apply(t.Context(), conn); !errors.Is(err, migrations.ErrNewer) {
		t.Errorf("Apply to a newer database = %v, want ErrNewer", err)
	}
	exec(t, conn, `DELETE FROM pgveil.migration WHERE name = '999_later'`)
	exec(t, conn, `UPDATE pgveil.migration SET checksum = 'x' WHERE name = '002_audit'`)
	if _, err := migrations.Pending(t.Context(), conn); !errors.Is(err, migrations.ErrChanged) {
		t.Errorf("Pending with another checksum = %v, want ErrChanged", err)
	}
}

func TestPublicHoldsNoPrivilege(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.Database(t))
	// Even where the database's own default privileges are generous.
	exec(t, conn, `ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC`)
	if _, err := migrations.Apply(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(t.Context(), `
		SELECT 'schema' FROM pg_namespace n, aclexplode(n.nspacl) a WHERE nspname = 'pgveil' AND a.grantee = 0
		UNION ALL
		SELECT relname FROM pg_class c, aclexplode(c.relacl) a WHERE relnamespace = 'pgveil'::regnamespace AND a.grantee = 0`)
	if err != nil {
		t.Fatal(err)
	}
	open, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(open) != 0 {
		t.Errorf("PUBLIC holds privileges on %v (%v)", open, err)
	}
}

func TestViewsShowNoSecretAndCannotBeWritten(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.Database(t))
	if _, err := migrations.Apply(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(t.Context(), `
		SELECT table_name || '.' || column_name FROM information_schema.columns
		WHERE table_schema = 'pgveil' AND table_name IN (SELECT table_name FROM information_schema.views)
		AND (data_type = 'bytea' OR column_name ~ 'verifier|wrapped|source|mac$')`)
	if err != nil {
		t.Fatal(err)
	}
	if bad, err := pgx.CollectRows(rows, pgx.RowTo[string]); err != nil || len(bad) != 0 {
		t.Errorf("views show %v (%v)", bad, err)
	}
	rows, err = conn.Query(t.Context(), `
		SELECT table_name FROM information_schema.views
		WHERE table_schema = 'pgveil' AND (is_updatable = 'YES' OR is_insertable_into = 'YES')`)
	if err != nil {
		t.Fatal(err)
	}
	if bad, err := pgx.CollectRows(rows, pgx.RowTo[string]); err != nil || len(bad) != 0 {
		t.Errorf("views %v can be written (%v)", bad, err)
	}
	var views int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_views WHERE schemaname = 'pgveil'`).Scan(&views); err != nil || views < 7 {
		t.Errorf("%d views, want at least 7 (%v)", views, err)
	}
}

func exec(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}
