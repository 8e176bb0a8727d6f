package config

import (
	"errors"
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
		{name: "networks wait", after: `{"dns":["1.1.1.1"],"bridge":"br0","icc":false,"default-network-opts":{"bridge":{"a":"b"}},"default-address-pools":[{"base":"10.0.0.0/8","size":24}]}`,
			warnings: []string{
				"bridge changed in /etc/linkspan/daemon.json from nothing to br0: this takes effect when the daemon is started again",
				"icc changed in /etc/linkspan/daemon.json from true to false: this takes effect when the daemon is started again",
				"dns changed in /etc/linkspan/daemon.json from nothing to [1.1.1.1]: this takes effect when the daemon is started again",
				"default-address-pools changed in /etc/linkspan/daemon.json from nothing to [base=10.0.0.0/8,size=24]: this takes effect when the daemon is started again",
				`default-network-opts changed in /etc/linkspan/daemon.json from nothing to {"bridge":{"a":"b"}}: this takes effect when the daemon is started again`,
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
		`{"debug":false}`:    {cnm.ErrInvalid, "specified both as a flag and in the configuration file: debug"},
		`{"dbug":false}`:     {cnm.ErrInvalid, `did you mean "debug"?`},
		`{`:                  {cnm.ErrInvalid, "is not a JSON object"},
		`{"rootless":true}`:  {cnm.ErrUnsupported, "not yet: "},
		`{"bip":"10.0.0.1"}`: {cnm.ErrInvalid, "with a length"},
	} {
		if ch, err := Reload(r.Config, []byte(file)); ch != nil || !errors.Is(err, want.class) || !strings.Contains(err.Error(), want.words) {
			t.Errorf("%s: %v, %v", file, ch, err)
		}
	}
}
