package dptest

import (
	"context"
	"net/netip"
	"strings"

	"linkspan/dataplane"
	"linkspan/dataplane/diff"
)

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
