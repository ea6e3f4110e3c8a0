package replication

import (
	"fmt"
	"strings"
)

// A Pattern matches tables of the source by name.
type Pattern struct {
	text          string
	schema, table name
}

// ParsePattern reads SCHEMA.TABLE or TABLE (in schema public), where * stands for any characters and ? for one.
// A part in double quotes is taken literally; case is never folded. The schemas of PostgreSQL itself and pgveil's own
// are matched by no pattern.
func ParsePattern(s string) (Pattern, error) {
	names, rest, err := splitNames(s, "")
	if err != nil || rest != "" || len(names) > 2 {
		return Pattern{}, fmt.Errorf("table pattern %q: want schema.table, with * and ? as wildcards", s)
	}
	if len(names) == 1 {
		names = append([]name{{text: "public", quoted: true}}, names...)
	}
	for _, n := range names {
		if n.text == "" {
			return Pattern{}, fmt.Errorf("table pattern %q: an empty name", s)
		}
	}
	return Pattern{text: s, schema: names[0], table: names[1]}, nil
}

// Match reports whether the pattern matches the table.
func (p Pattern) Match(schema, table string) bool {
	return p.schema.match(schema) && p.table.match(table)
}

// name is one part of a dotted name.
type name struct {
	text   string
	quoted bool
}

func (n name) match(s string) bool {
	if n.quoted {
		return n.text == s
	}
	return glob([]rune(n.text), []rune(s))
}

// glob matches with * and ? only; brackets and backslashes are ordinary characters of a name.
func glob(p, s []rune) bool {
	star, mark := -1, 0
	i, j := 0, 0
	for j < len(s) {
		switch {
		case i < len(p) && p[i] == '*':
			star, mark = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == s[j]):
			i, j = i+1, j+1
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}

// splitNames reads dotted names up to the end or one of the characters in stop, and returns what is left.
func splitNames(s, stop string) ([]name, string, error) {
	var names []name
	for {
		n, rest, err := oneName(s, stop)
		if err != nil {
			return nil, "", err
		}
		names = append(names, n)
		if rest == "" || rest[0] != '.' {
			return names, rest, nil
		}
		s = rest[1:]
	}
}

func oneName(s, stop string) (name, string, error) {
	if !strings.HasPrefix(s, `"`) {
		if i := strings.IndexAny(s, `."`+stop); i >= 0 {
			if s[i] == '"' {
				return name{}, "", fmt.Errorf("a quote inside a name")
			}
			return name{text: s[:i]}, s[i:], nil
		}
		return name{text: s}, "", nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '"' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '"' {
			b.WriteByte('"')
			i++
			continue
		}
		rest := s[i+1:]
		if rest != "" && !strings.ContainsRune("."+stop, rune(rest[0])) {
			return name{}, "", fmt.Errorf("text after a quoted name")
		}
		return name{text: b.String(), quoted: true}, rest, nil
	}
	return name{}, "", fmt.Errorf("a quoted name without its end")
}
