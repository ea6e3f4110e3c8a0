// Package check is what the Go programs of the driver matrix share: it runs checks and prints one line for each,
// `ok NAME` or `not ok NAME: reason`, after `# version DRIVER VERSION`.
//
// The environment says what to connect to: DRIVERS_URL for checks that any PostgreSQL passes, as a role that may
// write; with DRIVERS_SUPPORT_URL also the checks of the protected table people, through a front-end.
package check

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"runtime/debug"
	"strings"
)

// Values that the programs write into protected columns.
const (
	SSN1, SSN2, SSN3 = "219-09-9998", "457-55-5462", "512-34-7788"
	Email1, Email2   = "planted.one@example.com", "planted.two@example.org"
)

// Token is what an SSN looks like to who may not see it.
var Token = regexp.MustCompile(`^[A-Z]{3}-[0-9]{2}-[0-9]{4}$`)

// C is one run.
type C struct {
	URL                       string
	Support, Analyst, Backing string // empty: no protected table
	CA                        string // a file; the front-end's certificate is for localhost
	failed                    bool
}

// Run prints the version of the module and runs plain, then protected if there is a protected table.
func Run(module string, plain, protected func(*C)) {
	fmt.Println("# version", module, version(module))
	c := &C{URL: os.Getenv("DRIVERS_URL"), Support: os.Getenv("DRIVERS_SUPPORT_URL"), Analyst: os.Getenv("DRIVERS_ANALYST_URL"),
		Backing: os.Getenv("DRIVERS_BACKING_URL"), CA: os.Getenv("DRIVERS_CA")}
	plain(c)
	if c.Support != "" {
		protected(c)
	}
	if c.failed {
		os.Exit(1)
	}
}

func version(module string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == module {
				return d.Version
			}
		}
	}
	return "unknown"
}

// Do runs one check.
func (c *C) Do(name string, f func() error) {
	defer func() {
		if r := recover(); r != nil {
			c.failed = true
			fmt.Printf("not ok %s: panic: %v\n", name, r)
		}
	}()
	if err := f(); err != nil {
		c.failed = true
		fmt.Printf("not ok %s: %s\n", name, strings.Join(strings.Fields(err.Error()), " "))
		return
	}
	fmt.Println("ok", name)
}

// TLS is the URL over TLS, with the certificate and the name in it verified.
func (c *C) TLS() string {
	u, err := url.Parse(c.URL)
	if err != nil {
		panic(err)
	}
	u.Host = "localhost:" + u.Port()
	u.RawQuery = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {c.CA}}.Encode()
	return u.String()
}

// Same fails unless the two print alike.
func Same(got, want any) error {
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		return fmt.Errorf("got %s, want %s", g, w)
	}
	return nil
}

// IsToken fails unless the value is an SSN's token.
func IsToken(v string) error {
	if !Token.MatchString(v) {
		return errors.New("not a token: " + v)
	}
	return nil
}

// Refused fails unless err has the SQLSTATE and does not repeat the value.
func Refused(err error, code, want, value string) error {
	switch {
	case err == nil:
		return errors.New("no error")
	case code != want:
		return fmt.Errorf("SQLSTATE %q, want %s: %w", code, want, err)
	case value != "" && strings.Contains(err.Error(), value):
		return errors.New("the error repeats the value")
	}
	return nil
}
