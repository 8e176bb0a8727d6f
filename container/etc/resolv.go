package etc

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"strings"
)

const (
	resolvHeader = "# Made by Linkspan. Once it is edited, it is left alone.\n"

	// Where the host keeps its resolvers; the second is systemd-resolved's list
	// of the real ones behind its stub on 127.0.0.53 (systemd-resolved(8)).
	hostResolv     = "/etc/resolv.conf"
	resolvedBehind = "/run/systemd/resolve/resolv.conf"
)

// Resolv is the content of a resolv.conf(5).
type Resolv struct {
	Nameservers []netip.Addr
	Search      []string
	Options     []string
	// Other lines (sortlist), kept as they are.
	Other []string
}

// ParseResolv reads what it understands and never fails: the file belongs to
// somebody else.
func ParseResolv(b []byte) Resolv {
	var r Resolv
	sc := bufio.NewScanner(bytes.NewReader(b))
	for sc.Scan() {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		f := strings.Fields(line)
		switch f[0] {
		case "nameserver":
			if len(f) > 1 {
				if a, err := netip.ParseAddr(f[1]); err == nil {
					r.Nameservers = append(r.Nameservers, a)
				}
			}
		case "search", "domain":
			// The last of them wins (resolv.conf(5)).
			r.Search = f[1:]
		case "options":
			r.Options = append(r.Options, f[1:]...)
		default:
			r.Other = append(r.Other, line)
		}
	}
	return r
}

// Wish is what --dns, --dns-search and --dns-opt say, the container's over the
// daemon's.
type Wish struct {
	DNS             []netip.Addr
	Search, Options []string
}

func (w Wish) empty() bool { return len(w.DNS)+len(w.Search)+len(w.Options) == 0 }

// fallback are Docker's last resort when the host has no resolver that a
// container could reach.
func fallback(ipv6 bool) []netip.Addr {
	out := []netip.Addr{netip.AddrFrom4([4]byte{8, 8, 8, 8}), netip.AddrFrom4([4]byte{8, 8, 4, 4})}
	if ipv6 {
		out = append(out, netip.MustParseAddr("2001:4860:4860::8888"), netip.MustParseAddr("2001:4860:4860::8844"))
	}
	return out
}

// For makes a container's resolv.conf from the host's. A loopback resolver is
// the host's own and is dropped; so is one of a family that the container has
// no address of. What the wish names stands as it is.
func (r Resolv) For(w Wish, ipv6 bool) []byte {
	if len(w.DNS) > 0 {
		r.Nameservers = w.DNS
	} else {
		var keep []netip.Addr
		for _, a := range r.Nameservers {
			if a.IsLoopback() || a.IsUnspecified() || a.Is6() && (!ipv6 || a.Zone() != "") {
				continue
			}
			keep = append(keep, a)
		}
		if r.Nameservers = keep; len(keep) == 0 {
			r.Nameservers = fallback(ipv6)
		}
	}
	return r.override(w).text()
}

// ForHost makes it for a container in the host's namespace, where every
// resolver of the host is reachable.
func (r Resolv) ForHost(w Wish, raw []byte) []byte {
	if w.empty() {
		return raw
	}
	if len(w.DNS) > 0 {
		r.Nameservers = w.DNS
	}
	return r.override(w).text()
}

func (r Resolv) override(w Wish) Resolv {
	if len(w.Search) > 0 {
		r.Search = w.Search
	}
	// "." is Docker's word for no search list.
	if len(r.Search) == 1 && r.Search[0] == "." {
		r.Search = nil
	}
	if len(w.Options) > 0 {
		r.Options = w.Options
	}
	return r
}

func (r Resolv) text() []byte {
	var b bytes.Buffer
	b.WriteString(resolvHeader)
	for _, a := range r.Nameservers {
		b.WriteString("nameserver " + a.String() + "\n")
	}
	if len(r.Search) > 0 {
		b.WriteString("search " + strings.Join(r.Search, " ") + "\n")
	}
	if len(r.Options) > 0 {
		b.WriteString("options " + strings.Join(r.Options, " ") + "\n")
	}
	for _, o := range r.Other {
		b.WriteString(o + "\n")
	}
	return b.Bytes()
}

// HostResolv reads the host's file. For a container with a namespace of its
// own, systemd-resolved's stub is replaced by the resolvers behind it.
func HostResolv(hostMode bool) ([]byte, error) {
	return readResolv(hostResolv, resolvedBehind, hostMode)
}

func readResolv(path, behind string, hostMode bool) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		// No file means the local machine's resolver (resolv.conf(5)), which a
		// container cannot reach: the fallback takes over.
		return nil, nil
	}
	if err != nil || hostMode {
		return b, err
	}
	ns := ParseResolv(b).Nameservers
	if len(ns) == 1 && ns[0] == netip.AddrFrom4([4]byte{127, 0, 0, 53}) {
		if up, err := os.ReadFile(behind); err == nil {
			return up, nil
		}
	}
	return b, nil
}
