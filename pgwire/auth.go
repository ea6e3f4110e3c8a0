package pgwire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"pgveil/internal/scram"
)

// Authentication request codes (the manual's "Message Formats").
const (
	authOK           = 0
	authCleartext    = 3
	authMD5          = 5
	authSASL         = 10
	authSASLContinue = 11
	authSASLFinal    = 12
)

// authenticate checks the client by SCRAM-SHA-256 against the role's stored verifier and gives the keys to log in with as that
// role, and the server-final-message that the client gets once the backing database has let it in. A role that is not known costs the same
// messages as one that is.
func (s *Server) authenticate(c *wire, role string) (scram.Keys, []byte, error) {
	denied := &failure{code: "28P01", message: fmt.Sprintf("password authentication failed for user %q", role)}
	snap, err := s.cfg.Catalog.Current()
	if err != nil {
		return scram.Keys{}, nil, err
	}
	text, known := snap.Verifier(role)
	var v scram.Verifier
	if known {
		if v, err = scram.ParseVerifier(text); err != nil {
			known = false
		}
	}
	if !known {
		v = scram.MockVerifier(snap.MockSecret(), role)
	}
	exchange := scram.NewServer(v)
	if err := c.send('R', append(appendString(appendInt32(nil, authSASL), scram.Mechanism), 0)); err != nil {
		return scram.Keys{}, nil, err
	}
	body, err := passwordMessage(c)
	if err != nil {
		return scram.Keys{}, nil, err
	}
	in := cursor{b: body}
	mechanism := string(in.string())
	first, null := in.value()
	if !in.done() || null || mechanism != scram.Mechanism {
		return scram.Keys{}, nil, &failure{code: "08P01", message: "client selected an invalid SASL authentication mechanism"}
	}
	reply, err := exchange.First(first)
	if err != nil {
		return scram.Keys{}, nil, &failure{code: "08P01", message: "malformed SCRAM message"}
	}
	if err := c.send('R', append(appendInt32(nil, authSASLContinue), reply...)); err != nil {
		return scram.Keys{}, nil, err
	}
	if body, err = passwordMessage(c); err != nil {
		return scram.Keys{}, nil, err
	}
	final, keys, err := exchange.Final(body)
	switch {
	case errors.Is(err, scram.ErrProof):
		s.cfg.Logger.Info("authentication failed", "role", role, "known", known)
		return scram.Keys{}, nil, denied
	case err != nil:
		return scram.Keys{}, nil, &failure{code: "08P01", message: "malformed SCRAM message"}
	case !known:
		return scram.Keys{}, nil, denied
	}
	return keys, final, nil
}

// passwordMessage reads one message of type p.
func passwordMessage(c *wire) ([]byte, error) {
	if err := c.w.Flush(); err != nil {
		return nil, err
	}
	kind, n, err := c.header()
	if err != nil {
		return nil, err
	}
	if kind != 'p' {
		return nil, &failure{code: "08P01", message: "expected a password response"}
	}
	return c.take(kind, n, maxEarlyBody)
}

// authRequest splits the body of an Authentication message.
func authRequest(body []byte) (code int, rest []byte, err error) {
	if len(body) < 4 {
		return 0, nil, errMalformed
	}
	return int(int32(binary.BigEndian.Uint32(body))), body[4:], nil
}
