package config

import (
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	units "github.com/docker/go-units"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"linkspan/cnm"
)

var comparer = cmp.Options{cmpopts.IgnoreUnexported(Config{}), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})}

// with parses flags and a file; file "" means there is none.
func with(name, file string, args ...string) (*Result, error) {
	return parse(name, args, func(string) ([]byte, error) {
		if file == "" {
			return nil, fs.ErrNotExist
		}
		return []byte(file), nil
	})
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// TestWorks gives every directive that works once as a flag and once in the
// file: both must make the same Config, without a warning.
func TestWorks(t *testing.T) {
	nofile := &units.Ulimit{Name: "nofile", Soft: 64, Hard: 128}
	for _, c := range []struct {
		args string // separated by spaces
		file string
		want func(*Config)
	}{
		{"-H unix:///a.sock --host unix:///b.sock -H fd://", `{"hosts":["unix:///a.sock","unix:///b.sock","fd://"]}`,
			func(c *Config) { c.Hosts = []Host{{"unix", "/a.sock"}, {"unix", "/b.sock"}, {"fd", ""}} }},
		{"-H unix://", `{"hosts":["unix://"]}`, func(c *Config) {}},
		{"--data-root /d", `{"data-root":"/d"}`, func(c *Config) { c.DataRoot = "/d" }},
		{"--exec-root /e/", `{"exec-root":"/e/"}`, func(c *Config) {
			c.ExecRoot, c.Pidfile, c.Hosts = "/e", "/e/linkspan.pid", []Host{{"unix", "/e/linkspan.sock"}}
		}},
		{"-p /x.pid", `{"pidfile":"/x.pid"}`, func(c *Config) { c.Pidfile = "/x.pid" }},
		{"-G adm", `{"group":"adm"}`, func(c *Config) { c.Group, c.GroupGiven = "adm", true }},
		{"-D", `{"debug":true}`, func(c *Config) { c.Debug = true }},
		{"--debug=false", `{"debug":false}`, func(c *Config) {}},
		{"-l warn", `{"log-level":"warn"}`, func(c *Config) { c.LogLevel = slog.LevelWarn }},
		{"--log-format json", `{"log-format":"json"}`, func(c *Config) { c.LogFormat = "json" }},
		{"--label a=1 --label b --label b=", `{"labels":["a=1","b","b="]}`, nil},
		{"--label a=1 --label b=x=y --label a=1", `{"labels":["a=1","b=x=y","a=1"]}`, func(c *Config) { c.Labels = []string{"a=1", "b=x=y"} }},
		{"--shutdown-timeout -1", `{"shutdown-timeout":-1}`, func(c *Config) { c.ShutdownTimeout = -time.Second }},
		{"--experimental", `{"experimental":true}`, func(c *Config) { c.Experimental = true }},
		{"--feature a --feature b=false", `{"features":{"a":true,"b":false}}`, func(c *Config) { c.Features = map[string]bool{"a": true, "b": false} }},
		{"--containerd unix:///c.sock", `{"containerd":"/c.sock"}`, func(c *Config) { c.Containerd = "/c.sock" }},
		{"--containerd-namespace my-1.ns", `{"containerd-namespace":"my-1.ns"}`, func(c *Config) { c.ContainerdNamespace = "my-1.ns" }},
		{"--registry-mirror http://127.0.0.1:5000 --registry-mirror https://m/", `{"registry-mirrors":["http://127.0.0.1:5000/","https://m"]}`,
			func(c *Config) { c.RegistryMirrors = []string{"http://127.0.0.1:5000", "https://m"} }},
		{"--insecure-registry 10.1.2.3/8 --insecure-registry http://Reg:5000", `{"insecure-registries":["10.0.0.0/8","reg:5000"]}`,
			func(c *Config) { c.InsecureRegistries = []string{"10.0.0.0/8", "reg:5000"} }},
		{"--max-concurrent-downloads 7", `{"max-concurrent-downloads":7}`, func(c *Config) { c.MaxConcurrentDownloads = 7 }},
		{"--max-concurrent-downloads 0 --max-download-attempts 0 --mtu 0", `{"max-concurrent-downloads":0,"max-download-attempts":0,"mtu":0}`, func(c *Config) {}},
		{"--max-download-attempts 2", `{"max-download-attempts":2}`, func(c *Config) { c.MaxDownloadAttempts = 2 }},
		{"--http-proxy http://u:p@x:1 --https-proxy x:2 --no-proxy a,b", `{"proxies":{"http-proxy":"http://u:p@x:1","https-proxy":"x:2","no-proxy":"a,b"}}`,
			func(c *Config) { c.HTTPProxy, c.HTTPSProxy, c.NoProxy = "http://u:p@x:1", "x:2", "a,b" }},
		{"--default-runtime crun", `{"default-runtime":"crun"}`, func(c *Config) { c.DefaultRuntime = "crun" }},
		{"--add-runtime crun=/usr/bin/crun", `{"runtimes":{"crun":{"path":"/usr/bin/crun"}}}`,
			func(c *Config) { c.Runtimes = map[string]Runtime{"crun": {Path: "/usr/bin/crun"}} }},
		{"--default-ipc-mode shareable", `{"default-ipc-mode":"shareable"}`, func(c *Config) { c.DefaultIPCMode = "shareable" }},
		{"--default-cgroupns-mode host", `{"default-cgroupns-mode":"host"}`, func(c *Config) { c.DefaultCgroupnsMode = "host" }},
		{"--default-shm-size 128M", `{"default-shm-size":134217728}`, func(c *Config) { c.DefaultShmSize = 128 << 20 }},
		{"--default-shm-size 1000", `{"default-shm-size":"1000"}`, func(c *Config) { c.DefaultShmSize = 1000 }},
		{"--default-ulimit nofile=64:128", `{"default-ulimits":{"nofile":{"Name":"nofile","Soft":64,"Hard":128}}}`,
			func(c *Config) { c.DefaultUlimits = map[string]*units.Ulimit{"nofile": nofile} }},
		{"--cgroup-parent /x", `{"cgroup-parent":"/x"}`, func(c *Config) { c.CgroupParent = "/x" }},
		{"--seccomp-profile unconfined", `{"seccomp-profile":"unconfined"}`, func(c *Config) { c.SeccompProfile = "unconfined" }},
		{"--seccomp-profile /p.json", `{"seccomp-profile":"/p.json"}`, func(c *Config) { c.SeccompProfile = "/p.json" }},
		{"--no-new-privileges", `{"no-new-privileges":true}`, func(c *Config) { c.NoNewPrivileges = true }},
		{"--mtu 9000", `{"mtu":9000}`, func(c *Config) { c.MTU = 9000 }},
		{"--bip 10.10.10.10/24 --fixed-cidr 10.10.10.200/25 --default-gateway 10.10.10.1", `{"bip":"10.10.10.10/24","fixed-cidr":"10.10.10.128/25","default-gateway":"10.10.10.1"}`,
			func(c *Config) {
				c.BIP, c.FixedCIDR, c.DefaultGateway = netip.MustParsePrefix("10.10.10.10/24"), netip.MustParsePrefix("10.10.10.128/25"), ip("10.10.10.1")
			}},
		{"-b br0", `{"bridge":"br0"}`, func(c *Config) { c.Bridge = "br0" }},
		{"--bridge none", `{"bridge":"none"}`, func(c *Config) { c.Bridge = BridgeNone }},
		{"-b br0 --fixed-cidr 10.0.0.0/25 --default-gateway 10.0.0.254", `{"bridge":"br0","fixed-cidr":"10.0.0.0/25","default-gateway":"10.0.0.254"}`,
			func(c *Config) {
				c.Bridge, c.FixedCIDR, c.DefaultGateway = "br0", netip.MustParsePrefix("10.0.0.0/25"), ip("10.0.0.254")
			}},
		{"--ipv6 --bip6 fd00:10::1/64 --fixed-cidr-v6 fd00:10::1:0/112 --default-gateway-v6 fd00:10::fe", `{"ipv6":true,"bip6":"fd00:10::1/64","fixed-cidr-v6":"fd00:10::1:5/112","default-gateway-v6":"fd00:10::fe"}`,
			func(c *Config) {
				c.IPv6, c.BIP6, c.FixedCIDR6, c.DefaultGateway6 = true, netip.MustParsePrefix("fd00:10::1/64"), netip.MustParsePrefix("fd00:10::1:0/112"), ip("fd00:10::fe")
			}},
		{"--icc=false --ip-masq=0 --ip-forward=f --allow-direct-routing", `{"icc":false,"ip-masq":false,"ip-forward":false,"allow-direct-routing":true}`,
			func(c *Config) { c.ICC, c.IPMasq, c.IPForward, c.AllowDirectRouting = false, false, false, true }},
		{"--bridge-accept-fwmark 0x1/3", `{"bridge-accept-fwmark":"0x1/3"}`, func(c *Config) { c.AcceptMark = Mark{1, 3} }},
		{"--bridge-accept-fwmark 17", `{"bridge-accept-fwmark":"17"}`, func(c *Config) { c.AcceptMark = Mark{17, 0xffffffff} }},
		{"--default-address-pool base=10.0.0.0/8,size=24 --default-address-pool size=64,base=fd00::/48", `{"default-address-pools":[{"base":"10.0.0.0/8","size":24},{"base":"fd00::/48","size":64}]}`,
			func(c *Config) {
				c.AddressPools = []AddressPool{{netip.MustParsePrefix("10.0.0.0/8"), 24}, {netip.MustParsePrefix("fd00::/48"), 64}}
			}},
		{"--default-network-opt bridge=com.docker.network.driver.mtu=1400 --default-network-opt bridge=a=b=c --default-network-opt macvlan=parent=eth0",
			`{"default-network-opts":{"bridge":{"com.docker.network.driver.mtu":"1400","a":"b=c"},"macvlan":{"parent":"eth0"}}}`,
			func(c *Config) {
				c.NetworkOpts = map[string]map[string]string{"bridge": {"com.docker.network.driver.mtu": "1400", "a": "b=c"}, "macvlan": {"parent": "eth0"}}
			}},
		{"--init --init-path /sbin/tini", `{"init":true,"init-path":"/sbin/tini"}`, func(c *Config) { c.Init, c.InitPath = true, "/sbin/tini" }},
		{"--log-driver none", `{"log-driver":"none"}`, func(c *Config) { c.LogDriver = "none" }},
		{"--log-driver local", `{"log-driver":"local"}`, func(c *Config) { c.LogDriver = "local" }},
		{"--log-opt max-size=10m --log-opt max-file=3", `{"log-opts":{"max-size":"10m","max-file":"3"}}`,
			func(c *Config) { c.LogOpts = map[string]string{"max-size": "10m", "max-file": "3"} }},
		{"-H tcp://0.0.0.0 -H tcp://[::1] --tlsverify --tlscacert /ca --tlscert /c --tlskey /k", `{"hosts":["0.0.0.0","tcp://[::1]/"],"tlsverify":true,"tlscacert":"/ca","tlscert":"/c","tlskey":"/k"}`,
			func(c *Config) {
				c.Hosts = []Host{{"tcp", "0.0.0.0:2376"}, {"tcp", "[::1]:2376"}}
				c.TLS, c.TLSVerify, c.TLSGiven, c.TLSCACert, c.TLSCert, c.TLSKey = true, true, true, "/ca", "/c", "/k"
			}},
		{"--tls -H tcp://:1", `{"tls":true,"hosts":["tcp://localhost:1"]}`, func(c *Config) {
			c.Hosts, c.TLS, c.TLSGiven = []Host{{"tcp", "127.0.0.1:1"}}, true, true
			c.TLSCACert, c.TLSCert, c.TLSKey = "/etc/linkspan/ca.pem", "/etc/linkspan/cert.pem", "/etc/linkspan/key.pem"
		}},
		{"--ip 127.0.0.1", `{"ip":"127.0.0.1"}`, func(c *Config) { c.DefaultBindIP = ip("127.0.0.1") }},
		{"--dns 8.8.8.8 --dns 2001:DB8::1", `{"dns":["8.8.8.8","2001:db8:0::1"]}`, func(c *Config) { c.DNS = []netip.Addr{ip("8.8.8.8"), ip("2001:db8::1")} }},
		{"--dns-opt ndots:2 --dns-opt rotate", `{"dns-opts":["ndots:2","rotate"]}`, func(c *Config) { c.DNSOptions = []string{"ndots:2", "rotate"} }},
		{"--dns-search corp.example --dns-search .", `{"dns-search":["corp.example","."]}`, func(c *Config) { c.DNSSearch = []string{"corp.example", "."} }},
		{"--host-gateway-ip 10.0.0.1 --host-gateway-ip fd00::1", `{"host-gateway-ips":["10.0.0.1","fd00::1"]}`,
			func(c *Config) { c.HostGatewayIPs = []netip.Addr{ip("10.0.0.1"), ip("fd00::1")} }},
		{"--host-gateway-ip 10.0.0.1", `{"host-gateway-ip":"10.0.0.1"}`, func(c *Config) { c.HostGatewayIPs = []netip.Addr{ip("10.0.0.1")} }},
		{"", `{"debug":null,"dns":[]}`, func(c *Config) {}},
		{"", " \n", func(c *Config) {}},
		{"", "\xef\xbb\xbf{}", func(c *Config) {}},
	} {
		t.Run(c.args+c.file, func(t *testing.T) {
			if c.want == nil { // both must be refused
				for _, r := range [][2]string{{c.args, ""}, {"", c.file}} {
					if _, err := with("linkspan", r[1], strings.Fields(r[0])...); !errors.Is(err, cnm.ErrInvalid) {
						t.Errorf("%q %q: err %v, want invalid", r[0], r[1], err)
					}
				}
				return
			}
			want := Default("linkspan")
			c.want(want)
			for _, r := range [][2]string{{c.args, ""}, {"", c.file}} {
				got, err := with("linkspan", r[1], strings.Fields(r[0])...)
				if err != nil {
					t.Fatalf("%q %q: %v", r[0], r[1], err)
				}
				if d := cmp.Diff(want, got.Config, comparer); d != "" {
					t.Errorf("%q %q (-want +got):\n%s", r[0], r[1], d)
				}
				if len(got.Warnings) > 0 {
					t.Errorf("%q %q warns: %q", r[0], r[1], got.Warnings)
				}
			}
		})
	}
}

func TestNoted(t *testing.T) {
	for _, c := range []struct {
		args, file string
		want       string // part of the only warning; "" for none
	}{
		{args: "--userland-proxy", want: "--userland-proxy: published ports need no proxy process"},
		{args: "--userland-proxy=false"},
		{args: "--userland-proxy=0"},
		{file: `{"userland-proxy":true}`, want: `"userland-proxy" in /etc/linkspan/daemon.json: published ports`},
		{file: `{"userland-proxy":false}`},
		{args: "--live-restore"},
		{args: "--live-restore=false", want: "always on"},
		{args: "--iptables=false", want: "never touches iptables"},
		{args: "--iptables --ip6tables"},
		{args: "--firewall-backend nftables"},
		{args: "--firewall-backend iptables", want: "uses nftables"},
		{args: "-s overlay2"},
		{args: "--storage-driver btrfs", want: "overlayfs snapshotter"},
		{args: "--storage-opt a=b --storage-opt c=d", want: "--storage-opt:"},
		{file: `{"storage-opts":[]}`},
		{file: `{"exec-opts":["native.cgroupdriver=cgroupfs"]}`},
		{file: `{"exec-opts":["native.cgroupdriver=systemd"]}`, want: "cgroupfs"},
		{args: "--exec-opt native.cgroupdriver=systemd --exec-opt native.cgroupdriver=cgroupfs", want: "cgroupfs"},
		{args: "--swarm-default-advertise-addr eth0", want: "no swarm mode"},
		{args: "--raw-logs", want: ""},
		{args: "--ip-forward-no-drop", want: ""},
		{file: `{"builder":{"gc":{"enabled":true}}}`, want: "building images"},
		{file: `{"deprecated-key-path":"/x"}`, want: "no such key"},
	} {
		t.Run(c.args+c.file, func(t *testing.T) {
			r, err := with("linkspan", c.file, strings.Fields(c.args)...)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case c.want == "" && len(r.Warnings) == 0:
			case c.want != "" && len(r.Warnings) == 1 && strings.Contains(r.Warnings[0], c.want):
			default:
				t.Errorf("warnings %q, want %q", r.Warnings, c.want)
			}
			if d := cmp.Diff(Default("linkspan"), r.Config, comparer); d != "" {
				t.Errorf("a noted directive changed the configuration:\n%s", d)
			}
		})
	}
}

// TestPlainTCP: without TLS the loopback is warned of, and more needs the
// person's own word.
func TestPlainTCP(t *testing.T) {
	for _, c := range []struct{ args, host, want string }{
		{"-H tcp://127.0.0.1:2375", "tcp://127.0.0.1:2375", "every user and program on this host is root here"},
		{"-H 127.0.0.1:1234", "tcp://127.0.0.1:1234", "every user and program"},
		{"-H tcp://", "tcp://127.0.0.1:2375", "every user and program"},
		{"-H tcp://[::1]:2375", "tcp://[::1]:2375", "every user and program"},
		{"-H tcp://0.0.0.0:2375 --tls=false", "tcp://0.0.0.0:2375", "whoever reaches it is root here"},
		{"-H tcp://[::]:2375 --tlsverify=false", "tcp://[::]:2375", "whoever reaches it is root here"},
	} {
		r, err := with("linkspan", "", strings.Fields(c.args)...)
		if err != nil {
			t.Errorf("%s: %v", c.args, err)
			continue
		}
		if got := r.Config.Hosts[0].String(); got != c.host || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], c.want) {
			t.Errorf("%s: %s, %q", c.args, got, r.Warnings)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		args, file string
		want       string // "" for accepted
	}{
		{args: "--selinux-enabled=false"},
		{file: `{"userns-remap":""}`},
		{args: "--userns-remap default", want: "user namespaces"},
		{args: "--authorization-plugin x", want: "unsafe"},
		{args: "--nri-opts enable=true", want: "Node Resource"},
		{file: `{"nri-opts":{"enable":true}}`, want: "Node Resource"},
		{args: "--cluster-store etcd://x", want: "mesh"},
	} {
		t.Run(c.args+c.file, func(t *testing.T) {
			_, err := with("linkspan", c.file, strings.Fields(c.args)...)
			switch {
			case c.want == "" && err == nil:
			case c.want == "" || err == nil:
				t.Errorf("err %v, want %q", err, c.want)
			case !errors.Is(err, cnm.ErrUnsupported) || errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "not yet: "):
				t.Errorf("err %v, want not yet, with %q", err, c.want)
			}
		})
	}
	t.Run("all at once", func(t *testing.T) {
		_, err := with("linkspan", `{"userns-remap":"x"}`, "--rootless", "--cdi-spec-dir=/x")
		if got := strings.Count(err.Error(), "not yet: "); got != 3 {
			t.Errorf("%d refusals in one answer, want 3:\n%v", got, err)
		}
	})
}

func TestInvalid(t *testing.T) {
	for _, c := range []struct{ args, file, want string }{
		{args: "--mtuu 1", want: "unknown flag: --mtuu (did you mean --mtu?)\nSee 'linkspan daemon --help'."},
		{args: "--mtu", want: "flag needs an argument: --mtu"},
		{args: "--mtu x", want: `"x" for "--mtu" flag: want a whole number`},
		{args: "--mtu 67", want: "67 is not between 68 and 65535"},
		{args: "--debug=maybe", want: "want true or false"},
		{args: "--ipv6=maybe", want: "want true or false"},
		{args: "-b br0 --bip 10.0.0.1/24", want: "you specified -b & --bip, mutually exclusive options: a bridge of your own (br0) has its addresses already"},
		{args: "-b none --bip6 fd00::1/64", want: "you specified -b & --bip6"},
		{args: "-b none --fixed-cidr 10.0.0.0/24", want: "fixed-cidr is about the default network, and bridge=none"},
		{args: "-b none --ipv6", want: "ipv6 is about the default network"},
		{args: "-b a-name-of-16-char", want: "not the name of an interface"},
		{args: "-b a/b", want: "not the name of an interface"},
		{args: "--bip6 fd00::/64", want: "did you mean fd00::1/64?"},
		{args: "--bip6 10.0.0.1/24", want: "10.0.0.1/24 is not IPv6"},
		{args: "--bip6 fd00::1", want: "with a length"},
		{args: "--bip6 fd00::1/127", want: "126 at most"},
		{args: "--bip6 fd00::1/64 --fixed-cidr-v6 fd01::/80", want: "fixed-cidr-v6 fd01::/80 is not inside the default bridge's subnet fd00::/64 (from bip6 fd00::1/64)"},
		{args: "--fixed-cidr-v6 10.0.0.0/8", want: "not IPv6"},
		{args: "--fixed-cidr-v6 fd00::/64 --default-gateway-v6 fd01::1", want: "default-gateway-v6 fd01::1 is not inside the default bridge's subnet fd00::/64 (from fixed-cidr-v6"},
		{args: "--default-gateway-v6 10.0.0.1", want: "10.0.0.1 is not IPv6"},
		{args: "--default-address-pool 10.0.0.0/8", want: "want base=10.10.0.0/16,size=24"},
		{args: "--default-address-pool base=10.0.0.0/8", want: "the size must be a number"},
		{args: "--default-address-pool base=ten,size=24", want: `base "ten" is not a subnet`},
		{args: "--default-address-pool base=10.0.0.1/8,size=24", want: "it should be 10.0.0.0/8"},
		{args: "--default-address-pool base=10.0.0.0/24,size=16", want: "does not fit into the base 10.0.0.0/24: give a size from 24 to 30"},
		{args: "--default-address-pool base=10.0.0.0/24,size=31", want: "no room for a gateway and a container"},
		{args: "--default-address-pool base=10.0.0.0/8,size=24 --default-address-pool base=10.1.0.0/16,size=24", want: "base=10.0.0.0/8,size=24 and base=10.1.0.0/16,size=24 overlap"},
		{file: `{"default-address-pools":["base=10.0.0.0/8,size=24"]}`, want: "want an object"},
		{file: `{"default-address-pools":{"base":"10.0.0.0/8"}}`, want: "want a list such as"},
		{args: "--default-network-opt bridge", want: "want driver=key=value"},
		{args: "--default-network-opt bridge=mtu", want: "want driver=key=value"},
		{file: `{"default-network-opts":{"bridge":{"mtu":1400}}}`, want: "must be strings"},
		{file: `{"default-network-opts":{"bridge":"mtu=1"}}`, want: "want an object"},
		{args: "--bridge-accept-fwmark x", want: "want a number of 32 bits"},
		{args: "--bridge-accept-fwmark 1/0", want: "a mask of 0 would let every packet in"},
		{args: "--bridge-accept-fwmark 4/3", want: "bits outside of its mask"},
		{args: "--log-driver journald", want: `log driver "journald" is not there: want one of json-file, local, none`},
		{args: "--log-opt max-size", want: "want key=value"},
		{file: `{"log-opts":{"max-file":3}}`, want: "want a string in quotes"},
		{args: "-H tcp://0.0.0.0:2375", want: "refusing to listen on tcp://0.0.0.0:2375 without TLS: whoever reaches it is root"},
		{file: `{"hosts":["unix:///a","tcp://192.168.0.1:2375"]}`, want: "refusing to listen on tcp://192.168.0.1:2375"},
		{args: "-H tcp://box:2375", want: `"box" is not an IP address of this host`},
		{args: "-H tcp://1.2.3.4:x", want: `"x" is not a port`},
		{args: "-H tcp://fd00::1:2375 --tls", want: "stands in brackets"},
		{args: "-H tcp://127.0.0.1 -H tcp://127.0.0.1:2375", want: "given twice"},
		{args: "--cpu-rt-period x", want: "want a whole number"},
		{args: "start", want: `"linkspan daemon" accepts no arguments, and "start"`},
		{args: "-l loud", want: "invalid logging level: loud"},
		{args: "--log-format xml", want: "want text or json"},
		{args: "--label =x", want: "want key=value"},
		{args: "--label a=1 --label a=2", want: "conflict labels for a=2 and a=1"},
		{args: "--registry-mirror ftp://x", want: "unsupported scheme"},
		{args: "--registry-mirror http://x/v2", want: "path, query, or fragment"},
		{args: "--registry-mirror x:5000", want: "unsupported scheme"},
		{args: "--registry-mirror http://u:p@x", want: "not allowed in URI \"http://u:xxxxx@x\""},
		{args: "--insecure-registry x:99999", want: "invalid port"},
		{args: "--insecure-registry x/y", want: "want host, host:port or CIDR"},
		{args: "--bip 10.0.0.0/24", want: "did you mean 10.0.0.1/24?"},
		{args: "--bip 10.0.0.255/24", want: "broadcast"},
		{args: "--bip 10.0.0.1", want: "with a length"},
		{args: "--bip fd00::1/64", want: "not IPv4"},
		{args: "--bip 10.0.0.1/31", want: "30 at most"},
		{args: "--bip 10.0.0.1/24 --fixed-cidr 10.0.1.0/25", want: "not inside the default bridge's subnet 10.0.0.0/24"},
		{args: "--bip 10.0.0.1/24 --fixed-cidr 10.0.0.0/16", want: "not inside"},
		{args: "--bip 10.0.0.1/24 --default-gateway 10.0.1.1", want: "default-gateway 10.0.1.1 is not inside"},
		{args: "--ip ::1", want: "::1 is not IPv4"},
		{args: "--ip localhost", want: `"localhost" is not an IP address`},
		{args: "--dns one", want: `"one" is not an IP address`},
		{args: "--dns-search a..b", want: "a..b is not a valid domain"},
		{args: "--host-gateway-ip 10.0.0.1 --host-gateway-ip 10.0.0.2", want: "10.0.0.2 is one too many"},
		{args: "-H npipe://x", want: "invalid bind address (npipe://x)"},
		{args: "-H unix://x", want: "begins with /"},
		{args: "-H /x.sock", want: "write it as unix:///x.sock"},
		{args: "-H unix:///" + strings.Repeat("a", 107), want: "at most 107"},
		{args: "-H unix:///x -H unix:///x/", want: "given twice"},
		{args: "--containerd x.sock", want: "absolute path"},
		{args: "--containerd-namespace -x", want: "not a name that containerd takes"},
		{args: "--add-runtime crun", want: "want name=path"},
		{args: "--add-runtime runc=/x", want: "reserved"},
		{args: "--default-ulimit nofile", want: "invalid ulimit argument"},
		{args: "--default-ulimit nofile=9:1", want: "ulimit soft limit must be less than or equal to hard limit"},
		{args: "--default-shm-size much", want: "want a size such as 64m"},
		{args: "--default-shm-size 0", want: "above zero"},
		{args: "--default-ipc-mode host", want: "want private or shareable"},
		{args: "--default-runtime=", want: "want a name such as runc"},
		{args: "--data-root /x --exec-root /x/", want: "both /x"},
		{args: "--config-file /absent", want: "unable to configure the daemon with file /absent: "},

		{file: `{"registry-mirror":["x"]}`, want: `the following directives don't match any configuration option: registry-mirror (did you mean "registry-mirrors"?)`},
		{file: `{"dbug":true,"zzzzzzzz":1}`, want: `option: dbug (did you mean "debug"?), zzzzzzzz`},
		{file: `{"config-file":"/x"}`, want: "don't match any configuration option: config-file"},
		{file: `{"debug":true,"debug":false}`, want: `"debug" is given twice`},
		{file: `{"host-gateway-ip":"10.0.0.1","host-gateway-ips":["10.0.0.2"]}`, want: "must not both be specified"},
		{file: `{"mtu":"1400"}`, want: `"mtu" in /etc/linkspan/daemon.json: want a number, have a string`},
		{file: `{"mtu":1400.5}`, want: "want a whole number"},
		{file: `{"debug":"true"}`, want: "want true or false, have a string"},
		{file: `{"dns":"8.8.8.8"}`, want: "want a list of strings, have a string"},
		{file: `{"dns":[8]}`, want: "want a list of strings"},
		{file: `{"bip":17}`, want: "want a string, have a number"},
		{file: `{"features":{"x":1}}`, want: "x: want true or false, have a number"},
		{file: `{"features":[]}`, want: "want an object, have a list"},
		{file: `{"userland-proxy":"no"}`, want: "want true or false, have a string"},
		{file: `{"runtimes":{"kata":{}}}`, want: "kata: want a path or a runtimeType"},
		{file: `{"runtimes":{"kata":{"path":"/x","runtimeType":"y"}}}`, want: "exclude each other"},
		{file: `{"default-ulimits":{"nofile":{"Name":"core","Soft":1,"Hard":1}}}`, want: `its Name is "core"`},
		{file: `{"default-ulimits":{"nofile":5}}`, want: "want an object such as"},
		{file: `{"proxies":{"ftp-proxy":"x"}}`, want: "ftp-proxy"},
		{file: `{"http-proxy":"http://user:secret@ %"}`, want: "want a proxy's URL"},
		{file: "{\n  \"debug\": true,\n}", want: "line 3, column 1: invalid character '}' looking for beginning of object key string (is there a comma too many before it?)"},
		{file: "{\n  // why\n}", want: "line 2, column 3: invalid character '/' looking for beginning of object key string (JSON has no comments)"},
		{file: "{\"debug\": true\n\"mtu\": 1}", want: "line 2, column 1: invalid character '\"' after object key:value pair (is a comma missing before it?)"},
		{file: `{"debug":true} {}`, want: "line 1, column 16"},
		{file: `{"debug":`, want: "unexpected end of JSON input"},
		{file: `[]`, want: "/etc/linkspan/daemon.json is not a JSON object"},
		{file: "\xff\xfe{\x00}\x00", want: "UTF-16"},
	} {
		t.Run(c.args+c.file, func(t *testing.T) {
			_, err := with("linkspan", c.file, strings.Fields(c.args)...)
			if !errors.Is(err, cnm.ErrInvalid) || errors.Is(err, cnm.ErrUnsupported) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("err %v\nwant %s", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("a password is shown: %v", err)
			}
		})
	}
}

func TestConflicts(t *testing.T) {
	for _, c := range []struct{ args, file, want string }{
		{"--debug", `{"debug":false}`, "unable to configure the daemon with file /etc/linkspan/daemon.json: the following directives are specified both as a flag and in the configuration file: debug: (from flag: true, from file: false)"},
		{"--label a=1 --label b=2 --mtu 9000", `{"mtu":1400,"labels":["c=3"]}`, "file: labels: (from flag: [a=1 b=2], from file: [c=3]), mtu: (from flag: 9000, from file: 1400)"},
		{"--host-gateway-ip 10.0.0.1", `{"host-gateway-ip":"10.0.0.2"}`, "host-gateway-ip: (from flag: [10.0.0.1], from file: 10.0.0.2)"},
		{"--http-proxy http://u:secret@x", `{"proxies":{"http-proxy":"http://u:secret@y"}}`, "http-proxy: (from flag: http://xxxxx:xxxxx@x, from file: http://xxxxx:xxxxx@y)"},
		// A refused one conflicts first: the person repairs one thing at a time anyway.
		{"--init", `{"init":true}`, "init: (from flag: true, from file: true)"},
	} {
		_, err := with("linkspan", c.file, strings.Fields(c.args)...)
		if !errors.Is(err, cnm.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s:\n%v\nwant %s", c.args, c.file, err, c.want)
		}
	}

	r, err := with("linkspan", `{"runtimes":{"a":{"path":"/file"},"b":{"path":"/file"}}}`, "--add-runtime", "b=/flag", "--add-runtime", "c=/flag")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Runtime{"a": {Path: "/file"}, "b": {Path: "/flag"}, "c": {Path: "/flag"}}
	if d := cmp.Diff(want, r.Config.Runtimes); d != "" {
		t.Errorf("runtimes add up (-want +got):\n%s", d)
	}
}
