package main

import (
	"bytes"
	"fmt"
)

// CSV as in RFC 4180, with LF or CRLF and commas. Only the bytes of the one column change: a field that was quoted stays
// so, and one that was not is quoted only if what it becomes needs it. Empty lines stay. What is no CSV stops, whatever
// --on-error says: behind it, nobody can say which field is which.

// csvColumn is the column to convert.
type csvColumn struct {
	name   string // "" where it is known by its number
	index  int    // from 0
	header bool   // the first row is passed through
	fields int    // of the first row, and so of all
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// settle finds the column in the first row of the input.
func (c *csvColumn) settle(data []byte) error {
	data = bytes.TrimPrefix(data, byteOrderMark)
	found := 0
	for {
		r := readRow(data, c.fields)
		if r.wrong != "" {
			return failed("line 1: %s", r.wrong)
		}
		if c.name != "" && r.from >= 0 && string(unquoted(nil, data[r.from:r.to])) == c.name {
			c.index, found = c.fields, found+1
		}
		if c.fields++; c.fields >= r.fields {
			break
		}
	}
	switch {
	case c.name != "" && found == 0:
		return failed("the first row has no column %q", c.name)
	case found > 1:
		return failed("the first row has %d columns %q", found, c.name).hint("name it by its number")
	case c.index >= c.fields:
		return failed("there is no column %d: the first row has %d", c.index+1, c.fields)
	}
	return nil
}

// row is one row taken apart.
type row struct {
	from, to int // the wanted field, with its quotes; from < 0 where there is none
	fields   int
	next     int    // behind its line end
	lines    int64  // line ends in it
	wrong    string // why it is no CSV
}

// readRow takes the first row of data apart. The fields are counted from 0.
func readRow(data []byte, wanted int) (r row) {
	r.from = -1
	for i := 0; ; i++ {
		from := i
		if i < len(data) && data[i] == '"' {
			for i++; ; i++ {
				n := bytes.IndexByte(data[i:], '"')
				if n < 0 {
					r.wrong = "a quoted field does not end"
					return r
				}
				r.lines += int64(bytes.Count(data[i:i+n], newline))
				if i += n + 1; i >= len(data) || data[i] != '"' {
					break
				}
			}
		} else {
			for i < len(data) && data[i] != ',' && data[i] != '\n' && data[i] != '\r' && data[i] != '"' {
				i++
			}
			if i < len(data) && data[i] == '"' {
				r.wrong = "a quote inside a field that does not begin with one"
				return r
			}
		}
		if r.fields == wanted {
			r.from, r.to = from, i
		}
		r.fields++
		switch rest := data[i:]; {
		case len(rest) == 0:
			r.next = i
			return r
		case rest[0] == ',':
		case rest[0] == '\n', len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			_, r.next = lineEnd(data, i)
			r.lines++
			return r
		case rest[0] == '\r':
			r.wrong = "a carriage return that ends no line, outside quotes"
			return r
		default:
			r.wrong = "text behind the closing quote of a field"
			return r
		}
	}
}

var (
	quote   = []byte{'"'}
	newline = []byte{'\n'}
)

// unquoted appends the content of a field.
func unquoted(dst, field []byte) []byte {
	if len(field) < 2 || field[0] != '"' {
		return append(dst, field...)
	}
	for field = field[1 : len(field)-1]; ; {
		n := bytes.IndexByte(field, '"')
		if n < 0 {
			return append(dst, field...)
		}
		dst, field = append(dst, field[:n+1]...), field[n+2:]
	}
}

// quotedIfNeeded appends text as a field. An empty text that is not NULL is "" as in COPY.
func quotedIfNeeded(dst, text []byte, always bool) []byte {
	if !always && len(text) > 0 && !bytes.ContainsAny(text, ",\"\r\n") {
		return append(dst, text...)
	}
	dst = append(dst, '"')
	for {
		n := bytes.IndexByte(text, '"')
		if n < 0 {
			return append(append(dst, text...), '"')
		}
		dst, text = append(append(dst, text[:n+1]...), '"'), text[n+1:]
	}
}

// csvBlock is block for CSV.
func (f *filter) csvBlock(b *block, s *batch) {
	at := 0
	if b.first {
		at = len(b.data) - len(bytes.TrimPrefix(b.data, byteOrderMark))
		if f.csv.header && len(b.data) > at {
			r := readRow(b.data[at:], 0)
			at, b.lines = at+r.next, r.lines
		}
		b.out = append(b.out, b.data[:at]...)
	}
	for at < len(b.data) && !b.stopped {
		s.reset()
		start, wrong := at, ""
		for at < len(b.data) && len(s.values) < batchValues {
			r := readRow(b.data[at:], f.csv.index)
			blank := b.data[at] == '\n' || bytes.HasPrefix(b.data[at:], []byte("\r\n"))
			switch {
			case r.wrong == "" && r.fields != f.csv.fields && !blank:
				r.wrong = fmt.Sprintf("the row has %d fields, the first row has %d", r.fields, f.csv.fields)
			case r.wrong == "" && r.to > r.from && r.from >= 0: // else it is NULL, or the line is blank: it stays
				field := b.data[at+r.from : at+r.to]
				p := place{from: at + r.from, to: at + r.to, next: at + r.next, line: b.lines, quoted: field[0] == '"', row: at}
				if p.quoted {
					n := len(s.arena)
					s.arena = unquoted(s.arena, field)
					field = s.arena[n:]
				}
				s.values, s.places = append(s.values, field), append(s.places, p)
			}
			if wrong = r.wrong; wrong != "" {
				break
			}
			b.lines += r.lines
			at += r.next
		}
		copied := start
		f.batch(s, b, func(p place, text []byte, bad bool) {
			switch {
			case bad && f.onError == onErrorSkip:
				b.out = append(b.out, b.data[copied:p.row]...)
				copied = p.next
				return
			case bad: // NULL
				b.out = append(b.out, b.data[copied:p.from]...)
			default:
				b.out = quotedIfNeeded(append(b.out, b.data[copied:p.from]...), text, p.quoted)
			}
			copied = p.to
		})
		if b.stopped {
			bad := b.bad[len(b.bad)-1]
			for _, p := range s.places { // what stands before the row that stopped
				if p.line == bad.line {
					b.out = append(b.out, b.data[copied:p.row]...)
				}
			}
			return
		}
		b.out = append(b.out, b.data[copied:at]...)
		if wrong != "" {
			b.refuse(b.lines, wrong)
			b.stopped = true
		}
	}
}
