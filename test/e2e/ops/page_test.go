package ops

import (
	"bytes"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

// serve runs `linkspan ui` on the host and returns its URL.
func (w *world) serve(addr string) (url string, p *lab.Process) {
	w.t.Helper()
	p = w.Host.Start([]string{daemontest.Binary(w.t), "ui", "--addr", addr}, func(c *exec.Cmd) { c.Env = w.Env() })
	// The lab is the package's, and would keep it until the end.
	w.t.Cleanup(func() { p.Kill() })
	p.WaitFor("Ctrl-C ends it", 20*time.Second)
	url, _, _ = strings.Cut(strings.TrimSpace(p.Output()), " ")
	return url, p
}

// TestPage: every page by a real daemon, on a unix socket; the verb refuses other
// addresses, and ends cleanly.
func TestPage(t *testing.T) {
	w := shared(t)
	w.shop()
	sock := filepath.Join(w.Dir, "ui.sock")
	_, p := w.serve("unix://" + sock)
	for path, want := range map[string]string{
		"/": "172.18.0.", "/?subject=web&type=container": "network stack of web", "/?subject=shop&type=network": "br-", "/?subject=8080/tcp&type=port": "published by container web",
		"/?subject=wob&type=container": "did you mean web", "/why?from=db&to=web&port=9000": "Yes: ", "/why?from=web&to=db&port=5432": "No: ",
		"/flows": "Flows", "/drops": "Drops", "/doctor": "Looked at and well",
	} {
		if code, body, err := get(sock, path); err != nil || code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %v, without %q\n%s", path, code, err, want, body)
		}
	}
	if err := p.Stop(); err != nil {
		t.Errorf("ended: %v", err)
	}
	if _, err := os.Stat(sock); err == nil {
		t.Error("the socket is left behind")
	}
	for args, want := range map[string]string{"0.0.0.0:7700": "ssh -L", "unix://x": "begins with /"} {
		if r := w.Linkspan("ui", "--addr", args); r.Code != 1 || !strings.Contains(r.Stderr, want) {
			t.Errorf("%s: %d %s", args, r.Code, r.Stderr)
		}
	}
	if r := w.Linkspan("ui", "-H", "unix:///no/such.sock"); r.Code != 1 || !strings.Contains(r.Stderr, "linkspan daemon") {
		t.Errorf("no daemon: %d %s", r.Code, r.Stderr)
	}
}

// TestBrowser: the page in a real browser: the picture is drawn, a click explains, why
// is asked by the form, what is new appears by itself, and nothing complains.
func TestBrowser(t *testing.T) {
	w := shared(t)
	b := newBrowser(t, w.Host)
	w.shop()
	url, _ := w.serve("127.0.0.1:0")

	b.open(url)
	b.until("the picture", `document.querySelectorAll("svg.ls-graph g.ls-container").length === 2`)
	b.until("its style sheet is let through", `getComputedStyle(document.querySelector("g.ls-network rect")).fill === "rgb(219, 234, 254)"`)
	if got := b.eval(`[...document.querySelectorAll("input")].every(i => i.labels.length === 1 && i.labels[0].innerText !== "")`); got != "true" {
		t.Errorf("a field has no label")
	}
	look(t, b, "networks")

	b.click("g.ls-container#" + strings.Trim(b.eval(`[...document.querySelectorAll("g.ls-container")].find(g => g.textContent.includes("web")).id`), `"`))
	b.until("the explanation", `document.querySelector("#chosen h2")?.innerText.startsWith("container web")`)
	b.until("the chosen one is marked", `document.querySelector('a.chosen[aria-current="true"] g.ls-container') !== null`)
	b.until("it fills in the question", `document.querySelector("#from").value === "web"`)
	look(t, b, "explanation")

	// By hand and keyboard, as a person asks.
	b.eval(`document.querySelector("#to").focus()`)
	b.call(b.session, "Input.insertText", map[string]any{"text": "db"}, nil)
	b.eval(`document.querySelector("#port").focus()`)
	b.call(b.session, "Input.insertText", map[string]any{"text": "5432"}, nil)
	for _, kind := range []string{"keyDown", "keyUp"} {
		b.call(b.session, "Input.dispatchKeyEvent", map[string]any{"type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}, nil)
	}
	b.until("the answer", `location.pathname === "/why" && document.querySelector(".verdict h2")?.innerText.includes("No:")`)
	look(t, b, "why")

	// What is new appears without anybody's doing.
	b.open(url)
	b.until("the page refreshes itself", `document.querySelector("button.pause")?.innerText === "Pause"`)
	w.Docker("run", "-d", "--name", "late", "--network", "shop", "busybox", "sleep", "1000")
	t.Cleanup(func() { w.Docker("rm", "-f", "late") })
	b.until("a container that was started meanwhile", `document.querySelector("svg").textContent.includes("late")`)
	w.Docker("rm", "-f", "late")
	b.until("one that went meanwhile", `!document.querySelector("svg").textContent.includes("late")`)

	b.media("prefers-color-scheme", "dark")
	b.until("the dark", `getComputedStyle(document.body).backgroundColor === "rgb(11, 17, 32)"`)
	look(t, b, "dark")
	for _, page := range []string{"flows", "drops", "doctor"} {
		b.open(url + page)
		b.until(page, `document.querySelector("h1") !== null`)
		look(t, b, page)
	}
	b.quiet()

	// A name that somebody's DNS leads here is not answered.
	if got := b.eval(`fetch("/doctor").then(r => r.status)`); got != "200" {
		t.Errorf("its own: %s", got)
	}
}

// TestBrowserWithoutScript: everything is there, and links and forms work.
func TestBrowserWithoutScript(t *testing.T) {
	w := shared(t)
	b := newBrowser(t, w.Host)
	w.shop()
	url, _ := w.serve("127.0.0.1:0")
	b.call(b.session, "Emulation.setScriptExecutionDisabled", map[string]any{"value": true}, nil)
	b.open(url)
	b.click("nav a[href='/why']")
	b.until("the form", `location.pathname === "/why" && document.readyState === "complete" && document.querySelector("#port") !== null`)
	b.eval(`document.querySelector("#from").value = "db"; document.querySelector("#to").value = "web"; document.querySelector("#port").value = "9000"`)
	b.click("form button")
	b.until("the answer", `document.querySelector(".verdict h2")?.innerText.includes("Yes:")`)
	b.quiet()
}

// look takes a picture, which must be one; LINKSPAN_SCREENSHOTS names a folder where a
// person finds them.
func look(t *testing.T, b *browser, name string) {
	t.Helper()
	shot := b.picture()
	img, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		t.Fatal(err)
	}
	colours := map[[3]uint32]bool{}
	for x := 0; x < img.Bounds().Dx(); x += 3 {
		for y := 0; y < img.Bounds().Dy(); y += 3 {
			r, g, b, _ := img.At(x, y).RGBA()
			colours[[3]uint32{r, g, b}] = true
		}
	}
	if len(colours) < 20 {
		t.Errorf("%s: a picture of %d colours shows nothing", name, len(colours))
	}
	if dir := os.Getenv("LINKSPAN_SCREENSHOTS"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".png"), shot, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
