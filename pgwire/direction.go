package pgwire

import (
	"errors"
	"net"
	"sync/atomic"

	"pgveil/internal/netloop"
)

// errAway says that a message cannot be handled on a loop's thread, because handling it may wait or takes long. Nothing has been done with it yet.
var errAway = errors.New("must wait")

// errIdle says that everything which has come was handled.
var errIdle = errors.New("nothing to do")

// errTurn says that the loop's other sessions come first.
var errTurn = errors.New("others wait")

// States of a direction. Who moves it out of idle owns it: a loop's thread while it is looping, a goroutine while it is away.
const (
	idle int32 = iota
	looping
	away
	ended
)

// direction is one half of a session: upstream reads the client and writes the server, downstream the reverse. What needs no waiting is done on the
// thread of the loop that both sockets belong to; for the rest a goroutine takes over until everything that has come is handled. So an
// idle session has no goroutine, and a relayed message wakes none.
type direction struct {
	state    atomic.Int32
	src, dst *wire
	inline   bool         // the owner is a loop's thread
	traced   bool         // the message at the front was, before it had to wait
	step     func() error // handles what has come and flushes it; errAway, errIdle, or an end
	over     func() bool  // step would find an end that no event tells of
	again    func()       // has the loop call ready once more
	stop     func(error)  // called once, at the end, in a goroutine
	fills    int          // reads of the source since a loop's thread took the direction
}

// maxFills is how often a loop's thread reads at a stretch. A source that has still more must wait until the others had their turn.
const maxFills = 4

// mode says how reads and writes behave while the owner works. It belongs to the owner.
func (d *direction) mode(inline bool) {
	d.inline = inline
	d.dst.w.nonblock = inline
	if d.src.sock != nil {
		d.src.sock.SetNonblock(inline)
	}
}

// ready is called on the loop's thread when the source may be readable or the destination writable. It says false where someone else owns the
// direction, who must be woken.
func (d *direction) ready() bool {
	if !d.state.CompareAndSwap(idle, looping) {
		return false
	}
	d.fills = 0
	for {
		d.mode(true)
		err := d.step()
		switch {
		case errors.Is(err, errIdle):
			d.state.Store(idle)
			if !d.over() || !d.state.CompareAndSwap(idle, looping) {
				return true
			}
		case errors.Is(err, errTurn):
			d.state.Store(idle)
			d.again()
			return true
		case errors.Is(err, errAway):
			d.state.Store(away)
			go d.serve() // ends when nothing is left to do, or with the session
			return true
		default:
			d.state.Store(ended)
			go d.end(err)
			return true
		}
	}
}

// serve owns the direction in a goroutine until nothing is left to do.
func (d *direction) serve() {
	for {
		d.mode(false)
		err := d.dst.w.drain() // nobody else does while the direction waits for something
		if err == nil {
			err = d.step()
		}
		if !errors.Is(err, errIdle) {
			d.end(err)
			return
		}
		d.state.Store(idle)
		if !d.src.sock.Readable() && !d.over() || !d.state.CompareAndSwap(idle, away) {
			return
		}
	}
}

func (d *direction) end(err error) {
	d.state.Store(ended)
	d.mode(false)
	d.stop(err)
}

// kick has an idle direction run once, so that it sees what makes no event. It may be called from anywhere.
func (d *direction) kick() {
	if d.state.CompareAndSwap(idle, away) {
		go d.serve() // as in ready
	}
}

// more reads what has come, without waiting where a loop serves the source. It says errIdle when there is nothing, and when the destination must
// take something first.
func (d *direction) more() error {
	if d.src.sock == nil || !d.src.sock.Adopted() {
		return d.src.r.fill()
	}
	if d.src.sock.Closed() {
		return net.ErrClosed // even while the destination takes nothing
	}
	if d.inline && d.dst.w.behind() {
		if err := d.dst.sock.Flush(); err != nil {
			return err
		}
		if d.dst.w.behind() {
			return errIdle
		}
	}
	if d.fills++; d.inline && d.fills > maxFills {
		return errTurn
	}
	d.src.sock.SetNonblock(true)
	err := d.src.r.fill()
	d.src.sock.SetNonblock(d.inline)
	if errors.Is(err, netloop.ErrAgain) {
		d.src.release()
		d.dst.w.release()
		return errIdle
	}
	return err
}
