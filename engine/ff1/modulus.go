package ff1

import (
	"encoding/binary"
	"math/big"
	"math/bits"
)

// Arithmetic modulo m on fractions of m. A number x stands for the fraction x/m, of which only what is behind the
// point is kept, as a binary fraction of one word (m ≤ 2^32) or two (m ≤ 2^96). Then sums are reduced by overflowing:
// there is no quotient to correct, no comparison, and nothing that takes longer for one value than for another.
//
//	fraction(x) = ⌊x·⌈W/m⌉/W'⌋ mod 2^64 or 2^128        for large W, W'
//	whole(f)    = ⌊f·m / 2^64 or 2^128⌋
//
// The fractions of neighbours lie 2^64/m ≥ 2^32 (2^128/m ≥ 2^32) apart. fraction is too small by less than three, or
// too large by less than one, of the units at its end. So where bias is added once at the beginning, what five additions or
// subtractions lead to lies above the true fraction by at most twice the bias, and whole gives the number.

// bias is more than the units by which five fractions can be off together.
const bias = 32

// uint128 is hi·2^64 + lo.
type uint128 struct {
	hi, lo uint64
}

func (x uint128) plus(y uint128) uint128 {
	lo, c := bits.Add64(x.lo, y.lo, 0)
	return uint128{x.hi + y.hi + c, lo}
}

func (x uint128) minus(y uint128) uint128 {
	lo, c := bits.Sub64(x.lo, y.lo, 0)
	return uint128{x.hi - y.hi - c, lo}
}

// narrow is a modulus 2 ≤ m ≤ 2^32.
type narrow struct {
	m      uint64
	hi, lo uint64 // ⌈2^128/m⌉
	bias   uint64 // the constant as a variable: the compiler would move its addition to where a round waits for it
}

func newNarrow(m *big.Int) narrow {
	c := reciprocal(m, 128)
	return narrow{m.Uint64(), c[1], c[0], bias}
}

// start returns the fraction of the number x, with the bias.
func (m *narrow) start(x uint64) uint64 { return m.plus(m.bias, x) }

// plus returns f plus the fraction of any x. The sum in brackets is there before the upper half of the product.
func (m *narrow) plus(f, x uint64) uint64 {
	h, _ := bits.Mul64(x, m.lo)
	return h + (f + x*m.hi)
}

// minus returns f minus the fraction of any x.
func (m *narrow) minus(f, x uint64) uint64 {
	h, _ := bits.Mul64(x, m.lo)
	return f - x*m.hi - h
}

// whole returns the number below m that f stands for.
func (m *narrow) whole(f uint64) uint64 {
	x, _ := bits.Mul64(f, m.m)
	return x
}

// wide is a modulus 2 ≤ m ≤ 2^96 for numbers that are given times 2^lift, so that the 96 bits of a shorter round need
// not be shifted into place.
type wide struct {
	m    uint128
	lift uint
	c    [4]uint64 // ⌈2^(256−lift)/m⌉, the least word first
}

func newWide(m *big.Int, lift uint) wide {
	return wide{words(m), lift, reciprocal(m, 256-lift)}
}

// reciprocal returns ⌈2^n/m⌉, which is below 2^256 for m ≥ 2 and n ≤ 256, the least word first.
func reciprocal(m *big.Int, n uint) (c [4]uint64) {
	q := new(big.Int).Lsh(big.NewInt(1), n)
	q.Add(q, m).Sub(q, big.NewInt(1)).Div(q, m)
	var buf [32]byte
	q.FillBytes(buf[:])
	for i := range c {
		c[i] = binary.BigEndian.Uint64(buf[24-8*i:])
	}
	return c
}

// words returns n, which is below 2^128.
func words(n *big.Int) uint128 {
	var buf [16]byte
	n.FillBytes(buf[:])
	return uint128{binary.BigEndian.Uint64(buf[:8]), binary.BigEndian.Uint64(buf[8:])}
}

// fraction returns that of x/2^lift: the words 2 and 3 of x·c, without what would be carried into them.
func (m *wide) fraction(x uint128) uint128 {
	h1, _ := bits.Mul64(m.c[1], x.lo)
	h2, _ := bits.Mul64(m.c[0], x.hi)
	h3, l3 := bits.Mul64(m.c[2], x.lo)
	h4, l4 := bits.Mul64(m.c[1], x.hi)
	top := h3 + h4 + m.c[3]*x.lo + m.c[2]*x.hi
	l, carry := bits.Add64(h1, h2, 0)
	top += carry
	l3, carry = bits.Add64(l3, l4, 0)
	top += carry
	l, carry = bits.Add64(l, l3, 0)
	return uint128{top + carry, l}
}

// start returns the fraction of the number x, with the bias.
func (m *wide) start(x uint128) uint128 {
	return m.fraction(uint128{x.hi<<m.lift | x.lo>>(64-m.lift), x.lo << m.lift}).plus(uint128{0, bias})
}

// whole returns the number below m that f stands for: the words 2 and 3 of f·m.
func (m *wide) whole(f uint128) uint128 {
	h1, _ := bits.Mul64(f.lo, m.m.lo)
	h2, l2 := bits.Mul64(f.hi, m.m.lo)
	h3, l3 := bits.Mul64(f.lo, m.m.hi)
	h4, l4 := bits.Mul64(f.hi, m.m.hi)
	l, carry := bits.Add64(h1, l2, 0)
	lo, over := bits.Add64(l4, h2, carry)
	h4 += over
	_, carry = bits.Add64(l, l3, 0)
	lo, over = bits.Add64(lo, h3, carry)
	return uint128{h4 + over, lo}
}
