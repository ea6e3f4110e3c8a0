package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

var streamNames = []string{"select_text", "select_binary", "copy_out", "copy_in"}

const streamQuery = "SELECT * FROM streamed"

// streams moves the million rows in four ways and notes how long each took, and the proxies' CPU. What arrives through them is compared with
// what arrives directly.
func (b *wireBench) streams(round int) {
	for _, name := range streamNames {
		for _, target := range turn(round) {
			before := b.cpu(target)
			took := b.stream(name, target)
			if target != direct {
				b.note("CPU, "+name, "ns/row", target, float64(b.cpu(target)-before)/rowsStreamed)
			}
			b.note(name, "s", target, took.Seconds())
		}
	}
}

func (b *wireBench) stream(name string, target int) time.Duration {
	b.t.Helper()
	switch name {
	case "select_text":
		return b.selects(target, &pgproto3.Query{String: streamQuery})
	case "select_binary":
		return b.selects(target, &pgproto3.Parse{Query: streamQuery}, &pgproto3.Bind{ResultFormatCodes: []int16{1}},
			&pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, &pgproto3.Sync{})
	case "copy_out":
		if file := b.copyFile(target); b.digests[file] == 0 {
			b.copies(target, `\copy streamed to '`+file+`'`)
			b.digests[file] = b.fileDigest(file)
			b.same(name, target, b.digests[file])
		}
		return b.copies(target, `\copy streamed to '`+os.DevNull+`'`)
	}
	b.sql(b.super, `TRUNCATE copied`)
	took := b.copies(target, `\copy copied from '`+b.source()+`'`)
	if b.loaded == "" {
		b.loaded = b.content("streamed")
	}
	if got := b.content("copied"); got != b.loaded {
		b.t.Fatalf("copied in through %s: %s, want %s", wireTargets[target], got, b.loaded)
	}
	return took
}

// content is a count of a table's rows, and a digest.
func (b *wireBench) content(table string) string {
	b.t.Helper()
	return query(b.t, b.super, `SELECT concat_ws(' ', count(*), sum(hashtextextended(x::text, 0))) FROM `+table+` x`)
}

// copyFile is where the rows copied out through the target are.
func (b *wireBench) copyFile(target int) string {
	return filepath.Join(b.scratch, "rows."+wireTargets[target])
}

// source is the file that is copied in.
func (b *wireBench) source() string { return b.copyFile(direct) }

// same fails the test when what came through one target differs from what came through another.
func (b *wireBench) same(name string, target int, digest uint32) {
	b.t.Helper()
	if want, ok := b.digests[name]; ok && want != digest {
		b.t.Fatalf("%s: what came through %s is not what came before", name, wireTargets[target])
	}
	b.digests[name] = digest
}

func (b *wireBench) fileDigest(path string) uint32 {
	b.t.Helper()
	file, err := os.Open(path)
	if err != nil {
		b.t.Fatal(err)
	}
	defer file.Close()
	sum := crc32.New(castagnoli)
	if _, err := io.Copy(sum, file); err != nil {
		b.t.Fatal(err)
	}
	return sum.Sum32()
}

// copies has psql copy the rows.
func (b *wireBench) copies(target int, command string) time.Duration {
	b.t.Helper()
	cmd := b.program("psql", "-X", "-v", "ON_ERROR_STOP=1", "-c", command, b.dsn(target))
	began := time.Now()
	out := b.run(cmd)
	took := time.Since(began)
	if strings.TrimSpace(out) != fmt.Sprintf("COPY %d", rowsStreamed) {
		b.t.Fatalf("%s through %s: %s", command, wireTargets[target], out)
	}
	return took
}

// selects sends the messages on a new connection and reads all replies, holding none: the time from the first byte sent to the last received.
// The client does little more than read, so that it takes little of the processors.
func (b *wireBench) selects(target int, messages ...pgproto3.FrontendMessage) time.Duration {
	b.t.Helper()
	conn, err := pgconn.Connect(b.t.Context(), b.dsn(target))
	if err != nil {
		b.t.Fatal(err)
	}
	raw, err := conn.Hijack()
	if err != nil {
		b.t.Fatal(err)
	}
	defer raw.Conn.Close()
	var request []byte
	for _, m := range messages {
		if request, err = m.Encode(request); err != nil {
			b.t.Fatal(err)
		}
	}
	began := time.Now()
	if _, err := raw.Conn.Write(request); err != nil {
		b.t.Fatal(err)
	}
	var r replies
	if err := r.read(raw.Conn); err != nil {
		b.t.Fatalf("select through %s: %v", wireTargets[target], err)
	}
	took := time.Since(began)
	if r.rows != rowsStreamed {
		b.t.Fatalf("select through %s: %d rows", wireTargets[target], r.rows)
	}
	b.same(fmt.Sprintf("%T", messages[0]), target, r.digest)
	return took
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// replies are what a server has sent: how many rows, and a digest of all bytes.
type replies struct {
	rows   int
	digest uint32

	head [5]byte // of the message under way: type and length
	have int     // bytes of head
	left int     // bytes of the body that are still to come
}

var errReply = errors.New("the server has sent an error")

// read reads to ReadyForQuery.
func (r *replies) read(from io.Reader) error {
	buffer := make([]byte, 256<<10)
	for {
		n, err := from.Read(buffer)
		r.digest = crc32.Update(r.digest, castagnoli, buffer[:n])
		if ready, failure := r.walk(buffer[:n]); ready || failure != nil {
			return failure
		}
		if err != nil {
			return err
		}
	}
}

func (r *replies) walk(b []byte) (ready bool, err error) {
	for len(b) > 0 {
		if r.have < len(r.head) {
			n := copy(r.head[r.have:], b)
			b, r.have = b[n:], r.have+n
			if r.have == len(r.head) {
				r.left = int(binary.BigEndian.Uint32(r.head[1:])) - 4
			}
		}
		n := min(r.left, len(b))
		b, r.left = b[n:], r.left-n
		if r.have < len(r.head) || r.left > 0 {
			continue
		}
		r.have = 0
		switch r.head[0] {
		case 'D':
			r.rows++
		case 'E':
			return false, errReply
		case 'Z':
			return true, nil
		}
	}
	return false, nil
}
