package linux_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"linkspan/dataplane"
	"linkspan/dataplane/diff"
	"linkspan/dataplane/linux"
)

func (h *host) page() dataplane.Page {
	h.t.Helper()
	o, ok := h.observe().Get("table inet " + table)
	if !ok {
		return dataplane.Page{}
	}
	return o.(dataplane.Page)
}

// TestPageEdited: whatever a person does to the page is seen and named, and
// undone without losing an element.
func TestPageEdited(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	want := append(bridgeNet(), h.container("web", 2)...)
	h.apply(diff.Create(want))
	good := dataplane.BasePage(table)
	for _, c := range []struct{ edit, told string }{
		{"add rule inet lsptest forward counter accept", "chain forward edited"},
		{"flush chain inet lsptest publish", "chain publish edited"},
		{"add chain inet lsptest mine", "chain mine added"},
		{"add chain inet lsptest forward { policy drop; }", "chain forward edited"},
		{"add set inet lsptest extra { type mark; }", "set extra added"},
		{"flush table inet lsptest && delete chain inet lsptest input", "missing"},
		{"flush map inet lsptest checksums", "not completely loaded"},
	} {
		for _, line := range strings.Split(c.edit, " && ") {
			h.run("nft", line)
		}
		if got := h.page(); !strings.Contains(got.Hash, c.told) || !strings.HasPrefix(got.Hash, good.Hash) {
			t.Errorf("%s: page is %q, want %q in it", c.edit, got.Hash, c.told)
		}
		p := diff.Compute(dataplane.NewState(want...), h.observe(h.pin("web")))
		if ops := notSysctl(p.Ops); len(ops) != 1 || ops[0].Verb != dataplane.Change {
			t.Errorf("%s: plan %v", c.edit, ops)
		}
		h.apply(p.Ops)
		if got := h.page(); got.Spec() != good.Spec() {
			t.Fatalf("%s: not repaired: %q", c.edit, got.Hash)
		}
		if p := diff.Compute(dataplane.NewState(want...), h.observe(h.pin("web"))); len(notSysctl(p.Ops)) > 0 {
			t.Errorf("%s: elements lost: %v", c.edit, p.Ops)
		}
	}
}

// TestPageCounts: packets that pass are not an edit.
func TestPageCounts(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.apply(diff.Create(append(bridgeNet(), h.container("web", 2)...)))
	h.in(h.pin("web"), "sh", "-c", "ping -c2 -i0.2 -W1 127.0.0.53 >/dev/null; ping -c1 -W1 172.17.0.1; ip route add 127.9.0.0/16 via 172.17.0.1; ping -c1 -W1 -I eth0 172.17.0.99 || true")
	h.apply([]dataplane.Op{{Verb: dataplane.Create, Object: dataplane.BasePage(table)}})
	if got, want := h.page().Spec(), dataplane.BasePage(table).Spec(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestLoopbackGuard: with route_localnet, and accept_local for those that are its own, the
// kernel takes all addresses of 127.0.0.0/8 from a container. The page lets none of them
// near the host, nor to others.
func TestLoopbackGuard(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	web := h.pin("web")
	h.apply(diff.Create(append(bridgeNet(), h.container("web", 2)...)))
	h.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.docker0.accept_local=1")
	h.run("ip", "link", "add", "wan0", "up", "type", "veth", "peer", "name", "wan1")
	h.run("ip", "link", "set", "wan1", "up")
	h.run("ip", "addr", "add", "10.98.0.1/24", "dev", "wan0")
	h.in(web, "ping", "-c1", "-w5", "172.17.0.1") // its MAC is asked for before the addresses are forged
	h.in(web, "sh", "-ec", "ip addr del 127.0.0.1/8 dev lo; ip addr add 127.0.0.2/32 dev eth0; sysctl -qw net.ipv4.conf.eth0.route_localnet=1; ip route add 127.0.0.1/32 via 172.17.0.1")
	for i, c := range []struct{ what, from, to string }{
		{"the host's loopback", "172.17.0.2", "127.0.0.1"},
		{"the host, as its loopback", "127.0.0.2", "172.17.0.1"},
		{"another machine, as the host's loopback", "127.0.0.2", "10.98.0.2"},
	} {
		_, err := h.udp(web, c.from+":0").WriteTo([]byte("q"), &net.UDPAddr{IP: net.ParseIP(c.to), Port: 7})
		n := 0
		for end := time.Now().Add(patience); err == nil && n <= i && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			n, _ = strconv.Atoi(h.dropped("loopback"))
		}
		if n != i+1 {
			t.Errorf("%s: %d packets dropped after it, want %d (%v)", c.what, n, i+1, err)
		}
	}
	// A person may lead containers there all the same, by a rule of the host's.
	h.run("nft", "add table ip mine { chain pre { type nat hook prerouting priority dstnat; ip daddr 172.17.0.1 udp dport 5 dnat to 127.0.0.1:5; }; }")
	echo(t, h.ns, "host", "127.0.0.1:5")
	if got := question(t, web, "udp", "172.17.0.1:5", "q"); got != "host q" {
		t.Errorf("by a rule of the host's own: %s", got)
	}
}

// TestRulesetFlushed: everything of the table comes back.
func TestRulesetFlushed(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	want := append(bridgeNet(), h.container("web", 2)...)
	h.apply(diff.Create(want))
	h.run("nft", "flush", "ruleset")
	p := diff.Compute(dataplane.NewState(want...), h.observe(h.pin("web")))
	if p.Ops[0].Object.Key() != "table inet "+table {
		t.Errorf("the page is not first: %v", p.Ops[0])
	}
	h.apply(p.Ops)
	if p := diff.Compute(dataplane.NewState(want...), h.observe(h.pin("web"))); len(notSysctl(p.Ops)) > 0 {
		t.Errorf("not repaired: %v", p.Ops)
	}
}

// TestPageUpgrade: a new version of the page replaces chains and sets and keeps
// the elements, even where the kernel refuses to change a set or a hook in place.
func TestPageUpgrade(t *testing.T) {
	t.Parallel()
	old := dataplane.BasePage(table)
	for name, edit := range map[string][2]string{
		"rules":    {"ip daddr != 127.0.0.0/8 jump", "ip daddr != 127.0.0.0/8 counter jump"},
		"hook":     {"priority srcnat", "priority 101"},
		"set type": {"set egress {\n\t\ttype ifname\n", "set egress {\n\t\ttype ifname\n\t\tflags timeout\n"},
		"chain":    {"chain from_container {", "chain from_ours {"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			want := append(bridgeNet(), h.container("web", 2)...)
			for _, e := range everyElement() {
				if strings.Contains(e.Set, "publish") || strings.HasPrefix(e.Set, "open") {
					want = append(want, e)
				}
			}
			h.apply(diff.Create(want))
			p := old
			if p.Text = strings.ReplaceAll(p.Text, edit[0], edit[1]); p.Text == old.Text {
				t.Fatalf("the page has no %q", edit[0])
			}
			if name == "chain" {
				p.Text = strings.ReplaceAll(p.Text, " from_container", " from_ours")
			}
			p.Text, p.Hash = strings.ReplaceAll(p.Text, "page_"+old.Hash, "page_cafe0001"), "cafe0001"
			want[0] = p
			h.apply([]dataplane.Op{{Verb: dataplane.Change, Object: p}})
			if got := h.page(); got.Spec() != p.Spec() {
				t.Fatalf("page is %q", got.Hash)
			}
			left := notSysctl(diff.Compute(dataplane.NewState(want...), h.observe(h.pin("web"))).Ops)
			for _, op := range left {
				t.Errorf("lost: %s %s", op.Verb, op.Object.Key())
			}
			if out := h.run("nft", "list", "table", "inet", table); strings.Contains(out, old.Hash) || name == "chain" && strings.Contains(out, "from_container") {
				t.Errorf("the old page is still there:\n%s", out)
			}
		})
	}
}

// TestPageListed: nft reads what nft prints, so that a host which keeps its rules
// with "nft list ruleset >/etc/nftables.conf" comes up with them.
func TestPageListed(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	objs := append(bridgeNet(), dataplane.BasePage(table, dataplane.Mark{Value: 0x10, Mask: 0xf0}))
	for _, e := range everyElement() {
		objs = append(objs, e)
	}
	h.apply(diff.Create(dataplane.NewState(objs...).All()))
	file := filepath.Join(t.TempDir(), "nftables.conf")
	if err := os.WriteFile(file, []byte(h.run("nft", "list", "ruleset")), 0o600); err != nil {
		t.Fatal(err)
	}
	h.run("nft", "flush", "ruleset")
	h.run("nft", "-f", file)
	if got := h.page(); got.Table == "" {
		t.Error("nothing came back")
	}
}

// TestPageMark: the accepted marks are part of the page, and only when there are any.
func TestPageMark(t *testing.T) {
	t.Parallel()
	if dataplane.BasePage(table, dataplane.Mark{}).Spec() != dataplane.BasePage(table).Spec() {
		t.Error("no mark makes another page")
	}
	h := newHost(t)
	h.apply(diff.Create(bridgeNet()))
	p := dataplane.BasePage(table, dataplane.Mark{Value: 0x10, Mask: 0xf0}, dataplane.Mark{Value: 3, Mask: 0xffffffff})
	h.apply([]dataplane.Op{{Verb: dataplane.Change, Object: p}})
	if got := h.page(); got.Spec() != p.Spec() {
		t.Errorf("page is %q", got.Hash)
	}
	out := h.run("nft", "list", "chain", "inet", table, "to_container")
	if !strings.Contains(out, "meta mark & 0x000000f0 == 0x00000010 accept") || !strings.Contains(out, "meta mark 0x00000003 accept") {
		t.Errorf("rules:\n%s", out)
	}
}

// TestPageRefused: nft's words reach the person, and the old page stands.
func TestPageRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.apply(diff.Create(bridgeNet()))
	bad := dataplane.Page{Meta: network, Family: "inet", Table: table, Hash: "bad1", Text: "table inet " + table + " { chain c { no such thing } }"}
	err := h.k.Apply(t.Context(), []dataplane.Op{{Verb: dataplane.Change, Object: bad}})
	if err == nil || !strings.Contains(err.Error(), "nft refuses the page") || !strings.Contains(err.Error(), "no such") {
		t.Errorf("error: %v", err)
	}
	if got := h.page(); got.Spec() != dataplane.BasePage(table).Spec() {
		t.Errorf("the old page is %q", got.Hash)
	}
}

// notSysctl drops the creates of sysctls, which Observe cannot show.
func notSysctl(ops []dataplane.Op) (out []dataplane.Op) {
	for _, op := range ops {
		if op.Object.Phase() != dataplane.PhaseSysctl {
			out = append(out, op)
		}
	}
	return out
}

// TestPageFormer: the page of a former release, in use, becomes today's in place:
// without a moment without rules, and with all of its elements. page_1 is the first
// one, page_2 the last that dropped without telling.
func TestPageFormer(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"page_1", "page_2"} {
		t.Run(name, func(t *testing.T) { t.Parallel(); testPageFormer(t, name) })
	}
}

func testPageFormer(t *testing.T, name string) {
	text, err := os.ReadFile("testdata/" + name + ".nft")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	h := newHost(t, func(c *linux.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	want := append(bridgeNet(), h.container("web", 2)...)
	former := dataplane.Page{Meta: network, Family: "inet", Table: table, Hash: "0000cafe",
		Text: strings.NewReplacer("TABLE", table, "HASH", "0000cafe", "\t\tACCEPTMARK\n", "").Replace(string(text))}
	changes := 1
	want[0] = former
	if name != "page_1" {
		guard := dataplane.GuardForwarding(network, table, true)
		guard.Verdict = "drop"
		want = append(want, guard)
		changes++
	}
	h.apply(diff.Create(want))
	want[0] = dataplane.BasePage(table)
	if name != "page_1" {
		want[len(want)-1] = dataplane.GuardForwarding(network, table, true)
	}
	ops := notSysctl(diff.Compute(dataplane.NewState(want...), h.observe(h.pin("web"))).Ops)
	if len(ops) != changes || ops[0].Verb != dataplane.Change {
		t.Errorf("plan: %v", ops)
	}
	h.apply(ops)
	if left := notSysctl(diff.Compute(dataplane.NewState(want...), h.observe(h.pin("web"))).Ops); len(left) > 0 {
		t.Errorf("lost: %v", left)
	}
	if strings.Contains(log.String(), "cannot be changed in place") {
		t.Errorf("the table was replaced: %s", log.String())
	}
	if out := h.run("nft", "list", "table", "inet", table); strings.Contains(out, "0000cafe") || !strings.Contains(out, "from_borrowed") || !strings.Contains(out, "ls:unpublished") {
		t.Errorf("the page is\n%s", out)
	}
}

// TestPageQuiet: a kernel that cannot log has the page all the same, and says so. Here
// it is a group that is no number.
func TestPageQuiet(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	h := newHost(t, func(c *linux.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	want := bridgeNet()
	p := dataplane.BasePage(table)
	group, _ := dataplane.DropGroups(table)
	p.Text = strings.ReplaceAll(p.Text, fmt.Sprintf(" group %d ", group), " group none ")
	want[0] = p
	h.apply(diff.Create(want))
	if got := h.page(); got.Spec() != p.Spec() {
		t.Errorf("page is %q, want %q", got.Spec(), p.Spec())
	}
	if out := h.run("nft", "list", "table", "inet", table); strings.Contains(out, "log prefix") || !strings.Contains(out, "chain drop_unpublished") {
		t.Errorf("the page is\n%s", out)
	}
	if !strings.Contains(log.String(), "modprobe nfnetlink_log") {
		t.Errorf("logged was %s", log.String())
	}
}
