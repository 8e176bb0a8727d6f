package segment

import (
	"fmt"
	"net/netip"
	"strconv"

	"linkspan/cnm"
	"linkspan/driver"
)

// The option keys of networks that several drivers have, spelt as Docker's.
const (
	OptBridge     = "com.docker.network.bridge.name"
	OptMasquerade = "com.docker.network.bridge.enable_ip_masquerade"
	OptICC        = "com.docker.network.bridge.enable_icc"
	OptMTU        = "com.docker.network.driver.mtu"
)

// The decoders below are for driver.Decode.

// Boolean reads true or false.
func Boolean(to *bool) func(string) error {
	return func(v string) error {
		b, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", v)
		}
		*to = b
		return nil
	}
}

// Switch is Boolean for an option that people also give without a value
// (`--opt encrypted`, which the docker command writes as an empty value): that is true.
func Switch(to *bool) func(string) error {
	return func(v string) error {
		if v == "" {
			*to = true
			return nil
		}
		return Boolean(to)(v)
	}
}

// Number reads a whole number.
func Number(to *int) func(string) error {
	return func(v string) (err error) {
		if *to, err = strconv.Atoi(v); err != nil {
			return fmt.Errorf("%q is no number", v)
		}
		return nil
	}
}

// Bounded reads a number of something from low to high.
func Bounded(to *int, low, high int, unit string) func(string) error {
	return func(v string) error {
		n := 0
		if err := Number(&n)(v); err != nil {
			return err
		}
		if n < low || n > high {
			return fmt.Errorf("%d is not between %d and %d %s", n, low, high, unit)
		}
		*to = n
		return nil
	}
}

// Device holds a name to the kernel's rules, and to what nft can write down.
func Device(v string) error {
	if err := driver.CheckLinkName(v); err != nil {
		return err
	}
	if strconv.Quote(v) != `"`+v+`"` {
		return fmt.Errorf("%q is no device name for a bridge: no quotes, backslashes or control characters", v)
	}
	return nil
}

// OneName refuses a device's name on networks that have one on every host.
func OneName(string) error {
	return fmt.Errorf("the bridge of such a network has one name on all hosts (br- and 12 digits of its id): leave the option away")
}

// Prefix of interface names (driver.OptIfPrefix); a number follows it.
func Prefix(v string) error {
	if v == "lo" {
		return fmt.Errorf("lo is the loopback's: choose another beginning")
	}
	if err := driver.CheckLinkName(v + "999"); v == "" || err != nil {
		return fmt.Errorf("%q begins no device names: 1 to 12 characters without slash, colon or space", v)
	}
	return nil
}

// Address holds text to an address of a family.
func Address(v string, v4 bool) error {
	a, err := netip.ParseAddr(v)
	family := "IPv6"
	if v4 {
		family = "IPv4"
	}
	if err != nil || a.Is4() != v4 || a.Zone() != "" || a.Is4In6() {
		return fmt.Errorf("%q is no %s address", v, family)
	}
	return nil
}

// CheckMTU refuses, of a network's own MTU, what the protocols forbid; 0 is none.
func CheckMTU(n *cnm.Network, mtu int) error {
	switch {
	case mtu == 0:
		return nil
	case mtu < 68 || mtu > 65535:
		return cnm.Invalid("network %s: option %s=%d: not between 68 (RFC 791) and 65535 bytes", n.Name, OptMTU, mtu)
	case mtu < 1280 && n.Pool6() != nil:
		return cnm.Invalid("network %s: option %s=%d: IPv6 needs 1280 bytes at least (RFC 8200)", n.Name, OptMTU, mtu)
	}
	return nil
}
