package publish

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"linkspan/cnm"
)

func req(proto, ip string, host, hostEnd, port, portEnd uint16) Request {
	r := Request{Proto: proto, HostPort: host, HostPortEnd: hostEnd, Port: port, PortEnd: portEnd}
	if ip != "" {
		r.HostIP = netip.MustParseAddr(ip)
	}
	return r
}

func TestParse(t *testing.T) {
	for spec, want := range map[string]Request{
		"80":                     req("tcp", "", 0, 0, 80, 80),
		"080":                    req("tcp", "", 0, 0, 80, 80),
		"80/udp":                 req("udp", "", 0, 0, 80, 80),
		"80/UDP":                 req("udp", "", 0, 0, 80, 80),
		":80":                    req("tcp", "", 0, 0, 80, 80),
		"0:80":                   req("tcp", "", 0, 0, 80, 80),
		"::80":                   req("tcp", "", 0, 0, 80, 80),
		"8080:80":                req("tcp", "", 8080, 8080, 80, 80),
		"65535:1":                req("tcp", "", 65535, 65535, 1, 1),
		"53:53/udp":              req("udp", "", 53, 53, 53, 53),
		"3868:3868/sctp":         req("sctp", "", 3868, 3868, 3868, 3868),
		"127.0.0.1:8080:80":      req("tcp", "127.0.0.1", 8080, 8080, 80, 80),
		"127.0.0.1::80":          req("tcp", "127.0.0.1", 0, 0, 80, 80),
		"127.0.0.1:0:80":         req("tcp", "127.0.0.1", 0, 0, 80, 80),
		"0.0.0.0:8080:80":        req("tcp", "0.0.0.0", 8080, 8080, 80, 80),
		"[::1]:8080:80":          req("tcp", "::1", 8080, 8080, 80, 80),
		"[::]:8080:80":           req("tcp", "::", 8080, 8080, 80, 80),
		"[::1]::80/udp":          req("udp", "::1", 0, 0, 80, 80),
		"::1:8080:80":            req("tcp", "::1", 8080, 8080, 80, 80),
		"2001:db8::7:8080:80":    req("tcp", "2001:db8::7", 8080, 8080, 80, 80),
		"[::ffff:10.0.0.1]:1:80": req("tcp", "10.0.0.1", 1, 1, 80, 80),
		"8000-8010:80":           req("tcp", "", 8000, 8010, 80, 80),
		"8000-8010:9000-9010":    req("tcp", "", 8000, 8010, 9000, 9010),
		"9000-9010":              req("tcp", "", 0, 0, 9000, 9010),
		"80-80:80-80":            req("tcp", "", 80, 80, 80, 80),
		"10.0.0.1:8000-8010:80":  req("tcp", "10.0.0.1", 8000, 8010, 80, 80),
		"1-65535:1-65535/udp":    req("udp", "", 1, 65535, 1, 65535),

		"published=8080,target=80": req("tcp", "", 8080, 8080, 80, 80),
		"target=80":                req("tcp", "", 0, 0, 80, 80),
		"published=8080,target=80,protocol=udp,mode=host":         req("udp", "", 8080, 8080, 80, 80),
		"target=80/udp,mode=ingress":                              req("udp", "", 0, 0, 80, 80),
		"Published=8000-8010,Target=9000-9010":                    req("tcp", "", 8000, 8010, 9000, 9010),
		"published=127.0.0.1:8080,target=80":                      req("tcp", "127.0.0.1", 8080, 8080, 80, 80),
		"published=[::1]:8080,target=80":                          req("tcp", "::1", 8080, 8080, 80, 80),
		"published=8080,target=80,host_ip=127.0.0.1":              req("tcp", "127.0.0.1", 8080, 8080, 80, 80),
		"published=,target=80,protocol=,mode=,host_ip=2001:db8::": req("tcp", "2001:db8::", 0, 0, 80, 80),
	} {
		got, err := Parse(spec)
		if err != nil {
			t.Errorf("%q: %v", spec, err)
		} else if got != want {
			t.Errorf("%q = %+v, want %+v", spec, got, want)
		}
	}
}

func TestParseBad(t *testing.T) {
	for _, c := range []struct{ spec, reason, cure string }{
		{"", "no port specified: <empty>", "like 8080:80"},
		{":", "no port specified: :<empty>", "like 8080:80"},
		{"8080:", "no port specified: 8080:<empty>", "like 8080:80"},
		{"8080:/tcp", "no port specified: 8080:/tcp<empty>", ""},
		{"127.0.0.1:8080:", "no port specified", ""},
		{"0", "invalid containerPort: 0: a container cannot listen on port 0", "1 to 65535"},
		{"8080:0", "invalid containerPort: 0", "1 to 65535"},
		{"0-5", "invalid containerPort: 0-5", ""},
		{"65536", "invalid containerPort: 65536: ports end at 65535", ""},
		{"99999999999999999999:80", "invalid hostPort: 99999999999999999999: ports end at 65535", ""},
		{"70000:80", "invalid hostPort: 70000: ports end at 65535", "any free port"},
		{"0-5:80", "invalid hostPort: 0-5: a range begins at 1", "empty for any free port"},
		{"-1:80", "invalid hostPort: -1: a range has two ends", ""},
		{"80-:80", "invalid hostPort: 80-: a range has two ends", ""},
		{"+80:80", "invalid hostPort: +80: it is not a number", ""},
		{" 80:80", "invalid hostPort:  80: it is not a number", ""},
		{"80:8o", "invalid containerPort: 8o: it is not a number", "like 80"},
		{"http:80", "invalid hostPort: http: it is not a number", "like 8080"},
		{"80:90-80", "invalid containerPort: 90-80: the range ends before it begins", ""},
		{"90-80:80", "invalid hostPort: 90-80: the range ends before it begins", ""},
		{"1-2-3:80", "invalid hostPort: 1-2-3: it is not a number", ""},
		{"8000-8002:9000-9010", "invalid ranges specified for container and host Ports: 9000-9010 and 8000-8002", "11 and 3 ports now"},
		{"8000:9000-9001", "invalid ranges specified for container and host Ports: 9000-9001 and 8000", ""},
		{"80/icmp", "invalid proto: icmp", "tcp, udp or sctp"},
		{"80/", "invalid proto: it is empty", "leave the slash out"},
		{"80/tcp/udp", "invalid proto: tcp/udp", ""},
		{"80/udp:80", "invalid hostPort: 80/udp", "stands once"},
		{"localhost:8080:80", "invalid IP address: localhost", "write the address itself"},
		{"web.example:8080:80", "invalid IP address: web.example", "write the address itself"},
		{"256.0.0.1:8080:80", "invalid IP address: 256.0.0.1", "an address of this host"},
		{"127.0.0.1.:8080:80", "invalid IP address: 127.0.0.1.", ""},
		{"10.0.0.0/8:8080:80", "invalid IP address: 10.0.0.0/8", ""},
		{"[127.0.0.1]:8080:80", "invalid IP address: [127.0.0.1]", "only IPv6 addresses stand in brackets"},
		{"[]:8080:80", "invalid IP address: []", ""},
		{"[::1:8080:80", "the bracket is not closed", "[::1]:8080:80"},
		{"[::1]8080:80", "the bracket is not closed before a colon", ""},
		{"[::1]:80", "after an address come two ports", "[::1]:80:80, or [::1]::80 for any free host port"},
		{"127.0.0.1:80/udp", "after an address come two ports", "write 127.0.0.1:80:80/udp, or 127.0.0.1::80/udp"},
		// The form that old guides print: IP::host:container.
		{"127.0.0.1::8080:80", "it has 4 parts", "write 127.0.0.1:8080:80 for that host port, or 127.0.0.1::80 for any free one"},
		{"192.168.1.5::8080:80/udp", "it has 4 parts", "write 192.168.1.5:8080:80/udp for that host port"},
		{"127.0.0.1:::80", "it has 4 parts", "write 127.0.0.1::80 for any free host port"},
		{"1:2:3:4", "it has 4 parts", "[IP:][HOST:]CONTAINER[/PROTOCOL]"},
		{"[::1]::8080:80", "it has 4 parts", ""},
		{"::8080:80", "it has 4 parts", "[IP:][HOST:]"},
		{"a:b:c:d:e:f:g:h", "it has 8 parts", ""},

		{"224.0.0.1:80:80", "224.0.0.1 belongs to a group", "write an address of this host"},
		{"255.255.255.255::80", "255.255.255.255 belongs to a group", ""},
		{"[ff02::1]:80:80", "belongs to a group", ""},

		{"published=8080", "there is no target", "add target=80"},
		{"published=8080,target=", "there is no target", ""},
		{"target=80,8080", "should be name=value but got '8080'", ""},
		{"target=80,", "should be name=value but got ''", ""},
		{"=80", "should be name=value", ""},
		{"target=80,publish=8080", "unknown option publish", "published, target, protocol"},
		{"target=80,target=81", "option target is given twice", ""},
		{"target=80,mode=bridge", "invalid mode: bridge", "host and ingress"},
		{"target=80/tcp,protocol=udp", "in target and in protocol", ""},
		{"target=80,protocol=icmp", "invalid proto: icmp", ""},
		{"target=80,published=1.2.3.4:80,host_ip=1.2.3.4", "in published and in host_ip", ""},
		{"target=80,host_ip=here", "invalid IP address: here", ""},
	} {
		got, err := Parse(c.spec)
		if !errors.Is(err, cnm.ErrInvalid) {
			t.Errorf("%q = %+v, %v", c.spec, got, err)
			continue
		}
		text := err.Error()
		if !strings.HasPrefix(text, "invalid port specification: ") || !strings.Contains(text, c.reason) || !strings.Contains(text, c.cure) {
			t.Errorf("%q:\n%s\nmisses %q … %q", c.spec, text, c.reason, c.cure)
		}
		if got != (Request{}) {
			t.Errorf("%q: a request came with the error: %+v", c.spec, got)
		}
	}
	if _, err := Parse("[fe80::1]:80:80"); !errors.Is(err, cnm.ErrUnsupported) || !strings.Contains(err.Error(), "link-local address fe80::1") {
		t.Errorf("a link-local address: %v", err)
	}
	if _, err := Parse("[fe80::1%eth0]:80:80"); !errors.Is(err, cnm.ErrUnsupported) || !strings.Contains(err.Error(), "fe80::1%eth0") {
		t.Errorf("a scoped address: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"80", "127.0.0.1:8000-8010:80/tcp", "[::1]::80", "published=80,target=80", "127.0.0.1::8080:80", "1-65535:1-65535/udp"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		r, err := Parse(spec)
		if err != nil {
			if !errors.Is(err, cnm.ErrInvalid) && !errors.Is(err, cnm.ErrUnsupported) {
				t.Fatalf("%q: an error of no class: %v", spec, err)
			}
			return
		}
		checkRequest(t, r)
		// What is printed says the same.
		again, err := Parse(r.String())
		if err != nil || again != r {
			t.Fatalf("%q is %+v; printed %q is %+v, %v", spec, r, r, again, err)
		}
	})
}

// checkRequest holds what everyone downstream relies on.
func checkRequest(t testing.TB, r Request) {
	t.Helper()
	switch {
	case r.Proto != "tcp" && r.Proto != "udp" && r.Proto != "sctp",
		r.Port == 0, r.PortEnd < r.Port,
		(r.HostPort == 0) != (r.HostPortEnd == 0), r.HostPortEnd < r.HostPort,
		r.HostIP.Is4In6(), r.HostIP.Zone() != "",
		r.HostPort != 0 && r.PortEnd > r.Port && r.HostPortEnd-r.HostPort != r.PortEnd-r.Port:
		t.Fatalf("a bad request came out: %+v", r)
	}
}
