package pgwire

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// rejected tells a client why it does not get in, and logs one line. c is nil where nothing can be said.
func (s *Server) rejected(c *wire, st *startup, began time.Time, err error) {
	s.metrics.reject(err)
	f := failureOf(err)
	if c != nil && f.code != "XX000" {
		c.conn.SetWriteDeadline(time.Now().Add(time.Second)) // of what is left, whatever it was
		c.send('E', f.fatal().response())
		c.w.Flush()
	}
	if errors.Is(err, io.EOF) && st.user == "" {
		return // somebody looked whether the port is open
	}
	attrs := []any{"addr", st.addr, "role", printable(st.user), "database", printable(st.db), "tls", st.tlsName(), "duration", time.Since(began), "reason", class(err)}
	if f.code != "XX000" {
		attrs = append(attrs, "sqlstate", f.sqlstate())
		if f.cause != "" {
			attrs = append(attrs, "cause", f.cause)
		}
	} else {
		attrs = append(attrs, "error", err)
	}
	s.cfg.Logger.Info("connection rejected", attrs...)
}

// class is the reason in a word or two, of which there are few, so that lines can be counted by it.
func class(err error) string {
	var (
		t  tlsError
		se *serverError
	)
	switch {
	case errors.As(err, &t):
		return "tls handshake"
	case errors.As(err, &se):
		return "refused by the backing database"
	case errors.Is(err, errProxy), errors.Is(err, errNotTrusted):
		return "proxy protocol"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case errors.Is(err, net.ErrClosed):
		return "closed by the front-end"
	}
	switch f := failureOf(err); {
	case strings.HasPrefix(f.code, "28"):
		return "authentication"
	case f.code == "53300":
		return "too many connections"
	case f.code == "08006":
		return "backing database unreachable"
	case f.code == "42501":
		return "not an administrator"
	case f.code == "57P01":
		return "closed by the front-end"
	case f.code == "57P03":
		return "catalog unavailable"
	case f.code != "XX000":
		return "protocol"
	}
	return "client disconnected"
}

// printable makes a text of a client's fit for one line of a log: printable ASCII, the rest as question marks, as PostgreSQL does with
// application_name; and no longer than a name.
func printable(s string) string {
	b := []byte(s[:min(len(s), maxName)])
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}

// facts are what a session's last line says about its connection.
func (st *startup) facts() []any { return []any{"tls", st.tlsName(), "auth", st.method} }
