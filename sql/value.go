package sql

import (
	"fmt"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// isOurs tells whether f is tokenize or detokenize of the front-end: without a schema, or in schema pgveil.
func isOurs(f *pg.FuncCall) bool {
	p := path(f.Funcname)
	name := p[len(p)-1]
	return (name == tokenizeName || name == detokenizeName) && (len(p) == 1 || len(p) == 2 && p[0] == "pgveil")
}

// arguments checks a call of ours and gives its policy and the node of its value.
func (a *analysis) arguments(f *pg.FuncCall) (policy string, access Access, value *pg.Node, err error) {
	name := last(f.Funcname)
	if len(f.Args) != 2 || f.AggStar || f.AggDistinct || f.FuncVariadic || f.Over != nil || f.AggFilter != nil || len(f.AggOrder) > 0 {
		return "", Access{}, nil, refuseAt(f.Location, refuse(fmt.Sprintf("Call %s('policy', value).", name), "%s takes a policy and a value", name))
	}
	lit, ok := stringConstant(f.Args[0])
	if !ok {
		return "", Access{}, nil, refuseAt(f.Location, refuse("Write the policy's name as a string constant.", "the policy of %s must be a string constant", name))
	}
	access, known := a.Access(lit)
	if !known {
		return "", Access{}, nil, refuseAt(f.Location, &Refusal{SQLState: undefinedObject, Message: fmt.Sprintf("policy %q does not exist or cannot be used", lit),
			Hint: "`pgveil policy list` shows the policies."})
	}
	switch {
	case name == tokenizeName && !access.Tokenize:
		return "", Access{}, nil, refuseAt(f.Location, denied("tokenize", lit))
	case name == detokenizeName && !access.Reveal:
		return "", Access{}, nil, refuseAt(f.Location, denied("reveal", lit))
	}
	a.touched = true
	return lit, access, f.Args[1], nil
}

func denied(action, policy string) *Refusal {
	return &Refusal{SQLState: insufficientPrivilege, Message: fmt.Sprintf("permission denied to %s with policy %q", action, policy),
		Hint: fmt.Sprintf("An administrator can grant it: pgveil role grant ROLE %s %s", action, policy)}
}

func stringConstant(n *pg.Node) (string, bool) {
	if tc := n.GetTypeCast(); tc != nil && textType(tc.TypeName) {
		n = tc.Arg
	}
	if c := n.GetAConst(); c != nil && c.GetSval() != nil {
		return c.GetSval().Sval, true
	}
	return "", false
}

// textType tells whether t is text or varchar without a length, to which a cast changes no string.
func textType(t *pg.TypeName) bool {
	if len(t.Typmods) > 0 || len(t.ArrayBounds) > 0 || t.Setof || t.PctType {
		return false
	}
	p := path(t.Names)
	if len(p) == 2 && p[0] != "pg_catalog" || len(p) > 2 || len(p) == 0 {
		return false
	}
	switch p[len(p)-1] {
	case "text", "varchar":
		return true
	}
	return false
}

// value reads a constant, a parameter, a cast of one to text, or a call of ours over one. It gives nil for anything else.
func (a *analysis) value(n *pg.Node) (*Value, error) {
	switch e := n.GetNode().(type) {
	case *pg.Node_AConst:
		c := e.AConst
		if c.Isnull {
			return &Value{Null: true, start: int(c.Location)}, nil
		}
		if c.GetSval() == nil {
			return nil, nil
		}
		return &Value{Text: c.GetSval().Sval, start: int(c.Location)}, nil
	case *pg.Node_ParamRef:
		if e.ParamRef.Number < 1 {
			return nil, refuseAt(e.ParamRef.Location, &Refusal{SQLState: undefinedParameter, Message: "there is no parameter $0"})
		}
		return &Value{Param: int(e.ParamRef.Number), start: int(e.ParamRef.Location)}, nil
	case *pg.Node_TypeCast:
		if textType(e.TypeCast.TypeName) {
			return a.value(e.TypeCast.Arg)
		}
	case *pg.Node_FuncCall:
		if !isOurs(e.FuncCall) {
			return nil, nil
		}
		policy, _, arg, err := a.arguments(e.FuncCall)
		if err != nil {
			return nil, err
		}
		v, err := a.value(arg)
		if err != nil || v == nil {
			return nil, err
		}
		step := Step{Op: Tokenize, Policy: policy}
		if last(e.FuncCall.Funcname) == detokenizeName {
			step.Op = Detokenize
		}
		v.Steps = append(v.Steps, step)
		return v, nil
	}
	return nil, nil
}

// intoColumn makes v, which stands at n, the token that c holds for it.
func (a *analysis) intoColumn(n *pg.Node, v *Value, c column) error {
	a.touched = true
	if v.Null && len(v.Steps) == 0 {
		return nil
	}
	access, ok := a.Access(c.policy)
	if !ok || !access.Tokenize {
		return refuseAt(int32(v.start), denied("tokenize", c.policy))
	}
	if k := len(v.Steps); k > 0 && v.Steps[k-1].Op == Tokenize {
		if v.Steps[k-1].Policy != c.policy {
			return refuseAt(int32(v.start), refuse(fmt.Sprintf("Use tokenize('%s', …), or the value itself.", c.policy),
				"column %q is protected by policy %q, not by %q", c, c.policy, v.Steps[k-1].Policy))
		}
		v.Steps[k-1].Op = TokenizeForColumn
	} else {
		v.Steps = append(v.Steps, Step{Op: TokenizeForColumn, Policy: c.policy})
	}
	return a.replace(n, v, "", "")
}

// replace puts the outcome of v in the place of n. A bare parameter needs no edit.
func (a *analysis) replace(n *pg.Node, v *Value, cast, alias string) error {
	if v.Param > 0 {
		if err := a.parameter(v); err != nil {
			return err
		}
		if n.GetFuncCall() == nil {
			return nil // $1 or $1::text stays
		}
	}
	start, end, err := a.span(n)
	if err != nil {
		return err
	}
	if n.GetFuncCall() == nil { // a constant, or a cast of one: the literal alone is replaced
		start, end, err = a.literal(v)
		if err != nil {
			return err
		}
	}
	e := Edit{Start: start, End: end, Value: v, After: cast + alias}
	a.plan.Edits = append(a.plan.Edits, e)
	return nil
}

// parameter records what becomes of a parameter; it must be the same wherever the parameter stands.
func (a *analysis) parameter(v *Value) error {
	old, ok := a.plan.Params[v.Param]
	if ok && !equalSteps(old, v.Steps) {
		return refuseAt(int32(v.start), refuse("Use two parameters.", "parameter $%d is tokenized in two different ways", v.Param))
	}
	a.plan.Params[v.Param] = v.Steps
	return nil
}

func equalSteps(a, b []Step) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// literal is the span of v's string constant in the text.
func (a *analysis) literal(v *Value) (start, end int, err error) {
	t, ok := a.tokenAt(v.start)
	if !ok || a.tokens[t].kind != literal {
		return 0, 0, refuse("Write the constant as a plain string.", "a constant could not be found again in the statement's text")
	}
	start, end = a.tokens[t].start, a.tokens[t].end
	if c := a.Text[start]; (c == 'U' || c == 'u') && t+2 < len(a.tokens) && a.tokens[t+2].kind == literal &&
		strings.EqualFold(a.Text[a.tokens[t+1].start:a.tokens[t+1].end], "uescape") {
		end = a.tokens[t+2].end
	}
	return start, end, nil
}

// span is a function call's extent in the text: from its name to the closing bracket.
func (a *analysis) span(n *pg.Node) (start, end int, err error) {
	f := n.GetFuncCall()
	if f == nil {
		return 0, 0, nil
	}
	lost := refuse("Write the call as tokenize('policy', value).", "a call could not be found again in the statement's text")
	i, ok := a.tokenAt(int(f.Location))
	if !ok {
		return 0, 0, lost
	}
	start = a.tokens[i].start
	depth := 0
	for ; i < len(a.tokens); i++ {
		t := a.tokens[i]
		if t.kind != symbol {
			continue
		}
		switch a.Text[t.start] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return start, t.end, nil
			}
		}
	}
	return 0, 0, lost
}

// tokenAt finds the token that starts at a byte offset.
func (a *analysis) tokenAt(offset int) (int, bool) {
	lo, hi := 0, len(a.tokens)
	for lo < hi {
		mid := (lo + hi) / 2
		if a.tokens[mid].start < offset {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(a.tokens) && a.tokens[lo].start == offset
}

const textCast = "::pg_catalog.text"

// nestedCall handles tokenize and detokenize inside an expression: their value must be known before the statement runs, and the
// outcome must be a token, because the backing database sees it.
func (a *analysis) nestedCall(f *pg.FuncCall) error {
	n := &pg.Node{Node: &pg.Node_FuncCall{FuncCall: f}}
	v, err := a.value(n)
	if err != nil {
		return err
	}
	name := last(f.Funcname)
	switch {
	case v == nil && name == tokenizeName:
		return refuseAt(f.Location, refuse("Give it a constant or a parameter.", "tokenize over a column or an expression is not supported yet"))
	case v == nil || name == detokenizeName:
		return refuseAt(f.Location, refuse("Use detokenize alone in the target list of the outermost query, and work on its result in the application.",
			"detokenize inside an expression would show clear values to the backing database, which is not supported yet"))
	}
	return a.replace(n, v, textCast, "")
}

// targetCall handles tokenize and detokenize as an item of a target list.
func (a *analysis) targetCall(t *pg.ResTarget, f *pg.FuncCall, sc *scope, to destination) (column, error) {
	name := last(f.Funcname)
	shown := name
	if t.Name != "" {
		shown = t.Name
	}
	out := column{name: shown}
	if name == tokenizeName {
		n := t.Val
		v, err := a.value(n)
		if err != nil {
			return out, err
		}
		if v == nil {
			return out, refuseAt(f.Location, refuse("Give it a constant or a parameter.", "tokenize over a column or an expression is not supported yet"))
		}
		alias := ""
		if t.Name == "" {
			alias = " AS " + tokenizeName
		}
		return out, a.replace(n, v, textCast, alias)
	}
	if to != client {
		return out, a.nestedCall(f)
	}
	policy, err := a.detokenized(t, f, sc, shown)
	out.policy, out.marked = policy, true // so that ORDER BY it is refused
	return out, err
}

// detokenized makes a result column that is transformed on its way to the client: the database handles the token.
func (a *analysis) detokenized(t *pg.ResTarget, f *pg.FuncCall, sc *scope, shown string) (policy string, err error) {
	policy, _, arg, err := a.arguments(f)
	if err != nil {
		return "", err
	}
	marker := fmt.Sprintf(MarkerPrefix+"%d", len(a.plan.Outputs)+1)
	start, end, err := a.span(t.Val)
	if err != nil {
		return "", err
	}
	e := Edit{Start: start, End: end}
	read := Read{Column: "(" + detokenizeName + ")", Policy: policy, View: Clear}
	switch ref := arg.GetColumnRef(); {
	case ref != nil:
		c, whole := sc.lookup(ref)
		if whole != nil || ref.Fields[len(ref.Fields)-1].GetAStar() != nil {
			return "", refuseAt(ref.Location, refuse("Name one column.", "detokenize takes one column, not a row"))
		}
		if c.policy != "" && c.policy != policy {
			return "", refuseAt(ref.Location, refuse(fmt.Sprintf("Use detokenize('%s', …).", c.policy), "column %q is protected by policy %q, not by %q", c, c.policy, policy))
		}
		if c.relation != nil {
			read.Schema, read.Table, read.Column = c.relation.Schema, c.relation.Name, c.attr
		}
		e.Before = a.source(ref)
	default:
		v, err := a.value(arg)
		if err != nil {
			return "", err
		}
		if v == nil {
			return "", refuseAt(f.Location, refuse("Give it a column, a constant or a parameter.", "detokenize over an expression is not supported yet"))
		}
		v.Steps = append(v.Steps, Step{Op: CheckToken, Policy: policy})
		if v.Param > 0 {
			if err := a.parameter(v); err != nil {
				return "", err
			}
		}
		e.Value = v
	}
	e.After = textCast
	if t.Name == "" {
		e.After += " AS " + quoteIdentifier(marker)
	} else if err := a.rename(end, marker); err != nil {
		return "", err
	}
	a.plan.Edits = append(a.plan.Edits, e)
	a.plan.Outputs = append(a.plan.Outputs, Output{Marker: marker, Name: shown, Policy: policy})
	a.plan.Reads = append(a.plan.Reads, read)
	return policy, nil
}

// source is a column reference's text.
func (a *analysis) source(ref *pg.ColumnRef) string {
	out := ""
	for i, p := range path(ref.Fields) {
		if i > 0 {
			out += "."
		}
		out += quoteIdentifier(p)
	}
	return out
}

// rename replaces the alias that follows a call ending at end by marker.
func (a *analysis) rename(end int, marker string) error {
	i := 0
	for i < len(a.tokens) && a.tokens[i].start < end {
		i++
	}
	if i < len(a.tokens) && a.tokens[i].kind == word && strings.EqualFold(a.Text[a.tokens[i].start:a.tokens[i].end], "as") {
		i++
	}
	if i >= len(a.tokens) || a.tokens[i].kind != word && a.tokens[i].kind != quoted {
		return refuse("Write the alias after AS.", "the alias of a detokenize call could not be found again in the statement's text")
	}
	a.plan.Edits = append(a.plan.Edits, Edit{Start: a.tokens[i].start, End: a.tokens[i].end, Before: quoteIdentifier(marker)})
	return nil
}
