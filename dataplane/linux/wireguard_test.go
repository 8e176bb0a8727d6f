package linux_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/netns"
	"linkspan/probe"
)

// tun makes a TUN device as the keeper does: it is there until the file is closed.
func (h *host) tun(name string) *os.File {
	h.t.Helper()
	probe.Require(h.t, probe.TUN)
	var f *os.File
	err := netns.Do(h.ns, func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		f = os.NewFile(uintptr(fd), "tun")
		r, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { f.Close() })
	return f
}

// TestUserSpaceWireGuard: the keeper's device is marked and sized, and left to it.
func TestUserSpaceWireGuard(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	want := []dataplane.Object{
		dataplane.WireGuard{Meta: network, Name: "ls-wg0", MTU: 1420, UserSpace: true},
		dataplane.Addr{Meta: network, Link: "ls-wg0", Prefix: prefix("fd00:5ec::1/64")},
		dataplane.Up{Meta: network, Link: "ls-wg0"},
		dataplane.VXLAN{Meta: network, Name: "vx-s", VNI: 0x4C0002, Local: addr("fd00:5ec::1"), Dev: "ls-wg0", Port: 4790, MTU: 1350},
		dataplane.Up{Meta: network, Link: "vx-s"},
		dataplane.FDB{Meta: network, Dev: "vx-s", MAC: dataplane.FDBDefault, Dst: addr("fd00:5ec::2")},
	}
	err := h.k.Apply(t.Context(), diff.Create(want))
	if err == nil || !strings.Contains(err.Error(), "keeper") || !strings.Contains(err.Error(), "ls-wg0") {
		t.Errorf("before the keeper made it: %v", err)
	}
	f := h.tun("ls-wg0")
	w := h.watch()
	h.apply(diff.Create(want))
	whole := func() {
		t.Helper()
		for _, op := range diff.Compute(dataplane.NewState(want...), h.observe()).Ops {
			t.Errorf("%s %s: %s", op.Verb, op.Object.Key(), op.Object.Spec())
		}
	}
	whole()
	h.apply(diff.Create(want))
	small := want[0].(dataplane.WireGuard)
	small.MTU = 1450
	want[0] = small
	h.apply(diff.Compute(dataplane.NewState(want...), h.observe()).Ops)
	whole()

	// The keeper died: the device is gone, and what was on it. The next one makes it again.
	drained(w.Touched())
	_ = w.Take()
	f.Close()
	if !heard(w.Touched(), patience) {
		t.Error("nothing heard of its end")
	}
	drained(w.Touched())
	_ = w.Take()
	h.tun("ls-wg0")
	if !heard(w.Touched(), patience) {
		t.Fatal("nothing heard of the next one")
	}
	now := w.Take()
	have, err := h.k.ObserveTouched(t.Context(), now, want)
	if err != nil || !now.Has(want[0]) {
		t.Errorf("%s: %v", told(now), err)
	}
	h.apply(diff.Compute(dataplane.NewState(want...), have).Ops)
	whole()

	h.apply(diff.Delete(want))
	if err := h.k.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := h.observe(); s.Len() != 0 {
		t.Errorf("left behind:\n%s", dataplane.Text(s.All()))
	}
	if out := h.run("ip", "link", "show", "ls-wg0"); strings.Contains(out, ",UP") {
		t.Errorf("the keeper's device is up, though nobody wants it:\n%s", out)
	}
}

// TestKernelWireGuard: made by the kernel where it can; where it cannot, that is said.
func TestKernelWireGuard(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	o := dataplane.WireGuard{Meta: network, Name: "ls-wg0", MTU: 1420}
	err := h.k.Apply(t.Context(), diff.Create([]dataplane.Object{o}))
	if errors.Is(err, cnm.ErrUnsupported) && strings.Contains(err.Error(), "modprobe wireguard") {
		t.Logf("this kernel has none: %v", err)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if ops := diff.Compute(dataplane.NewState(o), h.observe()).Ops; len(ops) != 0 {
		t.Errorf("%v", ops)
	}
	h.apply(diff.Delete([]dataplane.Object{o}))
	if s := h.observe(); s.Len() != 0 {
		t.Errorf("left behind:\n%s", dataplane.Text(s.All()))
	}
}
