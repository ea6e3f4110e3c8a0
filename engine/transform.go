package engine

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strconv"

	"pgveil/engine/ff1"
	"pgveil/engine/siv"
	"pgveil/internal/secret"
)

// Key is one key version: a DEK of 32 bytes. Version counts from 1.
type Key struct {
	Version int
	Secret  secret.Bytes
}

const dekBytes = 32

// Transform makes and reads the tokens of one policy under its keys. It is immutable and safe for concurrent use.
type Transform struct {
	policy Policy
	mask   string
	code   code
	keys   keySet
}

// versionKey is what one key version is derived to.
type versionKey struct {
	version int
	mark    int
	plans   []*ff1.Plan // by number of enciphered digits; nil where the policy allows no such length
	siv     *siv.Cipher
	macs    *macPool
	prefix  []byte       // t<version>_
	inner   []*Transform // json: of the paths, under this version alone
	alone   *keySet      // this key and no other
}

// keySet finds a key by the version a caller names or by the mark in a token.
type keySet struct {
	keys   []*versionKey // by version, ascending
	byMark []*versionKey
}

func (s *keySet) version(v int) *versionKey {
	for _, k := range s.keys {
		if k.version == v {
			return k
		}
	}
	return nil
}

// only returns the key where there is one alone: what is not marked can be read by it.
func (s *keySet) only() *versionKey {
	if len(s.keys) != 1 {
		return nil
	}
	return s.keys[0]
}

func (s *keySet) mark(m int) *versionKey {
	if m < 0 || m >= len(s.byMark) {
		return nil
	}
	return s.byMark[m]
}

// Compile returns the Transform of a policy that Check accepts under one key or more. A key that is not 32 bytes, a
// version outside 1..999, or two versions whose marks are the same (see MaxVersions) are a *PolicyError. The keys are
// not kept, only what is derived from them.
func Compile(p Policy, keys []Key) (*Transform, error) {
	r, err := p.resolve()
	if err != nil {
		return nil, err
	}
	refuse := func(reason, hint string) (*Transform, error) {
		return nil, &PolicyError{Policy: p.Name, Reason: reason, Hint: hint}
	}
	if p.ID == "" {
		return refuse("it has no ID", "give it a UUID; keys are derived from it")
	}
	if len(keys) == 0 {
		return refuse("it has no key", "make one: pgveil key rotate")
	}
	t := &Transform{policy: p, mask: r.mask, code: r.newCode(r)}
	digest := p.Digest()
	t.keys.byMark = make([]*versionKey, r.versions+1) // +1: those that stand in the token count from 1
	for _, key := range keys {
		if key.Version < 1 || key.Version > maxVersion {
			return refuse("key version "+strconv.Itoa(key.Version)+" is outside 1 to "+strconv.Itoa(maxVersion), "")
		}
		if key.Secret.Len() != dekBytes {
			return refuse("the key of version "+strconv.Itoa(key.Version)+" is not "+strconv.Itoa(dekBytes)+" bytes", "")
		}
		k := &versionKey{version: key.Version, mark: p.markOf(r.versions, key.Version)}
		if other := t.keys.byMark[k.mark]; other != nil {
			return refuse("key versions "+strconv.Itoa(other.version)+" and "+strconv.Itoa(k.version)+" have the same mark in a token",
				"format "+p.Format+" can keep "+strconv.Itoa(r.versions)+" versions: destroy the older one first")
		}
		if err := t.code.derive(k, deriver(p, digest, key)); err != nil {
			return nil, err
		}
		k.alone = &keySet{keys: []*versionKey{k}, byMark: make([]*versionKey, len(t.keys.byMark))}
		k.alone.byMark[k.mark] = k
		t.keys.byMark[k.mark] = k
		t.keys.keys = append(t.keys.keys, k)
	}
	slices.SortFunc(t.keys.keys, func(a, b *versionKey) int { return a.version - b.version })
	return t, nil
}

// markOf returns the mark that tokens of a version carry: the version itself where that stands in the token, and elsewhere
// modulo the number of versions there is room for.
func (p Policy) markOf(versions, version int) int {
	if versions == maxVersion && p.Method() != FF1 {
		return version
	}
	return version % versions
}

// deriver returns the key derivation for one version: HKDF-SHA-256 (RFC 5869) without a salt, which a DEK of full
// entropy does not need, and with everything that must not share a key in the info string.
func deriver(p Policy, digest [32]byte, key Key) func(n int) []byte {
	info := appendField(nil, "pgveil/1 "+string(p.Method()))
	info = appendField(info, p.ID)
	info = binary.BigEndian.AppendUint32(info, uint32(key.Version))
	info = append(info, digest[:]...)
	return func(n int) []byte {
		out, err := hkdf.Key(sha256.New, key.Secret.Expose(), nil, string(info), n)
		if err != nil {
			panic("engine: " + err.Error()) // only for more than 255 hashes of output
		}
		return out
	}
}

// Policy returns the policy the transform was compiled from.
func (t *Transform) Policy() Policy { return t.policy }

// AppendToken appends the token of plain under a key version and returns the extended slice.
//
// plain is the text form of one value in UTF-8; NULL never gets here. dst must not overlap plain. An ff1 token has
// the characters and separators of plain in number, though not always in bytes; an aes-siv or one-way token is longer (see
// MaxTokenLen). AppendToken allocates only
// where dst has to grow, and it is safe for concurrent use.
//
// A value outside the format is a *FormatError, which does not hold the value; so are the empty value and a value
// that is itself a token of this policy. A version without a key is a *PolicyError. On an error dst comes back as it was.
func (t *Transform) AppendToken(dst, plain []byte, version int) ([]byte, error) {
	k := t.keys.version(version)
	if k == nil {
		return dst, t.noKey(version)
	}
	n := len(dst)
	out, f := t.code.token(dst, plain, k)
	if f.reason != "" {
		return out[:n], t.formatError(plain, f)
	}
	return out, nil
}

// AppendPlain appends the value that token stands for and returns the extended slice. The key version is read from
// the token. dst must not overlap token. AppendPlain allocates only where dst has to grow, and it is safe for
// concurrent use.
//
// What has not the structure of a token, names a version without a key, is made one-way, or (aes-siv) does not
// authenticate is a *TokenError, which does not hold the token. An ff1 token that was altered into another well-formed one is not
// detected: it deciphers to another value of the format. On an error dst comes back as it was.
func (t *Transform) AppendPlain(dst, token []byte) ([]byte, error) {
	n := len(dst)
	out, f := t.code.plain(dst, token, &t.keys)
	if f.reason != "" {
		return out[:n], t.tokenError(f)
	}
	return out, nil
}

// AppendPlainAt is AppendPlain where the caller knows the key version, as it has to for tokens of an exact policy, which do
// not say theirs; AppendPlain refuses those unless there is one key alone. A token that says another version is a
// *TokenError, a version without a key a *PolicyError.
func (t *Transform) AppendPlainAt(dst, token []byte, version int) ([]byte, error) {
	k := t.keys.version(version)
	if k == nil {
		return dst, t.noKey(version)
	}
	n := len(dst)
	out, f := t.code.plain(dst, token, k.alone)
	if f.reason != "" {
		return out[:n], t.tokenError(f)
	}
	return out, nil
}

// AppendTokens appends the tokens of many values to dst, one behind the other, and to ends where in the returned slice
// each ends. It gives what AppendToken gives for each; for ff1 it takes about half the time where values that stand
// together have one length.
//
// At the first value that AppendToken would refuse it stops with that error: what was appended is of the values before
// it, so it is the value whose index is the number of ends that were appended.
func (t *Transform) AppendTokens(dst []byte, ends []int, values [][]byte, version int) ([]byte, []int, error) {
	k := t.keys.version(version)
	if k == nil {
		return dst, ends, t.noKey(version)
	}
	n := len(ends)
	dst, ends, f := t.code.tokens(dst, ends, values, k)
	if f.reason != "" {
		return dst, ends, t.formatError(values[len(ends)-n], f)
	}
	return dst, ends, nil
}

// AppendPlains appends the values of many tokens in the same way, each under the version it names.
func (t *Transform) AppendPlains(dst []byte, ends []int, tokens [][]byte) ([]byte, []int, error) {
	dst, ends, f := t.code.plains(dst, ends, tokens, &t.keys)
	if f.reason != "" {
		return dst, ends, t.tokenError(f)
	}
	return dst, ends, nil
}

func (t *Transform) noKey(version int) error {
	return &PolicyError{Policy: t.policy.Name, Reason: "there is no key of version " + strconv.Itoa(version), Hint: "see: pgveil key list"}
}

func (t *Transform) formatError(plain []byte, f fault) error {
	if _, ok := t.Version(plain); ok {
		f = fault{reasonToken, -1}
	}
	return &FormatError{Policy: t.policy.Name, Format: t.policy.Format, Reason: f.reason, Offset: f.offset}
}

func (t *Transform) tokenError(f fault) error {
	return &TokenError{Policy: t.policy.Name, Reason: f.reason, Offset: f.offset}
}

// Version returns the key version that token says it was made under. ok is false for what has not the structure of a
// token, and for a token whose version has no key here. It does not decipher: for aes-siv, AppendPlain may still
// refuse.
func (t *Transform) Version(token []byte) (version int, ok bool) {
	m, ok := t.code.mark(token)
	if !ok {
		return 0, false
	}
	k := t.keys.mark(m)
	if k == nil || k.prefix != nil && isSealed(token) && !bytes.HasPrefix(token, k.prefix) {
		return 0, false // the second: a sealed token of a version with the same mark, of a policy that seals short values
	}
	return k.version, true
}

// Is reports whether token has the structure of a token of the policy, whether or not there is a key for its version.
// No value of the format has it.
func (t *Transform) Is(token []byte) bool {
	_, ok := t.code.mark(token)
	return ok
}

// maskFixed is the mask that tells nothing, not even a length. It also stands for what is no value of the format.
const maskFixed = "********"

// maskNull shows nothing at all: the caller renders NULL.
const maskNull = "null"

// MaskIsNull reports whether the policy's mask is null: AppendMask appends nothing, and NULL is to be shown.
func (t *Transform) MaskIsNull() bool { return t.mask == maskNull }

// AppendMask appends the mask of a clear value. Of what is not in the format it shows nothing.
func (t *Transform) AppendMask(dst, plain []byte) []byte {
	n := len(dst)
	if t.mask == maskNull {
		return dst
	}
	if t.mask != "fixed" {
		if out, f := t.code.masked(dst, plain, t.mask); f.reason == "" {
			return out
		}
	}
	return append(dst[:n], maskFixed...)
}

// MaxTokenLen bounds the bytes of a token for a value of plainLen bytes, for this and every later key version.
func (t *Transform) MaxTokenLen(plainLen int) int { return t.code.tokenLen(plainLen) }

// Check returns a *FormatError where AppendToken would, without making a token.
func (t *Transform) Check(plain []byte) error {
	if f := t.code.check(plain); f.reason != "" {
		return t.formatError(plain, f)
	}
	return nil
}
