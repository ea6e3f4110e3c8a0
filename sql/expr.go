package sql

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

func (a *analysis) exprs(nodes []*pg.Node, sc *scope, where string) error {
	for _, n := range nodes {
		if err := a.expr(n, sc, where); err != nil {
			return err
		}
	}
	return nil
}

// expr analyzes an expression. Only the shapes named here may hold a protected column; where any other does, it is refused.
// where says in words what the expression is part of.
func (a *analysis) expr(n *pg.Node, sc *scope, where string) error {
	if n == nil || n.Node == nil {
		return nil
	}
	switch e := n.Node.(type) {
	case *pg.Node_ColumnRef:
		return a.reference(e.ColumnRef, sc, where)
	case *pg.Node_ParamRef:
		a.plain[int(e.ParamRef.Number)] = true
		return nil
	case *pg.Node_BoolExpr:
		return a.exprs(e.BoolExpr.Args, sc, where)
	case *pg.Node_NullTest:
		if ref := e.NullTest.Arg.GetColumnRef(); ref != nil {
			if _, whole := sc.lookup(ref); whole == nil {
				return nil
			}
		}
	case *pg.Node_AExpr:
		if err := a.unsafe(last(e.AExpr.Name), e.AExpr.Location); err != nil {
			return err
		}
		if done, err := a.comparison(e.AExpr, sc); done || err != nil {
			return err
		}
		where = operatorName(e.AExpr)
	case *pg.Node_FuncCall:
		return a.call(e.FuncCall, sc)
	case *pg.Node_SubLink:
		return a.subLink(e.SubLink, sc)
	case *pg.Node_SelectStmt:
		_, err := a.selects(e.SelectStmt, &scope{parent: sc}, hidden)
		return err
	case *pg.Node_TypeCast:
		if err := a.unsafe(last(e.TypeCast.TypeName.GetNames()), e.TypeCast.Location); err != nil {
			return err
		}
		where = "a cast"
	case *pg.Node_CoalesceExpr:
		where = "COALESCE"
	case *pg.Node_CaseExpr:
		where = "CASE"
	case *pg.Node_MinMaxExpr:
		where = "GREATEST or LEAST"
	case *pg.Node_AArrayExpr:
		where = "ARRAY[…]"
	case *pg.Node_RowExpr:
		where = "a row constructor"
	case *pg.Node_CollateClause:
		where = "COLLATE"
	case *pg.Node_AIndirection:
		for _, f := range e.AIndirection.Indirection {
			if err := a.unsafe(f.GetString_().GetSval(), 0); err != nil {
				return err
			}
		}
		where = "a field selection"
	}
	return a.children(n.ProtoReflect(), sc, where)
}

// children analyzes every expression below m.
func (a *analysis) children(m message, sc *scope, where string) (err error) {
	m.Range(func(fd fieldDescriptor, v fieldValue) bool {
		if fd.Message() == nil || fd.IsMap() {
			return true
		}
		each := func(v fieldValue) bool {
			if n, ok := v.Message().Interface().(*pg.Node); ok {
				err = a.expr(n, sc, where)
			} else {
				err = a.inner(v.Message(), sc, where)
			}
			return err == nil
		}
		if !fd.IsList() {
			return each(v)
		}
		for i := 0; i < v.List().Len(); i++ {
			if !each(v.List().Get(i)) {
				return false
			}
		}
		return true
	})
	return err
}

// inner analyzes a message that is not wrapped in a Node: the payload of one, or a typed field.
func (a *analysis) inner(m message, sc *scope, where string) error {
	switch x := m.Interface().(type) {
	case *pg.ColumnRef:
		return a.reference(x, sc, where)
	case *pg.FuncCall:
		return a.call(x, sc)
	case *pg.SubLink:
		return a.subLink(x, sc)
	case *pg.SelectStmt:
		_, err := a.selects(x, &scope{parent: sc}, hidden)
		return err
	case *pg.RangeVar:
		return a.named(x)
	case *pg.TypeName:
		return nil
	}
	return a.children(m, sc, where)
}

// named refuses a protected relation in a place that is none of those we know.
func (a *analysis) named(rv *pg.RangeVar) error {
	rel := a.relations[Name{rv.Schemaname, rv.Relname}]
	if rel != nil && (rel.Reaches || rel.protected()) {
		return refuseAt(rv.Location, a.refuseRelation(rel, "is named where that is not supported yet"))
	}
	return nil
}

func (a *analysis) reference(ref *pg.ColumnRef, sc *scope, where string) error {
	if ref.Fields[len(ref.Fields)-1].GetAStar() != nil { // count(t.*), row(t.*)
		_, src := sc.lookup(ref)
		srcs := sc.sources
		if len(ref.Fields) > 1 {
			srcs = nil
			if src != nil {
				srcs = []*source{src}
			}
		}
		for _, s := range srcs {
			if err := a.wholeRow(ref, s, where); err != nil {
				return err
			}
		}
		return nil
	}
	c, whole := sc.lookup(ref)
	if err := a.notation(ref, c); err != nil {
		return err
	}
	if whole != nil {
		return a.wholeRow(ref, whole, where)
	}
	if a.seen(c) {
		return a.refuseColumn(ref.Location, c, where, "")
	}
	return nil
}

// notation refuses row.f where f is a function that must not be called.
func (a *analysis) notation(ref *pg.ColumnRef, c column) error {
	if len(ref.Fields) > 1 && c.name == "" {
		return a.unsafe(last(ref.Fields), ref.Location)
	}
	return nil
}

// unsafe refuses what reaches protected columns without naming them.
func (a *analysis) unsafe(name string, at int32) error {
	why := a.Schema.Unsafe(name)
	if why == "" {
		why = a.made.Unsafe(name)
	}
	if why != "" && a.Views && !a.defining {
		return refuseAt(at, refuse("Use it from a role that sees tokens only, or run its statements yourself.",
			"%q is not supported for a role that may reveal or mask: %s", name, why))
	}
	return nil
}

func operatorName(e *pg.A_Expr) string {
	switch e.Kind {
	case pg.A_Expr_Kind_AEXPR_LIKE:
		return "LIKE"
	case pg.A_Expr_Kind_AEXPR_ILIKE:
		return "ILIKE"
	case pg.A_Expr_Kind_AEXPR_SIMILAR:
		return "SIMILAR TO"
	case pg.A_Expr_Kind_AEXPR_BETWEEN, pg.A_Expr_Kind_AEXPR_NOT_BETWEEN, pg.A_Expr_Kind_AEXPR_BETWEEN_SYM, pg.A_Expr_Kind_AEXPR_NOT_BETWEEN_SYM:
		return "BETWEEN"
	case pg.A_Expr_Kind_AEXPR_DISTINCT, pg.A_Expr_Kind_AEXPR_NOT_DISTINCT:
		return "IS DISTINCT FROM"
	case pg.A_Expr_Kind_AEXPR_NULLIF:
		return "NULLIF"
	case pg.A_Expr_Kind_AEXPR_OP_ANY, pg.A_Expr_Kind_AEXPR_OP_ALL:
		return "ANY or ALL"
	}
	return "the operator " + last(e.Name)
}

// equality tells whether e is = or <> (IN, IS DISTINCT FROM and their negations likewise) and surely PostgreSQL's own.
func (a *analysis) equality(e *pg.A_Expr) bool {
	p := path(e.Name)
	if len(p) == 0 || len(p) == 1 && a.Schema.equals || len(p) == 2 && p[0] != "pg_catalog" || len(p) > 2 {
		return false
	}
	op := p[len(p)-1]
	return op == "=" || op == "<>" || op == "!="
}

// comparison handles a protected column compared with constants, parameters or a column of the same policy. done says that
// e was one of these.
func (a *analysis) comparison(e *pg.A_Expr, sc *scope) (done bool, err error) {
	if !a.equality(e) {
		return false, nil
	}
	switch e.Kind {
	case pg.A_Expr_Kind_AEXPR_OP, pg.A_Expr_Kind_AEXPR_DISTINCT, pg.A_Expr_Kind_AEXPR_NOT_DISTINCT:
		l, lok := a.protectedSide(e.Lexpr, sc)
		r, rok := a.protectedSide(e.Rexpr, sc)
		switch {
		case lok && rok:
			return true, a.sameDomain(e, l, r)
		case lok:
			return a.compare(e, l, []*pg.Node{e.Rexpr}, sc)
		case rok:
			return a.compare(e, r, []*pg.Node{e.Lexpr}, sc)
		}
	case pg.A_Expr_Kind_AEXPR_IN:
		if c, ok := a.protectedSide(e.Lexpr, sc); ok {
			return a.compare(e, c, e.Rexpr.GetList().GetItems(), sc)
		}
	case pg.A_Expr_Kind_AEXPR_OP_ANY, pg.A_Expr_Kind_AEXPR_OP_ALL:
		array := arrayOf(e.Rexpr)
		if c, ok := a.protectedSide(e.Lexpr, sc); ok && array != nil {
			return a.compare(e, c, array.Elements, sc)
		}
	}
	return false, nil
}

// arrayOf gives the ARRAY[…] that n is, or is a cast of to text[] or varchar[]; else nil.
func arrayOf(n *pg.Node) *pg.A_ArrayExpr {
	if tc := n.GetTypeCast(); tc != nil && len(tc.TypeName.GetArrayBounds()) == 1 {
		if textType(&pg.TypeName{Names: tc.TypeName.Names, Typmods: tc.TypeName.Typmods, Setof: tc.TypeName.Setof, PctType: tc.TypeName.PctType}) {
			n = tc.Arg
		}
	}
	return n.GetAArrayExpr()
}

// protectedSide tells whether n is a bare reference to a protected column, seen or not.
func (a *analysis) protectedSide(n *pg.Node, sc *scope) (column, bool) {
	ref := n.GetColumnRef()
	if ref == nil || ref.Fields[len(ref.Fields)-1].GetAStar() != nil {
		return column{}, false
	}
	c, whole := sc.lookup(ref)
	return c, whole == nil && c.policy != ""
}

// sameDomain allows two columns of one policy: both are at one key version.
func (a *analysis) sameDomain(e *pg.A_Expr, l, r column) error {
	if l.policy != r.policy && (a.seen(l) || a.seen(r)) {
		return refuseAt(e.Location, refuse("Protect both columns by one policy to join them.",
			"columns %q and %q are protected by different policies (%q, %q), so that equal values have different tokens", l, r, l.policy, r.policy))
	}
	return nil
}

// compare makes tokens of the constants and parameters that c is compared with.
func (a *analysis) compare(e *pg.A_Expr, c column, others []*pg.Node, sc *scope) (done bool, err error) {
	for _, o := range others {
		v, err := a.value(o)
		if err != nil {
			return true, err
		}
		switch {
		case v == nil && !a.seen(c):
			// A role that sees tokens compares tokens with whatever it likes; but there may be calls of ours below.
			if err := a.expr(o, sc, "a comparison"); err != nil {
				return true, err
			}
		case v == nil:
			if other, ok := a.protectedSide(o, sc); ok {
				if err := a.sameDomain(e, c, other); err != nil {
					return true, err
				}
				continue
			}
			return true, a.refuseColumn(e.Location, c, "a comparison with something other than a constant, a parameter or a column of its policy", "")
		case len(v.Steps) == 0 && !a.seen(c):
			if err := a.sought(o, v, c); err != nil {
				return true, err
			}
		default:
			if err := a.intoColumn(o, v, c); err != nil {
				return true, err
			}
		}
	}
	return true, nil
}

// sought handles a constant or parameter that a role which sees c's tokens compares with it: a token is taken as it is. A role that may
// tokenize may also write the value.
func (a *analysis) sought(n *pg.Node, v *Value, c column) error {
	access, ok := a.Access(c.policy)
	if !ok || !access.Tokenize || v.Null {
		if v.Param > 0 {
			a.plain[v.Param] = true
		}
		return nil
	}
	a.touched = true
	v.Steps = []Step{{Op: TokenOrValue, Policy: c.policy}}
	return a.replace(n, v, "", "")
}

// call analyzes a function call outside of the target list.
func (a *analysis) call(f *pg.FuncCall, sc *scope) error {
	if isOurs(f) {
		return a.nestedCall(f)
	}
	name := last(f.Funcname)
	if err := a.unsafe(name, f.Location); err != nil {
		return err
	}
	if name == "count" && a.systems(f) && len(f.Args) == 1 {
		if ref := f.Args[0].GetColumnRef(); ref != nil && ref.Fields[len(ref.Fields)-1].GetAStar() == nil {
			if _, whole := sc.lookup(ref); whole == nil {
				rest := append(append([]*pg.Node{}, f.AggOrder...), f.AggFilter)
				if err := a.exprs(rest, sc, "count"); err != nil {
					return err
				}
				if f.Over != nil {
					return a.children(f.Over.ProtoReflect(), sc, "a window")
				}
				return nil
			}
		}
	}
	return a.children(f.ProtoReflect(), sc, "the function "+strings.Join(path(f.Funcname), "."))
}

// systems tells whether the function is surely PostgreSQL's own: nobody has made another of that name, or its schema is given.
func (a *analysis) systems(f *pg.FuncCall) bool {
	p := path(f.Funcname)
	_, other := a.Schema.routines[p[len(p)-1]]
	return len(p) == 1 && !other || len(p) == 2 && p[0] == "pg_catalog"
}

func (a *analysis) subLink(s *pg.SubLink, sc *scope) error {
	if err := a.expr(s.Testexpr, sc, "a comparison with a subquery"); err != nil {
		return err
	}
	to := hidden
	if s.SubLinkType == pg.SubLinkType_EXISTS_SUBLINK {
		to = exists
	}
	_, err := a.query(s.Subselect, &scope{parent: sc}, to)
	return err
}
