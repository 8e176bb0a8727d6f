package bridge_test

import (
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane/diff"
	"linkspan/driver"
)

// publishRange publishes a range of both protocols, from a container's port on.
func publishRange(host, last, port uint16) func(*cnm.Sandbox) {
	return func(s *cnm.Sandbox) {
		for _, proto := range []string{"tcp", "udp"} {
			s.Ports = append(s.Ports, cnm.PublishedPort{Proto: proto, HostPort: host, HostPortEnd: last, Port: port})
		}
	}
}

// TestRanges: of 10,000 ports the first, one in the middle and the last lead to the
// same of the container, from everywhere; the neighbours lead where they belong.
func TestRanges(t *testing.T) {
	for name, hostWide := range map[string]bool{"bridge-nf off": false, "bridge-nf on": true} {
		t.Run(name, func(t *testing.T) { rangesOf(t, newWorld(t, func(e *driver.Env) { e.BridgeNF = hostWide })) })
	}
}

func rangesOf(t *testing.T, w *world) {
	n := w.net("wide", two)
	a := w.box(n, "a", 2)
	b := w.box(n, "b", 3, publishRange(20000, 29999, 20000))
	c := w.box(n, "c", 4, publishRange(30000, 30099, 30000)) // right behind
	w.box(n, "d", 5, publishRange(40000, 50000, 30000))      // shifted
	serve(t, a.s.Path, "a", 20000)
	serve(t, b.s.Path, "b", 19999, 20000, 25000, 29999, 30000)
	serve(t, c.s.Path, "c", 20000, 30000, 30099, 30100)
	serve(t, w.boxes["d"].s.Path, "d", 30000, 35000, 40000)
	w.neighbour()
	if len(w.plan(b))-len(w.plan(a)) != 4 {
		t.Errorf("%d objects for two ranges and two families", len(w.plan(b))-len(w.plan(a)))
	}
	all := func(host, want string) (out []way) {
		for _, port := range []int{20000, 25000, 29999} {
			for _, from := range []string{"machine", "host", "a", "b", "c"} {
				out = append(out, way{from, at(host, port), want})
			}
		}
		return out
	}
	for _, v4 := range []bool{true, false} {
		host, machine := hostAddr, machineAddr
		if !v4 {
			host, machine = hostAddr6, machineAddr6
		}
		w.ways("ranges", append(all(host, "b"),
			way{"machine", at(host, 25000), "b sees " + machine}, way{"machine", at(host, 19999), "closed"}, way{"a", at(host, 19999), "closed"},
			way{"machine", at(host, 30000), "c"}, way{"b", at(host, 30099), "c"}, way{"machine", at(host, 30100), "closed"},
			way{"machine", at(host, 40000), "d"}, way{"a", at(host, 45000), "d"}, way{"machine", at(host, 50000), "d"}, way{"machine", at(host, 50001), "closed"},
			way{"machine", at(b.addr(v4), 25000), "closed"},
			// A port of another machine is none of ours.
			way{"a", at(machine, 80), "machine"}, way{"a", at(machine, 20000), "closed"})...)
	}
	w.ways("loopback", way{"host", "127.0.0.1:20000", "b"}, way{"host", "127.0.0.1:25000", "b"}, way{"host", "127.0.0.1:29999", "b"}, way{"host", "127.0.0.1:30000", "c"},
		way{"host", "127.0.0.1:19999", "closed"})
	// The range moves to another container, and goes.
	was := w.plan(b)
	ports := b.s.Ports
	b.s.Ports = nil
	w.apply(diff.Update(was, w.plan(b)))
	before := w.plan(c)
	c.s.Ports = append(c.s.Ports, ports...)
	w.apply(diff.Update(before, w.plan(c)))
	w.ways("moved", way{"machine", at(hostAddr, 20000), "c"}, way{"machine", at(hostAddr6, 30000), "c"}, way{"b", at(hostAddr, 20000), "c"})
	now := w.plan(c)
	c.s.Ports = c.s.Ports[:2]
	w.apply(diff.Update(now, w.plan(c)))
	w.ways("gone", way{"machine", at(hostAddr, 20000), "closed"}, way{"machine", at(hostAddr6, 20000), "closed"}, way{"machine", at(hostAddr, 30000), "c"})
}

// TestOpenRanges: in gateway mode routed a range is open by the container's own
// address, up to its ends.
func TestOpenRanges(t *testing.T) {
	w := newWorld(t)
	n := w.net("plain", two, option(keyMode4, "routed"), option(keyMode6, "routed"))
	b := w.box(n, "b", 3, publishRange(8000, 17999, 20000))
	serve(t, b.s.Path, "b", 19999, 20000, 20031, 20032, 25000, 29951, 29952, 29999, 30000)
	w.neighbour()
	for _, v4 := range []bool{true, false} {
		for port, want := range map[int]string{19999: "closed", 20000: "b", 20031: "b", 20032: "b", 25000: "b", 29951: "b", 29952: "b", 29999: "b", 30000: "closed"} {
			w.ways("routed", way{"machine", at(b.addr(v4), port), want})
		}
	}
	if n := len(w.plan(b)); n > 2*2*250 {
		t.Errorf("%d objects", n)
	}
}
