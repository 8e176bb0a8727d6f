package userspace_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"linkspan/internal/lab"
	"linkspan/wireguard"
)

// BenchmarkTunnel is one TCP stream through a tunnel of the keeper's, and through one of
// the library's own program between the same hosts, in turns:
//
//	go test -run - -bench Tunnel -benchtime 3x ./wireguard/userspace
//
// "of-bare" is the ratio of the two; the memory is the sending process's most.
func BenchmarkTunnel(b *testing.B) {
	if _, err := exec.LookPath("iperf3"); err != nil {
		b.Skip("probe: iperf3 is not here; apt install iperf3")
	}
	l, r, _ := world(b)
	l.pings(r.inner4)
	bare := bareTunnel(b, l, r)
	servers := []*lab.Process{
		r.Start([]string{"iperf3", "-s", "--forceflush", "-B", r.inner4.String()}), r.Start([]string{"iperf3", "-s", "--forceflush", "-B", bare.to}),
	}
	for _, s := range servers {
		s.WaitFor("Server listening", lab.Patience)
		b.Cleanup(s.Kill)
	}
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	welcomes := r.Start([]string{self, "welcome", r.inner4.String() + ":7000", bare.to + ":7000"})
	b.Cleanup(welcomes.Kill)
	welcomes.WaitFor("listening", lab.Patience)
	var many, bareMany float64
	for i := range b.N {
		for n := range 2 {
			to, sum := r.inner4.String(), &many
			if (n+i)%2 == 1 {
				to, sum = bare.to, &bareMany
			}
			rate, err := strconv.ParseFloat(strings.TrimSpace(l.Run(self, "greet", to+":7000")), 64)
			if err != nil {
				b.Fatal(err)
			}
			*sum += rate
		}
	}
	b.ReportMetric(many/float64(b.N), "conn/s")
	b.ReportMetric(bareMany/float64(b.N), "bare-conn/s")
	var ours, theirs float64
	for i := range b.N {
		for n := range 2 {
			if (n+i)%2 == 0 {
				ours += stream1(b, l, r.inner4.String())
			} else {
				theirs += stream1(b, l, bare.to)
			}
		}
	}
	n := float64(b.N)
	b.ReportMetric(ours/n/1e9, "Gbit/s")
	b.ReportMetric(theirs/n/1e9, "bare-Gbit/s")
	b.ReportMetric(ours/theirs, "of-bare")
	b.ReportMetric(peak(b, l.process.PID()), "MB")
	b.ReportMetric(peak(b, r.process.PID()), "MB-receiver")
	b.ReportMetric(peak(b, bare.pid), "bare-MB")
}

// stream1 is bits per second of one second.
func stream1(b *testing.B, from *site, to string) float64 {
	b.Helper()
	out := from.Run("iperf3", "-J", "-t", "2", "-C", "cubic", "-c", to)
	var r struct {
		End struct {
			Sum struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		b.Fatal(err, out)
	}
	return r.End.Sum.Rate
}

// peak is the most memory that a process had, in MB.
func peak(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmHWM:" {
			n, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				b.Fatal(err)
			}
			return n / 1024
		}
	}
	b.Fatal("no VmHWM")
	return 0
}

type bareWorld struct {
	to  string
	pid int // of the sender's
}

// bareTunnel runs the library's program (wireguard-go) on both hosts.
func bareTunnel(b *testing.B, sites ...*site) (w bareWorld) {
	b.Helper()
	exe := filepath.Join(b.TempDir(), "wireguard-go")
	if out, err := exec.Command("go", "build", "-o", exe, "golang.zx2c4.com/wireguard").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	var keys []wireguard.PrivateKey
	for range sites {
		k, err := wireguard.NewPrivateKey()
		if err != nil {
			b.Fatal(err)
		}
		keys = append(keys, k)
	}
	for i, s := range sites {
		name := fmt.Sprintf("b%d%d", i, os.Getpid()) // its socket is in a folder of the machine's
		p := s.Start([]string{exe, "-f", name}, func(c *exec.Cmd) { c.Env = append(os.Environ(), "LOG_LEVEL=verbose") })
		b.Cleanup(func() { p.Signal(syscall.SIGTERM); <-p.Done() })
		p.WaitFor("UAPI listener started", lab.Patience)
		other := 1 - i
		private, public := keys[i].Bytes(), keys[other].Public()
		conf := fmt.Sprintf("set=1\nprivate_key=%s\nlisten_port=52000\npublic_key=%s\nendpoint=%s:52000\nallowed_ip=192.168.78.%d/32\n\n",
			hex.EncodeToString(private[:]), hex.EncodeToString(public[:]), sites[other].outer, other+1)
		c, err := net.Dial("unix", "/var/run/wireguard/"+name+".sock")
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte(conf)); err != nil {
			b.Fatal(err)
		}
		answer := make([]byte, 100)
		if n, err := c.Read(answer); err != nil || !strings.HasPrefix(string(answer[:n]), "errno=0") {
			b.Fatalf("wireguard-go: %s, %v", answer[:n], err)
		}
		s.Run("ip", "addr", "add", fmt.Sprintf("192.168.78.%d/24", i+1), "dev", name)
		s.Run("ip", "link", "set", name, "mtu", "1420", "up")
		if i == 0 {
			w.pid = p.PID()
		}
		w.to = fmt.Sprintf("192.168.78.%d", i+1)
	}
	return w
}

// greet prints how many connections a second four at once make, each with a word and its
// echo.
func greet(to string) int {
	var n atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(2 * time.Second)
	for range 4 {
		wg.Go(func() {
			buf := make([]byte, 16)
			for time.Now().Before(end) {
				c, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				_, _ = c.Write([]byte("hello"))
				_, _ = c.Read(buf)
				_ = c.(*net.TCPConn).SetLinger(0) // or ports run out
				c.Close()
				n.Add(1)
			}
		})
	}
	wg.Wait()
	fmt.Println(n.Load() / 2)
	return 0
}

// welcome answers them.
func welcome(addrs []string) int {
	for _, a := range addrs {
		l, err := net.Listen("tcp", a)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					buf := make([]byte, 16)
					n, _ := c.Read(buf)
					_, _ = c.Write(buf[:n])
					_, _ = c.Read(buf)
					c.Close()
				}()
			}
		}()
	}
	fmt.Println("listening")
	select {}
}
