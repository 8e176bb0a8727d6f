package dns

import (
	"bufio"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// settings are whom to ask, and how.
type settings struct {
	servers  []netip.AddrPort
	timeout  time.Duration // the longest wait before asking again; 0: our own
	attempts int           // rounds over the servers; 0: our own
	rotate   bool          // the servers are asked first in turn
	tcp      bool          // use-vc
}

// stub says whether all servers are on the loopback, and so keep answers themselves.
func (s *settings) stub() bool {
	return !slices.ContainsFunc(s.servers, func(a netip.AddrPort) bool { return !a.Addr().IsLoopback() })
}

// source is where a group's settings come from.
type source interface{ settings() *settings }

// fixed are servers that a person gave.
type fixed settings

func (f *fixed) settings() *settings { return (*settings)(f) }

// maxServers bounds what is taken of a list; resolv.conf(5) itself takes three.
const maxServers = 8

// parseResolvConf reads resolv.conf(5). What it does not know it leaves out.
func parseResolvConf(r io.Reader) (*settings, error) {
	s := &settings{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 2 || strings.ContainsAny(f[0][:1], "#;") {
			continue
		}
		switch f[0] {
		case "nameserver":
			a, err := netip.ParseAddr(f[1])
			if err != nil || len(s.servers) >= maxServers {
				continue
			}
			if p := netip.AddrPortFrom(a, 53); !slices.Contains(s.servers, p) {
				s.servers = append(s.servers, p)
			}
		case "options":
			for _, o := range f[1:] {
				s.option(o)
			}
		}
	}
	return s, lines.Err()
}

func (s *settings) option(o string) {
	name, value, _ := strings.Cut(o, ":")
	n, err := strconv.Atoi(value)
	switch {
	case name == "rotate":
		s.rotate = true
	case name == "use-vc":
		s.tcp = true
	case name == "timeout" && err == nil && n > 0:
		s.timeout = time.Duration(min(n, 30)) * time.Second
	case name == "attempts" && err == nil && n > 0:
		s.attempts = min(n, 5)
	}
}

// resolvConf follows a file: it looks at most once a second, and only when someone
// asks. A file that is broken, empty or gone leaves what was there before.
type resolvConf struct {
	path string
	log  *slog.Logger
	now  func() time.Time

	current atomic.Pointer[settings]
	next    atomic.Int64 // when to look again, unix nanoseconds

	mu   sync.Mutex
	seen stamp
	told string // what was wrong, said once
}

type stamp struct {
	modified time.Time
	size     int64
	info     fs.FileInfo
}

const resolvConfEvery = time.Second

func (c *resolvConf) settings() *settings {
	now := c.now().UnixNano()
	// A clock that was set back does not stop us from looking.
	if next := c.next.Load(); now < next && next-now <= int64(resolvConfEvery) && c.current.Load() != nil {
		return c.current.Load()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next.Store(now + int64(resolvConfEvery))
	c.look()
	if c.current.Load() == nil {
		c.current.Store(&settings{})
	}
	return c.current.Load()
}

func (c *resolvConf) look() {
	fi, err := os.Stat(c.path)
	if err != nil {
		c.complain(err.Error())
		return
	}
	if c.seen.info != nil && fi.ModTime().Equal(c.seen.modified) && fi.Size() == c.seen.size && os.SameFile(fi, c.seen.info) {
		return
	}
	f, err := os.Open(c.path)
	if err != nil {
		c.complain(err.Error())
		return
	}
	defer f.Close()
	s, err := parseResolvConf(io.LimitReader(f, 1<<20))
	if err != nil {
		c.complain(err.Error())
		return
	}
	// Who replaces the file while it is read is seen at the next look: the stamp is
	// that of before.
	c.seen = stamp{fi.ModTime(), fi.Size(), fi}
	if len(s.servers) == 0 {
		c.complain("it names no server")
		return
	}
	c.told = ""
	if old := c.current.Load(); old != nil && len(old.servers) > 0 && !slices.Equal(old.servers, s.servers) {
		c.log.Info("dns: the host's servers changed", "file", c.path, "servers", s.servers)
	}
	c.current.Store(s)
}

// complain says what is wrong, once.
func (c *resolvConf) complain(what string) {
	if c.told == what {
		return
	}
	c.told = what
	msg := "dns: the host's list of servers cannot be used; the last good one stays"
	if old := c.current.Load(); old == nil || len(old.servers) == 0 {
		msg = "dns: the host has no list of servers: containers find each other, but no name of the world"
	}
	c.log.Warn(msg, "file", c.path, "error", what)
}
