package wirescript

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Script is one conversation. It may be run any number of times.
type Script struct {
	Name   string // of its file
	Codes  bool   // errors are compared by severity and SQLSTATE alone
	Places bool   // errors are compared without the place in the server's source
	From   int    // the oldest major version that it is for; 0: all
	steps  []step
}

type step struct {
	line       int
	verb       string // connect, send, until, cancel or close
	conn       string
	parameters map[string]string // of connect
	bytes      []byte            // of send
	kind       string            // of until
	count      int
}

// Parse reads a script. An error names the file and line.
func Parse(name, text string) (*Script, error) {
	s := &Script{Name: name}
	for i, line := range strings.Split(text, "\n") {
		indented := strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t")
		words, err := split(line)
		if err == nil && len(words) > 0 {
			if indented {
				err = s.message(words)
			} else {
				err = s.line(i+1, words)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, i+1, err)
		}
	}
	return s, nil
}

// split gives the words of a line, strings without their quotes. A # where a word would begin begins a comment.
func split(line string) (words []string, err error) {
	for {
		line = strings.TrimLeft(line, " \t")
		if line == "" || line[0] == '#' {
			return words, nil
		}
		var w string
		prefix := ""
		if eq := strings.IndexByte(line, '='); eq > 0 && strings.IndexAny(line[:eq], " \t\"`") < 0 { // parameter="value"
			prefix, line = line[:eq+1], line[eq+1:]
		}
		if line != "" && (line[0] == '"' || line[0] == '`') {
			quoted, err := strconv.QuotedPrefix(line)
			if err != nil {
				return nil, errors.New("a string does not end, or has an escape that is none")
			}
			w, _ = strconv.Unquote(quoted)
			line = line[len(quoted):]
			if rest, ok := strings.CutPrefix(line, "*"); ok {
				digits := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
				n, err := strconv.Atoi(digits)
				if err != nil {
					return nil, errors.New("a string is repeated without a number")
				}
				w, line = strings.Repeat(w, n), rest[len(digits):]
			}
		} else {
			w, line, _ = strings.Cut(line, " ")
			if w == "NULL" {
				w = null
			}
		}
		words = append(words, prefix+w)
	}
}

// null stands for the bare word NULL.
const null = "\x00NULL"

var verbs = []string{"connect", "send", "until", "cancel", "close"}

func (s *Script) line(number int, words []string) error {
	st := step{line: number, verb: words[0], conn: Main, count: 1}
	args := words[1:]
	switch {
	case st.verb == "codes" && len(args) == 0:
		s.Codes = true
		return nil
	case st.verb == "places" && len(args) == 0:
		s.Places = true
		return nil
	case st.verb == "from" && len(args) == 1:
		var err error
		s.From, err = strconv.Atoi(args[0])
		return err
	case !slices.Contains(verbs, st.verb):
		return fmt.Errorf("no step %q", st.verb)
	}
	named := len(args) > 0 && (st.verb != "until" || len(args) > 1 && !isNumber(args[1]))
	if named {
		st.conn, args = args[0], args[1:]
	}
	switch st.verb {
	case "connect":
		st.parameters = map[string]string{}
		for _, a := range args {
			k, v, ok := strings.Cut(a, "=")
			if !ok {
				return fmt.Errorf("%q is no parameter=value", a)
			}
			st.parameters[k] = v
		}
		args = nil
	case "until":
		if len(args) == 0 {
			return errors.New("until what?")
		}
		if st.kind, args = args[0], args[1:]; !known(st.kind) {
			return fmt.Errorf("no message is called %q", st.kind)
		}
		if len(args) > 0 && isNumber(args[0]) {
			st.count, _ = strconv.Atoi(args[0])
			args = args[1:]
		}
	}
	if len(args) > 0 {
		return fmt.Errorf("%q is one word too many", args[0])
	}
	s.steps = append(s.steps, st)
	return nil
}

func isNumber(s string) bool {
	_, err := strconv.Atoi(s)
	return err == nil
}

func known(kind string) bool {
	for _, name := range names {
		if name == kind {
			return true
		}
	}
	return kind == end
}

// message appends a message to the send above it.
func (s *Script) message(words []string) error {
	if len(s.steps) == 0 || s.steps[len(s.steps)-1].verb != "send" {
		return errors.New("a message stands under no send")
	}
	b, err := message(words[0], words[1:])
	if err != nil {
		return fmt.Errorf("%s: %w", words[0], err)
	}
	st := &s.steps[len(s.steps)-1]
	st.bytes = append(st.bytes, b...)
	return nil
}

func encode(kind byte, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4)), body...)
}

func cstring(s string) []byte { return append([]byte(s), 0) }

// simple messages have one field.
var simple = map[string]struct {
	kind byte
	body func(string) []byte
}{
	"Query": {'Q', cstring}, "CopyData": {'d', func(s string) []byte { return []byte(s) }}, "CopyFail": {'f', cstring},
}

// bare messages have none.
var bare = map[string]byte{"Sync": 'S', "Flush": 'H', "CopyDone": 'c', "Terminate": 'X'}

func message(name string, args []string) ([]byte, error) {
	if kind, ok := bare[name]; ok && len(args) == 0 {
		return encode(kind, nil), nil
	}
	if m, ok := simple[name]; ok && len(args) == 1 {
		return encode(m.kind, m.body(args[0])), nil
	}
	switch {
	case name == "Parse" && len(args) >= 2:
		oids, err := numbers(args[2:])
		if err != nil {
			return nil, err
		}
		body := binary.BigEndian.AppendUint16(append(cstring(args[0]), cstring(args[1])...), uint16(len(oids)))
		for _, oid := range oids {
			body = binary.BigEndian.AppendUint32(body, uint32(oid))
		}
		return encode('P', body), nil
	case name == "Bind" && len(args) >= 2:
		values, results, err := values(args[2:])
		return encode('B', append(append(append(cstring(args[0]), cstring(args[1])...), values...), counted(results)...)), err
	case (name == "Describe" || name == "Close") && len(args) == 2 && len(args[0]) == 1:
		return encode(name[0], append([]byte(args[0]), cstring(args[1])...)), nil
	case name == "Execute" && (len(args) == 1 || len(args) == 2):
		rows, err := numbers(args[1:])
		return encode('E', binary.BigEndian.AppendUint32(cstring(args[0]), uint32(append(rows, 0)[0]))), err
	case name == "FunctionCall" && len(args) >= 1:
		oid, err := numbers(args[:1])
		if err != nil {
			return nil, err
		}
		values, results, err := values(args[1:])
		body := append(binary.BigEndian.AppendUint32(nil, uint32(oid[0])), values...)
		return encode('F', append(body, append(results, 0, 0)[:2]...)), err // the format of its result is a number, not a list
	case name == "Message" && len(args) == 2 && len(args[0]) == 1:
		return encode(args[0][0], []byte(args[1])), nil
	case name == "Bytes" && len(args) == 1:
		return []byte(args[0]), nil
	}
	return nil, errors.New("no such message, or not its fields")
}

func numbers(words []string) ([]int, error) {
	out := make([]int, len(words))
	for i, w := range words {
		n, err := strconv.Atoi(w)
		if err != nil {
			return nil, fmt.Errorf("%q is no number", w)
		}
		out[i] = n
	}
	return out, nil
}

// counted puts the number of 2-byte codes before them.
func counted(codes []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(codes)/2)), codes...)
}

// values writes what Bind and FunctionCall share, formats and values, and gives the formats of the results.
func values(args []string) (out, results []byte, err error) {
	var formats []byte
	var rest []string
	for _, a := range args {
		if list, ok := strings.CutPrefix(a, "formats="); ok {
			formats, err = codes(list)
		} else if list, ok := strings.CutPrefix(a, "results="); ok {
			results, err = codes(list)
		} else {
			rest = append(rest, a)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	out = binary.BigEndian.AppendUint16(counted(formats), uint16(len(rest)))
	for _, v := range rest {
		if v == null {
			out = binary.BigEndian.AppendUint32(out, 1<<32-1)
			continue
		}
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(v))), v...)
	}
	return out, results, nil
}

func codes(list string) (out []byte, err error) {
	if list == "" {
		return nil, nil
	}
	n, err := numbers(strings.Split(list, ","))
	for _, c := range n {
		out = binary.BigEndian.AppendUint16(out, uint16(c))
	}
	return out, err
}
