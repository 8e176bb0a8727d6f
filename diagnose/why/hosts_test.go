package why

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"linkspan/cnm"
	"linkspan/dataplane/reading"
	"linkspan/dataplane/ruleset"
	"linkspan/diagnose"
	"linkspan/internal/golden"
)

// fakeHosts are the other hosts, which answer as they are told; what goes over the wire is data.
type fakeHosts struct {
	t     *testing.T
	peers []cnm.Peer
	reply func(to cnm.Peer, q Question) (*Reply, error)
	got   []Question
	// small is the largest packet that passes, 0: not told; tried are those that were.
	small int
	tried []int
}

func (h *fakeHosts) Passes(_ context.Context, _ cnm.Peer, size int) (passes, known bool) {
	h.tried = append(h.tried, size)
	return size <= h.small, h.small > 0
}

func (h *fakeHosts) Peers() []cnm.Peer { return h.peers }

func (h *fakeHosts) Ask(_ context.Context, to cnm.Peer, q Question) (*Reply, error) {
	b, err := json.Marshal(q)
	if err != nil || json.Unmarshal(b, &q) != nil || len(b) > 3000 {
		h.t.Errorf("a question of %d bytes: %v", len(b), err)
	}
	h.got = append(h.got, q)
	r, err := h.reply(to, q)
	if b, bad := json.Marshal(r); err == nil {
		r = new(Reply)
		if bad != nil || json.Unmarshal(b, r) != nil {
			h.t.Error("the reply is no data")
		}
	}
	return r, err
}

func hostsOf(t *testing.T, reply func(to cnm.Peer, q Question) (*Reply, error)) *fakeHosts {
	return &fakeHosts{t: t, reply: reply, peers: []cnm.Peer{{ID: "h2", Name: "host2", Addr: addr("192.0.2.2"), Alive: true}, {ID: "h3", Name: "host3", Addr: addr("198.51.100.3")}}}
}

func (m *spanned) asks(t *testing.T, h Hosts, from, to string) (*Answer, error) {
	t.Helper()
	return Ask(t.Context(), m.whole(), from, to, m.options(h))
}

func (m *spanned) whole() *diagnose.World {
	return &diagnose.World{Declared: m.world, Kernel: m.world, Mesh: m, Table: table}
}

func (m *spanned) options(h Hosts) Options {
	o := Options{Processes: m.world, Firewall: func(ns string) (firewall, error) { return fakeRules{m.world, ns}, nil }}
	if h != nil {
		o.Hosts = h
	}
	return o
}

// theirHalf is what this world says to host2, whose container far (or dark, level) asks.
func (m *spanned) theirHalf(t *testing.T, q Half) *Answer {
	t.Helper()
	peer := cnm.Peer{ID: "h2", Name: "host2", Addr: addr("192.0.2.2"), Alive: true}
	r, err := Respond(t.Context(), m.whole(), peer, Question{Half: &q}, m.options(nil))
	if err != nil {
		t.Fatal(err)
	}
	return r.Answer
}

// halves are the questions of host2: far asks near, dark shy, level plain.
func halves() map[string]Half {
	far := func(name string) string { return strings.Repeat("f", 60) + name }
	half := func(from, src, to, dst, network string, path cnm.PathKind) Half {
		return Half{From: from, Container: far(from), To: to, Network: network + "-id", Path: path, Proto: "tcp", Src: addr(src), Dst: addr(dst), Port: 80, Most: 1370}
	}
	return map[string]Half{
		"overlay": half("far", "192.168.2.1", "near", "192.168.1.1", "span", cnm.PathVXLAN), "encrypted": half("dark", "172.30.2.1", "shy", "172.30.1.1", "secret", cnm.PathWireGuard),
		"direct": half("level", "10.50.2.1", "plain", "10.50.1.1", "flat", cnm.PathDirect),
	}
}

// serving is a world in which near, shy and plain listen.
func serving() *spanned {
	m := newSpanned()
	for _, b := range []string{"near", "shy", "plain"} {
		m.listen(b, "tcp 0.0.0.0:80", 1)
	}
	return m
}

func TestTheirs(t *testing.T) {
	drops := func(hook string, when func(ruleset.Packet) bool) func(*spanned, *Half) {
		return func(m *spanned, _ *Half) { m.drop("", hook, "C", "drop it", when) }
	}
	for _, c := range []struct {
		name, way string
		harm      func(*spanned, *Half)
		code      Code
		says      string
		cure      string // all of it; "advice", "some"
	}{
		{"well", "overlay", nil, OK, "far reaches near on port 80/tcp", ""},
		{"well, encrypted", "encrypted", nil, OK, "reaches shy", ""},
		{"well, direct", "direct", nil, OK, "reaches plain", ""},
		{"ping", "overlay", func(_ *spanned, q *Half) { q.Proto, q.Port = "icmp", 0 }, OK, "reaches near", ""},
		{"nobody listens", "overlay", func(_ *spanned, q *Half) { q.Port = 81 }, ListensElsewhere, "nobody listens on 81/tcp in near; open are 80/tcp", "advice"},
		{"paused", "overlay", func(m *spanned, _ *Half) { m.container("near").State = "paused" }, Paused, "near is paused", "linkspan unpause near"},
		{"stopped", "overlay", func(m *spanned, q *Half) {
			m.unbox("near")
			c := m.container("near")
			c.State, c.ExitCode, q.ToContainer = "exited", 137, c.ID
		}, NotRunning, "near does not run", "linkspan start near"},
		{"removed", "overlay", func(m *spanned, q *Half) { m.unbox("near"); q.ToContainer = "nobody" }, NoSuchName, "near is no more", "advice"},
		{"taken off the network", "overlay", func(m *spanned, q *Half) {
			q.ToContainer = m.container("near").ID
			e := &m.sandbox("near").Endpoints[0]
			e.NetworkID, e.NetworkName, e.Addrs = "shop-id", "shop", e.Addrs[:0]
		}, NoSharedNetwork, "near is not on network span (any more)", "linkspan network connect span near"},
		{"another address", "overlay", func(m *spanned, q *Half) { q.ToContainer, q.Dst = m.container("near").ID, addr("192.168.1.9") }, TunnelEntry, "near has 192.168.1.1 on network span", "advice"},
		{"an unknown network", "overlay", func(_ *spanned, q *Half) { q.Network = "other" }, NoPath, "not known here", "advice"},
		{"a firewall inside", "overlay", func(m *spanned, _ *Half) {
			m.drop("/ns/near", "input", "c", "tcp dport 80 drop", func(p ruleset.Packet) bool { return p.DstPort == 80 })
		}, ContainerFirewall, "a firewall inside near drops what goes from far to near", "some"},
		{"VXLAN in is dropped", "overlay", drops("input", func(p ruleset.Packet) bool { return p.DstPort == 4789 }), HostFirewall, "the host's firewall drops", "some"},
		{"VXLAN out is dropped", "overlay", drops("output", func(p ruleset.Packet) bool { return p.DstPort == 4789 }), HostFirewall, "the host's firewall drops", "some"},
		{"WireGuard in is dropped", "encrypted", drops("input", func(p ruleset.Packet) bool { return p.DstPort == 51871 }), HostFirewall, "the host's firewall drops", "some"},
		{"not forwarded", "direct", drops("forward", func(p ruleset.Packet) bool { return p.DstPort == 80 }), HostFirewall, "the host's firewall drops", "some"},
		{"its answers are not forwarded", "direct", drops("forward", func(p ruleset.Packet) bool { return p.SrcPort == 80 }), HostFirewall, "the answers of plain to level", "some"},
		{"no forwarding", "direct", func(m *spanned, _ *Half) {
			m.sysctls[" net/ipv4/ip_forward"], m.sysctls[" net/ipv4/conf/eth0/forwarding"] = "0", "0"
		}, ForwardingOff, "does not forward", "some"},
		{"the tunnel is down", "overlay", func(m *spanned, _ *Half) { m.link("", "vx-span").Up = false }, LinkDown, "vx-span", "ip link set vx-span up"},
		{"the tunnel is no port", "overlay", func(m *spanned, _ *Half) { m.link("", "vx-span").Master = "" }, WrongMaster, "not a port of its bridge", "linkspan reconcile"},
		{"the entry back is gone", "overlay", func(m *spanned, _ *Half) { m.unneigh("br-span") }, TunnelEntry, "nobody answers who asks for far", "linkspan reconcile"},
		{"the forwarding entry back is gone", "overlay", func(m *spanned, _ *Half) {
			m.unfdb(func(e reading.FDBEntry) bool { return e.MAC == farMAC && e.Dst.IsValid() })
		}, TunnelEntry, "does not know that far", "linkspan reconcile"},
		{"the route back is gone", "direct", func(m *spanned, _ *Half) { m.unroute("10.50.2.0/26") }, NoRoute, "route to level on host host2 is gone", "linkspan reconcile"},
		{"no key", "encrypted", func(m *spanned, _ *Half) { m.tunnel.Known = false }, NoTunnel, "does not know host host2's key", "linkspan reconcile"},
		{"another hardware address", "overlay", func(_ *spanned, q *Half) { q.MAC = "02:42:00:00:00:77" }, StaleNeighbour, "send to 02:42:00:00:00:77", "nsenter --net=/ns/near ip link set eth0 address 02:42:00:00:00:77"},
		{"a sender that is not known", "overlay", func(_ *spanned, q *Half) { q.Src = addr("192.168.2.9") }, TunnelEntry, "has not heard of far at 192.168.2.9", "advice"},
		{"a sender of a third host", "direct", func(_ *spanned, q *Half) { q.Src = addr("10.50.3.1") }, AddressConflict, "10.50.3.1 is taken to be on host host3", "advice"},
		{"forgotten", "overlay", func(m *spanned, _ *Half) { m.underlay = nil }, Forgotten, "forgotten", "advice"},
		{"a small wire", "overlay", func(m *spanned, q *Half) { m.link("", "eth0").MTU, q.Most, q.Proto = 1400, 1450, "tcp" }, MTU, "more than 1350 bytes from host host2 are lost: they arrive as 1500 bytes, and eth0 takes 1400", "ip link set eth0 mtu 1500"},
		{"a small port", "overlay", func(m *spanned, _ *Half) { m.link("", "vethnear").MTU = 1200 }, MTU, "more than 1200 bytes are lost: the host's interface vethnear", "linkspan reconcile"},
		{"rules that cannot be read", "overlay", func(m *spanned, _ *Half) { m.world.fails["sockets /ns/near"] = errors.New("no access") }, Unknown, "no access", "advice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, q := serving(), halves()[c.way]
			if c.harm != nil {
				c.harm(m, &q)
			}
			a := m.theirHalf(t, q)
			if a.Code != c.code || !strings.Contains(a.Sentence, c.says) {
				t.Errorf("%s: %s\nwant %s: %s", a.Code, a.Sentence, c.code, c.says)
			}
			cures(t, a, c.cure)
			if i := slices.IndexFunc(a.Steps, func(s Step) bool { return s.Host != "host1" }); m.underlay != nil && (i >= 0 || a.Verdict != Reaches && a.Host != "host1") {
				t.Errorf("where is it? %q, %+v", a.Host, a.Steps)
			}
			if t.Failed() {
				t.Log(steps(a))
			}
		})
	}
}

// unbox takes a sandbox away; its container stays.
func (m *spanned) unbox(name string) {
	m.boxes = slices.DeleteFunc(m.boxes, func(s *cnm.Sandbox) bool { return s.OwnerName == name })
}

func TestRespondRefuses(t *testing.T) {
	m := serving()
	bad := halves()["overlay"]
	bad.Src = addr("fd00::1")
	strange := halves()["overlay"]
	strange.Proto = "dccp"
	long := Whole{From: strings.Repeat("x", longest+1), To: "near"}
	for _, q := range []Question{{}, {Half: &bad}, {Half: &strange}, {Whole: &long}, {Who: strings.Repeat("x", longest+1)}} {
		if r, err := Respond(t.Context(), m.whole(), cnm.Peer{ID: "h2"}, q, m.options(nil)); err == nil {
			t.Errorf("%+v: %+v", q, r)
		}
	}
	r, err := Respond(t.Context(), m.whole(), cnm.Peer{ID: "h2"}, Question{Who: "near"}, m.options(nil))
	if err != nil || r.Found == nil || r.Found.Container.Name != "near" || len(r.Found.On) != 1 || r.Found.On[0].Name != "span" {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err = Respond(t.Context(), m.whole(), cnm.Peer{ID: "h2"}, Question{Who: "nobody"}, m.options(nil)); err != nil || r.Found != nil {
		t.Errorf("%+v, %v", r, err)
	}
	// A question whose way begins on a third host is not handed on: it would go round.
	w := Whole{From: "far", To: "near"}
	if r, err = Respond(t.Context(), m.whole(), cnm.Peer{ID: "h3"}, Question{Whole: &w}, m.options(hostsOf(t, nil))); err == nil || !strings.Contains(err.Error(), "runs on host host2") {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestOurs: the other half is asked for, and becomes a part of the answer.
func TestOurs(t *testing.T) {
	half := func(a Answer) func(cnm.Peer, Question) (*Reply, error) {
		return func(to cnm.Peer, q Question) (*Reply, error) {
			if to.Name != "host2" || q.Half == nil {
				return nil, errors.New("not this one")
			}
			a.Steps = []Step{{Part: There, Host: "host2", Where: "host", Look: "wrapped", Found: "VXLAN from host host1", State: Good}}
			return &Reply{Answer: &a}, nil
		}
	}
	refuses := func(cnm.Peer, Question) (*Reply, error) { return nil, errors.New("host2 answers no probes") }
	silent := func(m *spanned) { m.peer("host2", func(x *diagnose.Elsewhere) { x.Peer.Alive = false }) }
	for _, c := range []struct {
		name    string
		harm    func(*spanned)
		reply   func(cnm.Peer, Question) (*Reply, error)
		code    Code
		verdict Verdict
		host    string
		says    string
		text    string // of what is printed
	}{
		{"well", nil, half(Answer{Verdict: Reaches, Code: OK}), OK, Reaches, "", "near reaches far on port 80/tcp on host host2 (through VXLAN): both hosts have looked.", "The way there, on host2:"},
		{"blocked there", nil, half(Answer{Verdict: Blocked, Code: HostFirewall, Sentence: "the host's firewall drops it.", Cure: "nft it"}), HostFirewall, Blocked, "host2", "on host2: the host's firewall drops it.", "This mends it, typed on host2:\n\n  nft it"},
		{"blocked there, in words", nil, half(Answer{Verdict: Blocked, Code: NotListening, Sentence: "nobody listens.", Advice: "look whether the program runs"}), NotListening, Blocked, "host2", "on host2: nobody", "On host2: Look whether the program runs."},
		{"not to be told there", nil, half(Answer{Verdict: Unsure, Code: Unknown, Missing: []string{"far's sockets: no access"}}), Unknown, Unsure, "host1", "on host2: far's sockets: no access", "Missing: on host2"},
		{"not to be told there, unnamed", nil, half(Answer{Verdict: Unsure, Code: ProbeDisagrees, Sentence: "they do not agree."}), Unknown, Unsure, "host1", "on host2: they do not agree", ""},
		{"a note there", nil, half(Answer{Verdict: Reaches, Code: OK, Notes: []Note{{Text: "far is unhealthy"}}}), OK, Reaches, "", "both hosts", "Note: on host2: far is unhealthy."},
		{"not asked", nil, refuses, NotAsked, Unsure, "host1", "host host2 cannot be asked: host2 answers no probes; this is this host's half: here nothing keeps near from far on port 80/tcp (through VXLAN).", "Ask there, on host host2"},
		{"blocked here", func(m *spanned) { m.unlink("", "vx-span") }, nil, LinkMissing, Blocked, "host1", "vx-span", ""},
		{"blocked here on the way back", func(m *spanned) {
			m.drop("", "input", "INPUT", "udp dport 4789 drop", func(p ruleset.Packet) bool { return p.DstPort == 4789 })
		}, half(Answer{Verdict: Reaches, Code: OK}), HostFirewall, Blocked, "host1", "udp dport 4789", ""},
		{"silent, and not asked", silent, refuses, PeerSilent, Unsure, "host1", "it cannot be asked for its half either: host2 answers no probes.", ""},
		{"silent, and asked", silent, half(Answer{Verdict: Reaches, Code: OK}), OK, Reaches, "", "both hosts have looked", "but answers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, h := newSpanned(), hostsOf(t, c.reply)
			if c.harm != nil {
				c.harm(m)
			}
			a, err := m.asks(t, h, "near", "far:80")
			if err != nil {
				t.Fatal(err)
			}
			if a.Code != c.code || a.Verdict != c.verdict || a.Host != c.host || a.Asked != "host1" || !strings.Contains(a.Sentence, c.says) {
				t.Errorf("%s (%s) on %q, asked on %q: %s", a.Code, a.Verdict, a.Host, a.Asked, a.Sentence)
			}
			var b strings.Builder
			if err := a.WriteText(&b); err != nil || !strings.Contains(strings.Join(strings.Fields(b.String()), " "), strings.Join(strings.Fields(c.text), " ")) {
				t.Errorf("no %q in\n%s", c.text, b.String())
			}
			if c.name == "blocked there" {
				a.TookMS = 7
				b.Reset()
				_ = a.WriteText(&b)
				golden.Compare(t, "testdata/across.txt", b.String())
			}
			if c.reply == nil {
				if len(h.got) != 0 {
					t.Errorf("who is stopped here asks nobody: %+v", h.got)
				}
				return
			}
			q := h.got[0].Half
			want := Half{From: "near", Container: m.container("near").ID, To: "far", ToContainer: strings.Repeat("f", 60) + "far", Network: "span-id", Path: cnm.PathVXLAN, Proto: "tcp",
				Src: addr("192.168.1.1"), Dst: addr("192.168.2.1"), Port: 80, MAC: farMAC, Most: 1500}
			if *q != want {
				t.Errorf("asked %+v\nwant  %+v", *q, want)
			}
		})
	}
}

// TestWireTried: a wire that loses large packets without a word is found by probes of the
// size that A's become on it, from both hosts.
func TestWireTried(t *testing.T) {
	well := func(cnm.Peer, Question) (*Reply, error) {
		return &Reply{Answer: &Answer{Verdict: Reaches, Code: OK}}, nil
	}
	for _, c := range []struct {
		from, to string
		small    int
		tried    int
		code     Code
		found    string
	}{
		{"near", "far:80", 1500, 1500, OK, "a probe of 1500 bytes passes"},
		{"near", "far:80", 1400, 1500, MTU, "probes of 1500 bytes are lost"},
		{"near", "far:80", 0, 1500, OK, "could not be tried"},
		{"plain", "level:80", 1499, 1500, MTU, "probes of 1500 bytes are lost"},
		{"plain", "remote:80", 1400, 1500, MTU, "probes of 1500 bytes are lost"},
		{"shy", "dark:80", 1400, 1370 + 70 + 60, MTU, "probes of 1500 bytes are lost"},
	} {
		h := hostsOf(t, well)
		h.small = c.small
		a, err := newSpanned().asks(t, h, c.from, c.to)
		if err != nil || a.Code != c.code || len(h.tried) != 1 || h.tried[0] != c.tried || !slices.ContainsFunc(a.Steps, func(s Step) bool { return strings.Contains(s.Found, c.found) }) {
			t.Errorf("%s to %s, %d pass: tried %v, %s: %s, %v", c.from, c.to, c.small, h.tried, a.Code, a.Sentence, err)
		}
	}
	h, m, q := hostsOf(t, nil), serving(), halves()["overlay"]
	h.small = 1300
	r, err := Respond(t.Context(), m.whole(), cnm.Peer{ID: "h2", Name: "host2", Addr: addr("192.0.2.2")}, Question{Half: &q}, m.options(h))
	if err != nil || r.Answer.Code != MTU || !strings.Contains(r.Answer.Sentence, "on the wire to host host2") || r.Answer.Cure != "" || r.Answer.Advice == "" {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestPeerItself: what goes to another host's own address is asked of that host.
func TestPeerItself(t *testing.T) {
	for _, c := range []struct {
		name, to string
		reply    func(cnm.Peer, Question) (*Reply, error)
		whole    Whole
		code     Code
		says     string
	}{
		{"well", "192.0.2.2:8080", func(cnm.Peer, Question) (*Reply, error) {
			return &Reply{Answer: &Answer{Verdict: Reaches, Code: OK}}, nil
		},
			Whole{From: "outside:192.0.2.10", To: "192.0.2.2:8080/tcp"}, OK, "both hosts have looked"},
		{"ping", "192.0.2.2", func(cnm.Peer, Question) (*Reply, error) {
			return &Reply{Answer: &Answer{Verdict: Reaches, Code: OK}}, nil
		},
			Whole{From: "outside:192.0.2.10", To: "192.0.2.2"}, OK, "both hosts have looked"},
		{"closed there", "192.0.2.2:8080", func(cnm.Peer, Question) (*Reply, error) {
			return &Reply{Answer: &Answer{Verdict: Blocked, Code: NotListening, Sentence: "nobody listens."}}, nil
		}, Whole{From: "outside:192.0.2.10", To: "192.0.2.2:8080/tcp"}, NotListening, "on host2: nobody listens."},
		{"not asked", "192.0.2.2:8080", func(cnm.Peer, Question) (*Reply, error) { return nil, errors.New("it is down") },
			Whole{From: "outside:192.0.2.10", To: "192.0.2.2:8080/tcp"}, OK, "as far as this host goes"},
		{"nobody's address", "192.0.2.99:8080", nil, Whole{}, OK, "as far as this host goes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := hostsOf(t, c.reply)
			a, err := newSpanned().asks(t, h, "host", c.to)
			if err != nil || a.Code != c.code || !strings.Contains(a.Sentence, c.says) {
				t.Fatalf("%+v, %v", a, err)
			}
			if c.reply == nil && len(h.got) != 0 || c.reply != nil && *h.got[0].Whole != c.whole {
				t.Errorf("asked %+v", h.got)
			}
		})
	}
}

// TestAway: of a way that begins on another host that host is asked, whoever wants to know.
func TestAway(t *testing.T) {
	there := Answer{Question: "there", Verdict: Blocked, Code: NotListening, Sentence: "nobody listens.", Host: "host2", To: diagnose.End{Kind: diagnose.EndHost}}
	for _, c := range []struct {
		name, from, to string
		whole          Whole
		reply          func(cnm.Peer, Question) (*Reply, error)
		code           Code
		says           string
		err            string
	}{
		{"by name", "far", "near:80", Whole{From: strings.Repeat("f", 60) + "far", To: "near:80"}, nil, NotListening, "on host2: nobody listens.", ""},
		{"by address", "192.168.2.1", "near:80", Whole{From: "192.168.2.1", To: "near:80"}, nil, NotListening, "on host2: nobody listens.", ""},
		{"from outside", "outside", "far:80", Whole{From: "outside", To: "far:80"}, nil, NotListening, "on host2: nobody listens.", ""},
		{"to this host", "far", "host:80/tcp", Whole{From: strings.Repeat("f", 60) + "far", To: "192.0.2.10:80/tcp"}, nil, NotListening, "on host2: nobody listens.", ""},
		{"unknown here", "hidden", "near:80", Whole{From: "hidden-id", To: "near:80"}, nil, NotListening, "on host2: nobody listens.", ""},
		{"not asked", "far", "near:80", Whole{}, func(cnm.Peer, Question) (*Reply, error) { return nil, errors.New("it is down") }, NotAsked, "far is on host host2, which cannot be asked: it is down.", ""},
		{"unknown everywhere", "ghost", "near:80", Whole{}, nil, "", "", "it may be on another host: host host3 is not heard of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newSpanned()
			h := hostsOf(t, func(to cnm.Peer, q Question) (*Reply, error) {
				switch {
				case q.Who == "hidden":
					return &Reply{Found: &Found{Container: diagnose.Container{ID: "hidden-id", Name: "hidden", State: "running"}}}, nil
				case q.Who != "":
					return &Reply{}, nil
				case c.reply != nil:
					return c.reply(to, q)
				}
				if *q.Whole != c.whole {
					t.Errorf("asked %+v, want %+v", *q.Whole, c.whole)
				}
				return &Reply{Answer: &there}, nil
			})
			a, err := m.asks(t, h, c.from, c.to)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%+v, %v", a, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if a.Code != c.code || a.Host != "host2" || a.Asked != "host1" || !strings.Contains(a.Sentence, c.says) || a.Question != "why "+c.from+" "+c.to {
				t.Errorf("%+v", a)
			}
		})
	}
}

// TestEndsAway: who does not run on another host, or is on no network of A's, is found there.
func TestEndsAway(t *testing.T) {
	for _, c := range []struct {
		name, from string
		found      *Found
		code       Code
		says, cure string
		host       string
	}{
		{"nobody's", "near", nil, NoSuchName, "near knows nobody called lost", "", ""},
		{"stopped", "near", &Found{Container: diagnose.Container{Name: "lost", State: "exited", ExitCode: 137}}, NotRunning, "on host2: lost does not run", "linkspan start lost", "host2"},
		{"on no network of A's", "near", &Found{Container: diagnose.Container{Name: "lost", State: "running"}, On: []FoundOn{{Name: "bridge"}}}, NoSharedNetwork, "near (on span) and lost (on bridge, on host host2)", "linkspan network connect span lost", "host2"},
		{"on one of the mesh", "web", &Found{Container: diagnose.Container{Name: "lost", State: "running"}, On: []FoundOn{{Name: "wide", Global: true}}}, NoSharedNetwork, "web (on shop) and lost (on wide", "linkspan network connect wide web", "host1"},
		{"on none of the mesh", "web", &Found{Container: diagnose.Container{Name: "lost", State: "running"}}, NoSharedNetwork, "lost (on none", "", "host1"},
		{"from the host", "host", &Found{Container: diagnose.Container{Name: "lost", State: "running"}, On: []FoundOn{{Name: "wide", Global: true}}}, NoSharedNetwork, "this host is on no network with it", "", "host1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newSpanned()
			m.network("span").Scope = cnm.ScopeGlobal
			a, err := m.asks(t, hostsOf(t, func(cnm.Peer, Question) (*Reply, error) { return &Reply{Found: c.found}, nil }), c.from, "lost:80")
			if err != nil {
				t.Fatal(err)
			}
			if a.Code != c.code || !strings.Contains(a.Sentence, c.says) || a.Cure != c.cure || a.Host != c.host || a.Verdict != Blocked {
				t.Errorf("%s on %q: %s\ncure %q, advice %q", a.Code, a.Host, a.Sentence, a.Cure, a.Advice)
			}
			if !slices.ContainsFunc(a.Notes, func(n Note) bool { return strings.Contains(n.Text, "host host3 is not heard of") }) {
				t.Errorf("host3 was not asked, and it is not said: %+v", a.Notes)
			}
		})
	}
	both := hostsOf(t, func(to cnm.Peer, _ Question) (*Reply, error) {
		return &Reply{Found: &Found{Container: diagnose.Container{ID: to.ID, Name: "lost", State: "running"}}}, nil
	})
	both.peers[1].Alive = true
	for _, q := range [][2]string{{"near", "lost:80"}, {"lost", "near:80"}} {
		if _, err := newSpanned().asks(t, both, q[0], q[1]); err == nil || !strings.Contains(err.Error(), "on several hosts: host2 (h2), host3 (h3)") {
			t.Errorf("why %v: %v", q, err)
		}
	}
}
