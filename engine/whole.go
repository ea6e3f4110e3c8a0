package engine

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
	"math"
	"strconv"
	"sync"
)

// A policy may ask for another method than its format's. Then the format only judges what a value is, and the whole
// value, byte for byte, becomes one token: sealed by AES-SIV as text is, or hashed.

// A one-way token is t<version>_ and the base32 form of HMAC-SHA-256 (RFC 2104, FIPS 180-4) of the value, or of its first
// Options.Bits bits.
const (
	minBits = 64
	maxBits = 256
)

// prepareWhole makes r that of a policy with another method than its format's.
func (p Policy) prepareWhole(r *resolved) {
	r.keep, r.versions, r.calls, r.sure = 0, maxVersion, 0, Certain
	inner, format := r.newCode, r.format
	r.typed = nil
	symbols := sealedMin
	if p.Method() == OneWay {
		bits := p.Options.Bits
		if bits == 0 {
			bits = maxBits
		}
		r.describe("bits", strconv.Itoa(bits))
		symbols = base32Len(bits / 8)
		r.warn("one-way: no key and no grant turns a token back into its value, and key rotation needs the values")
		r.warn(collisions(bits))
		if format.info.Method == FF1 {
			r.warn("whoever may tokenize can find the value of a token by trying all values of the format")
		}
		r.newCode = func(r resolved) code { return &hashed{resolved: r, inner: inner(r), bytes: bits / 8} }
	} else {
		r.newCode = func(r resolved) code { return &sealedWhole{resolved: r, inner: inner(r)} }
	}
	r.guard = func(column string) string { return guardSealed(column, column, symbols) }
}

// collisions states the birthday bound: among n values two have one token with a probability below n²/2^(bits+1).
func collisions(bits int) string {
	millionth := math.Sqrt(math.Ldexp(2e-6, bits))
	return "of " + strconv.FormatFloat(millionth, 'g', 2, 64) + " different values two have the same token with a chance of one in a million, " +
		"of ten times as many with one in ten thousand (n²/2^" + strconv.Itoa(bits+1) + ")"
}

// macPool hands out HMAC states of one key: a state that is reset keeps the key's two compressed blocks.
type macPool struct {
	pool sync.Pool
}

type mac struct {
	hash hash.Hash
	sum  [sha256.Size]byte
}

func newMACPool(key []byte) *macPool {
	p := new(macPool)
	p.pool.New = func() any { return &mac{hash: hmac.New(sha256.New, key)} }
	return p
}

// hashed is the code of one-way policies.
type hashed struct {
	resolved
	inner code
	bytes int
}

func (c *hashed) derive(k *versionKey, key func(int) []byte) error {
	k.prefixed()
	k.macs = newMACPool(key(32))
	return nil
}

func (c *hashed) check(plain []byte) fault {
	if f := c.inner.check(plain); f.reason != "" {
		return f
	}
	if tokenlike(plain, base32Len(c.bytes)) {
		return fault{reasonTokenlike, 0}
	}
	return fault{}
}

func (c *hashed) token(dst, plain []byte, k *versionKey) ([]byte, fault) {
	if f := c.check(plain); f.reason != "" {
		return dst, f
	}
	m := k.macs.pool.Get().(*mac)
	m.hash.Reset()
	m.hash.Write(plain)
	m.hash.Sum(m.sum[:0])
	dst = append(dst, k.prefix...)
	dst = appendBase32(dst, m.sum[:c.bytes])
	k.macs.pool.Put(m)
	return dst, fault{}
}

func (c *hashed) plain(dst, token []byte, keys *keySet) ([]byte, fault) {
	m, ok := c.mark(token)
	switch {
	case !ok:
		return dst, fault{reasonShape, -1}
	case keys.mark(m) == nil:
		return dst, fault{reasonVersion, -1}
	}
	return dst, fault{reasonOneWay, -1}
}

func (c *hashed) mark(token []byte) (int, bool) {
	version, body, ok := prefixVersion(token)
	return version, ok && len(body) == base32Len(c.bytes) && isBase32(body, len(body))
}

func (c *hashed) tokens(dst []byte, ends []int, values [][]byte, k *versionKey) ([]byte, []int, fault) {
	return oneByOne(dst, ends, values, func(dst, v []byte) ([]byte, fault) { return c.token(dst, v, k) })
}

func (c *hashed) plains(dst []byte, ends []int, tokens [][]byte, keys *keySet) ([]byte, []int, fault) {
	return oneByOne(dst, ends, tokens, func(dst, v []byte) ([]byte, fault) { return c.plain(dst, v, keys) })
}

func (c *hashed) masked(dst, plain []byte, mask string) ([]byte, fault) {
	return c.inner.masked(dst, plain, mask)
}

func (c *hashed) tokenLen(int) int { return maxPrefix + base32Len(c.bytes) }

// sealedWhole is the code of aes-siv policies over formats whose own method is another.
type sealedWhole struct {
	resolved
	inner code
}

func (c *sealedWhole) derive(k *versionKey, key func(int) []byte) error { return k.seal(key) }

func (c *sealedWhole) check(plain []byte) fault {
	if f := c.inner.check(plain); f.reason != "" {
		return f
	}
	if tokenlike(plain, sealedMin) {
		return fault{reasonTokenlike, 0}
	}
	return fault{}
}

func (c *sealedWhole) token(dst, plain []byte, k *versionKey) ([]byte, fault) {
	if f := c.check(plain); f.reason != "" {
		return dst, f
	}
	return k.appendSealed(dst, plain), fault{}
}

func (c *sealedWhole) plain(dst, token []byte, keys *keySet) ([]byte, fault) {
	return openWhole(dst, token, keys)
}

// openWhole appends the value of a token that was sealed as a whole.
func openWhole(dst, token []byte, keys *keySet) ([]byte, fault) {
	version, body, ok := prefixVersion(token)
	if !ok || !isBase32(body, sealedMin) {
		return dst, fault{reasonShape, -1}
	}
	k := keys.mark(version)
	if k == nil {
		return dst, fault{reasonVersion, -1}
	}
	return k.appendOpened(dst, body)
}

func (c *sealedWhole) mark(token []byte) (int, bool) {
	version, body, ok := prefixVersion(token)
	return version, ok && isBase32(body, sealedMin)
}

func (c *sealedWhole) tokens(dst []byte, ends []int, values [][]byte, k *versionKey) ([]byte, []int, fault) {
	return oneByOne(dst, ends, values, func(dst, v []byte) ([]byte, fault) { return c.token(dst, v, k) })
}

func (c *sealedWhole) plains(dst []byte, ends []int, tokens [][]byte, keys *keySet) ([]byte, []int, fault) {
	return oneByOne(dst, ends, tokens, func(dst, v []byte) ([]byte, fault) { return c.plain(dst, v, keys) })
}

func (c *sealedWhole) masked(dst, plain []byte, mask string) ([]byte, fault) {
	return c.inner.masked(dst, plain, mask)
}

func (c *sealedWhole) tokenLen(n int) int { return sealedLen(n) }
