package etc

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMergeHosts(t *testing.T) {
	for _, c := range []struct{ what, now, ours, wished, want string }{
		{"nothing changes", "a\nb\n", "a\nb\n", "a\nb\n", "a\nb\n"},
		{"a line comes", "a\nb\n", "a\nb\n", "a\nb\nc\n", "a\nb\nc\n"},
		{"a line goes", "a\nb\nc\n", "a\nb\nc\n", "a\nc\n", "a\nc\n"},
		{"an address changes", "l\n1 web\n", "l\n1 web\n", "l\n2 web\n", "l\n2 web\n"},
		{"what a person added stays", "a\nmine\nb\nmine too\n", "a\nb\n", "a\nc\n", "a\nc\nmine\nmine too\n"},
		{"added without a last newline", "a\nmine", "a\n", "b\n", "b\nmine\n"},
		{"a person's line that is ours later", "a\nc\n", "a\n", "a\nc\n", "a\nc\n"},
		{"what a person removed comes back", "b\n", "a\nb\n", "a\nb\n", "a\nb\n"},
		{"emptied", "", "a\n", "a\nb\n", "a\nb\n"},
		{"cut short before", "a\nnew\n", "a\nold\na\nnew\n", "a\nnewer\n", "a\nnewer\n"},
	} {
		if d := cmp.Diff(c.want, string(mergeHosts([]byte(c.now), []byte(c.ours), []byte(c.wished)))); d != "" {
			t.Errorf("%s: %s", c.what, d)
		}
	}
}

// Whatever is in the file: all that is wished is there, what is no more wished is
// not, and each other line stays.
func FuzzMergeHosts(f *testing.F) {
	f.Add("a\nmine\nb\n", "a\nb\n", "a\nc\n")
	f.Add("", "", "x\n")
	f.Add("a\n\n\nb", "\n", "b\n")
	f.Fuzz(func(t *testing.T, now, ours, wished string) {
		got := lineSet(mergeHosts([]byte(now), []byte(ours), []byte(wished)))
		want, old := lineSet([]byte(wished)), lineSet([]byte(ours))
		for l := range want {
			if !got[l] {
				t.Errorf("%q is missing", l)
			}
		}
		for l := range lineSet([]byte(now)) {
			if stays := want[l] || !old[l]; stays != got[l] {
				t.Errorf("%q: %v", l, got[l])
			}
		}
	})
}

func TestRewriteHosts(t *testing.T) {
	d := t.TempDir()
	read := func() string {
		b, err := os.ReadFile(filepath.Join(d, HostsFile))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if err := RewriteHosts(d, []byte("a\n")); err == nil {
		t.Error("a file that is not there was rewritten")
	}
	if err := WriteHosts(d, []byte("lo\n172.17.0.2\tweb\n")); err != nil {
		t.Fatal(err)
	}
	before, _ := os.Stat(filepath.Join(d, HostsFile))
	f, err := os.OpenFile(filepath.Join(d, HostsFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("10.9.8.7 friend\n"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, step := range []struct{ wished, want string }{
		{"lo\n172.17.0.2\tweb\n172.18.0.2\tweb\n", "lo\n172.17.0.2\tweb\n172.18.0.2\tweb\n10.9.8.7 friend\n"},
		{"lo\n172.18.0.2\tweb\n", "lo\n172.18.0.2\tweb\n10.9.8.7 friend\n"},
		{"lo\n", "lo\n10.9.8.7 friend\n"},
	} {
		if err := RewriteHosts(d, []byte(step.wished)); err != nil {
			t.Fatal(err)
		}
		if read() != step.want {
			t.Errorf("%q, want %q", read(), step.want)
		}
	}
	if after, _ := os.Stat(filepath.Join(d, HostsFile)); !os.SameFile(before, after) {
		t.Error("another inode: containers have the old one mounted")
	}
	// The next start has a fresh file.
	if err := WriteHosts(d, []byte("lo\n")); err != nil || read() != "lo\n" {
		t.Errorf("%q %v", read(), err)
	}
}

// Who reads while a file is rewritten never finds it empty, and of every byte the old
// one or the new one. Lines cannot be promised: ext4 copies out of the page cache
// without a lock against who writes, and one read(2) that overlaps the write has the
// old and the new in turns where they differ. (While the kernel cuts the file, the bytes
// behind the new end can be read as zero.)
func TestWriteIsNeverEmpty(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	long, short := strings.Repeat("127.0.0.1 localhost\n", 50), "127.0.0.1 localhost\n"
	if err := Write(path, []byte(long)); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 300 {
			_ = Write(path, []byte([]string{long, short}[i%2]))
		}
	}()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for buf := make([]byte, 4096); ; {
		// One read(2), as the C libraries do it.
		n, err := f.ReadAt(buf, 0)
		if errors.Is(err, io.EOF) { // it is shorter than the buffer
			err = nil
		}
		b := buf[:n]
		wrong := err != nil || !strings.HasPrefix(string(b), short) || len(b) > len(long)
		for i := len(short); i < len(b) && !wrong; i++ {
			wrong = b[i] != long[i] && b[i] != '\n' && b[i] != 0
		}
		if wrong {
			t.Errorf("%q %v", b, err)
			<-done
			return
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

func TestInternal(t *testing.T) {
	const comment = "# Based on host file: '/etc/resolv.conf' (internal resolver)\n"
	const host = "nameserver 127.0.0.53\nnameserver 10.0.0.53\nsearch corp.example\noptions edns0 trust-ad\nsortlist 10.0.0.0\n"
	for _, c := range []struct {
		what, host string
		wish       Wish
		want       string
	}{
		{"the host's", host, Wish{}, "nameserver 127.0.0.11\nsearch corp.example\noptions edns0 trust-ad ndots:0\n\n" + comment +
			"# ExtServers: [host(127.0.0.53) host(10.0.0.53)]\n# Overrides: []\n# Option ndots from: internal\n"},
		{"the host's ndots", "nameserver 1.1.1.1\noptions ndots:2\n", Wish{}, "nameserver 127.0.0.11\noptions ndots:2\n\n" + comment +
			"# ExtServers: [host(1.1.1.1)]\n# Overrides: []\n# Option ndots from: host\n"},
		{"a bad ndots", "nameserver 1.1.1.1\noptions ndots:x rotate ndots\n", Wish{}, "nameserver 127.0.0.11\noptions rotate ndots:0\n\n" + comment +
			"# ExtServers: [host(1.1.1.1)]\n# Overrides: []\n# Option ndots from: internal\n"},
		{"all wished", host, Wish{DNS: []netip.Addr{netip.MustParseAddr("9.9.9.9")}, Search: []string{"a.b", "c.d"}, Options: []string{"ndots:5"}},
			"nameserver 127.0.0.11\nsearch a.b c.d\noptions ndots:5\n\n" + comment + "# ExtServers: [9.9.9.9]\n# Overrides: [nameservers search options]\n# Option ndots from: override\n"},
		{"no search", host, Wish{Search: []string{"."}, Options: []string{"rotate"}}, "nameserver 127.0.0.11\noptions rotate ndots:0\n\n" + comment +
			"# ExtServers: [host(127.0.0.53) host(10.0.0.53)]\n# Overrides: [search options]\n# Option ndots from: internal\n"},
		{"no servers", "", Wish{}, "nameserver 127.0.0.11\noptions ndots:0\n\n" + comment +
			"# NO EXTERNAL NAMESERVERS DEFINED\n# Overrides: []\n# Option ndots from: internal\n"},
	} {
		if d := cmp.Diff(resolvHeader+c.want, string(ParseResolv([]byte(c.host)).Internal(c.wish))); d != "" {
			t.Errorf("%s: %s", c.what, d)
		}
	}
}
