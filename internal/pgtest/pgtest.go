// Package pgtest gives a test a throwaway PostgreSQL.
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
//	func TestX(t *testing.T) {
//		dsn := pgtest.Database(t) // superuser of a fresh database
//
// A test binary runs one server per major version, started at the first use and stopped by Main (or, on
// Linux, by the kernel when the binary dies). A server starts from a copy of an initialised template kept in
// the user's cache, which is ten times faster than initdb. Tests may share it in parallel: each takes a
// database of its own.
//
// PGVEIL_TEST_POSTGRES, a superuser's DSN, makes Server and Database use that server instead.
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgveil/internal/cluster"
	"pgveil/internal/secret"
)

// variable names the environment variable that points the tests at a server.
const variable = "PGVEIL_TEST_POSTGRES"

// fallbackMajor is fetched where no PostgreSQL is installed.
const fallbackMajor = 15

// A DB is one running server.
type DB struct {
	admin   *url.URL // the superuser's, database postgres
	major   int
	cluster *cluster.Cluster // nil for a server of somebody else's
	scratch *cluster.Scratch
}

// DSN returns the superuser's connection URL to a database of the server: TCP, password by SCRAM-SHA-256.
func (db *DB) DSN(database string) string {
	u := *db.admin
	u.Path = "/" + database
	return u.String()
}

// Major is the server's major version.
func (db *DB) Major() int { return db.major }

// Data is the server's data directory, and Log the file of its log; both are empty when PGVEIL_TEST_POSTGRES
// points at a server elsewhere.
func (db *DB) Data() string {
	if db.cluster == nil {
		return ""
	}
	return db.cluster.Data()
}

// Log is the file of the server's log.
func (db *DB) Log() string {
	if db.cluster == nil {
		return ""
	}
	return db.cluster.Log()
}

// instance is a server that is started once; every later caller gets the same answer.
type instance struct {
	once sync.Once
	db   *DB
	err  error
}

var (
	mu        sync.Mutex
	instances = map[int]*instance{} // by major version; 0 is the default server
)

// Server returns the test binary's server. It skips the test where no PostgreSQL is installed and none can be
// fetched, and fails it when there is one that does not start.
func Server(t testing.TB) *DB {
	t.Helper()
	return server(t, 0)
}

// Database returns the superuser's DSN of a fresh, empty database on Server, which is dropped, together with
// its replication slots, when the test ends.
func Database(t testing.TB) string {
	t.Helper()
	db := Server(t)
	name := "t_" + strings.ToLower(rand.Text()[:12])
	db.exec(t, `CREATE DATABASE `+name)
	t.Cleanup(func() { db.drop(t, name) })
	return db.DSN(name)
}

// ServerMajor returns the superuser's DSN (database postgres) of a server of that major version, 13 to 18:
// the installed one if it is of that version, else one from pinned binaries. It skips where neither works.
func ServerMajor(t testing.TB, major int) string {
	t.Helper()
	return server(t, major).DSN("postgres")
}

// Main runs the tests, stops the servers they started, and exits.
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run is Main for a TestMain that does more: it returns the exit code.
func Run(m *testing.M) int {
	defer stop()
	return m.Run()
}

func stop() {
	mu.Lock()
	defer mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for major, i := range instances {
		if i.db != nil && i.db.cluster != nil {
			i.db.cluster.Stop(ctx)
			i.db.scratch.Remove(ctx)
		}
		delete(instances, major)
	}
}

func server(t testing.TB, major int) *DB {
	t.Helper()
	mu.Lock()
	i := instances[major]
	if i == nil {
		i = &instance{}
		instances[major] = i
	}
	mu.Unlock()
	i.once.Do(func() { i.db, i.err = open(major) })
	if errors.Is(i.err, cluster.ErrNoFetch) {
		t.Skipf("no PostgreSQL here: none is installed, and %v", i.err)
	}
	if i.err != nil {
		t.Fatalf("pgtest: %v", i.err)
	}
	return i.db
}

func open(major int) (*DB, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if dsn := os.Getenv(variable); dsn != "" && major == 0 {
		return connect(ctx, dsn)
	}
	b, err := cluster.Find(ctx, cluster.Options{Major: major})
	if errors.Is(err, cluster.ErrNotFound) {
		if major == 0 {
			major = fallbackMajor
		}
		b, err = cluster.Fetch(ctx, major)
	}
	if err != nil {
		return nil, err
	}
	return start(ctx, b)
}

// connect uses a server that somebody else runs.
func connect(ctx context.Context, dsn string) (*DB, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("%s is not a DSN", variable) // its text may hold a password
	}
	u := &url.URL{
		Scheme: "postgres", User: url.UserPassword(config.User, config.Password),
		Host: fmt.Sprintf("%s:%d", config.Host, config.Port), Path: "/postgres", RawQuery: "sslmode=prefer",
	}
	if strings.HasPrefix(config.Host, "/") {
		u.Host, u.RawQuery = "", url.Values{"host": {config.Host}, "port": {fmt.Sprint(config.Port)}}.Encode()
	}
	db := &DB{admin: u}
	conn, err := pgx.Connect(ctx, db.DSN("postgres"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	defer conn.Close(ctx)
	var number int
	if err := conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int`).Scan(&number); err != nil {
		return nil, err
	}
	db.major = number / 10000
	return db, nil
}

// settings make a server fast and able to replicate; it need not survive a crash of the machine.
var settings = map[string]string{
	"fsync":                 "off",
	"full_page_writes":      "off",
	"wal_level":             "logical",
	"max_replication_slots": "20",
	"max_wal_senders":       "20",
	"max_connections":       "200",
	"shared_buffers":        "32MB",
	"max_wal_size":          "256MB",
}

// start copies the template of the binaries' version and starts a server on the copy.
func start(ctx context.Context, b cluster.Binaries) (_ *DB, err error) {
	scratch, err := cluster.NewScratch(ctx, "pgveil-test-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			scratch.Remove(ctx)
		}
	}()
	password, err := copyTemplate(ctx, b, scratch.Data())
	if err != nil {
		return nil, fmt.Errorf("template of PostgreSQL %s: %w", b.Version, err)
	}
	c, err := cluster.Start(ctx, cluster.Config{
		Binaries: b, Data: scratch.Data(), Log: filepath.Join(scratch.Dir, "log"), Settings: settings,
	})
	if err != nil {
		return nil, err
	}
	admin, err := url.Parse(c.DSN(cluster.Superuser, password, "postgres"))
	if err != nil {
		return nil, errors.Join(errors.New("dsn"), c.Stop(ctx))
	}
	return &DB{admin: admin, major: b.Major, cluster: c, scratch: scratch}, nil
}

// copyTemplate copies the initialised cluster of the version to data, making it first if it is the first
// time, and returns the superuser's password.
func copyTemplate(ctx context.Context, b cluster.Binaries, data string) (secret.Bytes, error) {
	owner, err := cluster.FindOwner()
	if err != nil {
		return secret.Bytes{}, err
	}
	// Two builds of one version may differ (ICU, OpenSSL), so the directory of the binaries is in the name.
	name := b.Version + strings.ReplaceAll(b.Dir, string(filepath.Separator), "-")
	dir := filepath.Join(cluster.CacheDir(), "template", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return secret.Bytes{}, err
	}
	lock, err := cluster.Await(dir)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer lock.Release()
	passfile, template := filepath.Join(dir, "password"), filepath.Join(dir, "pg")
	// The password is written last, so that its presence says the template is whole.
	text, err := os.ReadFile(passfile)
	if errors.Is(err, os.ErrNotExist) {
		text = []byte(rand.Text())
		if err := os.RemoveAll(template); err != nil {
			return secret.Bytes{}, err
		}
		if err := cluster.Init(ctx, b, template, secret.New(text)); err != nil {
			return secret.Bytes{}, err
		}
		err = os.WriteFile(passfile, text, 0o600)
	}
	if err != nil {
		return secret.Bytes{}, err
	}
	return secret.New(text), copyTree(owner, template, data)
}

// copyTree copies directories and regular files, which is all that an initialised cluster holds, and gives
// the copies to the server's account.
func copyTree(owner *cluster.Owner, from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			if err := os.Mkdir(target, 0o700); err != nil {
				return err
			}
			return owner.Own(target)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.WriteFile(target, b, 0o600); err != nil {
			return err
		}
		return owner.Own(target)
	})
}

// exec runs statements as the superuser in the database postgres.
func (db *DB) exec(t testing.TB, statements ...string) {
	t.Helper()
	ctx := context.Background() // a test's own context has ended when its cleanup runs
	conn, err := pgx.Connect(ctx, db.DSN("postgres"))
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	defer conn.Close(ctx)
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			t.Fatalf("pgtest: %v", err)
		}
	}
}

// drop removes a database whose clients and replication slots may still be there; a slot keeps DROP DATABASE
// from working even with FORCE.
func (db *DB) drop(t testing.TB, name string) {
	t.Helper()
	quoted := "'" + name + "'" // names of ours: letters, digits, underscore
	db.exec(t,
		`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active AND database = `+quoted,
		`DO $$
		DECLARE s name;
		BEGIN
			FOR s IN SELECT slot_name FROM pg_replication_slots WHERE database = `+quoted+` LOOP
				FOR i IN 1..100 LOOP
					BEGIN
						PERFORM pg_drop_replication_slot(s);
						EXIT;
					EXCEPTION WHEN object_in_use OR undefined_object THEN PERFORM pg_sleep(0.05);
					END;
				END LOOP;
			END LOOP;
		END $$`,
		`DROP DATABASE IF EXISTS `+name+` WITH (FORCE)`)
}
