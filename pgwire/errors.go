package pgwire

import (
	"errors"
	"strconv"

	"pgveil/catalog"
	"pgveil/engine"
	"pgveil/sql"
)

// failure is an error as a client sees it: the fields of an ErrorResponse.
type failure struct {
	severity string // "" means ERROR
	code     string // SQLSTATE
	message  string
	hint     string
	position int    // 1-based, in characters; 0: none
	raw      []byte // of the server: passed on as it came
	cause    string // for the log alone
}

func (f *failure) Error() string { return f.message }

// sqlstate is the code, also of an error of the server's.
func (f *failure) sqlstate() string {
	if f.raw != nil {
		return (&serverError{f.raw}).field('C')
	}
	return f.code
}

// routine marks an error as ours in the field R.
const routine = "pgveil"

// response is the body of an ErrorResponse.
func (f *failure) response() []byte {
	if f.raw != nil {
		return f.raw
	}
	severity := f.severity
	if severity == "" {
		severity = "ERROR"
	}
	var b []byte
	field := func(kind byte, text string) {
		if text != "" {
			b = appendString(append(b, kind), text)
		}
	}
	field('S', severity)
	field('V', severity)
	field('C', f.code)
	field('M', f.message)
	field('H', f.hint)
	if f.position > 0 {
		field('P', strconv.Itoa(f.position))
	}
	field('R', routine)
	return append(b, 0)
}

// fatal gives the same error as one that ends the connection.
func (f *failure) fatal() *failure {
	g := *f
	g.severity = "FATAL"
	return &g
}

// failureOf turns any error of ours into what a client sees: the one place where that is decided. An error that it does not know becomes an
// internal one without its text, because the text may hold what must not be shown.
func failureOf(err error) *failure {
	var (
		f  *failure
		r  *sql.Refusal
		fe *engine.FormatError
		te *engine.TokenError
		tl *tooLarge
		se *serverError
	)
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &se):
		return &failure{raw: se.body}
	case errors.As(err, &r):
		return &failure{code: r.SQLState, message: r.Message, hint: r.Hint, position: r.Position}
	case errors.As(err, &fe):
		return &failure{code: "22P02", message: fe.Error(), hint: "Correct the value; `pgveil policy show " + fe.Policy + "` describes the format."}
	case errors.As(err, &te):
		return &failure{code: "22P02", message: te.Error(), hint: "Only a token that policy " + strconv.Quote(te.Policy) + " has made can be detokenized; `pgveil key list` shows its key versions."}
	case errors.Is(err, catalog.ErrStale):
		return &failure{code: "57P03", message: "protected columns cannot be used now: the control plane has not answered for too long",
			hint: "Check the control-plane database; `pgveil doctor` shows what is wrong. Statements that name nothing protected still work."}
	case errors.As(err, &tl):
		return &failure{code: "54000", message: "the message is too large to be checked for protected columns", hint: "Send the value in smaller parts."}
	case errors.Is(err, errMalformed):
		return &failure{code: "08P01", message: "malformed message"}
	}
	return &failure{code: "XX000", message: "the front-end could not process the statement", hint: "The front-end's log has the details."}
}

var errAudit = &failure{code: "58030", message: "protected values cannot be shown: the audit log cannot be written",
	hint: "Check the control-plane database; `pgveil doctor` shows what is wrong."}

var errEncoding = &failure{code: "0A000", message: "protected columns need client_encoding UTF8 and standard_conforming_strings on",
	hint: "SET client_encoding TO 'UTF8'; SET standard_conforming_strings TO on."}

// errorFields reads an ErrorResponse or NoticeResponse and calls f with each field.
func errorFields(body []byte, f func(kind byte, text []byte)) bool {
	c := cursor{b: body}
	for {
		kind := c.byte()
		if c.bad {
			return false
		}
		if kind == 0 {
			return c.done()
		}
		text := c.string()
		if c.bad {
			return false
		}
		f(kind, text)
	}
}
