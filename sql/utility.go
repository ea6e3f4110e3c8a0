package sql

import (
	"cmp"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// utility decides the statements that are neither SELECT nor INSERT, UPDATE or DELETE.
func (a *analysis) utility(n *pg.Node) error {
	a.plan.Unpinned = true
	switch s := n.Node.(type) {
	case *pg.Node_CopyStmt:
		return a.copy(s.CopyStmt)
	case *pg.Node_TransactionStmt, *pg.Node_VariableSetStmt, *pg.Node_VariableShowStmt, *pg.Node_DiscardStmt, *pg.Node_DeallocateStmt,
		*pg.Node_ListenStmt, *pg.Node_NotifyStmt, *pg.Node_UnlistenStmt, *pg.Node_ClosePortalStmt, *pg.Node_FetchStmt, *pg.Node_CheckPointStmt,
		*pg.Node_ConstraintsSetStmt, *pg.Node_VacuumStmt, *pg.Node_LockStmt, *pg.Node_TruncateStmt, *pg.Node_GrantStmt, *pg.Node_GrantRoleStmt,
		*pg.Node_CreateRoleStmt, *pg.Node_AlterRoleStmt, *pg.Node_AlterRoleSetStmt, *pg.Node_DropRoleStmt, *pg.Node_CreatedbStmt, *pg.Node_DropdbStmt,
		*pg.Node_CreateSeqStmt, *pg.Node_CreateEnumStmt:
		return nil // no value passes through these
	case *pg.Node_RefreshMatViewStmt:
		return nil // from tokens to tokens
	case *pg.Node_IndexStmt:
		if plainIndex(s.IndexStmt) {
			return nil
		}
		return a.anyName(n, "this statement")
	case *pg.Node_CreateStmt:
		return a.createTable(s.CreateStmt)
	case *pg.Node_ExecuteStmt:
		return a.execute(s.ExecuteStmt)
	case *pg.Node_CallStmt:
		return a.expr(&pg.Node{Node: &pg.Node_FuncCall{FuncCall: s.CallStmt.Funccall}}, &scope{}, "CALL")
	case *pg.Node_MergeStmt:
		return a.anyName(n, "MERGE")
	case *pg.Node_DoStmt:
		return a.do(n)
	case *pg.Node_CreateFunctionStmt:
		return a.define(n, "CREATE FUNCTION", s.CreateFunctionStmt.Funcname)
	case *pg.Node_DefineStmt:
		return a.define(n, "this statement", s.DefineStmt.Defnames) // an operator or aggregate runs a function
	case *pg.Node_CreateCastStmt:
		return a.define(n, "this statement", append(s.CreateCastStmt.Sourcetype.GetNames(), s.CreateCastStmt.Targettype.GetNames()...))
	case *pg.Node_CreateTrigStmt, *pg.Node_CreateEventTrigStmt:
		return a.define(n, "this statement", nil)
	case *pg.Node_CreateForeignTableStmt:
		return a.define(n, "CREATE FOREIGN TABLE", nil) // its options name a table
	case *pg.Node_ImportForeignSchemaStmt:
		if a.Views {
			return refuse("Import it from a role that sees tokens only.", "IMPORT FOREIGN SCHEMA is not supported for a role that may reveal or mask: it may show a protected relation")
		}
		return nil
	case *pg.Node_DropStmt:
		return a.drop(s.DropStmt)
	case *pg.Node_RenameStmt:
		return a.renameObject(n, s.RenameStmt)
	case *pg.Node_CommentStmt, *pg.Node_AlterOwnerStmt:
		return nil
	case *pg.Node_DeclareCursorStmt:
		return a.readOnly(s.DeclareCursorStmt.Query, "DECLARE CURSOR")
	case *pg.Node_PrepareStmt:
		return a.readOnly(s.PrepareStmt.Query, "PREPARE")
	}
	return a.anyName(n, "this statement")
}

func (a *analysis) refuseRelation(rel *Relation, how string) *Refusal {
	name, column := rel.Name, ""
	for _, c := range rel.Columns { // the one that the text names, else the first
		if c.Policy != "" && (column == "" || mentions(a.Text, strings.ToLower(c.Name)) && !mentions(a.Text, strings.ToLower(column))) {
			column = c.Name
		}
	}
	if column != "" {
		return refuse("Connect to the backing database directly, where the column holds tokens.", "column %q of relation %q is protected, and the relation %s", column, name, how)
	}
	return refuse("Connect to the backing database directly, where the columns hold tokens.", "relation %q %s", name, how)
}

// anyName refuses a statement that names a protected relation, or one that shows it, or that calls a function of ours.
func (a *analysis) anyName(n *pg.Node, what string) error {
	var err error
	visit(n.ProtoReflect(), func(m any) bool {
		switch x := m.(type) {
		case *pg.RangeVar:
			rel := a.relations[Name{x.Schemaname, x.Relname}]
			switch {
			case rel == nil:
			case rel.Reaches || rel.protected():
				err = refuseAt(x.Location, a.refuseRelation(rel, "is named by "+what+", which is not supported yet"))
			case a.Views && rel.Schema == "pg_catalog" && slices.Contains(statistics, rel.Name):
				err = refuseAt(x.Location, refuse("Ask a role that sees tokens only.", "relation %q shows tokens of protected columns", rel.Name))
			}
		case *pg.FuncCall:
			if isOurs(x) {
				err = refuseAt(x.Location, refuse("Use it in SELECT, INSERT or UPDATE, with a constant or a parameter.", "%s in %s is not supported", last(x.Funcname), what))
			} else {
				err = a.unsafe(last(x.Funcname), x.Location)
			}
		case *pg.A_Expr:
			err = a.unsafe(last(x.Name), x.Location)
		case *pg.TypeCast:
			err = a.unsafe(last(x.TypeName.GetNames()), x.Location)
		case *pg.ColumnRef: // row.f may be f(row)
			if len(x.Fields) > 1 {
				err = a.unsafe(last(x.Fields), x.Location)
			}
		case *pg.A_Indirection:
			for _, f := range x.Indirection {
				if err == nil {
					err = a.unsafe(f.GetString_().GetSval(), 0)
				}
			}
		}
		return err == nil
	})
	return err
}

// anyText refuses a statement in which a string is one of names: code that runs later, or names that are kept as strings.
func (a *analysis) anyText(n *pg.Node, what string, names func(string) bool) error {
	var err error
	visit(n.ProtoReflect(), func(m any) bool {
		if s, ok := m.(*pg.String); ok && names(s.Sval) {
			err = refuse("Connect to the backing database directly, where the columns hold tokens.",
				"something protected is named by %s, which is not supported yet", what)
		}
		return err == nil
	})
	return err
}

// define allows to make an object that runs code, unless the code names something protected. What only reaches it is known for that when it is used:
// here to the statements behind it in the text, by the schema to those that come later.
func (a *analysis) define(n *pg.Node, what string, names []*pg.Node) error {
	a.defining = true
	defer func() { a.defining = false }()
	if err := a.anyName(n, what); err != nil {
		return err
	}
	if err := a.anyText(n, what, a.Schema.Owns); err != nil {
		return err
	}
	f := code(n)
	why := a.Schema.reaches(f)
	for name, reason := range a.made.unsafe {
		one := newSchema()
		if one.add(name); why == "" && one.Names(f.Source) {
			why = reason
		}
	}
	for _, name := range names {
		if why != "" {
			a.made.mark(Function{Name: name.GetString_().GetSval()}, why)
		}
	}
	return nil
}

// renameObject allows ALTER … RENAME of what is not protected. What reaches something protected does so by its new name too.
func (a *analysis) renameObject(n *pg.Node, s *pg.RenameStmt) error {
	names := s.Object.GetObjectWithArgs().GetObjname()
	if names == nil {
		names = s.Object.GetList().GetItems()
	}
	if len(names) > 0 {
		old := last(names)
		if why := cmp.Or(a.Schema.Unsafe(old), a.made.Unsafe(old)); why != "" {
			a.made.mark(Function{Name: s.Newname}, why)
		}
	}
	return a.anyName(n, "this statement")
}

// code is the function that n makes, or the operator or the like in the shape of one. Its body is all the strings of n.
func code(n *pg.Node) Function {
	f := Function{Language: "sql"}
	visit(n.ProtoReflect(), func(m any) bool {
		switch x := m.(type) {
		case *pg.String:
			f.Source += x.Sval + " "
		case *pg.DefElem:
			if x.Defname == "language" {
				f.Language = strings.ToLower(x.Arg.GetString_().GetSval())
			}
		}
		return true
	})
	f.System = f.Language == "c" || f.Language == "internal"
	return f
}

// do refuses code that runs now, where it names something protected or, for a role that may reveal or mask, runs SQL that cannot be seen.
func (a *analysis) do(n *pg.Node) error {
	if err := a.anyName(n, "DO"); err != nil {
		return err
	}
	if !a.Views {
		return a.anyText(n, "DO", a.Schema.Owns)
	}
	err := a.anyText(n, "DO", a.Schema.Names)
	visit(n.ProtoReflect(), func(m any) bool {
		if s, ok := m.(*pg.String); ok && err == nil && mentions(s.Sval, "execute", "fetch") {
			err = refuse("Send its statements one by one.", "DO with dynamic SQL or FETCH is not supported for a role that may reveal or mask")
		}
		return err == nil
	})
	return err
}

// createTable allows a new table whose name a protected one has elsewhere; what it is made from must not be protected.
func (a *analysis) createTable(s *pg.CreateStmt) error {
	rest := &pg.CreateStmt{TableElts: s.TableElts, InhRelations: s.InhRelations, Partbound: s.Partbound, OfTypename: s.OfTypename}
	var err error
	visit(rest.ProtoReflect(), func(m any) bool {
		switch x := m.(type) {
		case *pg.RangeVar:
			if rel := a.relations[Name{x.Schemaname, x.Relname}]; rel != nil && (rel.Reaches || rel.protected()) {
				err = refuseAt(x.Location, a.refuseRelation(rel, "is named by CREATE TABLE, which is not supported yet"))
			}
		case *pg.FuncCall:
			if isOurs(x) {
				err = refuseAt(x.Location, refuse("Store the token itself.", "%s in a table's definition is not supported", last(x.Funcname)))
			} else {
				err = a.unsafe(last(x.Funcname), x.Location)
			}
		}
		return err == nil
	})
	return err
}

// readOnly allows a statement around a query to roles that see tokens only.
func (a *analysis) readOnly(query *pg.Node, what string) error {
	if a.Views || query.GetSelectStmt() == nil || modifies(query) {
		if err := a.anyName(query, what); err != nil {
			return err
		}
		return a.anyHit(query, what)
	}
	before := len(a.plan.Params) + len(a.plan.Outputs) + a.rewrites()
	if _, err := a.query(query, &scope{}, client); err != nil {
		return err
	}
	if len(a.plan.Params)+len(a.plan.Outputs)+a.rewrites() != before {
		return refuse("Use it in a statement of its own.", "tokenize and detokenize in %s are not supported yet", what)
	}
	return nil
}

// rewrites counts the edits that are more than a schema's name.
func (a *analysis) rewrites() (n int) {
	for _, e := range a.plan.Edits {
		if e.End > e.Start {
			n++
		}
	}
	return n
}

// anyHit refuses a query that is kept and run later if it names what a protected relation is called, whatever that stands for now.
func (a *analysis) anyHit(n *pg.Node, what string) error {
	var err error
	visit(n.ProtoReflect(), func(m any) bool {
		if rv, ok := m.(*pg.RangeVar); ok && a.Schema.Names(rv.Relname) {
			err = refuseAt(rv.Location, refuse("Send the query itself.", "relation name %q is a protected one's, and %s of it is not supported yet", rv.Relname, what))
		}
		return err == nil
	})
	return err
}

// plainIndex tells whether an index is of columns alone: no constant is kept in it.
func plainIndex(s *pg.IndexStmt) bool {
	return s.WhereClause == nil && !slices.ContainsFunc(s.IndexParams, func(n *pg.Node) bool { return n.GetIndexElem().GetExpr() != nil })
}

// drop refuses to drop a protected relation.
func (a *analysis) drop(s *pg.DropStmt) error {
	for _, name := range dropped(s) {
		if rel := a.relations[name]; rel != nil && rel.protected() {
			return a.refuseRelation(rel, "is named by DROP, which is not supported yet")
		}
	}
	return nil
}

// dropped are the relations that DROP TABLE, VIEW and the like name.
func dropped(s *pg.DropStmt) []Name {
	switch s.RemoveType {
	case pg.ObjectType_OBJECT_TABLE, pg.ObjectType_OBJECT_VIEW, pg.ObjectType_OBJECT_MATVIEW, pg.ObjectType_OBJECT_FOREIGN_TABLE:
	default:
		return nil
	}
	var names []Name
	for _, o := range s.Objects {
		p := path(o.GetList().GetItems())
		switch {
		case len(p) == 1:
			names = append(names, Name{Name: p[0]})
		case len(p) > 1:
			names = append(names, Name{Schema: p[len(p)-2], Name: p[len(p)-1]})
		}
	}
	return names
}

// execute looks at the parameters of EXECUTE: what it runs was analyzed by PREPARE.
func (a *analysis) execute(s *pg.ExecuteStmt) error {
	return a.exprs(s.Params, &scope{}, "EXECUTE")
}

// copy allows COPY TO for a role that sees tokens in every column; every other COPY of a protected relation is refused.
func (a *analysis) copy(s *pg.CopyStmt) error {
	if s.Query != nil {
		if a.Views {
			return a.anyName(s.Query, "COPY")
		}
		_, err := a.query(s.Query, &scope{}, hidden)
		return err
	}
	rel := a.relations[Name{s.Relation.GetSchemaname(), s.Relation.GetRelname()}]
	if rel == nil {
		return nil
	}
	if s.IsFrom && (rel.protected() || rel.Reaches) || !s.IsFrom && rel.Reaches && a.Views {
		return refuseAt(s.Relation.Location, a.refuseRelation(rel, "is named by COPY, which is not supported yet"))
	}
	if err := a.expr(s.WhereClause, &scope{sources: []*source{{open: true}}}, "COPY … WHERE"); err != nil {
		return err
	}
	for _, c := range rel.Columns {
		if a.seen(column{policy: c.Policy}) {
			return refuseAt(s.Relation.Location, refuse("Use SELECT.", "column %q of relation %q is protected and COPY of it is not supported yet", c.Name, rel.Name))
		}
	}
	return nil
}
