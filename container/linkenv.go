package container

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	apicontainer "github.com/moby/moby/api/types/container"
	apinetwork "github.com/moby/moby/api/types/network"

	"linkspan/cnm"
)

// linkEnv is what a link on the default bridge puts into the environment, as
// Docker has done since 0.6.5: the target's address and exposed ports, its name
// seen from the linking container, and its own variables.
func linkEnv(parent string, l Link, addr netip.Addr, t *apicontainer.Config) []string {
	alias := strings.ReplaceAll(strings.ToUpper(l.Alias), "-", "_")
	var env []string
	set := func(name, format string, args ...any) {
		env = append(env, alias+name+"="+fmt.Sprintf(format, args...))
	}
	ports := slices.SortedFunc(func(yield func(apinetwork.Port) bool) {
		for p := range t.ExposedPorts {
			if !yield(p) {
				return
			}
		}
	}, func(a, b apinetwork.Port) int { return cmp.Or(tcpFirst(a)-tcpFirst(b), cmp.Compare(a.Num(), b.Num())) })
	url := func(p apinetwork.Port) string { return fmt.Sprintf("%s://%s:%d", p.Proto(), addr, p.Num()) }
	if len(ports) > 0 {
		first := slices.MinFunc(ports, func(a, b apinetwork.Port) int {
			return cmp.Or(cmp.Compare(a.Num(), b.Num()), tcpFirst(a)-tcpFirst(b))
		})
		set("_PORT", "%s", url(first))
	}
	prefix := func(p apinetwork.Port) string {
		return fmt.Sprintf("_PORT_%d_%s", p.Num(), strings.ToUpper(string(p.Proto())))
	}
	for i := 0; i < len(ports); {
		p, end := ports[i], i
		for end+1 < len(ports) && ports[end+1].Proto() == p.Proto() && ports[end+1].Num() == ports[end].Num()+1 {
			end++
		}
		if end > i { // ports in a row are told as a range too
			q := ports[end]
			set(prefix(p)+"_START", "%s", url(p))
			set(prefix(p)+"_ADDR", "%s", addr)
			set(prefix(p)+"_PROTO", "%s", p.Proto())
			set(prefix(p)+"_PORT_START", "%d", p.Num())
			set(prefix(p)+"_END", "%s", url(q))
			set(prefix(p)+"_PORT_END", "%d", q.Num())
		}
		i = end + 1
	}
	for _, p := range ports {
		set(prefix(p), "%s", url(p))
		set(prefix(p)+"_ADDR", "%s", addr)
		set(prefix(p)+"_PORT", "%d", p.Num())
		set(prefix(p)+"_PROTO", "%s", p.Proto())
	}
	set("_NAME", "/%s/%s", parent, l.Alias)
	for _, v := range t.Env {
		name, value, ok := strings.Cut(v, "=")
		if ok && name != "HOME" && name != "PATH" {
			set("_ENV_"+name, "%s", value)
		}
	}
	return env
}

func tcpFirst(p apinetwork.Port) int {
	if p.Proto() == apinetwork.TCP {
		return 0
	}
	return 1
}

// linkedEnv is the environment that a container's links on the default bridge
// make. For a start their targets must run: their addresses are part of it.
func (e *Engine) linkedEnv(c *Container) (env []string, err error) {
	if c.Networks[defaultNetwork] == nil {
		return nil, nil
	}
	for _, l := range c.Links {
		t, err := e.Get(l.Target)
		if err != nil {
			continue // removed, and the link with it
		}
		if t.Networks[defaultNetwork] == nil {
			return nil, notLinkable(t)
		}
		var addr netip.Addr
		for _, a := range e.bridgeAddrs(t) {
			if !addr.IsValid() || a.Is4() && !addr.Is4() {
				addr = a
			}
		}
		if !t.State.Phase.running() || !addr.IsValid() {
			if c.State.Phase.running() {
				continue // an exec does without
			}
			return nil, cnm.Conflict("Cannot link to a non running container: /%s AS /%s/%s; start it first", t.Name, c.Name, l.Alias)
		}
		env = append(env, linkEnv(c.Name, l, addr, t.Config)...)
	}
	return env, nil
}
