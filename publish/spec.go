package publish

import (
	"net/netip"
	"strconv"
	"strings"
)

// Parse parses one -p specification:
//
//	[[IP:][HOST]:]CONTAINER[/PROTO]     80, 8080:80, 127.0.0.1:8080:80, 127.0.0.1::80, [::1]:8080:80
//	published=HOST,target=CONTAINER,protocol=PROTO,mode=host
//
// HOST and CONTAINER are ports or ranges of equal length; a range of host ports
// for one container port means one free port of it.
func Parse(spec string) (Request, error) {
	if strings.Contains(spec, "=") {
		return parseLong(spec)
	}
	ip, host, container, err := split(spec)
	if err != nil {
		return Request{}, err
	}
	return assemble(spec, ip, host, container)
}

// split separates the three parts. The address may hold colons, in brackets or,
// as Docker takes it, without.
func split(spec string) (ip, host, container string, err error) {
	rest := spec
	if strings.HasPrefix(spec, "[") {
		end := strings.Index(spec, "]:")
		if end < 0 {
			return "", "", "", specError(spec, "the bracket is not closed before a colon", "write [::1]:8080:80, or [::1]::80 for any free host port")
		}
		ip, rest = spec[:end+1], spec[end+2:]
	}
	parts := strings.Split(rest, ":")
	n := len(parts)
	if ip != "" && n == 1 {
		return "", "", "", missingHost(spec, ip, rest)
	}
	container = parts[n-1]
	if n > 1 {
		host = parts[n-2]
	}
	if n == 2 && ip == "" {
		if _, e := netip.ParseAddr(host); e == nil {
			return "", "", "", missingHost(spec, host, container)
		}
	}
	if n <= 2 {
		return ip, host, container, nil
	}
	more := strings.Join(parts[:n-2], ":")
	if ip != "" {
		return "", "", "", tooManyParts(spec, append([]string{ip}, parts...))
	}
	if _, e := netip.ParseAddr(more); n > 3 && e != nil {
		return "", "", "", tooManyParts(spec, parts)
	}
	return more, host, container, nil
}

// missingHost is for IP:CONTAINER, which Docker reads as HOST:CONTAINER.
func missingHost(spec, ip, container string) error {
	port, _, _ := strings.Cut(container, "/")
	return specError(spec, "invalid hostPort: "+ip+": after an address come two ports",
		"write "+ip+":"+port+":"+container+", or "+ip+"::"+container+" for any free host port")
}

// tooManyParts guesses what was meant. Old guides print IP::HOST:CONTAINER.
func tooManyParts(spec string, parts []string) error {
	n := len(parts)
	reason := "it has " + strconv.Itoa(n) + " parts"
	if _, err := netip.ParseAddr(parts[0]); err == nil && n == 4 && parts[1] == "" {
		cure := "write " + parts[0] + ":" + parts[2] + ":" + parts[3] + " for that host port, or " + parts[0] + "::" + parts[3] + " for any free one"
		if parts[2] == "" {
			cure = "write " + parts[0] + "::" + parts[3] + " for any free host port"
		}
		return specError(spec, reason, cure)
	}
	return specError(spec, reason, "write [IP:][HOST:]CONTAINER[/PROTOCOL], an IPv6 address in brackets")
}

// assemble builds the request from its parts as text.
func assemble(spec, ip, host, container string) (Request, error) {
	port, proto, hasProto := strings.Cut(container, "/")
	if port == "" {
		return Request{}, specError(spec, "no port specified: "+spec+"<empty>", "the container's port comes last, like 8080:80")
	}
	if hasProto && proto == "" {
		return Request{}, specError(spec, "invalid proto: it is empty", "leave the slash out, or write /tcp, /udp or /sctp")
	}
	if strings.Contains(host, "/") {
		return Request{}, specError(spec, "invalid hostPort: "+host, "the protocol stands once, after the container's port")
	}
	var r Request
	var err error
	if r.Proto, err = parseProto(spec, proto); err != nil {
		return Request{}, err
	}
	if r.HostIP, err = parseIP(spec, ip); err != nil {
		return Request{}, err
	}
	c, err := parseContainer(spec, port)
	if err != nil {
		return Request{}, err
	}
	h, err := parseHost(spec, host)
	if err != nil {
		return Request{}, err
	}
	if c.count() > 1 && h.first != 0 && h.count() != c.count() {
		return Request{}, specError(spec, "invalid ranges specified for container and host Ports: "+c.String()+" and "+h.String(),
			"make both as long ("+strconv.Itoa(c.count())+" and "+strconv.Itoa(h.count())+" ports now), or publish one container port from the host's range")
	}
	r.Port, r.PortEnd = c.first, c.last
	r.HostPort, r.HostPortEnd = h.first, h.last
	return r, nil
}

// parseLong parses the form with names. Docker's CLI pastes its values together
// as text, so published may itself be IP:PORT.
func parseLong(spec string) (Request, error) {
	values := map[string]string{}
	for field := range strings.SplitSeq(spec, ",") {
		k, v, ok := strings.Cut(field, "=")
		if !ok || k == "" {
			return Request{}, specError(spec, "invalid publish opts format (should be name=value but got '"+field+"')",
				"write published=8080,target=80,protocol=tcp")
		}
		switch k = strings.ToLower(k); k {
		case "published", "target", "protocol", "mode", "host_ip":
		default:
			return Request{}, specError(spec, "unknown option "+k, "the options are published, target, protocol, mode and host_ip")
		}
		if _, twice := values[k]; twice {
			return Request{}, specError(spec, "option "+k+" is given twice", "write it once")
		}
		values[k] = v
	}
	switch m := values["mode"]; m {
	case "", "host", "ingress": // one host: both are the same
	default:
		return Request{}, specError(spec, "invalid mode: "+m, "the modes are host and ingress")
	}
	if values["target"] == "" {
		return Request{}, specError(spec, "no port specified: there is no target", "add target=80, the container's port")
	}
	ip, host := values["host_ip"], values["published"]
	if i := strings.LastIndex(host, ":"); i >= 0 {
		if ip != "" {
			return Request{}, specError(spec, "the address is given in published and in host_ip", "write it once")
		}
		ip, host = host[:i], host[i+1:]
	}
	container := values["target"]
	if p := values["protocol"]; p != "" {
		if strings.Contains(container, "/") {
			return Request{}, specError(spec, "the protocol is given in target and in protocol", "write it once")
		}
		container += "/" + p
	}
	return assemble(spec, ip, host, container)
}
