package container

import (
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	apicontainer "github.com/moby/moby/api/types/container"
	apinetwork "github.com/moby/moby/api/types/network"

	"linkspan/cnm"
)

func TestParseLink(t *testing.T) {
	for in, want := range map[string]string{
		"db":             "db db",
		"db:mysql":       "db mysql",
		"/db:/web/mysql": "db mysql",
		"":               "empty string specified for links",
		"a:b:c":          "bad format for links: a:b:c",
		":b":             "bad format for links: :b",
		"a:":             "bad format for links: a:",
	} {
		name, alias, err := parseLink(in)
		got := name + " " + alias
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestLinkEnv(t *testing.T) {
	port := func(s ...string) apinetwork.PortSet {
		set := apinetwork.PortSet{}
		for _, p := range s {
			set[apinetwork.MustParsePort(p)] = struct{}{}
		}
		return set
	}
	addr := netip.MustParseAddr("172.17.0.3")
	for _, c := range []struct {
		what, alias string
		config      apicontainer.Config
		want        string
	}{
		{"one port", "db", apicontainer.Config{ExposedPorts: port("3306/tcp"), Env: []string{"PATH=/bin", "HOME=/", "MYSQL_ALLOW_EMPTY_PASSWORD=true", "A=b=c", "bare"}}, `
			DB_PORT=tcp://172.17.0.3:3306
			DB_PORT_3306_TCP=tcp://172.17.0.3:3306
			DB_PORT_3306_TCP_ADDR=172.17.0.3
			DB_PORT_3306_TCP_PORT=3306
			DB_PORT_3306_TCP_PROTO=tcp
			DB_NAME=/web/db
			DB_ENV_MYSQL_ALLOW_EMPTY_PASSWORD=true
			DB_ENV_A=b=c`},
		{"none", "my-db", apicontainer.Config{}, `
			MY_DB_NAME=/web/my-db`},
		{"both protocols", "dns", apicontainer.Config{ExposedPorts: port("53/udp", "53/tcp")}, `
			DNS_PORT=tcp://172.17.0.3:53
			DNS_PORT_53_TCP=tcp://172.17.0.3:53
			DNS_PORT_53_TCP_ADDR=172.17.0.3
			DNS_PORT_53_TCP_PORT=53
			DNS_PORT_53_TCP_PROTO=tcp
			DNS_PORT_53_UDP=udp://172.17.0.3:53
			DNS_PORT_53_UDP_ADDR=172.17.0.3
			DNS_PORT_53_UDP_PORT=53
			DNS_PORT_53_UDP_PROTO=udp
			DNS_NAME=/web/dns`},
		{"a range", "r", apicontainer.Config{ExposedPorts: port("8000/tcp", "8001/tcp")}, `
			R_PORT=tcp://172.17.0.3:8000
			R_PORT_8000_TCP_START=tcp://172.17.0.3:8000
			R_PORT_8000_TCP_ADDR=172.17.0.3
			R_PORT_8000_TCP_PROTO=tcp
			R_PORT_8000_TCP_PORT_START=8000
			R_PORT_8000_TCP_END=tcp://172.17.0.3:8001
			R_PORT_8000_TCP_PORT_END=8001
			R_PORT_8000_TCP=tcp://172.17.0.3:8000
			R_PORT_8000_TCP_ADDR=172.17.0.3
			R_PORT_8000_TCP_PORT=8000
			R_PORT_8000_TCP_PROTO=tcp
			R_PORT_8001_TCP=tcp://172.17.0.3:8001
			R_PORT_8001_TCP_ADDR=172.17.0.3
			R_PORT_8001_TCP_PORT=8001
			R_PORT_8001_TCP_PROTO=tcp
			R_NAME=/web/r`},
		{"the lowest of udp", "u", apicontainer.Config{ExposedPorts: port("10/udp", "20/tcp")}, `
			U_PORT=udp://172.17.0.3:10
			U_PORT_20_TCP=tcp://172.17.0.3:20
			U_PORT_20_TCP_ADDR=172.17.0.3
			U_PORT_20_TCP_PORT=20
			U_PORT_20_TCP_PROTO=tcp
			U_PORT_10_UDP=udp://172.17.0.3:10
			U_PORT_10_UDP_ADDR=172.17.0.3
			U_PORT_10_UDP_PORT=10
			U_PORT_10_UDP_PROTO=udp
			U_NAME=/web/u`},
	} {
		want := strings.Fields(c.want)
		if d := cmp.Diff(want, linkEnv("web", Link{Alias: c.alias}, addr, &c.config)); d != "" {
			t.Errorf("%s: %s", c.what, d)
		}
	}
}

// hostsOf is /etc/hosts of a container below the loopback names.
func (w *world) hostsOf(ref string) string {
	w.t.Helper()
	c, err := w.e.Get(ref)
	if err != nil {
		w.t.Fatal(err)
	}
	b, err := os.ReadFile(w.e.Files(c.ID).Hosts)
	if err != nil {
		w.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "ip6-allrouters\n")
	rest = strings.ReplaceAll(rest, "172.17.0.1\thost.docker.internal\n172.17.0.1\tgateway.docker.internal\n", "<host>\n")
	return strings.ReplaceAll(rest, "\t", " ")
}

func TestLinksOnTheDefaultBridge(t *testing.T) {
	w := newWorld(t)
	w.shops()
	e := w.start()
	ctx := t.Context()
	db := w.run("db", "sleep 1000", func(r *CreateRequest) {
		r.Config.Env = []string{"MYSQL_ALLOW_EMPTY_PASSWORD=true"}
		r.Config.ExposedPorts = apinetwork.PortSet{apinetwork.MustParsePort("3306/tcp"): {}}
	})
	web := w.run("web", "sleep 1000", func(r *CreateRequest) {
		r.HostConfig.Links = []string{"db", "db:mysql", "db:db"}
		r.Config.Env = []string{"DB_NAME=mine"}
	})
	c, _ := e.Get(web)
	if len(c.Links) != 2 || c.Links[0] != (Link{db, "db"}) || c.Links[1] != (Link{db, "mysql"}) {
		t.Errorf("%+v", c.Links)
	}
	line := "172.17.0.2 db " + db[:12] + "\n172.17.0.2 mysql " + db[:12] + " db\n"
	own := "172.17.0.3 " + web[:12] + "\n"
	if got := w.hostsOf("web"); got != "<host>\n"+line+own {
		t.Errorf("%q", got)
	}
	code, out := w.execute(web, ExecConfig{Cmd: []string{"sh", "-c", "echo $DB_PORT $DB_PORT_3306_TCP_ADDR $DB_ENV_MYSQL_ALLOW_EMPTY_PASSWORD $DB_NAME $MYSQL_NAME"}}, "")
	if code != 0 || out != "tcp://172.17.0.2:3306 172.17.0.2 true mine /web/mysql\n" {
		t.Errorf("%d %q", code, out)
	}
	if got := w.net.definition(web).Endpoints[0].Links; len(got) != 2 || got[0].Target != db || got[0].Ports[0] != "3306/tcp" {
		t.Errorf("%+v", got)
	}
	if en, err := e.find("web/mysql"); err != nil || en.id != db {
		t.Errorf("%v", err)
	}
	// The target goes and comes back with another address.
	ok(t, "stop", e.Stop(ctx, db, StopOptions{Timeout: p(0)}))
	if got := w.hostsOf("web"); got != "<host>\n"+own {
		t.Errorf("%q", got)
	}
	if code, out := w.execute(web, ExecConfig{Cmd: []string{"echo", "still"}}, ""); code != 0 {
		t.Errorf("%d %q", code, out)
	}
	w.run("thief", "sleep 1000")
	ok(t, "start", e.Start(ctx, db))
	if got := w.hostsOf("web"); got != "<host>\n"+strings.ReplaceAll(line, ".0.2", ".0.4")+own {
		t.Errorf("%q", got)
	}
	// A restart keeps the address, a new name is followed.
	ok(t, "restart", e.Restart(ctx, db, StopOptions{Timeout: p(0)}))
	ok(t, "rename", e.Rename(ctx, db, "maria"))
	if got := w.hostsOf("web"); got != "<host>\n172.17.0.4 db "+db[:12]+" maria\n172.17.0.4 mysql "+db[:12]+" maria\n"+own {
		t.Errorf("%q", got)
	}
	// One link is removed, then the target.
	refused(t, "no parent", e.Remove(ctx, "nobody/db", RemoveOptions{Link: true}), cnm.ErrNotFound, "Cannot get parent /nobody for link name /nobody/db")
	refused(t, "no link", e.Remove(ctx, "web/x", RemoveOptions{Link: true}), cnm.ErrNotFound, "No such link: /web/x")
	refused(t, "no link name", e.Remove(ctx, "web", RemoveOptions{Link: true}), cnm.ErrConflict, "cannot remove the default link name")
	ok(t, "rm --link", e.Remove(ctx, "/web/mysql", RemoveOptions{Link: true}))
	if got := w.hostsOf("web"); got != "<host>\n172.17.0.4 db "+db[:12]+" maria\n"+own {
		t.Errorf("%q", got)
	}
	w.remove(db)
	if c, _ = e.Get(web); len(c.Links) != 0 || w.hostsOf("web") != "<host>\n"+own {
		t.Errorf("%+v %q", c.Links, w.hostsOf("web"))
	}
	ok(t, "restart", e.Restart(ctx, web, StopOptions{Timeout: p(0)}))
	w.clean()
}

func TestLinksRefused(t *testing.T) {
	w := newWorld(t)
	w.shops()
	e := w.start()
	ctx := t.Context()
	w.create("hosted", "true", func(r *CreateRequest) { r.HostConfig.NetworkMode = "host" })
	w.create("elsewhere", "true", func(r *CreateRequest) { r.HostConfig.NetworkMode = "shop" })
	for _, c := range []struct{ mode, link, words string }{
		{"", "nope", "could not get container for nope: No such container: nope"},
		{"", "self", "could not get container for self: No such container: self"},
		{"", "a:b:c", "bad format for links: a:b:c"},
		{"", "hosted:h", "host type networking can't be used with links"},
		{"", "elsewhere", "Cannot link to /elsewhere, as it does not belong to the default network"},
		{"host", "elsewhere", "host type networking can't be used with links"},
		{"none", "elsewhere", "none type networking can't be used with links"},
		{"container:elsewhere", "hosted", "container type network can't be used with links"},
		{"shop", "a:", "bad format for links: a:"},
	} {
		r := request("self", "true")
		r.HostConfig.NetworkMode, r.HostConfig.Links = apicontainer.NetworkMode(c.mode), []string{c.link}
		_, _, err := e.Create(ctx, r)
		refused(t, c.mode+" "+c.link, err, cnm.ErrInvalid, c.words)
	}
	// A target that does not run cannot be told of.
	w.create("db", "sleep 1000")
	id := w.create("web", "true", func(r *CreateRequest) { r.HostConfig.Links = []string{"db"} })
	refused(t, "stopped target", e.Start(ctx, id), cnm.ErrConflict, "Cannot link to a non running container: /db AS /web/db")
	ok(t, "connect", e.Connect(ctx, "db", "shop", nil))
	ok(t, "disconnect", e.Disconnect(ctx, "db", "bridge", false))
	ok(t, "start", e.Start(ctx, "db"))
	refused(t, "target elsewhere", e.Start(ctx, id), cnm.ErrInvalid, "Cannot link to /db, as it does not belong to the default network")
	w.clean()
}

// On a network of one's own a link is a name that follows whoever has the target's.
func TestLinksOnOwnNetwork(t *testing.T) {
	w := newWorld(t)
	w.shops()
	e := w.start()
	shop := func(r *CreateRequest) { r.HostConfig.NetworkMode = "shop" }
	id := w.run("web", "sleep 1000", shop, func(r *CreateRequest) { r.HostConfig.Links = []string{"db:mysql"} })
	links := func() string {
		sb, _ := w.net.Sandbox(id)
		var out []string
		for _, l := range sb.Endpoints[0].Links {
			out = append(out, l.Alias+"="+l.Target)
		}
		return strings.Join(out, " ")
	}
	if got := links(); got != "mysql=db" {
		t.Error(got) // it may come later
	}
	db := w.run("db", "sleep 1000", shop)
	if got := links(); got != "mysql="+db {
		t.Error(got)
	}
	w.remove(db)
	if got := links(); got != "mysql=db" {
		t.Error(got)
	}
	db = w.run("other", "sleep 1000", shop)
	ok(t, "rename", e.Rename(t.Context(), db, "db"))
	if got := links(); got != "mysql="+db {
		t.Error(got)
	}
	if strings.Contains(w.hostsOf("web"), "mysql") {
		t.Error("names are the resolver's here")
	}
	w.clean()
}

// After a power cut target and linking container come back together: the one
// waits for the other.
func TestLinksComeBackTogether(t *testing.T) {
	w := newWorld(t)
	e := w.start()
	always := func(r *CreateRequest) { r.HostConfig.RestartPolicy.Name = "always" }
	ids := []string{w.run("db", "sleep 1000", always), w.run("web", "sleep 1000", always, func(r *CreateRequest) { r.HostConfig.Links = []string{"db"} })}
	for range 3 {
		var pids []int
		for _, id := range ids {
			c, _ := e.Get(id)
			pids = append(pids, c.State.Pid)
		}
		e = w.reborn(func() {
			for _, p := range pids {
				_ = syscall.Kill(p, syscall.SIGKILL)
			}
		})
		w.eventually("both run", func() bool {
			for i, id := range ids {
				if c, _ := e.Get(id); c.State.Phase != Running || c.State.Pid == pids[i] {
					return false
				}
			}
			return true
		})
	}
	if strings.Contains(w.log.String(), "Cannot link to a non running container") {
		t.Error("it was tried too early")
	}
	if got := w.hostsOf("web"); !strings.Contains(got, " db ") {
		t.Errorf("%q", got)
	}
	w.clean()
}
