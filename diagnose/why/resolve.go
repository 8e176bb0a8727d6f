package why

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"linkspan/cnm"
	"linkspan/config"
	"linkspan/dataplane"
	"linkspan/dataplane/ruleset"
	"linkspan/diagnose"
)

const hostsFile = "/etc/hosts"

// resolve finds out who B is, as A would: A's hosts file first, then the names of its
// networks. A person also names containers that A cannot.
func (w *walk) resolve() error {
	if w.b.Kind != "" || w.b.Addr.IsValid() {
		return w.world.Find(w.ctx, w.b)
	}
	name := w.b.Name
	c, err := w.world.Container(name)
	known := err == nil
	if err != nil && !diagnose.Unknown(err) {
		return err
	}
	if line, a, ok := w.inHosts(name); ok && !w.mine(name) {
		if known && !w.hasAddr(c, a) {
			w.b.Addr = a
			w.verdict(Blocked, w.wrongHosts(name, c, line, a))
			w.ans.Steps = append(w.ans.Steps, Step{Part: Declared, Where: w.a.Name, Look: name + " in " + hostsFile, Found: a.String(), State: Bad, Code: DNSWrong})
			return nil
		}
		if !known {
			w.b.Addr = a
			if err := w.world.Find(w.ctx, w.b); err != nil {
				return err
			}
			w.b.How = fmt.Sprintf("%s's %s says %s", w.a.Name, hostsFile, a)
			return nil
		}
	}
	if known {
		return w.world.Find(w.ctx, w.b)
	}
	// A's own networks may have the name besides; a container of that name is meant first.
	if there := w.world.ElsewhereNamed(name); len(there) > 0 {
		if here, _ := w.aliases(name); len(here) == 0 {
			return w.world.Find(w.ctx, w.b)
		}
	}
	return w.alias(name, err)
}

// alias finds a name that is no container's.
func (w *walk) alias(name string, unknown error) error {
	if slices.Contains([]string{"host.docker.internal", "gateway.docker.internal"}, name) {
		w.b.Kind, w.b.Name, w.b.How = diagnose.EndHost, "the host", name+" is the host"
		return nil
	}
	here, elsewhere := w.aliases(name)
	if len(here) > 0 {
		s := here[0].s
		if c, err := w.world.Container(s.Owner); err == nil {
			w.b.Container, w.b.Name = &c, c.Name
		}
		w.b.Kind, w.b.Sandbox, w.b.Endpoint = diagnose.EndContainer, s, here[0].e
		w.b.How = fmt.Sprintf("%s is a name of %s on %s", name, s.OwnerName, here[0].e.NetworkName)
		if len(here) > 1 {
			w.note("", "", "%s is a name of %d containers; the way to %s was walked", name, len(here), s.OwnerName)
		}
		return nil
	}
	if len(elsewhere) > 0 {
		s, e := elsewhere[0].s, elsewhere[0].e
		w.b.Kind = diagnose.EndName
		w.step(place{name: w.a.Name}, Bad, "name "+name, "known on network %s only", e.NetworkName)
		c := because(DNSNameElsewhere, "%s is a name of %s on network %s, which %s is not on.", name, s.OwnerName, e.NetworkName, w.a.Name)
		if w.a.Kind == diagnose.EndContainer {
			c.mend("linkspan network connect %s %s", e.NetworkName, w.a.Name)
		}
		w.verdict(Blocked, c)
		return nil
	}
	if strings.Contains(strings.Trim(name, "."), ".") {
		w.b.Kind, w.b.Name = diagnose.EndOutside, name
		w.b.How = name + " is a name of the Internet's: it is not asked, the way out is walked"
		return nil
	}
	if is, err := w.endsAway(name); is || err != nil {
		return err
	}
	w.b.Kind = diagnose.EndName
	w.step(place{name: w.a.Name}, Bad, "name "+name, "known to nobody")
	c := because(NoSuchName, "%s knows nobody called %s: no container, no alias on its networks, no line of its %s.", w.a.Name, name, hostsFile)
	var names []string
	for _, k := range w.world.Declared.Containers() {
		names = append(names, k.Name)
	}
	for _, s := range w.world.Declared.Sandboxes() {
		for _, e := range s.Endpoints {
			names = append(names, e.Names...)
		}
	}
	if near := config.Nearest(name, names); near != "" {
		c.sentence = strings.TrimSuffix(c.sentence, ".") + "; did you mean " + near + "?"
	}
	w.verdict(Blocked, c.advise("`linkspan ps -a` lists all containers"))
	return nil
}

type named struct {
	s *cnm.Sandbox
	e *cnm.Endpoint
}

// aliases are whose a name is, on A's networks and on others.
func (w *walk) aliases(name string) (here, elsewhere []named) {
	mine := map[string]bool{}
	links := map[string]string{}
	if w.a.Sandbox != nil {
		for _, e := range w.a.Sandbox.Endpoints {
			mine[e.NetworkID] = true
			for _, l := range e.Links {
				links[l.Alias] = l.Target
			}
		}
	}
	for _, s := range w.world.Declared.Sandboxes() {
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			known := slices.ContainsFunc(append(slices.Clone(e.Names), e.Aliases...), func(n string) bool { return strings.EqualFold(n, name) })
			switch {
			case mine[e.NetworkID] && (known || links[name] != "" && links[name] == s.Owner):
				here = append(here, named{s, e})
			case known:
				elsewhere = append(elsewhere, named{s, e})
			}
		}
	}
	return here, elsewhere
}

// mine says that a name is A's own: its hosts file has it.
func (w *walk) mine(name string) bool { return w.a.Container != nil && w.a.Container.Name == name }

// inHosts looks a name up in A's hosts file (hosts(5)). line counts from 1.
func (w *walk) inHosts(name string) (line int, a netip.Addr, ok bool) {
	if w.a.Container == nil || w.a.Container.PID == 0 {
		return 0, a, false
	}
	b, err := w.procs.ReadFile(w.a.Container.PID, hostsFile)
	if err != nil {
		return 0, a, false // images without one
	}
	for text := range strings.SplitSeq(string(b), "\n") {
		line++
		text, _, _ = strings.Cut(text, "#")
		f := strings.Fields(text)
		if len(f) < 2 || !slices.ContainsFunc(f[1:], func(n string) bool { return strings.EqualFold(n, name) }) {
			continue
		}
		if a, err := netip.ParseAddr(f[0]); err == nil {
			return line, a.Unmap(), true
		}
	}
	return 0, a, false
}

func (w *walk) hasAddr(c diagnose.Container, a netip.Addr) bool {
	s, ok := w.world.Sandbox(c.ID)
	if !ok {
		return true // it does not run: nothing to compare with
	}
	for _, e := range s.Endpoints {
		for _, p := range e.Addrs {
			if p.Addr() == a {
				return true
			}
		}
	}
	return false
}

func (w *walk) wrongHosts(name string, c diagnose.Container, line int, a netip.Addr) *cause {
	file := fmt.Sprintf("/proc/%d/root%s", w.a.Container.PID, hostsFile)
	return because(DNSWrong, "%s's %s says that %s is %s (line %d), and that is not container %s's address.", w.a.Name, hostsFile, name, a, line, c.Name).
		mend(`h=$(sed %dd %s) && printf '%%s\n' "$h" >%s`, line, file, file)
}

// resolverAddr is where our resolver answers inside of sandboxes, and the port that it
// is bound to.
var resolverAddr = netip.AddrFrom4([4]byte{127, 0, 0, 11})

// names looks whether A can find B by the name that was written.
func (w *walk) names(p packet) bool {
	if w.a.Sandbox == nil || w.a.Sandbox.Host || w.a.Container == nil || sameSandbox(w.a.Sandbox, w.b.Sandbox) || w.b.Addr.IsValid() {
		return true
	}
	from := w.placeOf(w.a)
	name, _, _ := strings.Cut(strings.Split(w.b.Text, "/")[0], ":")
	switch {
	case w.b.Kind == diagnose.EndElsewhere:
		if !w.namedThere(name) {
			return true // an id
		}
	case w.b.Kind != diagnose.EndContainer || w.b.Container == nil:
		return true
	case name != w.b.Container.Name && w.b.How == "":
		return true // an id
	}
	if _, a, ok := w.inHosts(name); ok {
		w.good(from, "name "+name, "%s, in its %s", a, hostsFile)
		return true
	}
	if here, _ := w.aliases(name); len(here) == 0 && w.b.Kind != diagnose.EndElsewhere {
		if w.declared == nil {
			w.aside(from, "name "+name, "not known to it; the address is %s", p.dst)
			w.note("", "", "by name %s does not find %s: containers of the default network have no names; use %s, or a network of your own", w.a.Name, name, p.dst)
		}
		return true
	}
	if !w.a.Sandbox.Resolver {
		return true
	}
	b, err := w.procs.ReadFile(w.a.Container.PID, "/etc/resolv.conf")
	if err != nil {
		w.missing(from, "resolv.conf", err)
		return true
	}
	file := fmt.Sprintf("/proc/%d/root/etc/resolv.conf", w.a.Container.PID)
	cure := fmt.Sprintf(`printf 'nameserver %s\noptions ndots:0\n' >%s`, resolverAddr, file)
	switch servers := nameservers(string(b)); {
	case len(servers) == 0:
		return w.fail(from, "resolv.conf", "no nameserver", because(DNSWrong,
			"%s's /etc/resolv.conf names no server, so that it does not find %s.", w.a.Name, name).mend("%s", cure))
	case servers[0] != resolverAddr.String():
		return w.fail(from, "resolv.conf", "asks "+servers[0], because(DNSWrong,
			"%s's /etc/resolv.conf asks %s, which knows nothing of %s; Linkspan's resolver in it is %s.", w.a.Name, servers[0], name, resolverAddr).mend("%s", cure))
	}
	return w.resolver(from, name, p)
}

// resolver looks whether our resolver's socket and redirect are in the sandbox.
func (w *walk) resolver(from place, name string, p packet) bool {
	socks, err := w.live.sockets(from.ns)
	if err != nil {
		w.missing(from, "sockets", err)
		return true
	}
	for _, s := range socks {
		if s.Addr == resolverAddr && s.Proto == "udp" {
			fw, err := w.fire(from.ns)
			if err == nil && !fw.hasTable("ip", redirectTable) {
				return w.fail(from, "resolver", "the redirect of its port 53 is gone", because(DNSWrong,
					"in %s nothing leads port 53 of %s to the resolver: table ip %s is gone, so that names are not found.", w.a.Name, resolverAddr, redirectTable).
					mend("%s", w.redirect(from)))
			}
			if err == nil {
				q := packet{src: localhost(true), dst: resolverAddr, proto: "udp", sport: ephemeral, dport: 53, out: "lo"}
				for _, hook := range []string{"output", "input"} {
					if hook == "input" {
						q.in, q.out, q.dport = "lo", "", s.Port
					}
					t := fw.walk("", hook, q.rules())
					if t.Verdict != ruleset.Drop && t.Verdict != ruleset.Rejected {
						continue
					}
					r := w.ruleOf(from, fw, *orEmpty(t.Rule))
					c := because(DNSWrong, "a firewall inside %s keeps it from the resolver %s: table %s %s, chain %s: %s", from.name, resolverAddr, r.Family, r.Table, r.Chain, r.Text)
					c.rule = r
					return w.fail(from, "resolver", "walled off", c.mend("%s", w.exception(from, hook, packet{dst: resolverAddr, proto: "udp", dport: q.dport}, t, r)))
				}
			}
			w.good(from, "name "+name, "%s, by the resolver %s", p.dst, resolverAddr)
			return true
		}
	}
	return w.fail(from, "resolver", "does not answer at "+resolverAddr.String(), because(DNSWrong,
		"no resolver listens at %s in %s, so that names are not found.", resolverAddr, w.a.Name).mend("linkspan reconcile"))
}

// redirect is the one line that makes a sandbox's redirect again.
func (w *walk) redirect(at place) string {
	create, _ := dataplane.Redirect{NS: at.ns}.Commands()
	_, table, _ := strings.Cut(joined(create), "'TABLE'\n")
	table, _, _ = strings.Cut(table, "\nTABLE")
	var b strings.Builder
	for line := range strings.SplitSeq(table, "\n") {
		line = strings.TrimSpace(line)
		if b.WriteString(line); !strings.HasSuffix(line, "{") && !strings.HasSuffix(line, ";") {
			b.WriteString(";")
		}
		b.WriteString(" ")
	}
	return at.cmd("nft '" + strings.TrimRight(b.String(), "; ") + "'")
}

// nameservers are those of a resolv.conf(5), as they are written.
func nameservers(text string) (all []string) {
	for line := range strings.SplitSeq(text, "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
			all = append(all, f[1])
		}
	}
	return all
}
