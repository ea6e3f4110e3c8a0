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
// Channel binding (SCRAM-SHA-256-PLUS) is not offered.
package scram

import (
	"bytes"
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

// Mechanism is the SASL mechanism's name.
const Mechanism = "SCRAM-SHA-256"

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
	if len(password) == 0 {
		return Verifier{}, errors.New("scram: the password is empty")
	}
	if iterations == 0 {
		iterations = DefaultIterations
	}
	if iterations < 1 || iterations > maxIterations {
		return Verifier{}, fmt.Errorf("scram: %d iterations are outside 1..%d", iterations, maxIterations)
	}
	salt := make([]byte, 16)
	rand.Read(salt)
	return derive(password, salt, iterations)
}

func derive(password, salt []byte, iterations int) (Verifier, error) {
	salted, err := pbkdf2.Key(sha256.New, string(prepare(password)), salt, iterations, sha256.Size)
	if err != nil {
		return Verifier{}, fmt.Errorf("scram: %w", err)
	}
	stored := sha256.Sum256(mac(salted, "Client Key"))
	return Verifier{Iterations: iterations, Salt: salt, StoredKey: stored[:], ServerKey: mac(salted, "Server Key")}, nil
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

// Server is one exchange seen from the server. Use First, then Final. It is not safe for concurrent use.
type Server struct {
	verifier Verifier
	gs2      string // the gs2 header, which comes back in client-final's c=
	bare     string
	first    string
	nonce    string
}

// NewServer starts an exchange that checks against v.
func NewServer(v Verifier) *Server { return &Server{verifier: v} }

// First reads client-first-message and gives server-first-message. The user name in it is ignored: PostgreSQL
// takes the one of the startup packet, and libpq sends none.
func (s *Server) First(message []byte) ([]byte, error) {
	text := string(message)
	// gs2-header: "n" or "y" (the client could bind a channel but believes we cannot, which is true), an
	// optional authzid, which we refuse as PostgreSQL does.
	if !strings.HasPrefix(text, "n,,") && !strings.HasPrefix(text, "y,,") {
		return nil, ErrProtocol
	}
	s.gs2, s.bare = text[:3], text[3:]
	fields := strings.Split(s.bare, ",")
	if len(fields) < 2 || !strings.HasPrefix(fields[0], "n=") || !strings.HasPrefix(fields[1], "r=") || len(fields[1]) < 3 {
		return nil, ErrProtocol
	}
	for _, r := range fields[1][2:] {
		if r < 0x21 || r > 0x7e {
			return nil, ErrProtocol
		}
	}
	s.nonce = fields[1][2:] + nonce()
	s.first = fmt.Sprintf("r=%s,s=%s,i=%d", s.nonce, base64.StdEncoding.EncodeToString(s.verifier.Salt), s.verifier.Iterations)
	return []byte(s.first), nil
}

// Final reads client-final-message, checks the proof and gives server-final-message and the keys that the proof
// yields (RFC 5802 section 3: ClientKey = ClientProof XOR ClientSignature). A wrong proof is ErrProof.
func (s *Server) Final(message []byte) ([]byte, Keys, error) {
	text := string(message)
	at := strings.LastIndex(text, ",p=")
	if s.nonce == "" || at < 0 {
		return nil, Keys{}, ErrProtocol
	}
	withoutProof := text[:at]
	if withoutProof != "c="+base64.StdEncoding.EncodeToString([]byte(s.gs2))+",r="+s.nonce {
		return nil, Keys{}, ErrProtocol
	}
	proof, err := base64.StdEncoding.DecodeString(text[at+3:])
	if err != nil || len(proof) != sha256.Size {
		return nil, Keys{}, ErrProtocol
	}
	auth := s.bare + "," + s.first + "," + withoutProof
	clientKey := xor(proof, mac(s.verifier.StoredKey, auth))
	if stored := sha256.Sum256(clientKey); subtle.ConstantTimeCompare(stored[:], s.verifier.StoredKey) != 1 {
		return nil, Keys{}, ErrProof
	}
	final := "v=" + base64.StdEncoding.EncodeToString(mac(s.verifier.ServerKey, auth))
	return []byte(final), Keys{ClientKey: secret.New(clientKey), Verifier: s.verifier}, nil
}

// Client is one exchange seen from a client that holds Keys and no password. Use First, Final, Verify.
type Client struct {
	keys  Keys
	bare  string
	nonce string
	auth  string
}

// NewClient starts an exchange.
func NewClient(k Keys) *Client { return &Client{keys: k} }

// First gives client-first-message.
func (c *Client) First() []byte {
	c.nonce = nonce()
	c.bare = "n=,r=" + c.nonce
	return []byte("n,," + c.bare)
}

// Final reads server-first-message and gives client-final-message. ErrOtherVerifier says that the server's
// verifier is not the one the keys belong to, so that the login would fail.
func (c *Client) Final(serverFirst []byte) ([]byte, error) {
	fields := strings.Split(string(serverFirst), ",")
	if len(fields) < 3 || !strings.HasPrefix(fields[0], "r="+c.nonce) || len(fields[0]) <= len("r=")+len(c.nonce) ||
		!strings.HasPrefix(fields[1], "s=") || !strings.HasPrefix(fields[2], "i=") {
		return nil, ErrProtocol
	}
	salt, err := base64.StdEncoding.DecodeString(fields[1][2:])
	if err != nil {
		return nil, ErrProtocol
	}
	v := c.keys.Verifier
	if !bytes.Equal(salt, v.Salt) || fields[2][2:] != strconv.Itoa(v.Iterations) {
		return nil, ErrOtherVerifier
	}
	withoutProof := "c=biws," + fields[0] // base64("n,,")
	c.auth = c.bare + "," + string(serverFirst) + "," + withoutProof
	proof := xor(c.keys.ClientKey.Expose(), mac(v.StoredKey, c.auth))
	return []byte(withoutProof + ",p=" + base64.StdEncoding.EncodeToString(proof)), nil
}

// Verify checks server-final-message, which proves that the server knows the verifier.
func (c *Client) Verify(serverFinal []byte) error {
	text, ok := strings.CutPrefix(string(serverFinal), "v=")
	if !ok {
		return ErrProtocol
	}
	got, err := base64.StdEncoding.DecodeString(text)
	if err != nil || !hmac.Equal(got, mac(c.keys.Verifier.ServerKey, c.auth)) {
		return ErrProof
	}
	return nil
}
