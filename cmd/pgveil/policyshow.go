package main

import (
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"pgveil/catalog"
	"pgveil/engine"
)

// What a policy comes to, for policy create --dry-run, show and test, and for doctor.

// floor is the number of possible values below which a policy has to be accepted as a small domain.
const floor = 1_000_000

// optionsCell is a JSON object in JSON and its text in a table.
type optionsCell struct{ engine.Options }

func (o optionsCell) String() string {
	text, err := plainJSON(o.Options)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (o optionsCell) MarshalJSON() ([]byte, error) { return plainJSON(o.Options) }

// listCell is a list in JSON and a line for each in a table.
type listCell []string

func (l listCell) String() string {
	if len(l) == 0 {
		return "-"
	}
	return strings.Join(l, "\n")
}

// textCell is text that somebody wrote: as it is in JSON, in a table quoted where it could spoil the table or the terminal.
type textCell string

func (t textCell) String() string {
	if t == "" || strings.ContainsFunc(string(t), func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(string(t))
	}
	return string(t)
}

// nullCell is SQL's NULL.
type nullCell struct{}

func (nullCell) String() string               { return "NULL" }
func (nullCell) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// policyTable is a table of one row: what a policy comes to, and with info how it stands in the catalog.
func policyTable(p engine.Policy, info *catalog.PolicyInfo) (*table, error) {
	t := newTable("name", "format")
	row := []any{p.Name, p.Format}
	add := func(name string, value any) { t.columns, row = append(t.columns, name), append(row, value) }
	if info == nil || info.Usable {
		d, err := p.Describe()
		if err != nil {
			return nil, refused(err)
		}
		add("method", d.Method)
		add("options", optionsCell{p.Options})
		add("mask", maskOf(p))
		add("possible_values", possible(d))
		add("accept_small_domain", accepts(p))
		add("versions_at_once", d.Versions)
		add("ff1_calls", calls(d))
		add("sure", sureness(d.Sure))
		add("guard", d.Guard)
		add("warnings", listCell(d.Warnings))
	}
	if info != nil {
		add("active_version", info.Active)
		add("column_version", info.ColumnVersion)
		add("usable", info.Usable)
		add("created", info.Created)
	}
	t.add(row...)
	return t, nil
}

// maskOf is the name of the policy's mask.
func maskOf(p engine.Policy) string {
	if p.Options.Mask != "" {
		return p.Options.Mask
	}
	formats := engine.Formats()
	if i := slices.IndexFunc(formats, func(f engine.FormatInfo) bool { return f.Name == p.Format }); i >= 0 {
		return formats[i].Mask
	}
	return ""
}

// possible is how many values of the shortest length there are; nil where there is no bound.
func possible(d engine.Description) any {
	if d.Values == "" {
		return nil
	}
	return d.Values
}

// calls is how many calls of FF1 a value takes on average, to a thousandth.
func calls(d engine.Description) float64 { return math.Round(d.Calls*1000) / 1000 }

// sureness is explained in a table, and one word in JSON.
type sureness engine.Sureness

func (s sureness) String() string {
	return string(s) + ": " + map[engine.Sureness]string{
		engine.Certain: "every token and no value has the mark that says it is a token",
		engine.Partly:  "as the paths are; nothing can be told of a document without a value at any of them",
		engine.Unknown: "a token looks as a value does",
	}[engine.Sureness(s)]
}

// accepts says whether a small domain was accepted, for the policy or for a path of it.
func accepts(p engine.Policy) bool {
	return p.AcceptSmallDomain || slices.ContainsFunc(p.Options.Paths, func(path engine.Path) bool { return path.AcceptSmallDomain })
}

// smallDomains names the small domains of a policy with the number of their possible values: its own or, of a
// document, those at its paths.
func smallDomains(p engine.Policy) (small []string) {
	say := func(p engine.Policy, where string) {
		d, err := p.Describe()
		if err != nil || d.Values == "" {
			return
		}
		if n, ok := new(big.Int).SetString(d.Values, 10); ok && n.Cmp(big.NewInt(floor)) < 0 {
			small = append(small, d.Values+" possible values"+where)
		}
	}
	say(p, "")
	for i, path := range p.Options.Paths {
		say(engine.Policy{Format: path.Format, Options: path.Options, AcceptSmallDomain: true}, " at path "+strconv.Itoa(i+1))
	}
	return small
}

// warnOf tells what a person should know before using the policy.
func (u *ui) warnOf(p engine.Policy) {
	for _, w := range p.Warnings() {
		u.warn("%s", w)
	}
}
