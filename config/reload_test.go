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
			"max-concurrent-downloads":9,"max-download-attempts":2,"shutdown-timeout":60,"default-runtime":"crun","features":{"x":true},
			"dns":["1.1.1.1"],"dns-opts":["rotate"],"dns-search":["x.y"]}`,
			keys: "debug log-level labels shutdown-timeout features registry-mirrors insecure-registries max-concurrent-downloads max-download-attempts default-runtime dns dns-opts dns-search",
			want: func(c *Config) {
				c.Debug, c.LogLevel, c.Labels, c.RegistryMirrors, c.InsecureRegistries = true, 8, []string{"a=1"}, []string{"http://m"}, []string{"r:1"}
				c.MaxConcurrentDownloads, c.MaxDownloadAttempts, c.ShutdownTimeout, c.DefaultRuntime = 9, 2, time.Minute, "crun"
				c.Features, c.DNS, c.DNSOptions, c.DNSSearch = map[string]bool{"x": true}, []netip.Addr{ip("1.1.1.1")}, []string{"rotate"}, []string{"x.y"}
			}},
		{name: "back to the default", before: `{"labels":["a=1"],"debug":true}`, after: ``, keys: "debug labels",
			want: func(c *Config) { c.Labels, c.Debug = nil, false }},
		{name: "what waits for the next start", before: `{"mtu":1400}`, after: `{"mtu":9000,"bip":"10.0.0.1/24","debug":true}`, keys: "debug",
			warnings: []string{
				"mtu changed in /etc/linkspan/daemon.json from 1400 to 9000: this takes effect when the daemon is started again",
				"bip changed in /etc/linkspan/daemon.json from nothing to 10.0.0.1/24: this takes effect when the daemon is started again",
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
		`{"debug":false}`: {cnm.ErrInvalid, "specified both as a flag and in the configuration file: debug"},
		`{"dbug":false}`:  {cnm.ErrInvalid, `did you mean "debug"?`},
		`{`:               {cnm.ErrInvalid, "is not a JSON object"},
		`{"ipv6":true}`:   {cnm.ErrUnsupported, "not yet: "},
	} {
		if ch, err := Reload(r.Config, []byte(file)); ch != nil || !errors.Is(err, want.class) || !strings.Contains(err.Error(), want.words) {
			t.Errorf("%s: %v, %v", file, ch, err)
		}
	}
}
