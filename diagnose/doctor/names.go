package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// servers: whom the host, and so the containers, ask for names.
func (w *ward) servers(context.Context) {
	conf := w.line("etc/resolv.conf")
	if conf == "" {
		w.say(Warning, "dns-none", "/etc/resolv.conf is empty or not there", "Containers find each other by name, and nothing outside.",
			`set "dns": ["SERVER"] in /etc/linkspan/daemon.json, and: systemctl reload linkspan`)
		return
	}
	list := nameservers(conf)
	local := slices.IndexFunc(list, func(a netip.Addr) bool { return !a.IsLoopback() }) < 0
	switch {
	case len(list) == 0:
		w.say(Warning, "dns-none", "/etc/resolv.conf names no server", "Containers find each other by name, and nothing outside.",
			`set "dns": ["SERVER"] in /etc/linkspan/daemon.json, and: systemctl reload linkspan`)
	case local && slices.Contains(list, netip.MustParseAddr("127.0.0.53")):
		behind := nameservers(w.line("run/systemd/resolve/resolv.conf"))
		if len(behind) == 0 {
			w.say(Warning, "dns-stub", "the host asks systemd-resolved (127.0.0.53), which has no server to ask", "Containers find each other by name, and nothing outside.", "resolvectl status")
			return
		}
		w.ok("dns", "the host asks systemd-resolved (127.0.0.53), which asks %s; containers on networks of their own ask through Linkspan's resolver", addrs(behind))
	case local:
		w.ok("dns", "the host asks itself (%s); containers on networks of their own ask through Linkspan's resolver", addrs(list))
		w.say(Note, "dns-loopback", "the host's name servers are on its loopback only: "+addrs(list),
			"Containers on the default bridge ask servers by themselves, and cannot reach this one.", `set "dns": ["SERVER"] in /etc/linkspan/daemon.json, or use networks of your own`)
	default:
		w.ok("dns", "the host asks %s for names", addrs(list))
	}
}

// nameservers reads resolv.conf(5).
func nameservers(conf string) (out []netip.Addr) {
	for line := range strings.Lines(conf) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}

func addrs(list []netip.Addr) string {
	var out []string
	for _, a := range list {
		out = append(out, a.String())
	}
	return names(out)
}

// resolvers of the sandboxes, each asked, and the servers that they ask.
func (w *ward) resolvers(context.Context) {
	e := w.Engine
	if e == nil {
		w.unseen("whether the resolvers in the containers answer: no daemon")
		return
	}
	var silent []string
	for name, err := range e.Resolvers {
		if err != nil {
			silent = append(silent, fmt.Sprintf("%s (%v)", name, err))
		}
	}
	slices.Sort(silent)
	switch {
	case len(silent) > 0:
		w.say(Problem, "resolver-silent", "the resolver at 127.0.0.11 does not answer in "+few(silent, 3), "Names are not found there.", "linkspan reconcile")
	case len(e.Unheld) > 0:
		w.say(Problem, "resolver-unheld", "the keeper has no resolver for "+names(e.Unheld), "Names are not found there.", "linkspan reconcile")
	case len(e.Resolvers) > 0:
		w.ok("resolvers", "the resolver answers in each of the %d sandboxes that have one", len(e.Resolvers))
	}
	for _, u := range e.Upstreams {
		switch {
		case u.Down:
			w.say(Warning, "dns-server-down", fmt.Sprintf("name server %s does not answer (asked for the %s; %d of %d questions failed)", u.Server, u.Group, u.Failed, u.Asked),
				"Others are asked in its place where there are any; without, names outside are not found.", "dig @"+strings.TrimSuffix(u.Server, ":53")+" example.com")
		case u.Asked >= 20 && u.Failed*5 > u.Asked:
			w.say(Warning, "dns-server-failing", fmt.Sprintf("name server %s failed %d of %d questions (of the %s)", u.Server, u.Failed, u.Asked, u.Group),
				"Each costs those who asked up to half a second.", "dig @"+strings.TrimSuffix(u.Server, ":53")+" example.com")
		}
	}
}
