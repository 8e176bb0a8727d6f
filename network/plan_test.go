package network

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/internal/lab"
	"linkspan/store"
)

func storeOp(key, value string) store.Op { return store.Op{Key: key, Value: []byte(value)} }

// A plan makes nothing and says what a start then makes.
func TestPlan(t *testing.T) {
	w := newWorld(t)
	w.join(on("other", "bridge", "7000:80"))
	for _, r := range []Request{on("a", "bridge", "8080:80", "127.0.0.1:9000-9001:9000-9001/udp", "[::1]:81:80"), on("a", "bridge"), on("a", "none"), on("a", "host")} {
		before := w.everything()
		objs, err := w.Plan(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if d := lab.Differ(before, w.everything()); d != "" {
			t.Errorf("the plan made:\n%s", d)
		}
		s := w.join(r)
		made, err := w.sandboxObjects(w.cfg.Env(), s)
		if err != nil {
			t.Fatal(err)
		}
		if d := lab.Differ(anonymous(made), anonymous(objs)); d != "" {
			t.Errorf("made and planned differ:\n%s", d)
		}
		w.leave("a", false)
	}
}

// anonymous is a fragment as text, without the ids that are rolled anew each time.
func anonymous(objs []dataplane.Object) string {
	text := ""
	for _, o := range objs {
		text += o.Key() + ": " + o.Spec() + "\n"
	}
	for _, o := range objs {
		switch o := o.(type) {
		case dataplane.Veth:
			text = strings.ReplaceAll(text, o.Name, "VETH")
		case dataplane.Namespace:
			text = strings.ReplaceAll(text, o.Path[strings.LastIndexByte(o.Path, '/')+1:], "SANDBOX")
		}
	}
	return text
}

// What a start would refuse, a plan refuses.
func TestPlanRefuses(t *testing.T) {
	w := newWorld(t)
	w.join(on("web", "bridge", "80:80"))
	for name, c := range map[string]struct {
		r     Request
		class error
		says  string
	}{
		"port of a container": {on("b", "bridge", "80:80"), nil, "name-of-web"},
		"unknown network":     {on("b", "shop"), cnm.ErrNotFound, "network shop not found"},
		"absent target":       {Request{ContainerID: "b", Target: "nobody"}, cnm.ErrConflict, "start it first"},
		"--ip on the default bridge": {Request{ContainerID: "b", Endpoints: []EndpointWish{{Network: "bridge", IPv4: netip.MustParseAddr("172.17.0.9")}}},
			cnm.ErrInvalid, "user defined networks only"},
		"alias on the default bridge": {Request{ContainerID: "b", Endpoints: []EndpointWish{{Network: "bridge", Aliases: []string{"x"}}}},
			cnm.ErrInvalid, "alias"},
		"group MAC": {Request{ContainerID: "b", Endpoints: []EndpointWish{{Network: "bridge", MAC: "01:00:5e:00:00:01"}}},
			cnm.ErrInvalid, "01:00:5e:00:00:01 is a group's"},
		"MAC on the host": {Request{ContainerID: "b", Endpoints: []EndpointWish{{Network: "host", MAC: "02:42:00:00:00:01"}}},
			cnm.ErrInvalid, "mac-address and the network mode"},
		"none and another": {Request{ContainerID: "b", Endpoints: []EndpointWish{{Network: "bridge"}, {Network: "none"}}},
			cnm.ErrInvalid, "network none cannot be connected to any other"},
		"host and another": {Request{ContainerID: "b", Endpoints: []EndpointWish{{Network: "bridge"}, {Network: "host"}}},
			cnm.ErrInvalid, "network host cannot be connected to any other"},
	} {
		_, err := w.Plan(t.Context(), c.r)
		if err == nil || c.class != nil && !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if objs, err := w.Plan(t.Context(), Request{ContainerID: "b", Target: "web"}); err != nil || len(objs) != 0 {
		t.Errorf("into another's sandbox: %v, %v", objs, err)
	}
	if warnings, err := w.Check(t.Context(), on("b", "host", "80:80")); err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "discarded when using host network mode") {
		t.Errorf("ports with host: %q, %v", warnings, err)
	}
}
