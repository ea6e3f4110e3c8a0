package engine

import (
	"encoding/binary"

	"pgveil/engine/ff1"
)

// lettered is the code of the formats that are digits with a layout: FF1 in radix 10 over the free digits, the first
// three of the result written as three letters.
//
// The letters are the number version·1000 + d in base 26, where d is the three digits and version counts modulo 17:
// 17·1000 ≤ 26³ = 17,576. So a token keeps the length, says its version, and has letters where a value has digits.
//
// What stays as it is goes into the tweak: the leading digits (a country code) and the kept trailing digits.
type lettered struct {
	resolved
	layout layout
}

const (
	letters      = 3
	letteredMark = 17   // ⌊26³/1000⌋
	perMark      = 1000 // codes of one version
	maxDigits    = 38   // two halves of 19 digits, each below 2^64
	leadBytes    = 4    // of the tweak: number of leading digits, and the digits, padded with zeros
)

// layout is where separators and leading digits may stand.
type layout interface {
	// lead returns how many leading digits pass through.
	lead(src []byte) (int, fault)
	// check judges what is true of values and tokens alike: total length, first and last character.
	check(src []byte) fault
	// separator reports whether src[i] may stand there and passes through.
	separator(src []byte, i int) bool
}

// reading is a value or token taken apart.
type reading struct {
	digit [maxDigits]byte
	n     int // digits in all
	lead  int
	mark  int
}

func (l *lettered) derive(k *versionKey, key func(int) []byte) error {
	aes := key(32)
	c, err := ff1.New(aes)
	clear(aes)
	if err != nil {
		return err
	}
	k.plans = make([]*ff1.Plan, l.max-l.keep+1)
	for free := l.min - l.keep; free <= l.max-l.keep; free++ {
		if k.plans[free], err = c.Plan(10, free, leadBytes+l.keep); err != nil {
			return err
		}
	}
	return nil
}

// read takes src apart. Of a token the mark is read, and the letters become digits again.
func (l *lettered) read(r *reading, src []byte, token bool) (f fault) {
	r.n, r.mark = 0, 0
	if len(src) == 0 {
		return fault{reasonEmpty, -1}
	}
	if f = l.layout.check(src); f.reason != "" {
		return f
	}
	if r.lead, f = l.layout.lead(src); f.reason != "" {
		return f
	}
	code := 0
	for i, c := range src {
		lettered := token && r.n >= r.lead && r.n < r.lead+letters
		switch {
		case r.n == maxDigits && (c >= '0' && c <= '9' || c >= 'A' && c <= 'Z'):
			return fault{reasonLong, i}
		case lettered && c >= 'A' && c <= 'Z':
			code = code*26 + int(c-'A')
			r.n++
		case !lettered && c >= '0' && c <= '9':
			r.digit[r.n] = c - '0'
			r.n++
		case l.layout.separator(src, i):
		default:
			return fault{stray(c), i}
		}
	}
	if n := r.n - r.lead; n < l.min {
		return fault{reasonShort, -1}
	} else if n > l.max {
		return fault{reasonLong, -1}
	}
	if token {
		r.mark = code / perMark
		if r.mark >= letteredMark {
			return fault{reasonShape, -1}
		}
		area := code % perMark
		r.digit[r.lead], r.digit[r.lead+1], r.digit[r.lead+2] = byte(area/100), byte(area/10%10), byte(area%10)
	}
	return fault{}
}

// maxTweak bounds the tweak in bytes.
const maxTweak = leadBytes + maxDigits

// prepare returns what FF1 runs over: the plan, the halves, and in tweak, from its start, the tweak.
func (l *lettered) prepare(r *reading, k *versionKey, tweak []byte) (plan *ff1.Plan, a, b uint64) {
	tweak[0], tweak[1], tweak[2], tweak[3] = byte(r.lead), 0, 0, 0
	copy(tweak[1:leadBytes], r.digit[:r.lead])
	copy(tweak[leadBytes:], r.digit[r.n-l.keep:r.n])
	free := r.digit[r.lead : r.n-l.keep]
	u := len(free) / 2
	return k.plans[len(free)], number(free[:u]), number(free[u:])
}

// finish puts the halves that FF1 returned in the place of the free digits.
func (l *lettered) finish(r *reading, a, b uint64) {
	free := r.digit[r.lead : r.n-l.keep]
	u := len(free) / 2
	spell(free[:u], a)
	spell(free[u:], b)
}

func (l *lettered) tweakLen() int { return leadBytes + l.keep }

func (l *lettered) check(plain []byte) fault {
	var r reading
	return l.read(&r, plain, false)
}

func (l *lettered) token(dst, plain []byte, k *versionKey) ([]byte, fault) {
	var r reading
	if f := l.read(&r, plain, false); f.reason != "" {
		return dst, f
	}
	var tweak [maxTweak]byte
	p, a, b := l.prepare(&r, k, tweak[:])
	a, b = p.EncryptPair(a, b, tweak[:l.tweakLen()])
	l.finish(&r, a, b)
	return l.renderToken(dst, plain, &r, k), fault{}
}

func (l *lettered) renderToken(dst, plain []byte, r *reading, k *versionKey) []byte {
	d := r.digit[r.lead:]
	code := k.mark*perMark + int(d[0])*100 + int(d[1])*10 + int(d[2])
	area := [letters]byte{'A' + byte(code/(26*26)), 'A' + byte(code/26%26), 'A' + byte(code%26)}
	n, i := len(dst), 0
	dst = append(dst, plain...)
	for j, c := range dst[n:] {
		if c < '0' || c > '9' {
			continue
		}
		if i >= r.lead && i < r.lead+letters {
			dst[n+j] = area[i-r.lead]
		} else {
			dst[n+j] = '0' + r.digit[i]
		}
		i++
	}
	return dst
}

func (l *lettered) plain(dst, token []byte, keys *keySet) ([]byte, fault) {
	var r reading
	k, f := l.readToken(&r, token, keys)
	if f.reason != "" {
		return dst, f
	}
	var tweak [maxTweak]byte
	p, a, b := l.prepare(&r, k, tweak[:])
	a, b = p.DecryptPair(a, b, tweak[:l.tweakLen()])
	l.finish(&r, a, b)
	return r.renderPlain(dst, token), fault{}
}

func (l *lettered) readToken(r *reading, token []byte, keys *keySet) (*versionKey, fault) {
	if f := l.read(r, token, true); f.reason != "" {
		return nil, f
	}
	k := keys.mark(r.mark)
	if k == nil {
		return nil, fault{reasonVersion, -1}
	}
	return k, fault{}
}

func (r *reading) renderPlain(dst, token []byte) []byte {
	n, i := len(dst), 0
	dst = append(dst, token...)
	for j, c := range dst[n:] {
		if c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' {
			dst[n+j] = '0' + r.digit[i]
			i++
		}
	}
	return dst
}

func (l *lettered) tokens(dst []byte, ends []int, values [][]byte, k *versionKey) ([]byte, []int, fault) {
	for len(values) > 0 {
		var r [ff1.Lanes]reading
		var w lanes
		w.tweakLen = l.tweakLen()
		n, f := min(ff1.Lanes, len(values)), fault{}
		for i, v := range values[:n] {
			if f = l.read(&r[i], v, false); f.reason != "" {
				n = i
				break
			}
			w.plan[i], w.a[i], w.b[i] = l.prepare(&r[i], k, w.tweak(i))
		}
		w.run(n, false)
		for i, v := range values[:n] {
			l.finish(&r[i], w.a[i], w.b[i])
			dst = l.renderToken(dst, v, &r[i], k)
			ends = append(ends, len(dst))
		}
		if f.reason != "" {
			return dst, ends, f
		}
		values = values[n:]
	}
	return dst, ends, fault{}
}

func (l *lettered) plains(dst []byte, ends []int, tokens [][]byte, keys *keySet) ([]byte, []int, fault) {
	for len(tokens) > 0 {
		var r [ff1.Lanes]reading
		var w lanes
		w.tweakLen = l.tweakLen()
		n, f := min(ff1.Lanes, len(tokens)), fault{}
		for i, v := range tokens[:n] {
			var k *versionKey
			if k, f = l.readToken(&r[i], v, keys); f.reason != "" {
				n = i
				break
			}
			w.plan[i], w.a[i], w.b[i] = l.prepare(&r[i], k, w.tweak(i))
		}
		w.run(n, true)
		for i, v := range tokens[:n] {
			l.finish(&r[i], w.a[i], w.b[i])
			dst = r[i].renderPlain(dst, v)
			ends = append(ends, len(dst))
		}
		if f.reason != "" {
			return dst, ends, f
		}
		tokens = tokens[n:]
	}
	return dst, ends, fault{}
}

func (l *lettered) mark(token []byte) (int, bool) {
	var r reading
	f := l.read(&r, token, true)
	return r.mark, f.reason == ""
}

func (l *lettered) masked(dst, plain []byte, _ string) ([]byte, fault) {
	var r reading
	if f := l.read(&r, plain, false); f.reason != "" {
		return dst, f
	}
	return appendLast4(dst, plain, r.n), fault{}
}

func (l *lettered) tokenLen(n int) int { return n }

// number is the value of digits, most significant first.
func number(d []byte) (n uint64) {
	for ; len(d) >= 8; d = d[8:] {
		n = n*100_000_000 + number8(binary.LittleEndian.Uint64(d))
	}
	for _, x := range d {
		n = n*10 + uint64(x)
	}
	return n
}

// spell is the inverse of number for a given length.
func spell(d []byte, n uint64) {
	for ; len(d) >= 8; d = d[:len(d)-8] {
		q := n / 100_000_000
		binary.LittleEndian.PutUint64(d[len(d)-8:], spell8(n-q*100_000_000))
		n = q
	}
	for i := len(d) - 1; i >= 0; i-- {
		q := n / 10
		d[i] = byte(n - q*10)
		n = q
	}
}

// number8 is the value of the eight digits that are the bytes of x, the first one the lowest: neighbours are joined to
// four numbers below 100, these to two below 10,000, and these to one.
func number8(x uint64) uint64 {
	const pairs = 0x00ff_00ff_00ff_00ff
	x = (x&pairs)*10 + x>>8&pairs
	x = (x&0x0000_ffff_0000_ffff)*100 + x>>16&0x0000_ffff_0000_ffff
	return x&0xffff_ffff*10_000 + x>>32
}

// spell8 is the inverse of number8 for x below 100,000,000. The quotients by 100 and 10 are exact for what is divided:
// ⌊x·10486/2^20⌋ below 10,000 and ⌊x·103/2^10⌋ below 100.
func spell8(x uint64) uint64 {
	q := x / 10_000
	x = q | (x-q*10_000)<<32
	q = x * 10486 >> 20 & 0x0000_007f_0000_007f
	x = q | (x-q*100)<<16
	q = x * 103 >> 10 & 0x000f_000f_000f_000f
	return q | (x-q*10)<<8
}

// appendLast4 appends src, which has n digits, with a star for each but the last four, or of fewer than eight for more
// than half of them.
func appendLast4(dst, src []byte, n int) []byte {
	stars := n - shown(n)
	for _, c := range src {
		if c >= '0' && c <= '9' {
			if stars > 0 {
				c = '*'
			}
			stars--
		}
		dst = append(dst, c)
	}
	return dst
}

// shown is how many of n characters last4 shows.
func shown(n int) int { return min(4, n/2) }

// guardLetter is the guard of formats whose tokens begin with an upper-case letter and whose values begin with a digit.
func guardLetter(column string) string { return "(" + begins(column, "A", "[") + ")" }
