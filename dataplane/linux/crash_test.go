package linux_test

import (
	"strings"
	"sync"
	"testing"

	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/dataplane/linux"
)

// crash stops an Apply at its nth hook point as a kill would: nothing after it
// happens.
type crash struct {
	mu   sync.Mutex
	left int
	at   string
}

func (c *crash) hook(point string) {
	if strings.Contains(point, "doomed") || strings.Contains(point, "conntrack") {
		return // the background's own goroutine
	}
	c.mu.Lock()
	c.left--
	stop := c.left == 0
	if stop {
		c.at = point
	}
	c.mu.Unlock()
	if stop {
		panic(c)
	}
}

// survive runs fn and says whether it was stopped.
func (c *crash) survive(fn func()) (stopped bool) {
	defer func() {
		if r := recover(); r != nil {
			if r != any(c) {
				panic(r)
			}
			stopped = true
		}
	}()
	fn()
	return false
}

// TestKilledAnywhere: killed between any two messages of making or removing a
// container, the next process, which knows only the kernel, makes it whole or
// removes it without a trace.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		ops  func(web []dataplane.Object) []dataplane.Op
	}{{"create", diff.Create}, {"delete", diff.Delete}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cr := &crash{}
			h := newHost(t, func(cfg *linux.Config) { cfg.Hook = cr.hook })
			net, web := bridgeNet(), h.container("web", 2)
			for i, o := range web {
				if v, ok := o.(dataplane.Veth); ok {
					v.Hairpin = true
					web[i] = v
				}
			}
			whole := dataplane.NewState(append(net, web...)...)
			absent := dataplane.NewState(net...)
			h.apply(diff.Create(net))
			points := 0
			for n := 1; ; n++ {
				for _, want := range []*dataplane.State{whole, absent} {
					if c.name == "delete" {
						h.apply(diff.Create(web))
					}
					cr.left = n
					stopped := cr.survive(func() { h.apply(c.ops(web)) })
					cr.left = 0
					if !stopped {
						t.Logf("%d points", points)
						if points < 8 {
							t.Error("hardly any points were hit")
						}
						return
					}
					k := h.k
					h.k = h.open() // the next process
					h.apply(notSysctl(diff.Compute(want, h.observe(h.pin("web")), h.pin("web")).Ops))
					if p := diff.Compute(want, h.observe(h.pin("web"))); len(notSysctl(p.Ops))+len(p.Drift) > 0 {
						t.Errorf("killed at %q: %v %v", cr.at, p.Ops, p.Drift)
					}
					h.settle()
					if want == absent {
						if out := h.run("ip", "-o", "link"); strings.Count(out, "\n") != 2 { // lo and docker0
							t.Errorf("killed at %q: left behind:\n%s", cr.at, out)
						}
					}
					h.apply(diff.Delete(web))
					k.Close()
				}
				points++
			}
		})
	}
}

// TestKilledTunnel: the same for what spans hosts: bridge, tunnel, entries, routes.
func TestKilledTunnel(t *testing.T) {
	t.Parallel()
	span := append(spanning(), dataplane.Route{Meta: network, Dst: prefix("10.89.1.0/24"), Via: addr("10.99.0.2"), Link: "u0"})
	for name, ops := range map[string]func([]dataplane.Object) []dataplane.Op{"create": diff.Create, "delete": diff.Delete} {
		for then, want := range map[string]*dataplane.State{"whole": dataplane.NewState(span...), "absent": dataplane.NewState()} {
			t.Run(name+", then "+then, func(t *testing.T) { t.Parallel(); testKilledTunnel(t, span, ops, name == "delete", want) })
		}
	}
}

func testKilledTunnel(t *testing.T, span []dataplane.Object, ops func([]dataplane.Object) []dataplane.Op, there bool, want *dataplane.State) {
	cr := &crash{}
	h := newHost(t, func(cfg *linux.Config) { cfg.Hook = cr.hook })
	for _, cmd := range []string{"ip link add u0 type veth peer name p0", "ip link set u0 up", "ip link set p0 up", "ip addr add 10.99.0.1/24 dev u0"} {
		h.run(strings.Fields(cmd)...)
	}
	points := 0
	for stopped := true; stopped; points++ {
		if there {
			h.apply(diff.Create(span))
		}
		cr.left = points + 1
		stopped = cr.survive(func() { h.apply(ops(span)) })
		cr.left = 0
		k := h.k
		h.k = h.open()
		h.apply(diff.Compute(want, h.observe()).Ops)
		if p := diff.Compute(want, h.observe()); len(p.Ops) > 0 {
			t.Errorf("killed at %q: %v", cr.at, p.Ops)
		}
		h.apply(diff.Delete(span))
		h.settle()
		if out := h.run("ip", "-o", "link"); strings.Count(out, "\n") != 3 { // lo and the wire
			t.Errorf("killed at %q: left behind:\n%s", cr.at, out)
		}
		if out := h.run("ip", "route"); strings.Count(out, "\n") != 1 {
			t.Errorf("killed at %q: left behind:\n%s", cr.at, out)
		}
		k.Close()
	}
	if t.Logf("%d points", points-1); points <= 7 {
		t.Error("hardly any points were hit")
	}
}

// TestKilledLoadingPage: a page that was loaded and not sealed is loaded again.
func TestKilledLoadingPage(t *testing.T) {
	t.Parallel()
	cr := &crash{left: 2} // before create, between load and seal
	h := newHost(t, func(cfg *linux.Config) { cfg.Hook = cr.hook })
	page := dataplane.BasePage(table)
	if !cr.survive(func() { h.apply(op(dataplane.Create, page)) }) || !strings.HasPrefix(cr.at, "between load and seal") {
		t.Fatalf("stopped at %q", cr.at)
	}
	h.k = h.open()
	p := diff.Compute(dataplane.NewState(page), h.observe())
	if len(p.Ops) != 1 || p.Ops[0].Verb != dataplane.Change {
		t.Errorf("plan: %v", p.Ops)
	}
	h.apply(p.Ops)
	if got := h.page(); got.Spec() != page.Spec() {
		t.Errorf("page is %q", got.Hash)
	}
}
