package engine

import "strconv"

// Sureness says how far Transform.Is, Transform.Version and Guard can be relied on.
type Sureness string

// The degrees of sureness.
const (
	Certain Sureness = "certain" // every token and no value has the structure; that a token is genuine only aes-siv knows
	Partly  Sureness = "partly"  // of json: as its paths are, and nothing can be told of a document without a value at any of them
	Unknown Sureness = "unknown" // of exact policies: a token looks as a value does
)

// Description is what a policy comes to, for a person to judge it by.
type Description struct {
	Method   Method
	Values   string  // how many values of the shortest length are possible, in decimal; "" without a bound
	Versions int     // key versions that can be kept at once
	Calls    float64 // of FF1 for a value on average: 1, or a little more where cycle walking is needed; 0 for other methods
	Sure     Sureness
	Guard    string // over a column c; "true" where there is none
	Warnings []string
}

// Describe returns what the policy comes to, or what Check says of it.
func (p Policy) Describe() (Description, error) {
	r, err := p.resolve()
	if err != nil {
		return Description{}, err
	}
	d := Description{
		Method: p.Method(), Versions: r.versions, Calls: r.calls, Sure: r.sure,
		Guard: r.guard("c"), Warnings: p.warnings(r),
	}
	if r.values != nil {
		d.Values = r.values.String()
	}
	return d, nil
}

// Warnings returns what a person should know before using the policy: what its tokens tell, and where it is weaker
// than it could be. A policy that Check refuses has none.
func (p Policy) Warnings() []string {
	r, err := p.resolve()
	if err != nil {
		return nil
	}
	return p.warnings(r)
}

func (p Policy) warnings(r resolved) []string {
	w := append([]string(nil), r.warnings...)
	if r.versions < 3 && !p.Options.Exact {
		w = append(w, "there is room for "+plural(r.versions, "key version")+" at once: a rotation needs the older ones destroyed")
	}
	return append(w, "equal values have equal tokens: whoever sees the column sees which rows are equal, and how often")
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}
