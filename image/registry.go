package image

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/distribution/reference"

	"linkspan/cnm"
)

// registries is how registries are reached.
type registries struct {
	mirrors  []*url.URL
	insecure []string // host or host:port
	networks []netip.Prefix
}

// SetRegistries replaces mirrors and insecure registries; pulls under way keep
// theirs. What is no URL or CIDR is logged and left out: the configuration is
// checked where it is read.
func (s *Store) SetRegistries(mirrors, insecure []string) {
	r := registries{networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}}
	for _, m := range mirrors {
		u, err := url.Parse(m)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			s.log.Error("a registry mirror is no http or https URL; it is not used", "mirror", m)
			continue
		}
		r.mirrors = append(r.mirrors, u)
	}
	for _, h := range insecure {
		h = strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(h, "http://"), "https://"), "/")
		if p, err := netip.ParsePrefix(h); err == nil {
			r.networks = append(r.networks, p.Masked())
		} else {
			r.insecure = append(r.insecure, h)
		}
	}
	s.mu.Lock()
	s.registry = r
	s.mu.Unlock()
}

// isInsecure says whether a registry may be asked without a verified
// certificate. As in dockerd a name is insecure if one of its addresses lies in
// an insecure network.
func (r *registries) isInsecure(ctx context.Context, hostport string) bool {
	if slices.Contains(r.insecure, hostport) {
		return true
	}
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if host == "localhost" {
		return true // always loopback (RFC 6761, 6.3)
	}
	var addrs []netip.Addr
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = []netip.Addr{a}
	} else {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		addrs, _ = net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	}
	return slices.ContainsFunc(addrs, func(a netip.Addr) bool {
		return slices.ContainsFunc(r.networks, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
	})
}

// session is the connections of one pull.
type session struct {
	store      *Store
	registry   registries
	auth       *Auth
	transports []*http.Transport
	// tracker, if not nil, hears how uploads go.
	tracker docker.StatusTracker
}

func (s *Store) session(auth *Auth) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &session{store: s, registry: s.registry, auth: auth}
}

func (n *session) close() {
	for _, t := range n.transports {
		t.CloseIdleConnections()
	}
}

// resolver asks the registries of ref: for docker.io the mirrors first.
func (n *session) resolver(ctx context.Context, ref reference.Named) (remotes.Resolver, error) {
	domain := reference.Domain(ref)
	var hosts []docker.RegistryHost
	if domain == "docker.io" {
		for _, m := range n.registry.mirrors {
			// A mirror never gets the login that is meant for the registry itself.
			h, err := n.host(ctx, m.Scheme, m.Host, nil)
			if err != nil {
				return nil, err
			}
			h.Path = strings.TrimSuffix(m.Path, "/") + "/v2"
			h.Capabilities = docker.HostCapabilityPull | docker.HostCapabilityResolve
			hosts = append(hosts, h)
		}
		domain = n.store.hub
	}
	h, err := n.host(ctx, "https", domain, n.auth)
	if err != nil {
		return nil, err
	}
	hosts = append(hosts, h)
	return docker.NewResolver(docker.ResolverOptions{
		Hosts:   func(string) ([]docker.RegistryHost, error) { return hosts, nil },
		Headers: n.header(),
		Tracker: n.tracker,
	}), nil
}

func (n *session) header() http.Header {
	return http.Header{"User-Agent": {n.store.cfg.UserAgent}}
}

// host describes one registry.
func (n *session) host(ctx context.Context, scheme, host string, auth *Auth) (docker.RegistryHost, error) {
	insecure := host != upstream && n.registry.isInsecure(ctx, host)
	cfg, err := n.store.tlsConfig(host, insecure)
	if err != nil {
		return docker.RegistryHost{}, err
	}
	t := docker.DefaultHTTPTransport(cfg)
	t.DialContext = dial
	n.transports = append(n.transports, t)
	client := &http.Client{Transport: t}
	if insecure && scheme == "https" {
		// First with TLS, and where that is not spoken, without.
		client.Transport = docker.NewHTTPFallback(t)
	}
	return docker.RegistryHost{
		Client: client, Host: host, Scheme: scheme, Path: "/v2",
		Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve | docker.HostCapabilityPush,
		Authorizer:   n.authorizer(client, auth),
	}, nil
}

// dialTime is how long a registry may take to be found and to accept a
// connection.
const dialTime = 10 * time.Second

// dial connects. Its errors are no timeouts to those who ask: containerd's
// resolver would try five times, and a host without a way to the Docker Hub
// would hear only after minutes that its mirror does not have an image.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTime, KeepAlive: 30 * time.Second}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, dialError{err}
	}
	return conn, nil
}

type dialError struct{ err error }

func (e dialError) Error() string { return e.err.Error() }

func (e dialError) Unwrap() error { return e.err }

// authorizer answers a registry's challenge, anonymously without a login.
func (n *session) authorizer(client *http.Client, auth *Auth) docker.Authorizer {
	if auth != nil && auth.RegistryToken != "" {
		return bearer(auth.RegistryToken)
	}
	opts := []docker.AuthorizerOpt{docker.WithAuthClient(client), docker.WithAuthHeader(n.header())}
	opts = append(opts, docker.WithAuthCreds(func(string) (string, string, error) {
		switch {
		case auth == nil:
			return "", "", nil
		case auth.IdentityToken != "":
			// Without a user name the secret is an OAuth refresh token.
			return "", auth.IdentityToken, nil
		}
		return auth.Username, auth.Password, nil
	}))
	return docker.NewDockerAuthorizer(opts...)
}

// bearer is a token that the client got from the registry itself.
type bearer string

func (b bearer) Authorize(_ context.Context, r *http.Request) error {
	r.Header.Set("Authorization", "Bearer "+string(b))
	return nil
}

// AddResponses comes after a 401: the token is not good, and there is no other.
func (b bearer) AddResponses(context.Context, []*http.Response) error {
	return docker.ErrInvalidAuthorization
}

// tlsConfig reads what /etc/docker/certs.d has for a registry.
func (s *Store) tlsConfig(host string, insecure bool) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure}
	if err := addCerts(cfg, s.cfg.CertsDir, host); err != nil {
		return nil, cnm.Invalid("certificates of registry %s: %w", host, err)
	}
	return cfg, nil
}
