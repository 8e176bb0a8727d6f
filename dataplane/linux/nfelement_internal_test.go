package linux

import (
	"bytes"
	"net/netip"
	"testing"

	"linkspan/dataplane"
)

func TestAfter(t *testing.T) {
	for _, c := range []struct{ prefix, next string }{
		{"172.17.0.0/16", "172.18.0.0"},
		{"10.0.0.255/32", "10.0.1.0"},
		{"172.17.255.0/24", "172.18.0.0"},
		{"0.0.0.0/0", ""},
		{"255.255.255.255/32", ""},
		{"fd00::/8", "fe00::"},
		{"fd00::ff00/120", "fd00::1:0"},
		{"ff00::/8", ""},
	} {
		p := netip.MustParsePrefix(c.prefix)
		last := dataplane.MasqueradeElement(dataplane.Meta{}, "t", p).Last
		b, ok := after(last)
		got := ""
		if ok {
			a, _ := netip.AddrFromSlice(b)
			got = a.String()
		}
		if got != c.next {
			t.Errorf("after %s: %q, want %q", c.prefix, got, c.next)
		}
		if back := before(b, len(last)); !bytes.Equal(back, last) {
			t.Errorf("before %x: %x, want %x", b, back, last)
		}
		if back, ok2 := prefixOf(p.Addr().AsSlice(), last); !ok2 || back != p {
			t.Errorf("prefix of %s..%s: %s", c.prefix, c.next, back)
		}
	}
	for _, c := range [][2]string{{"10.0.0.1", "10.0.0.3"}, {"10.0.0.0", "10.0.0.2"}, {"10.0.0.2", "10.0.0.5"}} {
		a, b := netip.MustParseAddr(c[0]), netip.MustParseAddr(c[1])
		if p, ok := prefixOf(a.AsSlice(), b.AsSlice()); ok {
			t.Errorf("%s-%s is no prefix: %s", a, b, p)
		}
	}
}

func TestVerdicts(t *testing.T) {
	for _, v := range []string{"accept", "drop", "continue", "return", "jump x", "goto a_b"} {
		b, err := encodeVerdict(v)
		if err != nil {
			t.Fatal(err)
		}
		var got string
		eachAttr(b, func(_ int, b []byte) { got = decodeVerdict(b) })
		if got != v {
			t.Errorf("%q became %q", v, got)
		}
	}
	for _, v := range []string{"", "reject", "jump", "accept x"} {
		if _, err := encodeVerdict(v); err == nil {
			t.Errorf("%q was taken", v)
		}
	}
}

func TestTextOf(t *testing.T) {
	for _, c := range []struct {
		typ  uint32
		raw  []byte
		want string
	}{
		{7<<12 | 12<<6 | 13, []byte{10, 0, 0, 1, 6, 0, 0, 0, 0x1f, 0x90, 0, 0}, "10.0.0.1 . tcp . 8080"},
		{12, []byte{47}, "47"},
		{41, append([]byte("br0"), make([]byte, 13)...), `"br0"`},
		{9, []byte{2, 0x42, 0, 0, 0, 1}, "02:42:00:00:00:01"},
		{60, []byte{1, 2}, "0x0102"},
		{7, []byte{1}, "0x01"},
	} {
		if got := textOf(c.typ, c.raw); got != c.want {
			t.Errorf("%d %x: %q, want %q", c.typ, c.raw, got, c.want)
		}
	}
}

// FuzzMessages: whatever the kernel (or a broken one) says, parsing ends.
func FuzzMessages(f *testing.F) {
	f.Add([]byte{8, 0, 1, 0, 1, 2, 3, 4})
	f.Add([]byte{3, 0, 1, 0})
	f.Add([]byte{255, 255, 255, 255, 0})
	f.Fuzz(func(_ *testing.T, b []byte) {
		listEntries(b)
		parseSet(b)
		stableExpressions(b)
		(&link{}).parseInfo(b)
		decodeVerdict(b)
	})
}
