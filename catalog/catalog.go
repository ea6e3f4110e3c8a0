// Package catalog is the control plane in PostgreSQL: policies, keys, protected columns, roles, grants and replicas,
// made into an immutable Snapshot.
//
// Start with Open and Store.Current. A session takes one Snapshot per statement and keeps it to the statement's end.
// Store.Run keeps it fresh: every change commits with a NOTIFY, and a poll once a second sees what PostgreSQL does not
// announce (memberships of roles, renamed and recreated tables, rows changed by hand). A Snapshot is a lease: when the
// last successful refresh is older than 10 s, Current is ErrStale.
//
// Rows are believed only if they authenticate. Each deciding row has a MAC, and the epoch's MAC covers a manifest of all
// of them, so that a row put there, changed, removed or put back by anything but this package has no effect other than
// to deny, raises an Alarm and is logged. Putting back the whole schema at once is seen by running nodes only.
//
// Keys are opened by a Sealer and live in engine.Transform; what a statement may do with them is decided elsewhere.
package catalog

import (
	"pgveil/engine"
	"pgveil/internal/secret"
)

// Sealer is what the catalog needs of the installation's root key. Safe for concurrent use.
type Sealer interface {
	// NewDEK returns a new DEK wrapped for one policy and version; OpenDEK opens it for no other.
	NewDEK(policyID string, version int) (blob []byte, err error)
	OpenDEK(policyID string, version int, blob []byte) (secret.Bytes, error)
	// MAC authenticates msg within domain: 32 bytes.
	MAC(domain string, msg []byte) []byte
	// Seal encrypts for one purpose; Open opens it for no other.
	Seal(purpose string, plain []byte) ([]byte, error)
	Open(purpose string, blob []byte) (secret.Bytes, error)
}

// Action is what a grant allows a role to do under a policy.
type Action string

const (
	Tokenize Action = "tokenize" // turn values into tokens: write, search
	Reveal   Action = "reveal"   // see values
	Mask     Action = "mask"     // see masked values
	Token    Action = "token"    // see tokens
)

// Actions are all of them.
func Actions() []Action { return []Action{Tokenize, Reveal, Mask, Token} }

// Policy is a policy of a Snapshot. Do not change it.
type Policy struct {
	engine.Policy

	// Transform is nil when the policy cannot be used: a row of it does not authenticate, or a key does not open.
	// Such a policy is not found by name, and every protected statement on its columns is to be refused.
	Transform *engine.Transform

	Active        int // key version that standalone tokenize writes
	ColumnVersion int // key version all protected columns of the policy are at
}

// Column is a protected column of a Snapshot. Do not change it.
type Column struct {
	Database, Schema, Table, Name string // as they are now, after direct renames

	// RelID and Attnum name the column in RowDescription. Both are 0 while there is no such column in the database;
	// a statement that names one is then still one of a protected column.
	RelID  uint32
	Attnum int16

	Policy *Policy // never nil; its Transform is, if the column must not be answered
}
