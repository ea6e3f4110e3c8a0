package replication_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgveil/internal/cluster"
	"pgveil/internal/secret"
	"pgveil/replication"
)

// own is a PostgreSQL of this test alone, which it may stop and start.
type own struct {
	t      *testing.T
	config cluster.Config
	c      *cluster.Cluster
	dsn    string
}

func ownCluster(t *testing.T) *own {
	t.Helper()
	ctx := t.Context()
	binaries, err := cluster.Find(ctx, cluster.Options{})
	if errors.Is(err, cluster.ErrNotFound) {
		t.Skip("no PostgreSQL here that a test may stop and start")
	}
	if err != nil {
		t.Fatal(err)
	}
	scratch, err := cluster.NewScratch(ctx, "pgveil-test-")
	if err != nil {
		t.Fatal(err)
	}
	password := secret.New([]byte("pw"))
	o := &own{t: t, config: cluster.Config{Binaries: binaries, Data: scratch.Data(), Log: filepath.Join(scratch.Dir, "log"),
		Settings: map[string]string{"wal_level": "logical", "fsync": "on"}}}
	t.Cleanup(func() {
		if o.c != nil {
			o.c.Stop(context.Background())
		}
		scratch.Remove(context.Background())
	})
	if err := cluster.Init(ctx, binaries, scratch.Data(), password); err != nil {
		t.Fatal(err)
	}
	o.start()
	o.dsn = o.c.DSN(cluster.Superuser, password, "postgres")
	o.config.Port = o.c.Port()
	return o
}

func (o *own) start() {
	o.t.Helper()
	var err error
	if o.c, err = cluster.Start(o.t.Context(), o.config); err != nil {
		log, _ := os.ReadFile(o.config.Log)
		o.t.Fatalf("%v\n%s", err, log)
	}
}

// crash ends the server as an immediate shutdown does: without a checkpoint.
func (o *own) crash() {
	o.t.Helper()
	syscall.Kill(o.c.PID(), syscall.SIGQUIT)
	<-o.c.Done()
	o.c.Stop(o.t.Context())
}

// dialOwn replaces a connection that a restart has ended.
func (o *own) dial() *pgx.Conn { return dial(o.t, o.dsn) }

func TestRestartedServersAreFoundAgain(t *testing.T) {
	t.Parallel()
	for _, side := range []string{"source", "target"} {
		t.Run(side, func(t *testing.T) {
			t.Parallel()
			f := setup(t, ``)
			o := ownCluster(t)
			at := &f.dst
			if side == "source" {
				at = &f.src
				f.cfg.Source = secret.New([]byte(o.dsn))
			} else {
				f.cfg.Target = secret.New([]byte(o.dsn))
				f.cfg.Protect = guard(o.dsn)
			}
			*at = o.dial()
			f.exec(f.src, people)
			f.create("public.people.ssn=ssn", "public.people.email=email")
			f.run()
			f.streaming()
			for i := range 4 {
				f.exec(f.src, `UPDATE people SET ssn = ssn || 'x' WHERE id < 10`)
				if i%2 == 0 {
					began := time.Now()
					if err := o.c.Stop(t.Context()); err != nil {
						t.Fatal(err)
					}
					if took := time.Since(began); took > 4*time.Second {
						t.Errorf("a fast shutdown of the %s took %v", side, took)
					}
				} else {
					o.crash()
				}
				o.start()
				*at = o.dial()
				f.exec(f.src, `INSERT INTO people (id, ssn) VALUES ($1, 'x')`, 50000+i)
				f.caughtUp()
			}
			f.same()
			for _, s := range f.status() {
				if s.Phase != replication.Streaming || s.Reason != "" {
					t.Errorf("status %+v", s)
				}
			}
		})
	}
}
