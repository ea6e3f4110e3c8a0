package catalog_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"pgveil/catalog"
)

// run runs a store's Run until the test ends.
func run(t *testing.T, s *catalog.Store) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

func current(s *catalog.Store) *catalog.Snapshot {
	snapshot, err := s.Current()
	if err != nil {
		return &catalog.Snapshot{}
	}
	return snapshot
}

// TestStore runs the tests of opening and refreshing.
func TestStore(t *testing.T) {
	group(t,
		testChangeReachesAnotherNodeByNotification,
		testDirectChangesAreSeenByThePoll,
		testEpochStandsStillWhenNothingChanges,
		testOpenSaysWhatIsToBeDoneFirst,
		testReplicasRoundTrip,
	)
}

func testChangeReachesAnotherNodeByNotification(t *testing.T) {
	in := install(t)
	other := in.open(in.dsn)
	run(t, other)
	// Once the other listens, ten changes must reach it faster than ten polls would carry them.
	in.policy("p", "text")
	within(t, 5*time.Second, "the first change", func() bool { return current(other).Policy("p") != nil })
	role := in.role("")
	begun := time.Now()
	for range 5 {
		must(t, in.Grant(t.Context(), role, catalog.Reveal, "p"))
		within(t, time.Second, "a grant", func() bool { return current(other).May(role, catalog.Reveal, "p") })
		must(t, in.Revoke(t.Context(), role, catalog.Reveal, "p"))
		within(t, time.Second, "a revocation", func() bool { return !current(other).May(role, catalog.Reveal, "p") })
	}
	if d := time.Since(begun); d > 5*time.Second {
		t.Errorf("10 changes took %v: they come by the poll alone", d)
	}
}

func testDirectChangesAreSeenByThePoll(t *testing.T) {
	in := install(t)
	in.policy("p", "text")
	in.exec(`CREATE TABLE t (a text)`)
	in.protect("t", "a", "p")
	group, member := in.role(""), in.role("")
	must(t, in.Grant(t.Context(), group, catalog.Reveal, "p"))
	other := in.open(in.dsn)
	run(t, other)
	in.exec(`GRANT ` + group + ` TO ` + member)
	within(t, 3*time.Second, "a membership", func() bool { return current(other).May(member, catalog.Reveal, "p") })
	in.exec(`ALTER TABLE t RENAME a TO b`)
	within(t, 3*time.Second, "a rename", func() bool {
		cs := current(other).Columns(in.database)
		return len(cs) == 1 && cs[0].Name == "b"
	})
}

func testEpochStandsStillWhenNothingChanges(t *testing.T) {
	in := install(t)
	in.policy("p", "text")
	a := in.snapshot()
	if b := in.snapshot(); a != b {
		t.Error("a refresh without a change made another snapshot")
	}
	in.policy("q", "text")
	b := in.snapshot()
	if b.Epoch() <= a.Epoch() || b.CatalogEpoch() != a.CatalogEpoch()+1 {
		t.Errorf("epochs %d, %d then %d, %d", a.Epoch(), a.CatalogEpoch(), b.Epoch(), b.CatalogEpoch())
	}
	if a.Policy("p").Transform != b.Policy("p").Transform {
		t.Error("an unchanged policy was compiled again")
	}
}

func TestSnapshotIsALease(t *testing.T) {
	t.Parallel()
	in := install(t)
	way := newWay(t, in.dsn)
	s := in.open(way.dsn)
	s.SetLease(1500 * time.Millisecond)
	run(t, s)
	if _, err := s.Current(); err != nil {
		t.Fatal(err)
	}
	way.cut()
	within(t, 5*time.Second, "the lease ends", func() bool { _, err := s.Current(); return errors.Is(err, catalog.ErrStale) })
	way.mend()
	within(t, 5*time.Second, "the snapshot is fresh again", func() bool { _, err := s.Current(); return err == nil })
	in.policy("p", "text")
	within(t, 3*time.Second, "a change after the outage", func() bool { return current(s).Policy("p") != nil })
}

func TestStoreIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	in := install(t)
	in.policy("p", "ssn")
	role := in.role("")
	run(t, in.Store)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { // readers
			var last int64
			for ctx.Err() == nil {
				s, err := in.Current()
				if err != nil {
					t.Error(err)
					return
				}
				if s.Epoch() < last {
					t.Error("the epoch went back")
				}
				last = s.Epoch()
				s.May(role, catalog.Reveal, "p")
				s.Columns(in.database)
				if _, err := s.Policy("p").Transform.AppendToken(nil, []byte("123-45-6789"), 1); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	for range 3 {
		wg.Go(func() { // writers: each change stands or is refused, and none is lost
			for range 4 {
				if err := in.Grant(t.Context(), role, catalog.Reveal, "p"); err != nil {
					t.Error(err)
				}
				if _, err := in.Rotate(t.Context(), "p"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	keys, err := in.Keys(t.Context())
	must(t, err)
	if len(keys) != 13 || in.snapshot().Policy("p").Active != 13 || len(in.snapshot().Alarms()) != 0 {
		t.Errorf("%d key versions after 12 rotations", len(keys))
	}
}

func testOpenSaysWhatIsToBeDoneFirst(t *testing.T) {
	in := install(t)
	in.exec(`DELETE FROM pgveil.epoch; DELETE FROM pgveil.root_key`)
	_, err := catalog.Open(t.Context(), catalog.Config{DSN: in.dsn, Sealer: in.ring})
	wantCode(t, err, catalog.CodeNotInitialized, "no root key")
	if _, err := catalog.RootKey(t.Context(), in.dsn); !errors.Is(err, catalog.ErrNotInitialized) {
		t.Errorf("RootKey = %v", err)
	}
	must(t, catalog.Initialize(t.Context(), in.dsn, []byte("blob"), in.ring))
	if blob, err := catalog.RootKey(t.Context(), in.dsn); err != nil || string(blob) != "blob" {
		t.Errorf("RootKey = %d bytes, %v", len(blob), err)
	}
	wantCode(t, catalog.Initialize(t.Context(), in.dsn, []byte("other"), in.ring), catalog.CodeExists, "already")
	in.exec(`DROP SCHEMA pgveil CASCADE`)
	_, err = catalog.Open(t.Context(), catalog.Config{DSN: in.dsn, Sealer: in.ring})
	wantCode(t, err, catalog.CodeNotMigrated, "no schema pgveil")
	if _, err := catalog.RootKey(t.Context(), in.dsn); !errors.Is(err, catalog.ErrNotMigrated) {
		t.Errorf("RootKey = %v", err)
	}
}

func testReplicasRoundTrip(t *testing.T) {
	in := install(t)
	r := catalog.Replica{Name: "crm", SourceDSN: password("postgres://u:canary-dsn@h/crm"), Database: in.database, Schema: "crm", Tables: []string{"public.*"}}
	must(t, in.CreateReplica(t.Context(), r))
	wantCode(t, in.CreateReplica(t.Context(), r), catalog.CodeExists, `"crm"`)
	got, err := in.Replicas(t.Context())
	must(t, err)
	if len(got) != 1 || !got[0].SourceDSN.Equal(r.SourceDSN) || got[0].Schema != "crm" || got[0].Database != in.database || got[0].Tables[0] != "public.*" {
		t.Errorf("replicas = %+v", got)
	}
	in.exec(`UPDATE pgveil.replica SET tables = '{secret.*}'`)
	if got, err = in.Replicas(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("a changed replica is still there: %+v, %v", got, err)
	}
	must(t, in.DropReplica(t.Context(), "crm"))
	wantCode(t, in.DropReplica(t.Context(), "crm"), catalog.CodeUnknown, "unknown stream")
}

// way is a road to the server that can be cut.
type way struct {
	dsn    string
	target string
	ln     net.Listener

	mu    sync.Mutex
	shut  bool
	conns []net.Conn
}

func newWay(t *testing.T, dsn string) *way {
	t.Helper()
	u, err := url.Parse(dsn)
	must(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w := &way{target: u.Host, ln: ln}
	u.Host = ln.Addr().String()
	w.dsn = u.String()
	go w.serve()
	t.Cleanup(func() { ln.Close(); w.cut() })
	return w
}

func (w *way) serve() {
	for {
		client, err := w.ln.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", w.target)
		w.mu.Lock()
		if w.shut || err != nil {
			client.Close()
			if server != nil {
				server.Close()
			}
			w.mu.Unlock()
			continue
		}
		w.conns = append(w.conns, client, server)
		w.mu.Unlock()
		go func() { io.Copy(server, client); server.Close() }()
		go func() { io.Copy(client, server); client.Close() }()
	}
}

func (w *way) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shut = true
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

func (w *way) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shut = false
}
