package catalog

import (
	"context"
	"time"

	"pgveil/engine"
)

// PolicyInfo is a policy as an operator sees it.
type PolicyInfo struct {
	Name              string         `json:"name"`
	Format            string         `json:"format"`
	Method            engine.Method  `json:"method"`
	Options           engine.Options `json:"options"`
	AcceptSmallDomain bool           `json:"accept_small_domain"`
	Active            int            `json:"active_version"`
	ColumnVersion     int            `json:"column_version"`
	Usable            bool           `json:"usable"` // false: it was tampered with, or a key does not open; see Snapshot.Alarms
	Created           time.Time      `json:"created"`
}

// KeyInfo is a key version, without the key.
type KeyInfo struct {
	Policy     string    `json:"policy"`
	Version    int       `json:"version"`
	State      string    `json:"state"` // as in SP 800-57: active, decrypt_only, …
	CheckValue string    `json:"check_value"`
	InColumns  bool      `json:"in_columns"` // protected columns of the policy are at this version
	Created    time.Time `json:"created"`
}

// ColumnInfo is a protected column. Where names changed directly, it has the names of now.
type ColumnInfo struct {
	id       string
	Database string    `json:"database"`
	Schema   string    `json:"schema"`
	Table    string    `json:"table"`
	Column   string    `json:"column"`
	Policy   string    `json:"policy"`
	Version  int       `json:"version"`
	Exists   bool      `json:"exists"`  // there is such a column now
	Guarded  bool      `json:"guarded"` // the guard stands on it
	Usable   bool      `json:"usable"`  // false: every protected statement on it is refused
	Created  time.Time `json:"created"`
}

// RoleInfo is a role that has a verifier, a grant or both.
type RoleInfo struct {
	Name        string  `json:"name"`
	Login       bool    `json:"login"`       // it can log in through the front-end
	Certificate bool    `json:"certificate"` // also by a client certificate of its name, without the password
	Grants      []Grant `json:"grants"`
}

// Grant is an action allowed under a policy.
type Grant struct {
	Action Action `json:"action"`
	Policy string `json:"policy"`
}

// Keys are the key versions by policy and version, without those that do not authenticate. The slice belongs to the snapshot.
func (s *Snapshot) Keys() []KeyInfo { return s.keyInfos }

// Policies lists the policies by name, also those that cannot be used. It refreshes first, as every list does.
func (s *Store) Policies(ctx context.Context) ([]PolicyInfo, error) {
	return listed(ctx, s, func(n *Snapshot) []PolicyInfo { return n.policyInfos })
}

// Keys lists the key versions by policy and version. Those that do not authenticate are left out, see Alarms.
func (s *Store) Keys(ctx context.Context) ([]KeyInfo, error) {
	return listed(ctx, s, func(n *Snapshot) []KeyInfo { return n.keyInfos })
}

// Columns lists the protected columns of all databases.
func (s *Store) Columns(ctx context.Context) ([]ColumnInfo, error) {
	return listed(ctx, s, func(n *Snapshot) []ColumnInfo { return n.columnInfos })
}

// Roles lists the roles the catalog knows. A role that holds grants by membership alone is not among them.
func (s *Store) Roles(ctx context.Context) ([]RoleInfo, error) {
	return listed(ctx, s, func(n *Snapshot) []RoleInfo { return n.roleInfos })
}

func listed[T any](ctx context.Context, s *Store, list func(*Snapshot) []T) ([]T, error) {
	if err := s.Refresh(ctx); err != nil {
		return nil, err
	}
	snapshot, err := s.Current()
	if err != nil {
		return nil, err
	}
	return append([]T{}, list(snapshot)...), nil
}
