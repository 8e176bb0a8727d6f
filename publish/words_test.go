package publish

import (
	"net/netip"

	"linkspan/cnm"
)

// parseAll is what docker run makes of several specifications: neighbouring ports are
// one range, an exact repetition is one request.
func parseAll(specs ...string) ([]Request, error) {
	var reqs []Request
	for _, spec := range specs {
		r, err := Parse(spec)
		if err != nil {
			return nil, err
		}
		reqs = append(reqs, r)
	}
	return Coalesce(reqs), nil
}

// shown is a published port as docker ps prints it: "0.0.0.0:8000-8010->9000-9010/tcp".
func shown(p cnm.PublishedPort) string {
	ip := p.HostIP
	if !ip.IsValid() {
		ip = netip.IPv4Unspecified()
	}
	return bracket(ip) + ":" + span(p.HostPort, p.HostPortEnd) + "->" + span(p.Port, p.Port+p.HostPortEnd-p.HostPort) + "/" + p.Proto
}
