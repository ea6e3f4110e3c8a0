package pgwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// The PROXY protocol, versions 1 and 2, by which a load balancer says who connects through it:
// https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, sections 2.1 and 2.2.

const (
	proxyPrefix   = 12      // bytes of version 2's signature; no header of version 1 is shorter
	maxProxyLine  = 107     // bytes of a header of version 1, with CR LF
	maxProxyBlock = 4 << 10 // bytes behind a fixed header of version 2: addresses, and TLVs, which are skipped
)

var proxySignature = []byte("\r\n\r\n\x00\r\nQUIT\n")

var errProxy = errors.New("malformed PROXY protocol header")

// origin gives the client's address: the connection's own, or the one in the header of a trusted load balancer.
func (s *Server) origin(conn net.Conn) (string, error) {
	own := conn.RemoteAddr().String()
	if len(s.cfg.ProxyFrom) == 0 {
		return own, nil
	}
	from, err := netip.ParseAddrPort(own)
	if err != nil || !within(s.cfg.ProxyFrom, from.Addr().Unmap()) {
		return own, errNotTrusted
	}
	client, err := readProxy(conn)
	if err != nil || !client.IsValid() {
		return own, err
	}
	return client.String(), nil
}

var errNotTrusted = errors.New("the connection does not come from a load balancer that --proxy-protocol-from names")

func within(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// readProxy reads a header and not a byte more. The address is not valid where the header gives none: the load balancer's own checks, and
// connections over other than TCP.
func readProxy(r io.Reader) (netip.AddrPort, error) {
	prefix := make([]byte, proxyPrefix, maxProxyLine)
	if _, err := io.ReadFull(r, prefix[:1]); err != nil {
		return netip.AddrPort{}, err
	}
	if prefix[0] != proxySignature[0] && prefix[0] != 'P' { // a client without a header waits for an answer to its 8 bytes
		return netip.AddrPort{}, errProxy
	}
	if _, err := io.ReadFull(r, prefix[1:]); err != nil {
		return netip.AddrPort{}, err
	}
	switch {
	case bytes.Equal(prefix, proxySignature):
		return readProxy2(r)
	case bytes.HasPrefix(prefix, []byte("PROXY ")):
		return readProxy1(r, prefix)
	}
	return netip.AddrPort{}, errProxy
}

// readProxy1 reads a line: PROXY TCP4 source destination source-port destination-port.
func readProxy1(r io.Reader, line []byte) (netip.AddrPort, error) {
	for !bytes.HasSuffix(line, []byte("\r\n")) {
		if len(line) == maxProxyLine {
			return netip.AddrPort{}, errProxy
		}
		line = line[:len(line)+1]
		if _, err := io.ReadFull(r, line[len(line)-1:]); err != nil {
			return netip.AddrPort{}, err
		}
	}
	f := strings.Split(string(line[:len(line)-2]), " ")
	if len(f) >= 2 && f[1] == "UNKNOWN" {
		return netip.AddrPort{}, nil
	}
	if len(f) != 6 {
		return netip.AddrPort{}, errProxy
	}
	addr, err := netip.ParseAddr(f[2])
	port, err2 := strconv.ParseUint(f[4], 10, 16)
	if err != nil || err2 != nil || addr.Zone() != "" || f[1] != map[bool]string{true: "TCP4", false: "TCP6"}[addr.Is4()] {
		return netip.AddrPort{}, errProxy
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), nil
}

// readProxy2 reads what follows the signature: version and command, family, length, addresses, TLVs.
func readProxy2(r io.Reader) (netip.AddrPort, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return netip.AddrPort{}, err
	}
	n := int(binary.BigEndian.Uint16(head[2:]))
	if head[0]>>4 != 2 || head[0]&15 > 1 || n > maxProxyBlock {
		return netip.AddrPort{}, errProxy
	}
	block := make([]byte, n)
	if _, err := io.ReadFull(r, block); err != nil {
		return netip.AddrPort{}, err
	}
	const local, tcp4, tcp6 = 0x20, 0x11, 0x21
	switch {
	case head[0] == local:
		return netip.AddrPort{}, nil
	case head[1] == tcp4 && n >= 12:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(block)), binary.BigEndian.Uint16(block[8:])), nil
	case head[1] == tcp6 && n >= 36:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(block)).Unmap(), binary.BigEndian.Uint16(block[32:])), nil
	case head[1] == tcp4, head[1] == tcp6:
		return netip.AddrPort{}, errProxy
	}
	return netip.AddrPort{}, nil // UNSPEC, UNIX, datagrams: the receiver must take the connection's own
}
