package dptest

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/diff"
)

// Rig is one kernel under test, empty, with what the suite needs around it.
type Rig struct {
	Kernel dataplane.Kernel
	// Pin returns the pin path of a sandbox by name.
	Pin func(name string) string
	// Stranger makes a bridge of that name that is not ours.
	Stranger func(name string)
	// Lose deletes a host link behind the engine's back.
	Lose func(link string)
	// Points returns the hook's points so far.
	Points func() []string
}

const table = "lspconf"

// Conformance runs the suite; open makes a fresh rig for each case.
func Conformance(t *testing.T, open func(t *testing.T) *Rig) {
	for name, run := range map[string]func(*suite){
		"whole": (*suite).whole, "twice": (*suite).twice, "gone": (*suite).gone, "adjust": (*suite).adjust,
		"stranger": (*suite).stranger, "owners": (*suite).owners, "elements": (*suite).elements,
		"lost": (*suite).lost, "sandbox": (*suite).sandbox, "peer": (*suite).peer, "cancelled": (*suite).cancelled, "points": (*suite).points,
		"page": (*suite).page, "missing": (*suite).missing, "borrowed": (*suite).borrowed, "live": (*suite).live, "flags": (*suite).flags,
		"ranges": (*suite).ranges, "tunnel": (*suite).tunnel, "tunnelchanges": (*suite).tunnelChanges, "tunnelbad": (*suite).tunnelBad, "onlink": (*suite).onlink,
		"meshelements": (*suite).meshElements,
	} {
		t.Run(name, func(t *testing.T) { run(&suite{t, open(t)}) })
	}
}

type suite struct {
	t *testing.T
	*Rig
}

func meta(kind dataplane.OwnerKind, id string) dataplane.Meta {
	return dataplane.Meta{Owner: dataplane.Owner{Kind: kind, ID: id, Name: id}, Reason: "a test's " + id}
}

func (s *suite) net() []dataplane.Object {
	m := meta(dataplane.OwnerNetwork, "net")
	return []dataplane.Object{
		dataplane.BasePage(table),
		dataplane.BridgeElement(m, table, "br0"),
		dataplane.MasqueradeElement(m, table, netip.MustParsePrefix("10.77.0.0/24")),
		dataplane.Bridge{Meta: m, Name: "br0", MAC: "02:42:0a:4d:00:01"},
		dataplane.Addr{Meta: m, Link: "br0", Prefix: netip.MustParsePrefix("10.77.0.1/24")},
		dataplane.Up{Meta: m, Link: "br0"},
	}
}

func (s *suite) box(name string, last byte) []dataplane.Object {
	m, ns := meta(dataplane.OwnerEndpoint, name), s.Pin(name)
	ip := netip.AddrFrom4([4]byte{10, 77, 0, last})
	return []dataplane.Object{
		dataplane.Namespace{Meta: m, Path: ns},
		dataplane.Veth{Meta: m, Name: "v" + name, Master: "br0", PeerNS: ns, PeerName: "eth0"},
		dataplane.Up{Meta: m, Link: "v" + name},
		dataplane.Up{Meta: m, NS: ns, Link: "lo"},
		dataplane.Up{Meta: m, NS: ns, Link: "eth0"},
		dataplane.Addr{Meta: m, NS: ns, Link: "eth0", Prefix: netip.PrefixFrom(ip, 24)},
		dataplane.Route{Meta: m, NS: ns, Link: "eth0", Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.77.0.1")},
		dataplane.PublishElement(m, table, "tcp", netip.Addr{}, 8000+uint16(last), netip.AddrPortFrom(ip, 80)),
		dataplane.EndpointElement(m, table, ip, "br0"),
	}
}

func (s *suite) must(ops []dataplane.Op) {
	s.t.Helper()
	if err := s.Kernel.Apply(context.Background(), ops); err != nil {
		s.t.Fatal(err)
	}
}

func (s *suite) observe(boxes ...string) *dataplane.State {
	s.t.Helper()
	if err := s.Kernel.Settle(context.Background()); err != nil {
		s.t.Fatal(err)
	}
	var pins []string
	for _, b := range boxes {
		pins = append(pins, s.Pin(b))
	}
	st, err := s.Kernel.Observe(context.Background(), pins)
	if err != nil {
		s.t.Fatal(err)
	}
	return st
}

// settled fails unless the kernel is exactly as wanted.
func (s *suite) settled(want []dataplane.Object, boxes ...string) {
	s.t.Helper()
	p := diff.Compute(dataplane.NewState(want...), s.observe(boxes...))
	for _, op := range p.Ops {
		s.t.Errorf("not as wanted: %s %s", op.Verb, dataplane.Text([]dataplane.Object{op.Object}))
	}
	for _, o := range p.Drift {
		s.t.Errorf("not as wanted: drift %s", o.Key())
	}
}

func (s *suite) whole() {
	want := append(s.net(), s.box("a", 2)...)
	s.must(diff.Create(want))
	s.settled(want, "a")
	keys, err := s.Kernel.ObserveKeys(context.Background(), want)
	if err != nil || keys.Len() != len(want) {
		s.t.Errorf("ObserveKeys: %d of %d, %v", keys.Len(), len(want), err)
	}
	if keys, err = s.Kernel.ObserveKeys(context.Background(), s.box("b", 3)); err != nil || keys.Len() != 0 {
		s.t.Errorf("ObserveKeys of nothing: %s %v", dataplane.Text(keys.All()), err)
	}
}

func (s *suite) twice() {
	want := append(s.net(), s.box("a", 2)...)
	s.must(diff.Create(want))
	s.must(diff.Create(want))
	s.settled(want, "a")
}

func (s *suite) gone() {
	net, a, b := s.net(), s.box("a", 2), s.box("b", 3)
	s.must(diff.Create(append(append(net, a...), b...)))
	s.must(diff.Delete(a))
	s.settled(append(net, b...), "b")
	s.must(diff.Delete(a))
	s.must(diff.Create(a)) // the name is free at once
	s.must(diff.Delete(append(append(net, a...), b...)))
	if st := s.observe("a", "b"); st.Len() != 0 {
		s.t.Errorf("left behind:\n%s", dataplane.Text(st.All()))
	}
}

// adjust: a create that finds something of ours which is different changes it.
func (s *suite) adjust() {
	want := append(s.net(), s.box("a", 2)...)
	s.must(diff.Create(want))
	br1 := dataplane.Bridge{Meta: meta(dataplane.OwnerNetwork, "other"), Name: "br1", MTU: 1400}
	for i, o := range want {
		switch o := o.(type) {
		case dataplane.Bridge:
			o.MTU = 1400
			want[i] = o
		case dataplane.Veth:
			o.Master, o.MTU, o.Hairpin = "br1", 1400, true
			want[i] = o
		case dataplane.Route:
			o.Via = netip.MustParseAddr("10.77.0.3")
			want[i] = o
		case dataplane.Element:
			if o.Data != nil {
				want[i] = dataplane.PublishElement(o.Meta, table, "tcp", netip.Addr{}, o.Flow.Port, netip.MustParseAddrPort("10.77.0.9:81"))
			}
		}
	}
	want = append(want, br1)
	s.must(diff.Create(want))
	s.settled(want, "a")
}

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

// lost: what someone deleted comes back, ports of a bridge included.
func (s *suite) lost() {
	want := append(append(s.net(), s.box("a", 2)...), s.box("b", 3)...)
	s.must(diff.Create(want))
	for _, l := range []string{"br0", "va"} {
		s.Lose(l)
		p := diff.Compute(dataplane.NewState(want...), s.observe("a", "b"))
		if len(p.Ops) == 0 {
			s.t.Errorf("the loss of %s is not seen", l)
		}
		s.must(p.Ops)
		s.settled(want, "a", "b")
	}
}

// sandbox: when a pin goes, everything in it and the veth go, and come back.
func (s *suite) sandbox() {
	want := append(s.net(), s.box("a", 2)...)
	s.must(diff.Create(want))
	s.must(diff.Delete([]dataplane.Object{dataplane.Namespace{Path: s.Pin("a")}}))
	s.must(diff.Compute(dataplane.NewState(want...), s.observe("a")).Ops)
	s.settled(want, "a")
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

func (s *suite) points() {
	ops := diff.Create(append(s.net(), s.box("a", 2)...))
	s.must(ops)
	got := s.Points()
	for _, op := range ops {
		before := slices.Index(got, "before create "+op.Object.Key())
		if after := slices.Index(got, "after create "+op.Object.Key()); before < 0 || after < before {
			s.t.Errorf("points of %s: before at %d, after at %d", op.Object.Key(), before, after)
		}
	}
}

func (s *suite) page() {
	want := s.net()
	s.must(diff.Create(want))
	p := want[0].(dataplane.Page)
	p.Text = strings.ReplaceAll(p.Text, "page_"+p.Hash, "page_00000001")
	p.Hash = "00000001"
	want[0] = p
	s.must(diff.Compute(dataplane.NewState(want...), s.observe()).Ops)
	s.settled(want)
}

// borrowed: a bridge that is not ours gets ports of ours and is otherwise left alone.
func (s *suite) borrowed() {
	s.Stranger("lan0")
	want := s.net()[:1]
	for _, o := range s.box("a", 2) {
		switch v := o.(type) {
		case dataplane.Veth:
			v.Master, v.Borrowed = "lan0", true
			o = v
		case dataplane.Route, dataplane.Element:
			continue
		}
		want = append(want, o)
	}
	s.must(diff.Create(want))
	s.settled(want, "a")
	s.must(diff.Delete(want))
	keys, err := s.Kernel.ObserveKeys(context.Background(), []dataplane.Object{dataplane.Bridge{Name: "lan0"}})
	if _, ok := keys.Get("link lan0"); err != nil || !ok {
		s.t.Errorf("the borrowed bridge is gone: %v", err)
	}
	v := want[2].(dataplane.Veth)
	v.Master = "nowhere"
	if err := s.Kernel.Apply(context.Background(), diff.Create([]dataplane.Object{want[1], v})); err == nil || !strings.Contains(err.Error(), "nowhere") {
		s.t.Errorf("a borrowed bridge that is not there: %v", err)
	}
}

// live: a sandbox that lives gets a second wire, which takes the default route, and
// loses it again.
func (s *suite) live() {
	m, ns := meta(dataplane.OwnerEndpoint, "a2"), s.Pin("a")
	was := append(s.net(), s.box("a", 2)...)
	s.must(diff.Create(was))
	gw := dataplane.Route{Meta: m, NS: ns, Link: "eth1", Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.78.0.1")}
	var now []dataplane.Object
	for _, o := range was {
		if _, ok := o.(dataplane.Route); !ok {
			now = append(now, o)
		}
	}
	now = append(now,
		dataplane.Bridge{Meta: m, Name: "br1"},
		dataplane.Addr{Meta: m, Link: "br1", Prefix: netip.MustParsePrefix("10.78.0.1/24")},
		dataplane.Up{Meta: m, Link: "br1"},
		dataplane.Veth{Meta: m, Name: "va2", Master: "br1", PeerNS: ns, PeerName: "eth1"},
		dataplane.Up{Meta: m, Link: "va2"},
		dataplane.Up{Meta: m, NS: ns, Link: "eth1"},
		dataplane.Addr{Meta: m, NS: ns, Link: "eth1", Prefix: netip.MustParsePrefix("10.78.0.2/24")},
		dataplane.Redirect{Meta: m, NS: ns},
		gw)
	for range 3 {
		s.must(diff.Update(was, now))
		s.settled(now, "a")
		s.must(diff.Update(now, was))
		st, err := s.Kernel.Observe(context.Background(), []string{ns})
		if err != nil {
			s.t.Fatal(err)
		}
		for _, o := range []dataplane.Object{dataplane.Addr{NS: ns, Link: "eth1", Prefix: netip.MustParsePrefix("10.78.0.2/24")}, gw} {
			if _, ok := st.Get(o.Key()); ok {
				s.t.Errorf("still there right after: %s", o.Key())
			}
		}
		s.settled(was, "a")
	}
}

// flags: what is set on bridges and their ports changes in place.
func (s *suite) flags() {
	want := append(s.net(), s.box("a", 2)...)
	s.must(diff.Create(want))
	for _, on := range []bool{true, false} {
		for i, o := range want {
			switch o := o.(type) {
			case dataplane.Bridge:
				o.NFCall = on
				want[i] = o
			case dataplane.Veth:
				o.Hairpin, o.Isolated = on, on
				want[i] = o
			}
		}
		s.must(diff.Compute(dataplane.NewState(want...), s.observe("a")).Ops)
		s.settled(want, "a")
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
