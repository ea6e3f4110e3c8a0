package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/brianvoe/gofakeit/v7"
)

// The demonstration's people are invented: the same ones at every start, so that documents and tests can name
// them. SSNs keep the rules of the Social Security Administration (no area 000, 666 or 9xx, no group 00, no
// serial 0000), cards pass the Luhn check, phone numbers are NANP in E.164 and e-mail domains are those that
// RFC 2606 reserves.
const (
	demoSeed      = 20260101
	demoCustomers = 10_000
	demoOrders    = 50_000
	demoContacts  = 5_000
)

type customer struct {
	id                            int64
	name, email, ssn, phone, card string
	birthDate                     time.Time
	country                       string
	createdAt                     time.Time
}

type order struct {
	id, customerID int64
	card           string // the customer's
	cents          int64
	placedAt       time.Time
}

type contact struct {
	id                            int64
	name, email, ssn, phone, note string
}

type demoData struct {
	customers []customer
	orders    []order
	contacts  []contact
}

func newDemoData() *demoData {
	g := &generator{Faker: gofakeit.New(demoSeed), seen: map[string]bool{}}
	d := &demoData{}
	for i := range demoCustomers {
		id := int64(i + 1)
		first, last := g.FirstName(), g.LastName()
		d.customers = append(d.customers, customer{
			id: id, name: first + " " + last, email: g.email(first, last), ssn: g.unique(g.ssn), phone: g.phone(), card: g.unique(g.card),
			birthDate: g.day(1940, 2007), country: g.CountryAbr(), createdAt: g.moment(2019, 2025),
		})
	}
	for i := range demoOrders {
		c := d.customers[g.IntN(len(d.customers))]
		d.orders = append(d.orders, order{
			id: int64(i + 1), customerID: c.id, card: c.card, cents: int64(g.IntRange(199, 99_999)), placedAt: g.moment(2020, 2025),
		})
	}
	for i := range demoContacts {
		first, last := g.FirstName(), g.LastName()
		d.contacts = append(d.contacts, contact{
			id: int64(i + 1), name: first + " " + last, email: g.email(first, last), ssn: g.unique(g.ssn), phone: g.phone(),
			note: fmt.Sprintf("asked about %s, prefers %s", g.ProductName(), g.WeekDay()),
		})
	}
	return d
}

type generator struct {
	*gofakeit.Faker
	seen map[string]bool
}

// unique calls next until it gives what it has not given before.
func (g *generator) unique(next func() string) string {
	for {
		if v := next(); !g.seen[v] {
			g.seen[v] = true
			return v
		}
	}
}

func (g *generator) email(first, last string) string {
	domain := g.RandomString([]string{"example.com", "example.org", "example.net"})
	local := func() string {
		return strings.ToLower(fmt.Sprintf("%s.%s%d@%s", first, last, g.IntRange(1, 9999), domain))
	}
	return g.unique(local)
}

func (g *generator) ssn() string {
	area := g.IntRange(1, 898)
	if area >= 666 {
		area++
	}
	return fmt.Sprintf("%03d-%02d-%04d", area, g.IntRange(1, 99), g.IntRange(1, 9999))
}

func (g *generator) phone() string {
	return fmt.Sprintf("+1%d%02d%d%02d%04d", g.IntRange(2, 9), g.IntRange(1, 89), g.IntRange(2, 9), g.IntRange(12, 99), g.IntRange(0, 9999))
}

func (g *generator) card() string {
	return g.CreditCardNumber(&gofakeit.CreditCardOptions{Types: []string{"visa", "mastercard", "american-express"}})
}

func (g *generator) day(from, to int) time.Time {
	return g.moment(from, to).Truncate(24 * time.Hour)
}

// moment is a whole second in the years from to to, both included.
func (g *generator) moment(from, to int) time.Time {
	start := time.Date(from, 1, 1, 0, 0, 0, 0, time.UTC)
	seconds := time.Date(to+1, 1, 1, 0, 0, 0, 0, time.UTC).Sub(start) / time.Second
	return start.Add(time.Duration(g.IntN(int(seconds))) * time.Second)
}
