package replication

import "time"

// SetHook makes the worker call f at its named points: mid-copy, before-publish, after-publish, mid-apply,
// before-commit, after-commit.
func SetHook(w *Worker, f func(point string)) { w.hook = f }

// SetPatience shortens the wait for a slot that is in use.
func SetPatience(w *Worker, d time.Duration) { w.patience = d }

// AppendEscaped and AppendUnescaped are the two halves of COPY's text format.
var (
	AppendEscaped   = appendEscaped
	AppendUnescaped = appendUnescaped
)
