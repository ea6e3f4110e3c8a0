package scram

import (
	"bytes"
	"crypto/hmac"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"pgveil/internal/secret"
)

// Client is one exchange seen from a client. Use First, Final, Verify. It is not safe for concurrent use.
type Client struct {
	keys     Keys
	password secret.Bytes // of an enrolment: the keys are derived from it once salt and iterations are known
	endPoint []byte
	gs2      string
	bare     string
	nonce    string
	auth     string
}

// NewClient starts an exchange with keys and no password. endPoint is the EndPoint of the certificate that the server showed; nil, as on a
// connection without TLS, binds no channel.
func NewClient(k Keys, endPoint []byte) *Client { return &Client{keys: k, endPoint: endPoint} }

// NewPasswordClient starts an exchange with a password; Keys gives what it was found to mean to the server.
func NewPasswordClient(password secret.Bytes, endPoint []byte) *Client {
	return &Client{password: password, endPoint: endPoint}
}

// First chooses among the mechanisms offered and gives client-first-message. ErrMechanism says that none is known. Where a channel could
// be bound but the server does not offer it, the message says so, which a server that did offer it refuses.
func (c *Client) First(offered []string) (mechanism string, message []byte, err error) {
	switch {
	case c.endPoint != nil && slices.Contains(offered, MechanismPlus):
		mechanism, c.gs2 = MechanismPlus, gs2Bound
	case !slices.Contains(offered, Mechanism):
		return "", nil, ErrMechanism
	case c.endPoint != nil:
		mechanism, c.gs2 = Mechanism, "y,,"
	default:
		mechanism, c.gs2 = Mechanism, "n,,"
	}
	c.nonce = nonce()
	c.bare = "n=,r=" + c.nonce
	return mechanism, []byte(c.gs2 + c.bare), nil
}

// Final reads server-first-message and gives client-final-message. ErrOtherVerifier says that the server's
// verifier is not the one the keys belong to, so that the login would fail.
func (c *Client) Final(serverFirst []byte) ([]byte, error) {
	fields := strings.Split(string(serverFirst), ",")
	if c.nonce == "" || len(fields) != 3 || !strings.HasPrefix(fields[0], "r="+c.nonce) || len(fields[0]) <= len("r=")+len(c.nonce) ||
		!strings.HasPrefix(fields[1], "s=") || !strings.HasPrefix(fields[2], "i=") {
		return nil, ErrProtocol
	}
	salt, err := base64.StdEncoding.DecodeString(fields[1][2:])
	if err != nil || len(salt) == 0 {
		return nil, ErrProtocol
	}
	if c.password.Len() > 0 {
		n, err := strconv.Atoi(fields[2][2:])
		if err != nil || n < 1 || n > maxIterations {
			return nil, ErrProtocol
		}
		if c.keys, err = derive(c.password.Expose(), salt, n); err != nil {
			return nil, err
		}
	}
	v := c.keys.Verifier
	if !bytes.Equal(salt, v.Salt) || fields[2][2:] != strconv.Itoa(v.Iterations) {
		return nil, ErrOtherVerifier
	}
	withoutProof := bindingField(c.gs2, c.endPoint) + "," + fields[0]
	c.auth = c.bare + "," + string(serverFirst) + "," + withoutProof
	proof := xor(c.keys.ClientKey.Expose(), mac(v.StoredKey, c.auth))
	return []byte(withoutProof + ",p=" + base64.StdEncoding.EncodeToString(proof)), nil
}

// Verify checks server-final-message, which proves that the server knows the verifier.
func (c *Client) Verify(serverFinal []byte) error {
	text, ok := strings.CutPrefix(string(serverFinal), "v=")
	if !ok || c.auth == "" {
		return ErrProtocol
	}
	got, err := base64.StdEncoding.DecodeString(text)
	if err != nil || !hmac.Equal(got, mac(c.keys.Verifier.ServerKey, c.auth)) {
		return ErrProof
	}
	return nil
}

// Keys are those that the exchange used; after Verify the server is known to accept them.
func (c *Client) Keys() Keys { return c.keys }
