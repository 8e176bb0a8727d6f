package why

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"linkspan/dataplane/reading"
	"linkspan/diagnose"
)

// arrived looks whether the packet came to B, and whether a program takes it there.
func (w *walk) arrived(end arrival) bool {
	w.reached = end.p
	switch {
	case end.outside && (w.b.Kind == diagnose.EndOutside || w.elsewhere(end.p.dst) != nil):
		return true
	case !end.outside && w.b.Kind == diagnose.EndOutside && w.foreign == nil && end.place.ns == w.placeOf(w.a).ns:
		return w.fail(end.place, "way", "it ends at "+w.stack(end.place), because(WrongRoute, "%s takes %s for its own.", w.stack(end.place), end.p.dst).
			advise("look at %s", end.place.cmd("ip route get "+end.p.dst.String())))
	case end.outside:
		s, _ := w.world.Holder(end.p.dst)
		if s == nil && !isHost(w.b) && w.b.Kind == diagnose.EndContainer || isHost(w.b) && w.b.Kind != diagnose.EndHost {
			return w.fail(end.place, "way", "it leaves by "+end.link, because(WrongRoute, "what goes to %s leaves %s by %s, where %s is not.", end.p.dst, w.stack(end.place), end.link, w.b.Name).
				advise("look at %s", end.place.cmd("ip route get "+end.p.dst.String())))
		}
		w.aside(end.place, "way", "it leaves by %s", end.link)
		return true
	}
	if end.p.proto == "icmp" {
		return w.pinged(end)
	}
	return w.listens(end.place, end.p, end.link)
}

// pinged looks whether B answers ping.
func (w *walk) pinged(end arrival) bool {
	name := "net/ipv4/icmp_echo_ignore_all"
	if end.p.dst.Is6() {
		name = "net/ipv6/icmp/echo_ignore_all"
	}
	if w.number(end.place, name) == 1 {
		w.note(SysctlChanged, end.place.cmd("sysctl -w "+sysctlName(name)+"=0"), "%s does not answer ping (%s=1); ask with a port: linkspan why %s %s:PORT", w.stack(end.place), sysctlName(name), w.a.Name, w.b.Text)
	}
	return true
}

// listens looks whether a program takes the packet.
func (w *walk) listens(at place, p packet, link string) bool {
	all, err := w.live.sockets(at.ns)
	look := "who listens on " + portOf(p.dport, p.proto)
	if err != nil {
		w.missing(at, look, err)
		return true
	}
	if c := w.frozen(at); c != nil {
		return w.fail(at, "container", "paused", c)
	}
	var same []reading.Socket
	for _, s := range all {
		if s.Proto != p.proto || s.Port != p.dport {
			continue
		}
		if takes(s, p, link) {
			return w.accepts(at, p, s, look)
		}
		same = append(same, s)
	}
	if at.host() && w.blind {
		w.step(at, Open, look, "nobody on the host; what its rules do with it is not known")
		return true
	}
	if at.host() {
		if c := w.hostPort(p); c != nil {
			return w.fail(at, look, "nobody", c)
		}
		if c := w.absent(p); c != nil {
			return w.fail(at, look, "nobody", c)
		}
	}
	found, c := w.nobody(at, p, same, all)
	return w.fail(at, look, found, c)
}

// takes says whether a socket takes a packet (ip(7), ipv6(7)).
func takes(s reading.Socket, p packet, link string) bool {
	if s.Link != "" && s.Link != link {
		return false
	}
	switch {
	case !s.Addr.IsUnspecified():
		return s.Addr.Unmap().WithZone("") == p.dst
	case s.Addr.Is4():
		return p.dst.Is4()
	}
	return p.dst.Is6() || !s.V6Only
}

// accepts looks whether who listens still takes connections.
func (w *walk) accepts(at place, p packet, s reading.Socket, look string) bool {
	who, name := "", ""
	var hs []Process
	var err error
	if pid := w.pidIn(at); pid != 0 { // of the host there are too many
		hs, err = w.procs.Holders(s.Inode, pid)
	}
	if err == nil && len(hs) > 0 {
		name = hs[0].String()
		who = ", " + name
		if !slices.ContainsFunc(hs, func(h Process) bool { return !h.Stopped }) {
			return w.fail(at, look, name+", stopped", because(NotAccepting, "%s listens on port %s %s and is stopped (by a signal or a debugger): it takes no connection.", name, portOf(p.dport, p.proto), within(at)).
				mend("kill -CONT %d", hs[0].PID))
		}
	}
	if s.Proto == "tcp" && s.Backlog > 0 && s.Queue > s.Backlog {
		if name == "" {
			name = "the program"
		}
		return w.fail(at, look, fmt.Sprintf("%d connections wait", s.Queue), because(NotAccepting,
			"%s listens on port %s %s and takes no connections: %d wait, and only %d may.", name, portOf(p.dport, p.proto), within(at), s.Queue, s.Backlog).
			advise("the program hangs or is overloaded: look at its logs, or restart it"))
	}
	if at.host() {
		if c := w.absent(p); c != nil && c.code == PortTaken {
			return w.fail(at, look, "somebody else", c)
		}
		if again, ok := w.keeper(p); again {
			return ok
		}
	}
	w.good(at, look, "%s%s", listensOn(s), who)
	return true
}

// pidIn is a process of a sandbox; 0 of the host, and where none is known.
func (w *walk) pidIn(at place) int {
	if at.sandbox == nil {
		return 0
	}
	for _, id := range at.sandbox.Members {
		if c, err := w.world.Container(id); err == nil && c.PID != 0 {
			return c.PID
		}
	}
	return 0
}

// within is a stack as where something is.
func within(at place) string {
	if at.host() {
		return "on the host"
	}
	return "in " + at.name
}

func listensOn(s reading.Socket) string {
	a := s.Addr.String()
	if s.Addr.IsUnspecified() {
		a = "every address"
	}
	return a
}

// nobody says why nobody takes the packet: same are the sockets of the port.
func (w *walk) nobody(at place, p packet, same, all []reading.Socket) (found string, c *cause) {
	b := w.stack(at)
	port := portOf(p.dport, p.proto)
	if len(same) > 0 {
		s := same[0]
		switch {
		case s.Addr.IsLoopback():
			return s.Addr.String() + " only", because(ListensLoopback, "%s listens on %s only on %s: nobody but %s itself reaches it there.", b, port, s.Addr, b).
				advise("let the program listen on 0.0.0.0 (or %s); that is a setting of its own, such as bind or listen", p.dst)
		case s.Link != "":
			return "on " + s.Link + " only", because(ListensElsewhere, "%s listens on %s only for what comes in by %s.", b, port, s.Link).
				advise("let the program not bind to a device, or ask by the network of %s", s.Link)
		case s.Addr.IsUnspecified():
			fam := map[bool]string{true: "IPv4", false: "IPv6"}[s.Addr.Is4()]
			return fam + " only", because(ListensElsewhere, "%s listens on %s by %s only, and %s is asked.", b, port, fam, p.dst).
				advise("let the program listen on both families, or ask by %s", fam)
		}
		return s.Addr.String() + " only", because(ListensElsewhere, "%s listens on %s only on %s, not on %s.", b, port, s.Addr, p.dst).
			advise("let the program listen on every address, or ask %s", s.Addr)
	}
	ports := open(all, at)
	for _, o := range ports {
		if number, proto, _ := strings.Cut(o, "/"); number == strconv.Itoa(int(p.dport)) {
			return "nobody, but on " + o, because(ListensElsewhere, "nobody listens on %s %s; on %s somebody does.", port, within(at), o).
				advise("ask %s:%s/%s", w.b.Name, number, proto)
		}
	}
	if len(ports) == 0 {
		return "nobody", because(NotListening, "nobody listens on %s %s, nor on any other port.", port, within(at)).
			advise("look whether the program runs, and what it says%s", logsOf(at))
	}
	code := NotListening
	if near(p.dport, ports) {
		code = ListensElsewhere
	}
	return "nobody", because(code, "nobody listens on %s %s; open are %s.", port, within(at), strings.Join(ports, ", ")).
		advise("ask that port, or let the program listen on %d", p.dport)
}

// logsOf is the command that shows what a container's program says.
func logsOf(at place) string {
	if at.host() {
		return ""
	}
	return ": linkspan logs " + at.name
}

// open are the ports that others can reach, "80/tcp".
func open(all []reading.Socket, at place) (ports []string) {
	for _, s := range all {
		one := portOf(s.Port, s.Proto)
		if s.Addr.IsLoopback() || slices.Contains(ports, one) || s.Port == 0 {
			continue
		}
		ports = append(ports, one)
	}
	slices.SortFunc(ports, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	if len(ports) > 12 {
		ports = append(ports[:12], "…")
	}
	return ports
}

// near says that one of the ports is what was meant: the only one, or spelt alike.
func near(port uint16, ports []string) bool {
	want := strconv.Itoa(int(port))
	for _, o := range ports {
		n, _, _ := strings.Cut(o, "/")
		if strings.Contains(n, want) || strings.Contains(want, n) {
			return true
		}
		if v, err := strconv.Atoi(n); err == nil && v-int(port) < 10 && int(port)-v < 10 {
			return true
		}
	}
	return len(ports) == 1
}

// hostPort is the cause when nobody on the host takes what should lead to a container.
func (w *walk) hostPort(p packet) *cause {
	if w.declared != nil {
		return w.declared
	}
	if w.foreign != nil {
		return nil
	}
	for _, m := range w.publishedAt(p.proto, p.dport) {
		if !m.on(p.dst) && !(p.dst.IsLoopback() && m.port.HostIP == p.dst) {
			continue
		}
		if c := w.onlyInternal(m); c != nil {
			return c
		}
		return because(OwnPageDamaged, "%s leads to port %d of %s, but the host keeps what comes to %s: Linkspan's table inet %s does not translate it.",
			m, m.leads(p.dport), m.s.OwnerName, at(p.dst, p.dport, p.proto), w.world.Table).mend("linkspan reconcile")
	}
	return nil
}

// onlyInternal is the cause when who publishes a port is on internal networks only.
func (w *walk) onlyInternal(m mapping) *cause {
	name := ""
	if m.s == nil || m.s.Host {
		return nil
	}
	for _, n := range w.networksOf(m.s) {
		if !n.Internal && n.Driver != "null" {
			return nil
		}
		name = n.Name
	}
	if name == "" {
		return nil
	}
	return because(Internal, "network %s is internal: what %s publishes there is not reached from outside, and it is on no other.", name, m.s.OwnerName).
		mend("linkspan network connect bridge %s", m.s.OwnerName)
}

// absent is the cause when the one who publishes a host's port does not run.
func (w *walk) absent(p packet) *cause {
	for _, c := range w.world.Declared.Containers() {
		running := c.State == "running" || c.State == "paused"
		for _, pub := range c.Published {
			if pub.Proto != p.proto || p.dport < pub.HostPort || p.dport > pub.HostPortEnd || pub.HostPort == 0 || !(mapping{port: pub}).on(p.dst) {
				continue
			}
			if s, ok := w.world.Sandbox(c.ID); running && ok {
				// It runs, and its port is not declared: none of its networks publishes.
				if c := w.onlyInternal(mapping{s, pub}); c != nil {
					return c
				}
			}
			if running {
				continue
			}
			if taken := w.taken(&c, p.dport); taken != nil {
				return taken
			}
			return stopped(&c)
		}
	}
	return nil
}

// frozen is the cause when the container that a packet came to is paused.
func (w *walk) frozen(at place) *cause {
	if at.sandbox == nil {
		return nil
	}
	for _, id := range at.sandbox.Members {
		if c, err := w.world.Container(id); err == nil && c.State == "paused" && id == at.sandbox.Owner {
			return because(Paused, "%s is paused: its programs are frozen and answer nothing.", c.Name).mend("linkspan unpause %s", c.Name)
		}
	}
	return nil
}

// keeper follows what the keeper forwards, where the kernel cannot: ::1, and IPv6 to a
// container that has only IPv4.
func (w *walk) keeper(p packet) (is, ok bool) {
	for _, m := range w.publishedAt(p.proto, p.dport) {
		if !m.on(p.dst) && m.port.HostIP != p.dst {
			continue
		}
		to := firstAddr(m.s)
		if p.dst.Is6() && !p.dst.IsLoopback() && hasFamily(m.s, false) || p.dst.Is4() {
			// The kernel should have translated it.
			if c := w.hostPort(p); c != nil {
				return true, w.fail(hostPlace, "translation", "none", c)
			}
			continue
		}
		w.good(hostPlace, "keeper", "forwards %s to %s", at(p.dst, p.dport, p.proto), at(to, m.leads(p.dport), p.proto))
		on := packet{proto: p.proto, sport: ephemeral, dst: to, dport: m.leads(p.dport)}
		w.known = freshKnown()
		end, walked := w.follow(start{place: hostPlace}, on)
		if !walked {
			return true, false
		}
		w.reached = end.p
		return true, w.listens(end.place, end.p, end.link)
	}
	return false, true
}
