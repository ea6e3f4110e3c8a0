// Package ff1 is FF1, the format-preserving encryption of NIST SP 800-38G, over numerals and over numbers.
//
// Start with New, which takes an AES key, and Cipher.Plan, which fixes radix, length and tweak length. A Plan
// enciphers numerals (Encrypt, Decrypt) or, where a half fits in 64 bits, the two halves as numbers (EncryptPair,
// DecryptPair, or many at once through EncryptPairs and DecryptPairs).
//
// The algorithm is SP 800-38G section 5.1, Algorithms 7 and 8, in the equivalent form section 4.5 allows: NUM and STR
// are inverses of each other, so the loop holds the numbers A and B and never the strings. In the standard's letters:
//
//	u = ⌊n/2⌋, v = n−u                                       lengths of the halves
//	b = ⌈⌈v·log2 radix⌉/8⌉, d = 4⌈b/4⌉+4                     bytes of a half, bytes of the round's output
//	P = 01 02 01 radix(3) 0a u(1) n(4) t(4)                  the first block of the CBC-MAC: the same for a whole Plan
//	Q = T 0…0 i(1) B(b)                                      the rest: only its last b+1 bytes change from round to round
//	R = CBC-MAC(P ‖ Q), S = R ‖ E(R⊕1) ‖ …, y = first d bytes
//	c = A ± y mod radix^u (even rounds) or radix^v (odd rounds)
//
// E(P) is computed once for a Plan and the blocks of T before the last once for a value, so that a round is a single
// AES block whenever b ≤ 12, that is for halves up to 2^96. b is the length of the integer radix^v − 1: no floating
// point, whose rounding is the classic mistake here.
//
// What the package does not do: it knows no alphabet, checks no policy and adds no integrity. Every string of
// numerals deciphers to something under every key. The domain floor is that of the 2016 text, radix^n ≥ 100; the
// floor of 1,000,000 in the drafts of revision 1 is enforced by package engine, which knows which plaintexts exist.
//
// Timing: for halves up to 2^96 the rounds have no division and no branch that depends on the value. Writing a half
// wider than 64 bits as numerals divides. AES is crypto/aes.
package ff1

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"math/big"
	"strconv"
	"sync"
)

const (
	// MinRadix and MaxRadix bound the radix (SP 800-38G section 5.1: 2..2^16).
	MinRadix = 2
	MaxRadix = 1 << 16

	minDomain = 100 // radix^minlen (SP 800-38G section 5.1)
	minLen    = 2
	rounds    = 10
)

// What Plan, Encrypt and Decrypt refuse.
var (
	ErrRadix  = errors.New("ff1: radix is outside 2..65536")
	ErrLength = errors.New("ff1: length is below 2, above 2^32-1, or the domain is smaller than 100")
	ErrTweak  = errors.New("ff1: tweak is not of the plan's length")
)

// NumeralError says that a numeral is not below the radix. It does not hold the numeral.
type NumeralError struct {
	Offset int // in numerals, from 0
}

func (e *NumeralError) Error() string {
	return "ff1: numeral " + strconv.Itoa(e.Offset) + " is not below the radix"
}

// Cipher is an AES key. It is immutable and safe for concurrent use.
type Cipher struct {
	block cipher.Block
}

// New returns the Cipher of an AES key of 16, 24 or 32 bytes. It does not keep key.
func New(key []byte) (*Cipher, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, errors.New("ff1: key is not 16, 24 or 32 bytes")
	}
	return &Cipher{block}, nil
}

// Plan is FF1 for one key, radix, length and tweak length, with everything computed that these decide.
// It is immutable and safe for concurrent use.
type Plan struct {
	block    cipher.Block
	radix    uint64
	n, u, v  int
	tweakLen int
	b        int // bytes of a half in Q
	room     int // bytes of the tweak that fit in Q's last block beside i and B: 15−b
	form     form
	hi, lo   uint64                // E(P)
	step     uint128               // 1 in the place of i in Q's last block
	size     struct{ u, v uint64 } // radix^u and radix^v where they fit in 64 bits; 0 is 2^64
	mu32     narrow                // radix^u, and so on, for form32
	mv32     narrow
	mu, mv   wide   // for form64 and form96
	mask     uint64 // what of the block's second half belongs to y
	digits   positional
	big      *bigPlan
}

// form is how a half is held. It follows from b alone, since b decides d.
type form uint8

const (
	form32  form = iota // b ≤ 4, d = 8: y is one 64-bit word
	form64              // b ≤ 8, d = 12: y is 96 bits
	form96              // b ≤ 12, d = 16: y is the whole block
	formBig             // longer: math/big
)

// Plan returns FF1 over n numerals of the given radix with tweaks of tweakLen bytes.
func (c *Cipher) Plan(radix, n, tweakLen int) (*Plan, error) {
	switch {
	case radix < MinRadix || radix > MaxRadix:
		return nil, ErrRadix
	case n < minLen || uint64(n) > 1<<32-1:
		return nil, ErrLength
	case tweakLen < 0 || uint64(tweakLen) > 1<<32-1:
		return nil, ErrTweak
	}
	if domain := power(radix, min(n, 7)); domain.Cmp(big.NewInt(minDomain)) < 0 {
		return nil, ErrLength // 2^7 > 100: seven numerals always suffice
	}
	p := &Plan{block: c.block, radix: uint64(radix), n: n, u: n / 2, v: n - n/2, tweakLen: tweakLen}
	mu, mv := power(radix, p.u), power(radix, p.v)
	largest := new(big.Int).Sub(mv, big.NewInt(1))
	p.b = (largest.BitLen() + 7) / 8
	p.room = 15 - p.b
	switch {
	case p.b <= 4:
		p.form = form32
	case p.b <= 8:
		p.form = form64
	case p.b <= 12:
		p.form = form96
	default:
		p.form = formBig
		p.big = &bigPlan{mu: mu, mv: mv}
	}
	switch p.form {
	case form32:
		p.mu32, p.mv32 = newNarrow(mu), newNarrow(mv)
	case form64:
		p.mu, p.mv, p.mask = newWide(mu, 32), newWide(mv, 32), 1<<64-1<<32
	case form96:
		p.mu, p.mv, p.mask = newWide(mu, 0), newWide(mv, 0), 1<<64-1
	}
	if p.form != formBig {
		p.size.u, p.size.v = words(mu).lo, words(mv).lo
		p.step = words(new(big.Int).Lsh(big.NewInt(1), uint(8*p.b)))
	}
	p.digits = newPositional(uint64(radix))
	s := new(scratch)
	s.in = [16]byte{1, 2, 1, byte(radix >> 16), byte(radix >> 8), byte(radix), rounds, byte(p.u)}
	binary.BigEndian.PutUint32(s.in[8:], uint32(n))
	binary.BigEndian.PutUint32(s.in[12:], uint32(tweakLen))
	c.block.Encrypt(s.out[:], s.in[:])
	p.hi, p.lo = binary.BigEndian.Uint64(s.out[:8]), binary.BigEndian.Uint64(s.out[8:])
	return p, nil
}

// power returns radix^n.
func power(radix, n int) *big.Int {
	return new(big.Int).Exp(big.NewInt(int64(radix)), big.NewInt(int64(n)), nil)
}

// Encrypt enciphers the numerals of src into dst (Algorithm 7). Both have the plan's length and may be the same slice.
// It allocates nothing for halves up to 2^96. A numeral that is not below the radix is a *NumeralError.
func (p *Plan) Encrypt(dst, src []uint16, tweak []byte) error {
	return p.numerals(dst, src, tweak, false)
}

// Decrypt is the inverse of Encrypt (Algorithm 8).
func (p *Plan) Decrypt(dst, src []uint16, tweak []byte) error {
	return p.numerals(dst, src, tweak, true)
}

func (p *Plan) numerals(dst, src []uint16, tweak []byte, inverse bool) error {
	if len(src) != p.n || len(dst) != p.n {
		return ErrLength
	}
	if len(tweak) != p.tweakLen {
		return ErrTweak
	}
	for i, x := range src {
		if uint64(x) >= p.radix {
			return &NumeralError{Offset: i}
		}
	}
	switch p.form {
	case form32, form64:
		a, b := p.digits.number(src[:p.u]), p.digits.number(src[p.u:])
		a, b = p.pair(a, b, tweak, inverse)
		p.digits.spell128(dst[:p.u], uint128{0, a})
		p.digits.spell128(dst[p.u:], uint128{0, b})
	case form96:
		a, b := p.digits.number128(src[:p.u]), p.digits.number128(src[p.u:])
		s := scratches.Get().(*scratch)
		hi, lo := p.absorb(s, tweak)
		a, b = p.run96(s, uint128{hi, lo}, a, b, inverse)
		scratches.Put(s)
		p.digits.spell128(dst[:p.u], a)
		p.digits.spell128(dst[p.u:], b)
	default:
		p.runBig(dst, src, tweak, inverse)
	}
	return nil
}

// PairsFit says whether the halves fit in 64 bits, so that EncryptPair and its kin may be called.
func (p *Plan) PairsFit() bool { return p.form <= form64 }

// Halves returns radix^u and radix^v, the sizes of the halves that EncryptPair takes. It panics unless PairsFit.
// A half of exactly 2^64 values is reported as 0.
func (p *Plan) Halves() (u, v uint64) {
	p.mustFit(p.tweakLen)
	return p.size.u, p.size.v
}

// EncryptPair enciphers the string whose halves are the numbers a < radix^u and b < radix^v, most significant
// numeral first, as Encrypt does. Larger numbers, another tweak length, or a plan whose PairsFit is false panic:
// they are mistakes of the caller, never of the data. It allocates nothing.
func (p *Plan) EncryptPair(a, b uint64, tweak []byte) (uint64, uint64) {
	p.mustFit(len(tweak))
	p.mustBelow(a, b)
	return p.pair(a, b, tweak, false)
}

// DecryptPair is the inverse of EncryptPair.
func (p *Plan) DecryptPair(a, b uint64, tweak []byte) (uint64, uint64) {
	p.mustFit(len(tweak))
	p.mustBelow(a, b)
	return p.pair(a, b, tweak, true)
}

func (p *Plan) mustFit(tweakLen int) {
	if p.form > form64 || tweakLen != p.tweakLen {
		panic("ff1: pair with halves above 64 bits or a tweak of another length")
	}
}

func (p *Plan) mustBelow(a, b uint64) {
	if a > p.size.u-1 || b > p.size.v-1 { // a size is 0 for 2^64: every number is below
		panic("ff1: half out of range")
	}
}

func (p *Plan) pair(a, b uint64, tweak []byte, inverse bool) (uint64, uint64) {
	s := scratches.Get().(*scratch)
	hi, lo := p.absorb(s, tweak)
	switch {
	case p.form == form32 && !inverse:
		a, b = p.encrypt32(s, hi, lo, a, b)
	case p.form == form32:
		a, b = p.decrypt32(s, hi, lo, a, b)
	default:
		x, y := p.run96(s, uint128{hi, lo}, uint128{0, a}, uint128{0, b}, inverse)
		a, b = x.lo, y.lo
	}
	scratches.Put(s)
	return a, b
}

// scratch holds the block that goes into AES and the one that comes out. It is pooled because what is handed to
// cipher.Block.Encrypt, an interface method, cannot stay on the stack.
type scratch struct {
	in, out [16]byte
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// absorb returns the state of the CBC-MAC, E(P) with the tweak taken in, such that a round only has to add i and B
// to it and encrypt. Blocks of the tweak before Q's last block cost one AES block each; a tweak of at most room
// bytes costs none.
func (p *Plan) absorb(s *scratch, tweak []byte) (hi, lo uint64) {
	hi, lo = p.hi, p.lo
	for len(tweak) > p.room {
		k := min(16, len(tweak))
		thi, tlo := head(tweak[:k])
		binary.BigEndian.PutUint64(s.in[:8], hi^thi)
		binary.BigEndian.PutUint64(s.in[8:], lo^tlo)
		p.block.Encrypt(s.out[:], s.in[:])
		hi, lo = binary.BigEndian.Uint64(s.out[:8]), binary.BigEndian.Uint64(s.out[8:])
		tweak = tweak[k:]
	}
	thi, tlo := head(tweak)
	return hi ^ thi, lo ^ tlo
}

// head returns up to 16 bytes as the head of a block that ends in zeros.
func head(t []byte) (hi, lo uint64) {
	if len(t) >= 8 {
		if len(t) == 16 {
			return binary.BigEndian.Uint64(t), binary.BigEndian.Uint64(t[8:])
		}
		return binary.BigEndian.Uint64(t), head8(t[8:])
	}
	return head8(t), 0
}

// head8 is head for less than 8 bytes and the first word.
func head8(t []byte) (x uint64) {
	at := 64
	if len(t) >= 4 {
		at, x, t = 32, uint64(binary.BigEndian.Uint32(t))<<32, t[4:]
	}
	for _, c := range t {
		at -= 8
		x |= uint64(c) << at
	}
	return x
}
