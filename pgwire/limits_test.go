package pgwire

import (
	"net"
	"testing"
	"time"
)

// TestASlowStartGivesWay: connections that do nothing do not keep others out.
func TestASlowStartGivesWay(t *testing.T) {
	t.Parallel()
	l := &limits{startups: 2, early: map[*ticket]struct{}{}, roles: map[string]int{}}
	enter := func() (*ticket, net.Conn, error) {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { ours.Close(); theirs.Close() })
		seat, err := l.enter(ours)
		return seat, theirs, err
	}
	slow, other, err := enter()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := enter(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := enter(); err != errTooMany {
		t.Errorf("got %v, want errTooMany", err)
	}
	slow.since = time.Now().Add(-slowAfter)
	if _, _, err := enter(); err != nil {
		t.Errorf("beside a slow one: %v", err)
	}
	if _, err := other.Read(make([]byte, 1)); err == nil {
		t.Error("the slow one is still there")
	}
	slow.leave()
	if len(l.early) != 2 {
		t.Errorf("%d connections are counted, want 2", len(l.early))
	}
	for seat := range l.early {
		if err := seat.admit("x"); err != nil {
			t.Error(err)
		}
		seat.leave()
	}
	if l.total != 0 || len(l.roles) != 0 || len(l.early) != 0 {
		t.Errorf("%d sessions, %d roles, %d starting are left", l.total, len(l.roles), len(l.early))
	}
}
