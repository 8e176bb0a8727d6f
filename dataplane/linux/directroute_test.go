package linux_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/diff"
)

// TestDirectRoute: a route over a link that is not ours bears our mark, is told when it
// goes, and gives way to nobody silently.
func TestDirectRoute(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for _, cmd := range []string{"ip link add u0 type veth peer name p0", "ip link set u0 up", "ip link set p0 up", "ip addr add 10.99.0.1/24 dev u0",
		"ip route add 10.88.64.0/26 via 10.99.0.7", "ip route add 10.66.0.0/16 via 10.99.0.7 proto 76"} {
		h.run(strings.Fields(cmd)...)
	}
	r := dataplane.Route{Meta: network, Dst: prefix("10.88.0.0/26"), Via: addr("10.99.0.2"), Link: "u0"}
	want := dataplane.NewState(r)
	h.apply(diff.Create([]dataplane.Object{r}))
	w := h.watch()
	if ops := diff.Compute(want, h.observe()).Ops; len(ops) != 0 {
		t.Errorf("%s %s", ops[0].Verb, ops[0].Object.Key()) // another instance's route is none of ours
	}
	uses, err := h.k.HostPrefixes(t.Context())
	if err != nil || slices.Contains(uses, r.Dst) || !slices.Contains(uses, prefix("10.66.0.0/16")) {
		t.Errorf("the host uses %v %v", uses, err)
	}
	repaired := func() bool {
		for range 20 {
			if !heard(w.Touched(), silence) {
				break
			}
			now := w.Take()
			have, err := h.k.ObserveTouched(t.Context(), now, nil)
			if err != nil {
				t.Fatal(err)
			}
			if now.Has(r) {
				_ = h.k.Apply(context.Background(), diff.Compute(want, have).Ops) // not while the link is down
			}
		}
		return len(diff.Compute(want, h.observe()).Ops) == 0
	}
	// Somebody's own route to the same place is in front: then it is said.
	bad := r
	bad.Dst = prefix("10.88.64.0/26")
	if err := h.k.Apply(t.Context(), diff.Create([]dataplane.Object{bad})); !errors.Is(err, cnm.ErrConflict) || !strings.Contains(err.Error(), "10.99.0.7") {
		t.Errorf("behind another route: %v", err)
	}
	for _, cmd := range []string{"ip route del 10.88.0.0/26", "ip link set u0 down", "ip link set u0 up", "ip route flush dev u0 proto 76"} {
		h.run(strings.Fields(cmd)...)
		if whole := repaired(); whole == strings.HasSuffix(cmd, "down") {
			t.Errorf("%s: whole %v", cmd, whole)
		}
	}
	h.apply(diff.Delete([]dataplane.Object{r, bad}))
	if s := h.observe(); s.Len() != 0 {
		t.Errorf("left behind:\n%s", dataplane.Text(s.All()))
	}
}
