package scram_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgveil/internal/scram"
	"pgveil/internal/secret"
)

func TestVerifierTextRoundTrips(t *testing.T) {
	v, err := scram.NewVerifier([]byte("hunter2"), 0)
	if err != nil {
		t.Fatal(err)
	}
	w, err := scram.ParseVerifier(v.Exposed())
	if err != nil || w.Exposed() != v.Exposed() {
		t.Fatalf("round trip: %v", err)
	}
	if s := fmt.Sprintf("%v %+v %#v %s", v, v, v, v); strings.Contains(s, "$") || strings.Contains(s, "4096") {
		t.Error("fmt prints the verifier")
	}
}

func TestMalformedVerifiersAreRefused(t *testing.T) {
	v, _ := scram.NewVerifier([]byte("x"), 4096)
	good := v.Exposed()
	for _, bad := range []string{"", "md5abc", "SCRAM-SHA-256", good + "$", strings.Replace(good, "4096", "0", 1), strings.Replace(good, "4096", "+4096", 1),
		strings.Replace(good, "SCRAM-SHA-256", "SCRAM-SHA-1", 1), good[:len(good)-2], good + "\n", strings.Replace(good, ":", "", 1)} {
		if _, err := scram.ParseVerifier(bad); err == nil {
			t.Errorf("accepted a malformed verifier of %d bytes", len(bad))
		}
	}
}

// channel is a TLS connection as its two ends see it: the same certificate, unless somebody stands between them.
type channel struct{ shown, seen []byte }

// exchange runs one exchange to its end and gives what each side has of it.
func exchange(client *scram.Client, server *scram.Server) (scram.Keys, error) {
	mechanism, first, err := client.First(server.Mechanisms())
	if err != nil {
		return scram.Keys{}, err
	}
	reply, err := server.First(mechanism, first)
	if err != nil {
		return scram.Keys{}, err
	}
	final, err := client.Final(reply)
	if err != nil {
		return scram.Keys{}, err
	}
	signature, keys, err := server.Final(final)
	if err != nil {
		return scram.Keys{}, err
	}
	return keys, client.Verify(signature)
}

// relay runs client -> Server -> Client -> Server, as the front-end does.
func relay(frontEnd, backing scram.Verifier, password string, front, back channel) error {
	keys, err := exchange(scram.NewPasswordClient(secret.New([]byte(password)), front.seen), scram.NewServer(frontEnd, front.shown))
	if err != nil {
		return err
	}
	_, err = exchange(scram.NewClient(keys, back.seen), scram.NewServer(backing, back.shown))
	return err
}

func TestPassThroughLogsInWithoutThePassword(t *testing.T) {
	v, _ := scram.NewVerifier([]byte("pässword\u00a0x"), 4096)
	other, _ := scram.NewVerifier([]byte("pässword\u00a0x"), 4096)
	one, two := channel{[]byte("front"), []byte("front")}, channel{[]byte("back"), []byte("back")}
	for _, c := range [][2]channel{{}, {one, {}}, {{}, two}, {one, two}} { // each leg bound to its own certificate, or to none
		if err := relay(v, v, "pässword x", c[0], c[1]); err != nil { // U+00A0 maps to a space
			t.Errorf("pass-through: %v", err)
		}
	}
	if err := relay(v, v, "wrong", channel{}, channel{}); !errors.Is(err, scram.ErrProof) {
		t.Errorf("wrong password: %v, want ErrProof", err)
	}
	if err := relay(v, other, "pässword x", channel{}, channel{}); !errors.Is(err, scram.ErrOtherVerifier) {
		t.Errorf("another salt at the backing database: %v, want ErrOtherVerifier", err)
	}
}

func TestAChannelOfSomebodyElseIsRefused(t *testing.T) {
	v, _ := scram.NewVerifier([]byte("x"), 1)
	client := func(endPoint []byte) *scram.Client { return scram.NewPasswordClient(secret.New([]byte("x")), endPoint) }
	if _, err := exchange(client([]byte("theirs")), scram.NewServer(v, []byte("ours"))); !errors.Is(err, scram.ErrBinding) {
		t.Errorf("another certificate: %v, want ErrBinding", err)
	}
	// Somebody takes -PLUS out of the offer: the client says y where we did offer it.
	c, s := client([]byte("ours")), scram.NewServer(v, []byte("ours"))
	mechanism, first, err := c.First([]string{scram.Mechanism})
	if err != nil || mechanism != scram.Mechanism || !strings.HasPrefix(string(first), "y,,") {
		t.Fatalf("%s %q: %v", mechanism, first, err)
	}
	if _, err := s.First(mechanism, first); !errors.Is(err, scram.ErrDowngrade) {
		t.Errorf("got %v, want ErrDowngrade", err)
	}
	// Where it was not offered, y is true; and a client need not bind at all.
	for _, tc := range []struct{ client, server []byte }{{[]byte("x"), nil}, {nil, []byte("x")}} {
		if _, err := exchange(client(tc.client), scram.NewServer(v, tc.server)); err != nil {
			t.Errorf("client %q, server %q: %v", tc.client, tc.server, err)
		}
	}
}

// TestRFC7677Example is the exchange of RFC 7677 section 3.
func TestRFC7677Example(t *testing.T) {
	salt, _ := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	v, err := scram.Derive([]byte("pencil"), salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	s := scram.NewServer(v, nil)
	first, err := s.FirstWithNonce(scram.Mechanism, []byte("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"), "rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
	if want := "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"; err != nil || string(first) != want {
		t.Fatalf("server-first %q, %v", first, err)
	}
	final, keys, err := s.Final([]byte("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="))
	if err != nil || string(final) != "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" {
		t.Errorf("server-final %q, %v", final, err)
	}
	if !keys.Match() {
		t.Error("the proof did not yield the verifier's ClientKey")
	}
}

func TestEndPointIsHashedAsTheCertificateIsSigned(t *testing.T) {
	raw := []byte("a certificate")
	for alg, want := range map[x509.SignatureAlgorithm]int{
		x509.MD5WithRSA: 32, x509.SHA1WithRSA: 32, x509.ECDSAWithSHA1: 32, x509.SHA256WithRSA: 32, x509.SHA256WithRSAPSS: 32, x509.ECDSAWithSHA256: 32,
		x509.SHA384WithRSA: 48, x509.ECDSAWithSHA384: 48, x509.SHA384WithRSAPSS: 48, x509.SHA512WithRSA: 64, x509.ECDSAWithSHA512: 64,
		x509.PureEd25519: 0, x509.UnknownSignatureAlgorithm: 0, x509.MD2WithRSA: 0,
	} {
		got := scram.EndPoint(&x509.Certificate{Raw: raw, SignatureAlgorithm: alg})
		if len(got) != want {
			t.Errorf("%v: %d bytes, want %d", alg, len(got), want)
		}
	}
	sum := sha256.Sum256(raw)
	if !bytes.Equal(scram.EndPoint(&x509.Certificate{Raw: raw, SignatureAlgorithm: x509.SHA1WithRSA}), sum[:]) {
		t.Error("SHA-1 is not replaced by SHA-256")
	}
	if m := scram.NewServer(scram.Verifier{}, scram.EndPoint(&x509.Certificate{SignatureAlgorithm: x509.PureEd25519})).Mechanisms(); len(m) != 1 || m[0] != scram.Mechanism {
		t.Errorf("an Ed25519 certificate offers %q", m)
	}
}

func TestAnEnrolledPasswordGivesTheServersVerifier(t *testing.T) {
	v, _ := scram.NewVerifier([]byte("pw"), 5000)
	c := scram.NewPasswordClient(secret.New([]byte("pw")), nil)
	if _, err := exchange(c, scram.NewServer(v, nil)); err != nil {
		t.Fatal(err)
	}
	if c.Keys().Verifier.Exposed() != v.Exposed() || !c.Keys().Match() {
		t.Error("the keys are not the server's")
	}
	for _, first := range []string{"i=0", "i=-1", "i=99999999", "i=x", "i=1,m=x", ""} {
		c := scram.NewPasswordClient(secret.New([]byte("pw")), nil)
		_, m, _ := c.First([]string{scram.Mechanism})
		if _, err := c.Final([]byte(string(m[len("n,,n=,"):]) + "abc,s=AAAA," + first)); err == nil {
			t.Errorf("server-first with %q accepted", first)
		}
	}
}

func TestMockVerifierIsStableAndMatchesNothing(t *testing.T) {
	a, b := scram.MockVerifier([]byte("k"), "ghost"), scram.MockVerifier([]byte("k"), "ghost")
	if a.Exposed() != b.Exposed() || a.Exposed() == scram.MockVerifier([]byte("k"), "ghost2").Exposed() {
		t.Error("mock verifiers must depend on the role alone")
	}
	if err := relay(a, a, "anything", channel{}, channel{}); !errors.Is(err, scram.ErrProof) {
		t.Errorf("got %v, want ErrProof", err)
	}
}

func TestMalformedMessagesAreRefused(t *testing.T) {
	v, _ := scram.NewVerifier([]byte("x"), 4096)
	for _, first := range []string{"", "n", "n,,", "p=tls-server-end-point,,n=,r=abc", "n,a=me,n=,r=abc", "n,,n=,r=", "n,,r=abc", "n,,n=,r=a\x01b", "z,,n=,r=abc"} {
		if _, err := scram.NewServer(v, nil).First(scram.Mechanism, []byte(first)); err == nil {
			t.Errorf("client-first %q accepted", first)
		}
	}
	for first, want := range map[string]error{
		"n,,n=,r=abc": scram.ErrProtocol, "y,,n=,r=abc": scram.ErrProtocol, "p=tls-unique,,n=,r=abc": scram.ErrBindingType, "p=,,n=,r=abc": scram.ErrBindingType,
		"p=tls-server-end-point,a=me,n=,r=abc": scram.ErrProtocol, "p=tls-server-end-point,,n=,r=abc": nil,
	} {
		if _, err := scram.NewServer(v, []byte("x")).First(scram.MechanismPlus, []byte(first)); !errors.Is(err, want) {
			t.Errorf("client-first %q under -PLUS: %v, want %v", first, err, want)
		}
	}
	for _, m := range []string{"", "PLAIN", scram.MechanismPlus} {
		if _, err := scram.NewServer(v, nil).First(m, []byte("n,,n=,r=abc")); !errors.Is(err, scram.ErrMechanism) {
			t.Errorf("mechanism %q: %v, want ErrMechanism", m, err)
		}
	}
	for _, final := range []string{"", "c=biws", "c=biws,r=abc,p=", "c=biws,r=abc,p=!!!!"} {
		s := scram.NewServer(v, nil)
		if _, err := s.First(scram.Mechanism, []byte("n,,n=,r=abc")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Final([]byte(final)); err == nil {
			t.Errorf("client-final %q accepted", final)
		}
	}
	if _, _, err := scram.NewServer(v, nil).Final([]byte("c=biws,r=,p=AAAA")); err == nil {
		t.Error("client-final without client-first accepted")
	}
	if err := scram.NewClient(scram.Keys{}, nil).Verify([]byte("v=")); err == nil {
		t.Error("a server that skipped the exchange is believed")
	}
}

func FuzzServer(f *testing.F) {
	f.Add("SCRAM-SHA-256", "n,,n=,r=abc", "c=biws,r=abc,p=AAAA")
	f.Add("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,n=,r=abc", "c=cD10bHMtc2VydmVyLWVuZC1wb2ludCwseA==,r=abc,p=AAAA")
	v, _ := scram.NewVerifier([]byte("x"), 1)
	f.Fuzz(func(t *testing.T, mechanism, first, final string) {
		s := scram.NewServer(v, []byte("x"))
		if _, err := s.First(mechanism, []byte(first)); err != nil {
			return
		}
		if _, _, err := s.Final([]byte(final)); err == nil {
			t.Error("a random proof was accepted")
		}
	})
}

// FuzzClient feeds a client what a server might say; only the server that holds the verifier is believed.
func FuzzClient(f *testing.F) {
	f.Add("abc,s=AAAA,i=1", "v=AAAA")
	f.Add("abc,s=AAAA,i=2", "e=other-error")
	f.Fuzz(func(t *testing.T, first, final string) {
		if _, n, ok := strings.Cut(first, ",i="); ok && len(n) > 3 {
			return // more iterations than there is time for
		}
		c := scram.NewPasswordClient(secret.New([]byte("x")), []byte("x"))
		_, m, err := c.First([]string{scram.MechanismPlus})
		if err != nil {
			t.Fatal(err)
		}
		c.Final(append(m[len("p=tls-server-end-point,,n=,"):], first...))
		if c.Verify([]byte(final)) == nil {
			t.Error("a random signature was accepted")
		}
	})
}

func FuzzParseVerifier(f *testing.F) {
	v, _ := scram.NewVerifier([]byte("x"), 4096)
	f.Add(v.Exposed())
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := scram.ParseVerifier(s); err == nil && v.Exposed() != s {
			t.Error("accepted text does not round-trip")
		}
	})
}
