package engine

import (
	"math/big"
	"strconv"
)

// panLettersFormat is pan where the first digits stay too: the digits between become letters. There is no room in them
// for the Luhn residue to say the version, so the token is for a text column.
//
// With k digits between, the letters are the number mark·10^k + the enciphered digits in base 26: ⌊26^k/10^k⌋ versions,
// 308 for the six between the first six and the last four of 16. A token that was altered, or deciphers under another
// key, gives a number that fails the Luhn check nine times in ten.
var panLettersFormat = format{
	info:  panInfo,
	masks: panMasks,
	keep:  4, keeps: true, sized: true, takes: []string{"keep_first"}, least: 12, min: 15, max: 19,
	prepare: func(p Policy, r *resolved) *PolicyError {
		first := p.Options.KeepFirst
		between := r.min - first - r.keep
		switch {
		case first > maxBIN:
			return refusal("keeping the first "+strconv.Itoa(first)+" digits shows more than the issuer", "keep at most "+strconv.Itoa(maxBIN))
		case between < 2:
			return refusal("keeping "+strconv.Itoa(first)+" and "+strconv.Itoa(r.keep)+" of "+strconv.Itoa(r.min)+" digits leaves "+
				strconv.Itoa(max(between, 0))+" to encipher", "keep fewer, so that at least 2 are left")
		case r.max-first-r.keep > maxPANLetters:
			return refusal("the longest values have "+strconv.Itoa(r.max-first-r.keep)+" digits between the kept ones, above "+
				strconv.Itoa(maxPANLetters), "keep more, lower max_length, or leave keep_first out")
		}
		power := func(base int64) *big.Int {
			return new(big.Int).Exp(big.NewInt(base), big.NewInt(int64(between)), nil)
		}
		r.values = new(big.Int).SetUint64(pow10(between - 1)) // the Luhn check fixes one digit
		r.versions = room(power(26), power(10))
		sizes := make([]*big.Int, r.max-first-r.keep-1)
		for i := range sizes {
			sizes[i] = new(big.Int).SetUint64(pow10(i + 2))
			if i+2 >= between {
				r.calls = max(r.calls, expected(sizes[i]))
			}
		}
		if first+r.keep >= 10 {
			r.warn("PCI DSS counts a number of which the first six and last four digits are shown as truncated: where such tokens and " +
				"other truncations or hashes of the same cards meet, the missing digits can be found")
		}
		r.describe("keep first", strconv.Itoa(first))
		r.guard = guardUpper
		r.newCode = func(r resolved) code {
			return newIrregular(r, panLetters{first: first, last: r.keep, min: r.min, max: r.max, versions: uint64(r.versions)}, sizes...)
		}
		return nil
	},
}

const maxBIN = 8 // ISO/IEC 7812-1: issuer identification numbers have six or eight digits

const maxPANLetters = 13 // 26^13 is below 2^64

// panLetters ranks the digits between the kept ones; domain i is of i+2 digits.
type panLetters struct {
	first, last, min, max int
	versions              uint64
}

// read takes a value or token apart.
func (c panLetters) read(r *ranking, src []byte, token bool) fault {
	d, n := &r.digits, 0
	for _, b := range src { // where the letters end depends on how many characters follow
		if b >= '0' && b <= '9' || b >= 'A' && b <= 'Z' {
			n++
		}
	}
	switch {
	case n < c.min:
		if f := c.stray(src, token); f.reason != "" {
			return f
		}
		return fault{reasonShort, -1}
	case n > c.max:
		return fault{reasonLong, -1}
	}
	*d = cardDigits{} // the Luhn sum is taken of whole words
	separated, code := true, uint64(0)
	for i, b := range src {
		inside := token && d.n >= c.first && d.n < n-c.last
		switch {
		case !inside && b >= '0' && b <= '9':
			d.digit[d.n] = b - '0'
		case inside && b >= 'A' && b <= 'Z':
			code = code*26 + uint64(b-'A')
		case b != ' ' && b != '-':
			return fault{stray(b), i}
		case separated || i == len(src)-1:
			return fault{reasonSeparator, i}
		default:
			separated = true
			continue
		}
		separated = false
		d.n++
	}
	between := n - c.first - c.last
	if token {
		size := pow10(between)
		if code/size >= c.versions {
			return fault{reasonShape, -1}
		}
		r.mark = int(code / size)
		spell(d.digit[c.first:n-c.last], code%size)
	}
	if !valueFirst(d.digit[0]) {
		return fault{"no payment card number begins with this digit (2 to 6 do)", 0}
	}
	r.domain, r.x = between-2, wide{number(d.digit[c.first : n-c.last])}
	clear(r.tweak[:c.tweakLen()])
	r.tweak[0] = byte(n)
	copy(r.tweak[1:], d.digit[:c.first])
	copy(r.tweak[1+c.first:], d.digit[n-c.last:n])
	return fault{}
}

// stray finds what may stand nowhere in a card number.
func (panLetters) stray(src []byte, token bool) fault {
	for i, b := range src {
		if (b < '0' || b > '9') && b != ' ' && b != '-' && !(token && b >= 'A' && b <= 'Z') {
			return fault{stray(b), i}
		}
	}
	return fault{}
}

func (c panLetters) value(r *ranking, src []byte) fault {
	f := c.read(r, src, false)
	if f.reason == "" && r.digits.residue() != 0 {
		f = fault{"it fails the Luhn check", -1}
	}
	return f
}

func (c panLetters) token(r *ranking, src []byte) fault {
	return c.read(r, src, true)
}

func (c panLetters) appendToken(dst, src []byte, r *ranking) []byte {
	between := r.domain + 2
	code := uint64(r.mark)*pow10(between) + r.x[0]
	var letters [19]byte
	for i := between - 1; i >= 0; i-- {
		letters[i] = 'A' + byte(code%26)
		code /= 26
	}
	i := 0
	for _, b := range src {
		if b >= '0' && b <= '9' {
			if i >= c.first && i < c.first+between {
				b = letters[i-c.first]
			}
			i++
		}
		dst = append(dst, b)
	}
	return dst
}

func (c panLetters) appendPlain(dst, src []byte, r *ranking) ([]byte, fault) {
	spell(r.digits.digit[c.first:c.first+r.domain+2], r.x[0])
	if r.digits.residue() != 0 {
		return dst, fault{reasonPlain, -1}
	}
	i := 0
	for _, b := range src {
		if b >= '0' && b <= '9' || b >= 'A' && b <= 'Z' {
			b = '0' + r.digits.digit[i]
			i++
		}
		dst = append(dst, b)
	}
	return dst, fault{}
}

func (c panLetters) tweakLen() int { return 1 + c.first + c.last }

func (c panLetters) masked(dst, plain []byte, _ string) ([]byte, fault) {
	n := 0
	for _, b := range plain {
		if b >= '0' && b <= '9' {
			n++
		}
	}
	return appendLast4(dst, plain, n), fault{}
}

func (panLetters) tokenLen(n int) int { return n }
