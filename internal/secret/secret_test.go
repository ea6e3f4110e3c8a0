package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"pgveil/internal/secret"
)

const canary = "canary-5f3a"

type holder struct {
	Public  secret.Bytes
	private secret.Bytes
}

func TestNoFormatVerbPrintsTheSecret(t *testing.T) {
	h := holder{secret.New([]byte(canary)), secret.New([]byte(canary))}
	var all strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p"} {
		fmt.Fprintf(&all, verb+"|"+verb+"|"+verb+"\n", h, &h, h.private)
	}
	js, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	all.Write(js)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "h", h, "b", h.Public)
	all.Write(log.Bytes())
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprint([]byte(canary))} {
		if strings.Contains(strings.ToLower(all.String()), form) {
			t.Errorf("a printed form shows the secret as %d characters", len(form))
		}
	}
}

func TestExposeAndEqual(t *testing.T) {
	a, b := secret.New([]byte("k1")), secret.New([]byte("k1"))
	if !a.Equal(b) || a.Equal(secret.New([]byte("k2"))) || a.Equal(secret.Bytes{}) {
		t.Error("Equal is wrong")
	}
	if got := string(a.Expose()); got != "k1" {
		t.Errorf("Expose = %q", got)
	}
	if (secret.Bytes{}).Len() != 0 || secret.Random(32).Len() != 32 {
		t.Error("Len is wrong")
	}
	if secret.Random(32).Equal(secret.Random(32)) {
		t.Error("two random secrets are equal")
	}
}
