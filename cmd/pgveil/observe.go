package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/urfave/cli/v2"

	"pgveil/pgwire"
)

// observeFlags are serve's flags for who operates the front-end.
var observeFlags = []cli.Flag{
	&cli.StringSliceFlag{Name: "admin-roles", EnvVars: []string{"PGVEIL_ADMIN_ROLES"}, Usage: "`ROLES` that may use the console, psql -d pgveil"},
	&cli.BoolFlag{Name: "trace", EnvVars: []string{"PGVEIL_TRACE"}, Usage: "log type and length of every message, never what it holds"},
	&cli.BoolFlag{Name: "pprof", EnvVars: []string{"PGVEIL_PPROF"}, Usage: "offer /debug/pprof/profile and /debug/pprof/goroutine by HTTP"},
}

// observe takes over what the flags say to who operates the front-end.
func (n *node) observe(c *call) {
	n.front.Admins, n.front.Trace, n.front.Settings = c.StringSlice("admin-roles"), c.Bool("trace"), settingsOf(c)
	if c.Bool("pprof") {
		n.status.profile()
	}
}

// settingsOf are the command's flags as the console shows them: of a connection string only where it points.
func settingsOf(c *call) []pgwire.Setting {
	var all []pgwire.Setting
	for _, f := range c.Command.Flags {
		name := f.Names()[0]
		if name == outputFlag.Name || name == "help" {
			continue
		}
		s := pgwire.Setting{Name: name, Value: flagText(c.Value(name))}
		if d, ok := f.(cli.DocGenerationFlag); ok {
			s.Default = strings.Trim(d.GetDefaultText(), `"`)
		}
		if name == "backing" {
			s.Value = places(s.Value)
		}
		all = append(all, s)
	}
	return all
}

func flagText(v any) string {
	if list, ok := v.(cli.StringSlice); ok {
		return strings.Join(list.Value(), ",")
	}
	return fmt.Sprint(v)
}

// places are the hosts and ports of a connection string.
func places(dsn string) string {
	if dsn == "" {
		return ""
	}
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return "invalid"
	}
	all := []string{net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))}
	for _, f := range config.Fallbacks {
		if p := net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port))); p != all[len(all)-1] {
			all = append(all, p)
		}
	}
	return strings.Join(all, ",")
}
