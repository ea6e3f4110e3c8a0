package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// progress is a bar on standard error where that is a terminal and standard output is none, and silence elsewhere.
type progress struct {
	bars  *mpb.Progress // nil: silent
	bar   *mpb.Bar
	total int64 // bytes to read, 0 where not known
}

func newProgress(u *ui, verb string) *progress {
	p := &progress{total: size(u.in)}
	if !isTerminal(u.err) || isTerminal(u.out) || isTerminal(u.in) {
		return p
	}
	p.bars = mpb.New(mpb.WithOutput(u.err), mpb.WithWidth(40), mpb.WithRefreshRate(200*time.Millisecond))
	before := mpb.PrependDecorators(decor.Name(verb+" "), decor.CountersKibiByte("% .1f / % .1f"))
	if p.total == 0 {
		before = mpb.PrependDecorators(decor.Name(verb+" "), decor.CurrentKibiByte("% .1f"))
	}
	p.bar = p.bars.AddBar(p.total, before, mpb.AppendDecorators(decor.Elapsed(decor.ET_STYLE_GO)))
	return p
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// reader counts what is read of r.
func (p *progress) reader(r io.Reader) io.Reader {
	if p.bars == nil {
		return r
	}
	return &countingReader{r, p.bar}
}

type countingReader struct {
	io.Reader
	bar *mpb.Bar
}

func (r *countingReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.bar.IncrBy(n)
	return n, err
}

// warn reports a bad line, above the bar.
func (p *progress) warn(u *ui, line int64, reason string) {
	if p.bars == nil {
		u.warn("line %d: %s", line, reason)
		return
	}
	fmt.Fprintf(p.bars, "pgveil: warning: line %d: %s\n", line, reason)
}

// end leaves the bar as it is. It may be called again.
func (p *progress) end(complete bool) {
	if p.bars == nil {
		return
	}
	if complete {
		p.bar.SetTotal(-1, true)
	} else {
		p.bar.Abort(false)
	}
	p.bars.Wait()
	p.bars = nil
}
