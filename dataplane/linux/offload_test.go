package linux_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/dataplane/linux"
)

// TestOffload: a feature of a device that is not ours is switched, its prior value told
// first, and it is switched again when somebody else does so.
func TestOffload(t *testing.T) {
	t.Parallel()
	var noted []string
	refuse := error(nil)
	h := newHost(t, func(c *linux.Config) {
		c.OnShared = func(name, prior string) error { noted = append(noted, name+"="+prior); return refuse }
	})
	h.run("ip", "link", "add", "u0", "type", "veth", "peer", "name", "p0")
	o := dataplane.Offload{Meta: network, Link: "u0", Feature: "tx-checksum-ip-generic"}
	refuse = errors.New("the disk is full")
	if err := h.k.Apply(t.Context(), diff.Create([]dataplane.Object{o})); !errors.Is(err, refuse) {
		t.Errorf("not recorded: %v", err)
	}
	refuse, noted = nil, nil
	h.apply(diff.Create([]dataplane.Object{o}))
	is := func() bool {
		t.Helper()
		s, err := h.k.ObserveKeys(context.Background(), []dataplane.Object{o})
		have, ok := s.Get(o.Key())
		if err != nil || !ok {
			t.Fatalf("not seen: %v", err)
		}
		return have.(dataplane.Offload).On
	}
	if is() || len(noted) != 1 || noted[0] != "offload/u0/tx-checksum-ip-generic=on" {
		t.Errorf("on: %v, noted %v", is(), noted)
	}
	h.apply(diff.Create([]dataplane.Object{o}))
	if len(noted) != 1 {
		t.Errorf("noted again: %v", noted)
	}
	w := h.watch()
	h.run("ethtool", "-K", "u0", "tx-checksum-ip-generic", "on")
	if !heard(w.Touched(), patience) {
		t.Fatal("nothing heard")
	}
	now := w.Take()
	if !now.Has(o) {
		t.Errorf("heard %s", told(now))
	}
	have, err := h.k.ObserveTouched(t.Context(), now, []dataplane.Object{o})
	if err != nil {
		t.Fatal(err)
	}
	h.apply(diff.Compute(dataplane.NewState(o), have).Ops)
	if is() {
		t.Error("it is on again")
	}
	// Given back, as the recorded setting says.
	name, prior, _ := strings.Cut(noted[0], "=")
	was, ok := dataplane.OffloadOf(name, prior)
	if !ok {
		t.Fatal(name)
	}
	h.apply([]dataplane.Op{{Verb: dataplane.Change, Object: was}})
	if !is() {
		t.Error("it is not given back")
	}
	if _, ok := dataplane.OffloadOf("net/ipv4/ip_forward", "1"); ok {
		t.Error("a sysctl is no offload")
	}

	for _, bad := range []dataplane.Offload{{Link: "u0", Feature: "no-such-thing"}, {Link: "nope", Feature: "tx-checksum-ip-generic"}, {Link: "u0", Feature: "rx-lro", On: true}} {
		err := h.k.Apply(t.Context(), diff.Create([]dataplane.Object{bad}))
		if err == nil || bad.Link == "u0" && !errors.Is(err, cnm.ErrUnsupported) {
			t.Errorf("%s: %v", bad.Key(), err)
		}
		s, err := h.k.ObserveKeys(t.Context(), []dataplane.Object{bad})
		if _, ok := s.Get(bad.Key()); err != nil || ok != (bad.Feature == "rx-lro") {
			t.Errorf("%s: seen %v, %v", bad.Key(), ok, err)
		}
	}
}
