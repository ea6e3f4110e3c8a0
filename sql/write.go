package sql

import (
	"fmt"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// targetTable resolves the target of a statement that writes.
func (a *analysis) targetTable(rv *pg.RangeVar, sc *scope) (*source, *Relation, error) {
	rel := a.relations[Name{rv.Schemaname, rv.Relname}]
	if rel != nil && rel.Reaches {
		return nil, nil, refuseAt(rv.Location, a.refuseRelation(rel, "shows a protected column of another relation and is written to, which is not supported yet"))
	}
	src, err := a.table(rv, &scope{parent: nil}) // a WITH query's name is not a target
	if err != nil {
		return nil, nil, err
	}
	sc.sources = append(sc.sources, src)
	return src, rel, nil
}

func (a *analysis) insert(s *pg.InsertStmt, sc *scope, to destination) (result, error) {
	if err := a.with(s.WithClause, sc); err != nil {
		return result{}, err
	}
	body := &scope{parent: sc}
	_, rel, err := a.targetTable(s.Relation, body)
	if err != nil {
		return result{}, err
	}
	if rel == nil {
		rel = &Relation{Name: s.Relation.Relname}
	}
	columns, err := a.insertColumns(s, rel)
	if err != nil {
		return result{}, err
	}
	if err := a.insertSource(s, rel, columns, sc); err != nil {
		return result{}, err
	}
	if err := a.onConflict(s.OnConflictClause, rel, body); err != nil {
		return result{}, err
	}
	return a.returning(s.ReturningList, body, to)
}

// insertColumns gives the attributes that the values go to, in order.
func (a *analysis) insertColumns(s *pg.InsertStmt, rel *Relation) ([]Attribute, error) {
	if len(s.Cols) == 0 {
		return rel.Columns, nil
	}
	columns := make([]Attribute, 0, len(s.Cols))
	for _, n := range s.Cols {
		t := n.GetResTarget()
		attr, err := rel.attribute(t)
		if err != nil {
			return nil, err
		}
		if attr.Policy != "" && len(t.Indirection) > 0 {
			return nil, a.refuseColumn(t.Location, column{attr: attr.Name, relation: rel}, "an assignment to a part of it", "")
		}
		columns = append(columns, attr)
	}
	return columns, nil
}

// firstProtected is the name of the first protected column.
func (r *Relation) firstProtected() string {
	for _, c := range r.Columns {
		if c.Policy != "" {
			return c.Name
		}
	}
	return ""
}

// attribute finds the column that t assigns to. Of a protected relation it must exist: the server would log the statement.
func (r *Relation) attribute(t *pg.ResTarget) (Attribute, error) {
	for _, c := range r.Columns {
		if c.Name == t.GetName() {
			return c, nil
		}
	}
	if r.protected() {
		return Attribute{}, refuseAt(t.Location, &Refusal{SQLState: undefinedColumn, Message: fmt.Sprintf("column %q of relation %q does not exist", t.GetName(), r.Name)})
	}
	return Attribute{Name: t.GetName()}, nil
}

func (a *analysis) insertSource(s *pg.InsertStmt, rel *Relation, columns []Attribute, sc *scope) error {
	if s.SelectStmt == nil { // DEFAULT VALUES
		return nil
	}
	sel := s.SelectStmt.GetSelectStmt()
	plainValues := len(sel.GetValuesLists()) > 0 && len(sel.SortClause) == 0 && sel.LimitCount == nil && sel.LimitOffset == nil && sel.WithClause == nil
	if !plainValues {
		if rel.protected() {
			return refuseAt(s.Relation.Location, refuse("Use INSERT … VALUES with constants or parameters.", "INSERT … SELECT into %q, whose column %q is protected, is not supported yet", rel.Name, rel.firstProtected()))
		}
		_, err := a.query(s.SelectStmt, &scope{parent: sc}, hidden)
		return err
	}
	for _, row := range sel.ValuesLists {
		items := row.GetList().GetItems()
		if len(items) > len(columns) && rel.protected() {
			return refuseAt(s.Relation.Location, &Refusal{SQLState: syntaxError, Message: "INSERT has more expressions than target columns"})
		}
		for i, item := range items {
			if rel.protected() && expands(item) {
				return refuseAt(s.Relation.Location, refuse("Write each value.", "a row that expands to several values is not supported in VALUES for %q, which has protected columns", rel.Name))
			}
			attr := Attribute{}
			if i < len(columns) {
				attr = columns[i]
			}
			if err := a.assign(item, attr, rel, sc, "VALUES"); err != nil {
				return err
			}
		}
	}
	return nil
}

// expands tells whether n stands for more values than one.
func expands(n *pg.Node) bool {
	parts := n.GetColumnRef().GetFields()
	if n.GetAIndirection() != nil {
		parts = n.GetAIndirection().Indirection
	}
	return len(parts) > 0 && parts[len(parts)-1].GetAStar() != nil
}

// assign analyzes a value that is stored in attr.
func (a *analysis) assign(n *pg.Node, attr Attribute, rel *Relation, sc *scope, where string) error {
	if attr.Policy == "" {
		return a.expr(n, sc, where)
	}
	if n.GetSetToDefault() != nil {
		return nil
	}
	if sc.proposes(n, attr.Policy) {
		return nil
	}
	inner := n
	for tc := inner.GetTypeCast(); tc != nil && textType(tc.TypeName); tc = inner.GetTypeCast() {
		inner = tc.Arg
	}
	if e := inner.GetCaseExpr(); e != nil {
		return a.assignCase(e, attr, rel, sc, where)
	}
	c := column{name: attr.Name, attr: attr.Name, policy: attr.Policy, relation: rel}
	v, err := a.value(n)
	if err != nil {
		return err
	}
	if v == nil {
		return refuse("Compute the value in the application and send it as a constant or a parameter.",
			"column %q is protected, and only a constant, a parameter or tokenize of one can be stored in it yet (in %s)", c, where)
	}
	return a.intoColumn(n, v, c)
}

// assignCase analyzes a CASE each of whose results may be stored in attr.
func (a *analysis) assignCase(e *pg.CaseExpr, attr Attribute, rel *Relation, sc *scope, where string) error {
	if err := a.expr(e.Arg, sc, "CASE"); err != nil {
		return err
	}
	for _, n := range e.Args {
		if err := a.expr(n.GetCaseWhen().GetExpr(), sc, "CASE"); err != nil {
			return err
		}
		if err := a.assign(n.GetCaseWhen().GetResult(), attr, rel, sc, where); err != nil {
			return err
		}
	}
	if e.Defresult == nil {
		return nil
	}
	return a.assign(e.Defresult, attr, rel, sc, where)
}

func (a *analysis) onConflict(oc *pg.OnConflictClause, rel *Relation, body *scope) error {
	if oc == nil {
		return nil
	}
	if oc.Infer != nil {
		if err := a.children(oc.Infer.ProtoReflect(), body, "ON CONFLICT"); err != nil {
			return err
		}
	}
	excluded := &source{alias: "excluded", rel: rel, proposed: true}
	for _, c := range rel.Columns {
		excluded.columns = append(excluded.columns, column{name: c.Name, attr: c.Name, policy: c.Policy, relation: rel})
	}
	sc := &scope{parent: body.parent, sources: append(append([]*source{}, body.sources...), excluded)}
	if err := a.set(oc.TargetList, rel, sc); err != nil {
		return err
	}
	return a.expr(oc.WhereClause, sc, "ON CONFLICT … WHERE")
}

// set analyzes the assignments of UPDATE and of ON CONFLICT DO UPDATE.
func (a *analysis) set(list []*pg.Node, rel *Relation, sc *scope) error {
	for _, n := range list {
		t := n.GetResTarget()
		attr, err := rel.attribute(t)
		if err != nil {
			return err
		}
		c := column{name: attr.Name, attr: attr.Name, relation: rel}
		if attr.Policy != "" && len(t.Indirection) > 0 {
			return a.refuseColumn(t.Location, c, "an assignment to a part of it", "")
		}
		if m := t.Val.GetMultiAssignRef(); m != nil {
			if attr.Policy != "" {
				return a.refuseColumn(t.Location, c, "SET (…) = (…)", "Assign the columns one by one.")
			}
			if err := a.expr(m.Source, sc, "SET"); err != nil {
				return err
			}
			continue
		}
		if err := a.assign(t.Val, attr, rel, sc, "SET"); err != nil {
			return err
		}
	}
	return nil
}

func (a *analysis) update(s *pg.UpdateStmt, sc *scope, to destination) (result, error) {
	if err := a.with(s.WithClause, sc); err != nil {
		return result{}, err
	}
	body := &scope{parent: sc}
	_, rel, err := a.targetTable(s.Relation, body)
	if err != nil {
		return result{}, err
	}
	if rel == nil {
		rel = &Relation{Name: s.Relation.Relname}
	}
	if err := a.from(s.FromClause, body); err != nil {
		return result{}, err
	}
	if err := a.set(s.TargetList, rel, body); err != nil {
		return result{}, err
	}
	if err := a.expr(s.WhereClause, body, "WHERE"); err != nil {
		return result{}, err
	}
	return a.returning(s.ReturningList, body, to)
}

func (a *analysis) delete(s *pg.DeleteStmt, sc *scope, to destination) (result, error) {
	if err := a.with(s.WithClause, sc); err != nil {
		return result{}, err
	}
	body := &scope{parent: sc}
	if _, _, err := a.targetTable(s.Relation, body); err != nil {
		return result{}, err
	}
	if err := a.from(s.UsingClause, body); err != nil {
		return result{}, err
	}
	if err := a.expr(s.WhereClause, body, "WHERE"); err != nil {
		return result{}, err
	}
	return a.returning(s.ReturningList, body, to)
}

func (a *analysis) returning(list []*pg.Node, sc *scope, to destination) (result, error) {
	out, err := a.targets(list, sc, to)
	if err != nil {
		return out, err
	}
	return out, a.deliver(out, to)
}
