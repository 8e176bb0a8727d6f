package config

import (
	"net/netip"
	"strings"

	"linkspan/cnm"
)

// check looks at what no directive can tell alone.
func (c *Config) check() error {
	values := map[string]string{}
	var labels []string
	for _, l := range c.Labels {
		k, v, _ := strings.Cut(l, "=")
		old, again := values[k]
		if again && old != v {
			return cnm.Invalid("conflict labels for %s=%s and %s=%s", k, v, k, old)
		}
		if !again {
			labels = append(labels, l)
		}
		values[k] = v
	}
	c.Labels = labels

	seen := map[Host]bool{}
	for _, h := range c.Hosts {
		if seen[h] {
			return cnm.Invalid("%s is given twice as a host to listen on", h)
		}
		seen[h] = true
	}
	var v4, v6 bool
	for _, a := range c.HostGatewayIPs {
		if a.Is4() && v4 || a.Is6() && v6 {
			return cnm.Invalid("host-gateway-ip: only one IPv4 and one IPv6 address may be given, and %s is one too many", a)
		}
		v4, v6 = v4 || a.Is4(), v6 || a.Is6()
	}
	if r := c.DefaultRuntime; r == "" {
		return cnm.Invalid("default-runtime: want a name such as runc")
	}
	if c.DataRoot == c.ExecRoot {
		return cnm.Invalid("data-root and exec-root are both %s: what outlives a reboot and what does not need their own directories", c.DataRoot)
	}
	for _, check := range []func() error{c.checkBridge, c.checkPools, c.checkTLS, c.checkMesh} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// checkBridge looks at the default bridge's addresses together. Without --bip the
// subnet is chosen later, and the engine checks against that one.
func (c *Config) checkBridge() error {
	if c.Bridge != "" {
		for _, p := range []struct {
			flag string
			addr netip.Prefix
		}{{"bip", c.BIP}, {"bip6", c.BIP6}} {
			if p.addr.IsValid() {
				return cnm.Invalid("you specified -b & --%s, mutually exclusive options: a bridge of your own (%s) has its addresses already, and %s would be another one. "+
					"Leave --%s away, or leave -b away and have Linkspan make the bridge", p.flag, c.Bridge, p.addr, p.flag)
			}
		}
	}
	if c.Bridge == BridgeNone {
		for flag, given := range map[string]bool{"fixed-cidr": c.FixedCIDR.IsValid(), "fixed-cidr-v6": c.FixedCIDR6.IsValid(),
			"default-gateway": c.DefaultGateway.IsValid(), "default-gateway-v6": c.DefaultGateway6.IsValid(), "ipv6": c.IPv6} {
			if given {
				return cnm.Invalid("%s is about the default network, and bridge=none says that there is none: leave one of them away", flag)
			}
		}
	}
	if err := inside("bip", c.BIP, "fixed-cidr", c.FixedCIDR, "default-gateway", c.DefaultGateway); err != nil {
		return err
	}
	subnet6, from := c.BIP6, "bip6"
	if !subnet6.IsValid() {
		subnet6, from = c.FixedCIDR6, "fixed-cidr-v6"
	}
	return inside(from, subnet6, "fixed-cidr-v6", c.FixedCIDR6, "default-gateway-v6", c.DefaultGateway6)
}

// inside says whether range and gateway lie in the subnet that a directive named.
func inside(from string, bip netip.Prefix, rangeFlag string, r netip.Prefix, gwFlag string, gw netip.Addr) error {
	if !bip.IsValid() {
		return nil
	}
	subnet := bip.Masked()
	if r.IsValid() && (r.Bits() < subnet.Bits() || !subnet.Contains(r.Addr())) {
		return cnm.Invalid("%s %s is not inside the default bridge's subnet %s (from %s %s)", rangeFlag, r, subnet, from, bip)
	}
	if gw.IsValid() && !subnet.Contains(gw) {
		return cnm.Invalid("%s %s is not inside the default bridge's subnet %s (from %s %s)", gwFlag, gw, subnet, from, bip)
	}
	return nil
}

// checkPools refuses pools that hold each other: a network would be cut twice.
func (c *Config) checkPools() error {
	for i, p := range c.AddressPools {
		for _, q := range c.AddressPools[:i] {
			if p.Base.Overlaps(q.Base) {
				return cnm.Invalid("default-address-pools: %s and %s overlap: leave one away, or give them bases apart", q, p)
			}
		}
	}
	return nil
}

// checkTLS holds what TCP sockets need. Who can talk to the API is root on this
// host: beyond the loopback, that takes certificates or the person's own word.
func (c *Config) checkTLS() error {
	var tcp []Host
	for _, h := range c.Hosts {
		if h.Proto == "tcp" {
			tcp = append(tcp, h)
		}
	}
	if c.TLS {
		for _, f := range []struct{ flag, path string }{{"tlscert", c.TLSCert}, {"tlskey", c.TLSKey}} {
			if f.path == "" {
				return cnm.Invalid("%s is empty, and TLS needs it: name the file with --%s", f.flag, f.flag)
			}
		}
		if c.TLSVerify && c.TLSCACert == "" {
			return cnm.Invalid("tlscacert is empty, and tlsverify needs it: name the file with --tlscacert")
		}
		return nil
	}
	for _, h := range tcp {
		if !h.Loopback() && !c.TLSGiven {
			return cnm.Invalid("refusing to listen on %s without TLS: whoever reaches it is root on this host. "+
				"Use --tlsverify with --tlscacert, --tlscert and --tlskey, or an address of the loopback such as tcp://127.0.0.1:2375, or ssh (docker -H ssh://user@host); "+
				"--tls=false says that you want it nevertheless", h)
		}
	}
	return nil
}
