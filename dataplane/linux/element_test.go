package linux_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"linkspan/dataplane"
	"linkspan/dataplane/diff"
)

// every builder's element, as declared.
func everyElement() []dataplane.Element {
	v4, v6 := netip.MustParseAddr("172.17.0.2"), netip.MustParseAddr("fd00:17::2")
	to4, to6 := netip.AddrPortFrom(v4, 80), netip.AddrPortFrom(v6, 80)
	return []dataplane.Element{
		dataplane.BridgeElement(network, table, "docker0"),
		dataplane.EgressElement(network, table, "br-0123456789ab"),
		dataplane.ICCElement(network, table, "docker0"),
		dataplane.MasqueradeElement(network, table, netip.MustParsePrefix("172.17.0.0/16")),
		dataplane.MasqueradeElement(network, table, netip.MustParsePrefix("172.18.0.0/16")), // adjacent
		dataplane.MasqueradeElement(network, table, netip.MustParsePrefix("10.0.0.7/32")),
		dataplane.MasqueradeElement(network, table, netip.MustParsePrefix("255.255.255.0/24")), // no end
		dataplane.MasqueradeElement(network, table, netip.MustParsePrefix("fd00:17::/64")),
		dataplane.EndpointElement(endpoint, table, v4, "docker0"),
		dataplane.EndpointElement(endpoint, table, v6, "docker0"),
		dataplane.PublishElement(endpoint, table, "tcp", netip.Addr{}, 80, to4),
		dataplane.PublishElement(endpoint, table, "udp", netip.IPv4Unspecified(), 53, to4),
		dataplane.PublishElement(endpoint, table, "sctp", netip.MustParseAddr("192.168.1.1"), 65535, to4),
		dataplane.PublishElement(endpoint, table, "tcp", netip.MustParseAddr("fd00::1"), 80, to6),
		dataplane.PublishElement(endpoint, table, "tcp", netip.Addr{}, 80, to6),
		dataplane.PublishRangeElement(endpoint, table, "tcp", 20000, 29999, v4),
		dataplane.PublishRangeElement(endpoint, table, "tcp", 30000, 30000, netip.MustParseAddr("172.17.0.3")), // adjacent
		dataplane.PublishRangeElement(endpoint, table, "tcp", 30001, 65535, v4),                                // no end
		dataplane.PublishRangeElement(endpoint, table, "udp", 1, 100, v4),
		dataplane.PublishRangeElement(endpoint, table, "sctp", 20000, 29999, v4),
		dataplane.PublishRangeElement(endpoint, table, "tcp", 20000, 29999, v6),
		dataplane.PublishRangeElement(endpoint, table, "udp", 20000, 29999, v6),
		dataplane.PublishRangeElement(endpoint, table, "sctp", 60000, 65535, v6),
		dataplane.OpenElements(endpoint, table, "tcp", netip.AddrPortFrom(v4, 128), 191)[0],
		dataplane.OpenElements(endpoint, table, "udp", netip.AddrPortFrom(v6, 65472), 65535)[0],
		dataplane.BorrowedElement(network, table, "br0"),
		dataplane.FlatElement(network, table, "br0"),
		dataplane.InternalElement(network, table, "br-internal"),
		dataplane.GatewayElement(network, table, v4, "docker0"),
		dataplane.GatewayElement(network, table, v6, "docker0"),
		dataplane.HoleElement(endpoint, table, v4, netip.MustParseAddr("172.17.0.3"), "tcp", 3306),
		dataplane.HoleElement(endpoint, table, v6, netip.MustParseAddr("fd00:17::3"), "udp", 53),
		dataplane.SNATElement(network, table, netip.MustParsePrefix("192.168.1.0/24"), netip.MustParseAddr("60.191.82.107")),
		dataplane.SNATElement(network, table, netip.MustParsePrefix("192.168.2.0/24"), netip.MustParseAddr("60.191.82.106")), // adjacent
		dataplane.SNATElement(network, table, netip.MustParsePrefix("fd00:18::/64"), netip.MustParseAddr("2001:db8::107")),
		dataplane.SNATEndpointElement(endpoint, table, v4, netip.MustParseAddr("60.191.82.105")),
		dataplane.SNATEndpointElement(endpoint, table, v6, netip.MustParseAddr("2001:db8::105")),
		dataplane.InboundElement(network, table, true, "br-open", dataplane.InboundOpen),
		dataplane.InboundElement(network, table, true, "br-routed", dataplane.InboundRouted),
		dataplane.InboundElement(network, table, false, "br-routed", dataplane.InboundRouted),
		dataplane.DirectElement(network, table, "docker0"),
		dataplane.TrustedElement(network, table, "eth1", "docker0"),
		dataplane.OpenElement(endpoint, table, "tcp", to4),
		dataplane.OpenElement(endpoint, table, "sctp", to6),
		dataplane.GuardForwarding(network, table, true),
		dataplane.GuardForwarding(network, table, false),
	}
}

// TestElementsRoundTrip: every kind of element is read back as it was declared,
// flow included, and nft prints its key as we do.
func TestElementsRoundTrip(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	page := dataplane.BasePage(table)
	objs := []dataplane.Object{page}
	for _, e := range everyElement() {
		objs = append(objs, e)
	}
	h.apply(diff.Create(objs))
	have := h.observe()
	listing := h.run("nft", "-n", "list", "table", "inet", table)
	for _, want := range everyElement() {
		o, ok := have.Get(want.Key())
		if !ok {
			t.Errorf("not seen: %s", want.Key())
			continue
		}
		got := o.(dataplane.Element)
		if got.Spec() != want.Spec() || string(got.KeyRaw) != string(want.KeyRaw) || string(got.Last) != string(want.Last) || got.Guard != want.Guard {
			t.Errorf("%s:\n got %+v\nwant %+v", want.Key(), got, want)
		}
		if (got.Flow == nil) != (want.Flow == nil) || got.Flow != nil && (got.Flow.To != want.Flow.To || got.Flow.Port != want.Flow.Port || got.Flow.PortEnd != want.Flow.PortEnd || got.Flow.Proto != want.Flow.Proto || got.Flow.Addr.IsValid() != want.Flow.Addr.IsValid()) {
			t.Errorf("%s: flow %+v, want %+v", want.Key(), got.Flow, want.Flow)
		}
		text := strings.NewReplacer("tcp", "6", "udp", "17", "sctp", "132", "/32", "").Replace(want.KeyText)
		if !strings.Contains(listing, text) && !strings.Contains(listing, want.KeyText) && want.Set != "forward_guard" {
			t.Errorf("nft does not print %q:\n%s", want.KeyText, listing)
		}
	}
	if n := have.Len(); n != len(objs) {
		t.Errorf("%d objects, want %d:\n%s", n, len(objs), dataplane.Text(have.All()))
	}
	keys, err := h.k.ObserveKeys(t.Context(), objs)
	if err != nil || keys.Len() != len(objs) {
		t.Errorf("by key: %d, %v", keys.Len(), err)
	}
	h.apply(diff.Delete(objs[1:]))
	if n := h.observe().Len(); n != 1 {
		t.Errorf("%d objects after deletion", n)
	}
}

// TestElementMends: ops that do not fit what is there are taken as wishes.
func TestElementMends(t *testing.T) {
	t.Parallel()
	to := netip.MustParseAddrPort("172.17.0.2:80")
	other := netip.MustParseAddrPort("172.17.0.3:81")
	port := func(to netip.AddrPort) dataplane.Element {
		return dataplane.PublishElement(endpoint, table, "tcp", netip.Addr{}, 8080, to)
	}
	sub := dataplane.MasqueradeElement(network, table, netip.MustParsePrefix("172.17.0.0/16"))
	h := newHost(t)
	h.apply(diff.Create([]dataplane.Object{dataplane.BasePage(table)}))
	for _, c := range []struct {
		name string
		op   dataplane.Op
		spec string
	}{
		{"change of nothing creates", dataplane.Op{Verb: dataplane.Change, Object: port(to)}, "172.17.0.2 . 80"},
		{"create of the same is success", dataplane.Op{Verb: dataplane.Create, Object: port(to)}, "172.17.0.2 . 80"},
		{"create of another changes", dataplane.Op{Verb: dataplane.Create, Object: port(other)}, "172.17.0.3 . 81"},
		{"change", dataplane.Op{Verb: dataplane.Change, Object: port(to)}, "172.17.0.2 . 80"},
		{"delete", dataplane.Op{Verb: dataplane.Delete, Object: port(other)}, "-"},
		{"delete of nothing", dataplane.Op{Verb: dataplane.Delete, Object: port(to)}, "-"},
		{"interval", dataplane.Op{Verb: dataplane.Create, Object: sub}, ""},
		{"the same interval", dataplane.Op{Verb: dataplane.Create, Object: sub}, ""},
		{"change of an interval", dataplane.Op{Verb: dataplane.Change, Object: sub}, ""},
		{"delete an interval", dataplane.Op{Verb: dataplane.Delete, Object: sub}, "-"},
		{"delete no interval", dataplane.Op{Verb: dataplane.Delete, Object: sub}, "-"},
	} {
		// Next to an op that is fine, so that the transaction as a whole fails first.
		fine := dataplane.Op{Verb: dataplane.Change, Object: dataplane.BridgeElement(network, table, "docker0")}
		h.apply([]dataplane.Op{c.op, fine})
		o, ok := h.observe().Get(c.op.Object.Key())
		if !ok && c.spec != "-" || ok && o.Spec() != c.spec {
			t.Errorf("%s: %v %v", c.name, ok, o)
		}
	}
}

// TestElementBlame: in one transaction, the owner of an impossible element is
// told the kernel's reason, and everyone else gets what they asked for.
func TestElementBlame(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.apply(diff.Create([]dataplane.Object{dataplane.BasePage(table), dataplane.MasqueradeElement(network, table, netip.MustParsePrefix("172.17.0.0/16"))}))
	who := func(id string) dataplane.Meta {
		return dataplane.Meta{Owner: dataplane.Owner{Kind: dataplane.OwnerPort, ID: id}}
	}
	to := netip.MustParseAddrPort("172.17.0.2:80")
	nowhere := dataplane.PublishElement(who("nowhere"), table, "tcp", netip.Addr{}, 1, to)
	nowhere.Set = "nope"
	wrong := dataplane.PublishElement(who("wrong"), table, "tcp", netip.Addr{}, 2, to)
	wrong.KeyRaw = wrong.KeyRaw[:4]
	wrong.KeyText = "wrong"
	overlap := dataplane.MasqueradeElement(who("overlap"), table, netip.MustParsePrefix("172.17.1.0/24"))
	after := dataplane.PublishElement(who("nowhere"), table, "tcp", netip.Addr{}, 3, to)
	good := dataplane.PublishElement(who("good"), table, "tcp", netip.Addr{}, 4, to)
	var ops []dataplane.Op
	for _, e := range []dataplane.Element{nowhere, wrong, overlap, after, good} {
		ops = append(ops, dataplane.Op{Verb: dataplane.Create, Object: e})
	}
	err := h.k.Apply(t.Context(), ops)
	var got []string
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		var f *dataplane.Failure
		if !errors.As(e, &f) {
			t.Fatalf("not a failure: %v", e)
		}
		got = append(got, f.Op.Object.About().Owner.ID)
	}
	if strings.Join(got, " ") != "nowhere wrong overlap" {
		t.Errorf("blamed: %q\n%v", got, err)
	}
	if !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "its set nope is not there") {
		t.Errorf("reason: %v", err)
	}
	have := h.observe()
	if _, ok := have.Get(good.Key()); !ok {
		t.Error("the good port is not there")
	}
	if _, ok := have.Get(after.Key()); ok {
		t.Error("an op of a failed owner was done")
	}
}

// TestManyElements: ten thousand ports in one transaction.
func TestManyElements(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.apply(diff.Create(append([]dataplane.Object{dataplane.BasePage(table)}, ports(10000, 10000)...)))
	if n := h.observe().Len(); n != 10001 {
		t.Errorf("%d objects", n)
	}
	h.apply(diff.Delete(ports(10000, 10000)))
	if n := h.observe().Len(); n != 1 {
		t.Errorf("%d objects after deletion", n)
	}
}
