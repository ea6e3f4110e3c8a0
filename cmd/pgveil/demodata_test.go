package main

import (
	"reflect"
	"regexp"
	"testing"
)

func TestDemoDataIsTheSameEveryTime(t *testing.T) {
	t.Parallel()
	if !reflect.DeepEqual(newDemoData(), newDemoData()) {
		t.Error("two runs differ")
	}
}

func TestDemoDataHasTheCountsPromised(t *testing.T) {
	t.Parallel()
	d := newDemoData()
	if c, o, k := len(d.customers), len(d.orders), len(d.contacts); c != 10_000 || o != 50_000 || k != 5_000 {
		t.Errorf("%d customers, %d orders, %d contacts", c, o, k)
	}
}

func TestDemoValuesAreWellFormed(t *testing.T) {
	t.Parallel()
	ssn := regexp.MustCompile(`^(\d{3})-(\d{2})-(\d{4})$`)
	phone := regexp.MustCompile(`^\+1[2-9][0-8]\d[2-9]\d{2}\d{4}$`)
	email := regexp.MustCompile(`^[a-z'.-]+\.[a-z'.-]+\d+@example\.(com|org|net)$`)
	d := newDemoData()
	check := func(kind string, id int64, ok bool) {
		if !ok {
			t.Errorf("%s of row %d is not well-formed", kind, id)
		}
	}
	wellFormedSSN := func(s string) bool {
		m := ssn.FindStringSubmatch(s)
		return m != nil && m[1] != "000" && m[1] != "666" && m[1] < "900" && m[2] != "00" && m[3] != "0000"
	}
	for _, c := range d.customers {
		check("ssn", c.id, wellFormedSSN(c.ssn))
		check("card", c.id, luhn(c.card) && (len(c.card) == 16 || len(c.card) == 15))
		check("phone", c.id, phone.MatchString(c.phone))
		check("email", c.id, email.MatchString(c.email))
	}
	for _, c := range d.contacts {
		check("contact ssn", c.id, wellFormedSSN(c.ssn))
		check("contact phone", c.id, phone.MatchString(c.phone))
		check("contact email", c.id, email.MatchString(c.email))
	}
}

func TestEveryOrderIsPaidWithItsCustomersCard(t *testing.T) {
	t.Parallel()
	d := newDemoData()
	cards := map[string]bool{}
	for _, c := range d.customers {
		if cards[c.card] {
			t.Errorf("the card of customer %d is somebody else's too", c.id)
		}
		cards[c.card] = true
	}
	for _, o := range d.orders {
		if d.customers[o.customerID-1].card != o.card {
			t.Fatalf("order %d has another card than customer %d", o.id, o.customerID)
		}
	}
}

// luhn is ISO/IEC 7812-1, annex B.
func luhn(digits string) bool {
	sum := 0
	for i := range digits {
		d := int(digits[len(digits)-1-i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}
