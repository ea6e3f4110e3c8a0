package sql

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// column is a column of a FROM item or of a result. policy is "" when it is not protected.
type column struct {
	name     string // as the query calls it here
	attr     string // as its relation calls it; "" when it is no table's
	policy   string
	relation *Relation
	marked   bool // a detokenize call: transformed by name, not by origin
}

func (c column) String() string {
	if c.relation != nil {
		return c.relation.Name + "." + c.attr
	}
	return c.name
}

// stored tells whether the column is a protected one as its relation holds it.
func (c column) stored() bool { return c.policy != "" && !c.marked }

// source is one FROM item.
type source struct {
	alias   string
	rel     *Relation // nil: not a table
	columns []column
	open    bool // further columns are not known: a function, a missing table
	later   bool // a WITH RECURSIVE query that is defined further on

	proposed bool // excluded of ON CONFLICT: the row of the INSERT, whose protected columns hold tokens by then
}

func (s *source) protected() (column, bool) {
	for _, c := range s.columns {
		if c.policy != "" {
			return c, true
		}
	}
	return column{}, false
}

// scope is what names mean at one query level.
type scope struct {
	parent  *scope
	sources []*source
	ctes    map[string]*source
}

func (sc *scope) child() *scope { return &scope{parent: sc} }

func (sc *scope) cte(name string) *source {
	for ; sc != nil; sc = sc.parent {
		if c, ok := sc.ctes[name]; ok {
			return c
		}
	}
	return nil
}

// systemColumns are attributes every table has (the manual's "System Columns").
var systemColumns = map[string]bool{"tableoid": true, "xmin": true, "cmin": true, "xmax": true, "cmax": true, "ctid": true}

// lookup says what a column reference stands for. Where it is in doubt it prefers a protected column. whole is the
// source whose entire row the reference is.
func (sc *scope) lookup(ref *pg.ColumnRef) (c column, whole *source) {
	names := path(ref.Fields)
	if ref.Fields[len(ref.Fields)-1].GetAStar() != nil {
		return column{}, sc.named(names[:len(names)-1])
	}
	if len(names) == 1 {
		return sc.unqualified(names[0])
	}
	name := names[len(names)-1]
	src := sc.named(names[:len(names)-1])
	if src == nil { // no such table here: an error of the server's, unless a whole row's field is meant
		return sc.anywhere(name), nil
	}
	for _, c := range src.columns {
		if c.name == name {
			return c, nil
		}
	}
	if systemColumns[name] {
		return column{}, nil
	}
	if _, ok := src.protected(); !ok && src.open {
		return column{}, nil
	}
	return column{}, src // t.f may be the function f applied to the row
}

func (sc *scope) unqualified(name string) (column, *source) {
	// A column at any level comes before a whole row at any level.
	for s := sc; s != nil; s = s.parent {
		var hit *column
		open := false
		for _, src := range s.sources {
			open = open || src.open
			for i := range src.columns {
				if c := &src.columns[i]; c.name == name && (hit == nil || c.policy != "") {
					hit = c
				}
			}
		}
		if hit != nil {
			return *hit, nil
		}
		if open {
			// It may be the open source's, or an outer query's: take a protected one of those.
			if c := s.parent.anywhere(name); c.policy != "" {
				return c, nil
			}
		}
	}
	for s := sc; s != nil; s = s.parent {
		if src := s.alias(name); src != nil {
			return column{}, src
		}
	}
	return column{}, nil
}

// anywhere finds a protected column of that name at this level or an outer one.
func (sc *scope) anywhere(name string) column {
	for ; sc != nil; sc = sc.parent {
		for _, src := range sc.sources {
			for _, c := range src.columns {
				if c.name == name && c.policy != "" {
					return c
				}
			}
		}
	}
	return column{}
}

// proposes tells whether n is excluded.column of the policy: what the INSERT has made a token of.
func (sc *scope) proposes(n *pg.Node, policy string) bool {
	names := path(n.GetColumnRef().GetFields())
	if len(names) != 2 {
		return false
	}
	src := sc.alias(names[0])
	return src != nil && src.proposed && slices.ContainsFunc(src.columns, func(c column) bool { return c.name == names[1] && c.policy == policy })
}

func (sc *scope) alias(name string) *source {
	for _, src := range sc.sources {
		if src.alias == name {
			return src
		}
	}
	return nil
}

// named finds the source that qualifier stands for: an alias, or schema.table, or database.schema.table.
func (sc *scope) named(qualifier []string) *source {
	if len(qualifier) == 0 {
		return nil
	}
	table := qualifier[len(qualifier)-1]
	for s := sc; s != nil; s = s.parent {
		for _, src := range s.sources {
			if src.alias != table {
				continue
			}
			if len(qualifier) > 1 && (src.rel == nil || src.rel.Schema != qualifier[len(qualifier)-2]) {
				continue
			}
			return src
		}
	}
	return nil
}

// from adds the items of a FROM or USING clause to sc, left to right, and analyzes what stands in them.
func (a *analysis) from(items []*pg.Node, sc *scope) error {
	for _, item := range items {
		if err := a.item(item, sc); err != nil {
			return err
		}
	}
	return nil
}

func (a *analysis) item(n *pg.Node, sc *scope) error {
	switch f := n.Node.(type) {
	case *pg.Node_RangeVar:
		src, err := a.table(f.RangeVar, sc)
		if err != nil {
			return err
		}
		sc.sources = append(sc.sources, src)
		return nil
	case *pg.Node_RangeSubselect:
		outer := sc.parent
		if f.RangeSubselect.Lateral {
			outer = sc
		}
		inner := &scope{parent: outer}
		if !f.RangeSubselect.Lateral {
			inner.ctes = clone(sc.ctes) // WITH queries of this level are seen, its other FROM items are not
		}
		out, err := a.query(f.RangeSubselect.Subquery, inner, derived)
		if err != nil {
			return err
		}
		src, err := a.renamed(out.source(""), f.RangeSubselect.Alias)
		if err != nil {
			return err
		}
		sc.sources = append(sc.sources, src)
		return nil
	case *pg.Node_JoinExpr:
		return a.join(f.JoinExpr, sc)
	case *pg.Node_RangeTableSample:
		if err := a.item(f.RangeTableSample.Relation, sc); err != nil {
			return err
		}
		return a.exprs(append(f.RangeTableSample.Args, f.RangeTableSample.Repeatable), sc, "TABLESAMPLE")
	case *pg.Node_RangeFunction:
		if err := a.children(n.ProtoReflect(), sc, "a function in FROM"); err != nil {
			return err
		}
		src := &source{open: true}
		for _, fn := range f.RangeFunction.Functions {
			if items := fn.GetList().GetItems(); len(items) > 0 {
				src.alias = last(items[0].GetFuncCall().GetFuncname())
			}
		}
		sc.sources = append(sc.sources, src.aliased(f.RangeFunction.Alias))
		return nil
	}
	if err := a.children(n.ProtoReflect(), sc, "FROM"); err != nil {
		return err
	}
	sc.sources = append(sc.sources, &source{open: true})
	return nil
}

// table gives the source of a named table, view or WITH query, and qualifies its name in the text where that pins the meaning.
func (a *analysis) table(rv *pg.RangeVar, sc *scope) (*source, error) {
	if rv.Schemaname == "" {
		if cte := sc.cte(rv.Relname); cte != nil {
			if cte.later && a.Views {
				return nil, refuseAt(rv.Location, refuse("Put the WITH queries in the order of their use.", "WITH query %q is used before it is defined, which is not supported where something protected is named", rv.Relname))
			}
			src := *cte
			src.alias = rv.Relname
			return a.renamed(&src, rv.Alias)
		}
	}
	rel := a.relations[Name{rv.Schemaname, rv.Relname}]
	a.touched = a.touched || a.Schema.Names(rv.Relname)
	if rel == nil {
		src := &source{alias: rv.Relname, open: true}
		return src.aliased(rv.Alias), nil
	}
	if a.Views && rel.Schema == "pg_catalog" && slices.Contains(statistics, rel.Name) {
		return nil, refuseAt(rv.Location, refuse("Ask a role that sees tokens only.", "relation %q shows tokens of protected columns", rel.Name))
	}
	if rel.Reaches && a.Views {
		return nil, refuseAt(rv.Location, refuse("Select from the protected table itself.", "relation %q shows a protected column of another relation, which is not supported yet", rel.Name))
	}
	src := &source{alias: rv.Relname, rel: rel}
	for i := range rel.Columns {
		src.columns = append(src.columns, column{name: rel.Columns[i].Name, attr: rel.Columns[i].Name, policy: rel.Columns[i].Policy, relation: rel})
	}
	if rel.protected() || a.Schema.Names(rel.Name) {
		a.touched = true
		a.qualify(rv, rel)
	}
	return src.aliased(rv.Alias), nil
}

// qualify pins an unqualified name to the relation it stands for now: a prepared statement is analyzed again by the server
// when search_path changes.
func (a *analysis) qualify(rv *pg.RangeVar, rel *Relation) {
	if rv.Schemaname != "" || rv.Location < 0 {
		return
	}
	for _, e := range a.plan.Edits {
		if e.Start == int(rv.Location) {
			return
		}
	}
	schema := rel.Schema
	if rel.Temporary {
		schema = "pg_temp"
	}
	a.plan.Edits = append(a.plan.Edits, Edit{Start: int(rv.Location), End: int(rv.Location), Before: quoteIdentifier(schema) + "."})
}

// renamed applies AS alias (names…) to a result. Where the positions of its columns are not sure, names must not be given to them.
func (a *analysis) renamed(s *source, al *pg.Alias) (*source, error) {
	if s.open && len(al.GetColnames()) > 0 {
		for _, c := range s.columns {
			if a.seen(c) {
				return nil, refuse("Name the columns in the inner query.", "column %q is protected and column aliases over it are not supported here: its position is not sure", c)
			}
		}
	}
	return s.aliased(al), nil
}

// aliased applies AS alias (names…).
func (s *source) aliased(al *pg.Alias) *source {
	if al == nil {
		return s
	}
	out := &source{alias: al.Aliasname, open: s.open, columns: append([]column(nil), s.columns...)}
	for i, n := range al.Colnames {
		if i < len(out.columns) {
			out.columns[i].name = n.GetString_().GetSval()
		} else if out.open {
			out.columns = append(out.columns, column{name: n.GetString_().GetSval()})
		}
	}
	return out
}

func (a *analysis) join(j *pg.JoinExpr, sc *scope) error {
	before := len(sc.sources)
	if err := a.item(j.Larg, sc); err != nil {
		return err
	}
	middle := len(sc.sources)
	if err := a.item(j.Rarg, sc); err != nil {
		return err
	}
	left, right := sc.sources[before:middle], sc.sources[middle:]
	for _, n := range j.UsingClause {
		name := n.GetString_().GetSval()
		for _, src := range sc.sources[before:] {
			for _, c := range src.columns {
				if c.name == name && a.seen(c) {
					return refuse("Write JOIN … ON a."+name+" = b."+name+".", "column %q is protected and JOIN … USING on it is not supported yet", c)
				}
			}
		}
	}
	if j.IsNatural {
		for _, l := range left {
			for _, r := range right {
				if c, ok := common(l, r); ok && a.seen(c) {
					return refuse("Write JOIN … ON.", "column %q is protected and NATURAL JOIN on it is not supported yet", c)
				}
			}
		}
	}
	if j.Alias != nil {
		for _, src := range sc.sources[before:] {
			for _, c := range src.columns {
				if a.seen(c) {
					return refuse("Give each table an alias of its own.", "column %q is protected and an alias of a whole join over it is not supported yet", c)
				}
			}
		}
		sc.sources = append(sc.sources[:before], &source{alias: j.Alias.Aliasname, open: true})
		return nil
	}
	if j.JoinUsingAlias != nil {
		sc.sources = append(sc.sources, &source{alias: j.JoinUsingAlias.Aliasname, open: true})
	}
	return a.expr(j.Quals, sc, "JOIN … ON")
}

func common(l, r *source) (column, bool) {
	for _, a := range l.columns {
		if a.policy != "" && r.open {
			return a, true
		}
		for _, b := range r.columns {
			if a.name == b.name && a.policy != "" {
				return a, true
			}
			if a.name == b.name && b.policy != "" {
				return b, true
			}
		}
	}
	if l.open {
		return r.protected()
	}
	return column{}, false
}

// seen tells whether the role sees values or masks of the column, so that a shape we do not know must be refused. A role that sees
// the token sees what is stored, and every shape over it is right as it stands.
func (a *analysis) seen(c column) bool {
	if c.policy == "" {
		return false
	}
	access, ok := a.Access(c.policy)
	return !ok || access.View != Token
}

func (a *analysis) refuseColumn(at int32, c column, where, hint string) error {
	if hint == "" {
		hint = "Select the column as it stands, or compare it by = or IN with constants or parameters."
	}
	return refuseAt(at, refuse(hint, "column %q is protected and is used in %s, which is not supported yet", c, strings.TrimSpace(where)))
}
