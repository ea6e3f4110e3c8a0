// Package arch_test holds the arrows between our packages, and which outside modules each may use.
//
// It parses the files itself: a test that asked `go list` would be served a stale answer from the test cache,
// which does not see what a child process read.
package arch_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "pgveil"

// arrows says for each package of ours which others of ours it may import; "*" is all of them. A package that
// is not here may not exist: a folder is a decision.
var arrows = map[string][]string{
	"internal/secret":  {},
	"internal/scram":   {"internal/secret"},
	"internal/netloop": {},
	"internal/cluster": {"internal/secret"},
	"internal/pgtest":  {"internal/cluster", "internal/secret"},
	"engine/ff1":       {"internal/secret"},
	"engine/siv":       {"internal/secret"},
	"engine":           {"engine/ff1", "engine/siv", "internal/secret"},
	"keyring":          {"engine", "internal/secret"},
	"catalog":          {"engine", "internal/secret", "internal/scram"},
	"audit":            {},
	"sql":              {},
	"migrations":       {},
	"pgwire":           {"catalog", "engine", "sql", "internal/secret", "internal/scram", "internal/netloop"},
	"replication":      {"catalog", "engine", "internal/secret"},
	"cmd/pgveil":       {"*"},
}

// modules says which packages of ours may use an outside module in the binary; "*" is all but engine's. A module
// that is not here is for tests only.
var modules = map[string][]string{
	"github.com/jackc/pgx/v5":             {"*"},
	"github.com/jackc/pglogrepl":          {"replication"},
	"github.com/pganalyze/pg_query_go/v6": {"sql"},
	"google.golang.org/protobuf":          {"sql"}, // of pg_query's trees
	"github.com/prometheus/client_golang": {"*"},
	"github.com/urfave/cli/v2":            {"cmd/pgveil"},
	"github.com/brianvoe/gofakeit/v7":     {"cmd/pgveil"},
	"github.com/vbauerster/mpb/v8":        {"cmd/pgveil"},
	"golang.org/x/text":                   {"*", "engine"},
	"golang.org/x/sync":                   {"*"},
	"golang.org/x/term":                   {"cmd/pgveil"},
}

// pure packages turn arguments into results: no clock, file, socket, log, process or cancellation.
var pure = []string{"engine", "engine/ff1", "engine/siv"}

var impure = []string{"context", "time", "os", "net", "log", "syscall", "unsafe", "database", "io/fs", "io/ioutil", "math/rand"}

func TestImportsFollowTheArrows(t *testing.T) {
	t.Parallel()
	root, err := os.OpenRoot(".")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	problems, packages, err := judge(root.FS())
	if err != nil {
		t.Fatal(err)
	}
	if packages < 5 {
		t.Errorf("saw %d packages only: does the test look at the right directory?", packages)
	}
	for _, p := range problems {
		t.Error(p)
	}
}

func TestTheJudgeCanFail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ file, source string }{
		"arrow against the order":    {"engine/x.go", `import "pgveil/catalog"`},
		"clock in a pure package":    {"engine/x.go", `import "time"`},
		"file in a pure package":     {"engine/ff1/x.go", `import "os/exec"`},
		"unknown package of ours":    {"util/x.go", `import "fmt"`},
		"module for tests only":      {"engine/x.go", `import "github.com/capitalone/fpe/ff1"`},
		"module of another package":  {"catalog/x.go", `import "github.com/urfave/cli/v2"`},
		"module in a pure package":   {"engine/x.go", `import "github.com/jackc/pgx/v5"`},
		"front-end knows the keys":   {"pgwire/x.go", `import "pgveil/keyring"`},
		"sql imports something":      {"sql/x.go", `import "pgveil/internal/secret"`},
		"test helper in the product": {"audit/x.go", `import "pgveil/internal/pgtest"`},
		"test imports the command":   {"audit/x_test.go", `import "pgveil/cmd/pgveil"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			problems, _, err := judge(fstest.MapFS{c.file: {Data: []byte("package x\n" + c.source + "\n")}})
			if err != nil || len(problems) != 1 {
				t.Errorf("got %q, %v; want one problem", problems, err)
			}
		})
	}
}

func TestTheJudgeAllows(t *testing.T) {
	t.Parallel()
	problems, _, err := judge(fstest.MapFS{
		"catalog/x.go":      {Data: []byte("package x\nimport (\n\"time\"\n\"pgveil/engine\"\n\"github.com/jackc/pgx/v5\"\n)\n")},
		"catalog/x_test.go": {Data: []byte("package x\nimport (\n\"pgveil/keyring\"\n\"pgveil/internal/pgtest\"\n)\n")},
		"drivers/go/go.mod": {Data: []byte("module pgveil/drivers/go\n")},
		"drivers/go/x.go":   {Data: []byte("package x\nimport \"github.com/lib/pq\"\n")},
		"engine/x_test.go":  {Data: []byte("package x\nimport (\n\"time\"\n\"github.com/capitalone/fpe/ff1\"\n)\n")},
	})
	if err != nil || len(problems) != 0 {
		t.Errorf("got %q, %v; want none", problems, err)
	}
}

// judge returns a line for each import that breaks a rule, and the number of packages seen.
func judge(fsys fs.FS) (problems []string, packages int, err error) {
	seen := map[string]bool{}
	err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); name != "." && (strings.HasPrefix(base, ".") || base == "testdata" || base == "node_modules") {
				return fs.SkipDir
			}
			if _, err := fs.Stat(fsys, path.Join(name, "go.mod")); err == nil && name != "." {
				return fs.SkipDir // a module of its own: the product cannot import it
			}
			return nil
		}
		dir := path.Dir(name)
		if !strings.HasSuffix(name, ".go") || dir == "." { // the root holds this test and the list of pins
			return nil
		}
		if _, known := arrows[dir]; !known && !seen[dir] {
			problems = append(problems, fmt.Sprintf("%s: a package without arrows: say in arch_test.go what it may import", dir))
		}
		seen[dir] = true
		imports, err := importsOf(fsys, name)
		if err != nil {
			return err
		}
		for _, i := range imports {
			if why := refuse(dir, i, strings.HasSuffix(name, "_test.go")); why != "" {
				problems = append(problems, fmt.Sprintf("%s imports %s: %s", name, i, why))
			}
		}
		return nil
	})
	return problems, len(seen), err
}

func importsOf(fsys fs.FS, name string) ([]string, error) {
	source, err := fs.ReadFile(fsys, name)
	if err != nil {
		return nil, err
	}
	f, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, spec := range f.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// refuse says why dir may not import what, or nothing if it may.
func refuse(dir, what string, test bool) string {
	if ours, ok := strings.CutPrefix(what, module+"/"); ok {
		switch {
		case test && ours != "cmd/pgveil", ours == dir:
			return "" // a test may build what it needs; the compiler refuses cycles
		case !slices.Contains(arrows[dir], ours) && !slices.Contains(arrows[dir], "*"):
			return "against the arrows"
		case ours == "internal/pgtest" || ours == "cmd/pgveil":
			return "not for the product"
		}
		return ""
	}
	if test {
		return ""
	}
	if first, _, _ := strings.Cut(what, "/"); !strings.Contains(first, ".") { // the standard library
		if slices.Contains(pure, dir) && slices.ContainsFunc(impure, func(p string) bool { return what == p || strings.HasPrefix(what, p+"/") }) {
			return "the package is pure"
		}
		return ""
	}
	for m, users := range modules {
		if what == m || strings.HasPrefix(what, m+"/") {
			if slices.Contains(users, dir) || slices.Contains(users, "*") && !slices.Contains(pure, dir) {
				return ""
			}
			return "another package's module"
		}
	}
	return "a module for tests only"
}
