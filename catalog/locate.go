package catalog

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// found is a column there is now, for a protected column's row.
type found struct {
	place
	Guarded bool // a validated guard stands on it
}

// locate fills c.Found: for each column row, and each one that only the manifest knows, where the column is now.
// Connections to databases in which nothing is protected any more are closed. The caller holds mu.
func (s *Store) locate(ctx context.Context, c *contents) error {
	wanted := map[string][]wantedColumn{}
	for _, r := range c.Columns {
		wanted[r.Database] = append(wanted[r.Database], wantedColumn{r.ID, r.place})
	}
	// A forged row must not keep us from the column that the manifest names.
	if m, err := c.Epoch.open(s.sealer); err == nil {
		for key, e := range m {
			if e.Column != nil {
				_, id, _ := strings.Cut(key, "\x00")
				wanted[e.Column.Database] = append(wanted[e.Column.Database], wantedColumn{id, *e.Column})
			}
		}
	}
	for database := range s.links {
		if database != "" && wanted[database] == nil {
			s.unlink(database)
		}
	}
	for database, columns := range wanted {
		// Nobody can connect to a database that is gone or closed, so nothing there needs protection now.
		if !c.Databases[database] {
			continue
		}
		if err := s.locateIn(ctx, database, columns, c.Found); err != nil {
			s.unlink(database)
			return err
		}
	}
	for id := range c.Found {
		c.Found[id] = distinct(c.Found[id])
	}
	return nil
}

// wantedColumn is a place to look for, and the row it belongs to.
type wantedColumn struct {
	id string
	place
}

// locateQuery finds each wanted column by (OID, attnum), which a rename does not change, and by name, which a table
// dropped and made again, or restored from a dump, keeps. Where both find something and they differ, both are protected:
// after a restore the old OID may be any table's, and after two tables swapped names nobody can say which was meant.
const locateQuery = `
	SELECT w.id, n.nspname::text, c.relname::text, a.attname::text, a.attrelid, a.attnum, EXISTS (
		SELECT FROM pg_constraint k WHERE k.conrelid = a.attrelid AND k.contype = 'c' AND k.convalidated
		AND k.conkey = ARRAY[a.attnum] AND starts_with(k.conname::text, 'pgveil_guard_'))
	FROM unnest($1::text[], $2::oid[], $3::int2[], $4::text[], $5::text[], $6::text[]) AS w (id, relid, attnum, nsp, rel, att)
	JOIN LATERAL (
		SELECT w.relid, w.attnum
		UNION
		SELECT a.attrelid, a.attnum FROM pg_namespace n
		JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.rel AND c.relkind IN ('r', 'p')
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = w.att AND a.attnum > 0
		WHERE n.nspname = w.nsp
	) AS at (relid, attnum) ON true
	JOIN pg_attribute a ON a.attrelid = at.relid AND a.attnum = at.attnum AND NOT a.attisdropped
	JOIN pg_class c ON c.oid = a.attrelid
	JOIN pg_namespace n ON n.oid = c.relnamespace
	ORDER BY w.id, (a.attrelid = w.relid AND a.attnum = w.attnum) DESC`

func (s *Store) locateIn(ctx context.Context, database string, columns []wantedColumn, into map[string][]found) error {
	kept := database
	if database == s.config.Database {
		kept = "" // the control plane's connection is there already
	}
	conn, err := s.link(ctx, kept)
	if err != nil {
		return err
	}
	var ids, nsp, rel, att []string
	var relids []uint32
	var attnums []int16
	for _, c := range columns {
		ids, nsp, rel, att = append(ids, c.id), append(nsp, c.Schema), append(rel, c.Table), append(att, c.Column)
		relids, attnums = append(relids, c.RelID), append(attnums, c.Attnum)
	}
	rows, err := conn.Query(ctx, locateQuery, ids, relids, attnums, nsp, rel, att)
	if err != nil {
		return err
	}
	f := found{place: place{Database: database}}
	var id string
	_, err = pgx.ForEachRow(rows, []any{&id, &f.Schema, &f.Table, &f.Column, &f.RelID, &f.Attnum, &f.Guarded}, func() error {
		into[id] = append(into[id], f)
		return nil
	})
	return err
}

// distinct drops what a row and its manifest entry both found.
func distinct(fs []found) []found {
	var out []found
	for _, f := range fs {
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}

// serverMajor is the server's major version, 0 if it does not say.
func serverMajor(conn *pgx.Conn) int {
	version := conn.PgConn().ParameterStatus("server_version")
	end := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(version)
	}
	major, _ := strconv.Atoi(version[:end])
	return major
}
