package bridge

import (
	"fmt"
	"strconv"
	"strings"

	"linkspan/cnm"
	"linkspan/driver"
)

// The option keys, spelt as Docker's.
const (
	optName       = "com.docker.network.bridge.name"
	optMasquerade = "com.docker.network.bridge.enable_ip_masquerade"
	optICC        = "com.docker.network.bridge.enable_icc"
	optBinding    = "com.docker.network.bridge.host_binding_ipv4"
	optDefault    = "com.docker.network.bridge.default_bridge"
	optMTU        = "com.docker.network.driver.mtu"
)

// options are a bridge network's, decoded once.
type options struct {
	name       string // the bridge device; default "br-" and 12 digits of the id
	masquerade bool   // default true
	icc        bool   // default true
	mtu        int    // bytes; 0: the daemon's default
}

func (o options) mtuOr(daemon int) int {
	if o.mtu != 0 {
		return o.mtu
	}
	return daemon
}

// Check implements driver.Driver.
func (Driver) Check(n *cnm.Network) error {
	_, err := decode(n)
	if err != nil {
		return err
	}
	if n.Pool4() == nil {
		return cnm.Invalid("network %s: the bridge driver needs an IPv4 subnet; give one with --subnet", n.Name)
	}
	return nil
}

func decode(n *cnm.Network) (options, error) {
	o := options{masquerade: true, icc: true}
	if o.name = "br-" + n.ID; len(n.ID) > 12 {
		o.name = "br-" + n.ID[:12]
	}
	known := map[string]func(string) error{
		optName:       func(v string) error { o.name = v; return linkName(v) },
		optMasquerade: boolean(&o.masquerade),
		optICC:        boolean(&o.icc),
		optBinding:    func(string) error { return nil }, // the controller applies it to ports
		optDefault:    func(string) error { return nil },
		optMTU: func(v string) (err error) {
			if o.mtu, err = strconv.Atoi(v); err == nil && (o.mtu < 68 || o.mtu > 65535) {
				err = fmt.Errorf("%d is not between 68 (RFC 791) and 65535 bytes", o.mtu)
			}
			return err
		},
	}
	return o, driver.Decode(n, known)
}

func boolean(to *bool) func(string) error {
	return func(v string) (err error) {
		*to, err = strconv.ParseBool(v)
		return err
	}
}

// linkName holds a device name to the kernel's rules (dev_valid_name).
func linkName(s string) error {
	if s == "" || len(s) > 15 || s == "." || s == ".." || strings.ContainsAny(s, "/: \t\n") {
		return fmt.Errorf("%q is no device name: 1 to 15 characters without slash, colon or space", s)
	}
	return nil
}

// hardware pins the bridge's MAC address: 02:42 and the gateway's address, as
// containers' are made. A bridge without one takes the lowest of its ports' and
// changes it as containers come and go, under its neighbours' ARP caches.
func hardware(n *cnm.Network) string {
	p := n.Pool4()
	if p == nil || !p.Gateway.Is4() {
		return ""
	}
	return cnm.MACFor(p.Gateway)
}
