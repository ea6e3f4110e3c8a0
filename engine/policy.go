package engine

import (
	"crypto/sha256"
	"encoding/binary"
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

// Options are the choices within a format. The zero value is the format's defaults.
type Options struct {
	Mask      string `json:"mask,omitempty"`       // rendering for the mask action: last4, first-letter, domain, fixed; "" the format's default
	KeepLast  int    `json:"keep_last,omitempty"`  // trailing digits that stay as they are; 0 the format's default (pan 4, others none), −1 none
	MinLength int    `json:"min_length,omitempty"` // shortest value: digits (phone: without the country code), text: bytes; 0 the format's default
	MaxLength int    `json:"max_length,omitempty"` // longest value in the same unit; 0 the format's default
}

// minDomain is the floor of the drafts of SP 800-38G revision 1 (radix^minlen ≥ 1,000,000).
const minDomain = 1_000_000

// maxVersion is the highest key version: a t<version>_ prefix has at most three digits, and Guard counts on it.
const maxVersion = 999

// Method returns the format's method, or "" if the format is unknown.
func (p Policy) Method() Method {
	f := formatOf(p.Format)
	if f == nil {
		return ""
	}
	return f.info.Method
}

// MaxVersions returns how many key versions can be kept at once. Versions a and b carry the same mark, and so cannot
// both be kept, if they are equal modulo MaxVersions. It is 0 for an unknown format.
func (p Policy) MaxVersions() int {
	f := formatOf(p.Format)
	if f == nil {
		return 0
	}
	return f.versions
}

// Check returns a *PolicyError for whatever makes the policy unusable with any key: an unknown format or option, and
// a domain that is too small. It does not ask for a Name; an ID may be missing here, but not in Compile.
func (p Policy) Check() error {
	_, err := p.resolve()
	return err
}

// resolved is a policy's options with every default filled in.
type resolved struct {
	format         *format
	mask           string
	keep, min, max int
}

func (p Policy) resolve() (resolved, error) {
	refuse := func(reason, hint string) (resolved, error) {
		return resolved{}, &PolicyError{Policy: p.Name, Reason: reason, Hint: hint}
	}
	f := formatOf(p.Format)
	if f == nil {
		return refuse("unknown format "+strconv.Quote(p.Format), "use one of: "+formatNames())
	}
	if p.ID != "" && !isUUID(p.ID) {
		return refuse("the ID is not a UUID in lower case", "use the 36-character form")
	}
	o, r := p.Options, resolved{format: f, mask: p.Options.Mask, keep: f.keep, min: f.min, max: f.max}
	if r.mask == "" {
		r.mask = f.info.Mask
	}
	if !slices.Contains(f.masks, r.mask) {
		return refuse("format "+p.Format+" has no mask "+strconv.Quote(r.mask), "use one of: "+join(f.masks))
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
		r.min += r.keep // the enciphered part, not the whole, has to reach the floor
	}
	if o.MinLength != 0 {
		r.min = o.MinLength
	}
	if o.MaxLength != 0 {
		r.max = o.MaxLength
	}
	if r.min < f.least || r.max > f.max || r.min > r.max {
		return refuse("lengths "+strconv.Itoa(r.min)+" to "+strconv.Itoa(r.max)+" are not possible",
			"format "+p.Format+" takes "+strconv.Itoa(f.least)+" to "+strconv.Itoa(f.max))
	}
	if f.domain == nil {
		return r, nil
	}
	free := r.min - r.keep
	if free < f.leastFree {
		return refuse("keeping "+strconv.Itoa(r.keep)+" of "+strconv.Itoa(r.min)+" digits leaves "+strconv.Itoa(max(free, 0))+
			" to encipher", "keep fewer, so that at least "+strconv.Itoa(f.leastFree)+" are left")
	}
	if n := f.domain(free); n < minDomain && !p.AcceptSmallDomain {
		return refuse("the shortest values have only "+strconv.FormatUint(n, 10)+" possibilities, below "+strconv.Itoa(minDomain),
			"keep fewer digits, ask for longer values (min_length), or accept it with --accept-small-domain")
	}
	return r, nil
}

// Digest identifies the layout of the policy's tokens: method, format and the options that shape a token, with
// defaults filled in. Name and Mask are not in it: they change no token. It goes into key derivation, so that two
// layouts never share a key. For a policy that Check refuses it is of the options as they stand.
func (p Policy) Digest() [32]byte {
	keep, shortest, longest := p.Options.KeepLast, p.Options.MinLength, p.Options.MaxLength
	if r, err := p.resolve(); err == nil {
		keep, shortest, longest = r.keep, r.min, r.max
	}
	b := appendField(nil, "pgveil/1 layout")
	b = appendField(b, string(p.Method()))
	b = appendField(b, p.Format)
	for _, n := range []int{keep, shortest, longest} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return sha256.Sum256(b)
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
