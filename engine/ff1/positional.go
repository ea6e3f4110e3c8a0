package ff1

import "math/bits"

// positional turns numerals into numbers and back: NUM_radix and STR_radix (SP 800-38G section 4.5, Algorithms 1
// and 3), the most significant numeral first.
type positional struct {
	radix uint64
	recip uint64 // ⌊2^64/radix⌋
	width int    // numerals in a chunk: the most whose numbers fit in 64 bits
	chunk uint64 // radix^width
}

func newPositional(radix uint64) positional {
	p := positional{radix: radix, width: 1, chunk: radix}
	p.recip, _ = bits.Div64(1, 0, radix)
	for {
		hi, lo := bits.Mul64(p.chunk, radix)
		if hi != 0 {
			return p
		}
		p.width, p.chunk = p.width+1, lo
	}
}

func (p *positional) number(x []uint16) (n uint64) {
	for _, d := range x {
		n = n*p.radix + uint64(d)
	}
	return n
}

// spell fills dst with the numerals of n. The quotient by recip is at most one too small, as in modulus.addReduced.
func (p *positional) spell(dst []uint16, n uint64) {
	for i := len(dst) - 1; i >= 0; i-- {
		q, _ := bits.Mul64(n, p.recip)
		d := n - q*p.radix
		if t := d - p.radix; d >= p.radix {
			d, q = t, q+1
		}
		dst[i], n = uint16(d), q
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
		n.hi, low = n.hi/p.chunk, n.hi%p.chunk
		n.lo, low = bits.Div64(low, n.lo, p.chunk)
		p.spell(dst[len(dst)-p.width:], low)
		dst = dst[:len(dst)-p.width]
	}
	p.spell(dst, n.lo)
}
