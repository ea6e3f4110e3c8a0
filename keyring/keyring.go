// Package keyring opens the installation's keys: KEK -> root key -> DEKs and everything derived from the root key.
//
// Start with OpenKEK, then Init (once per installation) or Load. The *Ring they give wraps data encryption keys (DEKs),
// authenticates the catalog's rows and seals its few secrets. The ring stores nothing: wrapped keys are returned as
// blobs, and where they are kept (the catalog) is not known here. It never hands out the root key.
//
//	KEK (outside: file, …)
//	 └─ wraps the root key                        one per installation, 256 bits
//	     ├─ HKDF "dek"        wraps each DEK      bound to policy id, version and purpose
//	     ├─ HKDF "mac"        authenticates rows
//	     ├─ HKDF "seal/…"     seals connection strings, one key per purpose
//	     └─ HKDF "audit"      authenticates the audit log
package keyring

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"pgveil/internal/secret"
)

// keyBytes is the length of every key here: AES-256 and HMAC-SHA-256.
const keyBytes = 32

// ErrWrongKEK says that the KEK is a good one, but not the one that wrapped this installation's root key.
var ErrWrongKEK = &Error{
	Message: "the KEK does not open this installation's keys",
	Hint:    "point PGVEIL_KEK at the KEK this installation was initialized with; without it its tokens cannot be turned back",
}

// Error is a failure an operator can act on. It holds no key material.
type Error struct {
	Message string
	Hint    string // what to do about it
}

func (e *Error) Error() string { return e.Message }

// rootBlob is the stored form of the root key. Everything but Wrapped is public, and all of it is authenticated.
type rootBlob struct {
	Format       int    `json:"format"`       // 1
	Installation string `json:"installation"` // 128 random bits in hex
	KEK          string `json:"kek"`          // KEK.ID of the KEK that wrapped it
	Wrapped      []byte `json:"wrapped"`
	Check        string `json:"check"` // the root key's check value
}

func (b rootBlob) ad() []byte { return appendFields(nil, "pgveil root key 1", b.Installation, b.KEK) }

// Ring is an unwrapped root key. It is immutable and safe for concurrent use.
type Ring struct {
	installation string
	root         secret.Bytes
	dek, mac     secret.Bytes
}

// Init makes a new root key and returns it with its wrapped form, which the caller stores; losing the blob or the KEK
// loses every token.
func Init(ctx context.Context, kek KEK) (blob []byte, ring *Ring, err error) {
	id := make([]byte, 16)
	rand.Read(id)
	b := rootBlob{Format: 1, Installation: hex.EncodeToString(id), KEK: kek.ID()}
	ring = newRing(b.Installation, secret.Random(keyBytes))
	b.Check = ring.CheckValue()
	if b.Wrapped, err = kek.Wrap(ctx, ring.root, b.ad()); err != nil {
		return nil, nil, fmt.Errorf("wrap the root key: %w", err)
	}
	blob, err = json.Marshal(b)
	return blob, ring, err
}

// Load unwraps what Init returned. Another KEK is ErrWrongKEK.
func Load(ctx context.Context, kek KEK, blob []byte) (*Ring, error) {
	var b rootBlob
	if err := json.Unmarshal(blob, &b); err != nil || b.Format != 1 {
		return nil, &Error{"the stored root key is damaged or was written by a newer pgveil", "restore table pgveil.root_key from a backup"}
	}
	if b.KEK != kek.ID() {
		return nil, ErrWrongKEK
	}
	root, err := kek.Unwrap(ctx, b.Wrapped, b.ad())
	if errors.Is(err, errUnwrap) {
		return nil, ErrWrongKEK
	}
	if err != nil {
		return nil, fmt.Errorf("unwrap the root key: %w", err)
	}
	if root.Len() != keyBytes {
		return nil, ErrWrongKEK
	}
	ring := newRing(b.Installation, root)
	if ring.CheckValue() != b.Check {
		return nil, ErrWrongKEK
	}
	return ring, nil
}

func newRing(installation string, root secret.Bytes) *Ring {
	return &Ring{installation: installation, root: root, dek: derive(root, "dek"), mac: derive(root, "mac")}
}

// Installation names the installation: 32 hex digits made by Init.
func (r *Ring) Installation() string { return r.installation }

// CheckValue tells two root keys apart without saying anything about them: 8 hex digits.
func (r *Ring) CheckValue() string {
	return hex.EncodeToString(r.MAC("check value", nil)[:4])
}

// NewDEK returns a new random DEK in its wrapped form.
func (r *Ring) NewDEK(policyID string, version int) (blob []byte, err error) {
	return seal(r.dek, secret.Random(keyBytes).Expose(), dekAD(policyID, version))
}

// OpenDEK unwraps a DEK. A blob of another policy, version or installation, or a changed one, is an error.
func (r *Ring) OpenDEK(policyID string, version int, blob []byte) (secret.Bytes, error) {
	dek, err := open(r.dek, blob, dekAD(policyID, version))
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("wrapped key version %d of policy %s: %w", version, policyID, err)
	}
	if dek.Len() != keyBytes {
		return secret.Bytes{}, fmt.Errorf("wrapped key version %d of policy %s has a wrong length", version, policyID)
	}
	return dek, nil
}

func dekAD(policyID string, version int) []byte {
	return appendFields(nil, "pgveil dek 1", policyID, fmt.Sprint(version), "tokenize")
}

// MAC authenticates msg: 32 bytes of HMAC-SHA-256. A MAC of one domain is worth nothing in another.
func (r *Ring) MAC(domain string, msg []byte) []byte {
	h := hmac.New(sha256.New, r.mac.Expose())
	h.Write(appendFields(nil, domain))
	h.Write(msg)
	return h.Sum(nil)
}

// Seal encrypts and authenticates plain for one purpose ("replica source x").
func (r *Ring) Seal(purpose string, plain []byte) ([]byte, error) {
	return seal(derive(r.root, "seal/"+purpose), plain, nil)
}

// Open is the way back from Seal. Another purpose or a changed blob is an error.
func (r *Ring) Open(purpose string, blob []byte) (secret.Bytes, error) {
	plain, err := open(derive(r.root, "seal/"+purpose), blob, nil)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("sealed %s: %w", purpose, err)
	}
	return plain, nil
}

// AuditKey is the key of the audit log's chain and checkpoints: 32 bytes, the same on every node.
func (r *Ring) AuditKey() []byte { return derive(r.root, "audit").Expose() }

// derive returns the subkey for one use (RFC 5869; the root key is uniform, the salt may be empty).
func derive(key secret.Bytes, use string) secret.Bytes {
	sub, err := hkdf.Key(sha256.New, key.Expose(), nil, "pgveil 1 "+use, keyBytes)
	if err != nil {
		panic("keyring: " + err.Error()) // only for more than 255 blocks
	}
	return secret.New(sub)
}
