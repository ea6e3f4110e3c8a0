// Command tap runs a program whose DRIVERS_ variables point at an address, puts itself between the two, and says at the end how the program
// sent the parameter "sent-marker", as a line `# sends …`.
//
//	tap 127.0.0.1:7432 program argument…
//
// It changes no byte. Sessions that turn to TLS are passed on unread.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

const marker = "sent-marker"

// Codes in the place of the protocol version.
const (
	codeCancel = 80877102
	codeSSL    = 80877103
	codeGSSENC = 80877104
)

func main() {
	target := os.Args[1]
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	var seen ways
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go relay(client, target, &seen)
		}
	}()
	cmd := exec.Command(os.Args[2], os.Args[3:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "DRIVERS_") {
			v = strings.Replace(v, "@"+target, "@"+l.Addr().String(), 1)
		}
		cmd.Env = append(cmd.Env, v)
	}
	err = cmd.Run()
	fmt.Println("# sends", seen.String())
	if err != nil {
		os.Exit(1)
	}
}

// ways are the distinct ways seen, in the order of their first sight.
type ways struct {
	mu   sync.Mutex
	list []string
}

func (w *ways) add(way string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.list, way) {
		w.list = append(w.list, way)
	}
}

func (w *ways) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.SortStableFunc(w.list, func(a, b string) int { // how many at a time goes last
		return strings.Count(a[:1], "+") - strings.Count(b[:1], "+")
	})
	return strings.ReplaceAll(strings.Join(w.list, "; "), "; +", "; ")
}

// relay passes one connection on.
func relay(client net.Conn, target string, seen *ways) {
	defer client.Close()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	in, back := bufio.NewReader(client), bufio.NewReader(server)
	if !start(in, client, back, server) {
		go io.Copy(server, in)
		io.Copy(client, back)
		return
	}
	var waiting atomic.Int32 // ReadyForQuery that are to come
	go func() {
		follow(in, server, func(kind byte, body []byte) { note(seen, &waiting, kind, body) }, &group{seen: seen})
		server.(*net.TCPConn).CloseWrite()
	}()
	follow(back, client, func(kind byte, _ []byte) {
		if kind == 'Z' {
			waiting.Add(-1)
		}
	}, nil)
}

// start passes the packets before the session on, and tells whether what follows can be read.
func start(in *bufio.Reader, client net.Conn, back *bufio.Reader, server net.Conn) bool {
	for {
		head, err := in.Peek(8)
		if err != nil {
			return false
		}
		code := binary.BigEndian.Uint32(head[4:])
		if _, err := io.CopyN(server, in, int64(binary.BigEndian.Uint32(head))); err != nil || code == codeCancel {
			return false
		}
		if code != codeSSL && code != codeGSSENC {
			return true
		}
		answer, err := back.ReadByte()
		if err != nil {
			return false
		}
		if _, err := client.Write([]byte{answer}); err != nil || answer != 'N' {
			return false
		}
	}
}

// follow passes typed messages on and shows them to see, and the client's to g.
func follow(from *bufio.Reader, to io.Writer, see func(kind byte, body []byte), g *group) {
	for {
		var head [5]byte
		if _, err := io.ReadFull(from, head[:]); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(from, body); err != nil {
			return
		}
		see(head[0], body)
		if g != nil {
			g.message(head[0])
		}
		if _, err := to.Write(append(head[:], body...)); err != nil {
			return
		}
	}
}

// group counts the Executes between two Syncs.
type group struct {
	seen     *ways
	executes int
}

func (g *group) message(kind byte) {
	switch kind {
	case 'E':
		if g.executes++; g.executes == 3 {
			g.seen.add("+several Executes to a Sync")
		}
	case 'S':
		g.executes = 0
	}
}

func note(seen *ways, waiting *atomic.Int32, kind byte, body []byte) {
	switch kind {
	case 'Q':
		text := string(bytes.ToUpper(body))
		switch {
		case !bytes.Contains(body, []byte(marker)):
		case strings.HasPrefix(text, "EXECUTE"):
			seen.add("simple, by SQL's EXECUTE")
		default:
			seen.add("simple, values in the text")
		}
	case 'B':
		if bytes.Contains(body, []byte(marker)) {
			seen.add(bound(body))
		}
	}
	if kind == 'Q' || kind == 'S' || kind == 'F' {
		if waiting.Add(1) > 0 { // the one after authentication was not asked for, so that an idle session has -1
			seen.add("+pipelined Syncs")
		}
	}
}

// bound describes a Bind.
func bound(b []byte) string {
	cut := func() string {
		i := bytes.IndexByte(b, 0)
		s := string(b[:i])
		b = b[i+1:]
		return s
	}
	number := func() int {
		n := int(int16(binary.BigEndian.Uint16(b)))
		b = b[2:]
		return n
	}
	formats := func() string {
		var text, binary bool
		for range number() {
			if number() == 1 {
				binary = true
			} else {
				text = true
			}
		}
		switch {
		case text && binary:
			return "mixed"
		case binary:
			return "binary"
		}
		return "text"
	}
	cut()
	way := "extended, unnamed"
	if cut() != "" {
		way = "extended, named"
	}
	way += ", " + formats()
	for range number() {
		n := int(int32(binary.BigEndian.Uint32(b)))
		b = b[4+max(n, 0):]
	}
	return way + " → " + formats()
}
