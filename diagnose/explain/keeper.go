package explain

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"linkspan/cnm"
	"linkspan/dataplane"
	"linkspan/keeper"
)

// reserved are the keeper's sockets for published ports.
func (m *maker) reserved(ctx context.Context, s *cnm.Sandbox, ports []cnm.PublishedPort) (out []Item, err error) {
	if m.src.Keeper == nil {
		return nil, nil
	}
	all, err := m.src.Keeper.Ports(ctx)
	if err != nil {
		return nil, fmt.Errorf("the keeper's ports: %w", err)
	}
	translated := slices.ContainsFunc(m.objs, func(o dataplane.Object) bool {
		e, ok := o.(dataplane.Element)
		return ok && e.Flow != nil && ownedBy(dataplane.OwnerPort, s.ID)(o)
	})
	for _, p := range ports {
		n := 0
		for _, q := range all {
			if q.Owner == s.ID && q.Proto == p.Proto && q.Port == p.HostPort && max(q.Port, q.PortEnd) == p.HostPortEnd &&
				(!p.HostIP.IsValid() && q.Addr.IsUnspecified() || q.Addr == p.HostIP) {
				n++
				out = append(out, socket(q))
			}
		}
		if n == 0 && translated {
			out = append(out, Item{What: "reserved host port " + hostPort(p), Why: "no other program shall take it", Where: "the keeper", Live: Missing})
		}
	}
	return out, nil
}

func socket(q keeper.PortRequest) Item {
	it := Item{What: "reserved host port " + hostPort(cnm.PublishedPort{Proto: q.Proto, HostIP: q.Addr, HostPort: q.Port, HostPortEnd: max(q.Port, q.PortEnd)}),
		Why: "bound, and silent: the kernel translates before it, and no other program can take the port", Where: "the host, a socket of the keeper", Live: There}
	listens := q.ForwardTo.IsValid()
	if listens {
		it.Why = "what the kernel cannot translate is forwarded to " + q.ForwardTo.String() + ": connections to [::1], or of a family that the container does not have"
	}
	filter := fmt.Sprintf(" 'sport = :%d'", q.Port)
	find := netip.AddrPortFrom(q.Addr, q.Port).String()
	switch {
	case q.Proto == "udp":
		it.Show, it.Finds = []string{"ss -Huanp" + filter}, []string{find}
	case q.Proto == "tcp" && listens:
		it.Show, it.Finds = []string{"ss -Hltnp" + filter}, []string{find}
	case q.Proto == "tcp":
		it.Why += " (a socket that neither listens nor is connected is shown by `ss -tB` of iproute2 6.8 and newer, and by nothing before)"
	}
	return it
}
