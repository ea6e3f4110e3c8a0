//go:build vectors

package ff1_test

// The test vectors are a module whose files the tests read from its directory. It is named here, behind a tag nobody
// builds with, to keep its pin in go.mod: imported for real it would embed 100 MB.
import _ "github.com/c2sp/wycheproof"
