package keyring

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"pgveil/internal/secret"
)

// fileHeader begins a KEK file; 32 bytes in base64 and a newline follow.
const fileHeader = "pgveil-kek-1:"

// maxFileBytes is more than any KEK file has, so that a wrong path does not read a disk.
const maxFileBytes = 4096

// fileKEK is a key in a file that only its owner can read.
type fileKEK struct {
	id  string
	key secret.Bytes
}

// CreateFile makes a KEK file with a new random key, readable by its owner alone. It never replaces a file: one that
// exists is an error, for the key in it may be the only copy.
func CreateFile(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fileError(path, "exists", "keep it if it is this installation's KEK; else choose another path")
	}
	if err != nil {
		return fileError(path, "cannot be created: "+cause(err), "choose a directory this user can write to")
	}
	text := fileHeader + base64.StdEncoding.EncodeToString(secret.Random(keyBytes).Expose()) + "\n"
	if err := writeDurably(f, text); err != nil {
		os.Remove(path) // a half-written KEK must not look like one
		return fileError(path, "cannot be written: "+cause(err), "make room and try again")
	}
	return nil
}

// writeDurably writes, and syncs the file and the directory that names it: a KEK lost by a power cut would take with
// it everything wrapped in the meantime.
func writeDurably(f *os.File, text string) error {
	_, err := f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(f.Name()))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func openFile(path string) (*fileKEK, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fileError(path, "does not exist", "`pgveil key init` makes one for a new installation; an existing one needs its own")
	case errors.Is(err, fs.ErrPermission):
		return nil, fileError(path, "cannot be read by this user", "run as the file's owner, or give this user a copy of its own")
	case err != nil:
		return nil, fileError(path, "cannot be opened: "+cause(err), "check PGVEIL_KEK")
	}
	defer f.Close()
	// Of the open file, not of the path: nobody can put another one there in between.
	info, err := f.Stat()
	if err != nil {
		return nil, fileError(path, "cannot be examined: "+cause(err), "check PGVEIL_KEK")
	}
	if !info.Mode().IsRegular() {
		return nil, fileError(path, "is not a regular file", "check PGVEIL_KEK")
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fileError(path, fmt.Sprintf("can be read by others (mode %04o)", mode), "chmod 600 %s, and consider who may have read it", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes))
	if err != nil {
		return nil, fileError(path, "cannot be read: "+cause(err), "check PGVEIL_KEK")
	}
	return parseFile(path, text)
}

func parseFile(path string, text []byte) (*fileKEK, error) {
	damaged := fileError(path, "does not hold a KEK", "restore it from its backup; `pgveil key init` makes one for a new installation")
	encoded, ok := bytes.CutPrefix(bytes.TrimSpace(text), []byte(fileHeader))
	if !ok {
		return nil, damaged
	}
	key, err := base64.StdEncoding.Strict().DecodeString(string(encoded))
	if err != nil || len(key) != keyBytes {
		return nil, damaged
	}
	k := secret.New(key)
	id := derive(k, "kek id").Expose()
	return &fileKEK{id: "file:" + hex.EncodeToString(id[:8]), key: derive(k, "kek wrap")}, nil
}

// ID is of the key, not of the path: a moved file is the same KEK.
func (k *fileKEK) ID() string { return k.id }

func (k *fileKEK) Wrap(_ context.Context, plain secret.Bytes, ad []byte) ([]byte, error) {
	return seal(k.key, plain.Expose(), ad)
}

func (k *fileKEK) Unwrap(_ context.Context, blob, ad []byte) (secret.Bytes, error) {
	return open(k.key, blob, ad)
}

// cause returns the operating system's words without the path, which the message has already.
func cause(err error) string {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err.Error()
	}
	return err.Error()
}
