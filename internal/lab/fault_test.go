package lab

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestFaults: each fault does what its name says, and ends.
func TestFaults(t *testing.T) {
	l := New(t)
	s := l.Switch("sw")
	a, b := l.Host("a"), l.Host("b")
	dev := s.Plug(a, "10.0.0.1/24")
	s.Plug(b, "10.0.0.2/24")
	ping := func(n, size string) string {
		wait := "1"
		if n == "3" { // of which all must come back
			wait = "20"
		}
		out, _ := a.Try("ping", "-c", n, "-i", "0.02", "-W", wait, "-M", "do", "-s", size, "10.0.0.2")
		return out
	}
	well := func(when string) {
		t.Helper()
		if out := ping("3", "1400"); !strings.Contains(out, " 0% packet loss") {
			t.Fatalf("%s: %s", when, out)
		}
	}
	well("before")
	s.Silence(b)
	if out := ping("1", "56"); !strings.Contains(out, "100% packet loss") {
		t.Errorf("silenced: %s", out)
	}
	if out := a.Run("ip", "-o", "link", "show", dev); !strings.Contains(out, "state UP") {
		t.Errorf("silence is seen as a carrier: %s", out)
	}
	s.Heal(b)
	well("healed")
	s.Deafen(b)
	c := s.Capture(b)
	b.Try("ping", "-c", "1", "-W", "1", "10.0.0.1")
	if err := c.Until(func(p Packet) bool { return p.Src.String() == "10.0.0.2" }); err != nil {
		t.Errorf("deafened, and not heard: %v", err)
	}
	if len(c.End()) == 0 {
		t.Error("nothing captured")
	}
	s.BlackHole(b, 1200)
	if out := ping("1", "1300"); !strings.Contains(out, "100% packet loss") {
		t.Errorf("black hole: %s", out)
	}
	if out := ping("1", "1000"); !strings.Contains(out, " 0% packet loss") {
		t.Errorf("what fits into it: %s", out)
	}
	s.Lose(b, 30)
	if out := ping("60", "56"); strings.Contains(out, " 0% packet loss") || strings.Contains(out, "100% packet loss") {
		t.Errorf("30 %% lost: %s", out)
	}
	s.Throttle(b, "50mbit")
	s.Heal(b)
	s.Cut(b)
	s.Mend(b)
	well("after all")
	end := s.Delay(b, 30*time.Millisecond)
	out := ping("3", "1400")
	took := regexp.MustCompile(`time=(\d+)`).FindAllStringSubmatch(out, -1)
	for _, m := range took {
		if ms, _ := strconv.Atoi(m[1]); ms < 60 {
			t.Errorf("30 ms each way: %s", out)
		}
	}
	if len(took) != 3 {
		t.Errorf("delayed, and lost: %s", out)
	}
	end()
	well("without delay")
}
