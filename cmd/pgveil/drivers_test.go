package main

import (
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestDriversSeeTheSameThroughTheFrontEnd is the part of the driver matrix that needs nothing but Go modules and psql: pgx, lib/pq and psql give
// the same answers on a direct connection and through the front-end, and use a protected table there. `make drivers` is the whole.
func TestDriversSeeTheSameThroughTheFrontEnd(t *testing.T) {
	t.Parallel()
	dev := startDev(t, "--ephemeral")
	tables, err := os.ReadFile("../../drivers/tables.sql")
	if err != nil {
		t.Fatal(err)
	}
	super, err := pgx.Connect(t.Context(), dev.env["PGVEIL_SUPER_DIRECT_URL"])
	if err != nil {
		t.Fatal(err)
	}
	defer super.Close(t.Context())
	if _, err := super.PgConn().Exec(t.Context(), string(tables)).ReadAll(); err != nil {
		t.Fatal(err)
	}
	for _, column := range []string{"email", "ssn"} {
		if out, code := pgveil(t, dev.environ(), "column", "protect", "people", column, column); code != 0 {
			t.Fatal(out)
		}
	}
	bin := t.TempDir()
	if out, err := exec.Command("go", "-C", "../../drivers/go", "build", "-o", bin, "./pgx", "./libpq").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	psql, err := filepath.Abs("../../drivers/psql/check")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"protected.fetch_count": true}                                          // a cursor over a protected table
	for _, program := range []string{filepath.Join(bin, "pgx"), filepath.Join(bin, "libpq"), psql} { // they share a table
		direct, front := driverChecks(t, program, dev.direct()), driverChecks(t, program, dev.through())
		if len(direct) < 20 || len(front) < len(direct)+10 {
			t.Errorf("%s: %d checks direct, %d through the front-end: it ended early", program, len(direct), len(front))
		}
		for _, name := range slices.Sorted(maps.Keys(front)) {
			if want, ok := direct[name]; ok && front[name] != want {
				t.Errorf("%s: %s: got %q, direct %q", program, name, front[name], want)
			} else if !ok && (front[name] == "ok") == known[name] {
				t.Errorf("%s: %s: %s", program, name, front[name])
			}
		}
		for name, got := range direct {
			if _, ok := front[name]; !ok || got != "ok" {
				t.Errorf("%s: %s: direct %s, through the front-end %q", program, name, got, front[name])
			}
		}
	}
}

// driverChecks runs a program of drivers/ and gives what it says of each check: "ok" or the reason.
func driverChecks(t *testing.T, program string, env []string) map[string]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil && len(out) == 0 {
		t.Fatalf("%s: %v", program, err)
	}
	checks := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if name, ok := strings.CutPrefix(line, "ok "); ok {
			checks[strings.TrimSpace(name)] = "ok"
		} else if failed, ok := strings.CutPrefix(line, "not ok "); ok {
			name, reason, _ := strings.Cut(failed, ":")
			checks[name] = "not ok:" + reason
		}
	}
	return checks
}

// direct is the environment in which a program of drivers/ connects to PostgreSQL itself, as app.
func (r *running) direct() []string {
	backing, err := url.Parse(r.env["PGVEIL_SHOP_DIRECT_URL"])
	if err != nil {
		panic(err)
	}
	app, err := url.Parse(r.env["PGVEIL_APP_URL"])
	if err != nil {
		panic(err)
	}
	app.Host = backing.Host
	return []string{"DRIVERS_URL=" + unencrypted(app.String())}
}

// through is the one in which it connects to the front-end, and has a protected table.
func (r *running) through() []string {
	return []string{
		"DRIVERS_URL=" + unencrypted(r.env["PGVEIL_APP_URL"]), "DRIVERS_SUPPORT_URL=" + unencrypted(r.env["PGVEIL_SUPPORT_URL"]),
		"DRIVERS_ANALYST_URL=" + unencrypted(r.env["PGVEIL_ANALYST_URL"]), "DRIVERS_BACKING_URL=" + r.env["PGVEIL_SHOP_DIRECT_URL"],
		"DRIVERS_CA=" + filepath.Join(r.home, "server.crt"),
	}
}

func unencrypted(dsn string) string {
	return strings.Replace(dsn, "sslmode=require", "sslmode=disable", 1)
}
