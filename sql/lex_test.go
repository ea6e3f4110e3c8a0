package sql

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	pg "github.com/pganalyze/pg_query_go/v6"
)

func TestLexFindsTheTokensThatTheGrammarsScannerFinds(t *testing.T) {
	for _, text := range []string{
		`select 1`, `select 'a''b', E'a\'b', $$x'y$$, $t$ $$ $t$, N'n', B'01', X'ff', U&'\0041', U&"d\0061t" from "A ""b"`,
		"select 'a'\n  'b'", `select /* a /* nested */ 'x */ 1`, `select $1, $22::int`, `select a.b, .5, 1e-3, 1.5, x$y, _z from é`,
		`select 'unclosed`, `select "unclosed`, `select $x$ unclosed`, `/* unclosed`, "select 1 -- end",
	} {
		want, err := pg.Scan(text)
		got := lex(text)
		if err != nil {
			continue // the grammar's scanner refuses it; ours must only not fail
		}
		i := 0
		for _, tok := range want.Tokens {
			if tok.Token == pg.Token_SQL_COMMENT || tok.Token == pg.Token_C_COMMENT {
				continue
			}
			for i < len(got) && got[i].start < int(tok.Start) {
				i++
			}
			if i == len(got) || got[i].start != int(tok.Start) {
				t.Errorf("%q: no token starts at %d", text, tok.Start)
				break
			}
			if got[i].kind == literal || got[i].kind == quoted || got[i].kind == word {
				if got[i].end != int(tok.End) {
					t.Errorf("%q: token at %d ends at %d, want %d", text, tok.Start, got[i].end, tok.End)
				}
			}
		}
	}
}

func TestTooComplexStatementsNeverReachTheGrammar(t *testing.T) {
	for name, text := range map[string]string{
		"30,000 terms":   "select ssn from customers where id = 1" + strings.Repeat("+1", 30_000),
		"50,000 unions":  "select 1 from customers" + strings.Repeat(" union select 1", 50_000),
		"100,000 parens": "select " + strings.Repeat("(", 100_000) + "customers",
		"50,000 nots":    "select customers where " + strings.Repeat("not ", 50_000) + "true",
	} {
		_, err := Analyze(Request{Text: text, Schema: NewSchema([]string{"customers"}, nil)})
		r, ok := err.(*Refusal)
		if !ok || r.SQLState != "54001" {
			t.Errorf("%s: %v, want 54001", name, err)
		}
	}
}

func TestPositionsMapBackToTheClientsText(t *testing.T) {
	text := "select é, 'valué', nosuch from t"
	at := strings.Index(text, "'valué'")
	p := &Plan{Edits: []Edit{{Start: at, End: at + len("'valué'"), Value: &Value{}}}}
	e, err := p.Apply(text, func(*Value) (string, error) { return "'a much longer tokén'", nil })
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []string{"nosuch", "from", "é,", "select"} {
		edited := position(e.Text, strings.Index(e.Text, w))
		want := position(text, strings.Index(text, w))
		if got := e.Position(text, edited); got != want {
			t.Errorf("position of %q: %d, want %d", w, got, want)
		}
	}
	inside := position(e.Text, strings.Index(e.Text, "longer"))
	if got, want := e.Position(text, inside), position(text, at); got != want {
		t.Errorf("a position inside the token maps to %d, want the literal's %d", got, want)
	}
}

func TestMentionsAllocatesNothing(t *testing.T) {
	s := NewSchema([]string{"customers"}, nil)
	text := "select abalance from pgbench_accounts where aid = 12345"
	if n := testing.AllocsPerRun(100, func() { s.Mentions(text) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestMentionsSeesNamesInAnyDress(t *testing.T) {
	s := NewSchema([]string{"Customers", `two words`, "naïve"}, nil)
	for _, text := range []string{`select * from CUSTOMERS`, `"Customers"`, `do $$ customers $$`, `'customers'`, `--customers`, `u&"\0063ustomers"`, `select U&"cust*006fmers" UESCAPE '*'`, `U&"custoomers" UESCAPE 'o'`, `U&"a""\+000063ustomers"`,
		`U&"\\\0063ustomers"`, `U&"\D83D\DE00"`, `"two words"`, `"naïve"`, `a.customers.b`, "DETOKENIZE(1,2)",
		"execute p", "explain execute function(1)", "create table t as execute function with data", "execute on_hold", `execute "on"(1)`, `execute "function" with`, "do $$ $$"} {
		if !s.Mentions(text) {
			t.Errorf("%s is not seen", text)
		}
	}
	for _, text := range []string{"select 1", "customers2", "xcustomers", "select two", `select U&'d\0061t' as U&"d!0061t" UESCAPE '!'`, `U&"\0063ustomer"`, `U&"\\0063ustomers"`,
		"create trigger t before insert on a for each row execute function f()", "grant execute\non function f to public"} {
		if s.Mentions(text) {
			t.Errorf("%s is seen", text)
		}
	}
}

// TestInertTextsChangeNothing: what Inert passes over, none of the functions that it stands for would have seen.
func TestInertTextsChangeNothing(t *testing.T) {
	looks := map[string]func(string) bool{"ReadsCursor": ReadsCursor, "Prepares": Prepares, "Executes": Executes, "Forgets": Forgets,
		"ChangesSettings": ChangesSettings, "RollsBack": RollsBack, "ChangesSchema": ChangesSchema}
	inert := 0
	files, _ := filepath.Glob("testdata/plans/*.txt")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for text := range strings.SplitSeq(string(data), "\n\n") {
			for name, look := range looks {
				if Inert(text) && look(text) {
					t.Errorf("%s sees what Inert does not: %s", name, text)
				}
			}
			if Inert(text) {
				inert++
			}
		}
	}
	if inert < 50 {
		t.Errorf("%d inert texts only", inert)
	}
	for name, text := range map[string]string{"ReadsCursor": "FETCH 1 FROM c", "Prepares": "PREPARE p AS SELECT 1", "Executes": "(EXECUTE p)", "Forgets": "DISCARD ALL",
		"ChangesSettings": `SELECT "set_config"('a', 'b', true)`, "RollsBack": "ABORT", "ChangesSchema": "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1"} {
		if Inert(text) || !looks[name](text) {
			t.Errorf("%s: %s", name, text)
		}
	}
}

func FuzzAnalyze(f *testing.F) {
	for _, seed := range []string{"select * from customers", "insert into customers values ('a', $1)", "select detokenize('ssn', ssn) as x from customers", "with a as (select 1) select * from a, customers"} {
		f.Add(seed)
	}
	s := NewSchema([]string{"customers"}, nil)
	f.Fuzz(func(t *testing.T, text string) {
		plan, err := Analyze(Request{Text: text, Schema: s, Catalog: fuzzCatalog{}, Views: true,
			Access: func(string) (Access, bool) { return Access{Clear, true, true}, true }})
		if err != nil {
			return
		}
		if _, err := plan.Apply(text, func(*Value) (string, error) { return "'t'", nil }); err != nil {
			t.Fatal(err)
		}
	})
}

type fuzzCatalog struct{}

func (fuzzCatalog) Relations(names []Name) ([]*Relation, error) {
	out := make([]*Relation, len(names))
	for i, n := range names {
		if n.Name == "customers" {
			out[i] = &Relation{OID: 1, Schema: "public", Name: "customers", Columns: []Attribute{{Name: "id"}, {Name: "ssn", Policy: "ssn"}}}
		}
	}
	return out, nil
}
