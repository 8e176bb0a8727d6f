package dptest

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/diff"
)

func (s *suite) stranger() {
	s.Stranger("br0")
	want := s.net()
	err := s.Kernel.Apply(context.Background(), diff.Create(want))
	if !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "not ours") {
		s.t.Errorf("a stranger's bridge: %v", err)
	}
	s.must(diff.Delete([]dataplane.Object{want[3]}))
	keys, err := s.Kernel.ObserveKeys(context.Background(), want)
	if err != nil {
		s.t.Fatal(err)
	}
	if o, ok := keys.Get("link br0"); !ok {
		s.t.Error("the stranger was deleted")
	} else if _, ok := o.(dataplane.Foreign); !ok {
		s.t.Errorf("the stranger is seen as %T", o)
	}
	if _, ok := s.observe().Get("link br0"); ok {
		s.t.Error("Observe shows what is not ours")
	}
	// Nor does anyone's veth become its port.
	if err := s.Kernel.Apply(context.Background(), diff.Create(s.box("a", 2))); !errors.Is(err, cnm.ErrConflict) {
		s.t.Errorf("enslaved to a stranger: %v", err)
	}
}

// owners: a failing op ends its own owner's ops only.
func (s *suite) owners() {
	a, b := s.box("a", 2), s.box("b", 3)
	for i, o := range a {
		if v, ok := o.(dataplane.Veth); ok {
			v.Master = "nowhere"
			a[i] = v
		}
	}
	net := s.net()
	err := s.Kernel.Apply(context.Background(), diff.Create(append(append(slices.Clone(net), a...), b...)))
	var f *dataplane.Failure
	if !errors.As(err, &f) || f.Op.Object.Key() != "link va" || !strings.Contains(err.Error(), "endpoint a") || strings.Contains(err.Error(), "endpoint b") {
		s.t.Errorf("failures: %v", err)
	}
	st := s.observe("a", "b")
	for _, o := range append(net, b...) {
		if _, ok := st.Get(o.Key()); !ok {
			s.t.Errorf("missing, though its owner did not fail: %s", o.Key())
		}
	}
	for _, o := range a {
		if _, ok := st.Get(o.Key()); ok && o.Phase() > dataplane.PhaseLink && o.Key() != (dataplane.Up{NS: s.Pin("a"), Link: "lo"}).Key() {
			s.t.Errorf("done, though its owner had failed: %s", o.Key())
		}
	}
}

// elements: one transaction over several owners fails only for the one at fault,
// and deleting what is not there does not fail at all.
func (s *suite) elements() {
	s.must(diff.Create(s.net()))
	to := netip.MustParseAddrPort("10.77.0.2:80")
	good := dataplane.PublishElement(meta(dataplane.OwnerPort, "good"), table, "tcp", netip.Addr{}, 1, to)
	gone := dataplane.PublishElement(meta(dataplane.OwnerPort, "gone"), table, "tcp", netip.Addr{}, 2, to)
	bad := dataplane.PublishElement(meta(dataplane.OwnerPort, "bad"), table+"x", "tcp", netip.Addr{}, 3, to)
	err := s.Kernel.Apply(context.Background(), []dataplane.Op{
		{Verb: dataplane.Delete, Object: gone}, {Verb: dataplane.Create, Object: bad}, {Verb: dataplane.Change, Object: good}})
	if err == nil || strings.Contains(err.Error(), "good") || strings.Contains(err.Error(), "gone") || !strings.Contains(err.Error(), "port bad") {
		s.t.Errorf("failures: %v", err)
	}
	if _, ok := s.observe().Get(good.Key()); !ok {
		s.t.Error("the good element is not there")
	}
}

// peer: the name inside the sandbox is taken.
func (s *suite) peer() {
	s.must(diff.Create(append(s.net(), s.box("a", 2)...)))
	err := s.Kernel.Apply(context.Background(), []dataplane.Op{{Verb: dataplane.Create,
		Object: dataplane.Veth{Meta: meta(dataplane.OwnerEndpoint, "c"), Name: "vc", PeerNS: s.Pin("a"), PeerName: "eth0"}}})
	if !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "eth0") {
		s.t.Errorf("a second eth0: %v", err)
	}
}

func (s *suite) cancelled() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Kernel.Apply(ctx, diff.Create(s.net())); !errors.Is(err, context.Canceled) {
		s.t.Errorf("cancelled: %v", err)
	}
	if st := s.observe(); st.Len() != 0 {
		s.t.Errorf("done, though cancelled:\n%s", dataplane.Text(st.All()))
	}
}

// missing: what an object hangs on is not there.
func (s *suite) missing() {
	m := meta(dataplane.OwnerHost, "")
	for _, o := range []dataplane.Object{
		dataplane.Addr{Meta: m, Link: "nope", Prefix: netip.MustParsePrefix("10.0.0.1/8")},
		dataplane.Up{Meta: m, Link: "nope"},
		dataplane.Up{Meta: m, NS: s.Pin("nope"), Link: "lo"},
		dataplane.Route{Meta: m, Link: "nope", Dst: netip.MustParsePrefix("10.0.0.0/8")},
		dataplane.Sysctl{Meta: m, Name: "net/ipv4/conf/nope/forwarding", Value: "1"},
		dataplane.PublishElement(m, "nope", "tcp", netip.Addr{}, 1, netip.MustParseAddrPort("10.77.0.2:80")),
	} {
		if err := s.Kernel.Apply(context.Background(), []dataplane.Op{{Verb: dataplane.Create, Object: o}}); err == nil {
			s.t.Errorf("created on nothing: %s", o.Key())
		}
		if err := s.Kernel.Apply(context.Background(), []dataplane.Op{{Verb: dataplane.Delete, Object: o}}); err != nil && dataplane.InSandbox(o) == "" {
			s.t.Errorf("deleting nothing: %v", err)
		}
	}
}
