package sql

import (
	"strings"
	"unicode/utf8"
)

// Fill gives the text that stands in the place of a value: a literal with its quotes, NULL, or $n.
type Fill func(*Value) (string, error)

// Edited is a text after its edits, with what is needed to map positions back.
type Edited struct {
	Text  string
	marks []mark // in ascending order of after
}

// mark: from byte after of the edited text on, original = edited - after + before.
type mark struct{ before, after int }

// Apply carries out the plan's edits on the text that was analyzed.
func (p *Plan) Apply(text string, fill Fill) (Edited, error) {
	var b strings.Builder
	b.Grow(len(text) + 64*len(p.Edits))
	out := Edited{}
	done := 0
	for _, e := range p.Edits {
		b.WriteString(text[done:e.Start])
		out.marks = append(out.marks, mark{e.Start, -b.Len() - 1}) // the replaced stretch maps to its start
		b.WriteString(e.Before)
		if e.Value != nil {
			s, err := fill(e.Value)
			if err != nil {
				return Edited{}, err
			}
			b.WriteString(s)
		}
		b.WriteString(e.After)
		out.marks = append(out.marks, mark{e.End, b.Len()})
		done = e.End
	}
	b.WriteString(text[done:])
	out.Text = b.String()
	return out, nil
}

// Position maps a 1-based character position of the edited text to the original text.
func (e Edited) Position(original string, position int) int {
	if len(e.marks) == 0 || position < 1 {
		return position
	}
	offset := 0 // of the character in the edited text
	for i := 1; i < position && offset < len(e.Text); i++ {
		_, n := utf8.DecodeRuneInString(e.Text[offset:])
		offset += n
	}
	before, base := 0, 0
	inside := false
	for _, m := range e.marks {
		at := m.after
		if at < 0 {
			at = -at - 1
		}
		if at > offset {
			break
		}
		before, base, inside = m.before, at, m.after < 0
	}
	mapped := before + offset - base
	if inside {
		mapped = before
	}
	if mapped > len(original) {
		mapped = len(original)
	}
	return utf8.RuneCountInString(original[:mapped]) + 1
}

// QuoteLiteral writes s as a string constant for standard_conforming_strings = on.
func QuoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
