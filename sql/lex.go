package sql

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// kind is a lexical class, after the manual's chapter "Lexical Structure".
type kind uint8

const (
	word    kind = iota // key word or identifier, not quoted
	quoted              // "identifier"
	literal             // any string constant
	number
	param // $1
	symbol
)

// token is Text[start:end].
type token struct {
	kind       kind
	start, end int
}

// lex splits text as PostgreSQL's scanner does with standard_conforming_strings = on. White space and comments are left
// out. It never fails: an unterminated construct runs to the end of the text, where the grammar will refuse it.
func lex(text string) []token {
	tokens := make([]token, 0, len(text)/5+4)
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
			tokens = append(tokens, t)
			i = t.end
		}
	}
	return tokens
}

// next reads the token that starts at i, where no white space or comment does.
func next(text string, i int) token {
	c := text[i]
	switch {
	case c == '\'':
		return token{literal, i, endLiteral(text, i, false)}
	case c == '"':
		return token{quoted, i, endQuote(text, i+1, '"', false)}
	case (c == 'e' || c == 'E') && at(text, i+1) == '\'':
		return token{literal, i, endLiteral(text, i+1, true)}
	case strings.IndexByte("bBxX", c) >= 0 && at(text, i+1) == '\'':
		return token{literal, i, endLiteral(text, i+1, false)}
	case (c == 'u' || c == 'U') && at(text, i+1) == '&' && at(text, i+2) == '\'':
		return token{literal, i, endLiteral(text, i+2, false)}
	case (c == 'u' || c == 'U') && at(text, i+1) == '&' && at(text, i+2) == '"':
		return token{quoted, i, endQuote(text, i+3, '"', false)}
	case c == '$':
		return dollar(text, i)
	case isDigit(c), c == '.' && isDigit(at(text, i+1)):
		return token{number, i, endNumber(text, i)}
	case isWordStart(c):
		j := i + 1
		for j < len(text) && isWordPart(text[j]) {
			j++
		}
		return token{word, i, j}
	}
	return token{symbol, i, i + 1}
}

func at(text string, i int) byte {
	if i < len(text) {
		return text[i]
	}
	return 0
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v'
}
func isDigit(c byte) bool     { return '0' <= c && c <= '9' }
func isWordStart(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_' || c >= 0x80 }
func isWordPart(c byte) bool  { return isWordStart(c) || isDigit(c) || c == '$' }

func skipLine(text string, i int) int {
	if n := strings.IndexAny(text[i:], "\r\n"); n >= 0 {
		return i + n + 1
	}
	return len(text)
}

// skipComment passes a comment in slashes, which nests.
func skipComment(text string, i int) int {
	depth := 0
	for i < len(text) {
		switch {
		case strings.HasPrefix(text[i:], "/*"):
			depth, i = depth+1, i+2
		case strings.HasPrefix(text[i:], "*/"):
			depth, i = depth-1, i+2
			if depth == 0 {
				return i
			}
		default:
			i++
		}
	}
	return i
}

// endQuote gives the index after the closing quote; i is after the opening one. A doubled quote stands for itself.
func endQuote(text string, i int, quote byte, escapes bool) int {
	for i < len(text) {
		switch {
		case escapes && text[i] == '\\':
			i += 2
		case text[i] != quote:
			i++
		case at(text, i+1) == quote:
			i += 2
		default:
			return i + 1
		}
	}
	return len(text)
}

// endLiteral gives the index after a string constant whose opening quote is at i, with its continuations: strings
// separated by white space that holds a newline are one.
func endLiteral(text string, i int, escapes bool) int {
	end := endQuote(text, i+1, '\'', escapes)
	for {
		j, newline := end, false
		for j < len(text) {
			if isSpace(text[j]) {
				newline = newline || text[j] == '\n' || text[j] == '\r'
				j++
			} else if strings.HasPrefix(text[j:], "--") {
				j, newline = skipLine(text, j), true
			} else {
				break
			}
		}
		if !newline || at(text, j) != '\'' {
			return end
		}
		end = endQuote(text, j+1, '\'', escapes)
	}
}

// dollar reads $1, or a dollar-quoted string, or a lone $.
func dollar(text string, i int) token {
	j := i + 1
	if isDigit(at(text, j)) {
		for isDigit(at(text, j)) {
			j++
		}
		return token{param, i, j}
	}
	if isWordStart(at(text, j)) {
		for j < len(text) && isWordPart(text[j]) && text[j] != '$' {
			j++
		}
	}
	if at(text, j) != '$' {
		return token{symbol, i, i + 1}
	}
	tag := text[i : j+1]
	if n := strings.Index(text[j+1:], tag); n >= 0 {
		return token{literal, i, j + 1 + n + len(tag)}
	}
	return token{literal, i, len(text)}
}

func endNumber(text string, i int) int {
	for i < len(text) {
		c := text[i]
		if isWordPart(c) || c == '.' || (c == '+' || c == '-') && (text[i-1]|0x20) == 'e' && i+1 < len(text) && isDigit(text[i+1]) {
			// "1..2" is a number and a range in plpgsql alone; a word glued to a number is an error of the grammar's.
			i++
			continue
		}
		break
	}
	return i
}

// maxName is how many bytes of an identifier PostgreSQL looks at (NAMEDATALEN - 1).
const maxName = 63

// nextWord gives the next maximal run of identifier characters of text at or after i, wherever it stands (in strings and comments
// too), appended to buf in ASCII lower case and cut as PostgreSQL cuts identifiers, and the index after it. It is empty at the end of the text.
func nextWord(text string, i int, buf []byte) (w []byte, next int) {
	for i < len(text) && !isWordPart(text[i]) {
		i++
	}
	w = buf[:0]
	for i < len(text) && isWordPart(text[i]) {
		c := text[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if len(w) <= maxName {
			w = append(w, c)
		}
		i++
	}
	if len(w) > maxName {
		w = w[:maxName]
		for r, n := utf8.DecodeLastRune(w); r == utf8.RuneError && n == 1; r, n = utf8.DecodeLastRune(w) {
			w = w[:len(w)-1]
		}
	}
	return w, i
}

// escaped calls is with every reading of what stands in U&"…" in text, an identifier in which almost any character may be the one that escapes
// (UESCAPE comes behind it), and tells whether one call said true, or half of a surrogate pair was read. What holds no escape is not among
// the readings: it stands in the text as it is.
func escaped(text string, is func(name string) bool) bool {
	if !strings.Contains(text, `&"`) {
		return false
	}
	for i := 0; i+2 < len(text); i++ {
		if text[i]|0x20 != 'u' || text[i+1] != '&' || text[i+2] != '"' {
			continue
		}
		name := text[i+3 : max(i+3, endQuote(text, i+3, '"', false)-1)]
		var tried [256]bool
		for j := range len(name) {
			c := name[j]
			if tried[c] || escapeLength(name[j:]) == 0 {
				continue
			}
			tried[c] = true
			if read, ok := unescape(name, c); !ok || is(read) {
				return true
			}
		}
	}
	return false
}

// escapeLength is the length of the escape that s begins with if its first byte is what escapes: that byte twice, or it and 4 hexadecimal digits, or it,
// + and 6. 0: none.
func escapeLength(s string) int {
	n, digits := 5, 4
	switch at(s, 1) {
	case s[0]:
		return 2
	case '+':
		n, digits = 8, 6
	}
	if len(s) < n {
		return 0
	}
	for _, c := range []byte(s[n-digits : n]) {
		if !isDigit(c) && (c|0x20 < 'a' || c|0x20 > 'f') {
			return 0
		}
	}
	return n
}

// unescape reads a name in which c begins an escape; ok is false where half of a surrogate pair is in it.
func unescape(name string, c byte) (read string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(name); {
		n := escapeLength(name[i:])
		if name[i] != c || n == 0 {
			n = 1
		}
		if n < 5 { // as it stands, or twice for once
			b.WriteByte(name[i])
			i += n
			continue
		}
		r, _ := strconv.ParseUint(strings.TrimPrefix(name[i+1:i+n], "+"), 16, 32)
		if utf16.IsSurrogate(rune(r)) {
			return "", false
		}
		b.WriteRune(rune(r))
		i += n
	}
	return b.String(), true
}

// mentions tells whether one of the words stands in text.
func mentions(text string, names ...string) bool {
	var buf [64]byte
	for w, i := nextWord(text, 0, buf[:]); len(w) > 0; w, i = nextWord(text, i, buf[:]) {
		if slices.Contains(names, string(w)) {
			return true
		}
	}
	return false
}

// What is given to the grammar is bounded: its C code recurses without a guard, and tens of thousands of chained operators, postfix tests or set
// operations overflow the stack of the whole process.
const (
	maxOperators = 2_000 // operators and set operations that may nest in each other
	maxComments  = 1_000 // nested comments take the grammar's scanner quadratic time
	maxChain     = 8_000 // other words between two commas, at all open brackets together
)

// tooComplex tells whether the tree of tokens may be deeper than the grammar can be trusted with. Its depth is at most what has been chained since
// the last comma, at every bracket that is open.
func tooComplex(text string, tokens []token) bool {
	type level struct{ operators, words, sets int } // a comma does not end a set operation
	open := []level{{}}
	var sum level
	for _, t := range tokens {
		top := &open[len(open)-1]
		switch t.kind {
		case symbol:
			switch text[t.start] {
			case '(', '[':
				open = append(open, level{})
				if len(open) > maxOperators {
					return true
				}
			case ')', ']':
				if len(open) > 1 {
					sum.operators -= top.operators + top.sets
					sum.words -= top.words
					open = open[:len(open)-1]
				}
			case ',', ';':
				sum.operators -= top.operators
				sum.words -= top.words
				*top = level{sets: top.sets}
			case '.':
			default:
				top.operators++
				sum.operators++
			}
		case word:
			switch strings.ToLower(text[t.start:t.end]) {
			case "union", "intersect", "except", "join":
				top.sets++
				sum.operators++
			case "not", "case":
				top.operators++
				sum.operators++
			default:
				top.words++
				sum.words++
			}
		}
		if sum.operators > maxOperators || sum.words > maxChain {
			return true
		}
	}
	return false
}
