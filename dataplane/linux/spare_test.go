package linux_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/netns"
)

// TestSpare: the namespace that was made ahead becomes the next container's; the
// one after it gets another; closing leaves none.
func TestSpare(t *testing.T) {
	h := newHost(t)
	if err := h.k.Settle(context.Background()); err != nil {
		t.Fatal(err)
	}
	before := heldNamespaces(t)
	seen := map[uint64]bool{}
	for _, name := range []string{"a", "b", "c"} { // b comes before the next is made
		h.apply(diff.Create([]dataplane.Object{
			dataplane.Namespace{Meta: endpoint, Path: h.pin(name)},
			dataplane.Sysctl{Meta: endpoint, NS: h.pin(name), Name: "net/ipv4/ip_unprivileged_port_start", Value: "0"},
			dataplane.Sysctl{Meta: endpoint, NS: h.pin(name), Name: "net/ipv4/ping_group_range", Value: "0 1000"},
		}))
		ino, err := netns.Inode(h.pin(name))
		if err != nil || seen[ino] {
			t.Errorf("%s: inode %d: %v", name, ino, err)
		}
		seen[ino] = true
		if !strings.Contains(h.in(h.pin(name), "ip", "link", "show", "lo"), "LOOPBACK,UP") {
			t.Errorf("%s: lo is down", name)
		}
		if v := strings.Fields(h.in(h.pin(name), "cat", "/proc/sys/net/ipv4/ping_group_range")); strings.Join(v, " ") != "0 1000" {
			t.Errorf("%s: ping_group_range is %v", name, v)
		}
		if v := h.in(h.pin(name), "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"); strings.TrimSpace(v) != "0" {
			t.Errorf("%s: ip_unprivileged_port_start is %s", name, v)
		}
	}
	if err := h.k.Settle(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := heldNamespaces(t); n != before {
		t.Errorf("%d namespaces are held, before it were %d", n, before)
	}
	if err := h.k.Close(); err != nil {
		t.Fatal(err)
	}
	if n := heldNamespaces(t); n >= before {
		t.Errorf("%d namespaces are held after the end, before it were %d", n, before)
	}
}

// heldNamespaces counts this process's descriptors of network namespaces.
func heldNamespaces(t *testing.T) (n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, "net:[") {
			n++
		}
	}
	return n
}

// TestSysctlFails: one parameter that cannot be written fails its owner alone, and
// what was written before it stays told.
func TestSysctlFails(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	other := endpoint
	other.Owner.ID = "e2"
	h.apply(diff.Create([]dataplane.Object{dataplane.Namespace{Meta: endpoint, Path: h.pin("a")}}))
	op := func(m dataplane.Meta, name, value string) dataplane.Op {
		return dataplane.Op{Verb: dataplane.Create, Object: dataplane.Sysctl{Meta: m, NS: h.pin("a"), Name: name, Value: value}}
	}
	err := h.k.Apply(context.Background(), []dataplane.Op{
		op(endpoint, "net/ipv4/ip_unprivileged_port_start", "7"),
		op(endpoint, "net/ipv4/no_such_thing", "1"),
		op(endpoint, "net/ipv4/ip_default_ttl", "33"), // of an owner that failed
		op(other, "net/ipv4/tcp_sack", "0"),
	})
	if err == nil || !strings.Contains(err.Error(), "no parameter net/ipv4/no_such_thing") {
		t.Errorf("%v", err)
	}
	for name, want := range map[string]string{"ip_unprivileged_port_start": "7", "tcp_sack": "0"} {
		if v := strings.TrimSpace(h.in(h.pin("a"), "cat", "/proc/sys/net/ipv4/"+name)); v != want {
			t.Errorf("%s is %s, want %s", name, v, want)
		}
	}
	if v := strings.TrimSpace(h.in(h.pin("a"), "cat", "/proc/sys/net/ipv4/ip_default_ttl")); v == "33" {
		t.Error("a parameter of a failed owner was written")
	}
	err = h.k.Apply(context.Background(), []dataplane.Op{{Verb: dataplane.Create,
		Object: dataplane.Sysctl{Meta: endpoint, NS: h.pin("gone"), Name: "net/ipv4/tcp_sack", Value: "0"}}})
	if err == nil {
		t.Error("a parameter in a namespace that is not there was written")
	}
	h.apply([]dataplane.Op{{Verb: dataplane.Delete, Object: dataplane.Sysctl{Meta: endpoint, NS: h.pin("gone"), Name: "net/ipv4/tcp_sack"}}})
}
