// Package secret holds bytes that do not print: keys, passwords, verifier material.
//
// Start with New and Expose. The bytes sit behind a function, so that no fmt verb, JSON or YAML encoder,
// or slog handler reaches them, even from an unexported field of another struct (where fmt skips methods
// and a plain wrapper type would print). It does not promise that no copy is on the heap: Go's crypto/aes
// keeps round keys there.
package secret

import (
	"crypto/rand"
	"crypto/subtle"
	"fmt"
)

// redacted is what every printed form of Bytes shows.
const redacted = "[secret]"

// Bytes is a secret value. The zero value holds no bytes. It is immutable and safe for concurrent use.
type Bytes struct {
	expose func() []byte
}

// New returns b as a secret. It takes ownership of b.
func New(b []byte) Bytes { return Bytes{expose: func() []byte { return b }} }

// Random returns n bytes from crypto/rand.
func Random(n int) Bytes {
	b := make([]byte, n)
	rand.Read(b) // never fails (crypto/rand, since Go 1.24)
	return New(b)
}

// Expose returns the bytes themselves; it is the only door, and `grep Expose` is a review.
// The caller must not change them, nor keep them longer than it needs. The zero value gives nil.
func (b Bytes) Expose() []byte {
	if b.expose == nil {
		return nil
	}
	return b.expose()
}

// Len returns the number of bytes.
func (b Bytes) Len() int { return len(b.Expose()) }

// Equal compares in constant time for equal lengths.
func (b Bytes) Equal(o Bytes) bool { return subtle.ConstantTimeCompare(b.Expose(), o.Expose()) == 1 }

// String, Format, GoString, MarshalText and MarshalJSON all give the same fixed text.
func (b Bytes) String() string { return redacted }

// Format implements fmt.Formatter for every verb.
func (b Bytes) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// GoString implements fmt.GoStringer.
func (b Bytes) GoString() string { return redacted }

// MarshalText implements encoding.TextMarshaler.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON implements json.Marshaler.
func (b Bytes) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
