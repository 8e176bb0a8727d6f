package bridge

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/driver"
	"linkspan/driver/segment"
)

// The option keys of networks, spelt as Docker's.
const (
	optInhibit4 = "com.docker.network.bridge.inhibit_ipv4"
	optBinding  = "com.docker.network.bridge.host_binding_ipv4"
	optDefault  = "com.docker.network.bridge.default_bridge"
	optMode4    = "com.docker.network.bridge.gateway_mode_ipv4"
	optMode6    = "com.docker.network.bridge.gateway_mode_ipv6"
	optTrusted  = "com.docker.network.bridge.trusted_host_interfaces"
)

// Options that networks and endpoints have; an endpoint's counts.
const (
	optHost4          = "com.docker.network.host_ipv4"
	optHost6          = "com.docker.network.host_ipv6"
	optAdvertise      = "com.docker.network.advertise_addr_nmsgs"
	optAdvertiseEvery = "com.docker.network.advertise_addr_ms"
)

// mode is how one address family of a network meets the outside.
type mode string

// The gateway modes.
const (
	modeNAT         mode = "nat"             // translated both ways; own addresses are closed
	modeUnprotected mode = "nat-unprotected" // translated, and open by their own addresses
	modeRouted      mode = "routed"          // not translated: published ports are open by their own addresses
	modeIsolated    mode = "isolated"        // internal, and the host has no address on the bridge
)

func (m mode) translates() bool { return m == modeNAT || m == modeUnprotected }

// options are a bridge network's, decoded once.
type options struct {
	name       string // the bridge device; default "br-" and 12 digits of the id
	masquerade bool   // default true
	icc        bool   // default true
	inhibit4   bool
	mtu        int // bytes; 0: the daemon's default
	mode4      mode
	mode6      mode
	trusted    []string // interfaces of the host
	shared
}

// shared are the options that an endpoint may have for itself.
type shared struct {
	host4, host6 netip.Addr // source addresses of what leaves; zero: the host's choice
	times        int        // -1: not said
	every        time.Duration
}

func (o options) mtuOr(daemon int) int {
	if o.mtu != 0 {
		return o.mtu
	}
	return daemon
}

func (o options) mode(v4 bool) mode {
	if v4 {
		return o.mode4
	}
	return o.mode6
}

func (s shared) host(v4 bool) netip.Addr {
	if v4 {
		return s.host4
	}
	return s.host6
}

// Translates implements driver.Translator.
func (Driver) Translates(n *cnm.Network, v4 bool) bool {
	o, err := decode(n)
	return err != nil || o.mode(v4).translates()
}

// decode reads a network's options and holds them against each other.
func decode(n *cnm.Network) (options, error) {
	o := options{masquerade: true, icc: true, mode4: modeNAT, mode6: modeNAT, shared: shared{times: -1, every: time.Second}}
	o.name = segment.DeviceName("br-", n)
	known := map[string]func(string) error{
		segment.OptBridge:     func(v string) error { o.name = v; return segment.Device(v) },
		segment.OptMasquerade: segment.Boolean(&o.masquerade),
		segment.OptICC:        segment.Boolean(&o.icc),
		optInhibit4:           segment.Boolean(&o.inhibit4),
		optBinding:            func(v string) error { return segment.Address(v, true) }, // the controller applies it to ports
		optDefault:            segment.Boolean(new(bool)),
		optMode4:              gatewayMode(&o.mode4),
		optMode6:              gatewayMode(&o.mode6),
		optTrusted:            interfaces(&o.trusted),
		segment.OptMTU:        segment.Number(&o.mtu),
		driver.OptIfPrefix:    segment.Prefix,
	}
	o.shared.known(known)
	if err := driver.Decode(n, known); err != nil {
		return o, err
	}
	return o, o.check(n)
}

// known adds the decoders of the shared options.
func (s *shared) known(to map[string]func(string) error) {
	to[optHost4] = address(&s.host4, true)
	to[optHost6] = address(&s.host6, false)
	to[optAdvertise] = segment.Bounded(&s.times, 0, 3, "messages")
	to[optAdvertiseEvery] = func(v string) error {
		ms := 0
		err := segment.Bounded(&ms, 100, 2000, "milliseconds")(v)
		s.every = time.Duration(ms) * time.Millisecond
		return err
	}
}

// check refuses what contradicts itself.
func (o options) check(n *cnm.Network) error {
	refuse := func(format string, args ...any) error {
		return cnm.Invalid("network %s: "+format, append([]any{n.Name}, args...)...)
	}
	if err := segment.CheckMTU(n, o.mtu); err != nil {
		return err
	}
	for _, f := range []struct {
		key, family, host string
		v4                bool
	}{{optMode4, "IPv4", optHost4, true}, {optMode6, "IPv6", optHost6, false}} {
		m := o.mode(f.v4)
		switch {
		case m == modeIsolated && !n.Internal:
			return refuse("gateway mode 'isolated' can only be used for an internal network: add --internal, or choose another %s", f.key)
		case m == modeIsolated && n.Borrowed:
			return refuse("gateway mode 'isolated' leaves the host without an address on the bridge, and %s is not ours to change: use a bridge that Linkspan makes", o.name)
		case !o.host(f.v4).IsValid():
		case m == modeRouted:
			return refuse("%s is the address that %s is translated to, and %s=routed does not translate: leave one of them away", f.host, f.family, f.key)
		case !o.masquerade:
			return refuse("%s is the address that %s is translated to, and %s=false does not translate: leave one of them away", f.host, f.family, segment.OptMasquerade)
		}
	}
	return nil
}

// advertise is what is told of a new address. Without a wish, it is told where the
// neighbours can hold an older idea of it: behind a borrowed bridge, and when the
// address has another hardware address than always.
func (o options) advertise(n *cnm.Network, e *cnm.Endpoint, own shared) dataplane.Advertise {
	times, every := own.times, own.every
	if times < 0 {
		times = o.times
	}
	if every == 0 {
		every = o.every
	}
	if times < 0 {
		times = 0
		if a := e.Addr4(); n.Borrowed || a.IsValid() && e.MAC != cnm.MACFor(a.Addr()) {
			times = 3
		}
	}
	if times == 0 {
		return dataplane.Advertise{}
	}
	return dataplane.Advertise{Times: times, Every: every}
}

func gatewayMode(to *mode) func(string) error {
	return func(v string) error {
		switch m := mode(v); m {
		case modeNAT, modeUnprotected, modeRouted, modeIsolated:
			*to = m
			return nil
		}
		return fmt.Errorf("unknown gateway mode %q: there are nat, nat-unprotected, routed and isolated", v)
	}
}

// interfaces reads a list of device names, parted by colons.
func interfaces(to *[]string) func(string) error {
	return func(v string) error {
		for name := range strings.SplitSeq(v, ":") {
			if err := segment.Device(name); err != nil {
				return fmt.Errorf("%w (several are parted by colons)", err)
			}
			if strings.Contains(name, ",") { // the kernel allows it, and nobody means it
				return fmt.Errorf("%q: several interfaces are parted by colons", v)
			}
			*to = append(*to, name)
		}
		return nil
	}
}

// address reads an address that packets may have as their source.
func address(to *netip.Addr, v4 bool) func(string) error {
	return func(v string) error {
		if err := segment.Address(v, v4); err != nil {
			return err
		}
		a := netip.MustParseAddr(v)
		if a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() {
			return fmt.Errorf("%s cannot be the source of what leaves: give one of the host's own addresses", a)
		}
		*to = a
		return nil
	}
}
