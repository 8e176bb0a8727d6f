package explain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/reading"
	"linkspan/internal/golden"
	"linkspan/internal/worldtest"
	"linkspan/keeper"
)

var (
	four4   = netip.IPv4Unspecified()
	six6    = netip.IPv6Unspecified()
	forward = netip.MustParseAddrPort("172.17.0.2:80")
)

// held is a keeper that holds all ports of a world.
type held struct {
	w   *worldtest.World
	err error
}

func (h held) Ports(context.Context) (out []keeper.PortRequest, err error) {
	for _, s := range h.w.Boxes {
		for _, p := range s.Ports {
			q := keeper.PortRequest{Owner: s.ID, Proto: p.Proto, Addr: p.HostIP, Port: p.HostPort, PortEnd: p.HostPortEnd}
			if p.HostIP.IsValid() {
				out = append(out, q)
				continue
			}
			four, six := q, q
			four.Addr, six.Addr = four4, six6
			six.ForwardTo = forward
			out = append(out, four, six)
		}
	}
	return out, h.err
}

func sources(w *worldtest.World) Sources {
	return Sources{World: w.Diagnose(), Observer: w, Keeper: held{w: w}}
}

func of(t *testing.T, w *worldtest.World, subject string, kind Kind) *Explanation {
	t.Helper()
	e, err := Of(context.Background(), sources(w), subject, kind)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	return e
}

func text(t *testing.T, e *Explanation) string {
	t.Helper()
	var b strings.Builder
	if err := e.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	w := world()
	for _, c := range []struct{ name, subject string }{
		{"container", "web"}, {"two-networks", "db"}, {"stopped", "old"}, {"shares", "side"}, {"host-mode", "mon"},
		{"linked", "second"}, {"network", "shop"}, {"internal", "vault"}, {"port", "8080"}, {"loopback-port", "127.0.0.1:9090"},
		{"range-port", "20007/tcp"}, {"six-port", "8081"},
	} {
		t.Run(c.name, func(t *testing.T) { golden.Compare(t, "testdata/"+c.name+".txt", text(t, of(t, w, c.subject, ""))) })
	}
	golden.Compare(t, "testdata/host.txt", text(t, of(t, w, "host", KindHost)))
	b, err := json.MarshalIndent(of(t, w, "8080", ""), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "testdata/port.json", string(b)+"\n")
}

// world is the usual one, with resolvers that answer.
func world() *worldtest.World {
	w := worldtest.New()
	w.Live.Listening = map[string][]reading.Socket{}
	for _, s := range w.Boxes {
		if s.Answers {
			w.Live.Listening[s.Path] = []reading.Socket{{Proto: "udp", Addr: dataplane.ResolverAddr, Port: dataplane.ResolverBound}}
		}
	}
	return w
}

// TestAll: every declared object is told by the explanation of its owner, once, and
// every line that shows one is on one line.
func TestAll(t *testing.T) {
	w := world()
	objs, err := w.Objects(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	subjects := []string{"host"}
	for _, c := range w.Ctrs {
		subjects = append(subjects, c.Name)
	}
	for _, n := range w.Nets {
		subjects = append(subjects, n.ID)
	}
	for _, s := range subjects {
		kind := KindAny
		if s == "host" {
			kind = KindHost
		}
		e := of(t, w, s, kind)
		once := map[string]bool{}
		for _, g := range e.Groups {
			for _, it := range g.Items {
				if it.Key != "" && once[it.Key] {
					t.Errorf("%s: %s is told twice", s, it.Key)
				}
				once[it.Key], told[it.Key] = true, true
				if it.What == "" || it.Why == "" || it.Where == "" || strings.Contains(strings.Join(it.Show, ""), "\n") {
					t.Errorf("%s: %+v", s, it)
				}
				if it.Key != "" && len(it.Show) == 0 {
					t.Errorf("%s: nothing shows %s", s, it.Key)
				}
			}
		}
	}
	for _, o := range objs {
		if !told[o.Key()] {
			t.Errorf("nobody tells of %s (%s)", o.Key(), o.About().Owner)
		}
	}
}

func TestLive(t *testing.T) {
	w := world()
	veth := w.Boxes[0].Endpoints[0].HostIf
	w.Gone["addr docker0 172.17.0.1/16"] = true
	w.Other["link "+veth] = dataplane.Veth{Name: veth, PeerNS: w.Boxes[0].Path, PeerName: "eth0", PeerMAC: "02:42:ac:11:00:02"}
	w.Gone["route "+w.Boxes[0].Path[len("/run/linkspan/netns/"):]+":eth0 0.0.0.0/0"] = true
	e := of(t, w, "web", "")
	if e.Missing != 2 || e.Different != 1 {
		t.Errorf("%d missing, %d different", e.Missing, e.Different)
	}
	golden.Compare(t, "testdata/damaged.txt", text(t, e))

	src := sources(w)
	src.Observer, src.Keeper = nil, nil
	e, err := Of(context.Background(), src, "web", "")
	if err != nil || e.Missing != 0 || !strings.Contains(text(t, e), "the kernel was not asked") {
		t.Errorf("%v\n%s", err, text(t, e))
	}
	w.Live.Listening = nil
	if e := of(t, w, "api", ""); e.Missing != 1 || !strings.Contains(text(t, e), "the resolver's sockets") {
		t.Errorf("no resolver: %s", text(t, e))
	}
}

// TestKeeper: a port that the keeper does not hold is told.
func TestKeeper(t *testing.T) {
	w := world()
	src := sources(w)
	empty := worldtest.New()
	empty.Boxes = nil
	src.Keeper = held{w: empty}
	e, err := Of(context.Background(), src, "8080", "")
	if err != nil || e.Missing != 1 {
		t.Errorf("%v\n%s", err, text(t, e))
	}
	src.Keeper = held{w: w, err: errors.New("it is away")}
	if _, err := Of(context.Background(), src, "8080", ""); err == nil || !strings.Contains(err.Error(), "the keeper's ports: it is away") {
		t.Errorf("%v", err)
	}
}

// TestWhich: what a word means when it could mean several things.
// TestWhose: what ip and nft print leads to who it is for.
// TestMany: what there is much of is counted for people, and whole as JSON.
func TestMany(t *testing.T) {
	w := world()
	for i := range 60 {
		w.Run(fmt.Sprintf("c%02d", i), nil, w.Nets[2])
		w.Boxes[0].Ports = append(w.Boxes[0].Ports, worldtest.Port(fmt.Sprintf("%d:80/tcp", 10000+i)))
	}
	e := of(t, w, w.Nets[2].ID, "")
	if out := text(t, e); !strings.Contains(out, "more (--json has all)") || len(e.Facts) < 60 || strings.Count(out, "\n") > 80 {
		t.Errorf("%d facts:\n%s", len(e.Facts), out)
	}
	e = of(t, w, "web", "")
	if out := text(t, e); !strings.Contains(out, "… and 57 more in publish4_any") {
		t.Errorf("\n%s", out)
	}
	to := reading.Tuple{Dst: netip.MustParseAddrPort("192.168.99.31:8080")}
	w.Live.Tracked = []reading.Flow{{Proto: "tcp", Original: to, DNAT: true}, {Proto: "tcp", Reply: to}}
	if out := text(t, of(t, w, "8080", "")); !strings.Contains(out, "one open connection to it") {
		t.Errorf("\n%s", out)
	}
}

// TestAtStart: a port of a container that does not run is its, and no riddle.
func TestAtStart(t *testing.T) {
	w := world()
	for i := range w.Ctrs {
		if w.Ctrs[i].Name == "old" {
			w.Ctrs[i].Published = []cnm.PublishedPort{worldtest.Port("8090:80/tcp"), {Proto: "tcp", Port: 81}}
		}
	}
	golden.Compare(t, "testdata/port-stopped.txt", text(t, of(t, w, "8090", "")))
	golden.Compare(t, "testdata/stopped-publishes.txt", text(t, of(t, w, "old", "")))
}

// TestPortOnly: an explanation of one port tells nothing of the others'.
