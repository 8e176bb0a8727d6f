package why

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestProc looks at this process, and at a made one.
func TestProc(t *testing.T) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var inode uint64
	raw.Control(func(fd uintptr) {
		var st syscall.Stat_t
		if syscall.Fstat(int(fd), &st) == nil {
			inode = st.Ino
		}
	})
	for _, of := range []int{0, os.Getpid()} {
		hs, err := Proc("/proc").Holders(inode, of)
		if err != nil || len(hs) != 1 || hs[0].PID != os.Getpid() || hs[0].Stopped || hs[0].Name == "" {
			t.Errorf("of %d: %+v, %v", of, hs, err)
		}
	}
	if hs, err := Proc("/proc").Holders(1<<60, 0); err != nil || len(hs) != 0 {
		t.Errorf("nobody's socket: %+v, %v", hs, err)
	}

	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "7/root/etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(path, text string) {
		if err := os.WriteFile(filepath.Join(dir, path), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("7/stat", "7 (a (b) c) T 1 2 3")
	write("7/root/etc/hosts", "127.0.0.1 localhost\n")
	write("secret", "the host's")
	os.Symlink("/etc/hosts", filepath.Join(dir, "7/root/etc/absolute"))
	os.Symlink("../../../secret", filepath.Join(dir, "7/root/etc/out"))
	p := Proc(dir)
	if one, err := p.Process(7); err != nil || one.Name != "a (b) c" || !one.Stopped || one.String() != "a (b) c (pid 7)" {
		t.Errorf("%+v, %v", one, err)
	}
	if _, err := p.Process(8); err == nil {
		t.Error("a process that is not there")
	}
	if b, err := p.ReadFile(7, "/etc/hosts"); err != nil || string(b) != "127.0.0.1 localhost\n" {
		t.Errorf("%q, %v", b, err)
	}
	for _, path := range []string{"/etc/out", "/etc/absolute", "/etc/none", "/etc"} {
		if b, err := p.ReadFile(7, path); err == nil {
			t.Errorf("%s: %q", path, b)
		}
	}
	write("9", "")
	if _, err := p.ReadFile(8, "/etc/hosts"); err == nil || !strings.Contains(err.Error(), strconv.Itoa(8)) {
		t.Errorf("%v", err)
	}
}
