// Package siv is AES-SIV, the deterministic authenticated encryption of RFC 5297.
//
// Start with New and Cipher.Seal. Equal plaintexts under equal associated data give equal outputs, which is the point
// here (equality can be searched) and the only thing the output tells beyond its length. Open returns the plaintext
// only if the synthetic IV proves that key, associated data and ciphertext belong together.
//
// With takes associated data in ahead of time: a Cipher holds the state of S2V (RFC 5297 section 2.4) after the
// strings it was given, so that sealing under fixed associated data costs only the CMAC of the plaintext and CTR.
//
// There is no nonce argument: a nonce is the last string of the associated data (RFC 5297 section 3).
package siv

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"sync"
)

// Overhead is what Seal adds to a plaintext: the synthetic IV, in bytes.
const Overhead = 16

// maxAD is the number of associated-data strings beside the plaintext: S2V is defined for up to 127 (RFC 5297
// section 7 and 2.6).
const maxAD = 126

var (
	// ErrKey says that a key is not two AES keys of one size.
	ErrKey = errors.New("siv: key is not 32, 48 or 64 bytes")
	// ErrOpen says that the input is not what Seal returned under this key and associated data.
	ErrOpen = errors.New("siv: message does not authenticate")
)

// Cipher is a key and the associated data taken in so far. It is immutable and safe for concurrent use.
type Cipher struct {
	mac    cipher.Block // K1, for S2V
	ctr    cipher.Block // K2, for CTR
	k1, k2 block        // the subkeys of CMAC (RFC 4493 section 2.3)
	d      block        // S2V's D
	ads    int          // strings taken into d
}

// block is 16 bytes as two big-endian words.
type block struct {
	hi, lo uint64
}

func (b block) xor(o block) block { return block{b.hi ^ o.hi, b.lo ^ o.lo} }

// dbl doubles in GF(2^128) (RFC 5297 section 2.3).
func (b block) dbl() block {
	carry := -(b.hi >> 63) & 0x87
	return block{b.hi<<1 | b.lo>>63, b.lo<<1 ^ carry}
}

func load(b []byte) block {
	return block{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:16])}
}

func (b block) store(dst []byte) {
	binary.BigEndian.PutUint64(dst[:8], b.hi)
	binary.BigEndian.PutUint64(dst[8:16], b.lo)
}

// scratch holds what goes into AES, an interface's method, and so cannot stay on the stack.
type scratch struct {
	in, out [16]byte
	ctr     [2][16]byte
	key     [32]byte // of CTR
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// New returns AES-SIV under key: the first half authenticates, the second half enciphers (RFC 5297 section 2.2).
// key has 32, 48 or 64 bytes and is not kept.
func New(key []byte) (*Cipher, error) {
	half := len(key) / 2
	if len(key) != 32 && len(key) != 48 && len(key) != 64 {
		return nil, ErrKey
	}
	mac, err := aes.NewCipher(key[:half])
	if err != nil {
		return nil, ErrKey
	}
	ctr, err := aes.NewCipher(key[half:])
	if err != nil {
		return nil, ErrKey
	}
	c := &Cipher{mac: mac, ctr: ctr}
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	c.k1 = c.encrypt(s, block{}).dbl()
	c.k2 = c.k1.dbl()
	c.d = c.encrypt(s, c.k1) // CMAC of the zero block: one full block, no chaining
	return c, nil
}

// With returns a Cipher whose associated data begins with that of c, followed by ad. c is unchanged. More than 126
// strings in all panic.
func (c *Cipher) With(ad ...[]byte) *Cipher {
	n := *c
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	n.d = c.absorb(s, ad)
	n.ads += len(ad)
	return &n
}

// Seal appends the synthetic IV and the ciphertext of plaintext to dst: len(plaintext)+Overhead bytes. ad follows the
// associated data of c; an empty string in it counts, a missing one does not. dst must not overlap plaintext.
// It allocates only where dst has to grow.
func (c *Cipher) Seal(dst, plaintext []byte, ad ...[]byte) []byte {
	s := scratches.Get().(*scratch)
	v := c.s2v(s, c.absorb(s, ad), plaintext)
	dst = binary.BigEndian.AppendUint64(dst, v.hi)
	dst = binary.BigEndian.AppendUint64(dst, v.lo)
	dst = c.xorKeyStream(s, dst, plaintext, v)
	scratches.Put(s)
	return dst
}

// Open appends the plaintext of sealed to dst. If sealed does not authenticate it returns dst and ErrOpen, and what
// was deciphered is wiped. dst must not overlap sealed.
func (c *Cipher) Open(dst, sealed []byte, ad ...[]byte) ([]byte, error) {
	if len(sealed) < Overhead {
		return dst, ErrOpen
	}
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	v := load(sealed)
	out := c.xorKeyStream(s, dst, sealed[Overhead:], v)
	plaintext := out[len(dst):]
	t := c.s2v(s, c.absorb(s, ad), plaintext).xor(v)
	if subtle.ConstantTimeEq(int32(fold(t)), 0) != 1 {
		clear(plaintext)
		return dst, ErrOpen
	}
	return out, nil
}

// fold is zero if and only if b is.
func fold(b block) uint32 {
	x := b.hi | b.lo
	return uint32(x>>32) | uint32(x)
}

func (c *Cipher) encrypt(s *scratch, b block) block {
	b.store(s.in[:])
	c.mac.Encrypt(s.out[:], s.in[:])
	return load(s.out[:])
}

// absorb takes associated data into D: D = dbl(D) xor CMAC(S_i) (RFC 5297 section 2.4).
func (c *Cipher) absorb(s *scratch, ad [][]byte) block {
	if c.ads+len(ad) > maxAD {
		panic("siv: more than 126 strings of associated data")
	}
	d := c.d
	for _, a := range ad {
		d = d.dbl().xor(c.cmac(s, a, block{}))
	}
	return d
}

// s2v returns V for the last string, the plaintext: CMAC(P xorend D) where P has 16 bytes or more, else
// CMAC(dbl(D) xor pad(P)).
func (c *Cipher) s2v(s *scratch, d block, p []byte) block {
	if len(p) >= 16 {
		return c.cmac(s, p, d)
	}
	return c.encrypt(s, d.dbl().xor(padded(p)).xor(c.k1)) // exactly one full block
}

// padded returns p, shorter than 16 bytes, followed by a one bit and zeros.
func padded(p []byte) block {
	var last [16]byte
	copy(last[:], p)
	last[len(p)] = 0x80
	return load(last[:])
}

// cmac returns AES-CMAC (RFC 4493) of m with end added to its last 16 bytes. end is not zero only for m of 16 bytes
// or more.
func (c *Cipher) cmac(s *scratch, m []byte, end block) block {
	var x block
	for len(m) >= 32 {
		x = c.encrypt(s, x.xor(load(m)))
		m = m[16:]
	}
	switch {
	case len(m) < 16:
		return c.encrypt(s, x.xor(padded(m)).xor(c.k2))
	case len(m) == 16:
		return c.encrypt(s, x.xor(load(m)).xor(end).xor(c.k1))
	}
	// 17 to 31 bytes: end covers the tail of this block and the whole of the last, partial one, of k bytes. The last
	// 16 bytes are there as a block that only has to be shifted into place.
	k := uint(len(m) - 16)
	last := load(m[k:]).xor(end).left(8 * (16 - k)).xor(block{0x80 << 56, 0}.right(8 * k))
	x = c.encrypt(s, x.xor(load(m)).xor(end.right(8*k)))
	return c.encrypt(s, x.xor(last).xor(c.k2))
}

// left and right shift by n bits, 0 < n < 128. A shift of a word by 64 or more gives 0.
func (b block) left(n uint) block {
	return block{b.hi<<n | b.lo>>(64-n) | b.lo<<(n-64), b.lo << n}
}

func (b block) right(n uint) block {
	return block{b.hi >> n, b.lo>>n | b.hi<<(64-n) | b.hi>>(n-64)}
}

// xorKeyStream appends src under AES-CTR from V with bits 31 and 63 cleared (RFC 5297 section 2.5). The cleared bits
// keep the counter, which starts below 2^63 and counts blocks, from carrying out of its 64-bit word.
func (c *Cipher) xorKeyStream(s *scratch, dst, src []byte, v block) []byte {
	n := len(dst)
	dst = append(dst, src...)
	out := dst[n:]
	v.lo &^= 1<<63 | 1<<31
	for len(out) > 0 {
		for i := range min(len(s.key)/16, (len(out)+15)/16) { // blocks that do not wait for each other
			v.store(s.ctr[i][:])
			v.lo++
		}
		for i := range min(len(s.key)/16, (len(out)+15)/16) {
			c.ctr.Encrypt(s.key[16*i:], s.ctr[i][:])
		}
		out = out[subtle.XORBytes(out, out, s.key[:min(len(s.key), len(out))]):]
	}
	return dst
}
