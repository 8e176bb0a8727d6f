package trust

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestIdleGuests: who opens connections and says nothing keeps neither the others nor,
// when they are gone, itself out.
func TestIdleGuests(t *testing.T) {
	m := newMesh(t, "shop")
	tok := m.token()
	var idle []net.Conn
	for range 3 * guestsOfOne {
		c, err := net.Dial("tcp", m.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		idle = append(idle, c)
	}
	// Those beyond the limit are closed at once.
	closed := 0
	open := slices.Clone(idle)
	for end := time.Now().Add(time.Minute); closed < 2*guestsOfOne && time.Now().Before(end); {
		open = slices.DeleteFunc(open, func(c net.Conn) bool {
			_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			_, err := c.Read(make([]byte, 1))
			if err == nil || isTimeout(err) {
				return false
			}
			closed++
			return true
		})
	}
	if closed != 2*guestsOfOne {
		t.Errorf("%d of %d were closed", closed, len(idle))
	}
	// Another address is served (all of 127.0.0.0/8 is this host's).
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	c, err := d.Dial("tcp", m.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !isTimeout(err) {
		t.Errorf("another address: %v", err)
	}
	for _, c := range idle {
		c.Close()
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		_, err := Join(ctx, m.addr, tok, req(2), key(t), m.clock.now)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

func TestLimitForgets(t *testing.T) {
	var l limit
	now := time.Now()
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	for n := range wrongMax {
		if w := l.wait(a, now); w != 0 {
			t.Fatalf("after %d: %v", n, w)
		}
		l.note(a, now)
		now = now.Add(time.Second)
	}
	if w := l.wait(a, now); w != 55*time.Second {
		t.Errorf("%v", w)
	}
	if w := l.wait(b, now); w != 0 {
		t.Errorf("another address waits %v", w)
	}
	// One at a time becomes free again, and what is long ago is forgotten.
	if w := l.wait(a, now.Add(55*time.Second)); w != 0 {
		t.Errorf("%v", w)
	}
	if l.wait(a, now.Add(time.Hour)); len(l.wrong) != 0 {
		t.Errorf("%v", l.wrong)
	}
	// A flood from everywhere does not fill the memory.
	for n := range 30_000 {
		l.note(netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}), now)
	}
	if len(l.wrong) > 10_001 {
		t.Errorf("%d addresses are kept", len(l.wrong))
	}
}
