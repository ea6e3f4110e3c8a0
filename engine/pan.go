package engine

import (
	"encoding/binary"
	"math"
	"math/bits"

	"pgveil/engine/ff1"
)

// panFormat is a payment card number (ISO/IEC 7812-1): 12 to 19 digits that pass the Luhn check and begin with 2 to 6,
// the digits of the payment networks, with single spaces or hyphens between digits.
//
// A token begins with 0, 1, 7, 8 or 9 and fails the Luhn check with residue 1 + version mod 9, so it is never a card
// number. The last four digits stay by default.
var panFormat = format{
	info: panInfo, masks: panMasks, versions: 9,
	keep: 4, keeps: true, sized: true, takes: []string{"keep_first"}, least: 12, min: 12, max: 19, leastFree: 4, domain: panDomain,
	variant: func(o Options) *format {
		if o.KeepFirst > 0 {
			return &panLettersFormat
		}
		return nil
	},
	prepare: func(_ Policy, r *resolved) *PolicyError {
		size := panDomain(r.min - r.keep)
		radix, n := panNumerals(size)
		r.calls = math.Pow(float64(radix), float64(n)) / float64(size)
		return nil
	},
	guard: func(column string) string {
		return "(pg_catalog.ascii(" + column + ") IN (48, 49, 55, 56, 57))" // 0, 1, 7, 8, 9
	},
	newCode: func(r resolved) code { return newPAN(r) },
}

var (
	panInfo = FormatInfo{
		Name: "pan", Method: FF1, Mask: "last4", Shape: "9999999999999999",
		Description: "payment card number, 12 to 19 digits; the last four stay, the token never passes the Luhn check",
	}
	panMasks = []string{"last4", "fixed"}
)

// maxPANBytes is 19 digits with a separator between each.
const maxPANBytes = 2*19 - 1

// panDomain counts the card numbers with given kept digits: five first digits, one digit decided by the Luhn check.
func panDomain(free int) uint64 {
	if free < 2 {
		return 0
	}
	return 5 * pow10(free-2)
}

// pan is the code of panFormat. The free digits are those before the kept ones. All of them but the last, which the
// Luhn residue decides, are ranked to a number below 5·10^(free−2), and that is enciphered by FF1 over two or four
// numerals of the smallest sufficient radix, with cycle walking. The tweak is the number of digits and the kept ones.
type pan struct {
	resolved
	rank [maxDigits]struct { // by free digits
		domain uint64  // 5·10^(free−2)
		first  divisor // 10^(free−2): what the first digit counts
		half   divisor // the size of one half of FF1's domain
	}
}

// divisor divides by a number d ≥ 2 that is known before.
type divisor struct {
	d, recip uint64 // recip = ⌊2^64/d⌋
}

func newDivisor(d uint64) divisor {
	recip, _ := bits.Div64(1, 0, d)
	return divisor{d, recip}
}

// divide returns quotient and remainder. x/d − x·recip/2^64 < 1, so the first quotient is at most one too small.
func (v *divisor) divide(x uint64) (q, r uint64) {
	q, _ = bits.Mul64(x, v.recip)
	r = x - q*v.d
	if t := r - v.d; r >= v.d {
		q, r = q+1, t
	}
	return q, r
}

func newPAN(r resolved) *pan {
	c := &pan{resolved: r}
	for free := r.min - r.keep; free <= r.max-r.keep; free++ {
		rank := &c.rank[free]
		rank.domain, rank.first = panDomain(free), newDivisor(pow10(free-2))
		radix, n := panNumerals(rank.domain)
		half := uint64(radix)
		if n == 4 {
			half *= uint64(radix)
		}
		rank.half = newDivisor(half)
	}
	return c
}

// panNumerals returns the smallest radix whose square, or above 2^32 fourth power, is at least the domain.
func panNumerals(domain uint64) (radix, n int) {
	r, n := uint64(math.Sqrt(float64(domain))), 2
	if domain > 1<<32 {
		r, n = uint64(math.Sqrt(math.Sqrt(float64(domain)))), 4
	}
	size := func(r uint64) uint64 {
		if n == 4 {
			return r * r * r * r // domain ≤ 5·10^15: far below 2^64
		}
		return r * r
	}
	for r = max(r, 2) - 1; size(r) < domain; r++ { // the square root is only where to begin: integers decide
	}
	return int(r), n
}

func (c *pan) derive(k *versionKey, key func(int) []byte) error {
	aes := key(32)
	f, err := ff1.New(aes)
	clear(aes)
	if err != nil {
		return err
	}
	k.plans = make([]*ff1.Plan, c.max-c.keep+1)
	for free := c.min - c.keep; free <= c.max-c.keep; free++ {
		radix, n := panNumerals(c.rank[free].domain)
		if k.plans[free], err = f.Plan(radix, n, 1+c.keep); err != nil {
			return err
		}
	}
	return nil
}

// cardDigits is a value or token taken apart.
type cardDigits struct {
	digit [24]byte // zero behind n: whole words of it are worked on
	n     int
}

// maxCardDigits is the length of the longest card number.
const maxCardDigits = 19

func (c *pan) read(d *cardDigits, src []byte) fault {
	d.digit, d.n = [24]byte{}, 0
	if len(src) == 0 {
		return fault{reasonEmpty, -1}
	}
	if len(src) == 16 { // the most frequent layout: two words of digits
		first, second := binary.LittleEndian.Uint64(src), binary.LittleEndian.Uint64(src[8:])
		if areDigits(first) && areDigits(second) && c.min <= 16 && c.max >= 16 {
			binary.LittleEndian.PutUint64(d.digit[:], first^zeros)
			binary.LittleEndian.PutUint64(d.digit[8:], second^zeros)
			d.n = 16
			return fault{}
		}
	}
	separated := true // no separator may come first, last, or behind another
	for i, b := range src {
		switch {
		case b >= '0' && b <= '9':
			if d.n == maxCardDigits {
				return fault{reasonLong, i}
			}
			d.digit[d.n] = b - '0'
			d.n++
			separated = false
		case b != ' ' && b != '-':
			return fault{stray(b), i}
		case separated:
			return fault{reasonSeparator, i}
		default:
			separated = true
		}
	}
	switch {
	case separated:
		return fault{reasonSeparator, len(src) - 1}
	case d.n < c.min:
		return fault{reasonShort, -1}
	case d.n > c.max:
		return fault{reasonLong, -1}
	}
	return fault{}
}

// zeros is eight digits 0 as text.
const zeros = 0x3030_3030_3030_3030

// areDigits reports whether all bytes of x are '0' to '9': they have the upper half 3, also when 6 is added.
func areDigits(x uint64) bool {
	const upper = 0xf0f0_f0f0_f0f0_f0f0
	return (x&upper^zeros)|((x+0x0606_0606_0606_0606)&upper^zeros) == 0
}

// halved says which digit has a double with the given digit sum.
var halved = [10]byte{0, 5, 1, 6, 2, 7, 3, 8, 4, 9}

// residue is the Luhn sum modulo 10 (ISO/IEC 7812-1 annex B): 0 for a card number. Every second digit from the right,
// beginning with the last but one, counts with the digit sum of its double.
func (d *cardDigits) residue() int {
	sum, odd := 0, d.n%2
	for i := 0; i < len(d.digit); i += 8 {
		sum += luhn(binary.LittleEndian.Uint64(d.digit[i:i+8]), odd)
	}
	return sum % 10
}

// luhn is the Luhn sum of eight digits, the first one the lowest byte, of which those at even places are doubled, or
// with odd = 1 those at odd places.
func luhn(x uint64, odd int) int {
	const pairs = 0x00ff_00ff_00ff_00ff
	double, single := x>>(8*odd)&pairs, x>>(8-8*odd)&pairs
	above4 := (double + 0x007b_007b_007b_007b) >> 7 & 0x0001_0001_0001_0001
	return int((2*double - 9*above4 + single) * 0x0001_0001_0001_0001 >> 48) // four sums, each of at most 18
}

// The first digit of a token stands for the first digit of a value: 01789 for 23456.
var (
	tokenFirst = [5]byte{0, 1, 7, 8, 9}
	firstRank  = [10]byte{0: 0, 1: 1, 2: 0, 3: 1, 4: 2, 5: 3, 6: 4, 7: 2, 8: 3, 9: 4}
)

func valueFirst(d byte) bool { return d >= 2 && d <= 6 }

// prepare ranks the free digits but the last and returns what FF1 runs over: the plan, the halves of the rank, and in
// tweak, from its start, the tweak.
func (c *pan) prepare(d *cardDigits, k *versionKey, tweak []byte) (plan *ff1.Plan, a, b uint64) {
	free := d.n - c.keep
	rank := &c.rank[free]
	tweak[0] = byte(d.n)
	copy(tweak[1:], d.digit[free:d.n])
	a, b = rank.half.divide(uint64(firstRank[d.digit[0]])*rank.first.d + number(d.digit[1:free-1]))
	return k.plans[free], a, b
}

func (c *pan) tweakLen() int { return 1 + c.keep }

// finish puts what FF1 returned in the place of the free digits, the last of which makes the Luhn residue. Where FF1's
// result is outside the domain FF1 goes on: the walk ends, because FF1 permutes, and the cycle through the rank comes
// back to it, which is in the domain.
func (c *pan) finish(d *cardDigits, plan *ff1.Plan, a, b uint64, tweak []byte, inverse bool, residue int) {
	free := d.n - c.keep
	rank := &c.rank[free]
	x := a*rank.half.d + b
	for calls := 1; x >= rank.domain; calls++ {
		if calls == maxWalk {
			panic("engine: " + reasonWalk) // of a permutation once in 2^480: the cipher is broken
		}
		if inverse {
			a, b = plan.DecryptPair(a, b, tweak)
		} else {
			a, b = plan.EncryptPair(a, b, tweak)
		}
		x = a*rank.half.d + b
	}
	first, rest := rank.first.divide(x)
	if inverse {
		d.digit[0] = byte(first) + 2
	} else {
		d.digit[0] = tokenFirst[first]
	}
	// The Luhn sum is taken of the digits while they are at hand, not read back from where they were just stored.
	last := free - 1
	sum := int(weights[d.n%2][d.digit[0]]) + d.sumFrom(free)
	end := last
	for ; end > 8; end -= 8 {
		q := rest / 100_000_000
		eight := spell8(rest - q*100_000_000)
		binary.LittleEndian.PutUint64(d.digit[end-8:], eight)
		sum += luhn(eight, (d.n+end)%2)
		rest = q
	}
	eight := spell8(rest)
	sum += luhn(eight, (d.n+end)%2)
	for i := end - 1; i > 0; i-- {
		d.digit[i] = byte(eight >> 56)
		eight <<= 8
	}
	need := (residue + 200 - sum) % 10 // the sum is at most 19·9
	if (d.n-last)%2 == 1 {
		d.digit[last] = byte(need)
	} else {
		d.digit[last] = halved[need]
	}
}

func (c *pan) check(plain []byte) fault {
	var d cardDigits
	return c.value(&d, plain)
}

// sumFrom is the Luhn sum of the digits from i on.
func (d *cardDigits) sumFrom(i int) (sum int) {
	if d.n-i <= 8 {
		return luhn(binary.LittleEndian.Uint64(d.digit[d.n-8:])>>(8*uint(8-d.n+i)), (d.n-i)%2)
	}
	for ; i < d.n; i++ {
		sum += int(weights[(d.n-i)%2][d.digit[i]])
	}
	return sum
}

// weights is what a digit counts: for every second one from the right the digit sum of its double.
var weights = [2][10]byte{{0, 2, 4, 6, 8, 1, 3, 5, 7, 9}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}}

func (c *pan) token(dst, plain []byte, k *versionKey) ([]byte, fault) {
	var d cardDigits
	if f := c.value(&d, plain); f.reason != "" {
		return dst, f
	}
	var buf [maxTweak]byte
	p, a, b := c.prepare(&d, k, buf[:])
	tweak := buf[:c.tweakLen()]
	a, b = p.EncryptPair(a, b, tweak)
	c.finish(&d, p, a, b, tweak, false, 1+k.mark)
	return d.render(dst, plain), fault{}
}

func (c *pan) plain(dst, token []byte, keys *keySet) ([]byte, fault) {
	var d cardDigits
	k, f := c.readToken(&d, token, keys)
	if f.reason != "" {
		return dst, f
	}
	var buf [maxTweak]byte
	p, a, b := c.prepare(&d, k, buf[:])
	tweak := buf[:c.tweakLen()]
	a, b = p.DecryptPair(a, b, tweak)
	c.finish(&d, p, a, b, tweak, true, 0)
	return d.render(dst, token), fault{}
}

func (c *pan) readToken(d *cardDigits, token []byte, keys *keySet) (*versionKey, fault) {
	m, f := c.marked(d, token)
	if f.reason != "" {
		return nil, f
	}
	k := keys.mark(m)
	if k == nil {
		return nil, fault{reasonVersion, -1}
	}
	return k, fault{}
}

func (c *pan) tokens(dst []byte, ends []int, values [][]byte, k *versionKey) ([]byte, []int, fault) {
	var d [ff1.Lanes]cardDigits
	var w lanes
	w.tweakLen = c.tweakLen()
	for len(values) > 0 {
		n, f := min(ff1.Lanes, len(values)), fault{}
		for i, v := range values[:n] {
			if f = c.value(&d[i], v); f.reason != "" {
				n = i
				break
			}
			w.plan[i], w.a[i], w.b[i] = c.prepare(&d[i], k, w.tweak(i))
		}
		w.run(n, false)
		for i, v := range values[:n] {
			c.finish(&d[i], w.plan[i], w.a[i], w.b[i], w.tweak(i)[:w.tweakLen], false, 1+k.mark)
			dst = d[i].render(dst, v)
			ends = append(ends, len(dst))
		}
		if f.reason != "" {
			return dst, ends, f
		}
		values = values[n:]
	}
	return dst, ends, fault{}
}

func (c *pan) plains(dst []byte, ends []int, tokens [][]byte, keys *keySet) ([]byte, []int, fault) {
	var d [ff1.Lanes]cardDigits
	var w lanes
	w.tweakLen = c.tweakLen()
	for len(tokens) > 0 {
		n, f := min(ff1.Lanes, len(tokens)), fault{}
		for i, v := range tokens[:n] {
			var k *versionKey
			if k, f = c.readToken(&d[i], v, keys); f.reason != "" {
				n = i
				break
			}
			w.plan[i], w.a[i], w.b[i] = c.prepare(&d[i], k, w.tweak(i))
		}
		w.run(n, true)
		for i, v := range tokens[:n] {
			c.finish(&d[i], w.plan[i], w.a[i], w.b[i], w.tweak(i)[:w.tweakLen], true, 0)
			dst = d[i].render(dst, v)
			ends = append(ends, len(dst))
		}
		if f.reason != "" {
			return dst, ends, f
		}
		tokens = tokens[n:]
	}
	return dst, ends, fault{}
}

// value reads a clear card number.
func (c *pan) value(d *cardDigits, plain []byte) fault {
	f := c.read(d, plain)
	switch {
	case f.reason != "":
	case !valueFirst(d.digit[0]):
		f = fault{"no payment card number begins with this digit (2 to 6 do)", 0}
	case d.residue() != 0:
		f = fault{"it fails the Luhn check", -1}
	}
	return f
}

// marked reads a token and its mark.
func (c *pan) marked(d *cardDigits, token []byte) (int, fault) {
	if f := c.read(d, token); f.reason != "" {
		return 0, f
	}
	residue := d.residue()
	if valueFirst(d.digit[0]) || residue == 0 {
		return 0, fault{reasonShape, -1}
	}
	return residue - 1, fault{}
}

func (c *pan) mark(token []byte) (int, bool) {
	var d cardDigits
	m, f := c.marked(&d, token)
	return m, f.reason == ""
}

// render appends the digits in the layout of src.
func (d *cardDigits) render(dst, src []byte) []byte {
	if len(src) == d.n { // no separators
		text := d.digit
		for i := 0; i < len(text); i += 8 {
			word := text[i : i+8]
			binary.LittleEndian.PutUint64(word, binary.LittleEndian.Uint64(word)|zeros)
		}
		return append(dst, text[:d.n]...)
	}
	n, i := len(dst), 0
	dst = append(dst, src...)
	for j, c := range dst[n:] {
		if c >= '0' && c <= '9' {
			dst[n+j] = '0' + d.digit[i]
			i++
		}
	}
	return dst
}

func (c *pan) masked(dst, plain []byte, _ string) ([]byte, fault) {
	var d cardDigits
	if f := c.value(&d, plain); f.reason != "" {
		return dst, f
	}
	return appendLast4(dst, plain, d.n), fault{}
}

func (c *pan) tokenLen(n int) int { return n }
