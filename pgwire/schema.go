package pgwire

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"pgveil/catalog"
	"pgveil/sql"
)

// origin is where a result column comes from, as RowDescription names it.
type origin struct {
	table  uint32
	attnum int16
}

// view is a database as the front-end knows it at one moment. It is immutable.
type view struct {
	snap    *catalog.Snapshot
	schema  *sql.Schema
	origins map[origin]*catalog.Column
	names   map[string]*catalog.Column // "schema"."table"."column"
	tables  map[string]struct{}        // "schema"."table" of protected relations, those that show them, and those joined to either by a foreign key
	columns string                     // what is protected, in one text, to compare
	reaches map[uint32]struct{}        // views and children of protected relations
	lapsed  bool                       // too old to decide by: nothing protected may be shown
}

func tableKey(schema, table string) string { return strconv.Quote(schema) + strconv.Quote(table) }
func columnKey(schema, table, column string) string {
	return tableKey(schema, table) + strconv.Quote(column)
}

// protected finds the protected column by what the server calls it, or by its name.
func (v *view) protected(oid uint32, attnum int16, schema, table, column string) *catalog.Column {
	if c := v.origins[origin{oid, attnum}]; c != nil {
		return c
	}
	return v.names[columnKey(schema, table, column)]
}

// querier runs one query with text parameters and gives its rows in text form, nil for NULL.
type querier func(ctx context.Context, query string, params ...string) ([][][]byte, error)

// maxAge is how long the shape of a database may go unchecked; longer where a check takes long. Changes through this front-end are seen at
// once. Those made elsewhere are seen by every new connection, and by every statement with a word in it that no statement had before; else
// after this time.
const (
	maxAge       = 100 * time.Millisecond
	checkTimeout = 5 * time.Second // someone may hold a lock on the system catalogs
	dutyCycle    = 10              // checks take at most a tenth of the time
)

// database caches the view of one database for all sessions. One of them checks it, the others wait for that.
type database struct {
	name    string
	service func(context.Context, string) (*pgx.Conn, error)
	words   vocabulary
	past    totals                   // of sessions that have ended; under the server's mutex
	seen    atomic.Pointer[sighting] // the newest
	turn    chan struct{}            // holds one token; who has it may use what follows

	conn        *pgx.Conn
	fingerprint string
	closed      bool
	failed      time.Time // when the last one failed
	failure     error
}

// sighting is a view and when it was checked.
type sighting struct {
	view    *view
	checked time.Time // when the check began
	early   time.Time // when someone may begin the next, while others go on with this one
	next    time.Time // when it must not be used any more
	renewed atomic.Bool
}

// last is the newest view, or nil.
func (d *database) last() *view {
	if g := d.seen.Load(); g != nil {
		return g.view
	}
	return nil
}

// peek gives the view that look would, if that can be done without waiting; else nil.
func (d *database) peek(snap *catalog.Snapshot, since time.Time) *view {
	g := d.seen.Load()
	if g == nil || g.view.snap.Epoch() != snap.Epoch() {
		return nil
	}
	if len(snap.Columns(d.name)) == 0 {
		return g.view
	}
	now := time.Now()
	if g.checked.Before(since) || !now.Before(g.next) {
		return nil
	}
	if now.After(g.early) && !g.renewed.Swap(true) {
		go d.look(context.Background(), snap, now) // bounded by checkTimeout; close waits for it
	}
	return g.view
}

func (s *Server) database(name string) *database {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.databases[name]
	if d == nil {
		d = &database{name: name, service: s.cfg.Service, turn: make(chan struct{}, 1)}
		d.turn <- struct{}{}
		s.databases[name] = d
	}
	return d
}

func (d *database) close() {
	<-d.turn
	defer func() { d.turn <- struct{}{} }()
	d.closed = true
	d.hangUp()
}

func (d *database) hangUp() {
	if d.conn != nil {
		ctx, stop := context.WithTimeout(context.Background(), time.Second)
		defer stop()
		d.conn.Close(ctx)
		d.conn = nil
	}
}

// look gives a view that fits snap, is of a check begun after since, and is not older than maxAge.
func (d *database) look(ctx context.Context, snap *catalog.Snapshot, since time.Time) (*view, error) {
	if v := d.peek(snap, since); v != nil {
		return v, nil
	}
	asked := time.Now()
	select {
	case <-d.turn:
		defer func() { d.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, errGone
	}
	if d.closed {
		return nil, errGone
	}
	if v := d.peek(snap, since); v != nil {
		return v, nil
	}
	same := d.last() != nil && d.last().snap.Epoch() == snap.Epoch()
	if len(snap.Columns(d.name)) == 0 {
		v := newView(snap, d.name, nil, nil, nil, nil)
		d.seen.Store(&sighting{view: v})
		return v, nil
	}
	if d.failed.After(asked) { // another session has just tried, while this one waited
		return nil, d.failure
	}
	ctx, stop := context.WithTimeout(ctx, checkTimeout)
	defer stop()
	v, err := d.check(ctx, snap, same)
	if err != nil && d.conn != nil && ctx.Err() == nil {
		d.hangUp() // it may be broken
		v, err = d.check(ctx, snap, same)
	}
	if err != nil {
		d.hangUp()
		d.failed, d.failure = time.Now(), fmt.Errorf("read the system catalogs of database %q: %w", d.name, err)
		return nil, d.failure
	}
	return v, nil
}

func (d *database) check(ctx context.Context, snap *catalog.Snapshot, same bool) (*view, error) {
	if d.conn == nil {
		conn, err := d.service(ctx, d.name)
		if err != nil {
			return nil, err
		}
		d.conn = conn
	}
	began := time.Now()
	fp, err := fingerprint(ctx, d.query, snap.Columns(d.name))
	if err != nil {
		return nil, err
	}
	v := d.last()
	if !same || fp != d.fingerprint {
		if v, err = load(ctx, d.query, snap, d.name); err != nil {
			return nil, err
		}
		d.fingerprint = fp
	}
	age := max(maxAge, dutyCycle*time.Since(began))
	d.seen.Store(&sighting{view: v, checked: began, early: began.Add(age / 2), next: began.Add(age)})
	return v, nil
}

// lastKnown gives the newest view there is, marked as one that nothing may be shown by; nil where there is none.
func (d *database) lastKnown() *view {
	v := d.last()
	if v == nil {
		return nil
	}
	lapsed := *v
	lapsed.lapsed = true
	return &lapsed
}

func (d *database) query(ctx context.Context, query string, params ...string) ([][][]byte, error) {
	values := make([][]byte, len(params))
	for i, p := range params {
		values[i] = []byte(p)
	}
	r := d.conn.PgConn().ExecParams(ctx, query, values, nil, nil, nil).Read()
	return r.Rows, r.Err
}

// firstUserOID is FirstNormalObjectId: objects below it come with PostgreSQL.
const firstUserOID = "16384::pg_catalog.oid"

// fingerprint changes whenever a function, a view, an inheritance, a relation's name, or a column of a protected relation does.
func fingerprint(ctx context.Context, query querier, columns []*catalog.Column) (string, error) {
	rows, err := query(ctx, `
SELECT pg_catalog.concat_ws(' ', pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtext(x.what)::pg_catalog.int8))
FROM (SELECT 'p' || p.oid::pg_catalog.text || ' ' || p.xmin::pg_catalog.text AS what FROM pg_catalog.pg_proc p WHERE p.oid >= `+firstUserOID+`
UNION ALL SELECT 'r' || r.oid::pg_catalog.text || ' ' || r.xmin::pg_catalog.text FROM pg_catalog.pg_rewrite r WHERE r.oid >= `+firstUserOID+`
UNION ALL SELECT 'i' || i.inhrelid::pg_catalog.text || ' ' || i.inhparent::pg_catalog.text FROM pg_catalog.pg_inherits i
UNION ALL SELECT 'o' || o.oid::pg_catalog.text || ' ' || o.xmin::pg_catalog.text FROM pg_catalog.pg_operator o WHERE o.oid >= `+firstUserOID+`
UNION ALL SELECT 't' || t.oid::pg_catalog.text || ' ' || t.xmin::pg_catalog.text FROM pg_catalog.pg_cast t WHERE t.oid >= `+firstUserOID+`
UNION ALL SELECT 'd' || f.oid::pg_catalog.text || ' ' || f.xmin::pg_catalog.text FROM pg_catalog.pg_attrdef f
UNION ALL SELECT 'k' || k.oid::pg_catalog.text || ' ' || k.xmin::pg_catalog.text FROM pg_catalog.pg_constraint k WHERE k.contypid <> 0
	OR k.contype = 'f' AND (k.conrelid = ANY ($1::pg_catalog.oid[]) OR k.confrelid = ANY ($1::pg_catalog.oid[]))
UNION ALL SELECT 'y' || y.oid::pg_catalog.text || ' ' || y.xmin::pg_catalog.text FROM pg_catalog.pg_type y WHERE y.typtype = 'd' AND y.oid >= `+firstUserOID+`
UNION ALL SELECT 'a' || a.attrelid::pg_catalog.text || ' ' || a.attnum::pg_catalog.text || ' ' || a.xmin::pg_catalog.text FROM pg_catalog.pg_attribute a
	WHERE a.attrelid = ANY ($1::pg_catalog.oid[]) AND a.attnum > 0
UNION ALL SELECT 'c' || c.oid::pg_catalog.text || ' ' || c.relname::pg_catalog.text || ' ' || c.relnamespace::pg_catalog.text FROM pg_catalog.pg_class c
	WHERE c.oid >= `+firstUserOID+` AND c.relkind IN ('r', 'v', 'm', 'p', 'f')) x`, relationIDs(columns))
	if err != nil || len(rows) != 1 {
		return "", err
	}
	return string(rows[0][0]), nil
}

// functionsQuery lists functions that are not PostgreSQL's own, with their bodies. A body in SQL-standard form is not in prosrc.
func functionsQuery(sqlBodies bool) string {
	body := "p.prosrc"
	if sqlBodies { // from version 14 on
		body = "CASE WHEN p.prosqlbody IS NOT NULL THEN pg_catalog.pg_get_function_sqlbody(p.oid) ELSE p.prosrc END"
	}
	// An aggregate is what its functions do; a default of an argument is run like the body.
	return `SELECT p.oid, n.nspname, p.proname, CASE WHEN p.prokind OPERATOR(pg_catalog.=) 'a'::pg_catalog."char" THEN 'sql' ELSE l.lanname END,
pg_catalog.concat_ws(' ', CASE WHEN p.prokind OPERATOR(pg_catalog.=) 'a'::pg_catalog."char" THEN pg_catalog.concat_ws(' ', g.aggtransfn, g.aggfinalfn, g.aggcombinefn, g.aggserialfn, g.aggdeserialfn,
	g.aggmtransfn, g.aggminvtransfn, g.aggmfinalfn) ELSE ` + body + ` END, CASE WHEN p.pronargdefaults OPERATOR(pg_catalog.>) 0 THEN pg_catalog.pg_get_function_arguments(p.oid) END), 'f'
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang
LEFT JOIN pg_catalog.pg_aggregate g ON g.aggfnoid OPERATOR(pg_catalog.=) p.oid
WHERE p.oid OPERATOR(pg_catalog.>=) ` + firstUserOID + `
UNION ALL SELECT o.oid, '', o.oprname, CASE WHEN o.oprleft OPERATOR(pg_catalog.=) ANY (ARRAY[25, 1043, 2283, 5077]::pg_catalog.oid[]) OR o.oprright OPERATOR(pg_catalog.=) ANY (ARRAY[25, 1043, 2283, 5077]::pg_catalog.oid[]) THEN 'text' ELSE 'sql' END,
	pg_catalog.concat_ws(' ', o.oprcode, o.oprrest, o.oprjoin), 'o'
FROM pg_catalog.pg_operator o WHERE o.oid OPERATOR(pg_catalog.>=) ` + firstUserOID + `
UNION ALL SELECT y.oid, '', y.typname, 'sql', p.proname, 'c'
FROM pg_catalog.pg_cast t JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) t.castfunc JOIN pg_catalog.pg_type y ON (y.oid OPERATOR(pg_catalog.=) t.castsource OR y.oid OPERATOR(pg_catalog.=) t.casttarget) WHERE t.oid OPERATOR(pg_catalog.>=) ` + firstUserOID + `
	AND y.oid OPERATOR(pg_catalog.>=) ` + firstUserOID + `
ORDER BY 1`
}

// relationIDs are the OIDs of the columns' relations, as an array's text.
func relationIDs(columns []*catalog.Column) string {
	var ids []string
	for _, c := range columns {
		ids = append(ids, strconv.FormatUint(uint64(c.RelID), 10))
	}
	return "{" + strings.Join(ids, ",") + "}"
}

// dependentsQuery finds what shows one of the relations $1, or runs one of the functions $2 or operators $3, or is or has a column of one of the types $4:
// views, children and parents, tables with such a function in a column's or a domain's default or check. It takes one step; its first column says what a row
// is, c for a relation, which has a name, and t for a type. The relations $1 are among the rows. A recursive query would be compiled by JIT, which takes longer
// than all its steps.
const dependentsQuery = `
SELECT x.kind, x.oid, c.relname, n.nspname FROM (
	SELECT 'c' AS kind, u AS oid FROM pg_catalog.unnest($1::pg_catalog.oid[]) u
	UNION ALL SELECT 'c', r.ev_class FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r ON r.oid OPERATOR(pg_catalog.=) d.objid
	WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass::pg_catalog.oid AND ` + refersTo + `
	UNION ALL SELECT 'c', f.adrelid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attrdef f ON f.oid OPERATOR(pg_catalog.=) d.objid
	WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_attrdef'::pg_catalog.regclass::pg_catalog.oid AND ` + refersToCode + `
	UNION ALL SELECT 't', d.objid FROM pg_catalog.pg_depend d
	WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass::pg_catalog.oid AND ` + refersToCode + `
	UNION ALL SELECT 't', k.contypid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_constraint k ON k.oid OPERATOR(pg_catalog.=) d.objid
	WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_constraint'::pg_catalog.regclass::pg_catalog.oid AND ` + refersToCode + ` AND k.contypid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
	UNION ALL SELECT 'c', d.objid FROM pg_catalog.pg_depend d
	WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid AND ` + refersToType + `
	UNION ALL SELECT 'c', i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.oid[])
	UNION ALL SELECT 'c', i.inhparent FROM pg_catalog.pg_inherits i WHERE i.inhrelid OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.oid[])) x
LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) x.oid AND x.kind OPERATOR(pg_catalog.=) 'c' LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace`

// What a row of pg_depend refers to.
const (
	refersToType = `d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass::pg_catalog.oid AND d.refobjid OPERATOR(pg_catalog.=) ANY ($4::pg_catalog.oid[])`
	refersToCode = `(d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid AND d.refobjid OPERATOR(pg_catalog.=) ANY ($2::pg_catalog.oid[])
	OR d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_operator'::pg_catalog.regclass::pg_catalog.oid AND d.refobjid OPERATOR(pg_catalog.=) ANY ($3::pg_catalog.oid[])
	OR ` + refersToType + `)`
	refersTo = `(d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid AND d.refobjid OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.oid[])
	OR ` + refersToCode + `)`
)

// dependents are what reaches something protected, as far as it is known.
type dependents struct {
	known map[string]bool     // kind and OID
	next  map[string][]string // OIDs whose dependents have not been asked for, by kind: c relations, p functions, o operators, t types
	rows  [][][]byte          // the relations: OID, name, schema
}

// add notes that an object is to be asked about, and tells whether it is new.
func (d *dependents) add(kind, oid string) bool {
	if d.known[kind+oid] {
		return false
	}
	d.known[kind+oid] = true
	d.next[kind] = append(d.next[kind], oid)
	return true
}

// follow asks until nothing new is found, and tells whether relations were.
func (d *dependents) follow(ctx context.Context, query querier) (found bool, err error) {
	shown := map[string]bool{}
	for _, r := range d.rows {
		shown[string(r[0])] = true
	}
	for len(d.next) > 0 {
		array := func(kind string) string { return "{" + strings.Join(d.next[kind], ",") + "}" }
		rows, err := query(ctx, dependentsQuery, array("c"), array("p"), array("o"), array("t"))
		if err != nil {
			return false, err
		}
		clear(d.next)
		for _, r := range rows {
			d.add(string(r[0]), string(r[1]))
			if string(r[0]) == "c" && r[2] != nil && r[3] != nil && !shown[string(r[1])] {
				shown[string(r[1])], found = true, true
				d.rows = append(d.rows, r[1:])
			}
		}
	}
	return found, nil
}

// partnersQuery lists the tables on either end of the foreign keys of the relations $1. The error of a violation names the one and may show the other's key.
const partnersQuery = `
SELECT c.relname, n.nspname FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) k.conrelid OR c.oid OPERATOR(pg_catalog.=) k.confrelid JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE k.contype OPERATOR(pg_catalog.=) 'f'::pg_catalog."char" AND (k.conrelid OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.oid[]) OR k.confrelid OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.oid[]))`

// load reads a database's view through query.
func load(ctx context.Context, query querier, snap *catalog.Snapshot, name string) (*view, error) {
	version, err := query(ctx, "SELECT pg_catalog.current_setting('server_version_num')")
	if err != nil {
		return nil, err
	}
	number, _ := strconv.Atoi(string(version[0][0]))
	rows, err := query(ctx, functionsQuery(number >= 140000))
	if err != nil {
		return nil, err
	}
	functions := make([]sql.Function, len(rows))
	for i, r := range rows {
		functions[i] = function(r)
	}
	var tables []string
	for _, c := range snap.Columns(name) {
		tables = append(tables, c.Table)
	}
	// A view may show an unsafe function, and a function may read such a view: until nothing new is found.
	reached := dependents{known: map[string]bool{}, next: map[string][]string{}}
	for _, c := range snap.Columns(name) {
		reached.add("c", strconv.FormatUint(uint64(c.RelID), 10))
	}
	relations := tables
	for found := true; found; {
		s := sql.NewSchema(relations, functions)
		for i, f := range functions {
			if s.Unsafe(f.Name) != "" {
				reached.add(map[sql.Kind]string{sql.Routine: "p", sql.Operator: "o", sql.Cast: "t"}[f.Kind], string(rows[i][0]))
			}
		}
		if found, err = reached.follow(ctx, query); err != nil {
			return nil, err
		}
		relations = slices.Clone(tables)
		for _, d := range reached.rows {
			relations = append(relations, string(d[1]))
		}
	}
	ids := make([]string, len(reached.rows))
	for i, d := range reached.rows {
		ids[i] = string(d[0])
	}
	partners, err := query(ctx, partnersQuery, "{"+strings.Join(ids, ",")+"}")
	if err != nil {
		return nil, err
	}
	return newView(snap, name, relations, functions, reached.rows, partners), nil
}

// function reads a row of functionsQuery.
func function(r [][]byte) sql.Function {
	lang := string(r[3])
	f := sql.Function{Schema: string(r[1]), Name: string(r[2]), Language: lang, Source: string(r[4]), System: lang == "c" || lang == "internal"}
	switch string(r[5]) {
	case "o":
		f.Kind, f.Texts, f.Language = sql.Operator, lang == "text", "sql"
	case "c":
		f.Kind = sql.Cast
	}
	return f
}

func newView(snap *catalog.Snapshot, name string, relations []string, functions []sql.Function, dependents, partners [][][]byte) *view {
	v := &view{snap: snap, schema: sql.NewSchema(relations, functions), origins: map[origin]*catalog.Column{}, names: map[string]*catalog.Column{},
		tables: map[string]struct{}{}, reaches: map[uint32]struct{}{}}
	direct := map[uint32]bool{}
	var columns strings.Builder
	for _, c := range snap.Columns(name) {
		fmt.Fprintf(&columns, "%d %d %q %q %q %q;", c.RelID, c.Attnum, c.Schema, c.Table, c.Name, c.Policy.Name)
		if c.RelID != 0 {
			v.origins[origin{c.RelID, c.Attnum}] = c
			direct[c.RelID] = true
		}
		v.names[columnKey(c.Schema, c.Table, c.Name)] = c
		v.tables[tableKey(c.Schema, c.Table)] = struct{}{}
	}
	v.columns = columns.String()
	for _, d := range dependents {
		oid, _ := strconv.ParseUint(string(d[0]), 10, 32)
		if !direct[uint32(oid)] {
			v.reaches[uint32(oid)] = struct{}{}
			v.tables[tableKey(string(d[2]), string(d[1]))] = struct{}{}
		}
	}
	for _, p := range partners {
		v.tables[tableKey(string(p[1]), string(p[0]))] = struct{}{}
	}
	return v
}

// union is what either view knows. Both are of one snapshot, or of two that follow each other.
func (v *view) union(o *view) *view {
	if v == nil || o == nil || v == o {
		return cmp.Or(v, o)
	}
	u := *v
	u.schema = v.schema.Union(o.schema)
	u.origins, u.names, u.tables, u.reaches = maps.Clone(v.origins), maps.Clone(v.names), maps.Clone(v.tables), maps.Clone(v.reaches)
	maps.Copy(u.origins, o.origins)
	maps.Copy(u.names, o.names)
	maps.Copy(u.tables, o.tables)
	maps.Copy(u.reaches, o.reaches)
	return &u
}

// relationsQuery resolves names as the session does. One row a column.
const relationsQuery = `
SELECT q.i, c.oid, n.nspname, c.relname, n.oid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema(), a.attname, a.attnum,
	a.attgenerated OPERATOR(pg_catalog.<>) ''::pg_catalog."char"
FROM pg_catalog.unnest($1::pg_catalog.text[]) WITH ORDINALITY AS q(name, i)
JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(q.name)::pg_catalog.oid
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) c.oid AND a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2 AND NOT a.attisdropped`

// resolver implements sql.Catalog on a session's own connection.
type resolver struct {
	ctx   context.Context
	view  *view
	query querier
}

// Relations implements sql.Catalog.
func (r *resolver) Relations(names []sql.Name) ([]*sql.Relation, error) {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = quoteIdentifier(n.Name)
		if n.Schema != "" {
			quoted[i] = quoteIdentifier(n.Schema) + "." + quoted[i]
		}
	}
	rows, err := r.query(r.ctx, relationsQuery, arrayLiteral(quoted))
	if err != nil {
		return nil, err
	}
	out := make([]*sql.Relation, len(names))
	defer func() { // not by ORDER BY, whose operator class a session could have made its own
		for _, rel := range out {
			if rel != nil {
				slices.SortFunc(rel.Columns, func(a, b sql.Attribute) int { return int(a.Attnum) - int(b.Attnum) })
			}
		}
	}()
	for _, row := range rows {
		i, err := strconv.Atoi(string(row[0]))
		if err != nil || i < 1 || i > len(out) || len(row) != 8 {
			return nil, errMalformed
		}
		rel := out[i-1]
		if rel == nil {
			oid, _ := strconv.ParseUint(string(row[1]), 10, 32)
			rel = &sql.Relation{OID: uint32(oid), Schema: string(row[2]), Name: string(row[3]), Temporary: string(row[4]) == "t"}
			_, rel.Reaches = r.view.reaches[rel.OID]
			out[i-1] = rel
		}
		if row[5] == nil {
			continue
		}
		n, _ := strconv.Atoi(string(row[6]))
		a := sql.Attribute{Name: string(row[5]), Attnum: int16(n), Generated: string(row[7]) == "t"}
		if c := r.view.protected(rel.OID, a.Attnum, rel.Schema, rel.Name, a.Name); c != nil {
			a.Policy = c.Policy.Name
		}
		rel.Columns = append(rel.Columns, a)
	}
	return out, nil
}

func quoteIdentifier(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// arrayLiteral writes a text[] as the manual's "Array Input and Output Syntax" says.
func arrayLiteral(items []string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, s := range items {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('"')
		b.WriteString(strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s))
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return b.String()
}
