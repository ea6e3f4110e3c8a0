package engine

import (
	"strconv"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// alphabet is symbols, each one character, numbered from 0 in the order they were given.
type alphabet struct {
	symbols []rune
	ascii   [utf8.RuneSelf]int32 // number of a symbol, or −1
	others  map[rune]int32
	size    int // longest symbol in bytes
}

func newAlphabet(symbols []rune) *alphabet {
	a := &alphabet{symbols: symbols, others: map[rune]int32{}}
	for i := range a.ascii {
		a.ascii[i] = -1
	}
	for i, c := range symbols {
		a.size = max(a.size, utf8.RuneLen(c))
		if c < utf8.RuneSelf {
			a.ascii[c] = int32(i)
		} else {
			a.others[c] = int32(i)
		}
	}
	return a
}

// number returns a symbol's number, or −1.
func (a *alphabet) number(c rune) int32 {
	if c < utf8.RuneSelf {
		return a.ascii[c]
	}
	if n, ok := a.others[c]; ok {
		return n
	}
	return -1
}

func (a *alphabet) append(dst []byte, n uint32) []byte { return utf8.AppendRune(dst, a.symbols[n]) }

// disjoint reports whether no symbol of a is one of s.
func (a *alphabet) disjoint(s []rune) bool {
	for _, c := range s {
		if a.number(c) >= 0 {
			return false
		}
	}
	return true
}

// bounds returns the least and the greatest symbol.
func bounds(s []rune) (lo, hi rune) {
	lo, hi = s[0], s[0]
	for _, c := range s {
		lo, hi = min(lo, c), max(hi, c)
	}
	return lo, hi
}

// The bounds of FF1's radix (SP 800-38G section 5.1).
const (
	minSymbols = 2
	maxSymbols = 1 << 16
)

// parseAlphabet judges symbols a user gave. Every string over them has to be in Unicode normalization form C as it stands
// (UAX 15): so none may combine with what comes before it, or what normalizes text on its way would change tokens.
func parseAlphabet(name, text string, least int) ([]rune, *PolicyError) {
	if !utf8.ValidString(text) {
		return nil, refusal(name+" is not UTF-8", "")
	}
	symbols, seen, at := []rune(text), map[rune]bool{}, 0
	for i, c := range symbols {
		which := "symbol " + strconv.Itoa(i+1) + " of " + name
		switch {
		case seen[c]:
			return nil, refusal(which+" is there twice", "give every symbol once")
		case !unicode.IsGraphic(c) || c == utf8.RuneError:
			return nil, refusal(which+" is a control character or none", "leave it out")
		case !norm.NFC.PropertiesString(text[at:]).BoundaryBefore():
			return nil, refusal(which+" combines with the character before it", "use composed characters (NFC), one for each symbol")
		case !norm.NFC.IsNormalString(string(c)):
			return nil, refusal(which+" is not in Unicode normalization form C", "use the composed or preferred character")
		}
		seen[c] = true
		at += utf8.RuneLen(c)
	}
	if len(symbols) < least || len(symbols) > maxSymbols {
		return nil, refusal(name+" has "+strconv.Itoa(len(symbols))+" symbols", "give "+strconv.Itoa(least)+" to "+strconv.Itoa(maxSymbols))
	}
	return symbols, nil
}

func runes(from, to rune) (s []rune) {
	for c := from; c <= to; c++ {
		s = append(s, c)
	}
	return s
}

// latin1Letters are the letters from À to ÿ, all but × and ÷.
func latin1Letters() (s []rune) {
	for _, c := range runes(0xC0, 0xFF) {
		if unicode.IsLetter(c) {
			s = append(s, c)
		}
	}
	return s
}

// markSets are what tokens may be marked by where the policy does not say, in the order they are tried. Stored tokens
// depend on them: a set is added at the end, never changed.
var markSets = []func() []rune{
	func() []rune { return runes('A', 'Z') },
	func() []rune { return runes('a', 'z') },
	latin1Letters,
	func() []rune { return runes(0x4E00, 0x6DFF) },   // Han
	func() []rune { return runes(0x20000, 0x2A6DF) }, // Han, the first supplementary block
}
