package replication

// SetHook makes the worker call f at its named points: mid-copy, before-publish, after-publish, mid-apply,
// before-commit, after-commit.
func SetHook(w *Worker, f func(point string)) { w.hook = f }

// AppendEscaped and AppendUnescaped are the two halves of COPY's text format.
var (
	AppendEscaped   = appendEscaped
	AppendUnescaped = appendUnescaped
)
