package userspace_test

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"linkspan/internal/lab"
	"linkspan/wireguard"
)

// TestSize: what a hundred peers cost a keeper: memory, and no time while nothing is sent.
func TestSize(t *testing.T) {
	a, b, _ := world(t)
	a.pings(b.inner4)
	before := proc(t, a.process)
	const peers = 100
	for i := range peers {
		key, err := wireguard.NewPrivateKey()
		if err != nil {
			t.Fatal(err)
		}
		a.config.Peers = append(a.config.Peers, wireguard.Peer{
			PublicKey: key.Public(), Endpoint: netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("10.77.1.%d", i+1)), port),
			Allowed: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("192.168.78.%d/32", i+1))},
		})
	}
	a.set()
	a.pings(b.inner4)
	quiet := proc(t, a.process)
	t.Logf("a tunnel: %d KiB; with %d peers more: %d KiB", before.resident, peers, quiet.resident)
	if each := (quiet.resident - before.resident) / peers; each > 200 && !raceDetector {
		t.Errorf("%d KiB for each", each)
	}
	const rest = 2 * time.Second
	time.Sleep(rest)
	if used := proc(t, a.process).cpu - quiet.cpu; used > rest/10 {
		t.Errorf("at rest for %v it computed for %v", rest, used)
	} else {
		t.Logf("at rest for %v it computed for %v", rest, used)
	}
	// Packets to those who do not answer are kept, each in a buffer of 64 KiB of which it
	// uses a page or two, and not for ever.
	a.Run("ip", "route", "add", "192.168.78.0/24", "dev", device)
	for i := range 10 {
		c, err := a.Dial("udp", fmt.Sprintf("192.168.78.%d:9", i+1), lab.Patience)
		if err != nil {
			t.Fatal(err)
		}
		for range 10_000 {
			_, _ = c.Write(make([]byte, 1000))
		}
		c.Close()
	}
	a.pings(b.inner4)
	flooded := proc(t, a.process)
	t.Logf("with 10,000 packets for each of ten: %d KiB", flooded.resident)
	if more := flooded.resident - quiet.resident; more > 64<<10 && !raceDetector {
		t.Errorf("%d KiB for packets to hosts that do not answer", more)
	}
}

type used struct {
	resident int // KiB
	cpu      time.Duration
}

// proc reads proc(5).
func proc(t *testing.T, p *lab.Process) (u used) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			u.resident, _ = strconv.Atoi(f[1])
		}
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	f := strings.Fields(rest)
	for _, field := range f[11:13] { // utime, stime, in ticks of 10 ms
		n, _ := strconv.Atoi(field)
		u.cpu += time.Duration(n) * 10 * time.Millisecond
	}
	return u
}
