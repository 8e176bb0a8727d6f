package why

import (
	"fmt"
	"slices"
	"strings"

	"linkspan/diagnose"
)

// alive looks whether both run. Of those that do not, it is said what their definition
// promises.
func (w *walk) alive() bool {
	for _, e := range []*diagnose.End{w.a, w.b} {
		c := e.Container
		if c == nil {
			continue
		}
		at := place{name: c.Name}
		switch c.State {
		case "running":
			w.good(at, "container", "running%s", health(c.Health))
			if c.Health == "starting" && e == w.b {
				w.note(Unhealthy, "", "%s has not passed its health check yet", c.Name)
			}
			if c.Health == "unhealthy" && e == w.b {
				w.note(Unhealthy, "linkspan inspect -f '{{json .State.Health}}' "+c.Name, "%s is unhealthy: its health check fails", c.Name)
			}
		case "paused":
			// The kernel answers ping for a frozen container; a frozen one asks nothing.
			if e == w.b && w.b.Port == 0 && w.b.Proto == "" {
				w.aside(at, "container", "paused")
				w.note(Paused, "linkspan unpause "+c.Name, "%s is paused: the kernel answers ping, and no program of it answers", c.Name)
				continue
			}
			return w.fail(at, "container", "paused", because(Paused, "%s is paused: its programs are frozen and answer nothing.", c.Name).
				mend("linkspan unpause %s", c.Name))
		default:
			w.promises()
			return w.fail(at, "container", stateOf(c), w.notRunning(e))
		}
		if e.Sandbox == nil {
			return w.fail(at, "sandbox", "it has none", because(NamespaceMissing, "%s runs, and Linkspan has no network for it.", c.Name).mend("linkspan restart %s", c.Name))
		}
	}
	return true
}

func health(s string) string {
	if s == "" {
		return ""
	}
	return ", " + s
}

func stateOf(c *diagnose.Container) string {
	if c.State == "exited" {
		return fmt.Sprintf("exited with code %d", c.ExitCode)
	}
	return c.State
}

func (w *walk) notRunning(e *diagnose.End) *cause {
	c := e.Container
	if taken := w.taken(c, w.b.Port); taken != nil {
		return taken
	}
	return stopped(c)
}

// killed and asked are how a container ends that was stopped: by SIGKILL and SIGTERM.
const (
	killed = 137
	asked  = 143
)

// stopped is said of a container that does not run.
func stopped(c *diagnose.Container) *cause {
	out := because(NotRunning, "%s does not run (%s).", c.Name, stateOf(c))
	if c.State == "restarting" || c.ExitCode != 0 && c.ExitCode != killed && c.ExitCode != asked {
		return out.advise("its program ends by itself: `linkspan logs %[1]s` says why; then `linkspan start %[1]s`", c.Name)
	}
	return out.mend("linkspan start %s", c.Name)
}

// taken looks whether a stopped container's host port is held by somebody else.
func (w *walk) taken(c *diagnose.Container, port uint16) *cause {
	socks, err := w.live.sockets("")
	if err != nil {
		return nil
	}
	for _, p := range c.Published {
		if p.HostPort == 0 || port != 0 && !(port >= p.Port && int(port) < int(p.Port)+p.Count() || port >= p.HostPort && port <= p.HostPortEnd) {
			continue
		}
		for _, s := range socks {
			if s.Proto != p.Proto || s.Port < p.HostPort || s.Port > p.HostPortEnd {
				continue
			}
			if p.HostIP.IsValid() && !p.HostIP.IsUnspecified() && !s.Addr.IsUnspecified() && s.Addr != p.HostIP {
				continue
			}
			by, cure := "a process of the host", ""
			if hs, err := w.procs.Holders(s.Inode, 0); err == nil && len(hs) > 0 {
				by, cure = hs[0].String()+" of the host", fmt.Sprintf("kill %d && linkspan start %s", hs[0].PID, c.Name)
			}
			w.step(place{name: "host"}, Bad, fmt.Sprintf("port %d/%s", s.Port, s.Proto), "held by %s", by)
			return because(PortTaken, "%s does not run (%s), and its host port %d/%s is held by %s.", c.Name, stateOf(c), s.Port, s.Proto, by).
				mend("%s", cure).advise("end the process, or publish another port; then `linkspan start %s`", c.Name)
		}
	}
	return nil
}

// promises says what the definitions of the two let expect, once both run.
func (w *walk) promises() {
	a, b := w.a.Container, w.b.Container
	if a == nil || b == nil {
		for _, c := range []*diagnose.Container{a, b} {
			if c != nil {
				w.aside(place{name: c.Name}, "definition", "on %s%s", orNone(c.Networks), publishes(c))
			}
		}
		return
	}
	var both []string
	for _, n := range a.Networks {
		if slices.Contains(b.Networks, n) && n != "none" {
			both = append(both, n)
		}
	}
	if len(both) == 0 {
		w.aside(place{name: a.Name}, "definition", "no network in common: %s is on %s, %s on %s", a.Name, orNone(a.Networks), b.Name, orNone(b.Networks))
		w.note(NoSharedNetwork, "", "once it runs, they are still on no network in common: %s is on %s, %s on %s", a.Name, orNone(a.Networks), b.Name, orNone(b.Networks))
		return
	}
	w.aside(place{name: a.Name}, "definition", "both are on %s", strings.Join(both, ", "))
}

func publishes(c *diagnose.Container) string {
	var all []string
	for _, p := range c.Published {
		host := fmt.Sprint(p.HostPort)
		if p.HostPort == 0 {
			host = "any"
		}
		if p.HostIP.IsValid() && !p.HostIP.IsUnspecified() {
			host = p.HostIP.String() + ":" + host
		}
		all = append(all, fmt.Sprintf("%s to %d/%s", host, p.Port, p.Proto))
	}
	if len(all) == 0 {
		return ", publishes nothing"
	}
	return ", publishes " + strings.Join(all, ", ")
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
