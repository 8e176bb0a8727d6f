package etc

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
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
	return r.Override(w).text()
}

// resolver is where Linkspan's own resolver answers in a sandbox.
var resolver = netip.AddrFrom4([4]byte{127, 0, 0, 11})

// Internal makes the resolv.conf of a container whose sandbox has a resolver of
// ours: that one alone, which asks the servers that the wish or the host names.
// Names without a dot are ours first (ndots:0), unless somebody says otherwise.
// The comments behind are Docker's, which scripts read to find the real servers.
func (r Resolv) Internal(w Wish) []byte {
	var servers, overrides []string
	for _, a := range r.Nameservers {
		servers = append(servers, "host("+a.String()+")")
	}
	if len(w.DNS) > 0 {
		servers = nil
		for _, a := range w.DNS {
			servers = append(servers, a.String())
		}
		overrides = append(overrides, "nameservers")
	}
	ndots := "host"
	if len(w.Search) > 0 {
		overrides = append(overrides, "search")
	}
	if len(w.Options) > 0 {
		overrides = append(overrides, "options")
		ndots = "override"
	}
	r = r.Override(w)
	r.Nameservers, r.Other = []netip.Addr{resolver}, nil
	if !slices.ContainsFunc(r.Options, validNdots) {
		ndots = "internal"
		r.Options = append(slices.DeleteFunc(slices.Clone(r.Options), isNdots), "ndots:0")
	}
	b := bytes.NewBuffer(r.text())
	fmt.Fprintf(b, "\n# Based on host file: '%s' (internal resolver)\n", hostResolv)
	if len(servers) > 0 {
		fmt.Fprintf(b, "# ExtServers: [%s]\n", strings.Join(servers, " "))
	} else {
		b.WriteString("# NO EXTERNAL NAMESERVERS DEFINED\n")
	}
	fmt.Fprintf(b, "# Overrides: [%s]\n# Option ndots from: %s\n", strings.Join(overrides, " "), ndots)
	return b.Bytes()
}

func isNdots(option string) bool { return option == "ndots" || strings.HasPrefix(option, "ndots:") }

func validNdots(option string) bool {
	_, n, ok := strings.Cut(option, "ndots:")
	i, err := strconv.Atoi(n)
	return ok && isNdots(option) && err == nil && i >= 0
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
	return r.Override(w).text()
}

// Override puts what a wish says of search domains and options in place of r's.
func (r Resolv) Override(w Wish) Resolv {
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

// Host is where the host keeps its resolvers. The zero value is the usual place.
type Host struct {
	// Resolv is the file; Behind is systemd-resolved's list of the real servers
	// behind its stub.
	Resolv, Behind string
}

func (h Host) paths() (path, behind string) {
	return cmp.Or(h.Resolv, hostResolv), cmp.Or(h.Behind, resolvedBehind)
}

// Mark changes when the host's file, or the list behind it, is written, replaced
// or removed.
func (h Host) Mark() string {
	var b strings.Builder
	path, behind := h.paths()
	for _, p := range []string{path, behind} {
		st, err := os.Stat(p) // of what a link leads to
		if err != nil {
			b.WriteString("none ")
			continue
		}
		var inode uint64
		if s, ok := st.Sys().(*syscall.Stat_t); ok {
			inode = s.Ino
		}
		fmt.Fprintf(&b, "%d/%d/%d ", inode, st.Size(), st.ModTime().UnixNano())
	}
	return b.String()
}

// Read reads the host's file. For a container with a namespace of its own,
// systemd-resolved's stub is replaced by the resolvers behind it.
func (h Host) Read(hostMode bool) ([]byte, error) {
	path, behind := h.paths()
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
