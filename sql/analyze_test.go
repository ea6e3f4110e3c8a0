package sql_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"pgveil/sql"
)

var update = flag.Bool("update", false, "rewrite testdata/plans")

// TestPlans runs testdata/plans/*.txt: statements, each followed by a line "----" and what becomes of it. A line "role: NAME" sets the
// role for those after it: app reveals and tokenizes, support masks, analyst sees tokens, half reveals ssn alone.
func TestPlans(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/plans/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no plans: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			old, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := replay(string(old))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(old) {
				t.Errorf("plans differ; run with -update and read the difference\n%s", firstDifference(string(old), got))
			}
		})
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range g {
		if i >= len(w) || w[i] != g[i] {
			return fmt.Sprintf("line %d\n got %s\nwant %s", i+1, g[i], append(w, "")[min(i, len(w))])
		}
	}
	return "shorter than wanted"
}

func replay(file string) string {
	role := "app"
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimRight(file, "\n"), "\n\n") {
		if i > 0 {
			out.WriteString("\n")
		}
		if name, ok := strings.CutPrefix(block, "role: "); ok {
			role = strings.TrimSpace(name)
			out.WriteString(block + "\n")
			continue
		}
		text, _, _ := strings.Cut(block, "\n----")
		out.WriteString(text + "\n----\n" + describe(text, role) + "\n")
	}
	return out.String()
}

func describe(text, role string) string {
	if !schema.Mentions(text) {
		return "relay, not analyzed"
	}
	plan, err := analyze(text, role)
	if err != nil {
		var r *sql.Refusal
		if !errors.As(err, &r) {
			return "error: " + err.Error()
		}
		s := fmt.Sprintf("refused %s: %s\nhint: %s", r.SQLState, r.Message, r.Hint)
		if r.Position > 0 {
			s += fmt.Sprintf("\nposition: %d", r.Position)
		}
		return s
	}
	lines := []string{plan.Verdict.String()}
	edited, err := plan.Apply(text, func(v *sql.Value) (string, error) {
		if v.Param > 0 {
			return fmt.Sprintf("$%d", v.Param), nil
		}
		s := v.Text
		for _, st := range v.Steps {
			s = fmt.Sprintf("%s.%s(%s)", st.Policy, opNames[st.Op], s)
		}
		return "<" + s + ">", nil
	})
	if err != nil {
		return err.Error()
	}
	if edited.Text != text {
		lines = append(lines, "text: "+edited.Text)
	}
	var params []int
	for n := range plan.Params {
		params = append(params, n)
	}
	sort.Ints(params)
	for _, n := range params {
		s := fmt.Sprintf("$%d:", n)
		for _, st := range plan.Params[n] {
			s += fmt.Sprintf(" %s.%s", st.Policy, opNames[st.Op])
		}
		lines = append(lines, s)
	}
	for _, o := range plan.Outputs {
		lines = append(lines, fmt.Sprintf("output %q: %s by %s", o.Marker, o.Name, o.Policy))
	}
	var reads []string
	for _, r := range plan.Reads {
		reads = append(reads, fmt.Sprintf("%s.%s.%s %s", r.Schema, r.Table, r.Column, []string{"token", "mask", "clear"}[r.View]))
	}
	if len(reads) > 0 {
		lines = append(lines, "reads "+strings.Join(reads, ", "))
	}
	return strings.Join(lines, "\n")
}

var opNames = map[sql.Op]string{sql.Tokenize: "tokenize", sql.TokenizeForColumn: "column", sql.Detokenize: "detokenize", sql.CheckToken: "check"}

var schema = sql.NewSchema([]string{"customers", "orders", "customer_view", `odd "name`}, []sql.Function{
	{Schema: "public", Name: "runs_anything", Language: "plpgsql", Source: "begin execute 'select 1'; end"},
	{Schema: "public", Name: "names_customers", Language: "sql", Source: "select count(*) from Customers"},
	{Schema: "public", Name: "calls_it", Language: "sql", Source: "select names_customers()"},
	{Schema: "public", Name: "harmless", Language: "plpgsql", Source: "begin return 1; end"},
	{Schema: "public", Name: "py", Language: "plpython3u", Source: "return 1"},
})

type catalog struct{}

func table(oid uint32, schemaName, name string, cols ...string) *sql.Relation {
	r := &sql.Relation{OID: oid, Schema: schemaName, Name: name}
	for i, c := range cols {
		n, policy, _ := strings.Cut(c, ":")
		r.Columns = append(r.Columns, sql.Attribute{Name: n, Attnum: int16(i + 1), Policy: policy})
	}
	return r
}

func (catalog) Relations(names []sql.Name) ([]*sql.Relation, error) {
	out := make([]*sql.Relation, len(names))
	for i, n := range names {
		switch {
		case n.Name == "customers" && (n.Schema == "" || n.Schema == "public"):
			out[i] = table(1, "public", "customers", "id", "name", "email:email", "ssn:ssn", "card:card", "country")
		case n.Name == "customers" && n.Schema == "other":
			out[i] = table(2, "other", "customers", "id", "name", "email", "ssn")
		case n.Name == "orders":
			out[i] = table(3, "public", "orders", "id", "customer_id", "card:card", "amount")
		case n.Name == "notes":
			out[i] = table(4, "public", "notes", "id", "email", "note")
		case n.Name == "customer_view":
			out[i] = table(5, "public", "customer_view", "id", "ssn")
			out[i].Reaches = true
		case n.Name == `odd "name`:
			out[i] = table(6, "public", `odd "name`, "id", "ssn:ssn")
		}
	}
	return out, nil
}

func analyze(text, role string) (*sql.Plan, error) {
	access := func(policy string) (sql.Access, bool) {
		switch policy {
		case "email", "ssn", "card":
		default:
			return sql.Access{}, false
		}
		switch role {
		case "app":
			return sql.Access{View: sql.Clear, Tokenize: true, Reveal: true}, true
		case "support":
			return sql.Access{View: sql.Mask}, true
		case "half":
			if policy == "ssn" {
				return sql.Access{View: sql.Clear, Tokenize: true, Reveal: true}, true
			}
		}
		return sql.Access{}, true
	}
	return sql.Analyze(sql.Request{Text: text, Schema: schema, Catalog: catalog{}, Access: access, Views: role != "analyst"})
}
