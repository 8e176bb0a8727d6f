package ipam

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

func TestBitmap(t *testing.T) {
	var b bitmap
	want := map[uint64]bool{}
	r := rand.New(rand.NewPCG(1, 2))
	const size = 3*chunkBits + 100
	for range 40000 {
		off := r.Uint64N(size)
		switch r.IntN(3) {
		case 0, 1:
			if got := b.set(off); got == want[off] {
				t.Fatalf("set(%d) = %v", off, got)
			}
			want[off] = true
		case 2:
			b.clear(off)
			delete(want, off)
		}
		if b.count != uint64(len(want)) {
			t.Fatalf("count %d, want %d", b.count, len(want))
		}
	}
	for from := uint64(0); from <= size; from += 7 {
		wantOff, wantOK := uint64(0), false
		for o := from; o < size; o++ {
			if !want[o] {
				wantOff, wantOK = o, true
				break
			}
		}
		if off, ok := b.nextClear(from, size); ok != wantOK || ok && off != wantOff {
			t.Fatalf("nextClear(%d) = %d, %v; want %d, %v", from, off, ok, wantOff, wantOK)
		}
	}
	for o := range uint64(size) {
		b.set(o)
	}
	if off, ok := b.nextClear(0, size); ok {
		t.Fatalf("a full set has %d clear", off)
	}
	for o := range uint64(size) {
		b.clear(o)
	}
	if b.count != 0 || len(b.chunks) != 0 {
		t.Fatalf("an empty set keeps %d chunks", len(b.chunks))
	}
}

func TestWindow(t *testing.T) {
	for _, p := range []string{"10.0.0.0/8", "10.1.2.4/30", "0.0.0.0/0", "255.255.255.255/32", "fd00::/64", "::/0", "fd00::ffff:ffff:ffff:fff0/124"} {
		w := windowOf(netip.MustParsePrefix(p))
		for _, off := range []uint64{0, 1, 255, 256, 1 << 20, w.size / 2, w.size - 1} {
			if off >= w.size {
				continue
			}
			a := w.at(off)
			if back, ok := w.offset(a); !ok || back != off {
				t.Errorf("%s: %d is %s is %d, %v", p, off, a, back, ok)
			}
		}
	}
	w := windowOf(netip.MustParsePrefix("10.0.1.0/24"))
	for _, a := range []string{"10.0.0.255", "10.0.2.0", "fd00::", "::ffff:10.0.1.1", "::"} {
		if off, ok := w.offset(netip.MustParseAddr(a)); ok {
			t.Errorf("%s has offset %d", a, off)
		}
	}
	w = windowOf(netip.MustParsePrefix("fd00::/64"))
	for _, a := range []string{"fcff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fd00:0:0:1::", "fd00::8000:0:0:0", "10.0.0.1"} {
		if off, ok := w.offset(netip.MustParseAddr(a)); ok {
			t.Errorf("%s has offset %d", a, off)
		}
	}
}

func TestFirstAndLast(t *testing.T) {
	for p, want := range map[string][2]string{
		"172.17.0.0/16": {"172.17.0.1", "172.17.255.255"},
		"10.0.0.0/31":   {"10.0.0.0", "10.0.0.1"},
		"10.0.0.9/32":   {"10.0.0.9", "10.0.0.9"},
		"10.0.0.77/27":  {"10.0.0.65", "10.0.0.95"},
		"0.0.0.0/0":     {"0.0.0.1", "255.255.255.255"},
		"fd00::/64":     {"fd00::1", "fd00::ffff:ffff:ffff:ffff"},
		"fd00::2/127":   {"fd00::2", "fd00::3"},
	} {
		pre := netip.MustParsePrefix(p)
		if f, l := FirstHost(pre).String(), last(pre).String(); f != want[0] || l != want[1] {
			t.Errorf("%s: %s to %s, want %s", p, f, l, want)
		}
	}
}
