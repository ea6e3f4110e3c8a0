package pgwire

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgveil/engine"
	"pgveil/internal/secret"
	"pgveil/sql"
)

func FuzzParseStartup(f *testing.F) {
	f.Add(uint32(version30), []byte("user\x00x\x00database\x00y\x00_pq_.a\x00b\x00\x00"))
	f.Add(uint32(version32), []byte("user\x00x\x00options\x00-c a=b\x00\x00"))
	f.Fuzz(func(t *testing.T, version uint32, body []byte) {
		st := &startup{}
		if err := st.parse(version, body); err == nil && (st.user == "" || st.db == "" || len(st.params)%2 != 0) {
			t.Error("a start-up packet without user or database was accepted")
		}
		s := &Server{cfg: Config{StatementTimeout: 1}}
		if params := s.parameters(&pgconn.Config{}, st, true); len(params)%2 != 0 {
			t.Error("a name without a value would be sent")
		}
	})
}

// pipe is a connection whose other side has said everything already.
type pipe struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func (p *pipe) Read(b []byte) (int, error)       { return p.in.Read(b) }
func (p *pipe) Write(b []byte) (int, error)      { return p.out.Write(b) }
func (p *pipe) SetDeadline(time.Time) error      { return nil }
func (p *pipe) SetWriteDeadline(time.Time) error { return nil }
func (p *pipe) RemoteAddr() net.Addr             { return &net.TCPAddr{} }

// FuzzNegotiate: whatever comes first, a packet is accepted that names a user, or refused; never a panic.
func FuzzNegotiate(f *testing.F) {
	ssl := appendInt32(appendInt32(nil, 8), codeSSL)
	f.Add(append(ssl, packet(version30, []string{"user", "x"})...))
	f.Add(append(appendInt32(appendInt32(nil, 8), codeGSSENC), packet(version30, []string{"user", "x"})...))
	f.Add(append(appendInt32(appendInt32(nil, 16), codeCancel), "12345678"...))
	f.Add([]byte{tlsRecord, 3, 1, 0, 5, 1, 0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		s := &Server{}
		s.protocol.version, s.protocol.at = version30, time.Now()
		_, st, err := s.negotiate(&pipe{in: bytes.NewReader(in)})
		if err == nil && st.user == "" && len(st.cancel) < 16 {
			t.Error("a connection without a purpose was accepted")
		}
	})
}

// FuzzProxyHeader: a header is read to its own end, or refused.
func FuzzProxyHeader(f *testing.F) {
	for _, h := range []string{"PROXY TCP4 192.0.2.1 192.0.2.2 5000 5432\r\n", "PROXY TCP6 2001:db8::1 ::1 5000 5432\r\n", "PROXY UNKNOWN\r\n",
		"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x13\x88\x15\x38", "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"} {
		f.Add([]byte(h))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(append(in[:len(in):len(in)], "rest"...))
		addr, err := readProxy(r)
		if all := append(in[:len(in):len(in)], "rest"...); err == nil {
			end := bytes.Index(all, []byte("\r\n")) + 2 // version 1
			if bytes.HasPrefix(all, proxySignature) {
				end = 16 + int(all[14])<<8 + int(all[15])
			}
			if got := len(all) - r.Len(); got != end {
				t.Errorf("%d bytes were read of a header of %d", got, end)
			}
		}
		if addr.IsValid() && (err != nil || addr.Addr().Is4In6() || addr.Addr().Zone() != "") {
			t.Errorf("%v, %v", addr, err)
		}
	})
}

func fuzzTransform(f *testing.F) *engine.Transform {
	f.Helper()
	t, err := engine.Compile(engine.Policy{ID: "0b0e3a0e-6f5c-4b8e-9d53-3f0f5ad8a001", Name: "ssn", Format: "ssn"}, []engine.Key{{Version: 1, Secret: secret.New(make([]byte, 32))}})
	if err != nil {
		f.Fatal(err)
	}
	return t
}

// FuzzRow: a DataRow of any bytes gives a row of the same shape, or an error; never a panic, and never the token where a value should be.
func FuzzRow(f *testing.F) {
	tr := fuzzTransform(f)
	token, err := tr.AppendToken(nil, []byte("123-45-6789"), 1)
	if err != nil {
		f.Fatal(err)
	}
	good := appendInt16(nil, 2)
	good = append(appendInt32(good, len(token)), token...)
	good = append(appendInt32(good, 1), 'x')
	f.Add(good)
	f.Add([]byte{0, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe})
	f.Fuzz(func(t *testing.T, body []byte) {
		s := &shown{columns: []shownColumn{{tr, sql.Clear, "ssn"}, {}}}
		out, err := s.row(nil, body)
		if err != nil {
			return
		}
		in, c := cursor{b: body}, cursor{b: out}
		if in.count() != c.count() {
			t.Fatal("another number of columns")
		}
		a, null := in.value()
		b, null2 := c.value()
		if null != null2 || !null && bytes.Equal(a, b) {
			t.Error("the token is shown as the value")
		}
		a, _ = in.value()
		b, _ = c.value()
		if !bytes.Equal(a, b) || !c.done() {
			t.Error("the other column changed")
		}
	})
}

func FuzzDescribe(f *testing.F) {
	body := appendInt16(nil, 1)
	body = appendString(body, "ssn")
	body = appendInt16(appendInt32(body, 7), 4)
	body = appendInt16(appendInt32(appendInt16(appendInt32(body, 25), -1), -1), 0)
	f.Add(body)
	v := &view{schema: sql.NewSchema(nil, nil), lapsed: true}
	plan := &sql.Plan{Outputs: []sql.Output{{Marker: "m", Name: "detokenize", Policy: "ssn"}}}
	x := &session{}
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, out, err := x.describe(v, plan, body); err == nil && !bytes.Equal(out, body) {
			t.Error("a description without our columns was changed")
		}
	})
}

func FuzzBindValues(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 1, 'x', 0, 0})
	st := &statement{plan: &sql.Plan{Params: map[int][]sql.Step{2: {}}}} // framing alone: no step
	x := &session{}
	f.Fuzz(func(t *testing.T, rest []byte) {
		body := append([]byte("\x00\x00"), rest...)
		c := cursor{b: body[2:]}
		if out, err := x.bindValues(st, body, &c); err == nil && !bytes.Equal(out, body) {
			t.Error("a Bind whose values do not change was changed")
		}
	})
}

func FuzzErrorFields(f *testing.F) {
	f.Add((&failure{code: "22000", message: "m", hint: "h", position: 3}).response())
	f.Fuzz(func(t *testing.T, body []byte) {
		errorFields(body, func(kind byte, text []byte) {
			if kind == 0 || bytes.IndexByte(text, 0) >= 0 {
				t.Error("a field holds its own terminator")
			}
		})
	})
}
