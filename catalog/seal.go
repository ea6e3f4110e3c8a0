package catalog

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
)

// A record is a deciding row of the catalog. kind and key name it; fields are all its other columns that decide.
type record interface {
	kind() string
	key() string
	fields() []string
	seal() []byte // the mac stored beside it
}

type policyRow struct {
	ID, Name, Format, Options string
	AcceptSmallDomain         bool
	Active, ColumnVersion     int
	MAC                       []byte
}

func (r policyRow) kind() string { return "policy" }
func (r policyRow) key() string  { return r.ID }
func (r policyRow) seal() []byte { return r.MAC }
func (r policyRow) fields() []string {
	return []string{r.Name, r.Format, r.Options, strconv.FormatBool(r.AcceptSmallDomain), strconv.Itoa(r.Active), strconv.Itoa(r.ColumnVersion)}
}

type keyRow struct {
	PolicyID   string
	Version    int
	State      string
	Wrapped    []byte
	CheckValue string
	MAC        []byte
}

func (r keyRow) kind() string     { return "key" }
func (r keyRow) key() string      { return join(r.PolicyID, strconv.Itoa(r.Version)) }
func (r keyRow) seal() []byte     { return r.MAC }
func (r keyRow) fields() []string { return []string{r.State, string(r.Wrapped), r.CheckValue} }

type columnRow struct {
	ID string
	place
	PolicyID string
	MAC      []byte
}

func (r columnRow) kind() string { return "column" }
func (r columnRow) key() string  { return r.ID }
func (r columnRow) seal() []byte { return r.MAC }
func (r columnRow) fields() []string {
	return []string{r.Database, r.Schema, r.Table, r.Column, strconv.FormatUint(uint64(r.RelID), 10), strconv.Itoa(int(r.Attnum)), r.PolicyID}
}

type roleRow struct {
	Name, Verifier string
	ClientKey      []byte // sealed; nil: no login by certificate
	MAC            []byte
}

func (r roleRow) kind() string { return "role" }
func (r roleRow) key() string  { return r.Name }
func (r roleRow) seal() []byte { return r.MAC }
func (r roleRow) fields() []string {
	if r.ClientKey == nil { // as rows were signed before there were any
		return []string{r.Verifier}
	}
	return []string{r.Verifier, string(r.ClientKey)}
}

type grantRow struct {
	Role, Action, PolicyID string
	MAC                    []byte
}

func (r grantRow) kind() string     { return "grant" }
func (r grantRow) key() string      { return join(r.Role, r.Action, r.PolicyID) }
func (r grantRow) seal() []byte     { return r.MAC }
func (r grantRow) fields() []string { return nil }

type replicaRow struct {
	Name             string
	Source           []byte
	Database, Schema string
	Tables           []string
	MAC              []byte
}

func (r replicaRow) kind() string { return "replica" }
func (r replicaRow) key() string  { return r.Name }
func (r replicaRow) seal() []byte { return r.MAC }
func (r replicaRow) fields() []string {
	return append([]string{string(r.Source), r.Database, r.Schema}, r.Tables...)
}

// place is where a protected column was when it was protected.
type place struct {
	Database string `json:"database"`
	Schema   string `json:"schema"`
	Table    string `json:"table"`
	Column   string `json:"column"`
	RelID    uint32 `json:"relid"`
	Attnum   int16  `json:"attnum"`
}

// join makes one key of several parts. No PostgreSQL name holds a zero byte.
func join(parts ...string) string { return strings.Join(parts, "\x00") }

// mac authenticates a record under the root key.
func mac(s Sealer, r record) []byte {
	return s.MAC("row "+r.kind(), appendFields(appendFields(nil, r.key()), r.fields()...))
}

// manifest lists every deciding row with its mac. A row's own mac proves that we once wrote it; being in the manifest
// proves that it is still meant: without that, a revoked grant could be put back by whoever kept the row. For protected
// columns it also says where they are, so that one whose row was removed stays protected.
type manifest map[string]entry

type entry struct {
	MAC    []byte `json:"mac"`
	Column *place `json:"column,omitempty"`
}

func manifestKey(r record) string { return join(r.kind(), r.key()) }

// add records r as written with mac sum.
func (m manifest) add(r record, sum []byte) {
	e := entry{MAC: sum}
	if c, ok := r.(columnRow); ok {
		e.Column = &c.place
	}
	m[manifestKey(r)] = e
}

// verdict says whether a row that was read is one to believe.
type verdict int

const (
	intact  verdict = iota
	foreign         // not ours: nothing in the manifest has its key
	altered         // ours, with other content or an earlier one
)

func (m manifest) judge(s Sealer, r record) verdict {
	e, ok := m[manifestKey(r)]
	switch {
	case !ok:
		return foreign
	case !hmac.Equal(e.MAC, r.seal()) || !hmac.Equal(e.MAC, mac(s, r)):
		return altered
	}
	return intact
}

// epochRow is the one row of pgveil.epoch.
type epochRow struct {
	Value    int64
	Manifest []byte
	MAC      []byte
}

func epochMAC(s Sealer, value int64, manifest []byte) []byte {
	return s.MAC("epoch", appendFields(nil, strconv.FormatInt(value, 10), string(manifest)))
}

// open checks the epoch and returns its manifest.
func (r epochRow) open(s Sealer) (manifest, error) {
	if !hmac.Equal(r.MAC, epochMAC(s, r.Value, r.Manifest)) {
		return nil, errEpoch
	}
	m := manifest{}
	if err := json.Unmarshal(r.Manifest, &m); err != nil {
		return nil, errEpoch
	}
	return m, nil
}

// sealEpoch is the way back.
func sealEpoch(s Sealer, value int64, m manifest) (epochRow, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return epochRow{}, err
	}
	return epochRow{value, text, epochMAC(s, value, text)}, nil
}

// appendFields appends each field with its length before it, so that no two lists of fields give the same bytes.
func appendFields(dst []byte, fields ...string) []byte {
	for _, f := range fields {
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(f)))
		dst = append(dst, f...)
	}
	return dst
}

// shortHash is 32 bits to tell names apart that were cut.
func shortHash(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:4])
}
