package main

import "bytes"

// batchValues is how many values go to the engine at once: many of its lanes, few enough to stay in the cache.
const batchValues = 256

// batch is a worker's scratch.
type batch struct {
	values [][]byte
	places []place
	arena  []byte // values that had to be unquoted
	text   []byte // what the values became
	ends   []int
}

// place is where a value stands in its block.
type place struct {
	from, to int   // of the value, or of the CSV field
	next     int   // behind the line end
	line     int64 // in the block
	row      int   // where its row of CSV begins
	quoted   bool  // the field of CSV was
}

func (s *batch) reset() {
	s.values, s.places, s.arena = s.values[:0], s.places[:0], s.arena[:0]
}

// block converts a block. It stops behind the first bad line, where those stop.
func (f *filter) block(b *block, s *batch) {
	if f.csv != nil {
		f.csvBlock(b, s)
		return
	}
	for at := 0; at < len(b.data) && !b.stopped; {
		s.reset()
		for at < len(b.data) && len(s.values) < batchValues {
			end, next := lineEnd(b.data, at)
			s.values = append(s.values, b.data[at:end])
			s.places = append(s.places, place{from: at, to: end, next: next, line: b.lines})
			b.lines++
			at = next
		}
		f.batch(s, b, func(p place, text []byte, bad bool) {
			if bad && f.onError == onErrorSkip {
				return
			}
			b.out = append(append(b.out, text...), b.data[p.to:p.next]...)
		})
	}
}

// lineEnd returns where the line that begins at from ends, and where the next one begins. A carriage return before
// the line feed belongs to the line end.
func lineEnd(data []byte, from int) (end, next int) {
	n := bytes.IndexByte(data[from:], '\n')
	if n < 0 {
		return len(data), len(data)
	}
	end = from + n
	if end > from && data[end-1] == '\r' {
		return end - 1, end + 1
	}
	return end, end + 1
}

// batch converts the values of s and emits them in order. A bad one is noted in b; it stops, or is emitted as empty.
func (f *filter) batch(s *batch, b *block, emit func(p place, text []byte, bad bool)) {
	for i := 0; i < len(s.values); {
		var err error
		s.text, s.ends, err = f.convert(s.text[:0], s.ends[:0], s.values[i:])
		breaks := f.inverse && f.csv == nil && bytes.ContainsAny(s.text, "\r\n")
		from := 0
		for _, end := range s.ends {
			text, p := s.text[from:end], s.places[i]
			from, i = end, i+1
			if breaks && bytes.ContainsAny(text, "\r\n") {
				b.refuse(p.line, "the value contains a line end: use --csv")
				if b.stopped = f.onError == onErrorStop; b.stopped {
					return
				}
				emit(p, nil, true)
				continue
			}
			b.rows++
			emit(p, text, false)
		}
		if err == nil {
			return
		}
		p := s.places[i]
		b.refuse(p.line, reason(err))
		if b.stopped = f.onError == onErrorStop; b.stopped {
			return
		}
		emit(p, nil, true)
		i++
	}
}
