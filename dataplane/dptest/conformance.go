package dptest

import (
	"context"
	"net/netip"
	"slices"
	"testing"

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
