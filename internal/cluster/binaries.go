package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ErrNotFound says that no PostgreSQL server is installed where Find looks.
var ErrNotFound = errors.New("no PostgreSQL server binaries found")

// Oldest and Newest are the major versions pgveil works with.
const (
	Oldest = 13
	Newest = 18
)

// Binaries is one installation of the PostgreSQL server.
type Binaries struct {
	Dir     string // holds postgres and initdb
	Major   int
	Version string // "15.18"
}

func (b Binaries) path(name string) string { return filepath.Join(b.Dir, name) }

// Options narrows a search. The zero value takes the newest that is installed.
type Options struct {
	Dir   string // look here only
	Major int    // this major version only; 0 is any of Oldest to Newest
}

// Find looks for server binaries in Options.Dir if given, else in PATH, then where packages put them, then
// in the cache that Fetch fills. Of several in one place the newest wins. The account that will run the
// server must be able to reach them. The error wraps ErrNotFound when there are none.
func Find(ctx context.Context, o Options) (Binaries, error) {
	owner, err := FindOwner()
	if err != nil {
		return Binaries{}, err
	}
	if o.Dir != "" {
		b, err := inspect(ctx, o.Dir)
		if err != nil {
			return Binaries{}, err
		}
		if !o.accepts(b) {
			return Binaries{}, fmt.Errorf("%s holds PostgreSQL %s: %w of the version wanted (%s)", o.Dir, b.Version, ErrNotFound, o.wanted())
		}
		return b, nil
	}
	for _, place := range places() {
		dirs, _ := filepath.Glob(place)
		var found []Binaries
		for _, dir := range dirs {
			if b, err := inspect(ctx, dir); err == nil && o.accepts(b) && owner.CanEnter(b.Dir) {
				found = append(found, b)
			}
		}
		if len(found) > 0 {
			return slices.MaxFunc(found, func(a, b Binaries) int { return cmp.Compare(a.Major, b.Major) }), nil
		}
	}
	return Binaries{}, fmt.Errorf("%w (%s)", ErrNotFound, o.wanted())
}

func (o Options) accepts(b Binaries) bool {
	if o.Major != 0 {
		return b.Major == o.Major
	}
	return b.Major >= Oldest && b.Major <= Newest
}

func (o Options) wanted() string {
	if o.Major != 0 {
		return strconv.Itoa(o.Major)
	}
	return fmt.Sprintf("%d to %d", Oldest, Newest)
}

// places returns glob patterns of bin directories, best first.
func places() []string {
	p := filepath.SplitList(os.Getenv("PATH"))
	return append(p,
		"/usr/lib/postgresql/*/bin",                          // Debian, Ubuntu
		"/usr/pgsql-*/bin",                                   // Red Hat, from postgresql.org
		"/usr/libexec/postgresql*",                           // Alpine
		"/opt/homebrew/opt/postgresql@*/bin",                 // Homebrew
		"/usr/local/opt/postgresql@*/bin",                    // Homebrew on Intel
		"/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
		filepath.Join(CacheDir(), "postgresql", "*", "bin"),  // Fetch
	)
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) ((\d+)\S*)`)

// inspect asks the binaries in dir for their version.
func inspect(ctx context.Context, dir string) (Binaries, error) {
	if dir == "" {
		return Binaries{}, ErrNotFound
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Binaries{}, err
	}
	for _, name := range []string{"postgres", "initdb"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return Binaries{}, fmt.Errorf("%s: no %s there: %w", dir, name, ErrNotFound)
		}
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return Binaries{}, fmt.Errorf("%s --version: %w", filepath.Join(dir, "postgres"), err)
	}
	m := versionPattern.FindStringSubmatch(string(out))
	if m == nil {
		return Binaries{}, fmt.Errorf("%s --version: unexpected answer", filepath.Join(dir, "postgres"))
	}
	major, err := strconv.Atoi(m[2])
	if err != nil {
		return Binaries{}, err
	}
	return Binaries{Dir: dir, Major: major, Version: strings.TrimSuffix(m[1], ",")}, nil
}
