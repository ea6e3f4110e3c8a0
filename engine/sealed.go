package engine

import (
	"bytes"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"pgveil/engine/siv"
)

// A sealed token is t<version>_ and the base32 form of AES-SIV's output: the synthetic IV of 16 bytes and a
// ciphertext of the value's length. The version needs no associated data of its own: it is in the key's derivation,
// so a token whose prefix was altered does not authenticate.

// sealedMin is the symbols of the shortest sealed token: 17 bytes.
const sealedMin = 28

// maxPrefix is the length of the longest prefix, t999_.
const maxPrefix = 5

func (k *versionKey) seal(key func(int) []byte) (err error) {
	k.prefixed()
	pair := key(64)
	k.siv, err = siv.New(pair)
	clear(pair)
	return err
}

// prefixed fills in t<version>_.
func (k *versionKey) prefixed() {
	k.prefix = strconv.AppendInt([]byte{'t'}, int64(k.version), 10)
	k.prefix = append(k.prefix, '_')
}

// tokenlike reports whether what a value begins with passes the guard of tokens of at least so many symbols.
func tokenlike(s []byte, least int) bool {
	if len(s) < 3+least || s[0] != 't' || s[1] < '1' || s[1] > '9' {
		return false
	}
	rest := s[2:]
	for digits := 1; digits <= 3; digits++ { // _ after one, two or three characters of version
		if rest[0] == '_' {
			return len(s) >= 2+digits+least
		}
		_, size := utf8.DecodeRune(rest)
		if rest = rest[size:]; len(rest) == 0 {
			return false
		}
	}
	return false
}

// guardSealed is the guard for tokens of sealed formats: t, a digit, at most two more characters, _, and at least so many
// bytes (28 where sealed), counted in part, which is the column or what of it is sealed. A regular expression for the
// exact alphabet costs thirty times as much, so the formats refuse a value by this wider shape.
func guardSealed(column, part string, least int) string {
	var like []string
	for digits := 1; digits <= 3; digits++ {
		like = append(like, column+` COLLATE "C" LIKE E't`+strings.Repeat("_", digits)+`\\_%' AND pg_catalog.octet_length(`+part+") >= "+strconv.Itoa(2+digits+least))
	}
	return "(" + begins(column, "t1", "t:") + " AND (" + strings.Join(like, " OR ") + "))"
}

// prefixVersion reads t<version>_ and returns what follows.
func prefixVersion(s []byte) (version int, rest []byte, ok bool) {
	head, rest, found := bytes.Cut(s[:min(len(s), maxPrefix)], []byte{'_'})
	if !found || len(head) < 2 || head[0] != 't' || head[1] == '0' {
		return 0, nil, false
	}
	for _, c := range head[1:] {
		if c < '0' || c > '9' {
			return 0, nil, false
		}
		version = version*10 + int(c-'0')
	}
	return version, s[len(head)+1:], true
}

// buffers hold ciphertext on its way to or from base32.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// maxPooled is what a buffer may have grown to and still be pooled.
const maxPooled = 1 << 16

func putBuffer(b *[]byte) {
	if cap(*b) <= maxPooled {
		buffers.Put(b)
	}
}

// appendSealed appends the token of value under associated data.
func (k *versionKey) appendSealed(dst, value []byte, ad ...[]byte) []byte {
	buf := buffers.Get().(*[]byte)
	*buf = k.siv.Seal((*buf)[:0], value, ad...)
	dst = append(dst, k.prefix...)
	dst = appendBase32(dst, *buf)
	putBuffer(buf)
	return dst
}

// appendOpened appends the value of a token whose version the caller has read; body is what follows the prefix.
func (k *versionKey) appendOpened(dst, body []byte, ad ...[]byte) ([]byte, fault) {
	buf := buffers.Get().(*[]byte)
	defer putBuffer(buf)
	sealed, ok := decodeBase32((*buf)[:0], body)
	if !ok {
		return dst, fault{reasonShape, -1}
	}
	*buf = sealed
	dst, err := k.siv.Open(dst, sealed, ad...)
	if err != nil {
		return dst, fault{"it does not authenticate under this policy", -1}
	}
	return dst, fault{}
}

// sealedLen is the length of a token of n bytes with the longest prefix.
func sealedLen(n int) int { return maxPrefix + base32Len(siv.Overhead+n) }

// oneByOne is a batch where nothing is gained by doing values side by side: AES-SIV's blocks are mostly independent.
func oneByOne(dst []byte, ends []int, in [][]byte, f func(dst, v []byte) ([]byte, fault)) ([]byte, []int, fault) {
	for _, v := range in {
		n := len(dst)
		out, bad := f(dst, v)
		if bad.reason != "" {
			return out[:n], ends, bad
		}
		dst, ends = out, append(ends, len(out))
	}
	return dst, ends, fault{}
}
