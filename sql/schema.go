package sql

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Function is a function or procedure of the database that is not PostgreSQL's own; or an operator, or a cast under the name of one of
// its types, which a text reaches without naming its function.
type Function struct {
	Schema, Name string
	Kind         Kind
	Language     string
	Source       string // its body, whichever way it is stored, its arguments' defaults, and what an aggregate is made of
	System       bool   // in C or internal: its body cannot be read
	Texts        bool   // of an operator: it takes texts, so that it may be meant where PostgreSQL's own seems to be
}

// Kind is what a Function is.
type Kind int

// The kinds.
const (
	Routine Kind = iota
	Operator
	Cast
)

// Schema is the set of names through which a text could reach a protected column. It is immutable.
type Schema struct {
	hits     map[string]struct{} // words in ASCII lower case
	owned    map[string]struct{} // those of relations and of the functions that the front-end provides
	always   bool                // something that has no word in it: every text is looked at
	all      bool                // a relation is such a thing
	nonASCII bool                // a hit is spelled differently in another encoding
	unsafe   map[string]string   // function, operator or type, exact -> why
	routines map[string]struct{} // names of functions that are not PostgreSQL's own
	equals   bool                // somebody has made an operator = or <> for texts
	empty    bool                // nothing in the database is protected
}

// Names of the functions that the front-end provides.
const (
	tokenizeName   = "tokenize"
	detokenizeName = "detokenize"
)

// dynamic are functions of PostgreSQL and of its extensions that run SQL given as text, or read a table named by text.
var dynamic = []string{
	"query_to_xml", "query_to_xmlschema", "query_to_xml_and_xmlschema", "cursor_to_xml", "table_to_xml", "table_to_xmlschema",
	"table_to_xml_and_xmlschema", "schema_to_xml", "schema_to_xmlschema", "schema_to_xml_and_xmlschema", "database_to_xml", "database_to_xmlschema",
	"database_to_xml_and_xmlschema", "ts_stat", "ts_rewrite", "dblink", "dblink_exec", "dblink_open", "dblink_send_query", "dblink_fetch",
	"crosstab", "crosstabn", "crosstab2", "crosstab3", "crosstab4", "connectby", "xpath_table",
	"dblink_build_sql_insert", "dblink_build_sql_update", "dblink_build_sql_delete", "dblink_get_result", "pg_logical_slot_get_changes", "pg_logical_slot_peek_changes",
	"pg_logical_slot_get_binary_changes", "pg_logical_slot_peek_binary_changes",
}

// statistics are relations in which PostgreSQL shows what columns hold.
var statistics = []string{"pg_stats", "pg_statistic", "pg_stats_ext", "pg_stats_ext_exprs", "pg_statistic_ext_data"}

// NewSchema makes the set for a database. relations are the protected ones and those that show them (views, children).
func NewSchema(relations []string, functions []Function) *Schema {
	s := newSchema()
	s.empty = len(relations) == 0
	s.add(tokenizeName)
	s.add(detokenizeName)
	if !s.empty {
		for _, name := range append(relations, statistics...) {
			s.add(name)
		}
	}
	s.owned, s.all = maps.Clone(s.hits), s.always
	if s.empty {
		return s
	}
	for _, name := range dynamic {
		s.mark(Function{Name: name}, "it runs SQL that cannot be seen here")
	}
	for _, f := range functions {
		switch {
		case f.Kind == Routine:
			s.routines[f.Name] = struct{}{}
		case f.Kind == Operator && f.Texts && (f.Name == "=" || f.Name == "<>"):
			s.equals = true
		}
	}
	s.close(functions)
	return s
}

// newSchema makes a set of nothing.
func newSchema() *Schema {
	return &Schema{hits: map[string]struct{}{}, unsafe: map[string]string{}, routines: map[string]struct{}{}}
}

// Union is the set of what either holds.
func (s *Schema) Union(o *Schema) *Schema {
	u := &Schema{hits: maps.Clone(s.hits), owned: maps.Clone(s.owned), unsafe: maps.Clone(s.unsafe), routines: maps.Clone(s.routines), always: s.always || o.always, all: s.all || o.all,
		nonASCII: s.nonASCII || o.nonASCII, equals: s.equals || o.equals, empty: s.empty && o.empty}
	maps.Copy(u.hits, o.hits)
	maps.Copy(u.owned, o.owned)
	maps.Copy(u.unsafe, o.unsafe)
	maps.Copy(u.routines, o.routines)
	return u
}

// close marks functions that reach a protected relation, until a pass finds no further one: a function may call another.
func (s *Schema) close(functions []Function) {
	for changed := true; changed; {
		changed = false
		for _, f := range functions {
			if _, done := s.unsafe[f.Name]; done {
				continue
			}
			if why := s.reaches(f); why != "" {
				s.mark(f, why)
				changed = true
			}
		}
	}
}

// reaches says why a call of f could touch a protected column, or "".
func (s *Schema) reaches(f Function) string {
	switch {
	case f.System:
		return "" // those that run SQL are marked by name
	case f.Language != "sql" && f.Language != "plpgsql":
		return "its language " + f.Language + " can run SQL that cannot be seen here"
	case f.Language == "plpgsql" && mentions(f.Source, "execute"):
		return "it runs dynamic SQL"
	case f.Language == "plpgsql" && mentions(f.Source, "fetch"):
		return "it reads a cursor, which may be any"
	case mentions(f.Source, "set_config", "search_path"):
		return "it changes how names are resolved"
	case s.Names(f.Source):
		return "its body names something protected"
	}
	return ""
}

func (s *Schema) mark(f Function, why string) {
	s.unsafe[f.Name] = why
	s.add(f.Name)
}

// add makes name a hit. Of a name that is not one word, its longest word is, but not one at the end of a name so long that PostgreSQL may
// have cut it.
func (s *Schema) add(name string) {
	longest := ""
	for w, i := nextWord(name, 0, nil); len(w) > 0; w, i = nextWord(name, i, nil) {
		if len(w) > len(longest) && (i < len(name) || len(name) < maxName-utf8.UTFMax || len(w) == len(name)) {
			longest = string(w)
		}
	}
	if longest == "" {
		s.always = true
		return
	}
	for i := range len(longest) {
		s.nonASCII = s.nonASCII || longest[i] >= utf8.RuneSelf
	}
	s.hits[longest] = struct{}{}
}

// Mentions tells whether text must be analyzed. It looks at words wherever they stand, strings and comments included, and errs on
// the side of true. It allocates nothing but for names spelled in Unicode escapes.
func (s *Schema) Mentions(text string) bool { return s.scan(text, s.hits, s.always, !s.empty) }

// Names is Mentions for names alone.
func (s *Schema) Names(text string) bool { return s.scan(text, s.hits, s.always, false) }

// Owns is Names without functions, operators and types that only reach something protected.
func (s *Schema) Owns(text string) bool { return s.scan(text, s.owned, s.all, false) }

// scan looks for hits, and if code is set for statements that run code which names what it likes: DO, EXECUTE.
func (s *Schema) scan(text string, hits map[string]struct{}, always, code bool) bool {
	if always || escaped(text, func(name string) bool { return s.scan(name, hits, false, false) }) {
		return true
	}
	var buf [maxName + 1]byte
	looked := false
	for w, i := nextWord(text, 0, buf[:]); len(w) > 0; w, i = nextWord(text, i, buf[:]) {
		if _, hit := hits[string(w)]; hit {
			return true
		}
		if code && string(w) == "execute" && !executesFunction(text[i:]) {
			return true
		}
		if code && string(w) == "do" && !looked { // once: ON CONFLICT DO is no DO
			if looked = true; starts(text, "do") {
				return true
			}
		}
	}
	return false
}

// executesFunction tells whether the EXECUTE before rest is that of CREATE TRIGGER or of GRANT, which runs nothing. A prepared statement may be called
// function, but no name follows that.
func executesFunction(rest string) bool {
	if strings.HasPrefix(strings.TrimLeft(rest, space), `"`) {
		return false // a name
	}
	first, rest := adjacentWord(rest)
	if first == "function" || first == "procedure" {
		second, _ := adjacentWord(rest)
		return second != "" && second != "with" && second != "into"
	}
	return first == "on"
}

const space = " \t\r\n"

// adjacentWord gives the word that text begins with, in lower case, and what follows it; nothing but white space may come before it.
func adjacentWord(text string) (w, rest string) {
	text = strings.TrimLeft(text, space)
	if text == "" || !isWordStart(text[0]) && text[0] != '"' {
		return "", ""
	}
	word, i := nextWord(text, 0, nil)
	return string(word), text[i:]
}

// Foreign tells whether names of the set are spelled differently in other encodings than UTF-8.
func (s *Schema) Foreign() bool { return s.nonASCII }

// Empty tells whether nothing in the database is protected.
func (s *Schema) Empty() bool { return s.empty }

// Unsafe says why a call of the function could touch a protected column, or "".
func (s *Schema) Unsafe(function string) string { return s.unsafe[function] }

// NewWord tells whether known says false for an identifier or key word of text; strings, numbers and comments are passed over.
func NewWord(text string, known func(word string) bool) bool {
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case isSpace(c):
			i++
		case strings.HasPrefix(text[i:], "--"):
			i = skipLine(text, i)
		case strings.HasPrefix(text[i:], "/*"):
			i = skipComment(text, i)
		default:
			t := next(text, i)
			if (t.kind == word || t.kind == quoted) && !known(text[t.start:t.end]) {
				return true
			}
			i = t.end
		}
	}
	return false
}

// Inert tells in one pass whether text has none of the words without which ReadsCursor, Prepares, Executes, Forgets, ChangesSettings, RollsBack and
// ChangesSchema all say false. Most texts have none.
func Inert(text string) bool {
	var buf [maxName + 1]byte
	for w, i := nextWord(text, 0, buf[:]); len(w) > 0; w, i = nextWord(text, i, buf[:]) {
		switch string(w) {
		case "abort", "alter", "call", "create", "deallocate", "discard", "do", "drop", "execute", "fetch", "import", "into", "prepare", "refresh", "reset",
			"rollback", "set", "set_config":
			return false
		}
	}
	return true
}

// ReadsCursor tells whether text may return rows of a query that stands elsewhere: a cursor's, a prepared statement's.
func ReadsCursor(text string) bool { return mentions(text, "fetch", "execute", "call") }

// Prepares tells whether text may make or run a prepared statement of SQL's own.
func Prepares(text string) bool { return mentions(text, "prepare", "execute") }

// Executes tells whether text may run a prepared statement by name.
func Executes(text string) bool { return mentions(text, "execute") }

// Forgets tells whether text may drop prepared statements.
func Forgets(text string) bool { return mentions(text, "deallocate", "discard") }

// ChangesSettings tells whether text may change how the texts after it are read.
func ChangesSettings(text string) bool {
	if !mentions(text, "set", "reset", "discard", "set_config", "rollback", "abort") {
		return false
	}
	first := true // of a statement: UPDATE … SET changes no setting
	for _, t := range lex(text) {
		w := strings.ToLower(text[t.start:t.end])
		switch {
		case w == ";":
			first = true
			continue
		case w == "set_config" || w == `"set_config"`, first && (w == "set" || w == "reset" || w == "discard" || w == "rollback" || w == "abort"):
			return true
		}
		first = false
	}
	return false
}

// starts tells whether a statement of text begins with one of the words.
func starts(text string, with ...string) bool {
	if !mentions(text, with...) {
		return false
	}
	first := true
	for _, t := range lex(text) {
		w := strings.ToLower(text[t.start:t.end])
		if first && slices.Contains(with, w) {
			return true
		}
		first = w == ";" || first && (w == "explain" || w == "analyze" || w == "verbose" || w == "(" || w == ")")
	}
	return false
}

// RollsBack tells whether text may undo what the session did.
func RollsBack(text string) bool { return starts(text, "rollback", "abort") }

// ChangesSchema tells whether text may change what names mean or which functions and views exist. It errs on the side of true.
func ChangesSchema(text string) bool {
	return starts(text, "create", "alter", "drop", "do", "call", "import", "refresh") || mentions(text, "into") && starts(text, "select", "with")
}
