package ipam

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"linkspan/cnm"
)

// A definition's address is kept while its container is away (R12).
func TestHold(t *testing.T) {
	p, c := newPool(t, "10.0.0.0/29", "10.0.0.1", "", Options{Network: "shop", Describe: func(h string) string { return "container " + h }})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(p.Hold(addr("10.0.0.3"), "db", ""))
	must(p.Hold(addr("10.0.0.3"), "db", ""))
	take(t, p, "10.0.0.2", "10.0.0.4")
	refused := func(want string) {
		t.Helper()
		for _, err := range []error{p.Hold(addr("10.0.0.3"), "thief", ""), p.AllocateSpecific(addr("10.0.0.3"), "thief"), p.Available(addr("10.0.0.3"), "thief", "")} {
			if !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "held by container db ("+want) {
				t.Errorf("%v, want %s", err, want)
			}
		}
	}
	refused("not running")
	must(p.AllocateSpecific(addr("10.0.0.3"), "db"))
	c.pass(5 * time.Second)
	refused("running, for 5 s")
	if !p.Release(addr("10.0.0.3")) {
		t.Error("not released")
	}
	c.pass(12 * time.Second)
	refused("stopped 12 s ago")
	c.pass(time.Hour)
	take(t, p, "10.0.0.5", "10.0.0.6")
	if a, err := p.Allocate("c"); !errors.Is(err, cnm.ErrExhausted) {
		t.Errorf("the held address was given: %s, %v", a, err)
	}
	must(p.AllocateSpecific(addr("10.0.0.3"), "db"))
	p.Unhold(addr("10.0.0.3"), "thief")
	p.Unhold(addr("10.0.0.3"), "db")
	refused("running")
	p.Release(addr("10.0.0.3"))
	take(t, p, "10.0.0.3") // all else is taken: it need not rest
}

// Outside the range, or taken by another, or the gateway's.
func TestHoldRefused(t *testing.T) {
	p, _ := newPool(t, "10.0.0.0/24", "10.0.0.1", "10.0.0.8/29", Options{})
	take(t, p, "10.0.0.8")
	if err := p.Hold(addr("10.0.0.8"), "db", ""); !errors.Is(err, cnm.ErrConflict) {
		t.Error(err)
	}
	if err := p.Hold(addr("10.0.0.1"), "db", ""); !errors.Is(err, cnm.ErrConflict) {
		t.Error(err)
	}
	if err := p.Hold(addr("10.1.0.1"), "db", ""); !errors.Is(err, cnm.ErrInvalid) {
		t.Error(err)
	}
	if err := p.Hold(addr("10.0.0.200"), "db", ""); err != nil { // outside of the range, inside the subnet
		t.Error(err)
	}
	p.Unhold(addr("10.0.0.200"), "db")
	if err := p.AllocateSpecific(addr("10.0.0.200"), "other"); err != nil {
		t.Error(err)
	}
}

func TestValidateWords(t *testing.T) {
	for _, c := range []struct{ subnet, gateway, rng, aux, want string }{
		{"172.20.0.0/16", "fd00::1", "", "", "invalid gateway fd00::1: parent subnet is an IPv4 block"},
		{"172.20.0.0/16", "172.20.0.0", "", "", "the network address"},
		{"172.20.0.0/16", "172.20.255.255", "", "", "the broadcast address"},
		{"172.20.0.0/16", "", "fd00::/80", "", "invalid ip-range fd00::/80: parent subnet is an IPv4 block"},
		{"172.20.0.0/16", "", "172.20.1.5/24", "", "invalid ip-range 172.20.1.5/24: it should be 172.20.1.0/24"},
		{"172.20.0.0/16", "", "172.16.0.0/12", "", "CIDR block is bigger than its parent subnet 172.20.0.0/16"},
		{"172.20.0.0/16", "172.20.0.1", "", "172.20.0.1", "is the gateway of subnet"},
		{"172.20.0.0/16", "", "", "172.21.0.1", "invalid auxiliary address router=172.21.0.1: parent subnet 172.20.0.0/16 doesn't contain"},
		{"fd00::/64", "fd00::1", "fd00::8000/113", "fd00::5", ""},
	} {
		p := cnm.Pool{Subnet: prefix(c.subnet), Gateway: addr(c.gateway), Range: prefix(c.rng)}
		if c.aux != "" {
			p.Aux = map[string]netip.Addr{"router": addr(c.aux)}
		}
		err := Validate(p)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for s, want := range map[string]string{"127.1.0.0/16": "loopback", "224.0.0.0/8": "multicast", "0.0.0.0/8": "this network", "ff02::/16": "multicast", "fe80::/64": "link-local", "0.0.0.0/0": "overlaps", "::/0": "overlaps", "172.20.0.0/16": "", "2001:db8::/64": "", "fd00::/64": ""} {
		err := Usable(prefix(s))
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", s, err)
		}
	}
}

// Versions of one thing hold its address together: the next is made while the last
// runs, and starts once that is gone.
func TestLineage(t *testing.T) {
	p, _ := newPool(t, "10.0.0.0/29", "10.0.0.1", "", Options{Lineage: func(h string) string { return strings.TrimRight(h, "0123456789") }})
	a := addr("10.0.0.3")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(p.Hold(a, "web1", "web"))
	must(p.AllocateSpecific(a, "web1"))
	must(p.Available(a, "web2", "web"))
	must(p.Hold(a, "web2", "web"))
	for _, err := range []error{p.Hold(a, "db1", "db"), p.Hold(a, "x", ""), p.Available(a, "db1", "db"), p.AllocateSpecific(a, "web2")} {
		if !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "held by web1 (running") {
			t.Errorf("%v", err)
		}
	}
	p.Release(a)
	if err := p.Hold(a, "db1", "db"); !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "web1 (stopped") {
		t.Errorf("%v", err)
	}
	p.Unhold(a, "web1")
	if err := p.AllocateSpecific(a, "db1"); !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "web2 (not running") {
		t.Errorf("%v", err)
	}
	must(p.AllocateSpecific(a, "web2"))
	take(t, p, "10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6")
	p.Release(a)
	p.Unhold(a, "web2")
	take(t, p, "10.0.0.3")
}
