package scram

import (
	"crypto"
	"crypto/x509"
)

// bindingType is the only channel-binding type that PostgreSQL knows.
const bindingType = "tls-server-end-point"

// EndPoint gives a server certificate's tls-server-end-point (RFC 5929 section 4.1): its hash by the hash of its signature, where
// SHA-256 stands in for MD5 and SHA-1. It is nil where the signature has no single hash, as Ed25519's: then no channel can be bound.
func EndPoint(cert *x509.Certificate) []byte {
	var h crypto.Hash
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.DSAWithSHA256, x509.ECDSAWithSHA256:
		h = crypto.SHA256
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		h = crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		h = crypto.SHA512
	default:
		return nil
	}
	sum := h.New()
	sum.Write(cert.Raw)
	return sum.Sum(nil)
}

// gs2Bound is the gs2-header of a client that binds its channel.
const gs2Bound = "p=" + bindingType + ",,"
