package scram

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"pgveil/internal/secret"
)

// Server is one exchange seen from the server. Use Mechanisms, First, then Final. It is not safe for concurrent use.
type Server struct {
	verifier Verifier
	endPoint []byte // nil: no channel to bind
	bound    bool   // the client chose SCRAM-SHA-256-PLUS
	gs2      string // the gs2-header, which comes back in client-final's c=
	bare     string
	first    string
	nonce    string
}

// NewServer starts an exchange that checks against v. endPoint is the EndPoint of the certificate that this side shows on the
// connection; nil, as on one without TLS, offers no channel binding.
func NewServer(v Verifier, endPoint []byte) *Server { return &Server{verifier: v, endPoint: endPoint} }

// Mechanisms are those to offer, the best first.
func (s *Server) Mechanisms() []string {
	if s.endPoint != nil {
		return []string{MechanismPlus, Mechanism}
	}
	return []string{Mechanism}
}

// First reads the mechanism that the client chose and its client-first-message, and gives server-first-message. The user name in it is
// ignored: PostgreSQL takes the one of the startup packet, and libpq sends none.
func (s *Server) First(mechanism string, message []byte) ([]byte, error) {
	switch {
	case mechanism == MechanismPlus && s.endPoint != nil:
		s.bound = true
	case mechanism != Mechanism:
		return nil, ErrMechanism
	}
	if err := s.header(string(message)); err != nil {
		return nil, err
	}
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

// header splits client-first-message into gs2-header and the rest (RFC 5802 section 7). An authzid is refused, as by PostgreSQL.
func (s *Server) header(text string) error {
	switch {
	case strings.HasPrefix(text, "n,,"): // the client does not bind, and does not care whether we would
		if s.bound {
			return ErrProtocol
		}
	case strings.HasPrefix(text, "y,,"): // it would have, had we offered it
		if s.bound {
			return ErrProtocol
		}
		if s.endPoint != nil {
			return ErrDowngrade
		}
	case strings.HasPrefix(text, "p="):
		if !s.bound {
			return ErrProtocol
		}
		if !strings.HasPrefix(text, "p="+bindingType+",") {
			return ErrBindingType
		}
		if !strings.HasPrefix(text, gs2Bound) {
			return ErrProtocol
		}
		s.gs2, s.bare = gs2Bound, text[len(gs2Bound):]
		return nil
	default:
		return ErrProtocol
	}
	s.gs2, s.bare = text[:3], text[3:]
	return nil
}

// Final reads client-final-message, checks channel and proof, and gives server-final-message and the keys that the proof
// yields (RFC 5802 section 3: ClientKey = ClientProof XOR ClientSignature). A wrong proof is ErrProof.
func (s *Server) Final(message []byte) ([]byte, Keys, error) {
	text := string(message)
	at := strings.LastIndex(text, ",p=")
	if s.nonce == "" || at < 0 {
		return nil, Keys{}, ErrProtocol
	}
	withoutProof := text[:at]
	binding, rest, ok := strings.Cut(withoutProof, ",")
	if !ok || rest != "r="+s.nonce {
		return nil, Keys{}, ErrProtocol
	}
	if binding != bindingField(s.gs2, s.endPoint) {
		return nil, Keys{}, ErrBinding
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

// bindingField is client-final's c=: the gs2-header, with the channel's data behind it if the header says that it is bound.
func bindingField(gs2 string, endPoint []byte) string {
	data := []byte(gs2)
	if gs2 == gs2Bound {
		data = append(data, endPoint...)
	}
	return "c=" + base64.StdEncoding.EncodeToString(data)
}
