package main

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"

	"pgveil/internal/pgtest"
)

func TestMain(m *testing.M) {
	// The tests run pgveil as a person would: as a process. The test binary is that process, too.
	if os.Getenv(asCommand) != "" {
		main()
	}
	testscript.Main(suite{m}, map[string]func(){"pgveil": main})
}

type suite struct{ m *testing.M }

func (s suite) Run() int { return pgtest.Run(s.m) }

// Each file in testdata/script is a session that somebody could have typed. It has a database of its own, whose
// owner is the service role, and an empty directory as its working directory.
func TestScripts(t *testing.T) {
	t.Parallel()
	needPostgres(t)
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: false,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PGVEIL_DATABASE_URL", serviceDatabase(t))
			env.Setenv("WORKID", strings.ToLower(rand.Text()[:8]))
			env.Setenv("PGVEIL_KEK", "file:"+filepath.Join(env.WorkDir, "kek"))
			env.Setenv("PGVEIL_AUDIT_CHECKPOINTS", filepath.Join(env.WorkDir, "audit"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":  scriptExits,
			"sql":    scriptSQL,
			"setdsn": scriptSetDSN,
			"writedsn": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(ts.Getenv("PGVEIL_DATABASE_URL")+"\n"), 0o600))
			},
		},
	})
}

// serviceDatabase is the DSN of a fresh database that belongs to a service role made for it, which is no superuser.
func serviceDatabase(t *testing.T) string {
	t.Helper()
	dsn := pgtest.Database(t)
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	database := u.Path[1:]
	for _, statement := range []string{
		`CREATE ROLE svc_` + database + ` LOGIN CREATEROLE REPLICATION PASSWORD 'service'`,
		`ALTER DATABASE ` + database + ` OWNER TO svc_` + database,
		`ALTER SCHEMA public OWNER TO svc_` + database,
	} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	u.User = url.UserPassword("svc_"+database, "service")
	return u.String()
}

// exits CODE COMMAND…: the command ends with the exit code. Its output can be looked at as after exec.
func scriptExits(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit %d, want %d", got, want)
	}
}

// sql STATEMENT: run as the service role.
func scriptSQL(ts *testscript.TestScript, neg bool, args []string) {
	conn, err := pgx.Connect(context.Background(), ts.Getenv("PGVEIL_DATABASE_URL"))
	ts.Check(err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(context.Background(), args[0])
	if neg != (err != nil) {
		ts.Fatalf("%s: %v", args[0], err)
	}
}

// setdsn PART VALUE: change the password, port or database of PGVEIL_DATABASE_URL.
func scriptSetDSN(ts *testscript.TestScript, _ bool, args []string) {
	u, err := url.Parse(ts.Getenv("PGVEIL_DATABASE_URL"))
	ts.Check(err)
	switch args[0] {
	case "password":
		u.User = url.UserPassword(u.User.Username(), args[1])
	case "port":
		u.Host = u.Hostname() + ":" + args[1]
	case "database":
		u.Path = "/" + args[1]
	}
	ts.Setenv("PGVEIL_DATABASE_URL", u.String())
}
