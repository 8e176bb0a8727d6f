package mesh

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"linkspan/internal/testlog"
	"linkspan/store/mem"
)

func at(where string) func(*Config) {
	return func(c *Config) { c.From = func() string { return where } }
}

// copied is another machine with a host's identity, and what was on its disk.
func (n *node) copied(where string) *node {
	n.w.t.Helper()
	c := &node{w: n.w, h: n.h, view: n.w.common.View(), local: mem.New(mem.Options{}), tune: at(where)}
	c.ctl = newController(c)
	n.w.hosts = append(n.w.hosts, c)
	c.start()
	return c
}

// alone says that the copy is out of the mesh, and the host in it.
func alone(t *testing.T, host, copied, other *node) {
	t.Helper()
	time.Sleep(time.Minute)
	if why := copied.Status().Fenced; !strings.Contains(why, "another machine has this host's identity") || !strings.Contains(why, "at 10.9.0.1") || !strings.Contains(why, "at 10.9.0.99") ||
		!strings.Contains(why, "linkspan mesh leave --force") {
		t.Errorf("the copy: %q", why)
	}
	if why := host.Status().Fenced; why != "" {
		t.Errorf("the host itself: %q", why)
	}
	time.Sleep(5 * time.Minute)
	if p := other.Peers(); len(p) != 1 || !p[0].Alive {
		t.Errorf("seen by another: %+v", p)
	}
}

// TestClone: a second machine with a host's identity is put out of the mesh by itself,
// be the host there when it comes, or cut off at that moment.
func TestClone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var said testlog.Log
		w.log = slog.New(slog.NewTextHandler(&said, nil))
		a, b := w.join("a", at("10.9.0.1")), w.join("b")
		net := b.create("net", "10.1.0.0/16")
		w.settle()
		a.mustRun(net, "c1", "")
		w.settle()
		had := strings.Join(w.keys("endpoints/"), " ")
		time.Sleep(time.Hour)
		alone(t, a, a.copied("10.9.0.99"), b)
		if all := said.String(); strings.Count(all, "it is a copy of this one") != 1 || !strings.Contains(all, "at 10.9.0.99") {
			t.Errorf("the host says:\n%s", all)
		}
		if has := strings.Join(w.keys("endpoints/"), " "); has != had || had == "" {
			t.Errorf("what was the host's: %q, it was %q", has, had)
		}
	})
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.join("a", at("10.9.0.1")), w.join("b")
		time.Sleep(time.Minute)
		a.view.Cut(false)
		time.Sleep(time.Minute)
		c := a.copied("10.9.0.99")
		time.Sleep(time.Minute)
		if why := c.Status().Fenced; why != "" {
			t.Errorf("nobody else is there: %s", why)
		}
		a.view.Heal()
		alone(t, a, c, b)
	})
}

// TestNoClone: a host that starts anew, as often as it likes, is itself.
func TestNoClone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var said testlog.Log
		w.log = slog.New(slog.NewTextHandler(&said, nil))
		a, b := w.join("a", at("10.9.0.1")), w.join("b")
		for i := range 8 {
			time.Sleep(time.Duration(i) * 2 * time.Second) // its old lease is there, or not any more
			a.crash()
			a.start()
			time.Sleep(time.Duration(i%3) * 3 * time.Second)
		}
		a.crash()
		a.tune = at("10.9.0.77") // with another address, too
		a.start()
		time.Sleep(time.Minute)
		if why := a.Status().Fenced; why != "" || strings.Contains(said.String(), "identity") {
			t.Errorf("%q\n%s", why, said.String())
		}
		if p := b.Peers(); len(p) != 1 || !p[0].Alive {
			t.Errorf("%+v", p)
		}
	})
}
