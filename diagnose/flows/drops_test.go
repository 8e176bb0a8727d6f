package flows

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/dataplane/reading"
	"linkspan/internal/golden"
	"linkspan/internal/worldtest"
)

func logged(rule, in, out, proto, src, dst, what string) reading.Logged {
	l := reading.Logged{Time: noon, Prefix: dataplane.DropPrefix + rule, In: in, Out: out, Packet: reading.Packet{Proto: proto, Src: ap(src), Dst: ap(dst), Length: 60}}
	if proto == "tcp" {
		l.Packet.TCPFlags = what
	} else {
		l.Packet.ICMPType = what
	}
	return l
}

// addr is a container's address in the made world.
func addr(w *worldtest.World, container string, n int) string {
	for _, s := range w.Boxes {
		if s.OwnerName == container {
			return s.Endpoints[n].Addrs[0].Addr().String()
		}
	}
	panic(container)
}

func samples(w *worldtest.World) []reading.Logged {
	all := []reading.Logged{
		logged("unpublished", "eth0", "docker0", "tcp", "192.168.99.50:51704", addr(w, "web", 0)+":81", "SYN"),
		logged("isolated", "docker0", "br-shop", "tcp", addr(w, "web", 0)+":40000", addr(w, "api", 0)+":80", "SYN"),
		logged("icc-off", "br-apart", "br-apart", "icmp", addr(w, "first", 0), addr(w, "second", 0), "echo-request"),
		logged("internal", "br-vault", "eth0", "udp", addr(w, "db", 1)+":5353", "8.8.8.8:53", ""),
		logged("internal-host", "br-vault", "", "tcp", addr(w, "db", 1)+":40000", "192.168.99.31:22", "SYN"),
		logged("loopback", "docker0", "", "udp", addr(w, "web", 0)+":1", "127.9.0.1:80", ""),
		logged("not-forwarded", "eth0", "eth1", "tcp", "10.1.1.1:1", "10.2.2.2:2", "SYN,ACK"),
		logged("unpublished", "eth0", "docker0", "udp", "192.168.99.50:51704", "172.17.0.77:81", ""),
		logged("of-tomorrow", "eth0", "br-six", "tcp", "[2001:db8::1]:443", "[fd00:77::2]:80", "RST"),
	}
	all[1].PhysIn = "veth1"
	for i := range all {
		all[i].Time = noon.Add(time.Duration(i) * time.Second)
	}
	return all
}

func TestDropsText(t *testing.T) {
	w, _, world := made()
	tap := &fakeTap{}
	d := NewDrops(DropsConfig{Names: NewNames(world), Tap: tap, People: 1739, Log: slog.New(slog.DiscardHandler)})
	d.take(t.Context(), samples(w), 2)
	d.take(t.Context(), []reading.Logged{{Time: noon, Prefix: "ls:unpublished"}}, 0) // no packet in it
	var b strings.Builder
	if err := d.List(Match{}).WriteText(&b); err != nil {
		t.Fatal(err)
	}
	b.WriteString("\nfollowed:\n")
	told := map[string]bool{}
	for _, drop := range d.List(Match{}).Drops {
		if err := drop.WriteLine(&b, told); err != nil {
			t.Fatal(err)
		}
	}
	golden.Compare(t, "testdata/drops.txt", b.String())
	b.Reset()
	none := NewDrops(DropsConfig{Names: NewNames(world), Tap: tap, Log: slog.New(slog.DiscardHandler)})
	if err := none.List(Match{}).WriteText(&b); err != nil || !strings.Contains(b.String(), "no rule of Linkspan has dropped") {
		t.Errorf("%v %s", err, b.String())
	}
}

func TestDropsMatch(t *testing.T) {
	w, _, world := made()
	d := NewDrops(DropsConfig{Names: NewNames(world), Tap: &fakeTap{}, Log: slog.New(slog.DiscardHandler)})
	d.take(t.Context(), samples(w), 0)
	web, _ := world.Container("web")
	db, _ := world.Container("db")
	for _, c := range []struct {
		name string
		m    Match
		want string
	}{
		{"all, the newest first", Match{}, "of-tomorrow unpublished not-forwarded loopback internal-host internal icc-off isolated unpublished"},
		{"a container", Match{Container: web.ID}, "loopback isolated unpublished"},
		{"another", Match{Container: db.ID}, "internal-host internal"},
		{"a network", Match{Network: "apart"}, "icc-off"},
		{"one packet", Match{From: netip.MustParseAddr(addr(w, "db", 1)), To: netip.MustParseAddr("8.8.8.8"), Port: 53, Proto: "udp"}, "internal"},
		{"another port", Match{To: netip.MustParseAddr("8.8.8.8"), Port: 54}, ""},
		{"since", Match{Since: noon.Add(7 * time.Second)}, "of-tomorrow unpublished"},
		{"a rule", Match{Rule: "icc-off"}, "icc-off"},
		{"a protocol", Match{Proto: "icmp"}, "icc-off"},
	} {
		var got []string
		for _, drop := range d.Recent(c.m) {
			got = append(got, drop.Rule)
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %s, want %s", c.name, s, c.want)
		}
	}
	if (*Drops)(nil).Recent(Match{}) != nil {
		t.Error("nobody heard something")
	}
	for of, want := range map[string]Match{"": {}, "web": {Container: web.ID}, "side": {Container: web.ID}, "shop": {Network: "shop"}} {
		if m, err := d.Match(of); err != nil || m != want {
			t.Errorf("%q: %+v, %v", of, m, err)
		}
	}
	for of, want := range map[string]string{"wab": "did you mean web", "shup": "did you mean shop", "xyzzy-plugh": "there is no container"} {
		if _, err := d.Match(of); !errors.Is(err, cnm.ErrNotFound) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", of, err)
		}
	}
}

func TestDropsKept(t *testing.T) {
	_, _, world := made()
	d := NewDrops(DropsConfig{Names: NewNames(world), Tap: &fakeTap{}, Log: slog.New(slog.DiscardHandler)})
	for i := range Kept + 250 {
		l := logged("unpublished", "eth0", "docker0", "tcp", "192.168.99.50:1", "172.17.0.2:80", "SYN")
		l.Time = noon.Add(time.Duration(i) * time.Second)
		d.take(t.Context(), []reading.Logged{l}, 0)
	}
	got := d.Recent(Match{})
	if len(got) != Kept || !got[0].Time.Equal(noon.Add((Kept+249)*time.Second)) || !got[Kept-1].Time.Equal(noon.Add(250*time.Second)) {
		t.Errorf("%d are kept, %v to %v", len(got), got[len(got)-1].Time, got[0].Time)
	}
}

// TestDropsDeaf: while the kernel refuses, that is said, once, and tried again.
func TestDropsDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, world := made()
		tap := &fakeTap{fails: []error{syscall.EBUSY, syscall.EBUSY, syscall.EBUSY}}
		var log strings.Builder
		d := NewDrops(DropsConfig{Names: NewNames(world), Tap: tap, Group: 4242, Log: slog.New(slog.NewTextHandler(&log, nil))})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan bool)
		go func() { d.Run(ctx); close(done) }()
		time.Sleep(1500 * time.Millisecond)
		if n := d.Notes(); len(n) != 1 || !strings.Contains(n[0], "the next group has the same") {
			t.Errorf("%q", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if strings.Count(log.String(), "dropped packets are not told") != 1 || !strings.Contains(log.String(), "group=4242") {
			t.Errorf("logged was %s", log.String())
		}
		tap.log([]reading.Logged{logged("isolated", "docker0", "br-shop", "tcp", "172.17.0.2:1", "172.18.0.2:2", "SYN")}, 0)
		if len(d.Notes()) != 0 || len(d.Recent(Match{})) != 1 {
			t.Errorf("%q", d.Notes())
		}
		stop()
		<-done
	})
}

func TestDropsFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, world := made()
		d := NewDrops(DropsConfig{Names: NewNames(world), Tap: &fakeTap{}, Log: slog.New(slog.DiscardHandler)})
		d.take(t.Context(), samples(w), 0) // before: not followed
		ctx, stop := context.WithCancel(t.Context())
		var rules []string
		missed := 0
		slow := make(chan bool)
		done := make(chan error)
		go func() {
			done <- d.Follow(ctx, Match{Network: "bridge"}, func(drop Drop, m int) error {
				rules = append(rules, drop.Rule)
				missed += m
				<-slow
				return nil
			})
		}()
		synctest.Wait()
		for range 200 { // 4 of each batch are of that network
			d.take(t.Context(), samples(w), 0)
		}
		close(slow)
		synctest.Wait()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(rules) < 256 || len(rules) > 258 || missed+len(rules) < 700 || rules[0] != "unpublished" || rules[1] != "isolated" {
			t.Errorf("%d came, %d were missed: %v", len(rules), missed, rules[:4])
		}
		if len(d.later) != 0 {
			t.Error("it is given more")
		}
		bad := errors.New("bad")
		go func() { done <- d.Follow(t.Context(), Match{}, func(Drop, int) error { return bad }) }()
		synctest.Wait()
		d.take(t.Context(), samples(w), 0)
		if err := <-done; !errors.Is(err, bad) {
			t.Error(err)
		}
	})
}

// TestNames: a book is kept for a while, and looked up again for an address of our
// networks that it does not know.
func TestNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, world := made()
		n := NewNames(world)
		at := netip.MustParseAddrPort("172.18.0.99:80")
		web := netip.MustParseAddrPort(addr(w, "web", 0) + ":1")
		if _, e := n.At(t.Context(), web, at); e.Kind != KindNobody || e.Network != "shop" || e.String() != "172.18.0.99:80" {
			t.Errorf("%+v", e)
		}
		for _, net := range w.Nets {
			if net.Name == "shop" {
				s := w.Run("late", nil, net)
				s.Endpoints[0].Addrs = []netip.Prefix{netip.MustParsePrefix("172.18.0.99/16")}
			}
		}
		time.Sleep(2 * bookRest)
		if _, e := n.At(t.Context(), web, at); e.Container != "late" {
			t.Errorf("%+v", e)
		}
		// Who is known is not looked up again at once: names are for people.
		w.Boxes[0].OwnerName = "renamed"
		if e, _ := n.At(t.Context(), web, at); e.Container != "web" {
			t.Errorf("%+v", e)
		}
		time.Sleep(2 * bookAge)
		if e, _ := n.At(t.Context(), web, at); e.Container != "renamed" {
			t.Errorf("%+v", e)
		}
		for at, want := range map[string]string{"172.17.0.1:53": "host 172.17.0.1:53", "127.0.0.1:80": "host 127.0.0.1:80", "192.168.99.31:8080": "host 192.168.99.31:8080",
			"8.8.8.8:53": "8.8.8.8:53", "[2001:db8::1]:443": "[2001:db8::1]:443", "8.8.4.4": "8.8.4.4", "[::ffff:8.8.8.8]:1": "8.8.8.8:1"} {
			if e, _ := n.At(t.Context(), ap(at), ap(at)); e.String() != want {
				t.Errorf("%s: %s (%+v), want %s", at, e, e, want)
			}
		}
	})
}
