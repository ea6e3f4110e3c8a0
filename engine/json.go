package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"pgveil/internal/secret"
)

// Path is a place in a JSON document with a policy of its own.
type Path struct {
	Path              string  `json:"path"` // RFC 6901 pointer, where a * stands for every element of an array or member of an object
	Format            string  `json:"format"`
	Options           Options `json:"options,omitzero"`
	AcceptSmallDomain bool    `json:"accept_small_domain,omitempty"`
}

// jsonFormat is a JSON document (RFC 8259) in which the values at some paths are tokenized, each by a policy of its own.
// All else stays byte for byte. At a path stands a string, or for format integer a number, or null, which stays null;
// a path that a document does not have is passed over. Paths of one format and the same options share their tokens.
//
// A string comes back in its shortest spelling: \u0041 as A. Names that are there twice in an object are refused:
// readers disagree about which of them counts.
var jsonFormat = format{
	info: FormatInfo{
		Name: "json", Method: AESSIV, Mask: "fixed", Shape: "as the value, with tokens at the paths",
		Description: "JSON document; the values at the policy's paths are tokenized, each by its own format (option paths)",
	},
	masks: []string{"fixed", "paths"}, takes: []string{"paths"}, ownMethod: true,
	prepare: prepareJSON,
}

const (
	maxJSONDepth = 256
	maxJSONPaths = 256

	maxNumericWhole    = 131_072 // digits of numeric before and behind the point (PostgreSQL, Numeric Types)
	maxNumericFraction = 16_383
)

func prepareJSON(p Policy, r *resolved) *PolicyError {
	if len(p.Options.Paths) == 0 || len(p.Options.Paths) > maxJSONPaths {
		return refusal("format json has "+strconv.Itoa(len(p.Options.Paths))+" paths", "give 1 to "+strconv.Itoa(maxJSONPaths)+" (paths)")
	}
	c := &document{root: new(node)}
	var guards []func(document string) string
	r.versions, r.sure = maxVersion, Partly
	for i, path := range p.Options.Paths {
		which := "path " + strconv.Itoa(i+1)
		steps, ok := pointer(path.Path)
		switch {
		case !ok:
			return refusal(which+" is not a JSON pointer", "write it as /name/other, with ~1 for / and ~0 for ~, array elements from 0 without leading zeros, or * for all")
		case path.Format == "json" || path.Format == "bytes" || path.Options.Exact:
			return refusal(which+": neither json, bytes nor an exact format can be inside a document", "use another format")
		}
		sub := Policy{ID: p.ID, Name: p.Name + " " + path.Path, Format: path.Format, Options: path.Options, AcceptSmallDomain: path.AcceptSmallDomain}
		s, refused := sub.layout()
		if refused != nil {
			return refusal(which+": "+refused.Reason, refused.Hint)
		}
		if !c.root.plant(steps, i) {
			return refusal(which+" is there twice, or inside another", "leave one out")
		}
		c.policies = append(c.policies, sub)
		r.versions = min(r.versions, s.versions)
		r.calls = math.Max(r.calls, s.calls)
		if r.values == nil || s.values != nil && s.values.Cmp(r.values) < 0 {
			r.values = s.values
		}
		if sub.Method() == OneWay {
			r.warn(which + " is one-way: no document that has it can be turned back")
		}
		for _, w := range s.warnings {
			r.warn(which + ": " + w)
		}
		digest := sub.Digest()
		r.describe("path", path.Path)
		r.describe("layout", string(digest[:]))
		c.paths, c.marks = append(c.paths, path.Path), append(c.marks, s.versions)
		c.number = append(c.number, path.Format == "integer" && sub.Method() == FF1)
		if slices.Contains(steps, "*") {
			c.stars = true
		} else {
			guards = append(guards, func(document string) string { return guardAt(document, steps, s) })
		}
	}
	if c.stars {
		r.warn("paths with * are not in the guard: a clear value there is not refused when written directly")
	}
	r.values = nil
	guard := func(document string) string {
		parts := []string{"true"}
		for _, g := range guards {
			parts = append(parts, g(document))
		}
		return "CASE WHEN " + document + " IS NOT NULL THEN " + strings.Join(parts, " AND ") + " END"
	}
	r.guard = func(column string) string { return "(" + guard(column+"::pg_catalog.jsonb") + ")" }
	r.typed = func(column, sqlType string) string {
		switch sqlType {
		case "jsonb":
			return "(" + guard(column) + ")"
		case "json":
			return "(" + guard(column+"::pg_catalog.jsonb") + ")"
		}
		return ""
	}
	r.newCode = func(r resolved) code {
		d := *c
		d.resolved = r
		return &d
	}
	return nil
}

// document is the code of json. What stands at path i is for transform i of a key version.
type document struct {
	resolved
	root     *node
	policies []Policy
	paths    []string
	marks    []int         // versions of each path's format
	known    []*versionKey // derived so far
	number   []bool        // whether a number may stand at the path
	stars    bool          // a path has a *
}

// node is a step of the paths.
type node struct {
	names map[string]*node
	star  *node
	leaf  int // path + 1; 0 where none ends
}

// plant adds a path. ok is false where another path ends on the way, begins here, or overlaps by a *.
func (n *node) plant(steps []string, path int) (ok bool) {
	for _, s := range steps {
		if n.leaf != 0 || n.star != nil && s != "*" || s == "*" && len(n.names) > 0 {
			return false
		}
		next := n.star
		if s != "*" {
			next = n.names[s]
		}
		if next == nil {
			next = new(node)
			switch {
			case s == "*":
				n.star = next
			case n.names == nil:
				n.names = map[string]*node{s: next}
			default:
				n.names[s] = next
			}
		}
		n = next
	}
	if n.leaf != 0 || n.star != nil || n.names != nil {
		return false
	}
	n.leaf = path + 1
	return true
}

// step returns where a name or index leads, or nil.
func (n *node) step(name string) *node {
	switch {
	case n == nil:
		return nil
	case n.star != nil:
		return n.star
	}
	return n.names[name]
}

// pointer splits a JSON pointer (RFC 6901) into its steps.
func pointer(s string) (steps []string, ok bool) {
	if !strings.HasPrefix(s, "/") || !utf8.ValidString(s) || strings.Contains(s, "\x00") {
		return nil, false
	}
	for step := range strings.SplitSeq(s[1:], "/") {
		for i := range len(step) {
			if step[i] == '~' && (i+1 == len(step) || step[i+1] != '0' && step[i+1] != '1') {
				return nil, false
			}
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(step), 10, 32); err == nil && (n < 0 || strconv.FormatInt(n, 10) != step) {
			return nil, false // an index to PostgreSQL's operators, and a name here
		}
		steps = append(steps, strings.NewReplacer("~1", "/", "~0", "~").Replace(step))
	}
	return steps, true
}

// guardAt is the guard of one path over a jsonb document.
func guardAt(document string, steps []string, s resolved) string {
	names := make([]string, len(steps))
	for i, step := range steps {
		names[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(step) + `"`
	}
	return "COALESCE(" + s.guard("("+document+" OPERATOR(pg_catalog.#>>) "+literal("{"+join(names)+"}")+"::pg_catalog.text[])") + ", true)"
}

func (c *document) derive(k *versionKey, key func(int) []byte) error {
	for _, other := range c.known {
		for i, n := range c.marks {
			if other.version%n == k.version%n {
				return &PolicyError{Policy: c.policies[i].Name, Reason: "key versions " + strconv.Itoa(other.version) + " and " + strconv.Itoa(k.version) +
					" have the same mark in a token", Hint: "format " + c.policies[i].Format + " can keep " + strconv.Itoa(n) + " versions: destroy the older one first"}
			}
		}
	}
	dek := key(dekBytes)
	defer clear(dek)
	for _, p := range c.policies {
		t, err := Compile(p, []Key{{Version: k.version, Secret: secret.New(dek)}})
		if err != nil {
			return err
		}
		k.inner = append(k.inner, t)
	}
	c.known = append(c.known, k)
	return nil
}

// change appends what becomes of the value at a path, in the text form of its format. number says that it is one.
type change func(dst, value []byte, path int) ([]byte, fault)

// scan is one document on its way.
type scan struct {
	c      *document
	src    []byte
	dst    []byte
	at     int // what is before it is in dst
	change change
	masks  bool // change gives masks
	found  int  // values at paths
	text   []byte
}

func (c *document) rewrite(dst, src []byte, do change) ([]byte, int, fault) {
	return c.scan(&scan{c: c, src: src, dst: dst, change: do})
}

func (c *document) scan(s *scan) ([]byte, int, fault) {
	dst, src := s.dst, s.src
	if len(src) == 0 {
		return dst, 0, fault{reasonEmpty, -1}
	}
	if f := notUTF8(src); f.reason != "" {
		return dst, 0, f
	}
	if !json.Valid(src) {
		var raw json.RawMessage
		offset, bad := -1, new(json.SyntaxError)
		if errors.As(json.Unmarshal(src, &raw), &bad) {
			offset = min(int(bad.Offset), len(src))
		}
		return dst, 0, fault{"it is not JSON", offset}
	}
	if _, f := s.value(0, c.root, 0); f.reason != "" {
		return dst, 0, f
	}
	return append(s.dst, src[s.at:]...), s.found, fault{}
}

func (s *scan) space(i int) int {
	for i < len(s.src) && (s.src[i] == ' ' || s.src[i] == '\t' || s.src[i] == '\n' || s.src[i] == '\r') {
		i++
	}
	return i
}

// value goes through the value at i, of a document known to be valid, and returns where it ends.
func (s *scan) value(i int, n *node, depth int) (int, fault) {
	if depth > maxJSONDepth {
		return 0, fault{"it is nested too deeply", i}
	}
	i = s.space(i)
	if n != nil && n.leaf != 0 {
		return s.leaf(i, n.leaf-1)
	}
	switch s.src[i] {
	case '{':
		return s.object(i, n, depth)
	case '[':
		i = s.space(i + 1)
		for element := 0; s.src[i] != ']'; element++ {
			var next *node
			if n != nil {
				next = n.step(strconv.Itoa(element))
			}
			end, f := s.value(i, next, depth+1)
			if f.reason != "" {
				return 0, f
			}
			if i = s.space(end); s.src[i] == ',' {
				i = s.space(i + 1)
			}
		}
		return i + 1, fault{}
	}
	end := s.scalar(i)
	return end, s.storable(i, end)
}

// storable refuses a string or number that is JSON and no jsonb, where the guard would fail: a zero character, half of a
// surrogate pair, and a number that numeric does not hold.
func (s *scan) storable(i, end int) fault {
	scalar := s.src[i:end]
	switch {
	case scalar[0] == '"':
		var ok bool
		if s.text, ok = unquote(s.text[:0], scalar[1:len(scalar)-1]); !ok {
			return fault{"half of a surrogate pair", i}
		}
		if bytes.IndexByte(s.text, 0) >= 0 {
			return fault{"a zero character", i}
		}
	case scalar[0] == '-' || scalar[0] >= '0' && scalar[0] <= '9':
		mantissa, exponent, _ := bytes.Cut(bytes.ToLower(scalar), []byte{'e'})
		whole, fraction, _ := bytes.Cut(mantissa, []byte{'.'})
		e, err := strconv.Atoi(string(exponent))
		if len(exponent) > 0 && err != nil || len(whole)+e > maxNumericWhole || len(fraction)-e > maxNumericFraction {
			return fault{"a number out of the range of numeric", i}
		}
	}
	return fault{}
}

func (s *scan) object(i int, n *node, depth int) (int, fault) {
	seen := map[string]bool{}
	i = s.space(i + 1)
	for s.src[i] != '}' {
		end := s.scalar(i)
		if f := s.storable(i, end); f.reason != "" {
			return 0, f
		}
		name := string(s.text)
		if seen[name] {
			return 0, fault{"a name is there twice in an object", i}
		}
		seen[name] = true
		end, f := s.value(s.space(end)+1, n.step(name), depth+1)
		if f.reason != "" {
			return 0, f
		}
		if i = s.space(end); s.src[i] == ',' {
			i = s.space(i + 1)
		}
	}
	return i + 1, fault{}
}

// scalar returns where the string, number or word at i ends.
func (s *scan) scalar(i int) int {
	if s.src[i] == '"' {
		for i++; s.src[i] != '"'; i++ {
			if s.src[i] == '\\' {
				i++
			}
		}
		return i + 1
	}
	for i < len(s.src) && !strings.ContainsRune(" \t\r\n,:]}", rune(s.src[i])) {
		i++
	}
	return i
}

func (s *scan) leaf(i, path int) (int, fault) {
	where := "at " + s.c.paths[path] + ": "
	if s.src[i] == '{' || s.src[i] == '[' {
		return 0, fault{where + "an object or array where a value belongs", i}
	}
	quoted, end := s.src[i] == '"', s.scalar(i)
	value := s.src[i:end]
	switch {
	case quoted:
		var ok bool
		if s.text, ok = unquote(s.text[:0], value[1:len(value)-1]); !ok {
			return 0, fault{where + "half of a surrogate pair", i}
		}
	case value[0] == 'n':
		return end, fault{}
	case value[0] == 't' || value[0] == 'f':
		return 0, fault{where + "true or false where a value belongs", i}
	case !s.c.number[path]:
		return 0, fault{where + "a number where a string belongs", i}
	default:
		s.text = append(s.text[:0], value...)
	}
	out, f := s.change(nil, s.text, path)
	if f.reason != "" {
		offset := i
		if f.offset > 0 && len(s.text)+2 >= len(value) { // without escapes, offsets in the text are those in the document
			if offset += f.offset; quoted {
				offset++
			}
		}
		return 0, fault{where + f.reason, offset}
	}
	s.found++
	s.dst = append(s.dst, s.src[s.at:i]...)
	switch {
	case s.masks && s.c.known[0].inner[path].MaskIsNull():
		s.dst = append(s.dst, "null"...)
	case quoted || !isNumber(out):
		s.dst = quote(s.dst, out)
	default:
		s.dst = append(s.dst, out...)
	}
	s.at = end
	return end, fault{}
}

// isNumber tells a whole number from a mask.
func isNumber(s []byte) bool {
	digits := bytes.TrimPrefix(s, []byte{'-'})
	for _, c := range digits {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(digits) > 0
}

// unquote appends what the inside of a JSON string spells. ok is false for half of a surrogate pair.
func unquote(dst, s []byte) (out []byte, ok bool) {
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			dst = append(dst, s[i])
			continue
		}
		i++
		switch s[i] {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			c := unit(s[i+1:])
			i += 4
			if utf16.IsSurrogate(c) {
				low := rune(0)
				if i+6 < len(s) && s[i+1] == '\\' && s[i+2] == 'u' {
					low = unit(s[i+3:])
				}
				if c = utf16.DecodeRune(c, low); c == utf8.RuneError {
					return dst, false
				}
				i += 6
			}
			dst = utf8.AppendRune(dst, c)
		default: // " \ /
			dst = append(dst, s[i])
		}
	}
	return dst, true
}

// unit is the number of four hexadecimal digits.
func unit(s []byte) (c rune) {
	for _, d := range s[:4] {
		if d >= 'A' && d <= 'F' {
			d += 'a' - 'A'
		}
		c = c<<4 | rune(hexValue(d))
	}
	return c
}

// quote appends s as a JSON string in its shortest spelling.
func quote(dst, s []byte) []byte {
	dst = append(dst, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c >= ' ':
			dst = append(dst, c)
		default:
			if i := strings.IndexByte("\b\f\n\r\t", c); i >= 0 {
				dst = append(dst, '\\', "bfnrt"[i])
			} else {
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
		}
	}
	return append(dst, '"')
}

func (c *document) check(plain []byte) fault {
	any := c.known[0]
	_, _, f := c.rewrite(nil, plain, func(dst, value []byte, path int) ([]byte, fault) {
		return append(dst, value...), checkAt(any.inner[path], value)
	})
	return f
}

// checkAt judges a value at a path. That it is a token already is worth more than why it is no value.
func checkAt(t *Transform, value []byte) fault {
	f := t.code.check(value)
	if f.reason != "" && t.Is(value) {
		return fault{reasonToken, -1}
	}
	return f
}

func (c *document) token(dst, plain []byte, k *versionKey) ([]byte, fault) {
	out, _, f := c.rewrite(dst, plain, func(dst, value []byte, path int) ([]byte, fault) {
		t := k.inner[path]
		if f := checkAt(t, value); f.reason != "" {
			return dst, f
		}
		return t.code.token(dst, value, t.keys.keys[0])
	})
	return out, f
}

func (c *document) plain(dst, token []byte, keys *keySet) ([]byte, fault) {
	out, _, f := c.rewrite(dst, token, func(dst, value []byte, path int) ([]byte, fault) {
		for _, k := range keys.keys {
			if t := k.inner[path]; t.Is(value) {
				if _, ok := t.Version(value); ok {
					return t.code.plain(dst, value, &t.keys)
				}
			} else {
				return dst, fault{reasonShape, -1}
			}
		}
		return dst, fault{reasonVersion, -1}
	})
	return out, f
}

// mark is that of the version of the first token in the document. All the others have to be tokens too.
func (c *document) mark(token []byte) (int, bool) {
	mark := -1 // of a version that has no key
	_, found, f := c.rewrite(nil, token, func(dst, value []byte, path int) ([]byte, fault) {
		if !c.known[0].inner[path].Is(value) {
			return dst, fault{reasonShape, -1}
		}
		for _, k := range c.known {
			if _, ok := k.inner[path].Version(value); ok && mark < 0 {
				mark = k.mark
			}
		}
		return dst, fault{}
	})
	return mark, f.reason == "" && found > 0
}

func (c *document) tokens(dst []byte, ends []int, values [][]byte, k *versionKey) ([]byte, []int, fault) {
	return oneByOne(dst, ends, values, func(dst, v []byte) ([]byte, fault) { return c.token(dst, v, k) })
}

func (c *document) plains(dst []byte, ends []int, tokens [][]byte, keys *keySet) ([]byte, []int, fault) {
	return oneByOne(dst, ends, tokens, func(dst, v []byte) ([]byte, fault) { return c.plain(dst, v, keys) })
}

// masked masks what stands at each path as its own policy says.
func (c *document) masked(dst, plain []byte, _ string) ([]byte, fault) {
	if f := c.check(plain); f.reason != "" {
		return dst, f
	}
	out, _, f := c.scan(&scan{c: c, src: plain, dst: dst, masks: true, change: func(dst, value []byte, path int) ([]byte, fault) {
		return c.known[0].inner[path].AppendMask(dst, value), fault{}
	}})
	return out, f
}

// tokenLen counts on a document of nothing but values at paths, the shortest of which take ten bytes with their names
// or commas, and on escapes.
func (c *document) tokenLen(n int) int {
	most := 0
	for _, t := range c.known[0].inner {
		most = max(most, t.MaxTokenLen(1), t.MaxTokenLen(n)-n)
	}
	return n + (n/2+1)*2*most
}
