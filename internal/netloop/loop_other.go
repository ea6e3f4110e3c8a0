//go:build !linux

package netloop

import (
	"errors"
	"time"
)

// Loop does not exist on this platform.
type Loop struct{ load load }

func start() (*Loop, error) { return nil, errors.ErrUnsupported }

func (l *Loop) close() {}

// Post does nothing.
func (l *Loop) Post(func()) {}

// Adopt answers errors.ErrUnsupported.
func (s *Socket) Adopt(*Loop, Handler) error { return errors.ErrUnsupported }

// Read implements net.Conn.
func (s *Socket) Read(b []byte) (int, error) { return s.conn.Read(b) }

// Write implements net.Conn.
func (s *Socket) Write(b []byte) (int, error) { return s.conn.Write(b) }

// Flush has nothing to do: writes wait here.
func (s *Socket) Flush() error { return nil }

// Drain has nothing to do: writes wait here.
func (s *Socket) Drain(time.Duration) error { return nil }

// Wake has nobody to tell.
func (s *Socket) Wake(_, _ bool) {}

// Close implements net.Conn.
func (s *Socket) Close() error { return s.conn.Close() }

// CloseWrite tells the other side that nothing more comes.
func (s *Socket) CloseWrite() error { return closeWrite(s.conn) }

// Release closes the connection.
func (s *Socket) Release() { s.conn.Close() }
