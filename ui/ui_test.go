package ui

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"linkspan/diagnose/doctor"
	"linkspan/diagnose/explain"
	"linkspan/diagnose/flows"
	"linkspan/diagnose/graph"
	"linkspan/diagnose/why"
	"linkspan/internal/worldtest"
)

// fake is a daemon on a made-up host. asked are the questions that came.
type fake struct {
	world *worldtest.World
	err   error
	asked []string
}

const nasty = `<script>alert("x")</script>`

func newFake() *fake {
	w := worldtest.New()
	w.Stopped(nasty, 1, "shop")
	return &fake{world: w}
}

func (f *fake) Graph(ctx context.Context) (*graph.Graph, error) {
	if f.err != nil {
		return nil, f.err
	}
	return graph.Of(ctx, f.world.Diagnose())
}

func (f *fake) Explain(ctx context.Context, subject string, kind explain.Kind) (*explain.Explanation, error) {
	f.asked = append(f.asked, "explain "+string(kind)+" "+subject)
	return explain.Of(ctx, explain.Sources{World: f.world.Diagnose(), Observer: f.world}, subject, kind)
}

func (f *fake) Why(_ context.Context, from, to string, probe bool) (*why.Answer, error) {
	f.asked = append(f.asked, "why "+from+" "+to)
	if probe {
		return nil, errors.New("the page sent a packet")
	}
	if from == "nobody" {
		return nil, errors.New(`there is no container "nobody"; did you mean db?`)
	}
	return &why.Answer{Verdict: why.Blocked, Code: why.NotListening, Sentence: "nobody listens on 5432/tcp in db", Cure: "docker restart db", TookMS: 12.34,
		Steps: []why.Step{{Part: why.Declared, Where: "web", Look: "container", Found: "running", State: why.Good}, {Part: why.There, Where: "db", Look: "who listens", Found: nasty, State: why.Bad}}}, f.err
}

func (f *fake) Doctor(context.Context) (*doctor.Report, error) {
	return &doctor.Report{Host: "quay", Kernel: "6.18", Findings: []doctor.Finding{
		{Severity: doctor.Problem, Code: "x", What: "it is broken " + nasty, Why: "because", Cure: "mend it"}, {Severity: doctor.OK, Code: "y", What: "that is fine"}}, Unseen: []string{"the moon"}}, f.err
}

func (f *fake) Drops(context.Context, string, flows.Match) (*flows.List, error) {
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	a := flows.End{Addr: netip.MustParseAddr("192.168.99.50"), Kind: flows.KindOutside}
	b := flows.End{Addr: netip.MustParseAddr("172.18.0.2"), Port: 80, Kind: flows.KindContainer, Container: "web"}
	return &flows.List{Drops: []flows.Drop{{Time: at, Rule: "unpublished", Why: "the port is not published", Cure: "publish it", Proto: "tcp", From: a, To: b, Owner: "network shop"},
		{Time: at.Add(time.Second), Rule: "unpublished", Proto: "tcp", From: a, To: b}}}, f.err
}

func (f *fake) Flows(_ context.Context, w flows.Wish) (*flows.Table, error) {
	t := &flows.Table{Notes: []string{"a note"}}
	for range 600 {
		t.Flows = append(t.Flows, flows.Flow{Proto: "tcp", From: flows.End{Addr: netip.MustParseAddr("172.18.0.2"), Port: 1, Container: nasty}, To: flows.End{Addr: netip.MustParseAddr("1.2.3.4"), Port: 80}, Verdict: "accepted", Counted: true, Sent: flows.Volume{Bytes: 2048}})
	}
	return t, f.err
}

func get(t *testing.T, h http.Handler, path string, change ...func(*http.Request)) (int, string, http.Header) {
	t.Helper()
	r := httptest.NewRequest("GET", path, nil)
	r.Host = "127.0.0.1:7700"
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String(), w.Header()
}

func page(f *fake) http.Handler { return New(f, slog.New(slog.DiscardHandler)) }

// TestPages: each page has what it is for, is whole, and carries nothing that runs.
func TestPages(t *testing.T) {
	for _, c := range []struct {
		path string
		has  []string
	}{
		{"/", []string{"Networks of", `href="/?subject=web&amp;type=container"`, `<option value="outside">`, "172.18.0.0/16", "<h2>As a list</h2>", "8080/tcp"}},
		{"/?subject=web&type=container", []string{`aria-current="true"`, `value="web"`, "network stack of web", `href="/why?from=web"`, `href="/why?to=web"`, `aria-label="Explanation"`}},
		{"/?subject=shop&type=network", []string{"br-shop"}},
		{"/?subject=8080/tcp&type=port", []string{"published by container web"}},
		{"/?subject=host&type=host", []string{"net.ipv4.ip_forward"}},
		{"/?subject=wob&type=container", []string{`role="alert"`, "did you mean web"}},
		{"/why", []string{"Choose two ends"}},
		{"/why?to=web", []string{"Choose two ends", `value="web"`}},
		{"/why?from=web&to=db&port=5432", []string{"No: ", "nobody listens on 5432/tcp in db", "docker restart db", "12.3 ms", "What is declared", "The packet&#39;s way", `value="5432"`}},
		{"/why?from=nobody&to=db", []string{`role="alert"`, "did you mean db"}},
		{"/flows", []string{"2KiB", "Only the first 500", "a note"}},
		{"/drops", []string{"192.168.99.50</td>", ">web</a>", "To let it pass: publish it"}},
		{"/doctor", []string{"1 problem", "mend it", "that is fine", "the moon"}},
	} {
		t.Run(c.path, func(t *testing.T) {
			code, body, head := get(t, page(newFake()), c.path)
			if code != 200 || head.Get("Content-Type") != "text/html; charset=utf-8" {
				t.Fatalf("%d %v\n%s", code, head, body)
			}
			for _, want := range c.has {
				if !strings.Contains(body, want) {
					t.Errorf("no %q", want)
				}
			}
			wellFormed(t, body)
			harmless(t, body)
		})
	}
}

var (
	void   = regexp.MustCompile(`<(meta|link|img|input|br)\b([^>]*[^/>])?>`)
	bare   = regexp.MustCompile(`\s(required|data-live|defer)(\s|>)`)
	inline = regexp.MustCompile(`(?i)\son[a-z]+\s*=|javascript:|<script>|\sstyle=|https?://[^w]`)
)

// wellFormed reads the page as XML, once what HTML leaves open is closed.
func wellFormed(t *testing.T, body string) {
	t.Helper()
	x := void.ReplaceAllString(strings.Replace(body, "<!doctype html>", "", 1), "<$1$2/>")
	for bare.MatchString(x) {
		x = bare.ReplaceAllString(x, ` $1=""$2`)
	}
	d := xml.NewDecoder(strings.NewReader(x))
	ids := map[string]bool{}
	for {
		tok, err := d.Token()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatalf("%v near %q", err, x[max(0, int(d.InputOffset())-200):min(len(x), int(d.InputOffset())+50)])
		}
		if e, ok := tok.(xml.StartElement); ok {
			for _, a := range e.Attr {
				if a.Name.Local == "id" && ids[a.Value] {
					t.Errorf("two elements have the id %s", a.Value)
				} else if a.Name.Local == "id" {
					ids[a.Value] = true
				}
			}
		}
	}
}

// harmless: no script that is written into the page, no address of anybody else.
func harmless(t *testing.T, body string) {
	t.Helper()
	for _, m := range inline.FindAllString(body, -1) {
		t.Errorf("the page has %q", m)
	}
	if strings.Contains(body, nasty) {
		t.Error("a name was not escaped")
	}
}

// TestGuard: only the loopback's own names, only reading, nobody's frame.
func TestGuard(t *testing.T) {
	h := page(newFake())
	for host, ok := range map[string]bool{
		"localhost:7700": true, "127.0.0.1": true, "127.9.9.9:1": true, "[::1]:7700": true, "LOCALHOST.": true, "page.localhost:80": true, "[::ffff:127.0.0.1]:1": true,
		"evil.example": false, "evil.example:7700": false, "127.0.0.1.evil.example": false, "localhost.evil.example": false, "192.168.99.31:7700": false, "": false, "0.0.0.0:7700": false, "notlocalhost": false,
	} {
		code, body, _ := get(t, h, "/", func(r *http.Request) { r.Host = host })
		if (code == 200) != ok || !ok && (code != http.StatusMisdirectedRequest || !strings.Contains(body, "ssh -L")) {
			t.Errorf("Host %q: %d", host, code)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS"} {
		for _, path := range []string{"/", "/why?from=a&to=b", "/doctor", "/static/style.css", "/nothing"} {
			if code, _, _ := get(t, h, path, func(r *http.Request) { r.Method = method }); code != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d", method, path, code)
			}
		}
	}
	for site, want := range map[[2]string]int{{"cross-site", "no-cors"}: 403, {"cross-site", "cors"}: 403, {"cross-site", "navigate"}: 200, {"same-origin", "cors"}: 200, {"none", "navigate"}: 200} {
		if code, _, _ := get(t, h, "/", func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", site[0])
			r.Header.Set("Sec-Fetch-Mode", site[1])
		}); code != want {
			t.Errorf("%v: %d", site, code)
		}
	}
	for _, path := range []string{"/", "/drops", "/static/live.js", "/nothing"} {
		_, _, head := get(t, h, path)
		csp := head.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: no %s in %q", path, want, csp)
			}
		}
		if strings.Contains(csp, "unsafe") || strings.Contains(csp, "STYLE") || strings.Contains(csp, "*") || head.Get("X-Content-Type-Options") != "nosniff" || head.Get("Cache-Control") != "no-store" || head.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %v", path, head)
		}
	}
}

// TestErrors: what goes wrong is said on a page of its own, with the status of it.
func TestErrors(t *testing.T) {
	f := newFake()
	f.err = errors.New("no daemon answers: start it: `systemctl start linkspan` " + nasty)
	for _, path := range []string{"/", "/why?from=a&to=b", "/flows", "/drops", "/doctor"} {
		code, body, _ := get(t, page(f), path)
		if code != http.StatusBadGateway || !strings.Contains(body, "systemctl start linkspan") {
			t.Errorf("%s: %d %s", path, code, body)
		}
		wellFormed(t, body)
		harmless(t, body)
	}
	if code, body, _ := get(t, page(newFake()), "/nothing"); code != 404 || !strings.Contains(body, "no such page") {
		t.Errorf("%d %s", code, body)
	}
}

func TestTarget(t *testing.T) {
	for _, c := range [][3]string{{"db", "5432", "db:5432"}, {"db", "53/udp", "db:53/udp"}, {"db", "", "db"}, {"fd00::3", "80", "[fd00::3]:80"}, {"[fd00::3]", "80", "[fd00::3]:80"}, {"outside:1.2.3.4", "80", "outside:1.2.3.4:80"}} {
		if got := target(c[0], c[1]); got != c[2] {
			t.Errorf("%q, want %q", got, c[2])
		}
	}
	f := newFake()
	get(t, page(f), "/why?from=+web+&to=db&port=+5432/tcp+")
	if len(f.asked) != 1 || f.asked[0] != "why web db:5432/tcp" {
		t.Errorf("%q", f.asked)
	}
}

// TestListen: the loopback and unix sockets, and nothing else.
func TestListen(t *testing.T) {
	dir := t.TempDir()
	sock := filepath.Join(dir, "ui.sock")
	l, url, err := Listen("unix://" + sock)
	if err != nil || url != "unix://"+sock {
		t.Fatal(err)
	}
	if st, err := os.Stat(sock); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st, err)
	}
	if _, _, err := Listen("unix://" + sock); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("twice: %v", err)
	}
	l.Close()
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if err := os.WriteFile(sock, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{
		"0.0.0.0:80": "ssh -L 80:127.0.0.1:80", ":7700": "every address", "192.168.99.31:7700": "no login", "[::]:7700": "no login", "example.com:7700": "no login",
		"7700": "is none", "unix://ui.sock": "begins with /", "unix://" + sock: "no socket", "unix:///no/such/folder/s": "no socket can be made",
	} {
		if l, _, err := Listen(addr); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", addr, err, want)
			if l != nil {
				l.Close()
			}
		}
	}
	l, url, err = Listen("localhost:0")
	if err != nil || !strings.HasPrefix(url, "http://127.0.0.1:") {
		t.Fatalf("%v %s", err, url)
	}
	defer l.Close()
	if _, _, err := Listen(l.Addr().String()); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a port that is taken: %v", err)
	}
}

// contrast is WCAG 2's, of two colours like "#1d4ed8".
func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	x, y := luminance(t, a), luminance(t, b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}
