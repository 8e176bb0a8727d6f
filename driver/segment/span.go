package segment

import (
	"fmt"
	"net"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
)

// Spanning is what drivers of networks that span hosts have in common, whatever way their
// packets take.
type Spanning struct{}

// Traits implements driver.Driver.
func (Spanning) Traits() driver.Traits {
	return driver.Traits{Addresses: true, Publishes: true, IfPrefix: "eth", Spans: true}
}

// Home plans nothing: what is of this host's own endpoints comes with each of them.
func (Spanning) Home(driver.Env, *cnm.Network, []cnm.Block) ([]dataplane.Object, error) {
	return nil, nil
}

// Common are options that all networks which span hosts have.
type Common struct {
	MTU        int  // bytes, as wished; 0: what fits
	Masquerade bool // what leaves for the outside gets the host's address
}

// Defaults are what holds without a wish.
func Defaults() Common { return Common{Masquerade: true} }

// Known adds the decoders of these options.
func (c *Common) Known(to map[string]func(string) error) {
	to[OptMTU] = Number(&c.MTU)
	to[OptMasquerade] = Boolean(&c.Masquerade)
	to[driver.OptIfPrefix] = Prefix
}

// CheckPools refuses a network that has no subnet.
func CheckPools(n *cnm.Network) error {
	if len(n.Pools) == 0 {
		return cnm.Invalid("network %s: the %s driver needs a subnet; give one with --subnet", n.Name, n.Driver)
	}
	return nil
}

// Anycast is the MAC address that the gateway has on every host, so that a container
// finds it whichever host it is on: Hardware, or for IPv6 alone 02:42 and the end of the
// gateway's address.
func Anycast(n *cnm.Network) string {
	if mac := Hardware(n); mac != "" {
		return mac
	}
	p := n.Pool6()
	if p == nil || !p.Gateway.Is6() {
		return ""
	}
	a := p.Gateway.As16()
	return net.HardwareAddr{0x02, 0x42, a[12], a[13], a[14], a[15]}.String()
}

// NoPath is no way at all, and why.
func NoPath(format string, args ...any) cnm.Path {
	return cnm.Path{Kind: cnm.PathNone, Reason: fmt.Sprintf(format, args...)}
}

// Closed says why nothing of a network leaves this host for a peer, if so: what is to
// be encrypted has no other way.
func Closed(u *cnm.Underlay, p cnm.Peer, encrypted bool) (cnm.Path, bool) {
	switch {
	case u == nil:
		return NoPath("this host is in no mesh, or was forgotten by it"), true
	case encrypted && !Encrypts(u):
		return NoPath("the network is encrypted, and this host has no WireGuard device yet: nothing leaves it in plain text"), true
	case encrypted && !p.SecureAddr.IsValid():
		return NoPath("the network is encrypted, and %s has told no WireGuard key yet: nothing goes there in plain text", p.Name), true
	case !encrypted && (!p.Addr.IsValid() || p.Addr.Is4() != u.Addr.Is4()):
		return NoPath("%s has no address of the same family as this host's (%s)", p.Name, u.Addr), true
	}
	return cnm.Path{}, false
}

// Encrypts says whether this host has a device that encrypts.
func Encrypts(u *cnm.Underlay) bool {
	return u != nil && u.Secure != "" && u.SecureAddr.IsValid()
}
