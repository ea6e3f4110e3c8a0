package keyring

import (
	"context"
	"fmt"
	"strings"

	"pgveil/internal/secret"
)

// KEK is a key encryption key kept outside the database: it wraps the root key and nothing else.
//
// ID tells KEKs apart and shows nothing of the key; two KEKs have two IDs. Unwrap with other associated data than Wrap
// was given fails. Both may talk to another machine. Safe for concurrent use.
type KEK interface {
	ID() string
	Wrap(ctx context.Context, plain secret.Bytes, ad []byte) ([]byte, error)
	Unwrap(ctx context.Context, blob, ad []byte) (secret.Bytes, error)
}

// OpenKEK opens the KEK a URI names: "file:PATH", absolute or relative to the working directory.
// Its errors are *Error and say what to do.
func OpenKEK(uri string) (KEK, error) {
	if uri == "" {
		return nil, &Error{"no KEK is given", "set PGVEIL_KEK to file:PATH; `pgveil key init` makes the file"}
	}
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok || scheme != "file" {
		// The text may be the key itself, pasted by mistake: it is not repeated.
		return nil, &Error{"the KEK is not given as file:PATH", "set PGVEIL_KEK to file:PATH"}
	}
	path := rest
	if after, ok := strings.CutPrefix(rest, "//"); ok {
		path = after
	}
	if path == "" {
		return nil, &Error{"the KEK's file: names no path", "set PGVEIL_KEK to file:PATH"}
	}
	kek, err := openFile(path)
	if err != nil {
		return nil, err
	}
	return kek, nil
}

func fileError(path, what, hint string, args ...any) *Error {
	return &Error{fmt.Sprintf("KEK file %s %s", path, what), fmt.Sprintf(hint, args...)}
}
