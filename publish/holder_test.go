package publish

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"linkspan/probe"
)

func me(t testing.TB) Process {
	t.Helper()
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	return Process{PID: os.Getpid(), Command: strings.TrimSpace(string(comm))}
}

func TestHolder(t *testing.T) {
	for _, c := range []struct {
		network, listen string
		on, notOn       []string
	}{
		{"tcp4", "127.0.0.1:0", []string{"127.0.0.1", "0.0.0.0", ""}, []string{"127.0.0.2", "::1", "::"}},
		{"tcp4", "0.0.0.0:0", []string{"127.0.0.1", "0.0.0.0", ""}, []string{"::1", "::"}},
		{"tcp6", "[::1]:0", []string{"::1", "::", ""}, []string{"127.0.0.1", "0.0.0.0"}},
		{"udp4", "127.0.0.1:0", []string{"127.0.0.1", "0.0.0.0", ""}, []string{"127.0.0.2", "::"}},
		{"udp6", "[::1]:0", []string{"::1", "::", ""}, []string{"127.0.0.1"}},
	} {
		var port uint16
		var closer interface{ Close() error }
		proto := c.network[:3]
		if proto == "tcp" {
			l, err := net.Listen(c.network, c.listen)
			if err != nil {
				t.Logf("%s %s: %v", c.network, c.listen, err) // a host without IPv6
				continue
			}
			port, closer = l.Addr().(*net.TCPAddr).AddrPort().Port(), l
		} else {
			l, err := net.ListenPacket(c.network, c.listen)
			if err != nil {
				t.Logf("%s %s: %v", c.network, c.listen, err)
				continue
			}
			port, closer = l.LocalAddr().(*net.UDPAddr).AddrPort().Port(), l
		}
		ask := func(addr string) (Process, bool) {
			var a netip.Addr
			if addr != "" {
				a = netip.MustParseAddr(addr)
			}
			return Holder(proto, a, port)
		}
		for _, a := range c.on {
			if p, ok := ask(a); !ok || p != me(t) {
				t.Errorf("%s %s: asked for %q: %+v, %v", c.network, c.listen, a, p, ok)
			}
		}
		for _, a := range c.notOn {
			if p, ok := ask(a); ok {
				t.Errorf("%s %s: asked for %q: %+v", c.network, c.listen, a, p)
			}
		}
		_ = closer.Close()
		if p, ok := ask(c.on[0]); ok {
			t.Errorf("%s %s: still held by %+v after close", c.network, c.listen, p)
		}
	}
}

// TestHolderOtherNamespace: another namespace's listener on the same port is not
// blamed.
func TestHolderOtherNamespace(t *testing.T) {
	probe.Require(t, probe.Root)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	cmd := exec.Command("unshare", "--net", os.Args[0], "-test.run=TestHolderAsk$", "-test.v")
	cmd.Env = append(os.Environ(), "HOLDER_ASK="+port)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "ANSWER false") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestHolderAsk(t *testing.T) {
	port := os.Getenv("HOLDER_ASK")
	if port == "" {
		return // it is a child of TestHolderOtherNamespace
	}
	n, err := parsePort(port)
	if err != nil {
		t.Fatal(err)
	}
	_, ok := Holder("tcp", netip.Addr{}, n)
	t.Logf("ANSWER %v", ok)
}

// TestHolderTables reads tables as kernels of either byte order in our pocket
// have written them (little-endian, as this machine).
func TestHolderTables(t *testing.T) {
	proc := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(proc, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	write("thread-self/net/tcp", head+
		"   0: 0100007F:0050 0100007F:D120 01 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0\n"+
		"   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100 0 0 10 0\n"+
		"   2: 0100007F:0051 0100007F:D121 06 00000000:00000000 03:00000825 00000000     0        0 0 3 0\n"+
		"   3: 0100007F:0052 0100007F:D122 06 00000000:00000000 03:00000825 00000000     0        0 0 3 0\n"+
		"   4: 0100007F:0052 0100007F:D123 01 00000000:00000000 00:00000000 00000000     0        0 999 1 0\n"+
		"   5: garbage\n   6: 0100007F 0 0 0 0 0 0 0 0 0\n   7: ZZ00007F:0053 0 0A 0 0 0 0 0 1\n   8: 0100007F:0053 0 0A 0 0 0 0 0 x\n")
	write("thread-self/net/tcp6", head+
		"   0: B80D0120000000000000000001000000:0054 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 333 1 0\n"+
		"   1: 0000000000000000FFFF00000100007F:0055 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 333 1 0\n"+
		"   2: 00000000000000000000000000000000:0056 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 333 1 0\n")
	for pid, inode := range map[string]string{"20": "222", "9": "222", "100": "222", "30": "333"} {
		write(pid+"/comm", "server"+pid+"\n")
		if err := os.MkdirAll(filepath.Join(proc, pid, "fd"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("socket:["+inode+"]", filepath.Join(proc, pid, "fd", "7")); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		addr string
		port uint16
		want Process
		ok   bool
	}{
		{"", 80, Process{PID: 9, Command: "server9"}, true}, // the listener, not the connection; the parent, not its children
		{"127.0.0.1", 80, Process{PID: 9, Command: "server9"}, true},
		{"127.0.0.1", 81, Process{Waiting: true}, true},
		{"127.0.0.1", 82, Process{}, true}, // a connection of someone who is not visible
		{"127.0.0.1", 83, Process{}, false},
		{"2001:db8::1", 84, Process{PID: 30, Command: "server30"}, true},
		{"2001:db8::2", 84, Process{}, false},
		{"127.0.0.1", 85, Process{PID: 30, Command: "server30"}, true},
		{"::1", 85, Process{}, false},
		{"10.0.0.1", 86, Process{PID: 30, Command: "server30"}, true}, // a dual-stack listener
	} {
		var a netip.Addr
		if c.addr != "" {
			a = netip.MustParseAddr(c.addr)
		}
		if got, ok := holderIn(proc, "tcp", a, c.port); got != c.want || ok != c.ok {
			t.Errorf("%s:%d: %+v, %v; want %+v, %v", c.addr, c.port, got, ok, c.want, c.ok)
		}
	}
	if _, ok := holderIn(proc, "sctp", netip.Addr{}, 80); ok {
		t.Error("sctp")
	}
}

func TestEphemeralPorts(t *testing.T) {
	e := EphemeralPorts()
	if e.First == 0 || e.Last < e.First {
		t.Errorf("%+v", e)
	}
	for _, c := range []struct {
		rng, reserved string
		want          Ephemeral
	}{
		{"32768\t60999\n", "\n", Ephemeral{First: 32768, Last: 60999}},
		{"32768\t60999\n", "35000,40000-40010\n", Ephemeral{32768, 60999, []Span{{35000, 35000}, {40000, 40010}}}},
		{"", "x,1-,8080", Ephemeral{49152, 65535, []Span{{8080, 8080}}}},
		{"60999 32768", "", Ephemeral{First: 49152, Last: 65535}},
		{"0 0", "", Ephemeral{First: 49152, Last: 65535}},
		{"1 99999", "", Ephemeral{First: 49152, Last: 65535}},
	} {
		dir := t.TempDir() + "/"
		_ = os.WriteFile(dir+"ip_local_port_range", []byte(c.rng), 0o644)
		_ = os.WriteFile(dir+"ip_local_reserved_ports", []byte(c.reserved), 0o644)
		got := ephemeralFrom(dir)
		if got.First != c.want.First || got.Last != c.want.Last || len(got.Reserved) != len(c.want.Reserved) {
			t.Errorf("%q %q: %+v", c.rng, c.reserved, got)
		}
		for i, s := range c.want.Reserved {
			if got.Reserved[i] != s {
				t.Errorf("%q %q: %+v", c.rng, c.reserved, got)
			}
		}
	}
	if got := ephemeralFrom("/none/"); got.First != 49152 {
		t.Errorf("%+v", got)
	}
}
