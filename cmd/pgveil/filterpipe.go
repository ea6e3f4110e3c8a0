package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
)

const (
	blockBytes    = 1 << 20   // read at once; a longer line makes a longer block
	maxBlockBytes = 512 << 20 // a line, or a row of CSV, must fit in this
)

// A pipe reads blocks of whole lines, has them converted by a worker for each processor, and writes them in order.
//
//	reader ─┬─> work ──> workers ─┐ done
//	        └─> order ───────────────> writer
//
// The reader puts each block into both queues; the writer waits for each block in turn. Blocks are used again.
type pipe struct {
	*filter
	in     io.Reader
	out    io.Writer
	report func(line int64, reason string) // of a bad line that does not stop

	rows, skipped int64 // written by run
}

// A block is some whole lines on their way. The last one of the input may lack its line end.
type block struct {
	data  []byte
	first bool  // of the input
	err   error // where reading ended

	// What the worker made of it.
	out     []byte
	rows    int64 // values converted
	lines   int64 // line ends in data
	bad     []badLine
	stopped bool // by the last one of bad
	done    chan struct{}
}

type badLine struct {
	line   int64 // in the block, from 0
	reason string
}

func (b *block) refuse(line int64, reason string) { b.bad = append(b.bad, badLine{line, reason}) }

// run returns when all is written, or at the first bad line where those stop, having written what came before it.
func (p *pipe) run(ctx context.Context) error {
	workers := runtime.GOMAXPROCS(0)
	work, order := make(chan *block, workers), make(chan *block, 2*workers)
	free := make(chan *block, 3*workers+2)
	stop := make(chan struct{})
	var converting sync.WaitGroup
	for range workers {
		converting.Go(func() { // ends when the reader does
			var s batch
			for b := range work {
				b.reset()
				p.block(b, &s)
				close(b.done)
			}
		})
	}
	// The reader may be waiting for input when the others end. Then nobody waits for it: it ends with its next block.
	go func() {
		defer close(order)
		defer close(work)
		r := blockReader{in: p.in, csv: p.csv != nil}
		for first := true; ; first = false {
			var b *block
			select {
			case b = <-free:
			default:
				b = &block{}
			}
			b.first, b.done = first, make(chan struct{})
			r.next(b)
			if first && p.csv != nil && len(b.data) > 0 {
				if err := p.csv.settle(b.data); err != nil {
					b.data, b.err = nil, err
				}
			}
			ended := b.err != nil
			for _, queue := range []chan *block{order, work} {
				select {
				case queue <- b:
				case <-stop:
					return
				}
			}
			if ended {
				return
			}
		}
	}()
	err := p.write(ctx, order, free)
	close(stop)
	if err == nil {
		converting.Wait()
	}
	return err
}

// write writes the blocks in order and counts their lines.
func (p *pipe) write(ctx context.Context, order <-chan *block, free chan<- *block) error {
	line := int64(1)
	for {
		var b *block
		var ok bool
		select {
		case <-ctx.Done():
			return ctx.Err()
		case b, ok = <-order:
		}
		if !ok {
			return nil
		}
		<-b.done
		p.rows += b.rows
		if _, err := p.out.Write(b.out); err != nil {
			return fmt.Errorf("write standard output: %w", err)
		}
		for i, bad := range b.bad {
			if b.stopped && i == len(b.bad)-1 {
				return failed("line %d: %s", line+bad.line, bad.reason)
			}
			p.skipped++
			p.report(line+bad.line, bad.reason)
		}
		line += b.lines
		var refused *failure
		switch {
		case errors.As(b.err, &refused):
			return refused
		case b.err != nil && !errors.Is(b.err, io.EOF):
			return fmt.Errorf("read standard input after line %d: %w", line-1, b.err)
		}
		select {
		case free <- b:
		default:
		}
	}
}

func (b *block) reset() {
	b.out, b.bad, b.rows, b.lines, b.stopped = b.out[:0], b.bad[:0], 0, 0, false
}

// blockReader cuts the input at line ends.
type blockReader struct {
	in   io.Reader
	csv  bool
	rest []byte // begun, but not ended
	odd  bool   // number of quotes in what has begun, of CSV
}

var errLongLine = fmt.Errorf("a line of more than %d MiB", maxBlockBytes>>20)

// next fills b with whole lines, at least one, and at the end of the input with what is left and the error.
func (r *blockReader) next(b *block) {
	b.data, b.err = append(b.data[:0], r.rest...), nil
	r.rest = r.rest[:0]
	for empty := 0; ; {
		if len(b.data) >= maxBlockBytes {
			b.data, b.err = nil, errLongLine
			return
		}
		if free := cap(b.data) - len(b.data); free < blockBytes/2 {
			grown := make([]byte, len(b.data), max(blockBytes, 2*cap(b.data)))
			copy(grown, b.data)
			b.data = grown
		}
		n, err := r.in.Read(b.data[len(b.data):cap(b.data)])
		from := len(b.data)
		b.data = b.data[:from+n]
		if err != nil {
			if b.err = err; !errors.Is(err, io.EOF) {
				r.odd = false
				b.data = b.data[:r.cut(b.data, 0)] // a line that was cut short is no line
			}
			return
		}
		if n == 0 {
			if empty++; empty == 100 {
				b.err = io.ErrNoProgress
				return
			}
			continue
		}
		if at := r.cut(b.data, from); at > 0 {
			r.rest = append(r.rest[:0], b.data[at:]...)
			b.data = b.data[:at]
			return
		}
	}
}

// cut returns where the last whole line ends, 0 if there is none. Line ends are looked for from there on, where those before
// were looked at already. In CSV a line end behind an odd number of quotes is inside a field.
func (r *blockReader) cut(data []byte, from int) int {
	data = data[from:]
	if !r.csv {
		if at := bytes.LastIndexByte(data, '\n'); at >= 0 {
			return from + at + 1
		}
		return 0
	}
	r.odd = r.odd != (bytes.Count(data, quote)%2 == 1)
	for end, odd := len(data), r.odd; ; {
		at := bytes.LastIndexByte(data[:end], '\n')
		if at < 0 {
			return 0
		}
		if odd = odd != (bytes.Count(data[at:end], quote)%2 == 1); !odd {
			return from + at + 1
		}
		end = at
	}
}
