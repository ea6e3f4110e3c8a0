package sql

import (
	"strings"
)

// Function is a function or procedure of the database that is not PostgreSQL's own.
type Function struct {
	Schema, Name string
	Language     string
	Source       string // its body, whichever way it is stored
	System       bool   // in C or internal: its body cannot be read
}

// Schema is the set of names through which a text could reach a protected column. It is immutable.
type Schema struct {
	hits   map[string]struct{} // words in ASCII lower case
	always bool                // a name has no word in it: every text is looked at
	unsafe map[string]string   // function name, exact -> why
	empty  bool                // nothing in the database is protected
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
}

// NewSchema makes the set for a database. relations are the protected ones and those that show them (views, children).
func NewSchema(relations []string, functions []Function) *Schema {
	s := &Schema{hits: map[string]struct{}{}, unsafe: map[string]string{}, empty: len(relations) == 0}
	s.add(tokenizeName)
	s.add(detokenizeName)
	if s.empty {
		return s
	}
	for _, name := range relations {
		s.add(name)
	}
	for _, name := range dynamic {
		s.mark(name, "it runs SQL that cannot be seen here")
	}
	s.close(functions)
	return s
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
				s.mark(f.Name, why)
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
	case mentions(f.Source, "set_config", "search_path"):
		return "it changes how names are resolved"
	case s.Names(f.Source):
		return "its body names something protected"
	}
	return ""
}

func (s *Schema) mark(function, why string) {
	s.unsafe[function] = why
	s.add(function)
}

// add makes name a hit. Of a name that is not one word, its longest word is.
func (s *Schema) add(name string) {
	longest := ""
	for w, i := nextWord(name, 0, nil); len(w) > 0; w, i = nextWord(name, i, nil) {
		if len(w) > len(longest) {
			longest = string(w)
		}
	}
	if longest == "" {
		s.always = true
		return
	}
	s.hits[longest] = struct{}{}
}

// Mentions tells whether text must be analyzed. It looks at words wherever they stand, strings and comments included, and errs on
// the side of true. It allocates nothing.
func (s *Schema) Mentions(text string) bool {
	return s.scan(text, !s.empty) // a DO block with EXECUTE in it names what it likes
}

// Names is Mentions for names alone.
func (s *Schema) Names(text string) bool { return s.scan(text, false) }

func (s *Schema) scan(text string, execute bool) bool {
	// U&"..." can spell any name in escapes.
	if s.always || strings.Contains(text, `U&"`) || strings.Contains(text, `u&"`) {
		return true
	}
	var buf [64]byte
	for w, i := nextWord(text, 0, buf[:]); len(w) > 0; w, i = nextWord(text, i, buf[:]) {
		if _, hit := s.hits[string(w)]; hit || execute && string(w) == "execute" {
			return true
		}
	}
	return false
}

// Empty tells whether nothing in the database is protected.
func (s *Schema) Empty() bool { return s.empty }

// Unsafe says why a call of the function could touch a protected column, or "".
func (s *Schema) Unsafe(function string) string { return s.unsafe[function] }

// ChangesSchema tells whether text may change what names mean or which functions and views exist. It errs on the side of true.
func ChangesSchema(text string) bool {
	return mentions(text, "create", "alter", "drop", "do", "call", "import", "refresh")
}
