package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"linkspan/dataplane/reading"
	"linkspan/internal/golden"
	"linkspan/internal/worldtest"
	"linkspan/probe"
)

// files is a host's, from its root.
func files(more map[string]string) fstest.MapFS {
	all := map[string]string{
		"proc/sys/kernel/hostname": "quay", "proc/sys/kernel/osrelease": "6.18.5", "proc/sys/kernel/pid_max": "32768", "proc/loadavg": "0.1 0.1 0.1 2/300 99",
		"proc/sys/net/ipv4/ip_forward": "1", "proc/sys/net/ipv6/conf/all/forwarding": "1", "proc/sys/net/bridge/bridge-nf-call-iptables": "0",
		"proc/sys/net/ipv4/conf/all/route_localnet": "0", "proc/sys/net/ipv4/ip_no_pmtu_disc": "0",
		"proc/sys/net/ipv4/conf/all/rp_filter": "0", "proc/sys/net/ipv4/conf/eth0/rp_filter": "2",
		"proc/sys/net/ipv4/ip_local_port_range": "32768\t60999", "proc/sys/net/ipv4/ip_local_reserved_ports": "",
		"proc/sys/net/netfilter/nf_conntrack_count": "12", "proc/sys/net/netfilter/nf_conntrack_max": "262144",
		"proc/sys/net/ipv4/neigh/default/gc_thresh3": "1024", "proc/sys/fs/file-nr": "1000\t0\t100000", "proc/sys/fs/inotify/max_user_instances": "128",
		"proc/1/comm": "systemd", "proc/812/comm": "linkspan",
		"etc/resolv.conf": "# made by hand\nnameserver 10.0.0.53\n", "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids",
	}
	for k, v := range more {
		all[k] = v
	}
	fsys := fstest.MapFS{}
	for k, v := range all {
		if v != "-" {
			fsys[k] = &fstest.MapFile{Data: []byte(v + "\n"), ModTime: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}
		}
	}
	return fsys
}

// well is a patient without complaint.
func well(more map[string]string) *Patient {
	w := worldtest.New()
	w.Live.Table[""] = append(w.Live.Table[""], reading.Route{Dst: netip.MustParsePrefix("::/0"), Link: "eth0", Type: "unicast"},
		reading.Route{Dst: netip.MustParsePrefix("172.18.0.0/16"), Link: "br-shop", Type: "unicast"})
	return &Patient{
		Host: files(more), World: w.Diagnose(),
		Features: func() []probe.Result { return []probe.Result{{Feature: probe.Veth}, {Feature: probe.NFT}} },
		Machine: Machine{Now: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC), Namespace: "net:[1]",
			Disks: []Disk{{Path: "/var/lib/linkspan", Free: 200 << 30, Total: 250 << 30, Inodes: 1000, Left: 900}}},
		Engine: &Engine{Version: "0.4.0", Instance: "3c52f1", PID: 812, DataRoot: "/var/lib/linkspan",
			Keeper: Keeper{PID: 813, Version: "0.4.0"}, Resolvers: map[string]error{"db": nil, "api": nil},
			Upstreams: []Upstream{{"host", "10.0.0.53:53", false, 100, 99, 1}}, Logs: []Log{{"web", 1000, true}}},
	}
}

// sick has nearly everything.
func sick() *Patient {
	p := well(map[string]string{
		"proc/sys/net/ipv4/ip_forward": "0", "proc/sys/net/bridge/bridge-nf-call-iptables": "1", "proc/sys/net/ipv4/conf/all/route_localnet": "1",
		"proc/sys/net/netfilter/nf_conntrack_count": "260000", "proc/sys/net/ipv4/ip_local_port_range": "8000\t60999",
		"proc/700/comm": "dockerd", "proc/701/comm": "connmand", "etc/connman/main.conf": "[General]\nNetworkInterfaceBlacklist=vmnet,vboxnet", "proc/702/comm": "kubelet",
		"etc/resolv.conf": "nameserver 127.0.0.53", "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io pids",
	})
	host := p.Host.(fstest.MapFS)
	host["proc/702/ns/net"] = &fstest.MapFile{Data: []byte("net:[2]"), Mode: os.ModeSymlink | 0o777} // elsewhere: not of this host
	host["proc/812/exe"] = &fstest.MapFile{Data: []byte("/usr/local/bin/linkspan (deleted)"), Mode: os.ModeSymlink | 0o777}
	host["var/lib/linkspan/linkspan.db"] = &fstest.MapFile{ModTime: p.Machine.Now.Add(time.Hour)}
	p.Features = func() []probe.Result {
		return []probe.Result{{Feature: probe.SCTP, Err: &probe.Missing{Feature: probe.SCTP, Reason: errors.New("protocol not supported")}},
			{Feature: probe.NFT, Err: &probe.Missing{Feature: probe.NFT, Reason: errors.New("operation not supported")}}}
	}
	k := p.World.Kernel.(*worldtest.Kernel)
	k.Table[""] = append(k.Table[""], reading.Route{Dst: netip.MustParsePrefix("172.18.4.0/24"), Link: "tun0", Type: "unicast"},
		reading.Route{Dst: netip.MustParsePrefix("10.0.0.0/8"), Link: "wg0", Type: "unicast"})
	links := k.Links[""]
	for i := range links {
		switch links[i].Name {
		case "eth0":
			links[i].MTU = 1420
			links[i].Addrs = append(links[i].Addrs, netip.MustParsePrefix("172.17.0.2/32"))
		}
	}
	e := p.Engine
	e.Keeper.Version = "0.3.9"
	e.Resolvers["db"] = errors.New("no answer within a second")
	e.Upstreams[0].Down = true
	e.Pending = []Difference{{"create", "link br-shop", "network shop", "ip link add br-shop type bridge"}}
	e.Drift = []string{"addr eth0 172.18.0.2/16 of endpoint db"}
	e.StoreErr = errors.New("page 7 is torn")
	e.Logs = []Log{{"web", 3 << 30, false}}
	p.Machine.Disks = []Disk{{Path: "/var/lib/linkspan", Free: 1 << 20, Total: 250 << 30}, {Path: "/run/linkspan", ReadOnly: true}}
	return p
}

func TestGolden(t *testing.T) {
	for name, p := range map[string]*Patient{
		"well": well(nil), "sick": sick(),
		"alone": {Host: files(nil), Machine: Machine{Now: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			r := Examine(context.Background(), p)
			if err := r.WriteText(&b); err != nil {
				t.Fatal(err)
			}
			golden.Compare(t, "testdata/"+name+".txt", b.String())
			for _, f := range r.Findings {
				if f.Code == "" || f.What == "" || f.Severity != OK && f.Why == "" || (f.Severity == Problem || f.Severity == Warning) && f.Cure == "" {
					t.Errorf("incomplete: %+v", f)
				}
				if strings.Contains(f.Cure, "\n") || strings.HasPrefix(f.What, "\n") {
					t.Errorf("more than one line: %+v", f)
				}
			}
			if (name == "sick") == r.Well() {
				t.Errorf("well: %v", r.Well())
			}
			back := Report{}
			j, err := json.Marshal(r)
			if err == nil {
				err = json.Unmarshal(j, &back)
			}
			if err != nil || len(back.Findings) != len(r.Findings) || !strings.Contains(string(j), `"severity":"ok"`) {
				t.Errorf("JSON: %v %s", err, j)
			}
		})
	}
}

// TestFindings: what is changed of a healthy host is found, and nothing else.
func TestFindings(t *testing.T) {
	type change struct {
		files map[string]string
		do    func(*Patient, *worldtest.Kernel)
	}
	route := func(dst, link string) func(*Patient, *worldtest.Kernel) {
		return func(_ *Patient, k *worldtest.Kernel) {
			k.Table[""] = append(k.Table[""], reading.Route{Dst: netip.MustParsePrefix(dst), Link: link, Type: "unicast"})
		}
	}
	for _, c := range []struct {
		name string
		change
		severity    Severity
		code, words string // of the only finding; "": none
	}{
		{name: "healthy"},
		{name: "forwarding off", change: change{files: map[string]string{"proc/sys/net/ipv4/ip_forward": "0"}}, severity: Problem, code: "forwarding-off", words: "linkspan reconcile"},
		{name: "forwarding off by wish", change: change{map[string]string{"proc/sys/net/ipv4/ip_forward": "0"}, func(p *Patient, _ *worldtest.Kernel) { p.Engine.NoForwarding = true }}, severity: Warning, code: "forwarding-off", words: "--ip-forward=false"},
		{name: "IPv6 forwarding off", change: change{files: map[string]string{"proc/sys/net/ipv6/conf/all/forwarding": "0"}}, severity: Problem, code: "forwarding-off", words: "six"},
		{name: "conntrack nearly full", change: change{files: map[string]string{"proc/sys/net/netfilter/nf_conntrack_count": "220000"}}, severity: Warning, code: "conntrack-full", words: "net.netfilter.nf_conntrack_max=524288"},
		{name: "files", change: change{files: map[string]string{"proc/sys/fs/file-nr": "99000 0 100000"}}, severity: Problem, code: "files-full", words: "99 % full"},
		{name: "pids", change: change{files: map[string]string{"proc/loadavg": "0 0 0 1/30000 9"}}, severity: Warning, code: "pids-full"},
		{name: "inotify", change: change{files: map[string]string{"proc/sys/fs/inotify/max_user_instances": "4"}}, severity: Warning, code: "inotify-few", words: "too many open files"},
		{name: "no pmtu", change: change{files: map[string]string{"proc/sys/net/ipv4/ip_no_pmtu_disc": "1"}}, severity: Warning, code: "pmtu-off"},
		{name: "a VPN inside a network", change: change{do: route("172.18.4.0/24", "tun0")}, severity: Problem, code: "route-overlap", words: "leave by tun0"},
		{name: "a LAN around a network", change: change{do: route("10.64.0.0/12", "eth1")}, severity: Warning, code: "route-overlap", words: "10.77.0.0/24"},
		{name: "a VPN for everything", change: change{do: route("128.0.0.0/1", "tun0")}},
		{name: "a route beside", change: change{do: route("192.168.7.0/24", "tun0")}},
		{name: "address of a container on the host", change: change{do: func(_ *Patient, k *worldtest.Kernel) {
			k.Links[""][1].Addrs = append(k.Links[""][1].Addrs, netip.MustParsePrefix("172.17.0.2/32"))
		}}, severity: Problem, code: "address-twice", words: "ip addr del 172.17.0.2/32 dev eth0"},
		{name: "two uplinks, strict", change: change{map[string]string{"proc/sys/net/ipv4/conf/eth0/rp_filter": "1", "proc/sys/net/ipv4/conf/eth1/rp_filter": "1"}, route("0.0.0.0/0", "eth1")}, severity: Warning, code: "rp-filter", words: "rp_filter=2"},
		{name: "two uplinks, loose", change: change{map[string]string{"proc/sys/net/ipv4/conf/eth1/rp_filter": "2"}, route("0.0.0.0/0", "eth1")}},
		{name: "smaller way out", change: change{do: func(p *Patient, k *worldtest.Kernel) { k.Links[""][1].MTU = 1499 }},
			severity: Warning, code: "mtu", words: `"mtu": 1499`},
		{name: "no server", change: change{files: map[string]string{"etc/resolv.conf": "search example.com"}}, severity: Warning, code: "dns-none"},
		{name: "stub with nobody behind", change: change{files: map[string]string{"etc/resolv.conf": "nameserver 127.0.0.53"}}, severity: Warning, code: "dns-stub"},
		{name: "stub", change: change{files: map[string]string{"etc/resolv.conf": "nameserver 127.0.0.53", "run/systemd/resolve/resolv.conf": "nameserver 9.9.9.9"}}},
		{name: "resolver silent", change: change{do: func(p *Patient, _ *worldtest.Kernel) { p.Engine.Resolvers["api"] = errors.New("no answer") }}, severity: Problem, code: "resolver-silent", words: "api (no answer)"},
		{name: "resolver not held", change: change{do: func(p *Patient, _ *worldtest.Kernel) { p.Engine.Unheld = []string{"api"} }}, severity: Problem, code: "resolver-unheld"},
		{name: "server down", change: change{do: func(p *Patient, _ *worldtest.Kernel) { p.Engine.Upstreams[0].Down = true }}, severity: Warning, code: "dns-server-down", words: "dig @10.0.0.53 "},
		{name: "server failing", change: change{do: func(p *Patient, _ *worldtest.Kernel) { p.Engine.Upstreams[0].Failed = 50 }}, severity: Warning, code: "dns-server-failing"},
		{name: "keeper away", change: change{do: func(p *Patient, _ *worldtest.Kernel) { p.Engine.Keeper.Err = errors.New("gone") }}, severity: Problem, code: "keeper-away"},
		{name: "keeper elsewhere", change: change{do: func(p *Patient, _ *worldtest.Kernel) { p.Engine.Keeper.ElsewhereNetns = true }}, severity: Problem, code: "keeper-elsewhere", words: "kill 813"},
		{name: "keeper old", change: change{do: func(p *Patient, _ *worldtest.Kernel) { p.Engine.Keeper.Version = "0.1" }}, severity: Warning, code: "keeper-old"},
		{name: "a difference", change: change{do: func(p *Patient, _ *worldtest.Kernel) {
			p.Engine.Pending = []Difference{{Verb: "create", Key: "link x"}}
		}}, severity: Problem, code: "difference", words: "create link x"},
		{name: "garbage", change: change{do: func(p *Patient, _ *worldtest.Kernel) { p.Engine.Garbage = []string{"link veth1", "address 10.0.0.9"} }}, severity: Warning, code: "garbage", words: "link veth1 and address 10.0.0.9"},
		{name: "contested", change: change{do: func(p *Patient, _ *worldtest.Kernel) {
			p.Engine.Backoffs = []string{"addr docker0 is undone again and again"}
		}}, severity: Problem, code: "repair-contested"},
		{name: "mesh", change: change{do: func(p *Patient, _ *worldtest.Kernel) {
			p.Engine.Mesh = &Mesh{ID: "7d2f6b1c", Hosts: 3, Words: []string{"etcd cannot be reached"}}
		}}, severity: Warning, code: "mesh", words: "etcd cannot be reached"},
		{name: "store", change: change{do: func(p *Patient, _ *worldtest.Kernel) { p.Engine.StoreErr = errors.New("torn") }}, severity: Problem, code: "store-damaged", words: "--repair-store"},
		{name: "disk", change: change{do: func(p *Patient, _ *worldtest.Kernel) { p.Machine.Disks[0].Free = 1 << 30 }}, severity: Problem, code: "disk-full"},
		{name: "disk of terabytes", change: change{do: func(p *Patient, _ *worldtest.Kernel) {
			p.Machine.Disks[0].Total, p.Machine.Disks[0].Free = 10<<40, 400<<30
		}}},
		{name: "inodes", change: change{do: func(p *Patient, _ *worldtest.Kernel) { p.Machine.Disks[0].Left = 10 }}, severity: Warning, code: "disk-inodes"},
		{name: "old clock", change: change{do: func(p *Patient, _ *worldtest.Kernel) { p.Machine.Now = time.Unix(0, 0) }}, severity: Problem, code: "clock-wrong"},
		{name: "no cgroups", change: change{files: map[string]string{"sys/fs/cgroup/cgroup.controllers": "-"}}, severity: Problem, code: "cgroup-none"},
		{name: "cgroup v1", change: change{files: map[string]string{"sys/fs/cgroup/cgroup.controllers": "-", "sys/fs/cgroup/cpu,cpuacct/x": "", "sys/fs/cgroup/memory/x": "", "sys/fs/cgroup/pids/x": ""}}},
		{name: "cgroup v1 without memory", change: change{files: map[string]string{"sys/fs/cgroup/cgroup.controllers": "-", "sys/fs/cgroup/cpu/x": "", "sys/fs/cgroup/pids/x": ""}}, severity: Warning, code: "cgroup-controllers", words: "cgroup_enable=memory"},
		{name: "networkd for everything", change: change{files: map[string]string{"proc/9/comm": "systemd-network", "etc/systemd/network/50-all.network": "[Match]\nName=*\n[Network]\nDHCP=yes"}}, severity: Warning, code: "manager-networkd", words: "50-all.network"},
		{name: "networkd for everything but ours", change: change{files: map[string]string{"proc/9/comm": "systemd-network", "etc/systemd/network/50-all.network": "[Match]\nName=*", "run/systemd/network/05-x.network": "[Match]\nKind=veth\n[Link]\nUnmanaged=yes"}}},
		{name: "networkd for a card", change: change{files: map[string]string{"proc/9/comm": "systemd-network", "etc/systemd/network/50-all.network": "[Match]\nName=en* eth*"}}},
		{name: "dhcpcd", change: change{files: map[string]string{"proc/9/comm": "dhcpcd", "etc/dhcpcd.conf": "hostname"}}, severity: Warning, code: "manager-dhcpcd"},
		{name: "dhcpcd that was told", change: change{files: map[string]string{"proc/9/comm": "dhcpcd", "etc/dhcpcd.conf": "denyinterfaces veth*"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := well(c.files)
			if c.do != nil {
				c.do(p, p.World.Kernel.(*worldtest.Kernel))
			}
			r := Examine(context.Background(), p)
			var got []Finding
			for _, f := range r.Findings {
				if f.Severity == Problem || f.Severity == Warning {
					got = append(got, f)
				}
			}
			switch {
			case c.code == "" && len(got) == 0:
			case c.code == "" || len(got) != 1:
				t.Errorf("%+v", got)
			case got[0].Code != c.code || got[0].Severity != c.severity || !strings.Contains(got[0].What+" "+got[0].Why+" "+got[0].Cure, c.words):
				t.Errorf("%+v", got[0])
			}
		})
	}
}

// TestBlind: where nothing can be read, that is said, and nothing is made up.
func TestBlind(t *testing.T) {
	w := worldtest.New()
	w.Err, w.Live.Err = errors.New("netlink is away"), errors.New("netlink is away")
	r := Examine(context.Background(), &Patient{Host: fstest.MapFS{}, World: w.Diagnose(), Engine: &Engine{Compared: errors.New("busy")}})
	if s := strings.Join(r.Unseen, "\n"); !strings.Contains(s, "netlink is away") || !strings.Contains(s, "busy") {
		t.Errorf("%q", r.Unseen)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if r := Examine(ctx, well(nil)); len(r.Findings) != 0 || len(r.Unseen) != 1 {
		t.Errorf("%+v", r)
	}
}

// TestHere: the machine that runs the test answers.
func TestHere(t *testing.T) {
	m := Here("/", "/no/such/folder/at/all")
	if len(m.Disks) != 2 || m.Disks[0].Total == 0 || m.Disks[1].Err != nil || m.Disks[1].Total == 0 || m.Now.IsZero() || !strings.HasPrefix(m.Namespace, "net:[") {
		t.Errorf("%+v", m)
	}
	r := Examine(context.Background(), &Patient{Host: os.DirFS("/"), Machine: m})
	if r.Kernel == "" || len(r.Findings) < 5 {
		t.Errorf("%+v", r)
	}
}

func TestWords(t *testing.T) {
	for got, want := range map[string]string{
		names([]string{"a"}): "a", names([]string{"a", "b", "c"}): "a, b and c", names(nil): "none",
		names(strings.Split("abcdefgh", "")): "a, b, c, d, e and 3 more", few([]string{"a", "b", "c"}, 2): "a, b and 1 more",
		size(900): "900 B", size(3 << 30): "3.0 GiB", join("", "1"): "1", join("1", "2"): "1,2",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if !covers("8080,9000-9010", 9000, 9010) || covers("8080,9000-9010", 9000, 9011) || covers("", 1, 1) || !covers("8080", 8080, 8080) {
		t.Error("covers")
	}
	if got := wrap("one two three", 2, 9); got != "one two\n  three" {
		t.Errorf("%q", got)
	}
}

func FuzzUnit(f *testing.F) {
	f.Add("[Match]\nName=*\n[Link]\nUnmanaged=yes")
	f.Add("[Match]\nName=!eth*")
	f.Fuzz(func(_ *testing.T, s string) { readUnit(s); nameservers(s); ports(s); covers(s, 1, 3) })
}
