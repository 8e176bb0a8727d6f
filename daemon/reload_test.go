package daemon

import (
	"encoding/json"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"linkspan/internal/daemontest"
)

// reloading is a daemon whose configuration file a test rewrites.
type reloading struct {
	*daemontest.Daemon
	t    *testing.T
	file string
	have map[string]any
}

func startReloading(t *testing.T, o daemontest.Options, first map[string]any) *reloading {
	t.Helper()
	r := &reloading{t: t, file: filepath.Join(t.TempDir(), "daemon.json"), have: maps.Clone(first)}
	r.write(first)
	o.Args = append(o.Args, "--config-file", r.file)
	r.Daemon = daemontest.Start(t, o)
	return r
}

func (r *reloading) write(v map[string]any) {
	r.t.Helper()
	b, err := json.Marshal(v)
	if err == nil {
		err = os.WriteFile(r.file, b, 0o600)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// reload writes a file, sends SIGHUP, and returns what the daemon said until word.
func (r *reloading) hup(word string, v map[string]any) string {
	r.t.Helper()
	r.write(v)
	before := len(r.Log())
	r.Signal(syscall.SIGHUP)
	r.Until(10*time.Second, "the log says "+word, func() bool { return strings.Contains(r.Log()[before:], word) })
	return r.Log()[before:]
}

// set changes keys of the file; nil takes one away. The rest stays.
func (r *reloading) set(more map[string]any) string {
	r.t.Helper()
	for k, v := range more {
		if r.have[k] = v; v == nil {
			delete(r.have, k)
		}
	}
	return r.hup("configuration reloaded", r.have)
}

// refused changes keys to what cannot be: the daemon says why, and holds to the last
// file.
func (r *reloading) refused(word string, more map[string]any) {
	r.t.Helper()
	v := maps.Clone(r.have)
	maps.Copy(v, more)
	if said := r.hup("the configuration was not reloaded", v); !strings.Contains(said, word) {
		r.t.Errorf("no %q in\n%s", word, said)
	}
	r.write(r.have)
}

func (r *reloading) has(what, text string, want ...string) {
	r.t.Helper()
	for _, w := range want {
		if not, ok := strings.CutPrefix(w, "!"); ok == strings.Contains(text, not) {
			r.t.Errorf("%s: want %q in\n%s", what, w, text)
		}
	}
}

func (r *reloading) page() string { return r.Host.Run("nft", "list", "ruleset") }

// TestReloadOfTheFile: what can be taken over is, what waits is named, and a file
// with one bad value changes nothing.
func TestReloadOfTheFile(t *testing.T) {
	r := startReloading(t, daemontest.Options{World: daemontest.NewBareWorld(t)}, map[string]any{"labels": []string{"a=1"}})
	said := r.set(map[string]any{"labels": []string{"a=2"}, "bridge": "br0", "fixed-cidr": "10.211.55.64/26", "group": "root", "dns": []string{"192.0.2.53"}})
	r.has("the log", said, "bridge changed in", "from nothing to br0", "fixed-cidr changed in", "takes effect when the daemon is started again", "!dns changed in")
	r.has("labels", r.Docker("info", "-f", "{{.Labels}}"), "[a=2]")
	told := r.Docker("events", "--since", "1m", "--until", time.Now().Format(time.RFC3339Nano), "-f", "event=reload")
	r.has("the event", told, `labels=["a=2"]`, "dns=[192.0.2.53]", "icc=true", "bip=", "default-address-pools=", "fixed-cidr=,", "mtu=1500")
	r.set(map[string]any{"bridge": nil, "fixed-cidr": nil, "group": nil})

	before := r.Docker("network", "inspect", "bridge") + r.Host.Run("ip", "addr", "show", "docker0") + r.page()
	for word, bad := range map[string]map[string]any{
		"mtu":                           {"mtu": "big"},
		"default-gateway":               {"default-gateway": "10.99.0.1"},
		"ip-range":                      {"fixed-cidr": "10.99.0.0/24"},
		"overlap":                       {"bip": daemontest.HostAddr + "/16"},
		"did you mean max-size?":        {"log-opts": map[string]string{"max-sizes": "1m"}},
		"com.docker.network.driver.mtu": {"default-network-opts": map[string]any{"bridge": map[string]string{"com.docker.network.driver.mtuu": "1"}}},
		"nosuch":                        {"default-runtime": "nosuch"},
		"/nosuch/init":                  {"init-path": "/nosuch/init"},
		"outside of its mask":           {"bridge-accept-fwmark": "0x4/0x3"},
		"RFC 8200":                      {"ipv6": true, "bip6": "fd00:10::1/64", "mtu": 1000},
	} {
		maps.Copy(bad, map[string]any{"labels": []string{"a=3"}, "icc": false, "ip-masq": false, "log-driver": "local"})
		r.refused(word, bad)
		r.has("labels after "+word, r.Docker("info", "-f", "{{.Labels}} {{.LoggingDriver}}"), "[a=2] json-file")
		if after := r.Docker("network", "inspect", "bridge") + r.Host.Run("ip", "addr", "show", "docker0") + r.page(); after != before {
			t.Errorf("%s changed something:\n%s", word, after)
		}
	}
}

// answers serves DNS on the host's address: one name, and it does not know others.
func (r *reloading) answers(name, addr string) {
	r.t.Helper()
	var pc net.PacketConn
	if err := r.Host.Do(func() (err error) {
		pc, err = net.ListenPacket("udp4", daemontest.HostAddr+":53")
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
	s := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Name != name {
			m.Rcode = dns.RcodeNameError
		} else if q.Question[0].Qtype == dns.TypeA {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5}, A: net.ParseIP(addr)}}
		}
		_ = w.WriteMsg(m)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.ActivateAndServe() }()
	r.t.Cleanup(func() { pc.Close(); <-done })
}

// TestReloadOfNames: containers that run and that come later ask whom the file says.
func TestReloadOfNames(t *testing.T) {
	r := startReloading(t, daemontest.Options{}, map[string]any{})
	r.Docker("pull", "-q", "busybox")
	r.Docker("network", "create", "--subnet", "172.29.0.0/24", "shop")
	r.answers("www.elsewhere.example.", "192.0.2.99")
	for name, more := range map[string][]string{"plain": nil, "named": {"--network", "shop"}, "own": {"--dns", "192.0.2.1", "--dns-search", "own.example"}, "host": {"--network", "host"}} {
		r.Docker(append(append([]string{"run", "-d", "--name", name}, more...), "busybox", "sleep", "600")...)
	}
	resolv := func(name string) string { return r.Docker("exec", name, "cat", "/etc/resolv.conf") }
	r.set(map[string]any{"dns": []string{daemontest.HostAddr}, "dns-opts": []string{"timeout:1"}, "dns-search": []string{"corp.example"}, "host-gateway-ips": []string{"192.0.2.7"}})
	r.has("plain", resolv("plain"), "nameserver "+daemontest.HostAddr, "search corp.example", "options timeout:1")
	r.has("named", resolv("named"), "nameserver 127.0.0.11", "search corp.example", "timeout:1")
	r.has("own", resolv("own"), "nameserver 192.0.2.1", "search own.example", "!"+daemontest.HostAddr)
	r.has("host", resolv("host"), daemontest.HostAddr, "search corp.example")
	r.has("a new one", r.Docker("run", "--rm", "busybox", "cat", "/etc/resolv.conf"), "nameserver "+daemontest.HostAddr, "search corp.example", "options timeout:1")
	r.has("host.docker.internal", r.Docker("exec", "named", "nslookup", "host.docker.internal"), "192.0.2.7")
	r.has("/etc/hosts", r.Docker("exec", "plain", "cat", "/etc/hosts"), "192.0.2.7\thost.docker.internal")
	r.has("--add-host", r.Docker("run", "--rm", "--add-host", "x:host-gateway", "busybox", "cat", "/etc/hosts"), "192.0.2.7\tx")
	// The resolver of a container that ran all the while asks the new server.
	r.has("a name that only the new server knows", r.TryDocker("exec", "named", "ping", "-c", "1", "-W", "1", "www.elsewhere.example").Stdout, "192.0.2.99")

	r.set(map[string]any{"dns": nil, "dns-opts": nil, "dns-search": nil, "host-gateway-ips": nil})
	r.has("plain, back", resolv("plain"), "!"+daemontest.HostAddr, "!corp.example", "nameserver")
	r.has("host.docker.internal, back", r.Docker("exec", "named", "nslookup", "host.docker.internal"), "172.29.0.1", "!192.0.2.7")
}

// TestReloadOfTheBridge: under containers that run, the kernel follows; what they
// stand on waits for them.
func TestReloadOfTheBridge(t *testing.T) {
	r := startReloading(t, daemontest.Options{}, map[string]any{"bip": "172.30.0.1/24"})
	r.Docker("pull", "-q", "busybox")
	r.Docker("run", "-d", "--name", "aa", "-p", "8080:80", "busybox", "sleep", "600")
	r.Docker("run", "-d", "--name", "bb", "busybox", "sleep", "600")
	pid := r.Docker("inspect", "-f", "{{.State.Pid}}", "aa")
	b := r.Docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "bb")
	reaches := func() bool { return r.TryDocker("exec", "aa", "ping", "-c", "1", "-W", "1", b).Code == 0 }
	if !reaches() {
		t.Fatal("a does not reach b")
	}
	r.has("the page", r.page(), "172.30.0.0/24", "!bridge-accept-fwmark")

	r.set(map[string]any{"icc": false, "bridge-accept-fwmark": "0x1/0x3", "ip": "127.0.0.1"})
	if reaches() {
		t.Error("icc=false, and a reaches b")
	}
	r.has("the page", r.page(), "bridge-accept-fwmark")
	r.Docker("run", "-d", "--name", "cc", "-p", "8081:80", "busybox", "sleep", "600")
	r.has("ports", r.Docker("port", "aa")+r.Docker("port", "cc"), "0.0.0.0:8080", "127.0.0.1:8081", "!0.0.0.0:8081")

	masked := strings.Count(r.page(), "172.30.0.0/24")
	r.set(map[string]any{"icc": nil, "bridge-accept-fwmark": nil, "ip": nil, "ip-masq": false})
	if !reaches() {
		t.Error("icc=true again, and a does not reach b")
	}
	if n := strings.Count(r.page(), "172.30.0.0/24"); n >= masked {
		t.Errorf("ip-masq=false: %d of %d\n%s", n, masked, r.page())
	}
	closed := r.page()
	r.set(map[string]any{"ip-masq": nil, "allow-direct-routing": true, "fixed-cidr": "172.30.0.128/25", "default-gateway": "172.30.0.9"})
	if r.page() == closed {
		t.Error("allow-direct-routing changes nothing in the page")
	}
	r.has("a new one", r.Docker("run", "--rm", "busybox", "sh", "-c", "ip route; ip -o addr show eth0"), "default via 172.30.0.9", "inet 172.30.0.1")
	r.has("its address", r.Docker("run", "--rm", "busybox", "sh", "-c", "ip -o -4 addr show eth0 | grep -E '172.30.0.(1[2-9][0-9]|2[0-9][0-9])/'"), "172.30.0.")
	r.has("one that ran", r.Docker("exec", "aa", "ip", "route"), "default via 172.30.0.1 ")

	said := r.set(map[string]any{"bip": "10.77.0.1/24", "mtu": 1400, "fixed-cidr": nil, "default-gateway": nil, "ipv6": true, "bip6": "fd00:77::1/64"})
	r.has("the log", said, "keeps its old settings until its containers are gone", "SIGHUP", `containers="aa, bb, cc"`, "wanted 10.77.0.1/24")
	r.has("docker0", r.Host.Run("ip", "-o", "addr", "show", "docker0"), "172.30.0.1/24", "!10.77.0.1")
	if now := r.Docker("inspect", "-f", "{{.State.Pid}}", "aa"); now != pid || !reaches() {
		t.Errorf("a: process %s, was %s", now, pid)
	}
	r.Docker("rm", "-f", "aa", "bb", "cc")
	if said := r.set(nil); strings.Contains(said, "keeps its old settings") {
		t.Error(said)
	}
	r.has("docker0", r.Host.Run("sh", "-c", "ip -o addr show docker0; ip -o link show docker0"), "10.77.0.1/24", "fd00:77::1/64", "!172.30.0.1")
	r.has("a new one", r.Docker("run", "--rm", "busybox", "ip", "addr"), "inet 10.77.0.2/24", "inet6 fd00:77::2/64", "mtu 1400")

	// The same file at a start finds nothing to change.
	was := r.Docker("network", "inspect", "bridge") + r.page()
	r.Restart()
	if is := r.Docker("network", "inspect", "bridge") + r.page(); is != was {
		t.Errorf("the start changed\n%s\nto\n%s", was, is)
	}
}

// TestReloadOfDefaults: what is made later gets them, and what is there keeps its own.
func TestReloadOfDefaults(t *testing.T) {
	r := startReloading(t, daemontest.Options{}, map[string]any{"ip-forward": false})
	r.Docker("pull", "-q", "busybox")
	forward := func() string { return strings.TrimSpace(r.Host.Run("cat", "/proc/sys/net/ipv4/ip_forward")) }
	before := forward()
	r.Docker("network", "create", "old")
	r.Docker("run", "-d", "--name", "first", "busybox", "sleep", "600")
	r.set(map[string]any{"default-address-pools": []map[string]any{{"base": "10.88.0.0/16", "size": 26}}, "mtu": 1400,
		"default-network-opts": map[string]any{"bridge": map[string]string{"com.docker.network.enable_ipv6": "true"}},
		"log-driver":           "local", "log-opts": map[string]string{"max-size": "1m"}, "init": true, "ip-forward": nil})
	if forward() != "1" {
		t.Errorf("ip_forward was %s, is %s", before, forward())
	}
	r.Docker("network", "create", "new")
	r.has("new", r.Docker("network", "inspect", "new", "-f", "{{json .}}"), `"10.88.0.0/26"`, `"EnableIPv6":true`)
	r.has("old", r.Docker("network", "inspect", "old", "-f", "{{json .}}"), `!10.88.`, `"EnableIPv6":false`, "!1400")
	r.has("on new", r.Docker("run", "--rm", "--network", "new", "busybox", "ip", "link"), "mtu 1400")
	r.has("on old", r.Docker("run", "--rm", "--network", "old", "busybox", "ip", "link"), "mtu 1500", "!mtu 1400")
	r.Docker("run", "-d", "--name", "second", "busybox", "sleep", "600")
	const logs = "{{json .HostConfig.LogConfig}}"
	r.has("first", r.Docker("inspect", "-f", logs, "first"), `"json-file"`)
	r.has("second", r.Docker("inspect", "-f", logs, "second"), `{"Type":"local","Config":{"max-size":"1m"}}`)
	r.has("init", r.Docker("exec", "second", "cat", "/proc/1/cmdline"), "init")
	r.has("info", r.Docker("info", "-f", "{{.LoggingDriver}} {{json .DefaultAddressPools}} {{.InitBinary}}"), `local [{"Base":"10.88.0.0/16","Size":26}] docker-init`)
	said := r.set(map[string]any{"ip-forward": false, "init": nil, "log-driver": nil, "log-opts": nil})
	r.has("the log", said, "forwarding is not turned on any more, and stays as it is")
	r.Docker("run", "-d", "--name", "third", "busybox", "sleep", "600")
	r.has("third", r.Docker("inspect", "-f", logs, "third")+r.Docker("exec", "third", "cat", "/proc/1/cmdline"), `"json-file"`, "!init")
	r.Docker("rm", "-f", "first", "second", "third")
	r.Docker("network", "rm", "old", "new")
}
