package config

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"linkspan/cnm"
)

func TestReload(t *testing.T) {
	for _, c := range []struct {
		name, args, before, after string
		keys                      string
		warnings                  []string
		want                      func(*Config)
	}{
		{name: "nothing", before: `{"debug":true}`, after: `{ "debug" : true }`},
		{name: "everything that can", after: `{"debug":true,"log-level":"error","labels":["a=1"],"registry-mirrors":["http://m"],"insecure-registries":["r:1"],
			"shutdown-timeout":60,"default-runtime":"crun","features":{"x":true}}`,
			keys: "debug log-level labels shutdown-timeout features registry-mirrors insecure-registries default-runtime",
			want: func(c *Config) {
				c.Debug, c.LogLevel, c.Labels, c.RegistryMirrors, c.InsecureRegistries = true, 8, []string{"a=1"}, []string{"http://m"}, []string{"r:1"}
				c.ShutdownTimeout, c.DefaultRuntime, c.Features = time.Minute, "crun", map[string]bool{"x": true}
			}},
		{name: "the networks", before: `{"mtu":1400}`, after: `{"init":true,"init-path":"/sbin/tini","log-driver":"local","log-opts":{"max-size":"1m"},"mtu":9000,
			"bip":"10.0.0.1/24","fixed-cidr":"10.0.0.128/25","default-gateway":"10.0.0.2","ipv6":true,"bip6":"fd00::1/64","fixed-cidr-v6":"fd00::1:0/112","default-gateway-v6":"fd00::2",
			"icc":false,"ip-masq":false,"ip":"127.0.0.1","dns":["1.1.1.1"],"dns-opts":["ndots:2"],"dns-search":["corp.example"],"host-gateway-ips":["192.0.2.1"],
			"default-address-pools":[{"base":"10.0.0.0/8","size":24}],"default-network-opts":{"bridge":{"a":"b"}},"ip-forward":false,"allow-direct-routing":true,"bridge-accept-fwmark":"0x1/0x3"}`,
			keys: "init init-path log-driver log-opts mtu bip fixed-cidr default-gateway ipv6 bip6 fixed-cidr-v6 default-gateway-v6 icc ip-masq ip dns dns-opts dns-search host-gateway-ips " +
				"default-address-pools default-network-opts ip-forward allow-direct-routing bridge-accept-fwmark",
			want: func(c *Config) {
				prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
				c.Init, c.InitPath, c.LogDriver, c.LogOpts, c.MTU = true, "/sbin/tini", "local", map[string]string{"max-size": "1m"}, 9000
				c.BIP, c.FixedCIDR, c.DefaultGateway = prefix("10.0.0.1/24"), prefix("10.0.0.128/25"), addr("10.0.0.2")
				c.IPv6, c.BIP6, c.FixedCIDR6, c.DefaultGateway6 = true, prefix("fd00::1/64"), prefix("fd00::1:0/112"), addr("fd00::2")
				c.ICC, c.IPMasq, c.DefaultBindIP = false, false, addr("127.0.0.1")
				c.DNS, c.DNSOptions, c.DNSSearch, c.HostGatewayIPs = []netip.Addr{addr("1.1.1.1")}, []string{"ndots:2"}, []string{"corp.example"}, []netip.Addr{addr("192.0.2.1")}
				c.AddressPools, c.NetworkOpts = []AddressPool{{prefix("10.0.0.0/8"), 24}}, map[string]map[string]string{"bridge": {"a": "b"}}
				c.IPForward, c.AllowDirectRouting, c.AcceptMark = false, true, Mark{1, 3}
			}},
		{name: "another bridge waits, and its addresses with it", before: `{"bip":"10.0.0.1/24"}`, after: `{"bridge":"br0","fixed-cidr":"10.211.55.64/26","icc":false}`, keys: "icc",
			warnings: []string{
				"bridge changed in /etc/linkspan/daemon.json from nothing to br0: this takes effect when the daemon is started again",
				"bip changed in /etc/linkspan/daemon.json from 10.0.0.1/24 to nothing: this takes effect when the daemon is started again",
				"fixed-cidr changed in /etc/linkspan/daemon.json from nothing to 10.211.55.64/26: this takes effect when the daemon is started again",
			},
			want: func(c *Config) { c.ICC = false }},
		{name: "back to the default", before: `{"labels":["a=1"],"debug":true}`, after: ``, keys: "debug labels",
			want: func(c *Config) { c.Labels, c.Debug = nil, false }},
		{name: "what waits for the next start", after: `{"exec-root":"/run/other","hosts":["unix:///x"],"group":"staff","debug":true}`, keys: "debug",
			warnings: []string{
				"hosts changed in /etc/linkspan/daemon.json from [unix:///run/linkspan/linkspan.sock] to [unix:///x]: this takes effect when the daemon is started again",
				"exec-root changed in /etc/linkspan/daemon.json from /run/linkspan to /run/other: this takes effect when the daemon is started again",
				"pidfile changed in /etc/linkspan/daemon.json from /run/linkspan/linkspan.pid to /run/other/linkspan.pid: this takes effect when the daemon is started again",
				"group changed in /etc/linkspan/daemon.json from docker to staff: this takes effect when the daemon is started again",
			},
			want: func(c *Config) { c.Debug = true }},
		{name: "flags hold", args: "--mtu 1300 --label a=1", after: `{"debug":true}`, keys: "debug", want: func(c *Config) { c.Debug = true }},
		{name: "a password in a warning", after: `{"http-proxy":"http://u:secret@p:1"}`,
			warnings: []string{"http-proxy changed in /etc/linkspan/daemon.json from nothing to http://xxxxx:xxxxx@p:1: this takes effect when the daemon is started again"}},
		{name: "a note that is new", before: `{"iptables":false}`, after: `{"iptables":false,"live-restore":false}`,
			warnings: []string{`"live-restore" in /etc/linkspan/daemon.json: it is always on: containers, their connections and logs outlive the daemon`}},
		{name: "one byte more of shared memory", before: `{"default-shm-size":67108864}`, after: `{"default-shm-size":67108865}`,
			warnings: []string{"default-shm-size changed in /etc/linkspan/daemon.json from 67108864 to 67108865: this takes effect when the daemon is started again"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := with("linkspan", c.before, strings.Fields(c.args)...)
			if err != nil {
				t.Fatal(err)
			}
			old := *r.Config
			want := old
			if c.want != nil {
				c.want(&want)
			}
			ch, err := Reload(r.Config, []byte(c.after))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(&want, ch.Config, comparer); d != "" {
				t.Errorf("after (-want +got):\n%s", d)
			}
			if d := cmp.Diff(&old, r.Config, comparer); d != "" {
				t.Errorf("the old configuration was changed:\n%s", d)
			}
			if got := strings.Join(ch.Keys, " "); got != c.keys {
				t.Errorf("keys %q, want %q", got, c.keys)
			}
			if d := cmp.Diff(c.warnings, ch.Warnings); d != "" {
				t.Errorf("warnings (-want +got):\n%s", d)
			}
			// The same file once more says nothing new, apart from what still waits.
			again, err := Reload(ch.Config, []byte(c.after))
			if err != nil || len(again.Keys) > 0 {
				t.Errorf("again: %+v, %v", again, err)
			}
		})
	}
}

func TestReloadRefuses(t *testing.T) {
	r, err := with("linkspan", "", "--debug")
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]struct {
		class error
		words string
	}{
		`{"debug":false}`:    {cnm.ErrInvalid, "specified both as a flag and in the configuration file: debug"},
		`{"dbug":false}`:     {cnm.ErrInvalid, `did you mean "debug"?`},
		`{`:                  {cnm.ErrInvalid, "is not a JSON object"},
		`{"rootless":true}`:  {cnm.ErrUnsupported, "not yet: "},
		`{"bip":"10.0.0.1"}`: {cnm.ErrInvalid, "with a length"},
		// One bad value, and the good ones beside it are not taken over either.
		`{"icc":false,"dns":["1.1.1.1"],"default-gateway":"somewhere"}`:                                {cnm.ErrInvalid, "default-gateway"},
		`{"icc":false,"bip":"10.0.0.1/24","fixed-cidr":"10.1.0.0/24"}`:                                 {cnm.ErrInvalid, "not inside the default bridge's subnet"},
		`{"default-address-pools":[{"base":"10.0.0.0/8","size":24},{"base":"10.1.0.0/16","size":24}]}`: {cnm.ErrInvalid, "overlap"},
	} {
		if ch, err := Reload(r.Config, []byte(file)); ch != nil || !errors.Is(err, want.class) || !strings.Contains(err.Error(), want.words) {
			t.Errorf("%s: %v, %v", file, ch, err)
		}
	}
}

// TestReloadable: what the event of a reload tells has every key that a reload can
// change, and says what holds.
func TestReloadable(t *testing.T) {
	r, err := with("linkspan", `{"dns":["1.1.1.1"],"log-opts":{"max-size":"1m"}}`, "--icc=false")
	if err != nil {
		t.Fatal(err)
	}
	have, n := r.Config.Reloadable(), 0
	for _, s := range Settings() {
		if s.Reload {
			n++
			if _, ok := have[s.Key]; !ok || s.Key == "" {
				t.Errorf("no %q", s.Key)
			}
		}
	}
	if len(have) != n {
		t.Errorf("%d of %d: %v", len(have), n, have)
	}
	for k, want := range map[string]string{"icc": "false", "dns": "[1.1.1.1]", "log-opts": `{"max-size":"1m"}`, "ip-masq": "true", "bip": "", "mtu": "1500"} {
		if have[k] != want {
			t.Errorf("%s: %q, want %q", k, have[k], want)
		}
	}
}

// TestWith: a directive waits with one that exists and is not reloadable.
func TestWith(t *testing.T) {
	ds := directives()
	for _, d := range ds {
		if o := byKey(ds, d.with); d.with != "" && (o == nil || o.reload || !d.reload) {
			t.Errorf("%s waits with %q", d.key, d.with)
		}
	}
}
