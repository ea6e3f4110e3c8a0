package wirescript_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"context"

	"pgveil/internal/pgtest"
	"pgveil/internal/wirescript"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const conversation = `
# two connections
connect b application_name="the second"
send
    Parse "" "select $1::text, $2::int, name from (values ('x')) v(name) limit 1"
send b
    Query "listen wire"
until b ReadyForQuery
send
    Sync
    Bind "" "" formats=0,1 results=1 "a" "\x00\x00\x00\x07"
    Execute "" 0
    Sync
until ReadyForQuery 2
send
    Query "notify wire, 'hello'"
until ReadyForQuery
until b NotificationResponse
send b
    Query "select repeat('x', 5000), null"
    Query "do $$ begin raise notice 'begun'; perform pg_sleep(60); end $$"
until b NoticeResponse
cancel b
until b ReadyForQuery
send b
    Terminate
until b end
`

func TestAConversationIsWrittenDown(t *testing.T) {
	t.Parallel()
	s, err := wirescript.Parse("conversation", conversation)
	if err != nil {
		t.Fatal(err)
	}
	dsn := pgtest.Database(t)
	got, err := s.Run(t.Context(), func(ctx context.Context, parameters map[string]string) (*pgconn.HijackedConn, error) {
		config, err := pgconn.ParseConfig(dsn)
		if err != nil {
			return nil, err
		}
		for k, v := range parameters {
			config.RuntimeParams[k] = v
		}
		c, err := pgconn.ConnectConfig(ctx, config)
		if err != nil {
			return nil, err
		}
		if err := c.SyncConn(ctx); err != nil {
			return nil, err
		}
		return c.Hijack()
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, strings.Join(got.Lines, "\n"))
	}
	all := strings.Join(got.Lines, "\n")
	for _, want := range []string{
		`application_name="the second"`, "main: ParseComplete", `main: DataRow "\x00\x03\x00\x00\x00\x01a\x00\x00\x00\x04\x00\x00\x00\a`, `b: NotificationResponse from main "wire\x00hello\x00"`,
		"b: DataRow 5010 bytes, hash ", "C57014", "b: end",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in the transcript", want)
		}
	}
	if len(got.Received["b"]) < 5000 || !slices.Contains(got.Lines, "main: end") {
		t.Error("what b received was not kept, or main was not ended")
	}
	if t.Failed() {
		fmt.Println(all)
	}
}

func TestAScriptThatIsNoneIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"receive", "    Query x", "send\n    Query", "send\n    Nothing x", "until", "until Nothing", "until ReadyForQuery 1 2", "connect b x", "send\n    Query \"x", "send\n    Query \"x\"*",
		"send\n    Parse a b c", "send\n    Bind a b formats=x", "from x", "codes x", "send\n    FunctionCall x",
	} {
		if _, err := wirescript.Parse("x", text); err == nil {
			t.Errorf("%q is taken for a script", text)
		}
	}
}

func TestAServerThatSaysLessIsAnError(t *testing.T) {
	t.Parallel()
	s, err := wirescript.Parse("x", "send\n    Terminate\nuntil ReadyForQuery")
	if err != nil {
		t.Fatal(err)
	}
	dsn := pgtest.Database(t)
	_, err = s.Run(t.Context(), func(ctx context.Context, _ map[string]string) (*pgconn.HijackedConn, error) {
		c, err := pgconn.Connect(ctx, dsn)
		if err != nil {
			return nil, err
		}
		if err := c.SyncConn(ctx); err != nil {
			return nil, err
		}
		return c.Hijack()
	})
	if err == nil || !strings.Contains(err.Error(), "x:3: waiting for ReadyForQuery") {
		t.Errorf("got %v", err)
	}
}
