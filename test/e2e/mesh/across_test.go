package mesh

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// acrossFault is one way for ann, on host1, not to reach a container on another host.
type acrossFault struct {
	name string
	b    string // as it is asked: "bob:9000"
	// on is the host where the fault is made, and undone: 1 is host2.
	on           int
	broken, undo string
	// code is the verdict, or several that are as right; host is where the cure is to be
	// typed, "" for this half's "not to be told".
	code, host string
	says       []string
	// twice: behind it is a second fault, which has a cure of its own.
	twice bool
}

// wall is a table of somebody else's that drops what matches.
func wall(hook, match string) string {
	return "nft add table ip wall; nft add chain ip wall c '{ type filter hook " + hook + " priority 5; }'; nft add rule ip wall c " + match + " drop"
}

func insideWall(c, hook, match string) string {
	return "w() { inside " + c + " nft \"$@\"; }; w add table ip wall; w add chain ip wall c '{ type filter hook " + hook + " priority 5; }'; w add rule ip wall c " + match + " drop"
}

const unwall = "nft delete table ip wall"

func acrossFaults() []acrossFault {
	const host2, host3 = 1, 2
	return []acrossFault{
		{name: "nobody listens there", b: "bob:9001", on: host2, code: "not-listening|listens-elsewhere", host: "host2", says: []string{"on host2: ", "9001"}},
		{name: "a firewall in the container there", b: "bob:9000", on: host2, broken: insideWall("bob", "input", "tcp dport 9000"), undo: "inside bob " + unwall,
			code: "container-firewall", host: "host2", says: []string{"on host2: a firewall inside bob", "tcp dport 9000"}},
		{name: "its answers are dropped there", b: "flo:9000", on: host2, broken: insideWall("flo", "output", "tcp sport 9000"), undo: "inside flo " + unwall,
			code: "container-firewall", host: "host2", says: []string{"on host2: ", "flo"}},
		{name: "the host there drops VXLAN", b: "bob:9000", on: host2, broken: wall("input", "udp dport 4789"), undo: unwall,
			code: "host-firewall", host: "host2", says: []string{"on host2: the host's firewall", "4789"}},
		{name: "the host there drops what it sends by VXLAN", b: "bob:9000", on: host2, broken: wall("output", "udp dport 4789"), undo: unwall,
			code: "host-firewall", host: "host2", says: []string{"on host2: the host's firewall", "4789"}},
		{name: "the host there drops WireGuard", b: "sid:9000", on: host2, broken: wall("input", "udp dport 51871"), undo: unwall,
			code: "host-firewall", host: "host2", says: []string{"on host2: ", "51871"}},
		{name: "the host there drops WireGuard of a routed network", b: "vic:9000", on: host2, broken: wall("input", "udp dport 51871"), undo: unwall,
			code: "host-firewall", host: "host2", says: []string{"on host2: ", "51871"}},
		{name: "the host there drops VXLAN of a routed network", b: "eve:9000", on: host3, broken: wall("input", "udp dport 4789"), undo: unwall,
			code: "host-firewall", host: "host3", says: []string{"on host3: ", "4789"}},
		{name: "the host there forwards nothing", b: "flo:9000", on: host2, broken: wall("forward", "tcp dport 9000"), undo: unwall,
			code: "host-firewall", host: "host2", says: []string{"on host2: ", "9000"}},
		{name: "an input policy there", b: "bob:9000", on: host2, undo: unwall,
			broken: "nft add table ip wall; nft add chain ip wall c '{ type filter hook input priority 5; policy drop; }'; nft add rule ip wall c tcp dport 2379-2382 accept; nft add rule ip wall c ct state established accept; nft add rule ip wall c icmp type echo-request accept",
			code:   "host-firewall", host: "host2", says: []string{"on host2: ", "policy"}},
		{name: "paused there", b: "bob:9000", on: host2, broken: "docker pause bob", undo: "docker unpause bob", code: "paused", host: "host2", says: []string{"on host2: bob is paused"}},
		{name: "stopped there", b: "bob:9000", on: host2, broken: "docker stop -t 0 bob", undo: "docker start bob", code: "not-running", host: "host2", says: []string{"on host2: bob does not run"}},
		{name: "not on the network", b: "dan:9000", on: host2, undo: "docker network disconnect -f plain dan", code: "no-shared-network", host: "host2", says: []string{"dan", "host2"}},
		{name: "the interface there is down", b: "bob:9000", on: host2, broken: "inside bob ip link set eth0 down", undo: "docker restart -t 0 bob", code: "link-down", host: "host2", says: []string{"on host2: ", "bob"}},
		{name: "a wrong route there", b: "bob:9000", on: host2, broken: "inside bob ip link add trap type veth peer name trap2; inside bob ip link set trap up; inside bob ip route add $ANN/32 dev trap",
			undo: "inside bob ip link del trap", code: "wrong-route", host: "host2", says: []string{"on host2: bob's route"}},
		{name: "a wrong route on the host there", b: "flo:9000", on: host2, broken: "ip link add trap type veth peer name trap2; ip link set trap up; ip route add $ANNFLAT/32 dev trap",
			undo: "ip link del trap", code: "wrong-route", host: "host2", says: []string{"on host2: the host's route"}},
		{name: "rp_filter there", b: "bob:9000", on: host2, broken: "inside bob ip link add trap type veth peer name trap2; inside bob ip link set trap up; inside bob sysctl -qw net.ipv4.conf.all.rp_filter=1; inside bob ip route add $ANN/32 dev trap metric 1",
			undo: "inside bob ip link del trap; inside bob sysctl -qw net.ipv4.conf.all.rp_filter=0", code: "rp-filter", host: "host2", twice: true, says: []string{"on host2: bob drops what comes from", "rp_filter"}},
		{name: "the tunnel there is down", b: "bob:9000", on: host2, broken: "ip link set vx-$(docker network ls -q --filter name=^plain$) down", undo: "linkspan reconcile",
			code: "link-down", host: "host2", says: []string{"on host2: "}},
		{name: "the entry that leads back is gone", b: "bob:9000", on: host2, broken: "m=$(bridge fdb show | awk '/dst 10.0.0.1/ {print $1, $3}' | head -20); echo \"$m\" | while read a d; do bridge fdb del $a dev $d self; done",
			undo: "linkspan reconcile", code: "tunnel-entry", host: "host2", says: []string{"on host2: ", "ann"}},
		{name: "the host there does not forward", b: "flo:9000", on: host2, broken: "sysctl -qw net.ipv4.ip_forward=0", undo: "sysctl -qw net.ipv4.ip_forward=1", code: "forwarding-off", host: "host2", says: []string{"on host2: ", "ip_forward"}},
		{name: "a small port there, large packets", b: "bob:9000/udp", on: host2, broken: "i=$(inside bob ip -o link show eth0 | sed 's/.*@if\\([0-9]*\\):.*/\\1/'); ip link set $(ip -o link | awk -F': ' -v i=$i '$1==i {print $2}' | cut -d@ -f1) mtu 1300",
			undo: "linkspan reconcile", code: "mtu", host: "host2", says: []string{"on host2: packets of more than 1300 bytes are lost"}},
		{name: "the host here drops VXLAN", b: "bob:9000", on: 0, broken: wall("input", "udp dport 4789"), undo: unwall, code: "host-firewall", host: "host1", says: []string{"4789"}},
	}
}

// TestWhyAcross: a question over two hosts is told whole, whichever of them is asked; what
// is wrong there is found, and mended by the cure as it is printed, typed there.
func TestWhyAcross(t *testing.T) {
	t.Parallel()
	s := newWhyStage(t)
	t.Run("healthy", s.healthyAcross)
	ann := map[string]string{"$ANNFLAT": s.where["ann on flat"].addr, "$ANN": s.where["ann on plain"].addr}
	for _, f := range acrossFaults() {
		for _, k := range []string{"$ANNFLAT", "$ANN"} {
			f.broken = strings.ReplaceAll(f.broken, k, ann[k])
		}
		t.Run(strings.ReplaceAll(f.name, " ", "_"), func(t *testing.T) { s.across(t, f) })
	}
	t.Run("black hole", s.blackHoleAcross)
	t.Run("gone", s.goneAcross)
	t.Run("not asked", s.notAsked)
}

// healthyAcross: of pairs that reach each other it is said so, from wherever it is asked.
func (s *whyStage) healthyAcross(t *testing.T) {
	in := s.on(t)
	for _, q := range []struct {
		asked    int
		from, to string
		path     string
	}{
		{0, "ann", "bob:9000", "through VXLAN"}, {0, "ann", "sid:9000", "encrypted by WireGuard"}, {0, "ann", "flo:9000", "a direct route"},
		{0, "ann", "eve:9000", "through VXLAN"}, {0, "ann", "vic:9000", "encrypted by WireGuard"}, {2, "eve", "flo:9000", "through VXLAN"},
		{1, "bob", "ann", "through VXLAN"}, {1, "flo", "ann:9000", "a direct route"},
		// Asked on B's host, and on one that has neither.
		{1, "ann", "bob:9000", "through VXLAN"}, {2, "ann", "bob:9000", "through VXLAN"}, {2, "vic", "ann:9000", "encrypted by WireGuard"}, {1, "eve", "ann:9000", "through VXLAN"},
	} {
		if strings.Contains(q.to, ":") {
			in.becomes(true, "at first", q.from, q.to)
		}
		if a := in.told(q.asked, q.from, q.to); a.Code != "ok" || !strings.Contains(a.Sentence, q.path) || a.Asked != s.name(q.asked) {
			t.Errorf("why %s %s on %s: %v", q.from, q.to, s.name(q.asked), a)
		}
	}
	// Another host's own address is asked of that host.
	if a := in.told(0, "ann", "10.0.0.2:9090"); a.Code != "ok" || !strings.Contains(a.Sentence, "both hosts have looked") {
		t.Errorf("a port published on host2: %v", a)
	}
	if a := in.told(0, "host", "10.0.0.2:9091"); a.Verdict != "blocked" || a.Host != "host2" {
		t.Errorf("a port that nobody has on host2: %v", a)
	}
}

// across makes a fault, sees it, asks, mends it as told where it is told, and sees that it
// is gone.
func (s *whyStage) across(t *testing.T, f acrossFault) {
	in := s.on(t)
	t.Cleanup(func() {
		if f.undo != "" {
			_, _ = in.sh(f.on, "set +e\n"+f.undo)
		}
	})
	if f.broken != "" {
		in.becomes(true, "before the fault", "ann", f.b)
		in.run(f.on, f.broken)
	}
	in.becomes(false, "with the fault", "ann", f.b)
	began := time.Now()
	a := in.told(0, "ann", f.b)
	t.Logf("%v: %s on %q: %s\n%s%s", time.Since(began).Round(time.Millisecond), a.Code, a.Host, a.Sentence, a.Cure, a.Advice)
	if !slices.Contains(strings.Split(f.code, "|"), a.Code) || a.Host != f.host {
		t.Fatalf("want %s on %q: %v", f.code, f.host, a)
	}
	for _, w := range f.says {
		if !strings.Contains(a.Sentence, w) {
			t.Errorf("the sentence does not say %q", w)
		}
	}
	// Whoever is asked says the same.
	if b := in.told(2, "ann", f.b); b.Code != a.Code || b.Host != a.Host || b.Cure != a.Cure {
		t.Errorf("asked on host3: %v", b)
	}
	switch {
	case a.Cure != "":
		in.run(in.number(a.Host), a.Cure)
		if b := a; f.twice {
			if a = in.told(0, "ann", f.b); a.Cure == "" || a.Cure == b.Cure {
				t.Fatalf("cured once, it is: %v", a)
			}
			in.run(in.number(a.Host), a.Cure)
		}
	case a.Advice != "" && f.broken == "":
		return // a program that does not listen
	default:
		t.Fatalf("no cure: %v", a)
	}
	in.becomes(true, "cured", "ann", f.b)
	if b := in.told(0, "ann", f.b); b.Code != "ok" {
		t.Errorf("it works now, but: %v", b)
	}
}

// blackHoleAcross: a switch that drops large packets and tells nobody is named, although
// neither host's kernel knows of it.
func (s *whyStage) blackHoleAcross(t *testing.T) {
	in := s.on(t)
	in.becomes(true, "at first", "ann", "bob:9000/udp")
	in.Switch.BlackHole(in.Daemons[1].Host, 1400)
	in.becomes(false, "with the black hole", "ann", "bob:9000/udp")
	for _, b := range []string{"bob:9000/udp", "flo:9000", "sid:9000"} {
		a := in.told(0, "ann", b)
		t.Logf("%s: %s", a.Code, a.Sentence)
		// The mesh finds it within half a minute by itself, and the networks follow.
		followed := slices.ContainsFunc(a.Steps, func(s whyStep) bool {
			return s.Look == "path" && !strings.Contains(s.Found, "1450") && !strings.Contains(s.Found, "1500")
		})
		if a.Code != "mtu" && !(a.Code == "ok" && (followed || b == "sid:9000")) || a.Code == "mtu" && !strings.Contains(a.Sentence, "large packets are lost on the wire to host host") {
			t.Errorf("why ann %s: %v", b, a)
		}
	}
	in.Switch.Heal(in.Daemons[1].Host)
	in.becomes(true, "healed", "ann", "bob:9000/udp")
}

// goneAcross: who was removed there is known to nobody.
func (s *whyStage) goneAcross(t *testing.T) {
	in := s.on(t)
	in.run(1, "docker run -d --name gus --network plain netprobe")
	in.meet(1, "gus")
	in.becomes(true, "at first", "ann", "gus:9000")
	delete(in.where, "gus")
	in.run(1, "docker rm -f gus")
	in.Daemons[0].Until(patience, "gus is nobody", func() bool { return in.told(0, "ann", "gus:9000").Code == "no-such-name" })
}

// notAsked: a host that cannot be asked is said so, and it is no yes.
func (s *whyStage) notAsked(t *testing.T) {
	in := s.on(t)
	in.becomes(true, "at first", "ann", "bob:9000")
	two := in.Daemons[1]
	two.Kill9()
	t.Cleanup(func() {
		if two.PID() == 0 {
			two.Run("--repair=false")
		}
	})
	a := in.why(0, "ann", "bob:9000")
	if a.Code != "not-asked" || a.Verdict != "unknown" || !strings.Contains(a.Sentence, "host2 cannot be asked: host2 answers no probes at 10.0.0.2:2382: its daemon does not run") {
		t.Errorf("its daemon is dead: %v", a)
	}
	if r := in.Daemons[2].Linkspan("why", "bob", "ann"); r.Code != 1 || !strings.Contains(r.Stderr, "host host2 cannot be asked") {
		t.Errorf("asked on host3 of a way that begins there: %d %s%s", r.Code, r.Stdout, r.Stderr)
	}
	two.Run("--repair=false")
	in.Daemons[0].Until(4*patience, "host2 is asked again", func() bool { return in.why(0, "ann", "bob:9000").Code == "ok" })

	in.Switch.Silence(two.Host)
	for _, code := range []string{"first", "later"} {
		began := time.Now()
		a := in.why(0, "ann", "bob:9000")
		if a.Verdict == "reaches" || !slices.Contains([]string{"not-asked", "peer-silent", "gateway-unreachable"}, a.Code) {
			t.Errorf("the wire is cut, %s: %v", code, a)
		}
		t.Logf("%s: after %v: %s", code, time.Since(began).Round(time.Millisecond), a.Code)
	}
	in.Switch.Heal(two.Host)
	in.Daemons[0].Until(4*patience, "the wire is mended", func() bool { return in.why(0, "ann", "bob:9000").Code == "ok" })
}
