package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// BridgeNone as Bridge: there is no default network.
const BridgeNone = "none"

// AddressPool is a block that networks without a --subnet are cut from.
type AddressPool struct {
	Base netip.Prefix
	Size int // of the networks: the length of their prefix
}

func (p AddressPool) String() string { return fmt.Sprintf("base=%s,size=%d", p.Base, p.Size) }

// poolFlag reads base=10.0.0.0/8,size=24.
func poolFlag(s string) (p AddressPool, err error) {
	var base, size string
	for part := range strings.SplitSeq(s, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch k {
		case "base":
			base = v
		case "size":
			size = v
		default:
			return p, fmt.Errorf("invalid default address pool %q: want base=10.10.0.0/16,size=24", s)
		}
	}
	n, err := strconv.Atoi(size)
	if err != nil {
		return p, fmt.Errorf("invalid default address pool %q: the size must be a number: want base=10.10.0.0/16,size=24", s)
	}
	return pool(base, n)
}

// poolMember reads {"base":"10.0.0.0/8","size":24}.
func poolMember(raw json.RawMessage) (AddressPool, error) {
	var m struct {
		Base string `json:"base"`
		Size int    `json:"size"`
	}
	if kind := jsonKind(raw); kind != "an object" {
		return AddressPool{}, wrongKind(`an object such as {"base":"10.10.0.0/16","size":24}`, kind)
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return AddressPool{}, err
	}
	return pool(m.Base, m.Size)
}

func pool(base string, size int) (AddressPool, error) {
	p, err := netip.ParsePrefix(base)
	if err != nil {
		return AddressPool{}, fmt.Errorf("invalid default address pool: base %q is not a subnet such as 10.10.0.0/16", base)
	}
	most := p.Addr().BitLen() - 2
	switch {
	case p != p.Masked():
		return AddressPool{}, fmt.Errorf("invalid default address pool: base %s has bits beyond its length: it should be %s", p, p.Masked())
	case size < p.Bits():
		return AddressPool{}, fmt.Errorf("invalid default address pool: a network of size /%d does not fit into the base %s: give a size from %d to %d", size, p, p.Bits(), most)
	case size > most:
		return AddressPool{}, fmt.Errorf("invalid default address pool: a network of size /%d has no room for a gateway and a container: give a size from %d to %d", size, p.Bits(), most)
	}
	return AddressPool{Base: p, Size: size}, nil
}

// pools is --default-address-pool: objects in the file's list, not strings.
func pools(at func(*Config) *[]AddressPool) value {
	f := list(at, poolFlag).(*field[[]AddressPool])
	f.object = func(raw json.RawMessage) ([]AddressPool, error) {
		var members []json.RawMessage
		if kind := jsonKind(raw); kind != "a list" {
			return nil, wrongKind(`a list such as [{"base":"10.10.0.0/16","size":24}]`, kind)
		}
		if err := json.Unmarshal(raw, &members); err != nil {
			return nil, err
		}
		var out []AddressPool
		for _, m := range members {
			p, err := poolMember(m)
			if err != nil {
				return nil, err
			}
			out = append(out, p)
		}
		return out, nil
	}
	return f
}

// networkOptFlag reads driver=key=value (--default-network-opt).
func networkOptFlag(s string) (string, map[string]string, error) {
	driver, rest, _ := strings.Cut(s, "=")
	k, v, ok := strings.Cut(rest, "=")
	if !ok || driver == "" || k == "" {
		return "", nil, fmt.Errorf("invalid default network option %q: want driver=key=value, such as bridge=com.docker.network.driver.mtu=1400", s)
	}
	return driver, map[string]string{k: v}, nil
}

func networkOptMember(_ string, raw json.RawMessage) (map[string]string, error) {
	return stringMap(raw, `an object such as {"com.docker.network.driver.mtu":"1400"}`)
}

func stringMap(raw json.RawMessage, want string) (m map[string]string, err error) {
	if kind := jsonKind(raw); kind != "an object" {
		return nil, wrongKind(want, kind)
	}
	if json.Unmarshal(raw, &m) != nil {
		return nil, errors.New("the values must be strings, in quotes")
	}
	return m, nil
}

// networkOpts is a table whose entries of one driver add up.
func networkOpts(at func(*Config) *map[string]map[string]string) value {
	f := table(at, networkOptFlag, networkOptMember).(*field[map[string]map[string]string])
	f.join = func(old, more map[string]map[string]string) map[string]map[string]string {
		out := map[string]map[string]string{}
		for _, m := range []map[string]map[string]string{old, more} {
			for driver, opts := range m {
				for k, v := range opts {
					if out[driver] == nil {
						out[driver] = map[string]string{}
					}
					out[driver][k] = v
				}
			}
		}
		return out
	}
	return f
}

// logOptFlag reads key=value.
func logOptFlag(s string) (string, string, error) {
	k, v, ok := strings.Cut(s, "=")
	if !ok || k == "" {
		return "", "", fmt.Errorf("want key=value such as max-size=10m, have %q", s)
	}
	return k, v, nil
}

func logOptMember(k string, raw json.RawMessage) (string, error) {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return "", fmt.Errorf("want a string in quotes, have %s", raw)
	}
	return s, nil
}

// Mark is a packet mark and the bits of it that count.
type Mark struct{ Value, Mask uint32 }

func (m Mark) String() string {
	if m.Mask == 0 {
		return ""
	}
	return fmt.Sprintf("%#x/%#x", m.Value, m.Mask)
}

// fwmark is --bridge-accept-fwmark: a number, perhaps with a mask behind a slash.
func fwmark(at func(*Config) *Mark) value {
	return &field[Mark]{name: "string", at: at, format: show[Mark], parse: func(s string) (m Mark, err error) {
		if s == "" {
			return m, nil
		}
		value, mask, masked := strings.Cut(s, "/")
		if !masked {
			mask = "0xffffffff"
		}
		for _, n := range []struct {
			text string
			to   *uint32
		}{{value, &m.Value}, {mask, &m.Mask}} {
			u, err := strconv.ParseUint(n.text, 0, 32)
			if err != nil {
				return Mark{}, fmt.Errorf("invalid firewall mark %q: want a number of 32 bits, perhaps with a mask: 0x1 or 0x1/0x3", s)
			}
			*n.to = uint32(u)
		}
		switch {
		case m.Mask == 0:
			return Mark{}, fmt.Errorf("invalid firewall mark %q: a mask of 0 would let every packet in", s)
		case m.Value&^m.Mask != 0:
			return Mark{}, fmt.Errorf("invalid firewall mark %q: %#x has bits outside of its mask %#x, so that no packet has it", s, m.Value, m.Mask)
		}
		return m, nil
	}}
}

// ifname is what the kernel takes as the name of an interface (dev_valid_name in
// net/core/dev.c, IFNAMSIZ).
var ifname = regexp.MustCompile(`^[^/:\s]{1,15}$`)

func bridgeName(s string) (string, error) {
	if s != "" && (!ifname.MatchString(s) || s == "." || s == "..") {
		return "", fmt.Errorf("%q is not the name of an interface: at most 15 characters, without / : and spaces; \"none\" for no default network", s)
	}
	return s, nil
}

// bridgeAddress6 is --bip6.
func bridgeAddress6(s string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, fmt.Errorf("%q is not an address with a length, such as fd00:10::1/64", s)
	case !p.Addr().Is6() || p.Addr().Is4In6():
		return p, fmt.Errorf("%s is not IPv6", s)
	case p.Addr().Zone() != "":
		return p, fmt.Errorf("%s has a zone, and a subnet has none", s)
	case p.Bits() > 126:
		return p, fmt.Errorf("%s leaves no address for a container: the length can be 126 at most", s)
	case p.Addr() == p.Masked().Addr():
		return p, fmt.Errorf("%s is the network's address, not the bridge's own: did you mean %s/%d?", s, p.Addr().Next(), p.Bits())
	}
	return p, nil
}

// subnet6 is an IPv6 prefix, masked.
func subnet6(s string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%q is not a subnet such as fd00:10::/64", s)
	}
	if !p.Addr().Is6() || p.Addr().Is4In6() {
		return p, fmt.Errorf("%s is not IPv6", s)
	}
	return p.Masked(), nil
}

func only6(a netip.Addr) error {
	if !a.Is6() {
		return fmt.Errorf("%s is not IPv6", a)
	}
	return nil
}

// logDrivers are those that keep a log here.
var logDrivers = []string{"json-file", "local", "none"}

func logDriver(s string) (string, error) {
	if s == "" {
		return "json-file", nil
	}
	if !slices.Contains(logDrivers, s) {
		return "", fmt.Errorf("log driver %q is not there: want one of %s", s, strings.Join(logDrivers, ", "))
	}
	return s, nil
}
