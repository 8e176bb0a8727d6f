package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	units "github.com/docker/go-units"
)

// directory is a path, made absolute: the daemon changes to / when it starts as
// a service.
func directory(s string) (string, error) {
	if s == "" {
		return "", errors.New("want a path")
	}
	return filepath.Abs(s)
}

// optionalPath is a path that may be left empty, made absolute.
func optionalPath(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	return filepath.Abs(s)
}

// socketPath is containerd's address: a path, with or without unix://.
func socketPath(s string) (string, error) {
	path := strings.TrimPrefix(s, "unix://")
	if s != "" && !filepath.IsAbs(path) {
		return "", fmt.Errorf("%q is not the absolute path of a unix socket", s)
	}
	return path, nil
}

// identifier is what containerd takes as the name of a namespace
// (containerd/pkg/identifiers): letters and digits, single separators between
// them, 76 bytes at most.
var identifier = regexp.MustCompile(`^[A-Za-z0-9]+([-._]?[A-Za-z0-9]+)*$`)

func namespace(s string) (string, error) {
	if len(s) > 76 || !identifier.MatchString(s) {
		return "", fmt.Errorf("%q is not a name that containerd takes (letters and digits, with - . _ between them)", s)
	}
	return s, nil
}

func label(s string) (string, error) {
	key, _, ok := strings.Cut(s, "=")
	if !ok || strings.TrimSpace(key) == "" {
		return "", fmt.Errorf("bad attribute format: %s: want key=value", s)
	}
	return s, nil
}

// mirror is a registry's URL; dockerd's rules. The answer has no slash at the end.
func mirror(s string) (string, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" && u.Scheme == "":
		return "", fmt.Errorf("invalid mirror: %q is not a valid URI: want http://host[:port] or https://host[:port]", s)
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("invalid mirror: unsupported scheme %q in %q: want http or https", u.Scheme, s)
	case u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return "", fmt.Errorf("invalid mirror: path, query, or fragment at end of the URI %q, or no host in it", s)
	case u.User != nil:
		return "", fmt.Errorf("invalid mirror: username/password not allowed in URI %q", u.Redacted())
	}
	return u.Scheme + "://" + u.Host, nil
}

// insecure is a registry without verified TLS: host, host:port, or CIDR.
func insecure(s string) (string, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked().String(), nil
	}
	host := strings.ToLower(s)
	for _, scheme := range []string{"http://", "https://"} { // dockerd drops them too
		host = strings.TrimPrefix(host, scheme)
	}
	name := host
	if h, port, err := net.SplitHostPort(host); err == nil {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return "", fmt.Errorf("insecure registry %s: invalid port %q", s, port)
		}
		name = h
	} else {
		name = strings.Trim(name, "[]")
	}
	if _, err := netip.ParseAddr(name); err != nil && !hostname.MatchString(name) {
		return "", fmt.Errorf("insecure registry %s is not valid: want host, host:port or CIDR", s)
	}
	return host, nil
}

// hostname is RFC 1123 with the underscore that resolvers take.
var hostname = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9_-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9_-]*[a-zA-Z0-9])?)*$`)

// proxy is a URL as net/http takes it from the environment: the scheme may be left out.
func proxy(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	full := s
	if !strings.Contains(s, "://") {
		full = "http://" + s
	}
	u, err := url.Parse(full)
	if err != nil || u.Host == "" {
		return "", errors.New("want a proxy's URL such as http://proxy:3128") // not repeated: it may hold a password
	}
	return s, nil
}

func featureFlag(s string) (string, bool, error) {
	name, val, given := strings.Cut(s, "=")
	if name == "" {
		return "", false, fmt.Errorf("want name[=bool], have %q", s)
	}
	if !given {
		return name, true, nil
	}
	on, err := strconv.ParseBool(val)
	if err != nil {
		return "", false, fmt.Errorf("want name[=bool], have %q", s)
	}
	return name, on, nil
}

func featureMember(_ string, raw json.RawMessage) (on bool, err error) {
	if kind := jsonKind(raw); kind != "true or false" {
		return false, wrongKind("true or false", kind)
	}
	return on, json.Unmarshal(raw, &on)
}

func runtimeFlag(s string) (string, Runtime, error) {
	name, path, ok := strings.Cut(s, "=")
	name, path = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(path)
	if !ok || name == "" || path == "" {
		return "", Runtime{}, fmt.Errorf("invalid runtime argument: %s: want name=path", s)
	}
	return name, Runtime{Path: path}, stockRuntime(name)
}

func runtimeMember(name string, raw json.RawMessage) (r Runtime, err error) {
	if kind := jsonKind(raw); kind != "an object" {
		return r, wrongKind("an object", kind)
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return r, err
	}
	switch {
	case r.Path == "" && r.Type == "":
		return r, errors.New("want a path or a runtimeType")
	case r.Path != "" && r.Type != "":
		return r, errors.New("path and runtimeType exclude each other")
	case r.Type != "" && len(r.Args) > 0:
		return r, errors.New("runtimeArgs go with a path, options with a runtimeType")
	}
	return r, stockRuntime(name)
}

func stockRuntime(name string) error {
	if name == "runc" {
		return errors.New("runtime name 'runc' is reserved")
	}
	return nil
}

func ulimitFlag(s string) (string, *units.Ulimit, error) {
	u, err := units.ParseUlimit(s)
	if err != nil {
		return "", nil, err
	}
	return u.Name, u, nil
}

// ulimitMember reads dockerd's form, {"Name": "nofile", "Soft": 64000, "Hard": 64000}.
func ulimitMember(name string, raw json.RawMessage) (*units.Ulimit, error) {
	if kind := jsonKind(raw); kind != "an object" {
		return nil, wrongKind(`an object such as {"Name":"nofile","Soft":64000,"Hard":64000}`, kind)
	}
	u := units.Ulimit{Name: name}
	if err := json.Unmarshal(raw, &u); err != nil {
		return nil, err
	}
	if u.Name != name {
		return nil, fmt.Errorf("its Name is %q", u.Name)
	}
	return units.ParseUlimit(u.String()) // checks the name, and soft against hard
}

func seccompProfile(s string) (string, error) {
	if s == "" {
		return "builtin", nil
	}
	if s == "builtin" || s == "unconfined" || filepath.IsAbs(s) {
		return s, nil
	}
	return filepath.Abs(s)
}

// bridgeAddress is --bip: the bridge's own address with the subnet's length.
func bridgeAddress(s string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, fmt.Errorf("%q is not an address with a length, such as 10.10.10.1/24", s)
	case !p.Addr().Is4():
		return p, fmt.Errorf("%s is not IPv4", s)
	case p.Bits() > 30:
		return p, fmt.Errorf("%s leaves no address for a container: the length can be 30 at most", s)
	case p.Addr() == p.Masked().Addr():
		return p, fmt.Errorf("%s is the network's address, not the bridge's own: did you mean %s/%d?", s, p.Addr().Next(), p.Bits())
	case p.Addr() == last(p):
		return p, fmt.Errorf("%s is the network's broadcast address", s)
	}
	return p, nil
}

// subnet4 is an IPv4 prefix, masked.
func subnet4(s string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%q is not a subnet such as 172.17.0.0/24", s)
	}
	if !p.Addr().Is4() {
		return p, fmt.Errorf("%s is not IPv4", s)
	}
	return p.Masked(), nil
}

// last is the highest address of an IPv4 prefix.
func last(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		a[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(a)
}

func only4(a netip.Addr) error {
	if !a.Is4() {
		return fmt.Errorf("%s is not IPv4", a)
	}
	return nil
}

func word(s string) (string, error) {
	if s == "" || strings.ContainsAny(s, " \t\n") {
		return "", fmt.Errorf("%q is not one word", s)
	}
	return s, nil
}

// domain is a search domain; "." alone means none.
func domain(s string) (string, error) {
	s = strings.TrimSpace(s)
	if s == "." {
		return s, nil
	}
	if name := strings.TrimSuffix(s, "."); len(name) > 253 || !hostname.MatchString(name) {
		return "", fmt.Errorf("%s is not a valid domain", s)
	}
	return s, nil
}
