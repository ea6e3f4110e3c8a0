package engine

import "strings"

// FormatInfo describes a format to a person.
type FormatInfo struct {
	Name        string
	Method      Method
	Description string // one line
	Mask        string // the default mask
	Shape       string // of a token: 9 a digit, A a letter, x a base32 symbol
}

// format is what the policy compiler and the transforms know about a format by its name.
type format struct {
	info     FormatInfo
	masks    []string
	versions int // marks there are

	keep      int  // KeepLast by default
	keeps     bool // KeepLast is a choice
	sized     bool // MinLength and MaxLength are a choice
	floats    bool // the shortest length by default grows with KeepLast
	least     int  // smallest MinLength
	min, max  int  // lengths by default; max is also the largest MaxLength
	leastFree int  // enciphered digits without which the mark has no room
	domain    func(free int) uint64
	guard     func(column string) string
	newCode   func(r resolved) code
}

// code reads and writes the values and tokens of one compiled policy.
type code interface {
	// derive fills k with what the format needs of the key.
	derive(k *versionKey, key func(n int) []byte) error
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

var formats = []*format{&ssnFormat, &panFormat, &digitsFormat, &phoneFormat, &emailFormat, &textFormat}

// Formats returns every format, in the order in which a person would look for them.
func Formats() []FormatInfo {
	infos := make([]FormatInfo, len(formats))
	for i, f := range formats {
		infos[i] = f.info
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
// It tests the mark, not the key: what is neither a value nor a token may pass. For an unknown format it is "false".
func Guard(p Policy, column string) string {
	f := formatOf(p.Format)
	if f == nil {
		return "false"
	}
	return f.guard(column)
}
