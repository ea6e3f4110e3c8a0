package audit

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/jackc/pgx/v5"
)

// Entry is a record in its place in a chain.
type Entry struct {
	Node string    `json:"node"`
	Seq  int64     `json:"seq"` // 1, 2, 3 … within the node
	At   time.Time `json:"at"`  // to the microsecond
	Record

	prev, hash []byte
}

// entryColumns are the columns of pgveil.audit in the order of Entry.targets.
const entryColumns = `node, seq, at, kind, session, role, addr, database, action, outcome, fingerprint, reason, policies, columns, rows, prev, hash`

func (e *Entry) targets() []any {
	return []any{&e.Node, &e.Seq, &e.At, &e.Kind, &e.Session, &e.Role, &e.Addr, &e.Database, &e.Action, &e.Outcome,
		&e.Fingerprint, &e.Reason, &e.Policies, &e.Columns, &e.Rows, &e.prev, &e.hash}
}

func (e *Entry) values() []any {
	return []any{e.Node, e.Seq, e.At, e.Kind, e.Session, e.Role, e.Addr, e.Database, e.Action, e.Outcome,
		e.Fingerprint, e.Reason, e.Policies, e.Columns, e.Rows, e.prev, e.hash}
}

func scanEntry(row pgx.CollectableRow) (e Entry, err error) {
	err = row.Scan(e.targets()...)
	e.At = e.At.UTC()
	return e, err
}

// chain links entries and signs checkpoints under keys of its own.
type chain struct {
	link, sign []byte
}

func newChain(key []byte) (chain, error) {
	if len(key) != sha256.Size {
		return chain{}, &Error{"the audit key is not 32 bytes long", "it is derived from the installation's root key"}
	}
	return chain{derive(key, "chain"), derive(key, "checkpoint")}, nil
}

func derive(key []byte, use string) []byte {
	sub, err := hkdf.Key(sha256.New, key, nil, "pgveil audit 1 "+use, sha256.Size)
	if err != nil {
		panic("audit: " + err.Error()) // only for more than 255 blocks
	}
	return sub
}

// genesis stands for the hash before a node's first entry.
func (c chain) genesis(node string) []byte {
	return c.mac(c.link, appendText(nil, "genesis", node))
}

// hash returns what e.hash is to be after the entry whose hash is prev.
func (c chain) hash(prev []byte, e *Entry) []byte {
	b := appendText(nil, "entry", string(prev), e.Node)
	b = appendInts(b, e.Seq, e.At.UnixMicro(), e.Session, e.Rows, int64(len(e.Policies)), int64(len(e.Columns)))
	b = appendText(b, e.Kind, e.Role, e.Addr, e.Database, e.Action, e.Outcome, e.Fingerprint, e.Reason)
	b = appendText(b, e.Policies...)
	b = appendText(b, e.Columns...)
	return c.mac(c.link, b)
}

func (c chain) mac(key, msg []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(msg)
	return h.Sum(nil)
}

// appendText appends each text with its length before it; appendInts appends 8 bytes each.
func appendText(dst []byte, texts ...string) []byte {
	for _, s := range texts {
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(s)))
		dst = append(dst, s...)
	}
	return dst
}

func appendInts(dst []byte, ints ...int64) []byte {
	for _, i := range ints {
		dst = binary.BigEndian.AppendUint64(dst, uint64(i))
	}
	return dst
}
