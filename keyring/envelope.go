package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"

	"pgveil/internal/secret"
)

// errUnwrap is every failure of authentication: wrong key, wrong associated data, changed bytes. AES-GCM cannot tell
// them apart.
var errUnwrap = errors.New("does not authenticate")

// seal encrypts with AES-256-GCM under a random 96-bit nonce, which precedes the ciphertext (SP 800-38D section 8.2.2).
// The few thousand blobs an installation makes stay far below that section's bound of 2^32 per key.
func seal(key secret.Bytes, plain, ad []byte) ([]byte, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, plain, ad), nil
}

// open is the way back; its only error for a well-formed key is errUnwrap.
func open(key secret.Bytes, blob, ad []byte) (secret.Bytes, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return secret.Bytes{}, err
	}
	plain, err := aead.Open(nil, nil, blob, ad)
	if err != nil {
		return secret.Bytes{}, errUnwrap
	}
	return secret.New(plain), nil
}

func newAEAD(key secret.Bytes) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key.Expose())
	if err != nil {
		return nil, errors.New("key has a wrong length") // aes.KeySizeError would do, but says no more
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// appendFields appends each field with its length before it, so that no two lists of fields give the same bytes.
func appendFields(dst []byte, fields ...string) []byte {
	for _, f := range fields {
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(f)))
		dst = append(dst, f...)
	}
	return dst
}
