package etcd

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"linkspan/cnm"
)

// defaultPort is etcd's for clients.
const defaultPort = "2379"

// parseEndpoints makes HOST:PORT of each, and says which scheme all of them name, if any.
func parseEndpoints(list []string) (eps []string, scheme string, err error) {
	for _, e := range list {
		ep, sch, err := parseEndpoint(e)
		if err != nil {
			return nil, "", err
		}
		if sch != "" {
			if scheme != "" && scheme != sch {
				return nil, "", cnm.Invalid("etcd at %s: some have http:// and some https://: say one for all", strings.Join(list, ", "))
			}
			scheme = sch
		}
		if !slices.Contains(eps, ep) {
			eps = append(eps, ep)
		}
	}
	if len(eps) == 0 {
		return nil, "", cnm.Invalid("no address of an etcd is given: name at least one, as 10.0.0.5:2379")
	}
	return eps, scheme, nil
}

func parseEndpoint(e string) (ep, scheme string, err error) {
	rest := strings.TrimSpace(e)
	if sch, after, ok := strings.Cut(rest, "://"); ok {
		if scheme, rest = strings.ToLower(sch), strings.TrimSuffix(after, "/"); scheme != "http" && scheme != "https" {
			return "", "", cnm.Invalid("etcd at %q: the scheme is http or https, or none", e)
		}
	}
	host, port := rest, defaultPort
	bare := rest
	if strings.HasPrefix(rest, "[") && strings.HasSuffix(rest, "]") {
		bare = rest[1 : len(rest)-1]
	}
	if addr, err := netip.ParseAddr(bare); err == nil && !strings.ContainsAny(bare, "[]") {
		host = addr.String() // an IPv6 address alone would look like HOST:PORT
	} else if h, p, err := net.SplitHostPort(rest); err == nil {
		host, port = h, p
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", "", cnm.Invalid("etcd at %q: %q is no port", e, port)
	}
	if host == "" || strings.ContainsAny(host, "[]/@?# \t") || strings.Contains(host, ":") && !isAddr(host) {
		return "", "", cnm.Invalid("etcd at %q: that is no address; write it as 10.0.0.5:2379 or [2001:db8::5]:2379", e)
	}
	return net.JoinHostPort(host, port), scheme, nil
}

func isAddr(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// follow keeps the endpoints those of the cluster's members.
func (s *Store) follow() {
	tick := time.NewTicker(s.o.SyncEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.base.Done():
			return
		case <-tick.C:
		}
		var resp *clientv3.MemberListResponse
		err := s.try(s.base, func(ctx context.Context) (err error) {
			resp, err = s.client.MemberList(ctx)
			return err
		})
		if err != nil {
			continue // the endpoints known are as good as before
		}
		var urls []string
		for _, m := range resp.Members {
			if m.Name != "" && !m.IsLearner { // without a name: not started yet
				urls = append(urls, m.ClientURLs...)
			}
		}
		if eps := members(urls, s.Endpoints(), s.secure); len(eps) > 0 {
			if err := s.SetEndpoints(eps); err == nil {
				s.o.Log.Debug("etcd's members", "endpoints", eps)
			}
		}
	}
}

// members are the client addresses that members tell of themselves, without those that
// only they can use: a cluster set up by hand often advertises its default,
// http://localhost:2379.
func members(urls, now []string, secure bool) []string {
	local := func(ep string) bool {
		host, _, _ := net.SplitHostPort(ep)
		addr, err := netip.ParseAddr(host)
		return host == "localhost" || err == nil && (addr.IsLoopback() || addr.IsUnspecified())
	}
	alsoLocal := slices.ContainsFunc(now, local)
	var out []string
	for _, raw := range urls {
		u, err := url.Parse(raw)
		if err != nil || (u.Scheme == "https") != secure {
			continue
		}
		ep, _, err := parseEndpoint(raw)
		if err != nil || local(ep) && !alsoLocal {
			continue
		}
		out = append(out, ep)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
