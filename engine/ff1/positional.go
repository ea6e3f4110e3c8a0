package ff1

import (
	"math"
	"math/bits"
)

// positional turns numerals into numbers and back: NUM_radix and STR_radix (SP 800-38G section 4.5, Algorithms 1
// and 3), the most significant numeral first.
type positional struct {
	radix, square uint64 // radix²
	recip         uint64 // ⌈2^64/radix⌉
	squareRecip   uint64 // ⌈2^64/radix²⌉
	width         int    // numerals in a chunk, two or more
	chunk         uint64 // radix^width, at most 2^64/radix²
}

func newPositional(radix uint64) positional {
	p := positional{radix: radix, square: radix * radix, width: 2, chunk: radix * radix}
	p.recip, p.squareRecip = math.MaxUint64/radix+1, math.MaxUint64/p.square+1
	for p.chunk <= math.MaxUint64/p.square/radix {
		p.width, p.chunk = p.width+1, p.chunk*radix
	}
	return p
}

// number takes two numerals at a time: the path through n is half as long.
func (p *positional) number(x []uint16) (n uint64) {
	i := len(x) & 1
	if i == 1 {
		n = uint64(x[0])
	}
	for ; i < len(x)-1; i += 2 {
		n = n*p.square + (uint64(x[i])*p.radix + uint64(x[i+1]))
	}
	return n
}

// spell fills dst with the numerals of n < radix^width, two at a time. Quotients by the rounded-up reciprocal of d are
// exact for numbers up to 2^64/d.
func (p *positional) spell(dst []uint16, n uint64) {
	i := len(dst) - 1
	for ; i > 0; i -= 2 {
		q, _ := bits.Mul64(n, p.squareRecip)
		two := n - q*p.square
		first, _ := bits.Mul64(two, p.recip)
		dst[i-1], dst[i] = uint16(first), uint16(two-first*p.radix)
		n = q
	}
	if i == 0 {
		dst[0] = uint16(n)
	}
}

// number128 and spell128 work in chunks, so that a step of 128 bits is needed once for each and not for each numeral.
func (p *positional) number128(x []uint16) (n uint128) {
	first := len(x) % p.width
	n.lo = p.number(x[:first])
	for x = x[first:]; len(x) > 0; x = x[p.width:] {
		carry, lo := bits.Mul64(n.lo, p.chunk)
		lo, c := bits.Add64(lo, p.number(x[:p.width]), 0)
		n = uint128{n.hi*p.chunk + carry + c, lo}
	}
	return n
}

func (p *positional) spell128(dst []uint16, n uint128) {
	for len(dst) > p.width {
		var low uint64
		if n.hi >= p.chunk {
			n.hi, low = n.hi/p.chunk, n.hi%p.chunk
		} else {
			n.hi, low = 0, n.hi
		}
		n.lo, low = bits.Div64(low, n.lo, p.chunk)
		p.spell(dst[len(dst)-p.width:], low)
		dst = dst[:len(dst)-p.width]
	}
	p.spell(dst, n.lo)
}
