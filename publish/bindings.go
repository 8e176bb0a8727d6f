package publish

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// Binding is one entry of the Engine API's PortBindings, as text.
type Binding struct {
	ContainerPort string // "80/tcp"; a range is taken too
	HostIP        string // empty: the daemon's default
	HostPort      string // empty or "0": any free port; "8000-8010": one of the range
}

// FromBindings turns what the Engine API carries into requests, in the order of
// the container's ports. exposed are the keys of ExposedPorts; with publishAll,
// those that no binding publishes get any free host port. Docker's CLI sends a
// range port by port: neighbours are put together again.
func FromBindings(exposed []string, bindings []Binding, publishAll bool) ([]Request, error) {
	var reqs []Request
	bound := map[portKey]bool{}
	for _, b := range bindings {
		r, err := fromBinding(b)
		if err != nil {
			return nil, err
		}
		for p := int(r.Port); publishAll && p <= int(r.PortEnd); p++ {
			bound[portKey{r.Proto, uint16(p)}] = true
		}
		reqs = append(reqs, r)
	}
	for _, e := range exposed {
		proto, ports, err := parseExposed(e)
		if err != nil {
			return nil, err
		}
		if !publishAll {
			continue
		}
		for p := int(ports.first); p <= int(ports.last); p++ {
			if key := (portKey{proto, uint16(p)}); !bound[key] {
				bound[key] = true
				reqs = append(reqs, Request{Proto: proto, Port: uint16(p), PortEnd: uint16(p)})
			}
		}
	}
	slices.SortStableFunc(reqs, func(a, b Request) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), strings.Compare(a.Proto, b.Proto))
	})
	return Coalesce(reqs), nil
}

type portKey struct {
	proto string
	port  uint16
}

func fromBinding(b Binding) (Request, error) {
	spec := b.HostPort + ":" + b.ContainerPort
	if b.HostIP != "" {
		ip := b.HostIP
		if strings.Contains(ip, ":") && !strings.HasPrefix(ip, "[") {
			ip = "[" + ip + "]"
		}
		spec = ip + ":" + spec
	}
	return assemble(spec, b.HostIP, b.HostPort, b.ContainerPort)
}

// parseExposed parses a key of ExposedPorts or a value of --expose.
func parseExposed(s string) (string, bounds, error) {
	port, proto, _ := strings.Cut(s, "/")
	p, err := parseProto(s, proto)
	if err != nil {
		return "", bounds{}, err
	}
	b, err := parseContainer(s, port)
	return p, b, err
}

// Coalesce puts requests for neighbouring ports together: the same protocol and
// address, and host ports that follow each other as the container's do (or are
// all free to choose). An exact repetition of a fixed port is dropped. The order
// is that of each range's first request.
func Coalesce(reqs []Request) []Request {
	type tail struct {
		proto string
		ip    netip.Addr
		any   bool
		host  uint16 // the host port that would continue it; 0 with any
		port  uint16 // the container port that would continue it
	}
	out := make([]Request, 0, len(reqs))
	open := map[tail]int{}
	seen := map[Request]bool{}
	for _, r := range reqs {
		fixed := r.HostPort != 0 && r.HostPortEnd-r.HostPort == r.PortEnd-r.Port
		if r.HostPort != 0 && !fixed { // one of a range
			out = append(out, r)
			continue
		}
		if fixed && seen[r] {
			continue
		}
		seen[r] = true
		at := tail{proto: r.Proto, ip: r.HostIP, any: !fixed, host: r.HostPort, port: r.Port}
		i, ok := open[at]
		if ok {
			delete(open, at)
			out[i].PortEnd = r.PortEnd
			if fixed {
				out[i].HostPortEnd = r.HostPortEnd
			}
		} else {
			i = len(out)
			out = append(out, r)
		}
		at.port = r.PortEnd + 1
		if fixed {
			at.host = r.HostPortEnd + 1
		}
		if r.PortEnd < 65535 && r.HostPortEnd < 65535 {
			open[at] = i
		}
	}
	return out
}
