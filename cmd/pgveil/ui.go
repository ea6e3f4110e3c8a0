package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/term"

	"pgveil/audit"
	"pgveil/catalog"
	"pgveil/engine"
	"pgveil/internal/secret"
	"pgveil/keyring"
	"pgveil/replication"
)

// How pgveil talks to a person, all of it in this file:
//
//   - What was asked for goes to stdout, as a table or as JSON (-o json); everything else goes to stderr.
//   - An error is one line, `pgveil: error: …`, and where we know what helps a second, `pgveil: hint: …`.
//   - A warning is `pgveil: warning: …`. Progress is plain lines, without colour, good for a log file too.
//   - The exit code says the kind of failure (the constants below).
//   - A password is read from stdin, without echo where that is a terminal; never from an argument.
//   - Values are read from stdin too, and printed where they are what was asked for (detokenize, policy test).
//   - Nothing else here ever prints a value, a token, a key or a password, except dev's env file, which is 0600.

// Exit codes; they are promises.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitConfig      = 3 // configuration invalid
	exitUnreachable = 4 // the backing database cannot be reached
	exitDenied      = 5
)

// A failure is an error with an exit code and a hint.
type failure struct {
	code int
	err  error
	help string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// hint adds what the person can do.
func (f *failure) hint(format string, args ...any) *failure {
	f.help = fmt.Sprintf(format, args...)
	return f
}

func usage(format string, args ...any) *failure {
	return &failure{code: exitUsage, err: fmt.Errorf(format, args...)}
}

func misconfigured(format string, args ...any) *failure {
	return &failure{code: exitConfig, err: fmt.Errorf(format, args...)}
}

func failed(format string, args ...any) *failure {
	return &failure{code: exitFailure, err: fmt.Errorf(format, args...)}
}

type ui struct {
	in       io.Reader
	out, err io.Writer
	json     bool
	began    time.Time
}

func newUI(in io.Reader, out, err io.Writer) *ui {
	return &ui{in: in, out: out, err: err, began: time.Now()}
}

// finish reports err and returns the exit code.
func (u *ui) finish(err error) int {
	if err == nil {
		return exitOK
	}
	code, help := classify(err)
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	fmt.Fprintf(u.err, "pgveil: error: %s\n", oneLine(err.Error()))
	if help != "" {
		fmt.Fprintf(u.err, "pgveil: hint: %s\n", help)
	}
	return code
}

// classify gives an error its exit code and hint.
func classify(err error) (code int, help string) {
	var f *failure
	var pg *pgconn.PgError
	var connect *pgconn.ConnectError
	var control *catalog.Error
	var key *keyring.Error
	var policy *engine.PolicyError
	var refused *replication.Refused
	var log *audit.Error
	switch {
	case errors.As(err, &f):
		return f.code, f.help
	case errors.As(err, &control) && control.Code == catalog.CodePrivilege:
		return exitDenied, control.Hint
	case errors.As(err, &control):
		return exitFailure, control.Hint
	case errors.As(err, &key):
		return exitConfig, key.Hint
	case errors.As(err, &policy):
		return exitFailure, policy.Hint
	case errors.As(err, &refused):
		return exitFailure, refused.Hint
	case errors.As(err, &log):
		return exitFailure, log.Hint
	case errors.As(err, &pg) && (pg.Code == "42501" || strings.HasPrefix(pg.Code, "28")): // no privilege; login refused
		return exitDenied, pg.Hint
	case errors.As(err, &connect) && errors.As(err, &pg) && pg.Code == "3D000": // the server runs; it has no such database
		return exitConfig, "does the connection string name the right database?"
	case errors.As(err, &connect):
		return exitUnreachable, "is PostgreSQL running, and does PGVEIL_DATABASE_URL point at it?"
	case errors.As(err, &pg):
		return exitFailure, pg.Hint
	}
	return exitFailure, ""
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func (u *ui) warn(format string, args ...any) {
	fmt.Fprintf(u.err, "pgveil: warning: %s\n", fmt.Sprintf(format, args...))
}

// say prints a line for the person; in JSON mode it is silent, as stdout belongs to the data.
func (u *ui) say(format string, args ...any) {
	if !u.json {
		fmt.Fprintf(u.out, format+"\n", args...)
	}
}

// step says what is being done now, with the seconds since the start.
func (u *ui) step(format string, args ...any) {
	fmt.Fprintf(u.err, "[%5.1fs] %s\n", time.Since(u.began).Seconds(), fmt.Sprintf(format, args...))
}

// A table is a list of rows under named columns. Column names are lower case with underscores: they are the
// keys of the JSON objects.
type table struct {
	columns []string
	rows    [][]any
	bare    bool // without a heading: what follows what was printed before
}

func newTable(columns ...string) *table { return &table{columns: columns} }

func (t *table) add(values ...any) { t.rows = append(t.rows, values) }

// print writes the table as aligned text, or as a JSON array of objects whose keys keep the columns' order.
func (u *ui) print(t *table) error {
	if u.json {
		return u.printJSON(t)
	}
	w := tabwriter.NewWriter(u.out, 0, 0, 2, ' ', 0)
	var line []string
	for _, c := range t.columns {
		line = append(line, strings.ToUpper(strings.ReplaceAll(c, "_", " ")))
	}
	if !t.bare {
		fmt.Fprintln(w, strings.Join(line, "\t"))
	}
	for _, row := range t.rows {
		line = line[:0]
		for _, v := range row {
			line = append(line, cell(v))
		}
		fmt.Fprintln(w, strings.Join(line, "\t"))
	}
	return w.Flush()
}

// did says that what was asked for is done: a sentence about object on stderr, or in JSON an object {column: object} on stdout.
func (u *ui) did(sentence, column, object string) error {
	if !u.json {
		u.say(sentence, object)
		return nil
	}
	t := newTable(column)
	t.add(object)
	return u.printJSON(t)
}

// printOne writes a table of one row on its side, a line a column; in JSON it is a table like any other.
func (u *ui) printOne(t *table) error {
	if u.json {
		return u.printJSON(t)
	}
	w := tabwriter.NewWriter(u.out, 0, 0, 2, ' ', 0)
	for i, v := range t.rows[0] {
		name := strings.ToUpper(strings.ReplaceAll(t.columns[i], "_", " "))
		for line := range strings.SplitSeq(cell(v), "\n") {
			fmt.Fprintf(w, "%s\t%s\n", name, line)
			name = ""
		}
	}
	return w.Flush()
}

func (u *ui) printJSON(t *table) error {
	var b bytes.Buffer
	b.WriteString("[")
	for i, row := range t.rows {
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString("\n  {")
		for j, v := range row {
			if j > 0 {
				b.WriteString(", ")
			}
			text, err := plainJSON(v)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "%q: %s", t.columns[j], text)
		}
		b.WriteString("}")
	}
	if len(t.rows) > 0 {
		b.WriteString("\n")
	}
	b.WriteString("]\n")
	_, err := u.out.Write(b.Bytes())
	return err
}

// plainJSON is v as JSON for people and programs, not for web pages: <, > and & stay as they are.
func plainJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// cell is a value in a text table.
func cell(v any) string {
	switch v := v.(type) {
	case nil:
		return "-"
	case time.Time:
		if v.IsZero() {
			return "-"
		}
		return v.UTC().Format(time.RFC3339)
	case []string:
		return strings.Join(v, ",")
	case string:
		if v == "" {
			return "-"
		}
		return v
	default:
		return fmt.Sprint(v)
	}
}

// password reads one line from stdin, without echo where it is a terminal.
func (u *ui) password(prompt string) (secret.Bytes, error) {
	if f, ok := u.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprintf(u.err, "%s: ", prompt)
		defer u.asking()()
		b, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(u.err)
		if err != nil {
			return secret.Bytes{}, err
		}
		return secret.New(b), nil
	}
	line, err := bufio.NewReader(u.in).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return secret.Bytes{}, err
	}
	line = bytes.TrimRight(line, "\r\n")
	if len(line) == 0 {
		return secret.Bytes{}, usage("no password on standard input")
	}
	return secret.New(line), nil
}

// asking is called before a terminal is read, and what it returns afterwards. Nothing takes such a read back, so Ctrl-C meanwhile ends the
// process, with the terminal as it was.
func (u *ui) asking() (answered func()) {
	f, ok := u.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return func() {}
	}
	state, _ := term.GetState(int(f.Fd()))
	signals, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-signals:
			if state != nil {
				term.Restore(int(f.Fd()), state)
			}
			fmt.Fprintln(u.err)
			os.Exit(u.finish(context.Canceled))
		case <-done:
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}

// values reads the lines of stdin, of which there may be so many in so many bytes. Where it is a terminal it asks first.
func (u *ui) values(prompt string, maxBytes int64, maxLines int) (lines [][]byte, err error) {
	if u.interactive() {
		fmt.Fprintln(u.err, prompt)
		defer u.asking()()
	}
	text, err := io.ReadAll(io.LimitReader(u.in, maxBytes+1))
	if err != nil {
		return nil, err
	}
	for at := 0; at < len(text); {
		end, next := lineEnd(text, at)
		lines = append(lines, text[at:end])
		at = next
	}
	switch {
	case len(lines) == 0:
		return nil, usage("no values on standard input").hint("give them there, one a line")
	case int64(len(text)) > maxBytes || len(lines) > maxLines:
		return nil, usage("more than %d values or %d bytes on standard input", maxLines, maxBytes).hint("pgveil tokenize takes any number")
	}
	return lines, nil
}

// consent asks a yes-or-no question; where nobody can answer it, the answer is no.
func (u *ui) consent(question string) bool {
	defer u.asking()()
	f, ok := u.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return false
	}
	fmt.Fprintf(u.err, "%s [y/N] ", question)
	answer, _ := bufio.NewReader(u.in).ReadString('\n')
	return strings.EqualFold(strings.TrimSpace(answer), "y") || strings.EqualFold(strings.TrimSpace(answer), "yes")
}

// interactive says whether somebody is there to answer.
func (u *ui) interactive() bool {
	f, ok := u.in.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
