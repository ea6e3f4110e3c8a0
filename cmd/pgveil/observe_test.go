package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"pgveil/pgwire"
)

func TestSettingsSayWhereABackingDatabaseIsAndNoMore(t *testing.T) {
	t.Parallel()
	c := serveCommand
	var got []pgwire.Setting
	c.run = func(_ context.Context, c *call) error { got = settingsOf(c); return nil }
	var out, errs strings.Builder
	args := []string{"pgveil", "serve", "--backing", "postgres://someone:canary@db1.example.com,db2.example.com:6432/shop?sslmode=require", "--admin-roles", "dba,root", "--pprof"}
	if err := newApp([]command{c}, newUI(nil, &out, &errs)).Run(args); err != nil {
		t.Fatal(err)
	}
	values := map[string]pgwire.Setting{}
	for _, s := range got {
		values[s.Name] = s
		if strings.Contains(s.Value+s.Default, "canary") || strings.Contains(s.Value, "someone") {
			t.Errorf("%s shows a credential", s.Name)
		}
	}
	for name, want := range map[string][2]string{
		"backing": {"db1.example.com:5432,db2.example.com:6432", ""}, "listen": {"127.0.0.1:7432", "127.0.0.1:7432"}, "admin-roles": {"dba,root", ""},
		"pprof": {"true", "false"}, "trace": {"false", "false"}, "tls-key": {"", ""},
	} {
		if s := values[name]; s.Value != want[0] || s.Default != want[1] {
			t.Errorf("%s: %+v, want %q", name, s, want)
		}
	}
	if len(got) != len(serveCommand.flags) {
		t.Errorf("%d settings of %d flags", len(got), len(serveCommand.flags))
	}
}

func TestProfilesAreOfferedOnDemandAndShowNoMemory(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{false, true} {
		s := newStatus()
		if on {
			s.profile()
		}
		for path, code := range map[string]int{
			"profile?seconds=1": http.StatusOK, "goroutine": http.StatusOK, "goroutine?debug=2": http.StatusOK, "profile?seconds=x": http.StatusBadRequest, "profile?seconds=301": http.StatusBadRequest,
			"": http.StatusNotFound, "heap": http.StatusNotFound, "allocs": http.StatusNotFound, "trace": http.StatusNotFound, "cmdline": http.StatusNotFound, "symbol": http.StatusNotFound,
			"block": http.StatusNotFound, "mutex": http.StatusNotFound, "threadcreate": http.StatusNotFound,
		} {
			if !on {
				code = http.StatusNotFound
			}
			w := httptest.NewRecorder()
			s.server.Handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/debug/pprof/"+path, nil))
			if w.Code != code || code == http.StatusOK && w.Body.Len() == 0 {
				t.Errorf("%q with profiles %v: %d, %d bytes", path, on, w.Code, w.Body.Len())
			}
			if strings.HasPrefix(path, "goroutine") && on && (!strings.Contains(w.Body.String(), "goroutine profile: total") || strings.Contains(w.Body.String(), "(0x")) {
				t.Errorf("%s: stacks with arguments", path)
			}
		}
	}
}
