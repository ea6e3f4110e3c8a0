package pgwire_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgproto3/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgveil/internal/pgtest"
	"pgveil/internal/wirescript"
)

// TestProtocolScripts holds each conversation of testdata/protocol with PostgreSQL, then with the front-end before the same database, in which other
// tables are protected, as a role that may reveal: it must be told the same. What the front-end sends is read by an independent codec.
func TestProtocolScripts(t *testing.T) {
	t.Parallel()
	scripts := protocolScripts(t)
	for _, major := range []int{0, 13, 14, 16, 17, 18} {
		t.Run(fmt.Sprintf("major %d", major), func(t *testing.T) {
			t.Parallel()
			c := newConversations(t, major)
			for _, s := range scripts {
				if s.From <= c.major {
					t.Run(strings.TrimSuffix(s.Name, ".txt"), func(t *testing.T) { c.compare(t, s) })
				}
			}
		})
	}
}

func protocolScripts(t *testing.T) (scripts []*wirescript.Script) {
	t.Helper()
	files, err := filepath.Glob("testdata/protocol/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s, err := wirescript.Parse(filepath.Base(file), string(text))
		if err != nil {
			t.Fatal(err)
		}
		scripts = append(scripts, s)
	}
	return scripts
}

// conversations are held with one database, directly and through a front-end.
type conversations struct {
	front  *front
	direct *pgx.Conn // of the superuser
	major  int
}

// newConversations takes the default server for major 0.
func newConversations(t *testing.T, major int) *conversations {
	t.Helper()
	dsn := ""
	if major == 0 {
		dsn = pgtest.Database(t)
		major = pgtest.Server(t).Major()
	} else {
		dsn = freshOf(t, major)
	}
	c := &conversations{front: newFront(t, dsn), major: major}
	c.direct = c.front.direct()
	c.front.must(c.direct, "create table plain (id int primary key, name text)", "insert into plain values (1, 'one'), (2, 'two'), (3, null), (4, 'four'), (5, 'é')",
		"create table scratch (id int primary key, name text)", "grant all on plain, scratch to public")
	return c
}

// freshOf makes a database on the server of that major version and gives its superuser's DSN.
func freshOf(t *testing.T, major int) string {
	t.Helper()
	return databaseOf(t, pgtest.ServerMajor(t, major), "t_"+strings.ToLower(rand.Text()[:12]))
}

func (c *conversations) compare(t *testing.T, s *wirescript.Script) {
	u, err := url.Parse(c.front.url("app"))
	if err != nil {
		t.Fatal(err)
	}
	through := *u
	backing, err := url.Parse(c.front.dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = backing.Host
	want, err := c.run(t, s, u.String())
	if err != nil {
		t.Fatalf("PostgreSQL itself: %v\n%s", err, strings.Join(want.Lines, "\n"))
	}
	got, err := c.run(t, s, through.String())
	if err != nil {
		t.Errorf("the front-end: %v", err)
	}
	if d := firstDifference(want.Lines, got.Lines); d != "" {
		t.Error(d)
	}
	for name, b := range got.Received {
		if err := readByAnotherCodec(b); err != nil {
			t.Errorf("what %s received: %v", name, err)
		}
	}
}

// run holds the conversation with fresh tables.
func (c *conversations) run(t *testing.T, s *wirescript.Script, dsn string) (*wirescript.Transcript, error) {
	c.front.must(c.direct, "truncate scratch", "vacuum plain")
	return s.Run(t.Context(), func(ctx context.Context, parameters map[string]string) (*pgconn.HijackedConn, error) {
		config, err := pgconn.ParseConfig(dsn)
		if err != nil {
			return nil, err
		}
		for k, v := range parameters {
			config.RuntimeParams[k] = v
		}
		conn, err := pgconn.ConnectConfig(ctx, config)
		if err != nil {
			return nil, err
		}
		if err := conn.SyncConn(ctx); err != nil { // nothing of it reads any more
			return nil, err
		}
		return conn.Hijack()
	})
}

func firstDifference(want, got []string) string {
	for i := range max(len(want), len(got)) {
		w, g := "nothing", "nothing"
		if i < len(want) {
			w = want[i]
		}
		if i < len(got) {
			g = got[i]
		}
		if w != g {
			return fmt.Sprintf("line %d of the transcript\n got %.600s\nwant %.600s", i+1, g, w)
		}
	}
	return ""
}

// readByAnotherCodec reads a server's messages by pgproto3 v2, which shares no code with the front-end's.
func readByAnotherCodec(b []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	r := pgproto3.NewFrontend(pgproto3.NewChunkReader(bytes.NewReader(b)), nil)
	for {
		if _, err := r.Receive(); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
