// Package etc writes the three files that every container gets from the
// engine: /etc/hosts, /etc/hostname and /etc/resolv.conf, as Docker makes them.
package etc

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"linkspan/cnm"
)

// HostGateway is the word that stands for the host's address in --add-host.
const HostGateway = "host-gateway"

const defaultHosts = `127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
fe00::	ip6-localnet
ff00::	ip6-mcastprefix
ff02::1	ip6-allnodes
ff02::2	ip6-allrouters
`

// Line is one line of /etc/hosts.
type Line struct {
	Addr  netip.Addr
	Names string
}

// ParseExtraHosts decodes --add-host values ("name:address", "name=address");
// gateways are what host-gateway stands for.
func ParseExtraHosts(extra []string, gateways []netip.Addr) ([]Line, error) {
	var hosts []Line
	for _, e := range extra {
		// The first separator ends the name: an IPv6 address has colons too.
		i := strings.IndexAny(e, ":=")
		if i <= 0 {
			return nil, cnm.Invalid("bad format for add-host: %q", e)
		}
		name, val := e[:i], e[i+1:]
		if val == HostGateway {
			if len(gateways) == 0 {
				return nil, cnm.Invalid("unable to derive the IP value for host-gateway: no network of the container has a gateway on this host; set --host-gateway-ip on the daemon")
			}
			for _, g := range gateways {
				hosts = append(hosts, Line{g, name})
			}
			continue
		}
		if n := len(val); n > 2 && val[0] == '[' && val[n-1] == ']' {
			val = val[1 : n-1]
		}
		a, err := netip.ParseAddr(val)
		if err != nil {
			return nil, cnm.Invalid("invalid IP address in add-host: %q", val)
		}
		hosts = append(hosts, Line{a, name})
	}
	return hosts, nil
}

// Hosts makes /etc/hosts: the loopback names, what --add-host wishes, then the
// container's own names at its own addresses.
func Hosts(extra []Line, own []netip.Addr, hostname, domainname string) []byte {
	return append([]byte(defaultHosts), HostLines(extra, own, hostname, domainname)...)
}

// HostLines is the part of Hosts that follows the loopback names; in host mode
// it follows the host's own file.
func HostLines(extra []Line, own []netip.Addr, hostname, domainname string) []byte {
	var b bytes.Buffer
	for _, h := range extra {
		fmt.Fprintf(&b, "%s\t%s\n", h.Addr, h.Names)
	}
	names := hostname
	if domainname != "" {
		names = hostname + "." + domainname + " " + hostname
	}
	if names != "" {
		for _, a := range own {
			fmt.Fprintf(&b, "%s\t%s\n", a, names)
		}
	}
	return b.Bytes()
}

// mergeHosts puts our lines as they shall be into a file in which somebody may
// have added others: lines of ours that are no more wished go, and those that are
// missing come behind the one of ours that is wished before them.
func mergeHosts(now, ours, wished []byte) []byte {
	want, old := lineSet(wished), lineSet(ours)
	var out []string
	for line := range bytes.Lines(now) {
		if l := string(bytes.TrimSuffix(line, []byte("\n"))); want[l] || !old[l] {
			out = append(out, l)
		}
	}
	at := 0
	for line := range bytes.Lines(wished) {
		l := string(bytes.TrimSuffix(line, []byte("\n")))
		if i := slices.Index(out, l); i >= 0 {
			at = i + 1
			continue
		}
		out = slices.Insert(out, at, l)
		at++
	}
	var b bytes.Buffer
	for _, l := range out {
		b.WriteString(l + "\n")
	}
	return b.Bytes()
}

func lineSet(b []byte) map[string]bool {
	set := map[string]bool{}
	for line := range bytes.Lines(b) {
		set[string(bytes.TrimSuffix(line, []byte("\n")))] = true
	}
	return set
}
