package engine

import (
	"encoding/binary"
	"math/big"
	"math/bits"
)

// wide is a number below 2^192, least significant word first: wide enough for the rank of every value of a format that
// is not a plain string of digits.
type wide [3]uint64

const wideBits = 192

// wideOf returns n, which the caller knows to be below 2^192 and not negative.
func wideOf(n *big.Int) (w wide) {
	var b [wideBits / 8]byte
	n.FillBytes(b[:])
	return wide{binary.BigEndian.Uint64(b[16:]), binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[:])}
}

func (w wide) big() *big.Int {
	var b [wideBits / 8]byte
	binary.BigEndian.PutUint64(b[16:], w[0])
	binary.BigEndian.PutUint64(b[8:], w[1])
	binary.BigEndian.PutUint64(b[:], w[2])
	return new(big.Int).SetBytes(b[:])
}

func (w wide) less(o wide) bool {
	for i := 2; i > 0; i-- {
		if w[i] != o[i] {
			return w[i] < o[i]
		}
	}
	return w[0] < o[0]
}

func (w wide) add(o wide) (s wide) {
	var carry uint64
	for i := range w {
		s[i], carry = bits.Add64(w[i], o[i], carry)
	}
	return s
}

func (w wide) sub(o wide) (d wide) {
	var borrow uint64
	for i := range w {
		d[i], borrow = bits.Sub64(w[i], o[i], borrow)
	}
	return d
}

// times returns w·m + a modulo 2^192.
func (w wide) times(m, a uint64) (p wide) {
	for i := range w {
		hi, lo := bits.Mul64(w[i], m)
		var carry uint64
		p[i], carry = bits.Add64(lo, a, 0)
		a = hi + carry // no overflow: hi ≤ 2^64−2
	}
	return p
}

// divide returns ⌊w/d⌋ and the remainder, for d > 0.
func (w wide) divide(d uint64) (q wide, r uint64) {
	for i := 2; i >= 0; i-- {
		q[i], r = bits.Div64(r, w[i], d)
	}
	return q, r
}

// part returns w = i·size + rest for i below limit; ok is false where i is not below it. limit is at most maxVersion, and
// found by halving, since there is no division by a wide number.
func (w wide) part(size wide, limit int) (i int, rest wide, ok bool) {
	lo, hi := 0, limit // the largest i with i·size ≤ w is in [lo, hi)
	if !w.less(size.times(uint64(limit), 0)) {
		return 0, wide{}, false
	}
	for hi-lo > 1 {
		mid := (lo + hi) / 2
		if w.less(size.times(uint64(mid), 0)) {
			hi = mid
		} else {
			lo = mid
		}
	}
	return lo, w.sub(size.times(uint64(lo), 0)), true
}
