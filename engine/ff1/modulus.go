package ff1

import (
	"math/big"
	"math/bits"
)

// uint128 is hi·2^64 + lo.
type uint128 struct {
	hi, lo uint64
}

func (x uint128) less(y uint128) bool {
	return x.hi < y.hi || x.hi == y.hi && x.lo < y.lo
}

func (x uint128) plus(y uint128) uint128 {
	lo, c := bits.Add64(x.lo, y.lo, 0)
	return uint128{x.hi + y.hi + c, lo}
}

func (x uint128) minus(y uint128) uint128 {
	lo, c := bits.Sub64(x.lo, y.lo, 0)
	return uint128{x.hi - y.hi - c, lo}
}

// modulus is 2 ≤ m ≤ 2^96 with what reduction by it needs.
type modulus struct {
	uint128
	recip uint64  // ⌊2^64/m⌋ where m ≤ 2^32
	shift uint    // leading zeros of the high word, where there is one
	norm  uint128 // m << shift
}

func newModulus(m *big.Int) modulus {
	var buf [16]byte
	m.FillBytes(buf[:])
	var q modulus
	for i := range 8 {
		q.hi, q.lo = q.hi<<8|uint64(buf[i]), q.lo<<8|uint64(buf[8+i])
	}
	if q.hi == 0 && q.lo <= 1<<32 {
		q.recip, _ = bits.Div64(1, 0, q.lo)
	}
	if q.hi != 0 {
		q.shift = uint(bits.LeadingZeros64(q.hi))
		q.norm = uint128{q.hi<<q.shift | q.lo>>(64-q.shift), q.lo << q.shift}
	}
	return q
}

// addReduced returns a + y mod m for a < m ≤ 2^32 and any y. With f the fraction cut off 2^64/m,
// y/m − y·recip/2^64 = y·f/2^64 < 1, so the quotient is at most one too small and a + y − q·m is below 3m. The sums
// are modulo 2^64, which loses nothing: the true value is small. The two candidates beside it do not wait for it.
func (m *modulus) addReduced(a, y uint64) uint64 {
	q, _ := bits.Mul64(y, m.recip)
	q *= m.lo
	y += a
	r := y - q
	if t := y - m.lo - q; int64(t) >= 0 {
		r = t
	}
	if t := y - 2*m.lo - q; int64(t) >= 0 {
		r = t
	}
	return r
}

// subReduced returns a − y mod m in the same way: a − y + q·m is above −2m and below m.
func (m *modulus) subReduced(a, y uint64) uint64 {
	q, _ := bits.Mul64(y, m.recip)
	q *= m.lo
	y = a - y
	r := y + 2*m.lo + q
	if t := y + m.lo + q; int64(t) >= 0 {
		r = t
	}
	if t := y + q; int64(t) >= 0 {
		r = t
	}
	return r
}

// add returns a + y mod m for a, y < m ≤ 2^64; m.lo is 0 for 2^64, where wrapping is the reduction.
func (m *modulus) add(a, y uint64) uint64 {
	sum, carry := bits.Add64(a, y, 0)
	if t := sum - m.lo; carry != 0 || sum >= m.lo {
		sum = t
	}
	return sum
}

// sub returns a − y mod m for a, y < m ≤ 2^64.
func (m *modulus) sub(a, y uint64) uint64 {
	diff, borrow := bits.Sub64(a, y, 0)
	if t := diff + m.lo; borrow != 0 {
		diff = t
	}
	return diff
}

// reduce128 returns y mod m for any m ≤ 2^96: one step of Knuth's Algorithm D (TAOCP 4.3.1) where m has two words.
// m.hi < 2^33, so shift ≥ 31, and the two leading words of y << shift divided by that of m give one word.
func (m *modulus) reduce128(y uint128) uint128 {
	if m.hi == 0 {
		return uint128{0, bits.Rem64(y.hi, y.lo, m.lo)}
	}
	s := m.shift
	y2, y1, y0 := y.hi>>(64-s), y.hi<<s|y.lo>>(64-s), y.lo<<s
	q, r := bits.Div64(y2, y1, m.norm.hi)
	phi, plo := bits.Mul64(q, m.norm.lo)
	// q is at most two too large; what is left is (r, y0) − q·norm.lo, made non-negative by adding norm back.
	lo, c := bits.Sub64(y0, plo, 0)
	hi, c := bits.Sub64(r, phi, c)
	for c != 0 {
		var k uint64
		lo, k = bits.Add64(lo, m.norm.lo, 0)
		hi, k = bits.Add64(hi, m.norm.hi, k)
		c -= k
	}
	return uint128{hi >> s, lo>>s | hi<<(64-s)}
}

func (m *modulus) add128(a, y uint128) uint128 {
	sum := a.plus(y) // below 2^97: no carry out
	if !sum.less(m.uint128) {
		sum = sum.minus(m.uint128)
	}
	return sum
}

func (m *modulus) sub128(a, y uint128) uint128 {
	if a.less(y) {
		a = a.plus(m.uint128)
	}
	return a.minus(y)
}
