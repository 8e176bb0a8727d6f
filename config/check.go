package config

import (
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
	return c.checkBridge()
}

// checkBridge looks at the default bridge's addresses together. Without --bip the
// subnet is chosen later, and the engine checks against that one.
func (c *Config) checkBridge() error {
	if !c.BIP.IsValid() {
		return nil
	}
	subnet := c.BIP.Masked()
	if f := c.FixedCIDR; f.IsValid() && (f.Bits() < subnet.Bits() || !subnet.Contains(f.Addr())) {
		return cnm.Invalid("fixed-cidr %s is not inside the default bridge's subnet %s (from bip %s)", f, subnet, c.BIP)
	}
	if g := c.DefaultGateway; g.IsValid() && !subnet.Contains(g) {
		return cnm.Invalid("default-gateway %s is not inside the default bridge's subnet %s (from bip %s)", g, subnet, c.BIP)
	}
	return nil
}
