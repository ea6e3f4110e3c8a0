package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestDSNsChangeInTheirOwnForm(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{
		"postgres://u:p%27w@h:6000/old?sslmode=disable&application_name=x",
		"postgresql://u:p%27w@h:6000/?dbname=old&sslmode=disable&application_name=x",
		`host=h port=6000 user=u password='p\'w' dbname=old sslmode=disable application_name=x`,
	} {
		for _, name := range []string{"shop", "with space", `quo'te"d\`} {
			got, err := pgconn.ParseConfig(withDatabase(dsn, name))
			if err != nil {
				t.Fatalf("%s: %v", dsn, err)
			}
			if got.Database != name || got.Host != "h" || got.Port != 6000 || got.User != "u" || got.Password != "p'w" || got.RuntimeParams["application_name"] != "x" {
				t.Errorf("%s for %q: database %q, host %q", dsn, name, got.Database, got.Host)
			}
		}
		if !holdsPassword(dsn) {
			t.Errorf("%s holds a password", dsn)
		}
	}
}

func TestDSNIsCompletedFromTheEnvironment(t *testing.T) {
	t.Setenv("PGPASSWORD", `from'env\`)
	t.Setenv("PGUSER", "someone")
	for _, dsn := range []string{"postgres://h/d?sslmode=disable", "host=h dbname=d sslmode=disable"} {
		if holdsPassword(dsn) {
			t.Errorf("%s holds no password", dsn)
		}
		full, err := complete("x", dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("PGPASSWORD", "other")
		got, err := pgconn.ParseConfig(string(full.Expose()))
		if err != nil || got.Password != `from'env\` || got.User != "someone" || got.Database != "d" {
			t.Errorf("%s: user %q, database %q, %v", dsn, got.User, got.Database, err)
		}
		t.Setenv("PGPASSWORD", `from'env\`)
	}
}

func TestABadDSNIsNotRepeated(t *testing.T) {
	t.Parallel()
	for dsn, cause := range map[string]string{
		"postgres://u:hidden@h:port/d": "invalid port", "postgres://u:hidden/x@h/d": "invalid port", "host=h password = hidden port=70000": "invalid port",
		`host=h password='\'hidden' port=70000`: "invalid port", "host=h password = hidden sslmode=no": "sslmode is invalid",
	} {
		_, err := complete("--from", dsn)
		if err == nil || strings.Contains(err.Error(), "hidden") || !strings.HasSuffix(err.Error(), cause) {
			t.Errorf("%s: got %v", dsn, err)
		}
	}
}

func TestShellTakesEnvValuesAsTheyAre(t *testing.T) {
	t.Parallel()
	var e envFile
	const nasty = `a'b "c" $(d) \ #` + "`e`"
	e.set("PGVEIL_X", nasty)
	out, err := exec.Command("sh", "-c", e.String()+`printf %s "$PGVEIL_X"`).Output()
	if err != nil || string(out) != nasty {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestTableNames(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][2]string{
		"customers": {"public", "customers"}, "crm.contacts": {"crm", "contacts"}, `"a.b".c`: {"a.b", "c"},
		`"Say ""x"""`: {"public", `Say "x"`}, `Upper.Case`: {"Upper", "Case"},
	} {
		schema, table, err := tableName(in)
		if err != nil || schema != want[0] || table != want[1] {
			t.Errorf("%s: %q, %q, %v; want %q", in, schema, table, err, want)
		}
	}
	for _, in := range []string{"", ".", "a.", ".a", "a.b.c", `"a`, `"a"b`, `""`} {
		if schema, table, err := tableName(in); err == nil {
			t.Errorf("%s: %q, %q; want an error", in, schema, table)
		}
	}
}

func FuzzTableName(f *testing.F) {
	f.Add(`a."b""c"`)
	f.Fuzz(func(t *testing.T, s string) {
		if parts, ok := splitName(s); ok != (len(parts) > 0) && ok {
			t.Errorf("%q: ok without parts", s)
		}
	})
}

// Whatever is typed, arranging it neither panics nor loses an argument behind "--".
func FuzzArrange(f *testing.F) {
	f.Add("key rotate ssn --yes -- x")
	f.Add("-o json replicate create --tables a b c --from -")
	f.Fuzz(func(t *testing.T, line string) {
		argv := append([]string{"pgveil"}, strings.Fields(line)...)
		got, err := arrange(argv, commands())
		if err != nil {
			return
		}
		i := slices.Index(argv, "--")
		if c, _ := find(commands(), got[1:]); i < 0 || c == nil {
			return
		}
		for _, word := range argv[i+1:] {
			if !slices.Contains(got, word) {
				t.Errorf("%q became %q", argv, got)
			}
		}
	})
}
