package engine_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgveil/engine"
	"pgveil/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// guardPieces make strings around the edges of each guard. Which of them are values is AppendToken's to say.
var guardPieces = map[string][]string{
	"ssn":    {"0", "1", "9", "123", "-"},
	"pan":    {"4", "2", "6", "0", "1111", "5", " ", "-", "3"},
	"digits": {"0", "1", "9"},
	"phone":  {"+", "1", "44", "0", "212", "555", "(", ")", " ", "-", ".", "/"},
	"email": {"t1_", "t12_", "t123_", "t1", "t", "t:_", "t1a_", "t0_", "t1234_", "_", "a", "é", "aaaaaaaaaaaa", "A9.", "%", "@ex.com", "@",
		"@a-long-domain-name-that-goes-on.example.com"},
	"text": {"t1_", "t12_", "t123_", "t1", "t", "t:_", "t1é_", "t1éé_", "t1a_", "t0_", "t1234_", "_", "a", "é", "東京", "aaaaaaaaaaaa", "%", `\`, "'", "\n", " ", "T1_"},
}

// TestGuardOnPostgreSQL asks PostgreSQL: the guard is true for every token, false for every value, NULL for NULL.
func TestGuardOnPostgreSQL(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `CREATE TABLE seen (format text, "a ""b" text, token bool)`); err != nil {
		t.Fatal(err)
	}
	for format, c := range roundTrips {
		rows := guardRows(t, format, c.values)
		if _, err := conn.CopyFrom(t.Context(), pgx.Identifier{"seen"}, []string{"format", `a "b`, "token"}, pgx.CopyFromRows(rows)); err != nil {
			t.Fatal(err)
		}
		guard := engine.Guard(named(format), `"a ""b"`)
		for _, conforming := range []string{"on", "off"} {
			if _, err := conn.Exec(t.Context(), "SET standard_conforming_strings = "+conforming); err != nil {
				t.Fatal(err)
			}
			var missed, passed, null int
			err := conn.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE token AND `+guard+` IS NOT TRUE),
				count(*) FILTER (WHERE NOT token AND `+guard+` IS NOT FALSE), count(*) FILTER (WHERE token IS NULL AND `+guard+` IS NULL)
				FROM seen WHERE format = '`+format+`'`).Scan(&missed, &passed, &null)
			if err != nil {
				t.Fatal(err)
			}
			if missed != 0 || passed != 0 || null != 1 {
				t.Errorf("%s: of %d rows the guard missed %d tokens, passed %d values, and was NULL for NULL %d times",
					format, len(rows), missed, passed, null)
			}
		}
	}
}

// guardRows returns (format, text, is a token) for values known and random, their tokens of several versions, and NULL.
func guardRows(t *testing.T, format string, known []string) (rows [][]any) {
	versions := distinct(named(format), 1, 2, 8)
	if named(format).Method() != engine.FF1 {
		versions = []int{1, 12, 999}
	}
	tr := compile(t, format, versions...)
	add := func(value string, version int) {
		token, err := tr.AppendToken(nil, []byte(value), version)
		if err == nil {
			rows = append(rows, []any{format, value, false}, []any{format, string(token), true})
		}
	}
	for _, v := range known {
		add(v, versions[0])
	}
	r, pieces := rand.New(rand.NewPCG(1, uint64(len(format)))), guardPieces[format]
	if pieces == nil {
		r := rand.New(rand.NewPCG(2, 2))
		for i := range 500 {
			add(string(random(r, format)), versions[i%len(versions)])
		}
		return append(rows, []any{format, nil, nil})
	}
	for i := range 6000 {
		var v strings.Builder
		for range 1 + r.IntN(16) {
			v.WriteString(pieces[r.IntN(len(pieces))])
		}
		add(v.String(), versions[i%len(versions)])
	}
	if len(rows) < 2*len(known)+20 {
		t.Fatalf("%s: only %d rows", format, len(rows))
	}
	return append(rows, []any{format, nil, nil})
}

// TestGuardRefusesWhatIsWrittenAround tries the constraint as it stands on a protected column.
func TestGuardRefusesWhatIsWrittenAround(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for format, c := range roundTrips {
		tr, table := compile(t, format), pgx.Identifier{"guarded " + format}.Sanitize()
		if _, err := conn.Exec(t.Context(), "CREATE TABLE "+table+" (c varchar CHECK ("+engine.Guard(tr.Policy(), "c")+"))"); err != nil {
			t.Fatal(err)
		}
		for _, v := range c.values {
			token, err := tr.AppendToken(nil, []byte(v), 1)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Exec(t.Context(), "INSERT INTO "+table+" VALUES ($1), (NULL)", string(token)); err != nil {
				t.Errorf("%s: a token is refused: %v", format, err)
			}
			if _, err := conn.Exec(t.Context(), "INSERT INTO "+table+" VALUES ($1)", v); err == nil {
				t.Errorf("%s: a value of %d bytes is stored", format, len(v))
			}
		}
	}
}

// TestGuardOfOtherTypes asks PostgreSQL the same of columns that hold values in types of their own.
func TestGuardOfOtherTypes(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	r := rand.New(rand.NewPCG(3, 3))
	for _, c := range []struct{ name, sqlType string }{
		{"integer", "bigint"}, {"integer", "numeric"}, {"integer-int4", "integer"}, {"integer-int4", "bigint"}, {"integer-wide", "numeric"}, {"integer-neg", "bigint"},
		{"uuid", "uuid"}, {"date", "date"}, {"date-wide", "date"}, {"second", "timestamp without time zone"}, {"timestamp", "timestamp with time zone"},
		{"bytes", "bytea"}, {"json", "jsonb"}, {"json", "json"}, {"ssn", "text"},
	} {
		guard, ok := engine.GuardType(named(c.name), "c", c.sqlType)
		if !ok {
			t.Errorf("%s has no guard of type %s", c.name, c.sqlType)
			continue
		}
		versions := distinct(named(c.name), 1, 2)
		tr := compile(t, c.name, versions...)
		var values, tokens []string
		for i := range 200 {
			v := random(r, c.name)
			token, err := tr.AppendToken(nil, v, versions[i%len(versions)])
			if err != nil {
				t.Fatal(err)
			}
			values, tokens = append(values, string(v)), append(tokens, string(token))
		}
		var passed, missed int
		var null *bool
		err := conn.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM (SELECT v::`+c.sqlType+` AS c FROM unnest($1::text[]) v) s WHERE `+guard+` IS NOT FALSE),
			(SELECT count(*) FROM (SELECT v::`+c.sqlType+` AS c FROM unnest($2::text[]) v) s WHERE `+guard+` IS NOT TRUE),
			(SELECT `+guard+` FROM (SELECT NULL::`+c.sqlType+` AS c) s)`, values, tokens).Scan(&passed, &missed, &null)
		if err != nil || passed != 0 || missed != 0 || null != nil {
			t.Errorf("%s as %s: the guard passed %d values and missed %d tokens: %v", c.name, c.sqlType, passed, missed, err)
		}
	}
	for name, sqlType := range map[string]string{"integer": "integer", "ssn": "bigint", "date": "timestamp with time zone", "none": "uuid"} {
		if guard, ok := engine.GuardType(named(name), "c", sqlType); ok || guard != "false" {
			t.Errorf("%s as %s: %s", name, sqlType, guard)
		}
	}
}

// TestGuardRefusesOtherSpellings: values as people write them beside the format are not let in by their looks either.
func TestGuardRefusesOtherSpellings(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for name, spellings := range map[string][]string{
		"ssn":     {"", " 123-45-6789", "123-45-6789 ", "123-45-6789\n", "SSN 123-45-6789", "１２３-45-6789", "123 45 6789", strings.Repeat("1", 1<<20), strings.Repeat("A", 1<<20)},
		"pan":     {"", " 4111111111111111", "4111111111111111\n", "PAN 4111111111111111", "４１１１", "4111.1111.1111.1111"},
		"digits":  {"", " 123456", "１２３４５６", "+123456"},
		"phone":   {"", " +12125550123", "tel:+12125550123", "+1 212 555 0123 ext 5", "+1\u00a0212", "２１２", strings.Repeat("1", 1<<20)},
		"email":   {"", "Jane <jane@example.com>", "JANE@EXAMPLE.COM", " jane@example.com", "jäne@example.com", "T1_jane@example.com", "t1_@" + strings.Repeat("a", 60)},
		"text":    {"", "T1_" + strings.Repeat("a", 40), " t1_" + strings.Repeat("a", 40), "t1é_" + strings.Repeat("a", 26), strings.Repeat("t", 1<<20)},
		"iban":    {"", " DE89370400440532013000", "IBAN DE89370400440532013000", "IBAN: DE89", "de89370400440532013000", "DE89-3704-0044-0532-0130-00"},
		"uuid":    {"", "{f81d4fae-7dec-11d0-a765-00a0c91e6bf6}", "F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6", "f81d4fae7dec11d0a76500a0c91e6bf6", "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", " f81d4fae-7dec-11d0-a765-00a0c91e6bf6"},
		"date":    {"", "31/12/1999", "31.12.1999", "31-12-1999", "4/7/1976", "1999-12-31 ", "infinity", "1999-12-31 BC", "44561"},
		"second":  {"", "31/12/1999 10:00:00", "31.12.1999 10:00", "1999-12-31 10:00:00 ", "infinity", "946684800"},
		"integer": {"", "999999999999 ", "9,999,999,999", "9999999999.99", "+999999999999", "1e12345678901", "９９９９９９９９９９９９９", "9999999999999\n", "-9999999999999"},
	} {
		for _, s := range spellings {
			var passed bool
			if err := conn.QueryRow(t.Context(), "SELECT "+engine.Guard(named(name), "c")+" FROM (SELECT $1::text AS c) s", s).Scan(&passed); err != nil || passed {
				t.Errorf("%s: %.50q passes: %v, %v", name, s, passed, err)
			}
		}
	}
}

// TestGuardUnderACollation: neither a collation nor one that finds different texts equal changes what a guard says.
func TestGuardUnderACollation(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false)"); err != nil {
		t.Fatal(err)
	}
	for name, c := range roundTrips {
		tr, table := compile(t, name), pgx.Identifier{"loose " + name}.Sanitize()
		if _, err := conn.Exec(t.Context(), "CREATE TABLE "+table+` (c text COLLATE loose CHECK (`+engine.Guard(tr.Policy(), "c")+"))"); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, v := range c.values {
			token, err := tr.AppendToken(nil, []byte(v), 1)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Exec(t.Context(), "INSERT INTO "+table+" VALUES ($1), (NULL)", string(token)); err != nil {
				t.Errorf("%s: a token is refused: %v", name, err)
			}
			if _, err := conn.Exec(t.Context(), "INSERT INTO "+table+" VALUES ($1)", v); err == nil {
				t.Errorf("%s: a value of %d bytes is stored", name, len(v))
			}
		}
	}
}
