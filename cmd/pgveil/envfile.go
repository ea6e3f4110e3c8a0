package main

import (
	"os"
	"path/filepath"
	"strings"
)

// An envFile is what dev hands to a shell: NAME='value' lines in the order they were set. The names are
// promises.
type envFile []struct{ name, value string }

func (e *envFile) set(name, value string) {
	*e = append(*e, struct{ name, value string }{name, value})
}

// String is text that a POSIX shell sources; every variable is exported.
func (e envFile) String() string {
	var b strings.Builder
	b.WriteString("# Written by pgveil dev: connection strings with passwords of the demonstration.\n")
	for _, v := range e {
		b.WriteString("export " + v.name + "=" + shellQuote(v.value) + "\n")
	}
	return b.String()
}

// shellQuote makes one word of s for a POSIX shell.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// write puts the file in place at once, readable by its owner only, so that nobody sources half of it.
func (e envFile) write(path string) error { return writePrivate(path, []byte(e.String())) }

// writePrivate replaces the file at path by content, with mode 0600, in one step.
func writePrivate(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".pgveil-") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // once renamed there is nothing to remove
	if _, err := f.Write(content); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
