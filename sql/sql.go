// Package sql reads a statement and decides its verdict: whether it may go to the backing database as it stands
// (relay), whether its result rows are transformed on the way back (covered), whether constants and parameters in
// it become tokens first (rewritten), or whether it must not run (refused).
//
// Start with Schema, which knows the names worth looking for, and Analyze, which turns a text into a Plan.
// The rule is default deny: a reference to a protected column is allowed only in the shapes that this package knows to
// be right; every other shape is a *Refusal that names the column, the reason and what works.
//
// The package imports nothing of ours. It holds no key and makes no token: a Plan says where a token belongs
// (Edit, Param), and the caller fills it in. It learns what a name means in the client's session through Catalog.
package sql

import "fmt"

// Verdict is what becomes of a statement.
type Verdict int

// The verdicts of this package, in rising order of work.
const (
	Relay     Verdict = iota // nothing of ours in it: bytes untouched
	Covered                  // rows are transformed by their origin
	Rewritten                // the text or a parameter is changed first
)

func (v Verdict) String() string { return [...]string{"relay", "covered", "rewritten"}[v] }

// View is what a role sees of a policy's values.
type View int

// The views, from least to most.
const (
	Token View = iota // the stored token
	Mask              // a masked rendering
	Clear             // the value
)

// Access is what a role may do with a policy's values.
type Access struct {
	View     View
	Tokenize bool
	Reveal   bool
}

// Name is a relation's name as the text has it; Schema is empty when the text gives none.
type Name struct{ Schema, Name string }

// Relation is what a name stands for in the client's session.
type Relation struct {
	OID          uint32
	Schema, Name string
	Temporary    bool
	// Reaches says that the relation is not protected itself but shows a protected one: a view, a child table.
	Reaches bool
	// Columns are in attnum order without dropped ones.
	Columns []Attribute
}

// protected tells whether any column is.
func (r *Relation) protected() bool {
	for i := range r.Columns {
		if r.Columns[i].Policy != "" {
			return true
		}
	}
	return false
}

// Attribute is a column of a Relation.
type Attribute struct {
	Name      string
	Attnum    int16
	Policy    string // "" when it is not protected
	Generated bool
}

// Catalog resolves names as the client's session does: its search_path, its temporary tables, its uncommitted DDL.
type Catalog interface {
	// Relations gives one entry a name, nil where the name stands for nothing.
	Relations(names []Name) ([]*Relation, error)
}

// Request is one text to analyze.
type Request struct {
	Text    string
	Schema  *Schema
	Catalog Catalog
	// Access gives the session's login role's access to a policy; ok is false when there is no such policy.
	Access func(policy string) (a Access, ok bool)
	// Views says that the role sees values or masks of at least one protected column of the database.
	Views bool
	// Tokenizes says that the role may tokenize with at least one policy.
	Tokenizes bool
}

// Plan is how a text is answered.
type Plan struct {
	Verdict Verdict
	Edits   []Edit         // in ascending order, not overlapping
	Params  map[int][]Step // what becomes of $n before it is sent; absent: nothing
	Outputs []Output       // result columns that are transformed by name, not by origin
	Reads   []Read         // what may reach the client in the clear or masked
	// Fingerprint identifies the text without its literals; it is set where Reads is not empty.
	Fingerprint string
	// Unpinned says that names in the text are not qualified, so that they may mean something else when it runs.
	Unpinned bool
	// Statements is their number in the text; ReadOnly says that each is a plain SELECT.
	Statements int
	ReadOnly   bool
}

// Edit replaces Text[Start:End] by Before, the literal of Value (if any), and After.
type Edit struct {
	Start, End    int
	Before, After string
	Value         *Value
}

// Value is a constant or a parameter and what is done to it, in order.
type Value struct {
	Null  bool
	Text  string // of a constant
	Param int    // 0: a constant
	Steps []Step
	start int // of a constant's literal in the text, for its edit
}

// Step is one thing done to a value.
type Step struct {
	Op     Op
	Policy string
}

// Op is a Step's kind.
type Op int

// The steps.
const (
	// Tokenize makes a token at the policy's active key version.
	Tokenize Op = iota
	// TokenizeForColumn makes a token at the key version that the policy's protected columns are at.
	TokenizeForColumn
	// Detokenize makes the value of a token.
	Detokenize
	// TokenOrValue leaves a token of the policy as it is, and does TokenizeForColumn to anything else.
	TokenOrValue
	// CheckToken changes nothing: the value must be a token of the policy.
	CheckToken
)

// MarkerPrefix begins the name of every marked result column.
const MarkerPrefix = "pgveil detokenize "

// Output is a result column that Marker names in the edited text; the client sees it as Name.
type Output struct {
	Marker, Name string
	Policy       string
}

// Read is a protected column that a statement returns.
type Read struct {
	Schema, Table, Column, Policy string
	View                          View
}

// Refusal says why a statement does not run.
type Refusal struct {
	SQLState string
	Message  string
	Hint     string
	Position int // 1-based, in characters of the client's text; 0: none
}

func (r *Refusal) Error() string { return r.Message }

// SQLSTATEs of refusals (the manual's appendix A).
const (
	featureNotSupported   = "0A000"
	insufficientPrivilege = "42501"
	syntaxError           = "42601"
	undefinedObject       = "42704"
	undefinedColumn       = "42703"
	undefinedParameter    = "42P02"
	statementTooComplex   = "54001"
)

func refuse(hint, format string, args ...any) *Refusal {
	return &Refusal{SQLState: featureNotSupported, Message: fmt.Sprintf(format, args...), Hint: hint}
}
