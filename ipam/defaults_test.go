package ipam

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"linkspan/cnm"
)

func prefixes(s string) (out []netip.Prefix) {
	for f := range strings.FieldsSeq(s) {
		out = append(out, netip.MustParsePrefix(f))
	}
	return out
}

func TestDefaultPools(t *testing.T) {
	p := DefaultPools()
	if len(p) != 15+16 || p[0].String() != "172.17.0.0/16" || p[14].String() != "172.31.0.0/16" ||
		p[15].String() != "192.168.0.0/20" || p[30].String() != "192.168.240.0/20" {
		t.Errorf("%v", p)
	}
}

func TestDivide(t *testing.T) {
	for _, c := range []struct {
		base string
		size int
		want string
	}{
		{"10.10.0.0/22", 24, "10.10.0.0/24 10.10.1.0/24 10.10.2.0/24 10.10.3.0/24"},
		{"10.10.0.7/24", 24, "10.10.0.0/24"},
		{"255.255.255.0/24", 25, "255.255.255.0/25 255.255.255.128/25"},
		{"fd00::/63", 64, "fd00::/64 fd00:0:0:1::/64"},
		{"10.0.0.0/24", 16, ""},
		{"10.0.0.0/24", 33, ""},
	} {
		got := Divide(netip.MustParsePrefix(c.base), c.size)
		var s []string
		for _, p := range got {
			s = append(s, p.String())
		}
		if strings.Join(s, " ") != c.want {
			t.Errorf("%s by %d: %v", c.base, c.size, got)
		}
	}
	if n := len(Divide(netip.MustParsePrefix("10.0.0.0/8"), 30)); n != 1<<16 {
		t.Errorf("%d subnets", n)
	}
	if got := Divide(netip.Prefix{}, 8); got != nil {
		t.Errorf("%v", got)
	}
}

func TestFirstFree(t *testing.T) {
	for _, c := range []struct{ name, inUse, want string }{
		{"nothing in use", "", "172.17.0.0/16"},
		{"the first is taken", "172.17.0.0/16", "172.18.0.0/16"},
		{"by a part of it", "172.17.200.0/24 172.18.0.1/32", "172.19.0.0/16"},
		{"host bits set", "172.17.42.1/16", "172.18.0.0/16"},
		{"others do not matter", "10.0.0.0/8 192.168.1.0/24 fd00::/8", "172.17.0.0/16"},
		{"a company's whole 172.16/12", "172.16.0.0/12", "192.168.0.0/20"},
		{"and the home net", "172.16.0.0/12 192.168.0.0/24 192.168.16.0/24", "192.168.32.0/20"},
		{"the default route", "0.0.0.0/0", "172.17.0.0/16"},
		{"a VPN's two halves", "0.0.0.0/1 128.0.0.0/1", "172.17.0.0/16"},
		{"a VPN's four quarters", "0.0.0.0/2 64.0.0.0/2 128.0.0.0/2 192.0.0.0/2", "172.17.0.0/16"},
		{"an eighth is meant", "160.0.0.0/3", "192.168.0.0/20"},
		{"mapped", "::ffff:172.17.0.0/112", "172.18.0.0/16"},
		{"mapped default", "::ffff:0:0/96", "172.17.0.0/16"},
	} {
		got, err := FirstFree(DefaultPools(), prefixes(c.inUse))
		if err != nil || got.String() != c.want {
			t.Errorf("%s: %s, %v; want %s", c.name, got, err, c.want)
		}
	}
	_, err := FirstFree(DefaultPools(), prefixes("172.16.0.0/12 192.168.0.0/16"))
	if !errors.Is(err, cnm.ErrExhausted) || !strings.Contains(err.Error(), "among the 31 candidates: in use are 172.16.0.0/12, 192.168.0.0/16; give one with --subnet") {
		t.Errorf("%v", err)
	}
	_, err = FirstFree(prefixes("10.1.0.0/16 10.2.0.0/16 10.3.0.0/16 10.4.0.0/16 10.5.0.0/16 10.6.0.0/16 10.7.0.0/16"),
		prefixes("10.1.0.0/16 10.2.0.0/16 10.3.0.0/16 10.4.0.0/16 10.5.0.0/16 10.6.0.0/16 10.7.0.0/16"))
	if err == nil || !strings.Contains(err.Error(), "10.5.0.0/16, 2 more;") {
		t.Errorf("%v", err)
	}
	if _, err := FirstFree(nil, nil); err == nil {
		t.Error("a pool out of nothing")
	}
}
