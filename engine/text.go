package engine

import (
	"bytes"
	"unicode/utf8"
)

// textFormat is any UTF-8 text PostgreSQL can hold, but for text that begins as a token does.
var textFormat = format{
	info: FormatInfo{
		Name: "text", Method: AESSIV, Mask: "fixed", Shape: "t9_xxxx…",
		Description: "any text; the token is longer and authenticates itself",
	},
	masks: []string{"fixed"}, versions: maxVersion,
	sized: true, least: 1, min: 1, max: maxText,
	guard:   func(column string) string { return guardSealed(column, column, sealedMin) },
	newCode: func(r resolved) code { return &text{r} },
}

// maxText is what a value may have in bytes: its token, 1.6 times as long, stays well below PostgreSQL's 1 GB field.
const maxText = 256 << 20

type text struct {
	resolved
}

func (c *text) derive(k *versionKey, key func(int) []byte) error { return k.seal(key) }

func (c *text) check(plain []byte) fault {
	switch {
	case len(plain) == 0:
		return fault{reasonEmpty, -1}
	case len(plain) < c.min:
		return fault{reasonFewer, -1}
	case len(plain) > c.max:
		return fault{reasonMore, -1}
	case tokenlike(plain, sealedMin):
		return fault{reasonTokenlike, 0}
	}
	if i := bytes.IndexByte(plain, 0); i >= 0 {
		return fault{"a zero byte", i}
	}
	return notUTF8(plain)
}

// notUTF8 finds the first byte that is not of a character.
func notUTF8(s []byte) fault {
	if utf8.Valid(s) {
		return fault{}
	}
	i := 0
	for i < len(s) {
		r, size := utf8.DecodeRune(s[i:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		i += size
	}
	return fault{reasonUTF8, i}
}

func (c *text) token(dst, plain []byte, k *versionKey) ([]byte, fault) {
	if f := c.check(plain); f.reason != "" {
		return dst, f
	}
	return k.appendSealed(dst, plain), fault{}
}

func (c *text) plain(dst, token []byte, keys *keySet) ([]byte, fault) {
	return openWhole(dst, token, keys)
}

func (c *text) tokens(dst []byte, ends []int, values [][]byte, k *versionKey) ([]byte, []int, fault) {
	return oneByOne(dst, ends, values, func(dst, v []byte) ([]byte, fault) { return c.token(dst, v, k) })
}

func (c *text) plains(dst []byte, ends []int, tokens [][]byte, keys *keySet) ([]byte, []int, fault) {
	return oneByOne(dst, ends, tokens, func(dst, v []byte) ([]byte, fault) { return c.plain(dst, v, keys) })
}

func (c *text) mark(token []byte) (int, bool) {
	version, body, ok := prefixVersion(token)
	return version, ok && isBase32(body, sealedMin)
}

func (c *text) masked(dst, _ []byte, _ string) ([]byte, fault) {
	return append(dst, maskFixed...), fault{}
}

func (c *text) tokenLen(n int) int { return sealedLen(n) }
