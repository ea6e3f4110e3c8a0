package pgwire

import (
	"fmt"
	"strings"

	"pgveil/engine"
	"pgveil/sql"
)

// shown says what becomes of a result's columns on their way to the client. It belongs to the downstream direction.
type shown struct {
	columns []shownColumn // one a result column; empty: nothing is done
	intent  *intent
	clear   int // columns shown in the clear
	masked  int
	plain   []byte // scratch
}

// shownColumn is one column; without a transform it is relayed.
type shownColumn struct {
	transform *engine.Transform
	view      sql.View
	name      string // schema.table.column
}

// Type OIDs that a protected column can have; their binary form is their text form.
const (
	oidText    = 25
	oidVarchar = 1043
)

// describe reads a RowDescription and decides for each column, by where it comes from or by the name that a plan gave it. It gives nil where
// nothing is to be done, and the message's body as the client shall see it.
func (x *session) describe(v *view, plan *sql.Plan, body []byte) (*shown, []byte, error) {
	if v == nil || len(v.origins) == 0 && plan == nil {
		return nil, body, nil
	}
	c := cursor{b: body}
	n := c.count()
	s := &shown{columns: make([]shownColumn, n)}
	access := x.access(v)
	var renamed []byte
	for i := range s.columns {
		start := len(body) - len(c.b)
		name := string(c.string())
		rest := len(body) - len(c.b)
		table, attnum := uint32(c.int32()), int16(c.int16())
		typ := uint32(c.int32())
		c.take(8) // length, modifier, format
		if c.bad {
			return nil, nil, errMalformed
		}
		var err error
		if out := output(plan, name); out != nil {
			if renamed == nil {
				renamed = append(renamed, body[:start]...)
			}
			renamed = appendString(renamed, out.Name)
			err = s.show(i, out.Policy, "("+out.Name+")", typ, v, access, true)
		} else {
			if renamed != nil {
				renamed = append(renamed, body[start:rest]...)
			}
			if strings.HasPrefix(name, sql.MarkerPrefix) {
				return nil, nil, &failure{code: "0A000", message: "a result of detokenize comes from another statement than the one that was bound", hint: "Bind the statement again."}
			}
			if col := v.origins[origin{table, attnum}]; col != nil {
				err = s.show(i, col.Policy.Name, col.Schema+"."+col.Table+"."+col.Name, typ, v, access, false)
			}
		}
		if err != nil {
			return nil, nil, err
		}
		if renamed != nil {
			renamed = append(renamed, body[rest:len(body)-len(c.b)]...)
		}
	}
	if !c.done() {
		return nil, nil, errMalformed
	}
	if renamed != nil {
		body = renamed
	}
	if s.clear+s.masked == 0 {
		return nil, body, nil
	}
	return s, body, nil
}

func output(plan *sql.Plan, name string) *sql.Output {
	if plan == nil {
		return nil
	}
	for i := range plan.Outputs {
		if plan.Outputs[i].Marker == name {
			return &plan.Outputs[i]
		}
	}
	return nil
}

// show sets up column i. asked says that the statement called detokenize, so that a token is not what the role expects.
func (s *shown) show(i int, policy, name string, typ uint32, v *view, access func(string) (sql.Access, bool), asked bool) error {
	a, ok := access(policy)
	if !ok {
		return &failure{code: "0A000", message: fmt.Sprintf("column %q is protected by policy %q, which cannot be used", name, policy), hint: "`pgveil doctor` shows what is wrong with it."}
	}
	if asked && !a.Reveal {
		return &failure{code: "42501", message: fmt.Sprintf("permission denied to reveal with policy %q", policy)}
	}
	if a.View == sql.Token {
		return nil
	}
	if typ != oidText && typ != oidVarchar {
		return &failure{code: "0A000", message: fmt.Sprintf("column %q is protected but is not of type text or varchar any more", name), hint: "`pgveil doctor` shows what is wrong with it."}
	}
	s.columns[i] = shownColumn{v.snap.Policy(policy).Transform, a.View, name}
	if a.View == sql.Clear {
		s.clear++
	} else {
		s.masked++
	}
	return nil
}

// oneWayMask is shown for tokens that nothing can turn back.
const oneWayMask = "********"

// row gives a DataRow's body with values and masks in the place of tokens, appended to dst.
func (s *shown) row(dst, body []byte) ([]byte, error) {
	c := cursor{b: body}
	n := c.count()
	if n != len(s.columns) {
		return nil, errMalformed
	}
	dst = appendInt16(dst, n)
	for i := range s.columns {
		v, null := c.value()
		if c.bad {
			return nil, errMalformed
		}
		if null {
			dst = appendInt32(dst, -1)
			continue
		}
		col := &s.columns[i]
		if col.transform == nil {
			dst = append(appendInt32(dst, len(v)), v...)
			continue
		}
		if col.view != sql.Clear && col.transform.MaskIsNull() {
			dst = appendInt32(dst, -1) // NULL, not the empty string; nothing needs deciphering for it
			continue
		}
		if col.transform.Policy().Method() == engine.OneWay {
			dst = append(appendInt32(dst, len(oneWayMask)), oneWayMask...)
			continue
		}
		at := len(dst)
		dst = appendInt32(dst, 0)
		var err error
		if s.plain, err = col.transform.AppendPlain(s.plain[:0], v); err != nil {
			return nil, fmt.Errorf("column %q: %w", col.name, err)
		}
		if col.view == sql.Clear {
			dst = append(dst, s.plain...)
		} else {
			dst = col.transform.AppendMask(dst, s.plain)
		}
		appendInt32(dst[at:at], len(dst)-at-4)
	}
	if !c.done() {
		return nil, errMalformed
	}
	return dst, nil
}
