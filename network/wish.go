package network

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"linkspan/cnm"
	"linkspan/ipam"
)

// Options that are the engine's, whatever the driver (Docker's netlabel).
const (
	optIPv4 = "com.docker.network.enable_ipv4"
	optIPv6 = "com.docker.network.enable_ipv6"
)

// optMTU is bridge's, in bytes.
const optMTU = "com.docker.network.driver.mtu"

// elsewhere are the drivers that Docker has and this daemon may not have yet.
var elsewhere = []string{"macvlan", "ipvlan", "overlay"}

// wished turns a wish into a network, without subnets for what is to be chosen.
func (c *Controller) wished(w NetworkWish) (n *cnm.Network, warning string, err error) {
	if err := checkName(w.Name); err != nil {
		return nil, "", err
	}
	switch {
	case w.Ingress:
		return nil, "", cnm.Unsupported("network %s: an ingress network belongs to a swarm's routing mesh, and this daemon is in no swarm: publish ports with -p instead of --ingress", w.Name)
	case c.spanning(w.Driver) && w.Scope == cnm.ScopeLocal:
		return nil, "", cnm.Invalid("network %s: networks of driver %s span the hosts of the mesh: leave --scope away, or say global", w.Name, w.Driver)
	case c.spanning(w.Driver) && (w.Scope == "" || w.Scope == cnm.ScopeGlobal || w.Scope == "swarm"):
	case w.Scope != "" && w.Scope != cnm.ScopeLocal && w.Scope != cnm.ScopeGlobal && w.Scope != "swarm":
		return nil, "", cnm.Invalid("network %s: there is no scope %q: leave --scope away, or say local or global", w.Name, w.Scope)
	case w.Scope != "" && w.Scope != cnm.ScopeLocal:
		return nil, "", cnm.Unsupported("network %s: networks of driver %s are of one host, and scope %q is of several: leave --scope away, or use -d overlay or -d routed", w.Name, driverOr(w.Driver), w.Scope)
	}
	n = &cnm.Network{ID: randomID(), Name: w.Name, Driver: w.Driver, Created: time.Now(), IPAMDriver: w.IPAMDriver, IPAMOptions: maps.Clone(w.IPAMOptions),
		Internal: w.Internal, Attachable: w.Attachable, ConfigOnly: w.ConfigOnly, ConfigFrom: w.ConfigFrom,
		Options: maps.Clone(w.Options), Labels: maps.Clone(w.Labels)}
	n.Driver = driverOr(n.Driver)
	if n.IPAMDriver == "" {
		n.IPAMDriver = "default"
	}
	if err := checkIPAM(n); err != nil {
		return nil, "", err
	}
	if err := c.driverThere(n); err != nil {
		return nil, "", err
	}
	if w.ConfigFrom != "" {
		if err := c.configured(n, w); err != nil {
			return nil, "", err
		}
	} else {
		v4, v6, err := families(n, w, c.cfg.DefaultOptions[n.Driver])
		if err != nil {
			return nil, "", err
		}
		n.NoIPv4, n.IPv6 = !v4, v6
		if n.Pools, warning, err = pools(n, w); err != nil {
			return nil, "", err
		}
	}
	if w.ConfigOnly {
		return n, warning, configOnly(n, w)
	}
	for k, v := range c.cfg.DefaultOptions[n.Driver] {
		if _, said := n.Options[k]; !said && k != optIPv4 && k != optIPv6 {
			if n.Options == nil {
				n.Options = map[string]string{}
			}
			n.Options[k] = v
		}
	}
	// Of what the daemon's --mtu says when it is made: containers on it stay as they
	// are when that changes.
	if mtu := c.cfg.Bridge.MTU; n.Driver == "bridge" && mtu != 0 && mtu != 1500 && n.Options[optMTU] == "" {
		if n.Options == nil {
			n.Options = map[string]string{}
		}
		n.Options[optMTU] = strconv.Itoa(mtu)
	}
	return n, warning, nil
}

func driverOr(name string) string {
	if name == "" || name == "default" {
		return "bridge"
	}
	return name
}

// checkName refuses names that no one could type or tell from something else.
func checkName(name string) error {
	switch {
	case strings.TrimSpace(name) == "":
		return cnm.Invalid("invalid network name: it is empty; give one, like `docker network create shop`")
	case slices.Contains([]string{BridgeNetwork, HostNetwork, NoneNetwork, "default"}, name):
		return cnm.Errorf(cnm.ErrForbidden, "operation is not permitted on predefined %s network; choose another name", name)
	case strings.HasPrefix(name, "container:"):
		return cnm.Invalid("invalid network name %q: --network %s means another container's network; choose another name", name, name)
	case len(name) > 255:
		return cnm.Invalid("invalid network name: it has %d characters; give at most 255", len(name))
	}
	for _, r := range name {
		if unicode.IsSpace(r) || unicode.IsControl(r) || r == '/' || r == ':' {
			return cnm.Invalid("invalid network name %q: character %q is not allowed; use letters, digits, and any of _.-", name, r)
		}
	}
	return nil
}

func checkIPAM(n *cnm.Network) error {
	if n.IPAMDriver != "default" {
		return cnm.NotFound("network %s: could not find ipam driver %q: plugin not found: this daemon has default; leave --ipam-driver away", n.Name, n.IPAMDriver)
	}
	for _, k := range slices.Sorted(maps.Keys(n.IPAMOptions)) {
		return cnm.Invalid("network %s: ipam driver default has no option %q; it takes none: leave --ipam-opt away", n.Name, k)
	}
	return nil
}

func (c *Controller) driverThere(n *cnm.Network) error {
	if n.Driver == "none" {
		n.Driver = "null"
	}
	d, err := c.cfg.Drivers.Get(n.Driver)
	switch {
	case err == nil && d.Traits().Single:
		return cnm.Errorf(cnm.ErrForbidden, "only one instance of %q network is allowed: use the network %s, which is there", n.Driver, predefinedOf(n.Driver))
	case errors.Is(err, cnm.ErrNotFound) && slices.Contains(elsewhere, n.Driver):
		return cnm.Unsupported("network %s: driver %s is not yet there; use bridge", n.Name, n.Driver)
	case errors.Is(err, cnm.ErrNotFound):
		return cnm.NotFound("could not find plugin %s in v1 plugin registry: plugin not found: %w", n.Driver, err)
	}
	return err
}

func predefinedOf(driver string) string {
	if driver == "null" {
		return NoneNetwork
	}
	return driver
}

// families are what a wish says of IPv4 and IPv6, or else the daemon; the options of
// that name, which Docker takes too, are used up.
func families(n *cnm.Network, w NetworkWish, daemon map[string]string) (v4, v6 bool, err error) {
	flag := func(said *bool, key, name string, def bool) (bool, error) {
		v, ok := n.Options[key]
		delete(n.Options, key)
		if !ok {
			v, ok = daemon[key]
		}
		switch {
		case said != nil:
			return *said, nil
		case !ok:
			return def, nil
		}
		b, err := strconv.ParseBool(v)
		if err != nil {
			return false, cnm.Invalid("network %s: option %s=%s: write true or false, or use %s", n.Name, key, v, name)
		}
		return b, nil
	}
	// A subnet of IPv6 asks for it; who says --ipv6=false means it.
	has6 := slices.ContainsFunc(w.Pools, func(p cnm.Pool) bool { return p.Subnet.IsValid() && p.Subnet.Addr().Is6() })
	if v4, err = flag(w.IPv4, optIPv4, "--ipv4", true); err == nil {
		v6, err = flag(w.IPv6, optIPv6, "--ipv6", has6)
	}
	if err == nil && !v4 && !v6 {
		err = cnm.Invalid("network %s: IPv4 or IPv6 must be enabled; leave --ipv4=false away, or add --ipv6", n.Name)
	}
	return v4, v6, err
}

// pools are the wish's, one of each family that the network has, IPv4 first; a
// pool without a subnet is to be chosen.
func pools(n *cnm.Network, w NetworkWish) (out []cnm.Pool, warning string, err error) {
	var four, six *cnm.Pool
	for _, p := range w.Pools {
		p.Aux = maps.Clone(p.Aux)
		if p.Subnet.IsValid() && p.Subnet.Addr().Is4In6() {
			return nil, "", cnm.Invalid("network %s: invalid network config: invalid subnet %s: it is an IPv4 subnet in IPv6 clothes; write it as IPv4", n.Name, p.Subnet)
		}
		if !p.Subnet.IsValid() && (p.Gateway.IsValid() || p.Range.IsValid() || len(p.Aux) > 0) {
			return nil, "", cnm.Invalid("network %s: invalid network config: every ip-range, gateway or auxiliary address must have a corresponding subnet; add --subnet", n.Name)
		}
		mine := &four
		switch {
		case p.Subnet.IsValid() && p.Subnet.Addr().Is6():
			mine = &six
			if !n.IPv6 {
				warning = "subnet " + p.Subnet.String() + " is not used: IPv6 is off on network " + n.Name + "; add --ipv6"
				continue
			}
		case n.NoIPv4 && p.Subnet.IsValid():
			return nil, "", cnm.Invalid("network %s: IPv4 is off (--ipv4=false), and subnet %s is an IPv4 subnet; leave one of the two away", n.Name, p.Subnet)
		case n.NoIPv4:
			continue
		}
		if *mine != nil && p.Subnet.IsValid() && (*mine).Subnet.IsValid() {
			two := []netip.Prefix{(*mine).Subnet, p.Subnet}
			slices.SortFunc(two, netip.Prefix.Compare) // the docker CLI sends them in the order of a map
			return nil, "", cnm.Invalid("network %s: %s driver doesn't support multiple subnets of one family: %s and %s; make two networks, or one with a larger subnet",
				n.Name, n.Driver, two[0], two[1])
		}
		if *mine == nil || p.Subnet.IsValid() {
			*mine = &p
		}
	}
	for _, p := range []*cnm.Pool{four, six} {
		if p != nil && p.Subnet.IsValid() {
			if err := errors.Join(ipam.Validate(*p)); err == nil {
				err = ipam.Usable(p.Subnet)
				if err != nil {
					return nil, "", wrong(n, err)
				}
			} else {
				return nil, "", wrong(n, err)
			}
		}
	}
	if !n.NoIPv4 {
		if four == nil {
			four = &cnm.Pool{}
		}
		out = append(out, *four)
	}
	if n.IPv6 {
		if six == nil {
			six = &cnm.Pool{}
		}
		out = append(out, *six)
	}
	return out, warning, nil
}

func wrong(n *cnm.Network, err error) error {
	if errors.Is(err, cnm.ErrConflict) {
		return cnm.Conflict("network %s: invalid network config: %w", n.Name, err)
	}
	return cnm.Invalid("network %s: invalid network config: %w", n.Name, err)
}

// configOnly holds a configuration network to what others can copy of it.
func configOnly(n *cnm.Network, w NetworkWish) error {
	switch {
	case w.Internal || w.Attachable:
		return cnm.Errorf(cnm.ErrForbidden, "network %s: configuration network can only contain network specific fields. "+
			"Network operator fields like [ ingress | internal | attachable | scope ] are not supported; say them where --config-from names it", n.Name)
	case w.ConfigFrom != "":
		return cnm.Errorf(cnm.ErrForbidden, "network %s: a configuration network cannot depend on another configuration network; leave --config-from away", n.Name)
	}
	n.Driver = "null" // as Docker shows it: the driver is said where it is used
	n.Pools = slices.DeleteFunc(n.Pools, func(p cnm.Pool) bool { return !p.Subnet.IsValid() })
	return nil
}

// configured copies a configuration network's settings.
func (c *Controller) configured(n *cnm.Network, w NetworkWish) error {
	if w.ConfigOnly {
		return configOnly(n, w)
	}
	from, err := c.Network(w.ConfigFrom)
	if err != nil {
		return cnm.NotFound("network %s: configuration network %q does not exist: %w", n.Name, w.ConfigFrom, err)
	}
	if !from.ConfigOnly {
		return cnm.Errorf(cnm.ErrForbidden, "network %s: %q is not a configuration network; make one with --config-only", n.Name, from.Name)
	}
	if w.IPv4 != nil && !*w.IPv4 || w.IPv6 != nil && *w.IPv6 || len(w.Labels) > 0 || len(w.IPAMOptions) > 0 || len(w.Options) > 0 ||
		slices.ContainsFunc(w.Pools, func(p cnm.Pool) bool { return p.Subnet.IsValid() || p.Gateway.IsValid() || p.Range.IsValid() }) {
		return cnm.Errorf(cnm.ErrForbidden, "network %s: user specified configurations are not supported if the network depends on a configuration network: "+
			"subnets, options and labels are those of %s", n.Name, from.Name)
	}
	n.ConfigFrom, n.NoIPv4, n.IPv6 = from.Name, from.NoIPv4, from.IPv6
	n.Options, n.Labels = maps.Clone(from.Options), maps.Clone(from.Labels)
	var four, six cnm.Pool
	for _, p := range from.Pools {
		p.Aux = maps.Clone(p.Aux)
		if p.Subnet.Addr().Is4() {
			four = p
		} else {
			six = p
		}
	}
	if !n.NoIPv4 {
		n.Pools = append(n.Pools, four)
	}
	if n.IPv6 {
		n.Pools = append(n.Pools, six)
	}
	return nil
}

// gateway gives a pool its gateway: the first address of the subnet that is not
// spoken for.
func withGateway(p cnm.Pool) (cnm.Pool, error) {
	if p.Gateway.IsValid() {
		return p, nil
	}
	taken := map[netip.Addr]bool{}
	for k, a := range p.Aux {
		if k != cnm.DefaultGatewayAux && k != cnm.DefaultGatewayAux6 {
			taken[a] = true
		}
	}
	g := ipam.FirstHost(p.Subnet)
	for taken[g] {
		g = g.Next()
	}
	p.Gateway = g
	return p, ipam.Validate(p)
}
