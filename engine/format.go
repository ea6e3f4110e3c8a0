package engine

import (
	"slices"
	"strings"
)

// FormatInfo describes a format to a person.
type FormatInfo struct {
	Name        string
	Method      Method
	Description string   // one line
	Mask        string   // the default mask
	Masks       []string // all of them
	Options     []string // JSON names of the options the format has beside mask and method
	Shape       string   // of a token: 9 a digit, A a letter, x a base32 symbol
}

// format is what the policy compiler and the transforms know about a format by its name.
type format struct {
	info     FormatInfo
	masks    []string
	versions int // marks there are, where that is not for prepare to say

	keep      int      // KeepLast by default
	keeps     bool     // KeepLast is a choice
	sized     bool     // MinLength and MaxLength are a choice
	floats    bool     // the shortest length by default grows with what is kept
	takes     []string // JSON names of the other options that are a choice
	ownMethod bool     // Method is no choice
	least     int      // smallest MinLength
	min, max  int      // lengths by default; max is also the largest MaxLength
	leastFree int      // enciphered digits without which the mark has no room
	domain    func(free int) uint64
	widen     string // what to do about a small domain; "" to keep fewer and ask for longer values
	variant   func(o Options) *format
	prepare   func(p Policy, r *resolved) *PolicyError // fills in what the fields here cannot say
	guard     func(column string) string
	newCode   func(r resolved) code
}

// code reads and writes the values and tokens of one compiled policy.
type code interface {
	// derive fills k with what the format needs of the key.
	derive(k *versionKey, key func(n int) []byte) error
	// check judges a value.
	check(plain []byte) fault
	// token appends the token of plain, which is checked here.
	token(dst, plain []byte, k *versionKey) ([]byte, fault)
	// plain appends the value of token, whose version is read here.
	plain(dst, token []byte, keys *keySet) ([]byte, fault)
	// tokens and plains do the same for many, up to the first fault, and append to ends where each result ends.
	tokens(dst []byte, ends []int, values [][]byte, k *versionKey) ([]byte, []int, fault)
	plains(dst []byte, ends []int, tokens [][]byte, keys *keySet) ([]byte, []int, fault)
	// mark returns the version mark of something that has a token's structure.
	mark(token []byte) (mark int, ok bool)
	// masked appends the mask of plain.
	masked(dst, plain []byte, mask string) ([]byte, fault)
	// tokenLen bounds the length of the token of a value of n bytes.
	tokenLen(n int) int
}

// formats is filled in by init: json's compiler looks formats up in it.
var formats []*format

func init() {
	formats = []*format{
		&ssnFormat, &panFormat, &digitsFormat, &alphanumericFormat, &alphabetFormat, &customFormat, &phoneFormat, &emailFormat,
		&ibanFormat, &uuidFormat, &integerFormat, &dateFormat, &timestampFormat, &textFormat, &bytesFormat, &jsonFormat,
	}
}

// Formats returns every format, in the order in which a person would look for them.
func Formats() []FormatInfo {
	infos := make([]FormatInfo, len(formats))
	for i, f := range formats {
		infos[i] = f.info
		infos[i].Masks = append(slices.Clone(f.masks), maskNull)
		infos[i].Options = slices.Clone(f.takes)
		if f.keeps {
			infos[i].Options = append(infos[i].Options, "keep_last")
		}
		if f.sized {
			infos[i].Options = append(infos[i].Options, "min_length", "max_length")
		}
	}
	return infos
}

func formatOf(name string) *format {
	for _, f := range formats {
		if f.info.Name == name {
			return f
		}
	}
	return nil
}

// forOptions returns the form of the format that the options ask for.
func (f *format) forOptions(o Options) *format {
	if f.variant == nil {
		return f
	}
	if v := f.variant(o); v != nil {
		return v
	}
	return f
}

func (f *format) small() string {
	hint := f.widen
	if hint == "" {
		hint = "keep fewer digits, ask for longer values (min_length)"
	}
	return hint + ", or accept it with --accept-small-domain"
}

func formatNames() string {
	names := make([]string, len(formats))
	for i, f := range formats {
		names[i] = f.info.Name
	}
	return join(names)
}

func join(s []string) string { return strings.Join(s, ", ") }

// Guard returns a boolean SQL expression over column, the already quoted name of a text column: true for every token
// of the policy, NULL for NULL, and false for every value of the format. It is PostgreSQL's own SQL, independent of
// the column's collation and of standard_conforming_strings, and as cheap as the format's mark allows.
//
// It tests the mark, not the key: what is neither a value nor a token may pass. An exact policy has no mark, and its
// guard is "true". For an unknown format, and for a policy that Check refuses for its options, it is "false".
func Guard(p Policy, column string) string {
	r, err := p.resolve()
	if err == nil {
		return r.guard(column)
	}
	if f := formatOf(p.Format); f != nil && f.guard != nil {
		return f.guard(column)
	}
	return "false"
}

// begins is the SQL for what is not below one ASCII string and below another, byte by byte. These operators look at no
// collation at all, and cost half of what the usual ones do under COLLATE "C".
func begins(column, from, to string) string {
	return column + " OPERATOR(pg_catalog.~>=~) '" + from + "' AND " + column + " OPERATOR(pg_catalog.~<~) '" + to + "'"
}

// GuardType returns the guard over a column of another type than text, as format_type() names it: integer, bigint,
// numeric, uuid, date, timestamp without or with time zone, bytea. ok is false where the format's tokens do not fit
// that type.
func GuardType(p Policy, column, sqlType string) (guard string, ok bool) {
	switch sqlType {
	case "text", "character varying":
		return Guard(p, column), true
	}
	r, err := p.resolve()
	if err != nil || r.typed == nil {
		return "false", false
	}
	if guard = r.typed(column, sqlType); guard == "" {
		return "false", false
	}
	return guard, true
}
