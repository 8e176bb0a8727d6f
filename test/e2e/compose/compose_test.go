// Package compose runs a real application with other people's Compose: nginx, Flask,
// redis and MariaDB on two networks.
package compose

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
	"linkspan/test/e2e/clients/program"
)

func TestMain(m *testing.M) { daemontest.Main(m, daemontest.Options{}) }

// TestDebian is docker-compose 1.29, in Python, on docker-py.
func TestDebian(t *testing.T) {
	path := program.Installed(t, "/usr/bin/docker-compose", "docker-compose")
	shop(t, daemontest.Shared(t), "_", path)
}

// TestBuilt is Compose 5, built from source.
func TestBuilt(t *testing.T) {
	shop(t, daemontest.Shared(t), "-", program.BuiltCompose(t))
}

// project is the application in a folder of its own.
type project struct {
	*daemontest.Daemon
	t    *testing.T
	dir  string
	line []string
	sep  string // between a container's project, service and number
}

func (p *project) compose(args ...string) string {
	p.t.Helper()
	return p.composeWith(nil, args...)
}

func (p *project) composeWith(env []string, args ...string) string {
	p.t.Helper()
	cmd := exec.Command(p.line[0], append(append([]string{}, p.line[1:]...), args...)...)
	cmd.Dir, cmd.Env = p.dir, append(append(p.Env(), "COMPOSE_PROJECT_NAME=shop", "COMPOSE_HTTP_TIMEOUT=180", "PYTHONWARNINGS=ignore"), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("%s %s: %v\n%s", filepath.Base(p.line[0]), strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (p *project) name(service, number string) string {
	return "shop" + p.sep + service + p.sep + number
}

// get is what the shop says to the machine.
func (p *project) get() string {
	out, err := p.Machine.Try("curl", "-sf", "--max-time", "20", "http://"+daemontest.HostAddr+":8080/")
	if err != nil {
		return ""
	}
	return out
}

var answer = regexp.MustCompile(`^hits=(\d+) orders=(\d+) by=(\w+) greeting=(\w+) for=(\S+)`)

// open waits until the shop answers, with this greeting.
func (p *project) open(greeting string) []string {
	p.t.Helper()
	var m []string
	p.Until(40*time.Second, "the shop says "+greeting, func() bool {
		m = answer.FindStringSubmatch(p.get())
		return m != nil && m[4] == greeting
	})
	return m
}

// workers are who answers to so many requests.
func (p *project) workers(requests int) map[string]int {
	p.t.Helper()
	by := map[string]int{}
	for range requests {
		if m := answer.FindStringSubmatch(p.get()); m != nil {
			by[m[3]]++
		}
		time.Sleep(50 * time.Millisecond)
	}
	return by
}

func shop(t *testing.T, d *daemontest.Daemon, sep string, line ...string) {
	p := &project{Daemon: d, t: t, dir: t.TempDir(), line: line, sep: sep}
	if err := os.CopyFS(p.dir, os.DirFS("testdata/shop")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s\n%s", d.TryDocker("ps", "-a").Stdout, p.logs())
		}
	})
	p.compose("up", "-d")
	m := p.open("hello")
	if m[5] != daemontest.MachineAddr {
		t.Errorf("nginx sees %s, want the machine %s", m[5], daemontest.MachineAddr)
	}
	p.placed()
	p.recreated()
	p.scaled()
	p.used()
	p.compose("down", "-v", "-t", "1")
	for _, what := range [][]string{{"ps", "-aq"}, {"volume", "ls", "-q"}, {"network", "ls", "-q", "--filter", "type=custom"}} {
		if out := d.Docker(what...); out != "" {
			t.Errorf("after down, docker %s: %s", strings.Join(what, " "), out)
		}
	}
}

func (p *project) logs() string {
	var b strings.Builder
	for _, id := range strings.Fields(p.TryDocker("ps", "-aq").Stdout) {
		r := p.TryDocker("logs", "--tail", "20", id)
		b.WriteString(id + ":\n" + r.Stdout + r.Stderr)
	}
	return b.String()
}

// placed: networks, addresses, aliases and health are what the file says.
func (p *project) placed() {
	t := p.t
	t.Helper()
	db, web, proxy := p.name("db", "1"), p.name("web", "1"), p.name("proxy", "1")
	for _, c := range []struct{ container, format, want string }{
		{db, "{{.NetworkSettings.Networks.shop_back.IPAddress}} {{.NetworkSettings.Networks.shop_back.Gateway}} {{.State.Health.Status}}", "172.30.33.33 172.30.33.254 healthy"},
		{web, "{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{end}}", "shop_back shop_front "},
		{proxy, "{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{end}}{{.HostConfig.RestartPolicy.Name}}", "shop_front unless-stopped"},
	} {
		if got := p.Docker("inspect", "-f", c.format, c.container); got != c.want {
			t.Errorf("%s: %q, want %q", c.container, got, c.want)
		}
	}
	p.Until(20*time.Second, "web is healthy", func() bool {
		return p.Docker("inspect", "-f", "{{.State.Health.Status}}", web) == "healthy"
	})
	for _, name := range []string{"www", "shop.example", "proxy"} {
		if r := p.TryDocker("exec", web, "python", "-c", "import socket; print(socket.gethostbyname('"+name+"'))"); r.Code != 0 {
			t.Errorf("web does not find %s: %s", name, r.Stderr)
		}
	}
	// nginx is not on the back network: it knows no name there, and reaches nothing.
	if r := p.TryDocker("exec", proxy, "curl", "-s", "--max-time", "60", "http://cache:6379/"); r.Code != 6 {
		t.Errorf("proxy asks for cache: curl's exit code is %d, want 6 (no such name)", r.Code)
	}
	if r := p.TryDocker("exec", proxy, "curl", "-s", "--max-time", "1", "telnet://172.30.33.33:3306"); r.Code == 0 || strings.Contains(r.Stdout, "MariaDB") {
		t.Errorf("proxy reaches the database: %d %q", r.Code, r.Stdout)
	}
	if mtu := p.Docker("exec", web, "sh", "-c", "cat /sys/class/net/*/mtu | sort -u"); !strings.Contains(mtu, "1400") {
		t.Errorf("the interfaces' MTUs: %s", mtu)
	}
}

// recreated: a changed service is replaced, what it depends on stays, with its data.
func (p *project) recreated() {
	t := p.t
	t.Helper()
	web, db := p.Docker("inspect", "-f", "{{.Id}}", p.name("web", "1")), p.Docker("inspect", "-f", "{{.Id}}", p.name("db", "1"))
	before := p.open("hello")
	p.composeWith([]string{"GREETING=goodbye"}, "up", "-d", "--no-deps", "web")
	after := p.open("goodbye")
	if now := p.Docker("inspect", "-f", "{{.Id}}", p.name("web", "1")); now == web {
		t.Error("web was not recreated")
	}
	if now := p.Docker("inspect", "-f", "{{.Id}}", p.name("db", "1")); now != db {
		t.Error("db was recreated")
	}
	if len(after[2]) < len(before[2]) || after[2] <= before[2] && len(after[2]) == len(before[2]) {
		t.Errorf("orders before %s, after %s", before[2], after[2])
	}
	// The database too, with the same address and volume.
	p.compose("up", "-d", "--force-recreate", "--no-deps", "db")
	if now := p.Docker("inspect", "-f", "{{.NetworkSettings.Networks.shop_back.IPAddress}}", p.name("db", "1")); now != "172.30.33.33" {
		t.Errorf("the recreated database is at %s", now)
	}
	p.open("goodbye")
}

// scaled: three replicas, in turn; then one again.
func (p *project) scaled() {
	t := p.t
	t.Helper()
	env := []string{"GREETING=goodbye"}
	p.composeWith(env, "up", "-d", "--no-deps", "--scale", "web=3", "web")
	p.Until(30*time.Second, "all three are healthy", func() bool {
		return len(strings.Fields(p.Docker("ps", "-q", "--filter", "health=healthy", "--filter", "label=com.docker.compose.service=web"))) == 3
	})
	by := map[string]int{}
	p.Until(30*time.Second, "all three are asked", func() bool {
		for w, n := range p.workers(6) {
			by[w] += n
		}
		return len(by) == 3
	})
	p.composeWith(env, "up", "-d", "--no-deps", "--scale", "web=1", "web")
	p.Until(lab.Patience, "one answers after scaling down", func() bool { return len(p.workers(5)) == 1 }) // nginx may keep a name for a second
}

// used: what people do besides.
func (p *project) used() {
	t := p.t
	t.Helper()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"ps"}, p.name("redis", "1")},
		{[]string{"port", "proxy", "80"}, "0.0.0.0:8080"},
		{[]string{"exec", "-T", "redis", "redis-cli", "get", "hits"}, ""},
		{[]string{"logs", "--no-color", "web"}, "GET /"},
		{[]string{"top", "redis"}, "redis-server"},
		{[]string{"run", "--rm", "--no-deps", "-T", "web", "python", "-c", "import socket; print(socket.gethostbyname('cache'))"}, "172.30.33."},
		{[]string{"restart", "-t", "1", "redis"}, ""},
		{[]string{"stop", "-t", "1"}, ""},
		{[]string{"start"}, ""},
	} {
		if out := p.compose(c.args...); !strings.Contains(out, c.want) {
			t.Errorf("%s says no %q:\n%s", strings.Join(c.args, " "), c.want, out)
		}
	}
	p.open("goodbye")
}
