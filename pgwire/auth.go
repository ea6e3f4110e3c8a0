package pgwire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"pgveil/catalog"
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

// authenticate checks the client and takes a place for its session. It gives the keys to log in to the backing database with, and the
// server-final-message that the client gets once that has let it in; none after a login by certificate.
func (s *Server) authenticate(c *wire, st *startup) (scram.Keys, []byte, error) {
	snap, err := s.cfg.Catalog.Current()
	if err != nil {
		return scram.Keys{}, nil, err
	}
	keys, ok, err := byCertificate(snap, st)
	var final []byte
	if err == nil && !ok {
		keys, final, err = s.byPassword(c, st, snap)
	}
	if err == nil {
		err = st.ticket.admit(st.user)
	}
	return keys, final, err
}

// byCertificate lets a client in whose certificate was verified and bears the role's name, if the catalog holds a ClientKey for the role:
// the backing database asks for a proof all the same.
func byCertificate(snap *catalog.Snapshot, st *startup) (keys scram.Keys, ok bool, err error) {
	if st.tls.name == "" || st.tls.name != st.user {
		return keys, false, nil
	}
	key, ok, err := snap.ClientKey(st.user)
	if err != nil || !ok {
		return keys, false, err
	}
	text, _ := snap.Verifier(st.user)
	v, err := scram.ParseVerifier(text)
	st.method = "certificate"
	return scram.Keys{ClientKey: key, Verifier: v}, true, err
}

// byPassword checks the client by SCRAM against the role's stored verifier. A role that is not known costs the same messages and the same
// work as one that is.
func (s *Server) byPassword(c *wire, st *startup, snap *catalog.Snapshot) (scram.Keys, []byte, error) {
	malformed := &failure{code: "08P01", message: "malformed SCRAM message"}
	denied := &failure{code: "28P01", message: fmt.Sprintf("password authentication failed for user %q", st.user)}
	v, known := verifier(snap, st.user)
	if !known {
		denied.cause = "no such role is known here"
	}
	exchange := scram.NewServer(v, st.tls.endPoint)
	offer := appendInt32(nil, authSASL)
	for _, m := range exchange.Mechanisms() {
		offer = appendString(offer, m)
	}
	if err := c.send('R', append(offer, 0)); err != nil {
		return scram.Keys{}, nil, err
	}
	body, err := passwordMessage(c)
	if err != nil {
		return scram.Keys{}, nil, err
	}
	in := cursor{b: body}
	mechanism := string(in.string())
	first, null := in.value()
	if !in.done() || null {
		return scram.Keys{}, nil, malformed
	}
	reply, err := exchange.First(mechanism, first)
	switch {
	case errors.Is(err, scram.ErrMechanism):
		return scram.Keys{}, nil, &failure{code: "08P01", message: "client selected an invalid SASL authentication mechanism"}
	case errors.Is(err, scram.ErrDowngrade):
		return scram.Keys{}, nil, &failure{code: "28000", message: "SCRAM channel binding negotiation error",
			hint: "The client believes that the server does not support channel binding, but it does: somebody may stand between them."}
	case errors.Is(err, scram.ErrBindingType):
		return scram.Keys{}, nil, &failure{code: "08P01", message: "unsupported SCRAM channel-binding type"}
	case err != nil:
		return scram.Keys{}, nil, malformed
	}
	if err := c.send('R', append(appendInt32(nil, authSASLContinue), reply...)); err != nil {
		return scram.Keys{}, nil, err
	}
	if body, err = passwordMessage(c); err != nil {
		return scram.Keys{}, nil, err
	}
	final, keys, err := exchange.Final(body)
	switch {
	case errors.Is(err, scram.ErrBinding):
		return scram.Keys{}, nil, &failure{code: "28000", message: "SCRAM channel binding check failed"}
	case errors.Is(err, scram.ErrProof), err == nil && !known:
		return scram.Keys{}, nil, denied
	case err != nil:
		return scram.Keys{}, nil, malformed
	}
	st.method = mechanism
	return keys, final, nil
}

// verifier gives the role's verifier, or one that no proof matches. Both ways do the same work.
func verifier(snap *catalog.Snapshot, role string) (v scram.Verifier, known bool) {
	mock := snap.MockVerifier(role)
	text, known := snap.Verifier(role)
	if !known {
		text = mock
	}
	v, err := scram.ParseVerifier(text) // the snapshot holds none that cannot be read
	return v, known && err == nil
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
