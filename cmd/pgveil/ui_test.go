package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgveil/catalog"
	"pgveil/engine"
	"pgveil/keyring"
)

func TestExitCodesAndHints(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		code int
		hint string
	}{
		"nothing":             {nil, exitOK, ""},
		"plain":               {errors.New("x"), exitFailure, ""},
		"usage":               {usage("x").hint("do y"), exitUsage, "do y"},
		"wrapped":             {fmt.Errorf("path: %w", misconfigured("x").hint("do y")), exitConfig, "do y"},
		"catalog":             {&catalog.Error{Code: catalog.CodeUnknown, Message: "x", Hint: "do y"}, exitFailure, "do y"},
		"catalog, privilege":  {&catalog.Error{Code: catalog.CodePrivilege, Message: "x", Hint: "do y"}, exitDenied, "do y"},
		"key":                 {keyring.ErrWrongKEK, exitConfig, keyring.ErrWrongKEK.Hint},
		"policy":              {&engine.PolicyError{Policy: "p", Reason: "x", Hint: "do y"}, exitFailure, "do y"},
		"server, privilege":   {&pgconn.PgError{Code: "42501", Hint: "do y"}, exitDenied, "do y"},
		"server, login":       {fmt.Errorf("connect: %w", &pgconn.PgError{Code: "28P01"}), exitDenied, ""},
		"server, other":       {&pgconn.PgError{Code: "22012", Hint: "do y"}, exitFailure, "do y"},
		"two, the first with": {errors.Join(usage("x").hint("do y"), errors.New("z")), exitUsage, "do y"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, errs strings.Builder
			code := newUI(nil, &out, &errs).finish(c.err)
			if code != c.code {
				t.Errorf("exit %d, want %d", code, c.code)
			}
			if out.Len() > 0 {
				t.Errorf("stdout has %q", out.String())
			}
			lines := strings.Count(errs.String(), "\n")
			want := map[bool]int{true: 1, false: 0}[c.err != nil] + map[bool]int{true: 1, false: 0}[c.hint != ""]
			if lines != want || c.hint != "" && !strings.HasSuffix(errs.String(), "pgveil: hint: "+c.hint+"\n") {
				t.Errorf("stderr has %q, want hint %q", errs.String(), c.hint)
			}
		})
	}
}

func TestTablesAsTextAndJSON(t *testing.T) {
	t.Parallel()
	table := newTable("name", "made_at", "tables", "n")
	table.add("a", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), []string{"x", "y"}, 7)
	table.add("", time.Time{}, []string{}, nil)

	var out strings.Builder
	u := newUI(nil, &out, &out)
	if err := u.print(table); err != nil {
		t.Fatal(err)
	}
	want := "NAME  MADE AT               TABLES  N\na     2026-01-02T03:04:05Z  x,y     7\n-     -                             -\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}

	out.Reset()
	u.json = true
	if err := u.print(table); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out.String(), "[\n  {\"name\": \"a\", \"made_at\": ") {
		t.Errorf("the keys are not in the columns' order: %s", out.String())
	}
	var rows []map[string]any
	if err := json.Unmarshal([]byte(out.String()), &rows); err != nil || len(rows) != 2 || rows[0]["n"] != 7.0 || rows[1]["n"] != nil {
		t.Errorf("%v, %v", rows, err)
	}
	out.Reset()
	if err := u.print(newTable("x")); err != nil || out.String() != "[]\n" {
		t.Errorf("empty: %q, %v", out.String(), err)
	}
}

func TestPasswordFromStdinIsOneLine(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"secret\n": "secret", "secret": "secret", "with space \r\n": "with space ", "one\ntwo\n": "one"} {
		got, err := newUI(strings.NewReader(in), nil, nil).password("")
		if err != nil || string(got.Expose()) != want {
			t.Errorf("%q: %v", in, err)
		}
	}
	if _, err := newUI(strings.NewReader("\n"), nil, nil).password(""); err == nil {
		t.Error("an empty password was taken")
	}
}
