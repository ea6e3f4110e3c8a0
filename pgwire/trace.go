package pgwire

import (
	"log/slog"
	"strings"
)

// tracer logs the messages of one side of a session: type and length, never what they hold.
type tracer struct {
	log  *slog.Logger
	peer string
}

// kinds are the protocol's message types. A byte that is none of them may be of a text that somebody sent.
const kinds = "123ABCDEFGHIKNPQRSTVWXZcdfnpstv"

func (t *tracer) received(kind byte, length int) { t.note("from", kind, length) }
func (t *tracer) sent(kind byte, length int)     { t.note("to", kind, length) }

func (t *tracer) note(direction string, kind byte, length int) {
	if strings.IndexByte(kinds, kind) < 0 {
		t.log.Info("message", direction, t.peer, "type", "unknown")
		return
	}
	t.log.Info("message", direction, t.peer, "type", string(rune(kind)), "bytes", length)
}

// trace has every message from now on logged.
func (x *session) trace() {
	log := x.srv.cfg.Logger.With("session", x.pid)
	x.client.trace, x.server.trace = &tracer{log, "client"}, &tracer{log, "server"}
}
