package compat

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"linkspan/internal/golden"

	"github.com/google/go-cmp/cmp"

	"linkspan/config"
	"linkspan/image/imagetest"
	"linkspan/internal/daemontest"
	"linkspan/netns"
)

// pushable is a registry on the daemon's host that takes pushes.
const pushable = "127.0.0.1:5001"

func serveRegistry(t *testing.T, ns string) {
	imagetest.Start(t, func(h http.Handler) *httptest.Server {
		srv := httptest.NewUnstartedServer(h)
		srv.Listener.Close()
		if err := netns.Do(ns, func() (err error) {
			srv.Listener, err = net.Listen("tcp", pushable)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		srv.Start()
		return srv
	})
}

// api is a client that sends what it is told.
type api struct {
	t    *testing.T
	http *http.Client
	vars *strings.Replacer
	// bodies are answers that later requests send, by what they are called.
	bodies map[string][]byte
}

func newAPI(t *testing.T, d *daemontest.Daemon) *api {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", d.Socket)
	}
	tr := &http.Transport{DialContext: dial}
	t.Cleanup(tr.CloseIdleConnections)
	return &api{t: t, http: &http.Client{Transport: tr, Timeout: time.Minute}, vars: strings.NewReplacer(), bodies: map[string][]byte{}}
}

// call makes a request and returns status and body. Of a hijacked answer only the
// status is there.
func (a *api) call(method, path string, body []byte) (int, []byte) {
	a.t.Helper()
	req, err := http.NewRequest(method, "http://d/v1.51"+a.vars.Replace(path), bytes.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	if json.Valid(body) {
		req.Header.Set("Content-Type", "application/json")
	}
	if strings.HasSuffix(req.URL.Path, "/attach") {
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "tcp")
	}
	resp, err := a.http.Do(req)
	if err != nil {
		a.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp.StatusCode, nil
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, b
}

// must is call for what prepares the ground.
func (a *api) must(method, path, body string) []byte {
	a.t.Helper()
	code, b := a.call(method, path, []byte(body))
	if code >= 300 {
		a.t.Fatalf("%s %s: %d %s", method, path, code, b)
	}
	return b
}

// ground makes what requests of a section need besides each other.
func (a *api) ground(title string) {
	id := func(b []byte) string {
		var j struct {
			ID string `json:"Id"`
		}
		_ = json.Unmarshal(b, &j)
		return j.ID
	}
	switch title {
	case "Containers":
		a.must("POST", "/containers/create?name=tty", `{"Image":"busybox","Cmd":["sh"],"Tty":true,"OpenStdin":true,"StopTimeout":0}`)
		a.must("POST", "/containers/tty/start", "")
		tty := id(a.must("POST", "/containers/tty/exec", `{"Cmd":["sleep","60"],"Tty":true}`))
		a.must("POST", "/exec/"+tty+"/start", `{"Detach":true,"Tty":true}`)
		a.vars = strings.NewReplacer("%ttyexec", tty)
	case "Networks":
		a.must("POST", "/containers/create?name=member", `{"Image":"busybox","Cmd":["sleep","600"],"StopTimeout":0}`)
		a.must("POST", "/containers/member/start", "")
	}
}

// remember keeps what later requests need of an answer.
func (a *api) remember(e endpoint, b []byte) {
	switch e.path {
	case "/images/busybox/get", "/containers/web/archive?path=/etc/passwd":
		a.bodies["a tar of "+strings.TrimPrefix(e.path, "/containers/web/archive?path=")] = b
	case "/containers/web/exec":
		var j struct {
			ID string `json:"Id"`
		}
		_ = json.Unmarshal(b, &j)
		tty := a.vars.Replace("%ttyexec")
		a.vars = strings.NewReplacer("%ttyexec", tty, "%exec", j.ID)
	}
}

var (
	ids    = regexp.MustCompile(`\b[0-9a-f]{64}\b`)
	dialed = regexp.MustCompile(`dial tcp [^ ]*: .*`)
)

// cell makes a message fit into a table, and the same in every run.
func cell(s string) string {
	s = ids.ReplaceAllString(strings.TrimSpace(s), "ID")
	s = dialed.ReplaceAllString(s, "…")
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(s)
}

// page is docs/compatibility.md.
type page struct{ strings.Builder }

func (p *page) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

func (p *page) endpoints(a *api) {
	p.line("## The Engine API, version 1.51\n")
	p.line("Older versions down to 1.24 are answered as well, in their own form. A refusal is a status and a message that says why; 501 is what Linkspan knows of and does not do.\n")
	for _, s := range sections {
		a.ground(s.title)
		p.line("### %s\n\n| endpoint | | |\n|---|---|---|", s.title)
		for _, e := range s.endpoints {
			path := e.path
			if path == "" {
				path = e.pattern
			}
			body, ok := a.bodies[e.body]
			if !ok {
				body = []byte(e.body)
			}
			code, b := a.call(e.method, path, body)
			p.line("| `%s %s` | %s |", e.method, e.pattern, answer(code, b, e.note))
			if code < 300 {
				a.remember(e, b)
			}
		}
		p.line("")
	}
}

// answer is the right-hand side of an endpoint's line.
func answer(code int, body []byte, note string) string {
	var j struct{ Message string }
	_ = json.Unmarshal(body, &j)
	if code < 300 && bytes.Contains(body, []byte(`"errorDetail"`)) { // a stream's last line
		lines := bytes.Split(bytes.TrimSpace(body), []byte("\n"))
		var l struct{ Error string }
		_ = json.Unmarshal(lines[len(lines)-1], &l)
		return "fails | " + cell(l.Error)
	}
	if code >= 400 {
		return fmt.Sprintf("%d | %s", code, cell(j.Message))
	}
	return "works | " + note
}

func (p *page) commands(t *testing.T, d *daemontest.Daemon) {
	d.Docker("network", "create", "--ipv6", "--subnet", "172.24.0.0/16", "--subnet", "fd00:24::/64", "there")
	d.Docker("network", "create", "--config-only", "--subnet", "172.27.0.0/16", "base")
	d.Docker("run", "-d", "--name", "web", "--network", "there", "busybox", "sleep", "600")
	p.filters(t, d)
	d.Docker("network", "create", "other")
	p.line("## Networks\n")
	for _, g := range netCommands {
		p.line("### %s\n", g.title)
		if g.about != "" {
			p.line("%s\n", g.about)
		}
		p.line("| | | |\n|---|---|---|")
		for _, c := range g.commands {
			args := strings.Fields(c.args)
			r := d.TryDocker(args...)
			words := strings.TrimPrefix(strings.TrimPrefix(r.Stderr, "docker: "), "Error response from daemon: ")
			words, _, _ = strings.Cut(words, "\n\nRun 'docker run --help'")
			if r.Code == 0 {
				p.line("| %s | works | %s |", c.option, cell(r.Stderr))
			} else {
				p.line("| %s | refused | %s |", c.option, cell(words))
			}
			switch {
			case args[0] == "run":
				d.TryDocker("rm", "-f", "tt")
			case args[1] == "connect":
				d.TryDocker("network", "disconnect", args[len(args)-2], "member")
			case r.Code == 0:
				d.Docker("network", "rm", "t")
			}
		}
		p.line("")
	}
	d.Docker("rm", "-f", "web", "member", "tty")
	d.Docker("network", "rm", "there", "base", "other")
}

// filters tries every filter of every list, and that an unknown one is refused.
func (p *page) filters(t *testing.T, d *daemontest.Daemon) {
	a := newAPI(t, d)
	p.line("### Filters\n\nAn unknown filter is refused: `invalid filter 'NAME'`; events know no wrong ones, as in dockerd.\n\n| | filters that work |\n|---|---|")
	for _, f := range filters {
		var works []string
		join := "?"
		if strings.Contains(f.path, "?") {
			join = "&"
		}
		for _, kv := range f.keys {
			key, value, _ := strings.Cut(kv, "=")
			b, err := json.Marshal(map[string]map[string]bool{key: {value: true}})
			if err != nil {
				t.Fatal(err)
			}
			code, body := a.call(f.method, f.path+join+"filters="+url.QueryEscape(string(b)), nil)
			if code != http.StatusOK {
				t.Errorf("%s %s with %s: %d %s", f.method, f.path, b, code, body)
				continue
			}
			works = append(works, "`"+key+"`")
		}
		path, _, _ := strings.Cut(f.path, "?")
		p.line("| `%s %s` | %s |", f.method, path, strings.Join(works, ", "))
		if code, body := a.call(f.method, f.path+join+"filters="+url.QueryEscape(`{"nonsense":{"x":true}}`), nil); (code == http.StatusOK) != (path == "/events" || path == "/build/prune") {
			t.Errorf("%s %s with nonsense: %d %s", f.method, f.path, code, body)
		}
	}
	p.line("")
}

func (p *page) flags() {
	p.line("## Flags and configuration keys of the daemon\n")
	p.line("The names are dockerd's. `↻`: SIGHUP takes a change of the file over; the others need a restart, and say so.\n")
	p.line("| flag | key | | |\n|---|---|---|---|")
	for _, s := range config.Settings() {
		flag, key := "", ""
		if s.Flag != "" {
			flag = "`--" + s.Flag + "`"
		}
		if s.Key != "" {
			key = "`" + s.Key + "`"
		}
		if s.Reload {
			key += " ↻"
		}
		p.line("| %s | %s | %s | %s |", flag, key, s.Verdict, cell(s.Words))
	}
}

// TestCompatibility: the page says what the daemon does.
func TestCompatibility(t *testing.T) {
	d := daemontest.Start(t, daemontest.Options{})
	serveRegistry(t, d.World.Host.NS)
	// What the first network with IPv6 turns on stays on until the daemon is uninstalled.
	d.Docker("network", "create", "--ipv6", "first")
	d.Docker("run", "--rm", "--network", "first", "-p", "8080:80", "busybox", "true")
	d.Docker("rmi", "busybox")
	d.Docker("network", "rm", "first")
	d.Until(10*time.Second, "the first network's bridge goes", func() bool {
		out, err := d.World.Host.Try("ip", "-br", "link", "show", "type", "bridge")
		return err == nil && strings.Count(out, "\n") == 1 // docker0
	})
	d.LeakCheck()
	p := &page{}
	p.line("# What of Docker works\n")
	p.line("This page is written by a test that asks a running daemon (`go test ./api/docker/compat -update`), and the test fails when the page is wrong.\n")
	p.endpoints(newAPI(t, d))
	p.commands(t, d)
	p.flags()

	file := filepath.Join(daemontest.Root(), "docs", "compatibility.md")
	if golden.Update() {
		if err := os.WriteFile(file, []byte(p.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(p.String(), "\n")); diff != "" {
		t.Errorf("docs/compatibility.md says otherwise (-page +daemon); go test -update rewrites it:\n%s", diff)
	}
}

// TestListIsWhole: no endpoint stands twice, and each request fits its pattern.
func TestListIsWhole(t *testing.T) {
	seen := map[string]bool{}
	var n int
	for _, s := range sections {
		for _, e := range s.endpoints {
			n++
			key := e.method + " " + e.pattern
			if seen[key] {
				t.Errorf("%s twice", key)
			}
			seen[key] = true
			path, _, _ := strings.Cut(e.path, "?")
			if e.path == "" {
				path = e.pattern
			}
			parts := regexp.MustCompile(`\\\{[a-z]+\\\}`).ReplaceAllString(regexp.QuoteMeta(e.pattern), ".+")
			if !regexp.MustCompile("^"+parts+"$").MatchString(path) || strings.Contains(path, "{") {
				t.Errorf("%s: the request is %s", key, path)
			}
		}
	}
	// The reference of 1.51 has 107 operations; checkpoints, /session, /grpc and
	// /build/cancel are beside it.
	if n < 107 {
		t.Errorf("%d endpoints", n)
	}
	for _, must := range []string{"POST /networks/{id}/connect", "GET /containers/{id}/stats", "POST /commit", "GET /tasks/{id}/logs"} {
		if !seen[must] {
			t.Errorf("no %s", must)
		}
	}
	if !slices.ContainsFunc(netCommands[1].commands, func(c command) bool { return strings.Contains(c.option, "trusted_host_interfaces") }) {
		t.Error("no trusted_host_interfaces")
	}
}
