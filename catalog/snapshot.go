package catalog

import (
	"cmp"
	"slices"

	"pgveil/internal/scram"
	"pgveil/internal/secret"
)

// Snapshot is the catalog at one moment. It is immutable and safe for concurrent use; it costs no I/O.
type Snapshot struct {
	epoch          int64
	catalog        int64
	policies       []*Policy // usable ones, by name
	byName         map[string]*Policy
	columns        map[string][]*Column // by database
	verifiers      map[string]string
	clientKeys     map[string][]byte // sealed
	sealer         Sealer
	mockSecret     []byte
	mockIterations int
	allowed        map[right]struct{}
	alarms         []Alarm

	// For the lists an operator asks for.
	policyInfos []PolicyInfo
	keyInfos    []KeyInfo
	columnInfos []ColumnInfo
	roleInfos   []RoleInfo
	replicas    []replicaRow
}

// right is one decision: direct grants and inherited ones alike.
type right struct {
	role   string
	action Action
	policy string
}

// Alarm is a row that was changed around this package, or a policy that cannot be used.
type Alarm struct {
	Object string // "grant app reveal ssn", "key ssn 2"
	Reason string
}

// Epoch grows whenever anything in the snapshot changes. It counts what one Store has seen; nodes do not compare it.
func (s *Snapshot) Epoch() int64 { return s.epoch }

// CatalogEpoch is the number of changes made to the catalog through pgveil, the same on every node.
func (s *Snapshot) CatalogEpoch() int64 { return s.catalog }

// Policy returns the policy of that name, nil if it is unknown or cannot be used.
func (s *Snapshot) Policy(name string) *Policy { return s.byName[name] }

// Policies returns the usable policies by name. The slice belongs to the snapshot.
func (s *Snapshot) Policies() []*Policy { return s.policies }

// Columns returns the protected columns of a database; none means that everything may be relayed.
// The slice belongs to the snapshot.
func (s *Snapshot) Columns(database string) []*Column { return s.columns[database] }

// Databases returns the names of the databases that have protected columns, sorted.
func (s *Snapshot) Databases() []string {
	var names []string
	for name := range s.columns {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Verifier returns the SCRAM verifier of a role, in the text form PostgreSQL stores.
func (s *Snapshot) Verifier(role string) (string, bool) {
	v, ok := s.verifiers[role]
	return v, ok
}

// ClientKey returns the ClientKey that belongs to the role's verifier, if one is kept for logins by certificate.
func (s *Snapshot) ClientKey(role string) (key secret.Bytes, ok bool, err error) {
	sealed, ok := s.clientKeys[role]
	if !ok {
		return key, false, nil
	}
	key, err = s.sealer.Open(clientKeyPurpose(role), sealed)
	return key, err == nil, err
}

// MockVerifier is the verifier that an unknown role is checked against, so that it looks like a known one: its salt stays the
// same from try to try, and its iteration count is the one that most roles have. No proof matches it.
func (s *Snapshot) MockVerifier(role string) string {
	v := scram.MockVerifier(s.mockSecret, role)
	v.Iterations = s.mockIterations
	return v.Exposed()
}

// May says whether a role holds a grant, or inherits it from a role it is a member of, directly or not, as PostgreSQL
// inherits privileges (INHERIT before version 16, WITH INHERIT from 16 on). A superuser holds the grants made to it
// by name alone: it could make itself a member of anything.
func (s *Snapshot) May(role string, a Action, policy string) bool {
	_, ok := s.allowed[right{role, a, policy}]
	return ok
}

// Alarms returns what is wrong with the catalog; none for a good one. The slice belongs to the snapshot.
func (s *Snapshot) Alarms() []Alarm { return s.alarms }

func sortAlarms(a []Alarm) {
	slices.SortFunc(a, func(x, y Alarm) int {
		return cmp.Or(cmp.Compare(x.Object, y.Object), cmp.Compare(x.Reason, y.Reason))
	})
}
