package scram_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgveil/internal/scram"
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

// relay runs client -> Server -> Client -> Server, as the front-end does.
func relay(clientKnows, frontEnd, backing scram.Verifier, password string) error {
	client, err := scram.PasswordClient([]byte(password))
	if err != nil {
		return err
	}
	srv := scram.NewServer(frontEnd)
	first, err := srv.First(client.First())
	if err != nil {
		return err
	}
	final, err := client.Final(first)
	if err != nil {
		return err
	}
	sig, keys, err := srv.Final(final)
	if err != nil {
		return err
	}
	if err := client.Verify(sig); err != nil {
		return err
	}
	back, c := scram.NewServer(backing), scram.NewClient(keys)
	bf, err := back.First(c.First())
	if err != nil {
		return err
	}
	cf, err := c.Final(bf)
	if err != nil {
		return err
	}
	bsig, _, err := back.Final(cf)
	if err != nil {
		return err
	}
	return c.Verify(bsig)
}

func TestPassThroughLogsInWithoutThePassword(t *testing.T) {
	v, _ := scram.NewVerifier([]byte("pässword\u00a0x"), 4096)
	other, _ := scram.NewVerifier([]byte("pässword\u00a0x"), 4096)
	if err := relay(v, v, v, "pässword x"); err != nil { // U+00A0 maps to a space
		t.Errorf("pass-through: %v", err)
	}
	if err := relay(v, v, v, "wrong"); !errors.Is(err, scram.ErrProof) {
		t.Errorf("wrong password: %v, want ErrProof", err)
	}
	if err := relay(v, v, other, "pässword x"); !errors.Is(err, scram.ErrOtherVerifier) {
		t.Errorf("another salt at the backing database: %v, want ErrOtherVerifier", err)
	}
}

func TestMockVerifierIsStableAndMatchesNothing(t *testing.T) {
	a, b := scram.MockVerifier([]byte("k"), "ghost"), scram.MockVerifier([]byte("k"), "ghost")
	if a.Exposed() != b.Exposed() || a.Exposed() == scram.MockVerifier([]byte("k"), "ghost2").Exposed() {
		t.Error("mock verifiers must depend on the role alone")
	}
	if err := relay(a, a, a, "anything"); !errors.Is(err, scram.ErrProof) {
		t.Errorf("got %v, want ErrProof", err)
	}
}

func TestMalformedMessagesAreRefused(t *testing.T) {
	v, _ := scram.NewVerifier([]byte("x"), 4096)
	for _, first := range []string{"", "n", "n,,", "p=tls-server-end-point,,n=,r=abc", "n,a=me,n=,r=abc", "n,,n=,r=", "n,,r=abc", "n,,n=,r=a\x01b"} {
		if _, err := scram.NewServer(v).First([]byte(first)); err == nil {
			t.Errorf("client-first %q accepted", first)
		}
	}
	for _, final := range []string{"", "c=biws", "c=biws,r=abc,p=", "c=biws,r=abc,p=!!!!"} {
		s := scram.NewServer(v)
		if _, err := s.First([]byte("n,,n=,r=abc")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Final([]byte(final)); err == nil {
			t.Errorf("client-final %q accepted", final)
		}
	}
	if _, _, err := scram.NewServer(v).Final([]byte("c=biws,r=,p=AAAA")); err == nil {
		t.Error("client-final without client-first accepted")
	}
}

func FuzzServer(f *testing.F) {
	f.Add("n,,n=,r=abc", "c=biws,r=abc,p=AAAA")
	v, _ := scram.NewVerifier([]byte("x"), 1)
	f.Fuzz(func(t *testing.T, first, final string) {
		s := scram.NewServer(v)
		if _, err := s.First([]byte(first)); err != nil {
			return
		}
		if _, _, err := s.Final([]byte(final)); err == nil {
			t.Error("a random proof was accepted")
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
