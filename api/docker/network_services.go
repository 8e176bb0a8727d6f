package docker

import (
	"cmp"
	"net/netip"
	"slices"

	"linkspan/cnm"
	"linkspan/network"
)

// servicesJSON is what `docker network inspect --verbose` shows of a network of all hosts:
// in dockerd the tasks of swarm's services, and under no service's name the containers that
// are of none, which is what all are here.
type servicesJSON map[string]serviceJSON

type serviceJSON struct {
	VIP          string
	Ports        []string
	LocalLBIndex int
	Tasks        []taskJSON
}

// taskJSON is a container on one of the hosts.
type taskJSON struct {
	Name, EndpointID, EndpointIP string
	Info                         map[string]string
}

// services are the containers on a network of the mesh, here and elsewhere, by name. Those
// elsewhere are known to a host that has a container on the network itself.
func (s *server) services(n *cnm.Network, on network.Spanning) servicesJSON {
	tasks, hosts := []taskJSON{}, map[string]network.HostOn{}
	var here network.HostOn
	for _, h := range on.HostsOn(n.ID) {
		if hosts[h.ID] = h; h.Here {
			here = h
		}
	}
	add := func(name, id string, addrs []netip.Prefix, at network.HostOn) {
		t := taskJSON{Name: name, EndpointID: id, Info: map[string]string{"Host IP": at.Addr.String(), "Host Name": at.Name}}
		if len(addrs) > 0 {
			t.EndpointIP = addrs[0].Addr().String()
		}
		tasks = append(tasks, t)
	}
	for _, sb := range s.Network.On(n.ID) {
		for i := range sb.Endpoints {
			if ep := &sb.Endpoints[i]; ep.NetworkID == n.ID {
				add(s.renderMember(sb, ep).Name, ep.ID, ep.Addrs, here)
			}
		}
	}
	for _, r := range on.Remotes(n.ID) {
		if at, known := hosts[r.Host]; known {
			add(r.ContainerName, r.ID, r.Addrs, at)
		}
	}
	slices.SortFunc(tasks, func(a, b taskJSON) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.EndpointID, b.EndpointID))
	})
	return servicesJSON{"": {Ports: []string{}, Tasks: tasks}}
}
