package replication_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

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

// shutdown ends the server as pg_ctl stop does: it waits for walsenders to have sent, and heard, everything.
func (o *own) shutdown() {
	o.t.Helper()
	began := time.Now()
	if err := o.c.Stop(o.t.Context()); err != nil {
		o.t.Fatal(err)
	}
	if took := time.Since(began); took > 8*time.Second {
		o.t.Errorf("a fast shutdown took %v", took)
	}
}

// crash ends the server as an immediate shutdown does: without a checkpoint.
func (o *own) crash() {
	o.t.Helper()
	syscall.Kill(o.c.PID(), syscall.SIGQUIT)
	<-o.c.Done()
	o.c.Stop(o.t.Context())
}

// TestRestartedServersAreFoundAgain runs two streams: the server that restarts is the source of one and the target of
// the other.
func TestRestartedServersAreFoundAgain(t *testing.T) {
	t.Parallel()
	o := ownCluster(t)
	from, to := setup(t, ``), setup(t, people)
	from.cfg.Source = secret.New([]byte(o.dsn))
	to.cfg.Target, to.cfg.Protect = secret.New([]byte(o.dsn)), guard(o.dsn)
	from.src, to.dst = dial(t, o.dsn), dial(t, o.dsn)
	from.exec(from.src, people)
	for _, f := range []*fixture{from, to} {
		f.create("public.people.ssn=ssn", "public.people.email=email")
		f.run()
	}
	from.streaming()
	to.streaming()
	for i, down := range []func(){o.shutdown, o.crash, o.crash} {
		for _, f := range []*fixture{from, to} {
			f.exec(f.src, `UPDATE people SET ssn = ssn || 'x' WHERE id < 10`)
		}
		down()
		to.exec(to.src, `INSERT INTO people (id, ssn) VALUES ($1, 'while the target is away')`, 60000+i)
		o.start()
		from.src, to.dst = dial(t, o.dsn), dial(t, o.dsn)
		for _, f := range []*fixture{from, to} {
			f.exec(f.src, `INSERT INTO people (id, ssn) VALUES ($1, 'x')`, 50000+i)
			f.caughtUp()
		}
	}
	for _, f := range []*fixture{from, to} {
		f.same()
		for _, s := range f.status() {
			if s.Phase != replication.Streaming || s.Reason != "" {
				t.Errorf("status %+v", s)
			}
		}
	}
}
