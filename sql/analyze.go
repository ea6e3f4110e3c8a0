package sql

import (
	"errors"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"

	pg "github.com/pganalyze/pg_query_go/v6"
	"github.com/pganalyze/pg_query_go/v6/parser"
)

// Analyze decides what becomes of a text that may hold several statements. The caller has asked r.Schema.Mentions first;
// a text that it does not mention needs no analysis.
//
// The error is a *Refusal, or what r.Catalog said. Analyze is safe for concurrent use; the Plan holds literals of the text
// and must not outlive the statement.
func Analyze(r Request) (*Plan, error) {
	if strings.Count(r.Text, "/*") > maxComments {
		return nil, &Refusal{SQLState: statementTooComplex, Message: "the statement has too many comments to be checked for protected columns", Hint: "Leave comments out."}
	}
	tokens := lex(r.Text)
	if tooComplex(r.Text, tokens) {
		return nil, &Refusal{SQLState: statementTooComplex, Message: "the statement is too complex to be checked for protected columns",
			Hint: "Split the statement, or use = ANY with an array on columns that are not protected."}
	}
	tree, err := pg.Parse(r.Text)
	if err != nil {
		return nil, unparsable(r.Text, err)
	}
	a := &analysis{Request: r, tokens: tokens, plan: &Plan{Params: map[int][]Step{}, Statements: len(tree.Stmts), ReadOnly: true}, plain: map[int]bool{}, made: newSchema()}
	if err := a.resolve(tree); err != nil {
		return nil, err
	}
	for i, raw := range tree.Stmts {
		if err := a.statement(raw.Stmt); err != nil {
			return nil, a.place(err)
		}
		if a.touched || i > 0 && a.names(raw) {
			if err := a.settled(tree.Stmts[:i]); err != nil {
				return nil, err
			}
			if err := a.pinned(raw.Stmt); err != nil && i > 0 {
				return nil, a.place(err)
			}
		}
	}
	return a.finish()
}

// analysis is one run of Analyze.
type analysis struct {
	Request
	tokens    []token
	plan      *Plan
	relations map[Name]*Relation
	plain     map[int]bool // parameters that are used as they stand
	made      *Schema      // functions, operators and types that the text makes and that reach something protected
	defining  bool         // code is looked at that does not run now
	touched   bool         // a protected relation or a function of ours was met
}

// unparsable answers a text that the grammar does not know. The grammar's own message quotes the text, so only its position is kept.
func unparsable(text string, err error) error {
	r := &Refusal{SQLState: syntaxError, Message: "syntax error, or syntax newer than pgveil's grammar, in a statement that may name something protected",
		Hint: "The statement was not sent to the backing database. Correct it, or connect to the backing database directly."}
	var pe *parser.Error
	if errors.As(err, &pe) && pe.Cursorpos > 0 {
		r.Position = pe.Cursorpos
	}
	return r
}

// position turns a byte offset into the protocol's 1-based count of characters.
func position(text string, offset int) int {
	if offset < 0 || offset > len(text) {
		return 0
	}
	return utf8.RuneCountInString(text[:offset]) + 1
}

// refusalAt is a refusal that knows a byte offset.
type refusalAt struct {
	*Refusal
	offset int32
}

func (a *analysis) place(err error) error {
	var at *refusalAt
	if errors.As(err, &at) {
		if at.offset > 0 || at.Position == 0 {
			at.Refusal.Position = position(a.Text, int(at.offset))
		}
		return at.Refusal
	}
	return err
}

func refuseAt(offset int32, r *Refusal) error { return &refusalAt{r, offset} }

// resolve asks the catalog for every relation that the text names.
func (a *analysis) resolve(tree *pg.ParseResult) error {
	seen := map[Name]bool{}
	var names []Name
	add := func(n Name) {
		if !seen[n] {
			seen[n] = true
			names = append(names, n)
		}
	}
	visit(tree.ProtoReflect(), func(m any) bool {
		switch x := m.(type) {
		case *pg.RangeVar:
			add(Name{x.Schemaname, x.Relname})
		case *pg.LockStmt: // it may have to be the first to look at the database in its transaction
			return false
		case *pg.DropStmt:
			for _, n := range dropped(x) {
				add(n)
			}
		}
		return true
	})
	a.relations = map[Name]*Relation{}
	if len(names) == 0 || a.Schema.Empty() {
		return nil
	}
	rels, err := a.Catalog.Relations(names)
	if err != nil {
		return err
	}
	for i, n := range names {
		a.relations[n] = rels[i]
	}
	return nil
}

// names tells whether the statement itself names a relation that is protected or shows one.
func (a *analysis) names(raw *pg.RawStmt) bool {
	start, end := int(raw.StmtLocation), int(raw.StmtLocation+raw.StmtLen)
	if raw.StmtLen == 0 || end > len(a.Text) || start > end {
		end = len(a.Text)
	}
	return a.Schema.Owns(a.Text[start:end])
}

// settled refuses a text in which an earlier statement could change what the names of a later, protected one mean: names are
// resolved once, before the text runs.
func (a *analysis) settled(before []*pg.RawStmt) error {
	for _, raw := range before {
		switch n := raw.Stmt.Node.(type) {
		case *pg.Node_SelectStmt, *pg.Node_InsertStmt, *pg.Node_UpdateStmt, *pg.Node_DeleteStmt:
			if !calls(raw.Stmt, "set_config") && !makes(raw.Stmt) {
				continue
			}
		case *pg.Node_VariableSetStmt:
			if inertSetting(n.VariableSetStmt) {
				continue
			}
		case *pg.Node_VariableShowStmt, *pg.Node_ListenStmt, *pg.Node_NotifyStmt:
			continue
		case *pg.Node_TransactionStmt:
			switch n.TransactionStmt.Kind {
			case pg.TransactionStmtKind_TRANS_STMT_BEGIN, pg.TransactionStmtKind_TRANS_STMT_START, pg.TransactionStmtKind_TRANS_STMT_SAVEPOINT, pg.TransactionStmtKind_TRANS_STMT_RELEASE:
				continue
			}
		}
		return a.place(refuse("Send the statements one by one.", "an earlier statement of the same query may change what the names in this one mean"))
	}
	return nil
}

// inertSetting tells whether a SET changes neither what names mean nor how texts are read.
func inertSetting(s *pg.VariableSetStmt) bool {
	if s.Kind != pg.VariableSetKind_VAR_SET_VALUE {
		return false
	}
	switch strings.ToLower(s.Name) {
	case "search_path", "role", "session_authorization", "standard_conforming_strings", "backslash_quote", "escape_string_warning", "client_encoding", "names", "transform_null_equals":
		return false
	}
	return true
}

// makes tells whether a query makes a table (SELECT INTO).
func makes(n *pg.Node) bool {
	found := false
	visit(n.ProtoReflect(), func(m any) bool {
		if _, ok := m.(*pg.IntoClause); ok {
			found = true
		}
		return !found
	})
	return found
}

// pinned refuses a statement behind others that names what a protected relation is called but means something else now: a view, default or trigger
// in an earlier statement could still change search_path. A protected one is qualified in the text.
func (a *analysis) pinned(n *pg.Node) error {
	var err error
	visit(n.ProtoReflect(), func(m any) bool {
		if rv, ok := m.(*pg.RangeVar); ok && rv.Schemaname == "" && a.Schema.Names(rv.Relname) {
			if rel := a.relations[Name{"", rv.Relname}]; rel == nil || !rel.protected() {
				err = refuseAt(rv.Location, refuse("Send the statements one by one.", "an earlier statement of the same query may change what the name %q means", rv.Relname))
			}
		}
		return err == nil
	})
	return err
}

func calls(n *pg.Node, function string) bool {
	found := false
	visit(n.ProtoReflect(), func(m any) bool {
		if f, ok := m.(*pg.FuncCall); ok && last(f.Funcname) == function {
			found = true
		}
		return !found
	})
	return found
}

// finish orders the edits and decides the verdict.
func (a *analysis) finish() (*Plan, error) {
	p := a.plan
	for n := range p.Params {
		if a.plain[n] {
			return nil, refuse("Use two parameters.", "parameter $%d is used both as a value to tokenize and as it stands", n)
		}
	}
	if !a.Views && !a.Tokenizes && len(p.Params) == 0 && !slices.ContainsFunc(p.Edits, func(e Edit) bool { return e.End > e.Start }) {
		p.Edits = nil // names alone would be qualified, and the role sees the tokens that are stored
	}
	sort.Slice(p.Edits, func(i, j int) bool { return p.Edits[i].Start < p.Edits[j].Start })
	for i := 1; i < len(p.Edits); i++ {
		if p.Edits[i].Start < p.Edits[i-1].End {
			return nil, refuse("Write the calls one by one.", "two rewrites overlap in the statement")
		}
	}
	if len(p.Reads) > 0 {
		fp, err := pg.Fingerprint(a.Text)
		if err != nil {
			return nil, unparsable(a.Text, err)
		}
		p.Fingerprint = fp
	}
	switch {
	case len(p.Edits) > 0 || len(p.Params) > 0:
		p.Verdict = Rewritten
	case len(p.Reads) > 0:
		p.Verdict = Covered
	}
	return p, nil
}

// statement dispatches on the kind of a statement.
func (a *analysis) statement(n *pg.Node) error {
	top := &scope{}
	switch s := n.Node.(type) {
	case *pg.Node_SelectStmt:
		if modifies(n) {
			a.plan.ReadOnly = false
		}
		_, err := a.selects(s.SelectStmt, top, client)
		return err
	case *pg.Node_InsertStmt:
		a.plan.ReadOnly = false
		_, err := a.insert(s.InsertStmt, top, client)
		return err
	case *pg.Node_UpdateStmt:
		a.plan.ReadOnly = false
		_, err := a.update(s.UpdateStmt, top, client)
		return err
	case *pg.Node_DeleteStmt:
		a.plan.ReadOnly = false
		_, err := a.delete(s.DeleteStmt, top, client)
		return err
	case *pg.Node_ExplainStmt:
		return a.explain(s.ExplainStmt)
	}
	a.plan.ReadOnly = false
	return a.utility(n)
}

// modifies tells whether a SELECT holds a data-modifying WITH query.
func modifies(n *pg.Node) bool {
	found := false
	visit(n.ProtoReflect(), func(m any) bool {
		switch m.(type) {
		case *pg.InsertStmt, *pg.UpdateStmt, *pg.DeleteStmt, *pg.MergeStmt, *pg.IntoClause:
			found = true
		}
		return !found
	})
	return found
}

// explain analyzes the explained statement; its plan shows tokens only, so it returns nothing in the clear.
func (a *analysis) explain(s *pg.ExplainStmt) error {
	reads, outputs := len(a.plan.Reads), len(a.plan.Outputs)
	if err := a.statement(s.Query); err != nil {
		return err
	}
	if len(a.plan.Outputs) > outputs {
		return refuse("Explain the statement without detokenize.", "EXPLAIN of detokenize is not supported")
	}
	a.plan.Reads = a.plan.Reads[:reads]
	return nil
}

// visit walks a parse tree and calls f with each message; f says whether to go deeper.
func visit(m message, f func(any) bool) {
	if !f(m.Interface()) {
		return
	}
	m.Range(func(fd fieldDescriptor, v fieldValue) bool {
		switch {
		case fd.Message() == nil || fd.IsMap():
		case fd.IsList():
			for i := 0; i < v.List().Len(); i++ {
				visit(v.List().Get(i).Message(), f)
			}
		default:
			visit(v.Message(), f)
		}
		return true
	})
}

// last is the last part of a qualified name.
func last(parts []*pg.Node) string {
	if len(parts) == 0 {
		return ""
	}
	return parts[len(parts)-1].GetString_().GetSval()
}

// path is a qualified name's parts.
func path(parts []*pg.Node) []string {
	out := make([]string, 0, len(parts))
	for _, p := range parts {
		out = append(out, p.GetString_().GetSval())
	}
	return out
}

// quoteIdentifier always quotes.
func quoteIdentifier(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
