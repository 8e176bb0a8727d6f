package flows

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"linkspan/internal/daemontest"
	"linkspan/internal/lab"
)

// captured runs a capture while traffic comes, until the capture has ended by itself or
// enough says that it may be interrupted. It returns the file and what was said.
func captured(t *testing.T, d *daemontest.Daemon, traffic func(), enough func(file []byte) bool, args ...string) (file []byte, said string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.pcapng")
	c := linkspan(t, d, append([]string{"capture", "-w", path}, args...)...)
	var errs bytes.Buffer
	c.Stderr = &errs
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	deadline := time.Now().Add(2 * lab.Patience)
	for interrupted := false; ; {
		if !interrupted {
			traffic()
		}
		file, _ = os.ReadFile(path)
		if enough != nil && enough(file) && !interrupted {
			interrupted = true
			_ = c.Process.Signal(syscall.SIGINT)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("%v: %v: %s", args, err, errs.String())
			}
			file, _ = os.ReadFile(path)
			return file, errs.String()
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			_ = c.Process.Kill()
			t.Fatalf("%v does not end: %s, %d bytes", args, errs.String(), len(file))
		}
	}
}

// read has tcpdump read a capture.
func read(t *testing.T, file []byte, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("tcpdump"); err != nil {
		t.Fatal("tcpdump is not installed (Debian: apt install tcpdump)")
	}
	c := exec.Command("tcpdump", append([]string{"-nr", "-"}, args...)...)
	c.Stdin = bytes.NewReader(file)
	out, err := c.Output()
	if err != nil {
		t.Fatalf("tcpdump: %v", err)
	}
	return string(out)
}

// TestCapture: both sides of NAT in one file that tcpdump reads, joined by comments.
func TestCapture(t *testing.T) {
	d := daemontest.Shared(t)
	inside := serve(t, d, "cap", "-p", "8090:80")
	serve(t, d, "noise", "-p", "8091:80")
	addr := address(d, "cap", "bridge")
	from := daemontest.MachineAddr
	ask := func() {
		dial(t, d.Machine.NS, "tcp/"+daemontest.HostAddr+":8091") // another's, not to be seen
		dial(t, d.Machine.NS, "tcp/"+daemontest.HostAddr+":8090")
	}

	// Some connections: the capture may begin in the middle of one.
	const packets = "40"
	file, said := captured(t, d, ask, nil, "cap", "tcp", "port", "80", "-c", packets)
	text := read(t, file)
	for _, want := range []string{"> " + daemontest.HostAddr + ".8090: Flags [S]", "> " + addr + ".80: Flags [S]", addr + ".80 > " + from, daemontest.HostAddr + ".8090 > " + from} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	// Not 8091 alone: a time of day has that in it, or a sequence number.
	if regexp.MustCompile(`\.8091[ :]`).MatchString(text) || strings.Count(text, "\n") != 40 {
		t.Errorf("captured was\n%s", text)
	}
	if !strings.Contains(said, packets+" packets captured, 0 lost") {
		t.Errorf("it said %q", said)
	}
	comment := regexp.MustCompile(`flow (\d+) of cap: tcp ` + regexp.QuoteMeta(from) + `:\d+ -> cap:80 \(dialled ` + regexp.QuoteMeta(daemontest.HostAddr) + `:8090\)`)
	if n := len(comment.FindAll(file, -1)); n != 40 {
		t.Errorf("%d packets say of which flow they are", n)
	}
	for _, name := range []string{"cap:eth0", "host:wan0"} {
		if !bytes.Contains(file, []byte(name)) {
			t.Errorf("no interface %s", name)
		}
	}

	// The published port is understood as well, and what is sent out under the host's
	// address; ^C ends it.
	ln := d.Machine.Listen("tcp", from+":7071")
	defer ln.Close()
	out := func() {
		ask()
		in(inside, daemontest.Netprobe(t), "dial", "-timeout", "400ms", "tcp/"+from+":7071")
	}
	both := func(file []byte) bool {
		return bytes.Contains(file, []byte("(dialled ")) && bytes.Contains(file, []byte("(as "+daemontest.HostAddr))
	}
	file, said = captured(t, d, out, both, "cap", "port 8090 or port 7071", "--snapshot-length", "96")
	text = read(t, file)
	for _, want := range []string{addr + ".80 > ", daemontest.HostAddr + ".8090 > ", daemontest.HostAddr + ".PORT > " + from + ".7071", addr + ".PORT > " + from + ".7071"} {
		if !regexp.MustCompile(strings.ReplaceAll(regexp.QuoteMeta(want), "PORT", `\d+`)).MatchString(text) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if !strings.Contains(said, " lost") {
		t.Errorf("it said %q", said)
	}

	// A ping, by its id.
	ping := func() { in(inside, "ping", "-c1", "-W1", from) }
	file, _ = captured(t, d, ping, nil, "cap", "--side", "host", "icmp", "-c", "2")
	if text := read(t, file); !strings.Contains(text, daemontest.HostAddr+" > "+from+": ICMP echo request") || strings.Contains(text, addr) {
		t.Errorf("pinged was\n%s", text)
	}
	file, _ = captured(t, d, ping, nil, "cap", "--side", "inside", "icmp", "and", "src", "host", "cap", "--for", "2s")
	if text := read(t, file); !strings.Contains(text, addr+" > "+from+": ICMP echo request") || strings.Contains(text, "echo reply") {
		t.Errorf("pinged was\n%s", text)
	}

	for _, c := range []struct {
		want string
		args []string
	}{
		{"did you mean cap", []string{"cop"}},
		{"is none of host, net", []string{"cap", "tcp[13] != 0"}},
		{"invalid side", []string{"cap", "--side", "left"}},
		{`no container "nobody"`, []string{"cap", "host", "nobody"}},
		{"something is missing", nil},
	} {
		r := d.Linkspan(append([]string{"capture"}, c.args...)...)
		if r.Code != 1 || !strings.Contains(r.Stderr, c.want) || r.Stdout != "" {
			t.Errorf("%v: %+v", c.args, r)
		}
	}
	d.Docker("stop", "-t", "1", "noise")
	if r := d.Linkspan("capture", "noise"); r.Code != 1 || !strings.Contains(r.Stderr, "linkspan start noise") {
		t.Errorf("%+v", r)
	}
}
