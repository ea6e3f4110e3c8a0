package engine

import (
	"bytes"
	"encoding/hex"
	"math"
	"strconv"

	"pgveil/engine/siv"
)

// bytesFormat is a string of bytes in the spelling PostgreSQL prints under bytea_output hex: \x and two lower-case digits
// a byte. A token is one too: the six bytes of bytesMark, the key version in two, and AES-SIV's output. A value
// that begins with the mark and is as long as a token is refused; of random bytes that is one in 2^48.
var bytesFormat = format{
	info: FormatInfo{
		Name: "bytes", Method: AESSIV, Mask: "fixed", Shape: `\x70677665696c0001…`,
		Description: `bytea as \x and hexadecimal digits; the token is a longer one that authenticates itself`,
	},
	masks: []string{"fixed", "empty"}, versions: maxVersion,
	sized: true, least: 1, min: 1, max: maxBytes,
	prepare: func(_ Policy, r *resolved) *PolicyError {
		r.typed = func(column, sqlType string) string {
			if sqlType != "bytea" {
				return ""
			}
			return "(pg_catalog.substr(" + column + ", 1, 6) = '\\x" + hex.EncodeToString(bytesMark) + "'::pg_catalog.bytea AND pg_catalog.length(" +
				column + ") >= " + strconv.Itoa(leastBytesToken) + ")"
		}
		return nil
	},
	guard: func(column string) string {
		return "(pg_catalog.left(" + column + `, 14) COLLATE "C" = E'\\x` + hex.EncodeToString(bytesMark) + "' AND pg_catalog.length(" + column + ") >= " +
			strconv.Itoa(2+2*leastBytesToken) + ")"
	},
	newCode: func(r resolved) code { return &octets{r} },
}

// bytesMark begins every token.
var bytesMark = []byte("pgveil")

const (
	bytesHead       = 6 + 2 // the mark and the version
	leastBytesToken = bytesHead + siv.Overhead + 1
	maxBytes        = math.MaxInt32 / 8 // so that a token in hexadecimal digits stays below PostgreSQL's 1 GB field
)

type octets struct {
	resolved
}

func (c *octets) derive(k *versionKey, key func(int) []byte) error { return k.seal(key) }

// decode appends the bytes that src spells.
func (c *octets) decode(dst, src []byte) ([]byte, fault) {
	switch {
	case len(src) == 0:
		return dst, fault{reasonEmpty, -1}
	case src[0] != '\\' || len(src) < 2 || src[1] != 'x':
		return dst, fault{`it does not begin with \x`, 0}
	case len(src)%2 != 0:
		return dst, fault{"half a byte is left over", len(src) - 1}
	}
	for i := 2; i < len(src); i += 2 {
		hi, lo := hexValue(src[i]), hexValue(src[i+1])
		if hi|lo > 15 {
			if hi <= 15 {
				i++
			}
			if src[i] >= 'A' && src[i] <= 'F' {
				return dst, fault{"an upper-case letter where PostgreSQL writes a lower-case one", i}
			}
			return dst, fault{stray(src[i]), i}
		}
		dst = append(dst, hi<<4|lo)
	}
	return dst, fault{}
}

func hexValue(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

func appendHex(dst, src []byte) []byte {
	for _, b := range src {
		dst = append(dst, hexDigits[b>>4], hexDigits[b&15])
	}
	return dst
}

func (c *octets) value(buf, plain []byte) ([]byte, fault) {
	value, f := c.decode(buf, plain)
	switch {
	case f.reason != "":
	case len(value) == 0:
		f = fault{reasonEmpty, -1}
	case len(value) < c.min:
		f = fault{reasonFewer, -1}
	case len(value) > c.max:
		f = fault{reasonMore, -1}
	case len(value) >= leastBytesToken && bytes.HasPrefix(value, bytesMark):
		f = fault{reasonTokenlike, 2}
	}
	return value, f
}

func (c *octets) check(plain []byte) fault {
	buf := buffers.Get().(*[]byte)
	defer putBuffer(buf)
	var f fault
	*buf, f = c.value((*buf)[:0], plain)
	return f
}

func (c *octets) token(dst, plain []byte, k *versionKey) ([]byte, fault) {
	buf, out := buffers.Get().(*[]byte), buffers.Get().(*[]byte)
	defer putBuffer(buf)
	defer putBuffer(out)
	var f fault
	if *buf, f = c.value((*buf)[:0], plain); f.reason != "" {
		return dst, f
	}
	*out = append(append((*out)[:0], bytesMark...), byte(k.version>>8), byte(k.version))
	*out = k.siv.Seal(*out, *buf)
	return appendHex(append(dst, `\x`...), *out), fault{}
}

// version reads the head of a token.
func (c *octets) version(token []byte) (int, bool) {
	const head = 2 + 2*bytesHead
	if len(token) < 2+2*leastBytesToken {
		return 0, false
	}
	var room [bytesHead]byte
	b, f := c.decode(room[:0], token[:head])
	version := int(room[6])<<8 | int(room[7])
	return version, f.reason == "" && bytes.HasPrefix(b, bytesMark) && version >= 1 && version <= maxVersion
}

func (c *octets) plain(dst, token []byte, keys *keySet) ([]byte, fault) {
	buf, out := buffers.Get().(*[]byte), buffers.Get().(*[]byte)
	defer putBuffer(buf)
	defer putBuffer(out)
	m, ok := c.mark(token)
	if !ok {
		return dst, fault{reasonShape, -1}
	}
	k := keys.mark(m)
	if k == nil {
		return dst, fault{reasonVersion, -1}
	}
	var f fault
	if *buf, f = c.decode((*buf)[:0], token); f.reason != "" {
		return dst, f
	}
	value, err := k.siv.Open((*out)[:0], (*buf)[bytesHead:])
	if err != nil {
		return dst, fault{"it does not authenticate under this policy", -1}
	}
	*out = value
	return appendHex(append(dst, `\x`...), value), fault{}
}

func (c *octets) mark(token []byte) (int, bool) {
	version, ok := c.version(token)
	if !ok {
		return 0, false
	}
	for i := 2 + 2*bytesHead; i < len(token); i++ {
		if hexValue(token[i]) > 15 {
			return 0, false
		}
	}
	return version, len(token)%2 == 0
}

func (c *octets) tokens(dst []byte, ends []int, values [][]byte, k *versionKey) ([]byte, []int, fault) {
	return oneByOne(dst, ends, values, func(dst, v []byte) ([]byte, fault) { return c.token(dst, v, k) })
}

func (c *octets) plains(dst []byte, ends []int, tokens [][]byte, keys *keySet) ([]byte, []int, fault) {
	return oneByOne(dst, ends, tokens, func(dst, v []byte) ([]byte, fault) { return c.plain(dst, v, keys) })
}

// masked shows no byte.
func (c *octets) masked(dst, _ []byte, _ string) ([]byte, fault) {
	return append(dst, `\x`...), fault{}
}

func (c *octets) tokenLen(n int) int { return n + 2*(bytesHead+siv.Overhead) }
