package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"linkspan/cnm"
)

const etcdScheme = "etcd://"

// meshStore reads what --mesh takes, and writes it with every port: 2379 is etcd's.
func meshStore(s string) (string, error) {
	const say = "want etcd://10.0.0.5:2379,10.0.0.6:2379"
	if s == "" {
		return "", nil
	}
	rest, ok := strings.CutPrefix(s, etcdScheme)
	if !ok {
		return "", fmt.Errorf("%q is no etcd cluster; %s", s, say)
	}
	var out []string
	for _, at := range strings.Split(strings.TrimSuffix(rest, "/"), ",") {
		at = strings.TrimPrefix(strings.TrimSpace(at), etcdScheme)
		host, port, err := net.SplitHostPort(at)
		if err != nil { // without a port
			host, port = strings.Trim(at, "[]"), "2379"
			if strings.Contains(host, ":") && !strings.HasPrefix(at, "[") {
				return "", fmt.Errorf("%q: an IPv6 address stands in brackets; %s", at, say)
			}
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", fmt.Errorf("%q is no port; %s", port, say)
		}
		if _, err := netip.ParseAddr(host); err != nil && !hostname.MatchString(host) {
			return "", fmt.Errorf("%q is neither an address nor a host's name; %s", host, say)
		}
		if at = net.JoinHostPort(host, port); slices.Contains(out, at) {
			return "", fmt.Errorf("%s is named twice", at)
		}
		out = append(out, at)
	}
	return etcdScheme + strings.Join(out, ","), nil
}

// MeshEndpoints are the members of the etcd cluster that Mesh names, host:port.
func (c *Config) MeshEndpoints() []string {
	if c.Mesh == "" {
		return nil
	}
	return strings.Split(strings.TrimPrefix(c.Mesh, etcdScheme), ",")
}

// meshListen refuses what no other host can reach this one by.
func meshListen(a netip.Addr) error {
	switch {
	case !a.IsValid():
		return nil
	case a.IsUnspecified():
		return fmt.Errorf("%s is every address: name the one that the other hosts reach this one by", a)
	case a.IsMulticast():
		return fmt.Errorf("%s is a group's address, not a host's", a)
	}
	return nil
}

// meshName is a host's name in the mesh: as hosts are called, and as short.
func meshName(s string) (string, error) {
	if s != "" && (len(s) > 63 || !hostname.MatchString(s)) {
		return "", fmt.Errorf("%q is no host name: letters, digits, - . _ are, and 63 bytes", s)
	}
	return s, nil
}

// meshPorts are the names, and what is there without anybody's word.
var meshPorts = map[string]uint16{
	"gate": 2380, "etcd": 2379, "etcd-peer": 2381, "check": 2382, "vxlan": 4789, "vxlan-secure": 4790, "wireguard": 51871,
}

// MeshPort is a port of the mesh by its name: "gate", at which hosts join, "etcd",
// "etcd-peer", "check", "vxlan", "vxlan-secure", "wireguard".
func (c *Config) MeshPort(name string) uint16 {
	if p, ok := c.MeshPorts[name]; ok {
		return p
	}
	return meshPorts[name]
}

func meshPortFlag(s string) (string, uint16, error) {
	name, port, ok := strings.Cut(s, "=")
	if !ok {
		return "", 0, fmt.Errorf("want name=number, have %q", s)
	}
	n, err := meshPort(name, port)
	return name, n, err
}

func meshPortMember(name string, raw json.RawMessage) (uint16, error) {
	if kind := jsonKind(raw); kind != "a number" {
		return 0, wrongKind("a number", kind)
	}
	return meshPort(name, string(raw))
}

func meshPort(name, port string) (uint16, error) {
	if _, ok := meshPorts[name]; !ok {
		return 0, fmt.Errorf("the mesh has no port %q: %s are its", name, strings.Join(slices.Sorted(maps.Keys(meshPorts)), ", "))
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no port", port)
	}
	return uint16(n), nil
}

// checkMesh looks at the mesh's directives together.
func (c *Config) checkMesh() error {
	for _, f := range []struct {
		flag  string
		given bool
	}{{"mesh-ca", c.MeshCA != ""}, {"mesh-cert", c.MeshCert != ""}, {"mesh-key", c.MeshKey != ""},
		{"mesh-user", c.MeshUser != ""}, {"mesh-password-file", c.MeshPasswordFile != ""},
		{"mesh-listen", c.MeshListen.IsValid()}, {"mesh-name", c.MeshName != ""}} {
		if f.given && c.Mesh == "" {
			return cnm.Invalid("%s is about an etcd cluster that exists already, and --mesh names none: add --mesh etcd://ADDRESS:2379, or leave %s away and use linkspan mesh init or join", f.flag, f.flag)
		}
	}
	switch {
	case (c.MeshCert == "") != (c.MeshKey == ""):
		return cnm.Invalid("mesh-cert and mesh-key belong together, and one of them is missing")
	case (c.MeshUser == "") != (c.MeshPasswordFile == ""):
		return cnm.Invalid("mesh-user and mesh-password-file belong together, and one of them is missing")
	case c.MeshCert != "" && c.MeshCA == "":
		return cnm.Invalid("mesh-ca is missing: without it nobody knows whether the etcd of --mesh is the right one")
	}
	tcp, udp := map[uint16]string{}, map[uint16]string{}
	for _, name := range slices.Sorted(maps.Keys(meshPorts)) {
		for _, used := range meshTransports(name, tcp, udp) {
			p := c.MeshPort(name)
			if other, taken := used[p]; taken {
				return cnm.Invalid("mesh-ports: %s and %s are both %d: give one of them another", other, name, p)
			}
			used[p] = name
		}
	}
	return nil
}

// meshTransports are those that a port is used with; the checks use both.
func meshTransports(name string, tcp, udp map[uint16]string) []map[uint16]string {
	switch name {
	case "check":
		return []map[uint16]string{tcp, udp}
	case "vxlan", "vxlan-secure", "wireguard":
		return []map[uint16]string{udp}
	}
	return []map[uint16]string{tcp}
}
