package engine

import (
	"crypto/sha256"
	"encoding/binary"
	"math/big"
	"math/bits"
	"slices"
	"strconv"
)

// Method is how a format enciphers.
type Method string

// The methods.
const (
	FF1    Method = "ff1"     // format-preserving, NIST SP 800-38G
	AESSIV Method = "aes-siv" // deterministic and authenticated, RFC 5297
	OneWay Method = "one-way" // HMAC-SHA-256 (RFC 2104): nothing turns it back
)

// Policy says how one kind of value is tokenized.
type Policy struct {
	ID      string // UUID in its 36-character lower-case form; immutable: it goes into key derivation
	Name    string // for people; may change
	Format  string // one of Formats
	Options Options

	// AcceptSmallDomain makes a policy whose domain is below 1,000,000 values: whoever may tokenize can enumerate it.
	AcceptSmallDomain bool
}

// Options are the choices within a format. The zero value is the format's defaults. A choice that a format does not
// have is refused, never ignored.
type Options struct {
	Mask      string `json:"mask,omitempty"`       // rendering for the mask action: one of FormatInfo.Masks; "" the format's default
	KeepLast  int    `json:"keep_last,omitempty"`  // trailing characters that stay as they are; 0 the format's default (pan 4, others none), −1 none
	MinLength int    `json:"min_length,omitempty"` // shortest value: digits or symbols with the kept ones (phone: without the country code), text: bytes; 0 the format's default
	MaxLength int    `json:"max_length,omitempty"` // longest value in the same unit; 0 the format's default

	Method    Method `json:"method,omitempty"`     // aes-siv or one-way: the whole value becomes one t<version>_ token, whatever the format's own method; "" the format's own
	Bits      int    `json:"bits,omitempty"`       // one-way: bits of the HMAC that are kept, 64 to 256 in whole bytes; 0 is 256. Warnings states what fewer cost
	KeepFirst int    `json:"keep_first,omitempty"` // leading characters that stay as they are; 0 none
	Exact     bool   `json:"exact,omitempty"`      // tokens look as values do: no mark, no guard, and the key version is whoever stores the token's to know

	Alphabet      string `json:"alphabet,omitempty"`       // alphabet, custom: the symbols, each once, in NFC; their order is part of the layout
	TokenAlphabet string `json:"token_alphabet,omitempty"` // symbols that mark a token's head, none of them in the alphabet; "" chosen by the engine
	Case          string `json:"case,omitempty"`           // alphanumeric: upper, lower or mixed; "" is mixed
	Separators    string `json:"separators,omitempty"`     // custom: characters that pass through between symbols, never before the first
	Short         string `json:"short,omitempty"`          // what becomes of a value below min_length: error or aes-siv; "" is error

	Type      string `json:"type,omitempty"`      // integer: what a token must fit in: int4, int8 or numeric; "" is int8
	Min       string `json:"min,omitempty"`       // integer: smallest value; date, timestamp: first day, YYYY-MM-DD; "" the format's default
	Max       string `json:"max,omitempty"`       // integer: largest value; date, timestamp: last day, YYYY-MM-DD; "" the format's default
	Precision int    `json:"precision,omitempty"` // timestamp: most digits of a fraction of a second, 1 to 6; 0 is 6, −1 none

	Paths []Path `json:"paths,omitempty"` // json: which values inside the document are tokenized, and how
}

// minDomain is the floor of the drafts of SP 800-38G revision 1 (radix^minlen ≥ 1,000,000). Here it is one for every method:
// whoever may tokenize can list the tokens of all values, however they are made.
const minDomain = 1_000_000

// maxVersion is the highest key version: a t<version>_ prefix has at most three digits, and Guard counts on it.
const maxVersion = 999

// Method returns the method the policy's tokens are made by, or "" if the format is unknown.
func (p Policy) Method() Method {
	f := formatOf(p.Format)
	switch {
	case f == nil:
		return ""
	case p.Options.Method != "":
		return p.Options.Method
	}
	return f.info.Method
}

// MaxVersions returns how many key versions can be kept at once. Versions a and b carry the same mark, and so cannot
// both be kept, if they are equal modulo MaxVersions. It is 0 for a policy that Check refuses for its format or layout.
func (p Policy) MaxVersions() int {
	r, err := p.resolve()
	if err != nil {
		return 0
	}
	return r.versions
}

// Check returns a *PolicyError for whatever makes the policy unusable with any key: an unknown format or option, and
// a domain that is too small. It does not ask for a Name; an ID may be missing here, but not in Compile.
func (p Policy) Check() error {
	_, err := p.resolve()
	return err
}

// resolved is a policy's options with every default filled in, and what they come to.
type resolved struct {
	format         *format
	mask           string
	keep, min, max int

	versions int
	values   *big.Int // possible values of the shortest length; nil without a bound
	calls    float64  // of FF1 for a value on average; 0 where another method is used
	sure     Sureness
	layout   []byte // what Digest adds to what every format has
	warnings []string
	guard    func(column string) string
	typed    func(column, sqlType string) string // guard over a column of a type that is not text; "" for types it has none for
	newCode  func(r resolved) code
}

// whole says that the policy's method is not its format's: the value is sealed or hashed as a whole.
func (p Policy) whole() bool { return p.Method() != formatOf(p.Format).info.Method }

func (p Policy) resolve() (resolved, error) {
	r, refused := p.layout()
	if refused != nil {
		refused.Policy = p.Name
		return resolved{}, refused
	}
	return r, nil
}

func refusal(reason, hint string) *PolicyError { return &PolicyError{Reason: reason, Hint: hint} }

func (p Policy) layout() (resolved, *PolicyError) {
	refuse := func(reason, hint string) (resolved, *PolicyError) { return resolved{}, refusal(reason, hint) }
	named := formatOf(p.Format)
	if named == nil {
		return refuse("unknown format "+strconv.Quote(p.Format), "use one of: "+formatNames())
	}
	if p.ID != "" && !isUUID(p.ID) {
		return refuse("the ID is not a UUID in lower case", "use the 36-character form")
	}
	f := named.forOptions(p.Options)
	o := p.Options
	r := resolved{
		format: f, mask: o.Mask, keep: f.keep, min: f.min, max: f.max,
		versions: f.versions, sure: Certain, guard: f.guard, newCode: f.newCode,
	}
	if r.mask == "" {
		r.mask = f.info.Mask
	}
	if !slices.Contains(f.masks, r.mask) && r.mask != maskNull {
		return refuse("format "+p.Format+" has no mask "+strconv.Quote(r.mask), "use one of: "+join(f.masks)+", "+maskNull)
	}
	if refused := p.checkOptions(f); refused != nil {
		return resolved{}, refused
	}
	switch {
	case o.KeepLast < -1 || o.KeepLast > 0 && !f.keeps:
		return refuse("format "+p.Format+" cannot keep the last "+strconv.Itoa(o.KeepLast)+" characters", "leave keep_last out")
	case o.KeepLast == -1:
		r.keep = 0
	case o.KeepLast > 0:
		r.keep = o.KeepLast
	}
	if (o.MinLength != 0 || o.MaxLength != 0) && !f.sized {
		return refuse("format "+p.Format+" has no choice of length", "leave min_length and max_length out")
	}
	if f.floats && o.MinLength == 0 {
		r.min += r.keep + o.KeepFirst // the enciphered part, not the whole, has to reach the floor
	}
	if o.MinLength != 0 {
		r.min = o.MinLength
	}
	if o.MaxLength != 0 {
		r.max = o.MaxLength
	}
	if own := f.min == 0 && o.MinLength == 0 && f.sized; !own && (r.min < f.least || r.min > r.max) || r.max > f.max || r.max < f.least {
		return refuse("lengths "+strconv.Itoa(r.min)+" to "+strconv.Itoa(r.max)+" are not possible",
			"format "+p.Format+" takes "+strconv.Itoa(f.least)+" to "+strconv.Itoa(f.max))
	}
	if f.domain != nil {
		free := r.min - r.keep
		if free < f.leastFree {
			return refuse("keeping "+strconv.Itoa(r.keep)+" of "+strconv.Itoa(r.min)+" digits leaves "+strconv.Itoa(max(free, 0))+
				" to encipher", "keep fewer, so that at least "+strconv.Itoa(f.leastFree)+" are left")
		}
		r.values = new(big.Int).SetUint64(f.domain(free))
		r.calls = 1
	}
	if f.prepare != nil {
		if refused := f.prepare(p, &r); refused != nil {
			return resolved{}, refused
		}
	}
	if p.whole() {
		p.prepareWhole(&r)
	}
	if r.values != nil && r.values.Cmp(big.NewInt(minDomain)) < 0 {
		if !p.AcceptSmallDomain {
			return refuse("the shortest values have only "+r.values.String()+" possibilities, below "+strconv.Itoa(minDomain), f.small())
		}
		r.warn("there are only " + r.values.String() + " possible values of the shortest length: whoever may tokenize can list them all")
	}
	if r.keep+o.KeepFirst > 0 {
		r.warn("the kept characters (first " + strconv.Itoa(o.KeepFirst) + ", last " + strconv.Itoa(r.keep) + ") stand in every token as they are")
	}
	if p.Method() != FF1 || !o.Exact {
		return r, nil
	}
	r.warn("tokens look as values do: no guard can refuse a clear value, a second tokenization is not noticed, and the key version " +
		"has to be known from elsewhere")
	return r, nil
}

func (r *resolved) warn(text string) { r.warnings = append(r.warnings, text) }

// checkOptions refuses options that the format does not have and those that contradict each other.
func (p Policy) checkOptions(f *format) *PolicyError {
	o := p.Options
	for _, c := range []struct {
		name string
		set  bool
	}{
		{"keep_first", o.KeepFirst != 0}, {"exact", o.Exact}, {"alphabet", o.Alphabet != ""}, {"token_alphabet", o.TokenAlphabet != ""},
		{"case", o.Case != ""}, {"separators", o.Separators != ""}, {"short", o.Short != ""}, {"type", o.Type != ""},
		{"min", o.Min != ""}, {"max", o.Max != ""}, {"precision", o.Precision != 0}, {"paths", o.Paths != nil},
	} {
		if c.set && !slices.Contains(f.takes, c.name) {
			return refusal("format "+p.Format+" has no option "+c.name, "leave "+c.name+" out")
		}
	}
	switch m := p.Method(); {
	case m != f.info.Method && m != AESSIV && m != OneWay:
		return refusal("format "+p.Format+" has no method "+strconv.Quote(string(m)), "use "+string(f.info.Method)+", "+string(AESSIV)+" or "+string(OneWay))
	case m != f.info.Method && f.ownMethod:
		return refusal("format "+p.Format+" has no choice of method", "choose the methods of what is in it")
	case o.Bits != 0 && m != OneWay:
		return refusal("bits is of method one-way, and this policy's is "+string(m), "leave bits out")
	case o.Bits != 0 && (o.Bits < minBits || o.Bits > maxBits || o.Bits%8 != 0):
		return refusal("a token of "+strconv.Itoa(o.Bits)+" bits is not possible", "use whole bytes, from "+strconv.Itoa(minBits)+" to "+strconv.Itoa(maxBits)+" bits")
	case m != f.info.Method && (o.Exact || o.TokenAlphabet != "" || o.Short != ""):
		return refusal("exact, token_alphabet and short are of method ff1, and this policy's is "+string(m), "leave them out, or the method")
	case m != f.info.Method && (o.KeepFirst > 0 || o.KeepLast > 0):
		return refusal("method "+string(m)+" keeps no characters", "leave keep_first and keep_last out, or the method")
	case o.Exact && o.TokenAlphabet != "":
		return refusal("exact tokens have no mark, and token_alphabet is for marks", "leave one of them out")
	case o.Exact && o.Short == shortSeal:
		return refusal("exact tokens have no mark, and those of short values would", "leave exact or short out")
	case o.KeepFirst < 0:
		return refusal("format "+p.Format+" cannot keep the first "+strconv.Itoa(o.KeepFirst)+" characters", "leave keep_first out")
	case o.Short != "" && o.Short != shortError && o.Short != shortSeal:
		return refusal("short values cannot be treated by "+strconv.Quote(o.Short), "use "+shortError+" or "+shortSeal)
	}
	return nil
}

// What Options.Short says.
const (
	shortError = "error"
	shortSeal  = "aes-siv"
)

// Digest identifies the layout of the policy's tokens: method, format and the options that shape a token, with
// defaults filled in. Name and Mask are not in it: they change no token. It goes into key derivation, so that two
// layouts never share a key. For a policy that Check refuses it is of the options as they stand.
func (p Policy) Digest() [32]byte {
	keep, shortest, longest, extra := p.Options.KeepLast, p.Options.MinLength, p.Options.MaxLength, []byte(nil)
	if r, err := p.resolve(); err == nil {
		keep, shortest, longest, extra = r.keep, r.min, r.max, r.layout
	}
	b := appendField(nil, "pgveil/1 layout")
	b = appendField(b, string(p.Method()))
	b = appendField(b, p.Format)
	for _, n := range []int{keep, shortest, longest} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return sha256.Sum256(append(b, extra...))
}

// describe adds a part of the layout to what Digest is of.
func (r *resolved) describe(name, value string) {
	r.layout = appendField(appendField(r.layout, name), value)
}

// appendField appends s behind its length, so that no two lists of fields have the same encoding.
func appendField(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

// isUUID accepts RFC 9562's text form in lower case only: the ID is hashed as it stands.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f'):
			return false
		}
	}
	return true
}

// pow10 returns 10^n, or the largest uint64 where that does not fit.
func pow10(n int) uint64 {
	p := uint64(1)
	for range n {
		hi, lo := bits.Mul64(p, 10)
		if hi != 0 {
			return 1<<64 - 1
		}
		p = lo
	}
	return p
}
