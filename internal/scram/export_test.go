package scram

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"

	"pgveil/internal/secret"
)

// TestClient is a client that knows the password, for the tests.
type TestClient struct {
	password []byte
	c        *Client
}

// PasswordClient returns a client that learns salt and iterations from the server.
func PasswordClient(password []byte) (*TestClient, error) {
	return &TestClient{password: password, c: NewClient(Keys{})}, nil
}

func (t *TestClient) First() []byte { return t.c.First() }

func (t *TestClient) Final(serverFirst []byte) ([]byte, error) {
	f := strings.Split(string(serverFirst), ",")
	salt, err := base64.StdEncoding.DecodeString(f[1][2:])
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(f[2][2:])
	if err != nil {
		return nil, err
	}
	v, err := derive(t.password, salt, n)
	if err != nil {
		return nil, err
	}
	t.c.keys = Keys{ClientKey: secret.New(clientKey(t.password, salt, n)), Verifier: v}
	return t.c.Final(serverFirst)
}

func (t *TestClient) Verify(final []byte) error { return t.c.Verify(final) }

func clientKey(password, salt []byte, n int) []byte {
	salted, err := pbkdf2.Key(sha256.New, string(prepare(password)), salt, n, sha256.Size)
	if err != nil {
		panic(err)
	}
	return mac(salted, "Client Key")
}
