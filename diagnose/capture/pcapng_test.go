package capture

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"linkspan/dataplane/reading"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 123456789, time.UTC)

// syn is a frame of TCP over IPv4.
func syn() []byte {
	return []byte("\x02\x42\xac\x11\x00\x02\x02\x42\xac\x11\x00\x01\x08\x00" +
		"\x45\x00\x00\x28\x00\x00\x40\x00\x40\x06\x00\x00\xc0\xa8\x63\x32\xac\x11\x00\x02" +
		"\x9c\x40\x00\x50\x00\x00\x00\x01\x00\x00\x00\x00\x50\x02\xff\xff\x00\x00\x00\x00")
}

func written(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := &writer{out: &b, snap: 65535}
	err := errors.Join(
		w.begin("linkspan test", []Link{{"web:eth0", "inside of container web"}, {"host:wan0", ""}}),
		w.packet(0, reading.Frame{Time: noon, Data: syn(), Length: 54}, "flow 1 of web"),
		w.packet(1, reading.Frame{Time: noon.Add(time.Millisecond), Data: syn()[:51], Length: 54, Out: true}, ""),
		w.packet(1, reading.Frame{Time: noon.Add(time.Second), Data: syn(), Length: 54}, strings.Repeat("x", 1<<17)),
		w.statistics(0, reading.CaptureCount{Received: 7, Dropped: 2}, noon, ""),
		w.statistics(1, reading.CaptureCount{Received: 9, Dropped: 3}, noon, "the interface is gone"))
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestReadable: tcpdump reads what is written.
func TestReadable(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		t.Log("tcpdump is not installed: nobody to read it")
		return
	}
	c := exec.Command("tcpdump", "-nttr", "-", "--nano")
	c.Stdin = bytes.NewReader(written(t))
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, want := range []string{"1795262400.123456789 IP 192.168.99.50.40000 > 172.17.0.2.80: Flags [S]", "1795262401.123456789"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// TestCopy: wherever it is cut, what is copied is whole blocks.
func TestCopy(t *testing.T) {
	file := written(t)
	var b bytes.Buffer
	s, err := Copy(&b, bytes.NewReader(file))
	if err != nil || !bytes.Equal(b.Bytes(), file) || s.Packets != 3 || s.Dropped != 5 || !s.Whole || len(s.Notes) != 1 || s.Notes[0] != "the interface is gone" {
		t.Errorf("%+v, %v, %d of %d bytes", s, err, b.Len(), len(file))
	}
	ends := map[int]bool{0: true}
	for at := 0; at < len(file); {
		at += int(le.Uint32(file[at+4:]))
		ends[at] = true
	}
	for n := range file {
		b.Reset()
		s, err := Copy(&b, bytes.NewReader(file[:n]))
		if err != nil || s.Whole || !ends[b.Len()] || b.Len() > n {
			t.Fatalf("cut at %d: %+v, %v, %d bytes", n, s, err, b.Len())
		}
	}
	for _, bad := range []string{"not pcapng at all", "\x0a\x0d\x0d\x0a\x04\x00\x00\x00", "\x0a\x0d\x0d\x0a\xff\xff\xff\xff"} {
		if _, err := Copy(io.Discard, strings.NewReader(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	full := errors.New("disk full")
	if _, err := Copy(failing{full}, bytes.NewReader(file)); !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func FuzzCopy(f *testing.F) {
	f.Add([]byte("\x05\x00\x00\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\xff\xff\x00\x00\x00\x00\x20\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = Copy(io.Discard, bytes.NewReader(b)) })
}
