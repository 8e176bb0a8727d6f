package container

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apicontainer "github.com/moby/moby/api/types/container"
)

func (w *world) resolvOf(ref string) string {
	w.t.Helper()
	c, err := w.e.Get(ref)
	if err != nil {
		w.t.Fatal(err)
	}
	b, err := os.ReadFile(w.e.Files(c.ID).ResolvConf)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

// The files of a running container follow its networks, and keep what a person
// wrote into them.
func TestFilesFollowTheNetworks(t *testing.T) {
	w := newWorld(t)
	w.shops()
	host := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(host, []byte("nameserver 10.0.0.53\nsearch corp.example\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.change = func(c *Config) { c.HostResolv.Resolv = host }
	e := w.start()
	ctx := t.Context()
	id := w.run("c1", "sleep 1000", func(r *CreateRequest) { r.Config.Hostname = "box" })
	if d := w.net.definition(id); len(d.Search) != 1 || d.Search[0] != "corp.example" {
		t.Errorf("%+v", d.Search)
	}
	if got := w.hostsOf(id); got != "<host>\n172.17.0.2 box\n" {
		t.Errorf("%q", got)
	}
	if got := w.resolvOf(id); !strings.Contains(got, "nameserver 10.0.0.53\n") {
		t.Error(got)
	}
	// Inside, through the mount, by its own hand.
	w.execute(id, ExecConfig{Cmd: []string{"sh", "-c", "echo 10.9.8.7 friend >>/etc/hosts"}}, "")
	ok(t, "connect", e.Connect(ctx, id, "shop", nil))
	if got := w.hostsOf(id); got != "172.17.0.2 box\n172.18.0.2 box\n10.9.8.7 friend\n" {
		t.Errorf("%q", got) // the resolver knows the host's names now
	}
	if _, out := w.execute(id, ExecConfig{Cmd: []string{"cat", "/etc/resolv.conf"}}, ""); !strings.Contains(out, "nameserver 127.0.0.11\nsearch corp.example\noptions ndots:0\n") || !strings.Contains(out, "# ExtServers: [host(10.0.0.53)]") {
		t.Errorf("%q", out)
	}
	ok(t, "disconnect", e.Disconnect(ctx, id, "bridge", false))
	if got := w.hostsOf(id); got != "172.18.0.2 box\n10.9.8.7 friend\n" {
		t.Errorf("%q", got)
	}
	ok(t, "disconnect", e.Disconnect(ctx, id, "shop", false))
	if got := w.resolvOf(id); w.hostsOf(id) != "10.9.8.7 friend\n" || strings.Contains(got, "127.0.0.11") {
		t.Errorf("%q %q", w.hostsOf(id), got)
	}
	// An edited resolv.conf is left alone.
	w.execute(id, ExecConfig{Cmd: []string{"sh", "-c", "echo nameserver 9.9.9.9 >/etc/resolv.conf"}}, "")
	ok(t, "connect", e.Connect(ctx, id, "shop", nil))
	if got := w.resolvOf(id); got != "nameserver 9.9.9.9\n" {
		t.Errorf("%q", got)
	}
	w.clean()
}

func TestHostGateway(t *testing.T) {
	w := newWorld(t)
	w.shops()
	w.net.nets["back"].Internal = true
	e := w.start()
	up := func(r *CreateRequest) { r.HostConfig.ExtraHosts = []string{"up:host-gateway"} }
	mode := func(m string) func(*CreateRequest) {
		return func(r *CreateRequest) { r.HostConfig.NetworkMode = apicontainer.NetworkMode(m) }
	}
	for _, c := range []struct{ name, mode, want string }{
		{"bridged", "default", "172.17.0.1 up"}, {"shopped", "shop", "172.18.0.1 up"}, {"inner", "back", "172.19.0.1 up"},
		{"alone", "none", "172.17.0.1 up"}, {"hosted", "host", "172.17.0.1 up"},
	} {
		w.run(c.name, "sleep 1000", up, mode(c.mode))
		b, err := os.ReadFile(e.Files(func() string { c, _ := e.Get(c.name); return c.ID }()).Hosts)
		if err != nil || !strings.Contains(strings.ReplaceAll(string(b), "\t", " "), c.want+"\n") {
			t.Errorf("%s: %q %v", c.name, b, err)
		}
	}
	// One's own name for it wins over ours.
	id := w.run("own", "sleep 1000", func(r *CreateRequest) { r.HostConfig.ExtraHosts = []string{"Host.docker.internal:10.1.1.1"} })
	if got := w.hostsOf(id); !strings.HasPrefix(got, "10.1.1.1 Host.docker.internal\n172.17.0.1 gateway.docker.internal\n172.17.0") {
		t.Errorf("%q", got)
	}
	// The daemon's word wins over both.
	w.change = func(c *Config) { c.Defaults.HostGateway = []netip.Addr{netip.MustParseAddr("192.0.2.1")} }
	w.reborn(nil)
	w.e.refreshFiles(func() *entry { en, _ := w.e.find("bridged"); return en }())
	if got := w.hostsOf("bridged"); !strings.Contains(got, "192.0.2.1 up\n") || !strings.Contains(got, "192.0.2.1 host.docker.internal\n172.17.0.1 gateway.docker.internal\n") {
		t.Errorf("%q", got)
	}
	w.clean()
}

// The host's resolv.conf changes under running containers.
func TestResolvIsFollowed(t *testing.T) {
	w := newWorld(t)
	w.shops()
	host := filepath.Join(t.TempDir(), "resolv.conf")
	put := func(s string) {
		t.Helper()
		// As programs do that are careful: another file, moved over it.
		if err := os.WriteFile(host+".new", []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(host+".new", host); err != nil {
			t.Fatal(err)
		}
	}
	put("nameserver 10.0.0.53\nsearch one.example\n")
	w.change = func(c *Config) { c.HostResolv.Resolv = host }
	w.start()
	plain := w.run("plain", "sleep 1000")
	named := w.run("named", "sleep 1000", func(r *CreateRequest) { r.HostConfig.NetworkMode = "shop" })
	own := w.run("own", "sleep 1000", func(r *CreateRequest) { r.HostConfig.DNS = []netip.Addr{netip.MustParseAddr("9.9.9.9")} })
	edited := w.run("edited", "sleep 1000; true")
	w.execute(edited, ExecConfig{Cmd: []string{"sh", "-c", "echo options rotate >>/etc/resolv.conf"}}, "")
	was := w.resolvOf(edited)
	put("nameserver 10.8.0.1\nsearch vpn.example\n")
	w.eventually("the container has it", func() bool { return strings.Contains(w.resolvOf(plain), "nameserver 10.8.0.1\nsearch vpn.example\n") })
	w.eventually("the others have it", func() bool {
		return strings.Contains(w.resolvOf(named), "nameserver 127.0.0.11\nsearch vpn.example\n") && strings.Contains(w.resolvOf(named), "host(10.8.0.1)") &&
			strings.Contains(w.resolvOf(own), "nameserver 9.9.9.9\nsearch vpn.example\n")
	})
	if _, out := w.execute(plain, ExecConfig{Cmd: []string{"cat", "/etc/resolv.conf"}}, ""); !strings.Contains(out, "10.8.0.1") {
		t.Errorf("inside: %q", out)
	}
	if got := w.resolvOf(edited); got != was {
		t.Errorf("an edit was lost: %q", got)
	}
	if err := os.Remove(host); err != nil {
		t.Fatal(err)
	}
	w.eventually("the last resort", func() bool { return strings.Contains(w.resolvOf(plain), "nameserver 8.8.8.8\n") })
	w.clean()
}
