// Command gorm checks GORM, which sends by pgx behind database/sql.
package main

import (
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"pgveil/drivers/go/check"
	"pgveil/drivers/go/sqldb"
)

type Person struct {
	ID        int64
	Name      string
	Email     *string
	SSN       *string `gorm:"column:ssn"`
	CreatedAt time.Time
	Pets      []Pet
}

func (Person) TableName() string { return "people" }

type Pet struct {
	ID       int64
	PersonID int64
	Person   Person
	Name     string
}

type Thing struct {
	ID    int64
	Name  string `gorm:"uniqueIndex;size:40"`
	Count int
	Price float64 `gorm:"type:numeric(12,2)"`
	At    time.Time
}

func (Thing) TableName() string { return "drivers_gorm_things" }

func main() { check.Run("gorm.io/gorm", plain, protected) }

func open(dsn string) *gorm.DB { return with(dsn, false) }

func with(dsn string, simple bool) *gorm.DB {
	db, err := gorm.Open(postgres.New(postgres.Config{DSN: dsn, PreferSimpleProtocol: simple}), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		panic(err)
	}
	return db
}

func raw(dsn string) *sql.DB {
	db, err := open(dsn).DB()
	if err != nil {
		panic(err)
	}
	return db
}

func code(err error) (state, position string) {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code, fmt.Sprint(e.Position)
	}
	return "", ""
}

func ptr(s string) *string { return &s }

func plain(c *check.C) {
	sqldb.Plain(c, raw(c.URL), code)
	db := open(c.URL)
	c.Do("orm.migrate", func() error {
		db.Migrator().DropTable(&Thing{})
		if err := db.AutoMigrate(&Thing{}); err != nil {
			return err
		}
		if err := db.AutoMigrate(&Thing{}); err != nil { // compares with what is there
			return err
		}
		columns, err := db.Migrator().ColumnTypes(&Thing{})
		return errors.Join(err, check.Same(len(columns), 5))
	})
	c.Do("orm.create", func() error {
		things := make([]Thing, 30)
		for i := range things {
			things[i] = Thing{Name: fmt.Sprint("thing ", i), Count: i, Price: 1.25, At: time.Unix(1e9, 0)}
		}
		err := db.CreateInBatches(things, 10).Error
		return errors.Join(err, check.Same(things[29].ID != 0, true))
	})
	c.Do("orm.upsert", func() error {
		t := Thing{Name: "thing 1", Count: 77}
		if err := db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "name"}}, DoUpdates: clause.AssignmentColumns([]string{"count"})}).Create(&t).Error; err != nil {
			return err
		}
		err := db.First(&t, "name = ?", "thing 1").Error
		return errors.Join(err, check.Same(t.Count, 77))
	})
	c.Do("orm.nested", func() error {
		err := db.Transaction(func(tx *gorm.DB) error {
			tx.Delete(&Thing{}, "count < ?", 10)
			tx.Transaction(func(inner *gorm.DB) error { inner.Delete(&Thing{}, "count > ?", 0); return errors.New("back") })
			return nil
		})
		var n int64
		return errors.Join(err, db.Model(&Thing{}).Count(&n).Error, check.Same(n, 21))
	})
	c.Do("orm.drop", func() error { return db.Migrator().DropTable(&Thing{}) })
}

func protected(c *check.C) {
	c.Do("tls", func() error { return raw(c.TLS()).Ping() })
	sqldb.Protected(c, raw, code)
	for name, simple := range map[string]bool{"": false, ".simple": true} {
		models(c, name, with(c.URL, simple), with(c.Support, simple), with(c.Analyst, simple))
	}
}

// models runs what GORM writes itself.
func models(c *check.C, suffix string, app, support, analyst *gorm.DB) {
	p := Person{Name: "One", Email: ptr(check.Email1), SSN: ptr(check.SSN1), Pets: []Pet{{Name: "Rex"}, {Name: "Tom"}}}
	c.Do("protected.orm.create"+suffix, func() error {
		if err := app.Session(&gorm.Session{AllowGlobalUpdate: true}).Delete(&Person{}).Error; err != nil {
			return err
		}
		return app.Create(&p).Error
	})
	c.Do("protected.orm.batch"+suffix, func() error {
		return app.Create([]Person{{Name: "Two", SSN: ptr(check.SSN2)}, {Name: "Three"}}).Error
	})
	c.Do("protected.orm.find"+suffix, func() error {
		var got Person
		err := app.Preload("Pets").Where(&Person{SSN: ptr(check.SSN1)}).First(&got).Error
		return errors.Join(err, check.Same(*got.SSN+" "+*got.Email+" "+fmt.Sprint(len(got.Pets)), check.SSN1+" "+check.Email1+" 2"))
	})
	c.Do("protected.orm.in"+suffix, func() error {
		var got []Person
		err := app.Where("ssn IN ?", []string{check.SSN1, check.SSN2}).Order("id").Limit(10).Find(&got).Error
		return errors.Join(err, check.Same(len(got), 2))
	})
	c.Do("protected.orm.join"+suffix, func() error {
		var pet Pet
		err := app.Joins("Person").Where(`"Person"."ssn" = ?`, check.SSN1).Order("pets.id").First(&pet).Error
		return errors.Join(err, check.Same(pet.Name+" "+*pet.Person.SSN, "Rex "+check.SSN1))
	})
	c.Do("protected.orm.save"+suffix, func() error {
		p.Pets = nil
		p.SSN = ptr(check.SSN3)
		return errors.Join(app.Save(&p).Error, app.Model(&p).Update("email", check.Email2).Error)
	})
	c.Do("protected.orm.upsert"+suffix, func() error {
		u := Person{ID: p.ID, Name: "One again", SSN: ptr(check.SSN1)}
		return app.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.Assignments(map[string]any{"ssn": check.SSN1, "name": "One again"})}).Create(&u).Error
	})
	c.Do("protected.orm.upsert_excluded"+suffix, func() error {
		u := Person{ID: p.ID, Name: "One again", SSN: ptr(check.SSN1)}
		return app.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, UpdateAll: true}).Create(&u).Error
	})
	c.Do("protected.orm.count"+suffix, func() error {
		var n int64
		err := app.Model(&Person{}).Where("ssn IS NOT NULL").Distinct("ssn").Count(&n).Error
		return errors.Join(err, check.Same(n, 2))
	})
	c.Do("protected.orm.masked"+suffix, func() error {
		var got Person
		err := support.Last(&got, "id = ?", p.ID).Error
		return errors.Join(err, check.Same(*got.SSN, "***-**-9998"))
	})
	c.Do("protected.orm.token"+suffix, func() error {
		var got Person
		err := analyst.Take(&got, p.ID).Error
		return errors.Join(err, check.IsToken(*got.SSN))
	})
	c.Do("protected.orm.columns"+suffix, func() error {
		columns, err := app.Migrator().ColumnTypes(&Person{})
		return errors.Join(err, check.Same(len(columns), 7))
	})
	c.Do("protected.orm.delete"+suffix, func() error {
		if err := app.Delete(&p).Error; err != nil {
			return err
		}
		return app.Where("1 = 1").Delete(&Person{}).Error
	})
}
