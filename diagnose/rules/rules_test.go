package rules

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"linkspan/dataplane"
	"linkspan/dataplane/ruleset"
	"linkspan/internal/golden"
	"linkspan/internal/worldtest"
)

func text(t *testing.T, write func(io.Writer) error) string {
	t.Helper()
	var b strings.Builder
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func of(t *testing.T, w *worldtest.World) *Page {
	t.Helper()
	p, err := Of(context.Background(), w.Diagnose(), w)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// live is the page as a kernel has it: as many rules in each chain, with a counter in
// the last one of each.
func live(p *Page) *ruleset.Ruleset {
	tab := &ruleset.Table{Family: p.Family, Name: p.Table}
	for _, c := range p.Chains {
		lc := &ruleset.Chain{Name: c.Name}
		for range c.Rules {
			lc.Rules = append(lc.Rules, &ruleset.Rule{})
		}
		if c.Drop != nil {
			lc.Rules[len(lc.Rules)-1].Exprs = []ruleset.Expr{ruleset.Counter{Packets: 12, Bytes: 720}}
		}
		tab.Chains = append(tab.Chains, lc)
	}
	rs := &ruleset.Ruleset{Tables: []*ruleset.Table{{Family: "ip", Name: "filter"}, tab}}
	rs.Link()
	return rs
}

func TestPage(t *testing.T) {
	w := worldtest.New()
	w.Live.Rules = live(of(t, w))
	p := of(t, w)
	if p.Damaged() {
		t.Error("a whole page is damaged")
	}
	out := text(t, p.WriteText)
	golden.Compare(t, "testdata/elements.txt", out[:strings.Index(out, "\nRULES\n")])
	for _, want := range []string{"forward: filter hook forward priority filter", "12 packets, 720 bytes", "      # published\n", dataplane.DropRules()[0].Name} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	// Every rule of the page's text is told, and every set.
	for _, o := range objects(t, w) {
		page, ok := o.(dataplane.Page)
		if !ok {
			continue
		}
		rules, sets := 0, 0
		inChain := false
		for line := range strings.Lines(page.Text) {
			line = strings.TrimSpace(line)
			switch {
			case strings.HasPrefix(line, "chain "):
				inChain = true
			case line == "}":
				inChain = false
			case strings.HasPrefix(line, "set ") || strings.HasPrefix(line, "map "):
				sets++
			case inChain && line != "" && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "type "):
				rules++
			}
		}
		n := 0
		for _, c := range p.Chains {
			n += len(c.Rules)
		}
		if n != rules || len(p.Sets) != sets {
			t.Errorf("%d rules and %d sets, the page has %d and %d", n, len(p.Sets), rules, sets)
		}
	}
}

func objects(t *testing.T, w *worldtest.World) []dataplane.Object {
	t.Helper()
	objs, err := w.Objects(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return objs
}

func TestDamage(t *testing.T) {
	w := worldtest.New()
	whole := live(of(t, w))
	for _, c := range []struct {
		name string
		do   func(*worldtest.World)
		want string
	}{
		{"no table", func(w *worldtest.World) { w.Gone["table inet "+worldtest.Table] = true }, ": NOT IN THE KERNEL"},
		{"an element", func(w *worldtest.World) {
			w.Gone[`element inet linkspan_123456 publish4_any { tcp . 8080 }`] = true
		}, "  - tcp . 8080 : 172.17.0.2 . 80"},
		{"another page", func(w *worldtest.World) {
			w.Other["table inet "+worldtest.Table] = dataplane.Page{Family: "inet", Table: worldtest.Table, Hash: "0"}
		}, "DIFFERS"},
		{"a rule", func(w *worldtest.World) {
			rs := live(of(t, w))
			rs.Tables[1].Chains[0].Rules = rs.Tables[1].Chains[0].Rules[1:]
			w.Live.Rules = rs
		}, "CHANGED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := worldtest.New()
			w.Live.Rules = whole
			c.do(w)
			p := of(t, w)
			if out := text(t, p.WriteText); !strings.Contains(out, c.want) || !p.Damaged() {
				t.Errorf("damaged %v, no %q in\n%.1500s", p.Damaged(), c.want, out)
			}
		})
	}
	w = worldtest.New()
	w.Err = errors.New("the store is away")
	if _, err := Of(context.Background(), w.Diagnose(), w); err == nil {
		t.Error("no error")
	}
	if _, err := AsIptables(context.Background(), w.Diagnose()); err == nil {
		t.Error("no error")
	}
	w = worldtest.New()
	w.Live.Err = errors.New("netlink is away")
	if _, err := Of(context.Background(), w.Diagnose(), nil); err == nil || !strings.Contains(err.Error(), "netlink is away") {
		t.Errorf("%v", err)
	}
}

func TestIptables(t *testing.T) {
	w := worldtest.New()
	open := w.AddNetwork("open", "br-open", []string{"10.91.0.0/24"}, "com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected")
	routed := w.AddNetwork("routed", "br-routed", []string{"10.92.0.0/24"}, "com.docker.network.bridge.gateway_mode_ipv4=routed")
	fixed := w.AddNetwork("fixed", "br-fixed", []string{"10.93.0.0/24"}, "com.docker.network.host_ipv4=192.168.99.32")
	lan := w.AddNetwork("lan", "br0", []string{"10.94.0.0/24"})
	lan.Borrowed = true
	w.Run("o", nil, open)
	w.Run("r", nil, routed).Ports = append(w.Boxes[len(w.Boxes)-1].Ports, worldtest.Port("8090:80/tcp"), worldtest.Port("3000:3000/udp"))
	w.Run("f", nil, fixed)
	w.Run("l", nil, lan).Ports = append(w.Boxes[len(w.Boxes)-1].Ports, worldtest.Port("8091:80/tcp"))
	tr, err := AsIptables(context.Background(), w.Diagnose())
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "testdata/iptables.txt", text(t, tr.WriteText))
	golden.Compare(t, "testdata/iptables-list.txt", text(t, tr.WriteList))
	golden.Compare(t, "testdata/iptables-save.txt", text(t, tr.WriteSave))
	// What travels as JSON is drawn by who asked.
	b, err := json.Marshal(tr)
	if err != nil {
		t.Fatal(err)
	}
	var far Iptables
	if err := json.Unmarshal(b, &far); err != nil {
		t.Fatal(err)
	}
	if text(t, far.WriteText) != text(t, tr.WriteText) || text(t, far.WriteList) != text(t, tr.WriteList) {
		t.Error("JSON loses something")
	}
	for _, f := range tr.Families {
		for _, tab := range f.Tables {
			for _, c := range tab.Chains {
				for _, r := range c.Rules {
					known := r.Target == "ACCEPT" || r.Target == "DROP" || r.Target == "MASQUERADE" || r.Target == "DNAT" || r.Target == "SNAT"
					for _, to := range tab.Chains {
						known = known || to.Name == r.Target
					}
					if !known {
						t.Errorf("%s jumps to %s, which is not there", r.Text, r.Target)
					}
				}
			}
		}
	}
}

// TestTextbook: the lines that every textbook shows are there, letter by letter.
func TestTextbook(t *testing.T) {
	w := &worldtest.World{Live: &worldtest.Kernel{}}
	bridge := w.AddNetwork("bridge", "docker0", []string{"172.17.0.0/16"})
	w.Run("mysql", append(w.Run("web", nil, bridge).Ports, worldtest.Port("3306:3306/tcp")), bridge)
	tr, err := AsIptables(context.Background(), w.Diagnose())
	if err != nil {
		t.Fatal(err)
	}
	s, l := text(t, tr.WriteText), text(t, tr.WriteList)
	for _, want := range []string{
		"-P POSTROUTING ACCEPT\n", "-N DOCKER\n",
		"-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE\n",
		"-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n",
		"-A DOCKER -p tcp -m tcp --dport 3306 -j DNAT --to-destination 172.17.0.3:3306\n",
		"-A FORWARD -i docker0 -o docker0 -j ACCEPT\n",
		"-A FORWARD -i docker0 ! -o docker0 -j ACCEPT\n",
	} {
		if !strings.Contains(s, want) {
			t.Errorf("no %q in\n%s", want, s)
		}
	}
	for _, want := range []string{
		"MASQUERADE  all  --  172.17.0.0/16        0.0.0.0/0           ",
		"MASQUERADE  tcp  --  172.17.0.3           172.17.0.3           tcp dpt:3306",
		"DNAT       tcp  --  0.0.0.0/0            0.0.0.0/0            tcp dpt:3306 to:172.17.0.3:3306",
		"Chain DOCKER (2 references)",
	} {
		if !strings.Contains(l, want) {
			t.Errorf("no %q in\n%s", want, l)
		}
	}
	if strings.Contains(s, "ip6tables") {
		t.Error("IPv6, where there is none")
	}
}

func TestMarks(t *testing.T) {
	page := dataplane.BasePage("t", dataplane.Mark{Value: 0x10, Mask: 0xff})
	tr := newTranslation([]dataplane.Object{page, dataplane.BridgeElement(dataplane.Meta{}, "t", "docker0")}, true)
	var got []string
	for _, tab := range tr.family().Tables {
		for _, c := range tab.Chains {
			for _, r := range c.Rules {
				got = append(got, r.line(c.Name))
			}
		}
	}
	if s := strings.Join(got, "\n"); !strings.Contains(s, "-A DOCKER -o docker0 -m mark --mark 0x10/0xff -j ACCEPT") {
		t.Error(s)
	}
}
