package networks

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

// TestHostResolvConf: what the host's administrator, or its DHCP client, writes into
// resolv.conf reaches containers that run, on every network; what a person wrote into
// a container's own file stays.
//
// The daemon is started with a resolv.conf of the test's over the host's, in a mount
// namespace of its own.
func TestHostResolvConf(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	conf, wrapper := filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "linkspan")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(conf, "nameserver 10.53.0.1\nsearch first.example\n")
	write(wrapper, fmt.Sprintf("#!/bin/sh\nexec unshare --mount --propagation slave sh -c 'mount --bind %s /etc/resolv.conf && exec %s \"$@\"' sh \"$@\"\n", conf, daemontest.Binary(t)))

	w := daemontest.NewWorld(t)
	for i, answer := range []string{"192.0.2.1", "192.0.2.2"} {
		addr := fmt.Sprintf("10.53.0.%d", i+1)
		w.Host.Run("ip", "addr", "add", addr+"/32", "dev", "lo")
		w.Host.Start([]string{"dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--pid-file=",
			"--bind-interfaces", "--listen-address=" + addr, "--local-ttl=1", "--address=/name.first.example/" + answer, "--address=/name.second.example/" + answer})
	}
	d := daemontest.Start(t, daemontest.Options{World: w, Binary: wrapper})
	d.Docker("network", "create", "mine")
	d.Docker("run", "-d", "--name", "on-mine", "--network", "mine", "centos", "sleep", "1000")
	d.Docker("run", "-d", "--name", "on-default", "centos", "sleep", "1000")
	d.Docker("run", "-d", "--name", "edited", "centos", "sh", "-c", "echo 'options timeout:1' >> /etc/resolv.conf; exec sleep 1000")
	file := func(name string) string { return d.Docker("exec", name, "cat", "/etc/resolv.conf") }
	asks := func(name, want string) {
		t.Helper()
		d.Until(15*time.Second, name+" resolves to "+want, func() bool {
			r := d.TryDocker("exec", name, "getent", "ahostsv4", "name")
			return r.Code == 0 && strings.HasPrefix(r.Stdout, want+" ")
		})
	}
	d.Until(lab.Patience, "the person has written", func() bool { return strings.Contains(file("edited"), "timeout:1") })
	if got := file("on-default"); !strings.Contains(got, "nameserver 10.53.0.1") || !strings.Contains(got, "search first.example") {
		t.Errorf("on the default bridge: %s", got)
	}
	if got := file("on-mine"); !strings.Contains(got, "nameserver 127.0.0.11") || !strings.Contains(got, "search first.example") {
		t.Errorf("on a network of one's own: %s", got)
	}
	asks("on-default", "192.0.2.1")
	asks("on-mine", "192.0.2.1")

	// Another network, another server.
	write(conf, "nameserver 10.53.0.2\nsearch second.example\n")
	asks("on-default", "192.0.2.2")
	asks("on-mine", "192.0.2.2")
	d.Until(lab.Patience, "the change is in the file, on the default bridge", func() bool {
		got := file("on-default")
		return !strings.Contains(got, "10.53.0.1") && strings.Contains(got, "search second.example")
	})
	d.Until(lab.Patience, "the change is in the file, on a network of one's own", func() bool {
		got := file("on-mine")
		return strings.Contains(got, "nameserver 127.0.0.11") && strings.Contains(got, "search second.example")
	})
	if got := file("edited"); !strings.Contains(got, "timeout:1") || !strings.Contains(got, "10.53.0.1") {
		t.Errorf("what a person wrote was overwritten: %s", got)
	}
	if strings.Contains(d.Docker("exec", "on-mine", "sh", "-c", "dig +short +tries=1 +time=2 nobody.first.example; true"), "192.0.2") {
		t.Error("an answer for a name that is not there")
	}
}
