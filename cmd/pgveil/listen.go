package main

import (
	"context"
	"errors"
	"net"
	"syscall"
)

// openListeners binds both addresses first, so that a port in use is known before anything is started.
func (d *dev) openListeners() error {
	for _, l := range []struct {
		address string
		flag    string
		to      *net.Listener
	}{{d.listen, "--listen", &d.wire}, {d.http, "--http", &d.web}} {
		listener, err := listenTCP(l.address, l.flag)
		if err != nil {
			return err
		}
		*l.to = listener
		d.onClose(func(context.Context) error {
			listener.Close() // closed already when its server has run
			return nil
		})
	}
	return nil
}

// checkAddress refuses what is no address, before anything is opened.
func checkAddress(address, flag string) error {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return usage("%s: %q is not HOST:PORT", flag, address)
	}
	return nil
}

func listenTCP(address, flag string) (net.Listener, error) {
	if err := checkAddress(address, flag); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, failed("listen on %s: port in use", address).hint("is another pgveil running? %s %s takes a free port", flag, "127.0.0.1:0")
	}
	if err != nil {
		return nil, misconfigured("%s: %w", flag, err)
	}
	return l, nil
}
