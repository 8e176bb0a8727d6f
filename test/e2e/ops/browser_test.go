package ops

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"linkspan/internal/lab"
	"linkspan/probe"
)

// browser is a headless Chromium with one page, driven over two pipes: messages of the
// DevTools protocol, each ended by a zero byte (--remote-debugging-pipe).
type browser struct {
	t       *testing.T
	in      *os.File
	session string

	mu      sync.Mutex
	next    int
	waiting map[int]chan json.RawMessage
	// complaints are what the page's console and the policy said.
	complaints []string
}

// newBrowser starts one on a host; args are more of its flags.
func newBrowser(t *testing.T, h *lab.Host, args ...string) *browser {
	t.Helper()
	probe.Require(t, probe.Browser)
	toBrowser, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, fromBrowser, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "lsbrowser")
	if err != nil {
		t.Fatal(err)
	}
	cmd := h.Command(append([]string{"chromium-headless-shell", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-zygote",
		"--disable-background-networking", "--disable-extensions", "--user-data-dir=" + dir, "--window-size=1400,1000", "--remote-debugging-pipe"}, args...)...)
	cmd.ExtraFiles = []*os.File{toBrowser, fromBrowser}
	var said bytes.Buffer
	cmd.Stderr = &said
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	toBrowser.Close()
	fromBrowser.Close()
	b := &browser{t: t, in: in, waiting: map[int]chan json.RawMessage{}}
	done := make(chan struct{})
	go func() { defer close(done); b.read(out) }()
	t.Cleanup(func() {
		in.Close()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		<-done
		out.Close()
		os.RemoveAll(dir)
		if t.Failed() {
			t.Logf("the browser said:\n%s", said.String())
		}
	})
	var target struct{ TargetID string }
	b.call("", "Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Log", "Runtime"} {
		b.call(b.session, domain+".enable", nil, nil)
	}
	return b
}

func (b *browser) read(out *os.File) {
	var buf []byte
	chunk := make([]byte, 1<<16)
	for {
		n, err := out.Read(chunk)
		buf = append(buf, chunk[:n]...)
		for {
			msg, rest, ok := bytes.Cut(buf, []byte{0})
			if !ok {
				break
			}
			b.take(msg)
			buf = rest
		}
		if err != nil {
			return
		}
	}
}

func (b *browser) take(msg []byte) {
	var m struct {
		ID     int
		Method string
		Params json.RawMessage
		Result json.RawMessage
		Error  json.RawMessage
	}
	if json.Unmarshal(msg, &m) != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case m.ID != 0:
		if ch := b.waiting[m.ID]; ch != nil {
			delete(b.waiting, m.ID)
			if m.Error != nil {
				m.Result = m.Error
			}
			ch <- m.Result
		}
	case m.Method == "Log.entryAdded" || m.Method == "Runtime.exceptionThrown" || m.Method == "Runtime.consoleAPICalled":
		b.complaints = append(b.complaints, string(m.Params))
	}
}

// call asks the browser and waits for its answer.
func (b *browser) call(session, method string, params, result any) {
	b.t.Helper()
	b.mu.Lock()
	b.next++
	id, ch := b.next, make(chan json.RawMessage, 1)
	b.waiting[id] = ch
	b.mu.Unlock()
	msg := map[string]any{"id": id, "method": method}
	if params != nil {
		msg["params"] = params
	}
	if session != "" {
		msg["sessionId"] = session
	}
	j, err := json.Marshal(msg)
	if err == nil {
		_, err = b.in.Write(append(j, 0))
	}
	if err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	select {
	case r := <-ch:
		if result != nil {
			if err := json.Unmarshal(r, result); err != nil {
				b.t.Fatalf("%s: %v in %s", method, err, r)
			}
		}
	case <-time.After(2 * lab.Patience):
		b.t.Fatalf("%s: no answer from the browser", method)
	}
}

// eval runs a script in the page and returns its value as text.
func (b *browser) eval(script string) string {
	b.t.Helper()
	var r struct {
		Result           struct{ Value any }
		ExceptionDetails json.RawMessage
	}
	b.call(b.session, "Runtime.evaluate", map[string]any{"expression": script, "returnByValue": true, "awaitPromise": true}, &r)
	if r.ExceptionDetails != nil {
		return "exception: " + string(r.ExceptionDetails)
	}
	return fmt.Sprint(r.Result.Value)
}

// until waits for a script to be true.
func (b *browser) until(what, script string) {
	b.t.Helper()
	for deadline := time.Now().Add(lab.Patience); b.eval(script) != "true"; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("not in the page: %s; it is at %s and says\n%s", what, b.eval("location.href"), b.eval("document.body.innerText"))
		}
	}
}

// open leads the page to an address and waits until it is there.
func (b *browser) open(url string) {
	b.t.Helper()
	b.call(b.session, "Page.navigate", map[string]any{"url": url}, nil)
	b.until(url, fmt.Sprintf(`document.readyState === "complete" && location.href === %q`, url))
}

// click presses the mouse where the element is.
func (b *browser) click(selector string) {
	b.t.Helper()
	var at struct{ X, Y float64 }
	text := b.eval(fmt.Sprintf(`(() => { const e = document.querySelector(%q); if (!e) return "none"; e.scrollIntoView({block: "center"}); const r = e.getBoundingClientRect(); return JSON.stringify({x: r.x + r.width / 2, y: r.y + r.height / 2}) })()`, selector))
	if err := json.Unmarshal([]byte(text), &at); err != nil {
		b.t.Fatalf("no %s to click at: %s", selector, text)
	}
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		b.call(b.session, "Input.dispatchMouseEvent", map[string]any{"type": kind, "x": at.X, "y": at.Y, "button": "left", "clickCount": 1}, nil)
	}
}

// media sets how the person wants to see: prefers-color-scheme and the like.
func (b *browser) media(name, value string) {
	b.t.Helper()
	b.call(b.session, "Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": name, "value": value}}}, nil)
}

// picture takes a screenshot.
func (b *browser) picture() []byte {
	b.t.Helper()
	var shot struct{ Data string }
	b.call(b.session, "Page.captureScreenshot", map[string]any{"format": "png"}, &shot)
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	return png
}

// quiet fails the test for what the page complained of: scripts that failed, what the
// policy refused.
func (b *browser) quiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.complaints) > 0 {
		b.t.Errorf("the page complains:\n%s", strings.Join(b.complaints, "\n"))
	}
	b.complaints = nil
}
