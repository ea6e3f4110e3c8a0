// Command bun checks bun with its own driver, pgdriver, which puts parameters into the text.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/driver/pgdriver"

	"pgveil/drivers/go/check"
	"pgveil/drivers/go/sqldb"
)

var ctx = context.Background()

type Person struct {
	bun.BaseModel `bun:"table:people,alias:p"`

	ID        int64     `bun:",pk,autoincrement"`
	Name      string    `bun:",notnull"`
	Email     string    `bun:",nullzero"`
	SSN       string    `bun:"ssn,nullzero"`
	CreatedAt time.Time `bun:",nullzero,default:current_timestamp"`
	Pets      []*Pet    `bun:"rel:has-many,join:id=person_id"`
}

type Pet struct {
	ID       int64 `bun:",pk,autoincrement"`
	PersonID int64
	Person   *Person `bun:"rel:belongs-to,join:person_id=id"`
	Name     string
}

type Thing struct {
	bun.BaseModel `bun:"table:drivers_bun_things,alias:t"`

	ID    int64  `bun:",pk,autoincrement"`
	Name  string `bun:",unique"`
	Count int
	Tags  []string       `bun:",array"`
	Data  map[string]any `bun:"type:jsonb"`
}

func main() { check.Run("github.com/uptrace/bun", plain, protected) }

func raw(dsn string) *sql.DB { return sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(dsn))) }

func open(dsn string) *bun.DB { return bun.NewDB(raw(dsn), pgdialect.New()) }

func code(err error) (state, position string) {
	var e pgdriver.Error
	if errors.As(err, &e) {
		return e.Field('C'), e.Field('P')
	}
	return "", ""
}

func plain(c *check.C) {
	sqldb.Plain(c, raw(c.URL), code)
	db := open(c.URL)
	defer db.Close()
	c.Do("orm.create", func() error {
		if _, err := db.NewDropTable().Model((*Thing)(nil)).IfExists().Exec(ctx); err != nil {
			return err
		}
		if _, err := db.NewCreateTable().Model((*Thing)(nil)).Exec(ctx); err != nil {
			return err
		}
		things := []*Thing{{Name: "a'\\", Count: 1, Tags: []string{"x,y", `"`}, Data: map[string]any{"k": 1.0}}, {Name: "b"}}
		_, err := db.NewInsert().Model(&things).Exec(ctx)
		return errors.Join(err, check.Same(things[1].ID, 2))
	})
	c.Do("orm.select", func() error {
		var t Thing
		err := db.NewSelect().Model(&t).Where("name IN (?)", bun.In([]string{"a'\\", "z"})).Scan(ctx)
		return errors.Join(err, check.Same(fmt.Sprint(t.Count, t.Tags, t.Data), `1 [x,y "] map[k:1]`))
	})
	c.Do("orm.upsert", func() error {
		_, err := db.NewInsert().Model(&Thing{Name: "b", Count: 5}).On("CONFLICT (name) DO UPDATE").Set("count = EXCLUDED.count").Exec(ctx)
		return err
	})
	c.Do("copy", func() error {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := pgdriver.CopyFrom(ctx, conn, strings.NewReader("10\tten\n11\televen\n"), "COPY drivers_bun_things (id, name) FROM STDIN"); err != nil {
			return err
		}
		var b strings.Builder
		_, err = pgdriver.CopyTo(ctx, conn, &b, "COPY (SELECT name FROM drivers_bun_things WHERE id > 9 ORDER BY id) TO STDOUT")
		return errors.Join(err, check.Same(b.String(), "ten\neleven\n"))
	})
	c.Do("orm.drop", func() error { _, err := db.NewDropTable().Model((*Thing)(nil)).Exec(ctx); return err })
	c.Do("listen", func() error {
		l := pgdriver.NewListener(db)
		defer l.Close()
		if err := l.Listen(ctx, "drivers_bun"); err != nil {
			return err
		}
		for tries := 1; ; tries++ { // Listen does not wait for the server's answer
			if err := pgdriver.Notify(ctx, db, "drivers_bun", "told"); err != nil {
				return err
			}
			_, payload, err := l.ReceiveTimeout(ctx, 200*time.Millisecond)
			if err == nil || tries == 50 {
				return errors.Join(err, check.Same(payload, "told"))
			}
		}
	})
}

func protected(c *check.C) {
	c.Do("tls", func() error { return raw(c.TLS()).Ping() })
	sqldb.Protected(c, raw, code)
	app, support, analyst := open(c.URL), open(c.Support), open(c.Analyst)
	p := &Person{Name: "One", Email: check.Email1, SSN: check.SSN1}
	c.Do("protected.orm.create", func() error {
		people := []*Person{p, {Name: "Two", SSN: check.SSN2}, {Name: "Three"}}
		if _, err := app.NewInsert().Model(&people).Exec(ctx); err != nil {
			return err
		}
		_, err := app.NewInsert().Model(&Pet{PersonID: p.ID, Name: "Rex"}).Exec(ctx)
		return err
	})
	c.Do("protected.orm.find", func() error {
		var got Person
		err := app.NewSelect().Model(&got).Relation("Pets").Where("ssn = ?", check.SSN1).Limit(1).Scan(ctx)
		return errors.Join(err, check.Same(got.SSN+" "+got.Email+" "+fmt.Sprint(len(got.Pets)), check.SSN1+" "+check.Email1+" 1"))
	})
	c.Do("protected.orm.in", func() error {
		var got []Person
		err := app.NewSelect().Model(&got).Where("ssn IN (?)", bun.In([]string{check.SSN1, check.SSN2})).OrderExpr("id DESC").Scan(ctx)
		return errors.Join(err, check.Same(len(got), 2))
	})
	c.Do("protected.orm.join", func() error {
		var pet Pet
		err := app.NewSelect().Model(&pet).Relation("Person").Where("person.ssn = ?", check.SSN1).Scan(ctx)
		return errors.Join(err, check.Same(pet.Name+" "+pet.Person.SSN, "Rex "+check.SSN1))
	})
	c.Do("protected.orm.update", func() error {
		p.SSN = check.SSN3
		_, err := app.NewUpdate().Model(p).WherePK().Returning("ssn").Exec(ctx)
		return errors.Join(err, check.Same(p.SSN, check.SSN3))
	})
	c.Do("protected.orm.upsert_excluded", func() error {
		_, err := app.NewInsert().Model(&Person{ID: p.ID, Name: "One", SSN: check.SSN1}).On("CONFLICT (id) DO UPDATE").Set("ssn = EXCLUDED.ssn").Exec(ctx)
		return err
	})
	c.Do("protected.orm.bulk_update", func() error {
		_, err := app.NewUpdate().Model(&[]*Person{p}).Column("ssn", "name").Bulk().Exec(ctx)
		return err
	})
	c.Do("protected.orm.masked", func() error {
		var got Person
		err := support.NewSelect().Model(&got).Where("id = ?", p.ID).Scan(ctx)
		return errors.Join(err, check.Same(got.SSN[:7], "***-**-"))
	})
	c.Do("protected.orm.token", func() error {
		var got Person
		err := analyst.NewSelect().Model(&got).Where("id = ?", p.ID).Scan(ctx)
		return errors.Join(err, check.IsToken(got.SSN))
	})
	c.Do("protected.orm.delete", func() error { _, err := app.NewDelete().Model((*Person)(nil)).Where("1 = 1").Exec(ctx); return err })
}
