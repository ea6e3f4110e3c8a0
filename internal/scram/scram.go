// Package scram does SCRAM-SHA-256 (RFC 5802, RFC 7677) as PostgreSQL uses it, in the three parts that
// SCRAM pass-through needs: the verifier PostgreSQL stores (Verifier), the server side that checks a client
// against it and learns the ClientKey (Server), and the client side that logs in elsewhere with that
// ClientKey and no password (Client).
//
//	client                 Server (front-end)                 Client (front-end)       backing database
//	  |-- client-first ------->|                                      |                        |
//	  |<------ server-first ---|                                      |                        |
//	  |-- client-final ------->| proof ok: ClientKey = proof XOR ...   |                        |
//	  |                        |------------- Keys ------------------>|-- client-first ------->|
//	  |                        |                                      |<------ server-first ---|
//	  |                        |                                      |-- client-final ------->|
//	  |<------ server-final ---|                                      |<------ server-final ---|
//
// SCRAM-SHA-256-PLUS binds an exchange to the TLS connection it runs on by tls-server-end-point (RFC 5929 section 4), the one type that
// PostgreSQL knows. Each of the two exchanges is bound to its own server's certificate (EndPoint).
package scram

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"pgveil/internal/secret"
)

// Names of the SASL mechanisms, without and with channel binding.
const (
	Mechanism     = "SCRAM-SHA-256"
	MechanismPlus = "SCRAM-SHA-256-PLUS"
)

// DefaultIterations is PostgreSQL's default for scram_iterations.
const DefaultIterations = 4096

// maxIterations bounds what a peer can make us compute, and what a verifier may ask of clients.
const maxIterations = 10_000_000

// Errors a caller can act on. None says which part of the proof was wrong.
var (
	ErrProof    = errors.New("scram: the proof does not match")
	ErrProtocol = errors.New("scram: malformed message")
	// ErrOtherVerifier: the backing database holds another verifier than the one the client was checked against.
	ErrOtherVerifier = errors.New("scram: the server's salt or iteration count differs from the stored verifier")
	// ErrMechanism: the other side names no mechanism that is offered.
	ErrMechanism = errors.New("scram: no common mechanism")
	// ErrDowngrade: the client believes that channel binding is not offered, although it is: somebody took it out of the offer.
	ErrDowngrade = errors.New("scram: channel binding negotiation error")
	// ErrBindingType: the client binds by another type than tls-server-end-point.
	ErrBindingType = errors.New("scram: unsupported channel-binding type")
	// ErrBinding: the client is bound to another channel, or says so in a form that is not the one it began with.
	ErrBinding = errors.New("scram: channel binding check failed")
)

// Verifier is what PostgreSQL stores in pg_authid.rolpassword for SCRAM-SHA-256. It is not enough to log in.
type Verifier struct {
	Iterations int
	Salt       []byte
	StoredKey  []byte
	ServerKey  []byte
}

// Keys are what a successful exchange proves and yields: enough to log in wherever the same verifier is stored.
type Keys struct {
	ClientKey secret.Bytes
	Verifier  Verifier
}

// NewVerifier makes a verifier with a random 16-byte salt. iterations 0 means DefaultIterations.
// The password is prepared by SASLprep; one that SASLprep forbids is used as it stands, as PostgreSQL does.
func NewVerifier(password []byte, iterations int) (Verifier, error) {
	k, err := NewKeys(password, iterations)
	return k.Verifier, err
}

// NewKeys makes a verifier as NewVerifier does, together with the ClientKey that logs in under it.
func NewKeys(password []byte, iterations int) (Keys, error) {
	if len(password) == 0 {
		return Keys{}, errors.New("scram: the password is empty")
	}
	if iterations == 0 {
		iterations = DefaultIterations
	}
	if iterations < 1 || iterations > maxIterations {
		return Keys{}, fmt.Errorf("scram: %d iterations are outside 1..%d", iterations, maxIterations)
	}
	salt := make([]byte, 16)
	rand.Read(salt)
	return derive(password, salt, iterations)
}

func derive(password, salt []byte, iterations int) (Keys, error) {
	salted, err := pbkdf2.Key(sha256.New, string(prepare(password)), salt, iterations, sha256.Size)
	if err != nil {
		return Keys{}, fmt.Errorf("scram: %w", err)
	}
	client := mac(salted, "Client Key")
	stored := sha256.Sum256(client)
	v := Verifier{Iterations: iterations, Salt: salt, StoredKey: stored[:], ServerKey: mac(salted, "Server Key")}
	return Keys{ClientKey: secret.New(client), Verifier: v}, nil
}

// Match says whether the ClientKey belongs to the verifier.
func (k Keys) Match() bool {
	stored := sha256.Sum256(k.ClientKey.Expose())
	return subtle.ConstantTimeCompare(stored[:], k.Verifier.StoredKey) == 1
}

// ParseVerifier reads the form of pg_authid: SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>.
// It is strict, because PostgreSQL takes a malformed verifier for a plaintext password.
func ParseVerifier(s string) (Verifier, error) {
	bad := errors.New("scram: not a SCRAM-SHA-256 verifier")
	parts := strings.Split(s, "$")
	if len(parts) != 3 || parts[0] != Mechanism {
		return Verifier{}, bad
	}
	iterations, salt, ok := strings.Cut(parts[1], ":")
	stored, server, ok2 := strings.Cut(parts[2], ":")
	if !ok || !ok2 {
		return Verifier{}, bad
	}
	n, err := strconv.Atoi(iterations)
	if err != nil || n < 1 || n > maxIterations || iterations != strconv.Itoa(n) {
		return Verifier{}, bad
	}
	v := Verifier{Iterations: n}
	for _, f := range []struct {
		to   *[]byte
		text string
		size int // 0: any but empty
	}{{&v.Salt, salt, 0}, {&v.StoredKey, stored, sha256.Size}, {&v.ServerKey, server, sha256.Size}} {
		b, err := base64.StdEncoding.Strict().DecodeString(f.text)
		if err != nil || len(b) == 0 || f.size != 0 && len(b) != f.size || strings.ContainsAny(f.text, "\r\n") {
			return Verifier{}, bad
		}
		*f.to = b
	}
	return v, nil
}

// Exposed returns the form that ParseVerifier reads. It is enough to impersonate the server, and to test guesses of the
// password, so it goes into ALTER ROLE and into the catalog and nowhere else.
func (v Verifier) Exposed() string {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s$%d:%s$%s:%s", Mechanism, v.Iterations, b64(v.Salt), b64(v.StoredKey), b64(v.ServerKey))
}

// String and Format do not print the verifier.
func (v Verifier) String() string { return "[verifier]" }

// Format implements fmt.Formatter for every verb.
func (v Verifier) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[verifier]") }

// MockVerifier is the verifier of a role that does not exist: its salt depends on key and role alone, so that
// two tries look alike, as in PostgreSQL's mock authentication. No proof matches it.
func MockVerifier(key []byte, role string) Verifier {
	salt := mac(key, "mock salt "+role)[:16]
	return Verifier{Iterations: DefaultIterations, Salt: salt, StoredKey: mac(key, "mock stored "+role), ServerKey: mac(key, "mock server "+role)}
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func xor(a, b []byte) []byte {
	out := make([]byte, len(a))
	subtle.XORBytes(out, a, b)
	return out
}

func nonce() string {
	b := make([]byte, 18)
	rand.Read(b)
	return base64.StdEncoding.EncodeToString(b)
}
