package config

import (
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDefaultHost(t *testing.T) {
	for _, c := range []struct{ name, args, want string }{
		{"linkspan", "", "unix:///run/linkspan/linkspan.sock"},
		{"dockerd", "", "unix:///var/run/docker.sock"},
		{"linkspan", "--exec-root /e", "unix:///e/linkspan.sock"},
		{"dockerd", "--exec-root /e", "unix:///var/run/docker.sock"},
		{"dockerd", "-H unix:///x", "unix:///x"},
		{"dockerd", "-H unix:// -H fd://", "unix:///var/run/docker.sock fd://"},
	} {
		r, err := with(c.name, "", strings.Fields(c.args)...)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, h := range r.Config.Hosts {
			got = append(got, h.String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s %s: hosts %q, want %q", c.name, c.args, got, c.want)
		}
	}
}

func TestAsk(t *testing.T) {
	for args, want := range map[string]Ask{
		"": Run, "--validate": Validate, "--validate=false": Run, "--help": ShowHelp, "-h": ShowHelp, "-v": ShowVersion, "--version": ShowVersion,
		"--help --validate": ShowHelp,
	} {
		r, err := with("linkspan", "", strings.Fields(args)...)
		if err != nil || r.Ask != want {
			t.Errorf("%q: %+v, %v, want ask %d", args, r, err, want)
		}
	}
}

func TestReadsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "daemon.json")
	if err := os.WriteFile(path, []byte(`{"mtu": 1400}`), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Parse("linkspan", []string{"--config-file", path})
	if err != nil {
		t.Fatal(err)
	}
	if r.Config.MTU != 1400 || r.Config.ConfigFile != path {
		t.Errorf("mtu %d, file %s", r.Config.MTU, r.Config.ConfigFile)
	}
	// A file that is there and cannot be read is no reason to run without it.
	if _, err := Parse("linkspan", []string{"--config-file", filepath.Dir(path)}); err == nil {
		t.Error("a directory as the file passes")
	}
}

func TestLevel(t *testing.T) {
	for _, c := range []struct {
		args string
		want slog.Level
	}{
		{"", slog.LevelInfo}, {"-D", slog.LevelDebug}, {"-l error", slog.LevelError},
		{"-D -l error", slog.LevelDebug}, {"-D -l trace", slog.LevelDebug - 4}, {"-l WARN", slog.LevelWarn},
	} {
		r, err := with("linkspan", "", strings.Fields(c.args)...)
		if err != nil || r.Config.Level() != c.want {
			t.Errorf("%q: %v, want %v (%v)", c.args, r.Config.Level(), c.want, err)
		}
	}
}

func TestProxyEnv(t *testing.T) {
	r, err := with("linkspan", "", "--http-proxy", "http://p:1", "--no-proxy", "x")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]string{"HTTP_PROXY": "http://p:1", "NO_PROXY": "x"}, r.Config.ProxyEnv()); d != "" {
		t.Error(d)
	}
}

// TestTable holds what the table's reader relies on.
func TestTable(t *testing.T) {
	flags, keys, shorts := map[string]bool{"help": true, "version": true}, map[string]bool{}, map[string]bool{"h": true, "v": true}
	once := func(set map[string]bool, word, what string) {
		if word != "" && set[word] {
			t.Errorf("%s %q stands there twice", what, word)
		}
		set[word] = true
	}
	for _, d := range directives() {
		if d.flag == "" && d.key == "" {
			t.Error("a directive with neither flag nor key")
		}
		once(flags, d.flag, "flag")
		once(keys, d.key, "key")
		once(shorts, d.short, "letter")
		if d.flag != "" && d.help == "" {
			t.Errorf("%s has no help", d.name())
		}
		if _, is := d.val.(unused); (d.class == works) != (!is || d.flag == "validate") {
			t.Errorf("%s: class and value disagree", d.name())
		}
		if d.class == works != (d.note == "") {
			t.Errorf("%s: note %q", d.name(), d.note)
		}
		if d.reload && (d.class != works || d.key == "") {
			t.Errorf("%s is said to reload", d.name())
		}
		switch d.val.word() {
		case "bool", "string", "int", "bytes", "list", "map", "ip", "any":
		default:
			t.Errorf("%s: type %q", d.name(), d.val.word())
		}
		// A bool that says what Linkspan does anyway must pass.
		if d.val.word() == "bool" && d.class == refused && len(d.same) != 1 {
			t.Errorf("%s: neither true nor false is what Linkspan does", d.name())
		}
	}
}

// TestKnowsDockerd: every flag of dockerd 20.10 to 29 is one of ours, and has
// dockerd's key in the file.
func TestKnowsDockerd(t *testing.T) {
	ds := directives()
	for flag, key := range map[string]string{
		"add-runtime": "runtimes", "allow-direct-routing": "", "api-cors-header": "", "authorization-plugin": "authorization-plugins",
		"bip": "", "bip6": "", "bridge": "", "bridge-accept-fwmark": "", "cdi-spec-dir": "cdi-spec-dirs", "cgroup-parent": "", "cluster-advertise": "",
		"cluster-store": "", "cluster-store-opt": "cluster-store-opts", "containerd": "", "containerd-namespace": "",
		"containerd-plugins-namespace": "containerd-plugin-namespace", "cpu-rt-period": "", "cpu-rt-runtime": "", "cri-containerd": "",
		"data-root": "", "debug": "", "default-address-pool": "default-address-pools", "default-cgroupns-mode": "", "default-gateway": "",
		"default-gateway-v6": "", "default-ipc-mode": "", "default-network-opt": "default-network-opts", "default-runtime": "",
		"default-shm-size": "", "default-ulimit": "default-ulimits", "dns": "", "dns-opt": "dns-opts", "dns-search": "", "exec-opt": "exec-opts",
		"exec-root": "", "experimental": "", "feature": "features", "firewall-backend": "", "fixed-cidr": "", "fixed-cidr-v6": "", "group": "",
		"host": "hosts", "host-gateway-ip": "host-gateway-ips", "http-proxy": "", "https-proxy": "", "icc": "", "init": "", "init-path": "",
		"insecure-registry": "insecure-registries", "ip": "", "ip-forward": "", "ip-forward-no-drop": "", "ip-masq": "", "ip6tables": "",
		"iptables": "", "ipv6": "", "label": "labels", "live-restore": "", "log-driver": "", "log-format": "", "log-level": "",
		"log-opt": "log-opts", "max-concurrent-downloads": "", "max-concurrent-uploads": "", "max-download-attempts": "", "metrics-addr": "",
		"mtu": "", "network-control-plane-mtu": "", "network-diagnostic-port": "", "no-new-privileges": "", "no-proxy": "",
		"node-generic-resource": "node-generic-resources", "nri-opts": "", "pidfile": "", "raw-logs": "", "registry-mirror": "registry-mirrors",
		"rootless": "", "seccomp-profile": "", "selinux-enabled": "", "shutdown-timeout": "", "storage-driver": "", "storage-opt": "storage-opts",
		"swarm-default-advertise-addr": "", "tls": "", "tlscacert": "", "tlscert": "", "tlskey": "", "tlsverify": "", "userland-proxy": "",
		"userland-proxy-path": "", "userns-remap": "",
	} {
		if key == "" {
			key = flag
		}
		at := slices.IndexFunc(ds, func(d directive) bool { return d.flag == flag })
		if at < 0 || ds[at].key != key {
			t.Errorf("--%s (%s) is not known", flag, key)
		}
	}
	for letter, flag := range map[string]string{"H": "host", "D": "debug", "l": "log-level", "G": "group", "p": "pidfile", "s": "storage-driver", "b": "bridge"} {
		if at := slices.IndexFunc(ds, func(d directive) bool { return d.short == letter }); at < 0 || ds[at].flag != flag {
			t.Errorf("-%s is not --%s", letter, flag)
		}
	}
}

func TestHelp(t *testing.T) {
	h := Help("linkspan")
	for _, want := range []string{
		`^Usage:  linkspan daemon \[OPTIONS\]\n`,
		`(?m)^  -H, --host list +Socket to listen on`,
		`(?m)^      --mtu int .*\(default 1500\)$`,
		`(?m)^  -D, --debug  `,
		`(?m)^      --registry-mirror list`,
		`(?s)\nAccepted, and what Linkspan does instead:\n.*--live-restore .*always on.*\nNot yet: .*--rootless .*later work`,
		`HUP reloads from there: debug, log-level, labels,`,
	} {
		if !regexp.MustCompile(want).MatchString(h) {
			t.Errorf("no match for %q in\n%s", want, h)
		}
	}
	if strings.Contains(h, "(default [])") || strings.Contains(h, "(default {})") {
		t.Errorf("empty defaults are shown:\n%s", h)
	}
	for _, d := range directives() {
		if n := strings.Count(h, "--"+d.flag+" "); d.flag != "" && n == 0 {
			t.Errorf("--%s is not in the help", d.flag)
		}
	}
	if !strings.HasPrefix(Help("dockerd"), "Usage:  dockerd [OPTIONS]") {
		t.Error("as dockerd, it is called otherwise")
	}
}

func TestSettings(t *testing.T) {
	all := Settings()
	if len(all) != len(directives()) {
		t.Fatalf("%d of %d", len(all), len(directives()))
	}
	verdicts := map[string]string{}
	for _, s := range all {
		verdicts[s.Flag] = s.Verdict
		if s.Words == "" || s.Flag+s.Key == "" {
			t.Errorf("%+v", s)
		}
	}
	for flag, want := range map[string]string{"bridge": "works", "icc": "works", "live-restore": "accepted", "rootless": "refused"} {
		if verdicts[flag] != want {
			t.Errorf("%s: %s", flag, verdicts[flag])
		}
	}
}
