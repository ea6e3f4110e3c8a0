package pgwire

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net"

	"pgveil/internal/scram"
)

// alpn is the name of the protocol in TLS (the manual's "Direct SSL connection").
const alpn = "postgresql"

// channel is what is known of a client's TLS connection. Its zero value is for one without TLS.
type channel struct {
	state    *tls.ConnectionState
	endPoint []byte // of the certificate that was shown: what SCRAM-SHA-256-PLUS binds to
	name     string // the common name of the client's certificate, if that was verified
}

// tlsError is a handshake that failed. Its text is crypto/tls's.
type tlsError struct{ error }

func (e tlsError) Unwrap() error { return e.error }

// accept makes the handshake with a client.
func accept(conn net.Conn, base *tls.Config) (*tls.Conn, channel, error) {
	var shown *tls.Certificate
	config := base.Clone()
	config.NextProtos = []string{alpn}
	// A resumed connection shows no certificate to bind to; PostgreSQL does not resume either.
	config.SessionTicketsDisabled = true
	config.Certificates, config.GetConfigForClient = nil, nil
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (cert *tls.Certificate, err error) {
		shown, err = choose(base, hello)
		return shown, err
	}
	t := tls.Server(conn, config)
	if err := t.Handshake(); err != nil {
		return nil, channel{}, tlsError{err}
	}
	state := t.ConnectionState()
	ch := channel{state: &state}
	if shown != nil {
		if leaf, err := leafOf(shown); err == nil {
			ch.endPoint = scram.EndPoint(leaf)
		}
	}
	if len(state.VerifiedChains) > 0 {
		ch.name = commonName(state.VerifiedChains[0][0].Subject)
	}
	return t, ch, nil
}

// commonName is the subject's only common name; "" where there are several, of which programs read different ones.
func commonName(subject pkix.Name) string {
	n := 0
	for _, a := range subject.Names {
		if a.Type.Equal(oidCommonName) {
			n++
		}
	}
	if n > 1 {
		return ""
	}
	return subject.CommonName
}

// oidCommonName is id-at-commonName (RFC 5280, appendix A.1).
var oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// choose picks the certificate that crypto/tls would.
func choose(config *tls.Config, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if config.GetCertificate != nil {
		return config.GetCertificate(hello)
	}
	for i := range config.Certificates {
		if hello.SupportsCertificate(&config.Certificates[i]) == nil {
			return &config.Certificates[i], nil
		}
	}
	if len(config.Certificates) == 0 {
		return nil, errors.New("no certificate is configured")
	}
	return &config.Certificates[0], nil
}

func leafOf(cert *tls.Certificate) (*x509.Certificate, error) {
	if cert.Leaf != nil {
		return cert.Leaf, nil
	}
	return x509.ParseCertificate(cert.Certificate[0])
}

// Reload reads certificates and keys again, by Config.Reload. Connections made from now on use them; where it fails, the ones in use
// stay. It is safe for concurrent use.
func (s *Server) Reload() error {
	if s.cfg.Reload == nil {
		return nil
	}
	files, err := s.cfg.Reload()
	if err == nil {
		err = checkBacking(files.Backing)
	}
	if err != nil {
		s.cfg.Logger.Error("reload failed: what was in use stays", "error", err)
		return err
	}
	s.tls.Store(files.TLS)
	s.backing.Store(files.Backing)
	s.cfg.Logger.Info("reloaded")
	return nil
}
