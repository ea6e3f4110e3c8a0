package sql

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// destination is where the rows of a query go.
type destination int

const (
	client  destination = iota // to the client, with their origin
	derived                    // into a FROM item or WITH query, where the origin survives
	hidden                     // into anything else: the origin is lost
	exists                     // nowhere: EXISTS looks at no column
)

// result is a query's columns.
type result struct {
	columns []column
	open    bool // how many there are is not known
}

func (r result) source(alias string) *source {
	return &source{alias: alias, columns: r.columns, open: r.open}
}

// query analyzes a statement that can stand as a subquery or WITH query.
func (a *analysis) query(n *pg.Node, sc *scope, to destination) (result, error) {
	switch s := n.Node.(type) {
	case *pg.Node_SelectStmt:
		return a.selects(s.SelectStmt, sc, to)
	case *pg.Node_InsertStmt:
		return a.insert(s.InsertStmt, sc, to)
	case *pg.Node_UpdateStmt:
		return a.update(s.UpdateStmt, sc, to)
	case *pg.Node_DeleteStmt:
		return a.delete(s.DeleteStmt, sc, to)
	}
	return result{open: true}, a.utility(n)
}

// selects analyzes one SELECT, VALUES or set operation in sc, which is its own scope.
func (a *analysis) selects(s *pg.SelectStmt, sc *scope, to destination) (result, error) {
	if err := a.with(s.WithClause, sc); err != nil {
		return result{}, err
	}
	var out result
	var err error
	switch {
	case s.Op != pg.SetOperation_SETOP_NONE && s.Op != pg.SetOperation_SET_OPERATION_UNDEFINED:
		out, err = a.setOperation(s, sc)
	case len(s.ValuesLists) > 0:
		out, err = a.values(s, sc)
	default:
		out, err = a.simpleSelect(s, sc, to)
	}
	if err != nil {
		return result{}, err
	}
	if s.IntoClause != nil {
		for _, c := range out.columns {
			if c.policy != "" {
				return result{}, refuse("Create the table first and protect its columns.", "SELECT INTO of protected column %q is not supported yet", c)
			}
		}
		if err := a.namesProtected(sc); err != nil {
			return result{}, err
		}
	}
	if err := a.ordering(s, sc, out); err != nil {
		return result{}, err
	}
	if err := a.exprs([]*pg.Node{s.LimitOffset, s.LimitCount}, sc, "LIMIT"); err != nil {
		return result{}, err
	}
	return out, a.deliver(out, to)
}

// namesProtected refuses where a relation of sc is protected.
func (a *analysis) namesProtected(sc *scope) error {
	for _, src := range sc.sources {
		if c, ok := src.protected(); ok {
			return refuse("Create the table first and protect its columns.", "a new table from %q, whose column %q is protected, is not supported yet", src.alias, c)
		}
	}
	return nil
}

// deliver checks that protected columns may go where the rows go, and notes what the client will see.
func (a *analysis) deliver(out result, to destination) error {
	for _, c := range out.columns {
		if !a.seen(c) || c.marked {
			continue
		}
		switch to {
		case hidden:
			return refuse("Join the relation instead of using a subquery's value.", "column %q is protected and is the result of a subquery, which is not supported yet", c)
		case client:
			access, ok := a.Access(c.policy)
			if !ok {
				return refuse("Ask an administrator to check the policy with `pgveil doctor`.", "the policy %q of column %q cannot be used", c.policy, c)
			}
			a.plan.Reads = append(a.plan.Reads, Read{c.relation.Schema, c.relation.Name, c.attr, c.policy, access.View})
		}
	}
	return nil
}

func (a *analysis) setOperation(s *pg.SelectStmt, sc *scope) (result, error) {
	left, err := a.selects(s.Larg, &scope{parent: sc}, derived)
	if err != nil {
		return result{}, err
	}
	right, err := a.selects(s.Rarg, &scope{parent: sc}, derived)
	if err != nil {
		return result{}, err
	}
	for _, arm := range []result{left, right} {
		for _, c := range arm.columns {
			if a.seen(c) {
				return result{}, refuse("Run the queries one by one, or select the column in a query around them.",
					"column %q is protected and is used in UNION, INTERSECT or EXCEPT, which is not supported yet", c)
			}
		}
	}
	return result{columns: left.columns, open: left.open}, nil
}

func (a *analysis) values(s *pg.SelectStmt, sc *scope) (result, error) {
	for _, row := range s.ValuesLists {
		if err := a.exprs(row.GetList().GetItems(), sc, "VALUES"); err != nil {
			return result{}, err
		}
	}
	return result{open: true}, nil
}

func (a *analysis) simpleSelect(s *pg.SelectStmt, sc *scope, to destination) (result, error) {
	if err := a.from(s.FromClause, sc); err != nil {
		return result{}, err
	}
	out, err := a.targets(s.TargetList, sc, to)
	if err != nil {
		return result{}, err
	}
	for _, part := range []struct {
		nodes []*pg.Node
		where string
	}{{[]*pg.Node{s.WhereClause}, "WHERE"}, {[]*pg.Node{s.HavingClause}, "HAVING"}, {s.WindowClause, "WINDOW"}} {
		if err := a.exprs(part.nodes, sc, part.where); err != nil {
			return result{}, err
		}
	}
	return out, a.grouping(s, sc, out)
}

// grouping checks GROUP BY and DISTINCT ON. A name in GROUP BY is an input column first and an output column second.
func (a *analysis) grouping(s *pg.SelectStmt, sc *scope, out result) error {
	for _, g := range s.GroupClause {
		if a.groups(g, sc, out) {
			continue
		}
		if err := a.byPosition(g, out, "GROUP BY"); err != nil {
			return err
		}
		if err := a.byName(g, out, "GROUP BY"); err != nil {
			return err
		}
		if err := a.expr(g, sc, "GROUP BY"); err != nil {
			return err
		}
	}
	for _, d := range s.DistinctClause {
		if d == nil || d.Node == nil { // plain DISTINCT
			continue
		}
		if err := a.byPosition(d, out, "DISTINCT ON"); err != nil {
			return err
		}
		if err := a.byName(d, out, "DISTINCT ON"); err != nil {
			return err
		}
		if err := a.expr(d, sc, "DISTINCT ON"); err != nil {
			return err
		}
	}
	return nil
}

// groups tells whether g is a protected column alone, by its name, a result column's name or its position: equal values have equal tokens, so
// that the groups are the same.
func (a *analysis) groups(g *pg.Node, sc *scope, out result) bool {
	if _, ok := a.protectedSide(g, sc); ok {
		return true
	}
	if i := int(g.GetAConst().GetIval().GetIval()); i > 0 && i <= len(out.columns) && !out.open {
		return out.columns[i-1].stored()
	}
	name := path(g.GetColumnRef().GetFields())
	return len(name) == 1 && slices.ContainsFunc(out.columns, func(c column) bool { return c.name == name[0] && c.stored() })
}

// ordering checks ORDER BY, where a bare name is an output column first.
func (a *analysis) ordering(s *pg.SelectStmt, sc *scope, out result) error {
	for _, item := range s.SortClause {
		by := item.GetSortBy().GetNode()
		if err := a.byPosition(by, out, "ORDER BY"); err != nil {
			return err
		}
		if err := a.byName(by, out, "ORDER BY"); err != nil {
			return err
		}
		if err := a.expr(by, sc, "ORDER BY"); err != nil {
			return err
		}
	}
	return nil
}

const orderHint = "Sort in the application: the order of tokens is not the order of values."

// byPosition checks `ORDER BY 2`.
func (a *analysis) byPosition(n *pg.Node, out result, where string) error {
	c := n.GetAConst()
	if c == nil || c.GetIval() == nil {
		return nil
	}
	i := int(c.GetIval().Ival) - 1
	if !out.open && i >= 0 && i < len(out.columns) {
		if a.seen(out.columns[i]) {
			return a.refuseColumn(c.Location, out.columns[i], where, orderHint)
		}
		return nil
	}
	for _, col := range out.columns { // the position cannot be told for sure
		if a.seen(col) {
			return a.refuseColumn(c.Location, col, where+" by position", "Write the column's name instead of its position.")
		}
	}
	return nil
}

// byName checks a bare name that is a result column's.
func (a *analysis) byName(n *pg.Node, out result, where string) error {
	ref := n.GetColumnRef()
	if ref == nil || len(ref.Fields) != 1 {
		return nil
	}
	name := ref.Fields[0].GetString_().GetSval()
	for i, c := range out.columns {
		if c.name == name && a.seen(out.columns[i]) {
			return a.refuseColumn(ref.Location, c, where, orderHint)
		}
	}
	return nil
}

// with analyzes WITH queries and adds their names to sc.
func (a *analysis) with(w *pg.WithClause, sc *scope) error {
	if w == nil {
		return nil
	}
	if sc.ctes == nil {
		sc.ctes = map[string]*source{}
	}
	if w.Recursive { // all names are known in all of them
		for _, n := range w.Ctes {
			sc.ctes[n.GetCommonTableExpr().GetCtename()] = &source{open: true, later: true}
		}
	}
	for _, n := range w.Ctes {
		cte := n.GetCommonTableExpr()
		inner := &scope{parent: sc.parent, ctes: clone(sc.ctes)}
		if w.Recursive {
			// Its own rows come through the set operation, in which a protected column is refused.
			inner.ctes[cte.Ctename] = &source{open: true}
		}
		out, err := a.query(cte.Ctequery, inner, derived)
		if err != nil {
			return err
		}
		src, err := a.renamed(out.source(cte.Ctename), &pg.Alias{Aliasname: cte.Ctename, Colnames: cte.Aliascolnames})
		if err != nil {
			return err
		}
		if cte.SearchClause != nil || cte.CycleClause != nil {
			src.open = true
		}
		sc.ctes[cte.Ctename] = src
	}
	return nil
}

func clone(m map[string]*source) map[string]*source {
	out := make(map[string]*source, len(m)+1)
	for k, v := range m {
		out[k] = v
	}
	return out
}

// targets analyzes a target list or RETURNING list.
func (a *analysis) targets(list []*pg.Node, sc *scope, to destination) (result, error) {
	var out result
	for _, n := range list {
		t := n.GetResTarget()
		if t == nil {
			return out, refuse("Name the columns.", "an item of the target list could not be read")
		}
		if err := a.target(t, sc, to, &out); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (a *analysis) target(t *pg.ResTarget, sc *scope, to destination, out *result) error {
	if ref := t.Val.GetColumnRef(); ref != nil {
		if ref.Fields[len(ref.Fields)-1].GetAStar() != nil {
			return a.star(ref, sc, out)
		}
		c, whole := sc.lookup(ref)
		if err := a.notation(ref, c); err != nil {
			return err
		}
		if whole != nil {
			if err := a.wholeRow(ref, whole, "the target list"); err != nil {
				return err
			}
		}
		if t.Name != "" {
			c.name = t.Name
		} else if c.name == "" {
			c.name = last(ref.Fields)
		}
		out.columns = append(out.columns, c)
		return nil
	}
	if f := t.Val.GetFuncCall(); f != nil && isOurs(f) {
		c, err := a.targetCall(t, f, sc, to)
		out.columns = append(out.columns, c)
		return err
	}
	out.columns = append(out.columns, column{name: t.Name})
	out.open = out.open || expands(t.Val)
	return a.expr(t.Val, sc, "the target list")
}

func (a *analysis) star(ref *pg.ColumnRef, sc *scope, out *result) error {
	if len(ref.Fields) == 1 {
		for _, src := range sc.sources {
			out.columns = append(out.columns, src.columns...)
			out.open = out.open || src.open
		}
		if len(sc.sources) > 1 {
			out.open = true // USING merges columns: positions are not sure
		}
		return nil
	}
	_, src := sc.lookup(ref)
	if src == nil {
		out.open = true
		return nil
	}
	out.columns = append(out.columns, src.columns...)
	out.open = out.open || src.open
	return nil
}

func (a *analysis) wholeRow(ref *pg.ColumnRef, src *source, where string) error {
	for _, c := range src.columns {
		if a.seen(c) {
			return a.refuseColumn(ref.Location, c, "a whole row in "+where, "Name the columns.")
		}
	}
	return nil
}
